"""Attention: dot products of many heads, additive scores, and the dropout of weights.

Arrays are time-major: queries [T, B, ·], source states [S, B, ·]; ``lengths`` [B] are those of the source. A query that
may look at nothing has weights and output 0. ``f_vjp`` returns ``(outputs, pullback)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._sequence import Array, Layout, check_lengths


def _softmax(z: Array, allowed: Array) -> Array:
    """Softmax over the last axis, of what is allowed; zeros where nothing is."""
    z = np.where(allowed, z, -np.inf)
    largest = z.max(axis=-1, keepdims=True)
    e = np.exp(z - np.where(np.isneginf(largest), 0, largest))
    total = e.sum(axis=-1, keepdims=True)
    weights: Array = (e / np.where(total == 0, 1, total)).astype(z.dtype)
    return weights


def _softmax_backward(weights: Array, dweights: Array) -> Array:
    dz: Array = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
    return dz


def _split(a: Array, heads: int) -> Array:
    """[T, B, N·D] → [B, N, T, D]."""
    return a.reshape(*a.shape[:2], heads, -1).transpose(1, 2, 0, 3)


def _join(a: Array) -> Array:
    """[B, N, T, D] → [T, B, N·D]."""
    B, N, T, D = a.shape
    joined: Array = a.transpose(2, 0, 1, 3).reshape(T, B, N * D)
    return joined


def _mix(h: Array) -> Array:
    h = ((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)).astype(np.uint32)
    h = ((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)).astype(np.uint32)
    mixed: Array = h ^ (h >> np.uint32(16))
    return mixed


def dropped_weights(shape: tuple[int, int, int, int], p: float, seed: int) -> Array:
    """Which weights [B, N, T, S] are kept: weight s of row r is element r·2³² + s of the counter-based generator.

    Examples
    --------
    >>> dropped_weights((1, 1, 2, 4), 0.5, 7).shape
    (1, 1, 2, 4)
    """
    B, N, T, S = shape
    rows = np.arange(B * N * T, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (rows + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        low, high = (z & np.uint64(0xFFFFFFFF)).astype(np.uint32), (z >> np.uint64(32)).astype(np.uint32)
        h = _mix(_mix(np.arange(S, dtype=np.uint32) + low[:, None]) ^ high[:, None])
    kept: Array = ((h >> np.uint32(1)) >= int(p * 2**31)).reshape(shape)
    return kept


def attention_vjp(
    q: Array,
    k: Array,
    v: Array,
    *,
    num_heads: int = 1,
    lengths: Any = None,
    causal: bool = False,
    mask: Any = None,
    scale: float | None = None,
    batch_first: bool = False,
    return_weights: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> tuple[Any, Callable[[Array], tuple[Array, Array, Array]]]:
    """Return what `attention` returns and the function ``dy`` → ``(dq, dk, dv)``; ``dropout``: of the weights."""
    layout = Layout.of(q, batch_first)
    q, k, v = (layout.sequence_in(a) for a in (q, k, v))
    T, B, S = len(q), q.shape[1], len(k)
    Q, K, V = (_split(a, num_heads) for a in (q, k, v))
    factor = Q.shape[-1] ** -0.5 if scale is None else scale
    Z = (factor * (Q @ K.swapaxes(-1, -2))).astype(q.dtype)
    allowed = (np.arange(S) < check_lengths(lengths, S, B)[:, None])[:, None, None]
    if causal:
        allowed = allowed & (np.arange(S) <= np.arange(T)[:, None])
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype == np.bool_:
            allowed = allowed & mask
        else:
            Z = Z + mask
    P = _softmax(Z, np.broadcast_to(allowed, Z.shape))
    M = dropped_weights((B, num_heads, T, S), dropout, seed).astype(q.dtype) / q.dtype.type(1 - dropout)
    y = layout.sequence_out(_join((M * P) @ V))

    def pullback(dy: Array) -> tuple[Array, Array, Array]:
        dY = _split(layout.sequence_in(dy), num_heads)
        dZ = _softmax_backward(P, M * (dY @ V.swapaxes(-1, -2)))
        dQ, dK, dV = factor * (dZ @ K), factor * (dZ.swapaxes(-1, -2) @ Q), (M * P).swapaxes(-1, -2) @ dY
        return layout.sequence_out(_join(dQ)), layout.sequence_out(_join(dK)), layout.sequence_out(_join(dV))

    return (y, layout.sequence_out(P.transpose(2, 0, 1, 3))) if return_weights else y, pullback


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    num_heads: int = 1,
    lengths: Any = None,
    causal: bool = False,
    mask: Any = None,
    scale: float | None = None,
    batch_first: bool = False,
    return_weights: bool = False,
) -> Any:
    """Scaled dot-product attention of heads side by side in the last axis (Vaswani et al. 2017).

    Returns
    -------
    y, or with ``return_weights`` ``(y, weights)``, weights [T, B, N, S]

    Examples
    --------
    >>> attention(np.zeros((1, 1, 2)), np.zeros((2, 1, 2)), np.array([[[1.0]], [[3.0]]])).tolist()
    [[[2.0]]]
    """
    options: dict[str, Any] = {"lengths": lengths, "causal": causal, "mask": mask, "scale": scale}
    options |= {"batch_first": batch_first, "return_weights": return_weights}
    return attention_vjp(q, k, v, num_heads=num_heads, **options)[0]


def additive_attention_vjp(
    q: Array, k: Array, v: Array, x: Array, *, lengths: Any = None
) -> tuple[tuple[Array, Array], Callable[[Array], tuple[Array, Array, Array, Array]]]:
    """``(y, weights)`` of `additive_attention`, weights [T, B, S], and the function ``dy`` → ``(dq, dk, dv, dx)``."""
    B, S = q.shape[1], len(k)
    hidden = np.tanh(q[:, :, None] + k.swapaxes(0, 1))  # [T, B, S, A]
    allowed = np.arange(S) < check_lengths(lengths, S, B)[:, None]
    P = _softmax(hidden @ v, np.broadcast_to(allowed, (len(q), B, S)))
    y = np.einsum("tbs,sbe->tbe", P, x)

    def pullback(dy: Array) -> tuple[Array, Array, Array, Array]:
        de = _softmax_backward(P, np.einsum("tbe,sbe->tbs", dy, x))
        dv = np.einsum("tbs,tbsa->a", de, hidden)
        dz = de[..., None] * v * (1 - hidden**2)
        return dz.sum(axis=2), dz.sum(axis=0).swapaxes(0, 1), dv, np.einsum("tbs,tbe->sbe", P, dy)

    return (y, P), pullback


def additive_attention(q: Array, k: Array, v: Array, x: Array, *, lengths: Any = None) -> Array:
    """``softmax(v·tanh(q + k))·x`` (Bahdanau et al. 2015): q [T, B, A], k [S, B, A], v [A], x [S, B, E].

    Examples
    --------
    >>> additive_attention(np.ones((1, 1, 3)), np.ones((2, 1, 3)), np.ones(3), np.array([[[1.0]], [[3.0]]])).tolist()
    [[[2.0]]]
    """
    return additive_attention_vjp(q, k, v, x, lengths=lengths)[0][0]
