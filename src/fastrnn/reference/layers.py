"""Layers without a state: linear, embedding, layer normalisation, dropout.

``f_vjp`` returns ``(y, pullback)``. For a layer with parameters ``pullback(dy)`` returns ``(dx, grads)`` with a
NamedTuple of the parameters' gradients, for dropout ``dx`` alone. All arrays of a call have one floating-point type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array


class LinearGrads(NamedTuple):
    """Gradients of the parameters of `linear`; ``bias`` is None where there was none."""

    weight: Array
    bias: Array | None


class EmbeddingGrads(NamedTuple):
    """Gradient of the parameter of `embedding`."""

    weight: Array


class LayerNormGrads(NamedTuple):
    """Gradients of the parameters of `layer_norm`; None where there was none."""

    weight: Array | None
    bias: Array | None


def _sum_leading(a: Array) -> Array:
    """Sum over all axes but the last."""
    total: Array = a.sum(axis=tuple(range(a.ndim - 1)))
    return total


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y = x Wᵀ + b.

    Parameters
    ----------
    x : [..., I]
    weight : [O, I]
    bias : [O], optional

    Returns
    -------
    y : [..., O]

    Examples
    --------
    >>> linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([0.5])).tolist()
    [11.5]
    """
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_vjp(
    x: Array, weight: Array, bias: Array | None = None, *, input_grad: bool = True
) -> tuple[Array, Callable[[Array], tuple[Array | None, LinearGrads]]]:
    """Return ``linear(x, weight, bias)`` and its pullback ``dy`` → ``(dx, LinearGrads)``."""

    def pullback(dy: Array) -> tuple[Array | None, LinearGrads]:
        O, I = weight.shape
        dW = dy.reshape(-1, O).T @ x.reshape(-1, I)
        db = None if bias is None else _sum_leading(dy)
        return dy @ weight if input_grad else None, LinearGrads(dW, db)

    return linear(x, weight, bias), pullback


def embedding(indices: Any, weight: Array) -> Array:
    """y = weight[indices]: one row of a table for each index.

    Parameters
    ----------
    indices : integers [...], each in 0 … N − 1
    weight : [N, F]

    Returns
    -------
    y : [..., F]

    Examples
    --------
    >>> embedding([2, 0], np.array([[1.0], [2.0], [3.0]])).tolist()
    [[3.0], [1.0]]
    """
    indices = np.asarray(indices)
    N = len(weight)
    if indices.size and not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"indices: expected integers, got {indices.dtype}")
    if indices.size and (indices.min() < 0 or indices.max() >= N):
        raise ValueError(f"indices: expected 0 to {N - 1}, got {indices.min()} to {indices.max()}")
    rows: Array = weight[indices.astype(np.intp)]
    return rows


def embedding_vjp(indices: Any, weight: Array) -> tuple[Array, Callable[[Array], tuple[None, EmbeddingGrads]]]:
    """Return ``embedding(indices, weight)`` and its pullback ``dy`` → ``(None, EmbeddingGrads)``.

    A row that was used several times receives the sum of its gradients.
    """

    def pullback(dy: Array) -> tuple[None, EmbeddingGrads]:
        dweight = np.zeros_like(weight)
        np.add.at(dweight, np.asarray(indices).astype(np.intp), dy)
        return None, EmbeddingGrads(dweight)

    return embedding(indices, weight), pullback


def _normalised(x: Array, eps: float) -> tuple[Array, Array]:
    """x with mean 0 and variance 1 along the last axis, and the factor 1 / σ."""
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return centred * rstd, rstd


def layer_norm(x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5) -> Array:
    """Layer normalisation over the last axis (Ba et al. 2016).

    y = (x − mean) / sqrt(variance + eps) · weight + bias, with the biased variance (divided by F).

    Parameters
    ----------
    x : [..., F]
    weight, bias : [F], optional

    Returns
    -------
    y : [..., F]

    Examples
    --------
    >>> layer_norm(np.array([1.0, 3.0]), eps=0.0).tolist()
    [-1.0, 1.0]
    """
    y, _ = _normalised(x, eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def layer_norm_vjp(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Callable[[Array], tuple[Array, LayerNormGrads]]]:
    """Return ``layer_norm(x, weight, bias)`` and its pullback ``dy`` → ``(dx, LayerNormGrads)``.

    With n the normalised x and dn its gradient, dx = (dn − mean(dn) − n · mean(dn · n)) / σ: the two means are what
    x can't change, because n always has mean 0 and variance 1.
    """

    def pullback(dy: Array) -> tuple[Array, LayerNormGrads]:
        n, rstd = _normalised(x, eps)
        dn = dy if weight is None else dy * weight
        dx = rstd * (dn - dn.mean(axis=-1, keepdims=True) - n * (dn * n).mean(axis=-1, keepdims=True))
        dweight = None if weight is None else _sum_leading(dy * n)
        dbias = None if bias is None else _sum_leading(dy)
        return dx, LayerNormGrads(dweight, dbias)

    return layer_norm(x, weight, bias, eps=eps), pullback


def dropout(x: Array, mask: Array) -> Array:
    """x · mask (Srivastava et al. 2014).

    Parameters
    ----------
    x : any shape
    mask : broadcastable to the shape of ``x``: 0 where an element is dropped, 1 / (1 − p) where it is kept

    Examples
    --------
    >>> dropout(np.ones(3), np.array([0.0, 2.0, 2.0])).tolist()
    [0.0, 2.0, 2.0]
    """
    return x * mask


def dropout_vjp(x: Array, mask: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return ``dropout(x, mask)`` and its pullback ``dy`` → ``dx``."""
    return dropout(x, mask), lambda dy: dy * mask
