"""Losses. Each returns ``(loss, gradient)``: a Python float, and the gradient in the shape and type of its input.

The loss is the weighted mean Σ w · l / Σ w over the elements that count. An element whose weight is 0, that is past
the length of its row, or whose target is ``ignore_index`` does not count: it is not read, whatever it holds, and its
gradient is zero. If no element counts, the loss and the gradient are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._sequence import Array, check_lengths
from .activations import log_softmax, sigmoid


def _element_weights(shape: tuple[int, ...], dtype: Any, weight: Any, lengths: Any) -> Array:
    """w in the shape of the targets, 0 for what doesn't count; ``lengths`` [B] applies to axes 0 (T) and 1 (B)."""
    w = np.ones(shape, dtype)
    if weight is not None:
        w *= np.asarray(weight, dtype)
    if lengths is not None:
        if len(shape) < 2:
            raise ValueError(f"lengths: expected targets [T, B, ...], got shape {shape}")
        T, B = shape[:2]
        w[np.arange(T)[:, None] >= check_lengths(lengths, T, B)] = 0
    return w


def _weighted_mean(element: Array, delement: Array, w: Array) -> tuple[float, Array]:
    """Σ w · element / Σ w, and its gradient; ``delement`` may have one more axis than ``w``."""
    total = w.sum()
    share = w / total if total != 0 else np.zeros_like(w)
    if delement.ndim > w.ndim:
        return float((share * element).sum()), share[..., None] * delement
    return float((share * element).sum()), share * delement


def cross_entropy(
    logits: Array,
    targets: Any,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    weight: Any = None,
    lengths: Any = None,
) -> tuple[float, Array]:
    """Cross entropy between a softmax and class indices: l = −log softmax(logits)[target].

    Parameters
    ----------
    logits : [..., C]
    targets : integers [...], each in 0 … C − 1
    ignore_index : int, optional
        Targets of this value don't count.
    label_smoothing : float in [0, 1]
        ε of Szegedy et al. 2016: the target distribution is 1 − ε at the target plus ε / C everywhere.
    weight : broadcastable to the shape of ``targets``, optional
        A weight for each target (not for each class).
    lengths : integers [B], optional
        For ``targets`` of [T, B, ...]: steps past the length of a row don't count.

    Returns
    -------
    loss : float
    dlogits : [..., C]

    Examples
    --------
    >>> loss, dlogits = cross_entropy(np.zeros((2, 4)), [3, -100], ignore_index=-100)
    >>> round(loss, 6), dlogits[0].tolist(), bool(dlogits[1].any())
    (1.386294, [0.25, 0.25, 0.25, -0.75], False)
    """
    targets = np.asarray(targets)
    C = logits.shape[-1]
    if targets.size and not np.issubdtype(targets.dtype, np.integer):
        raise TypeError(f"targets: expected integers, got {targets.dtype}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets: expected shape {logits.shape[:-1]}, got {targets.shape}")
    w = _element_weights(targets.shape, logits.dtype, weight, lengths)
    if ignore_index is not None:
        w[targets == ignore_index] = 0
    counts = w != 0
    targets = np.where(counts, targets, 0)
    if targets.size and (targets.min() < 0 or targets.max() >= C):
        raise ValueError(f"targets: expected 0 to {C - 1}, got {targets.min()} to {targets.max()}")

    log_p = log_softmax(np.where(counts[..., None], logits, 0).astype(logits.dtype))
    one_hot = np.arange(C) == targets[..., None]
    loss = -np.where(one_hot, log_p, 0).sum(axis=-1)
    q = one_hot.astype(logits.dtype)  # the distribution that the softmax should have
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=-1)
        q = (1 - label_smoothing) * q + label_smoothing / C
    return _weighted_mean(loss, np.exp(log_p) - q, w)


def _counted_pair(pred: Array, target: Any, weight: Any, lengths: Any) -> tuple[Array, Array, Array]:
    """pred and target with zeros in place of what doesn't count, and the weights."""
    target = np.asarray(target, pred.dtype)
    if target.shape != pred.shape:
        raise ValueError(f"target: expected shape {pred.shape}, got {target.shape}")
    w = _element_weights(target.shape, pred.dtype, weight, lengths)
    zero = np.zeros((), pred.dtype)
    return np.where(w != 0, pred, zero), np.where(w != 0, target, zero), w


def mse(pred: Array, target: Any, *, weight: Any = None, lengths: Any = None) -> tuple[float, Array]:
    """Mean squared error: l = (pred − target)².

    Parameters
    ----------
    pred, target : any one shape; [T, B, ...] with ``lengths``
    weight : broadcastable to the shape of ``target``, optional
    lengths : integers [B], optional

    Returns
    -------
    loss : float
    dpred : as ``pred``

    Examples
    --------
    >>> loss, dpred = mse(np.array([1.0, 2.0]), [0.0, 0.0])
    >>> loss, dpred.tolist()
    (2.5, [1.0, 2.0])
    """
    pred, target, w = _counted_pair(pred, target, weight, lengths)
    return _weighted_mean((pred - target) ** 2, 2 * (pred - target), w)


def bce_with_logits(logits: Array, target: Any, *, weight: Any = None, lengths: Any = None) -> tuple[float, Array]:
    """Binary cross entropy: l = −t log σ(x) − (1 − t) log(1 − σ(x)), for targets t between 0 and 1.

    It is computed as max(x, 0) − x t + log(1 + e^−|x|), which is the same and neither overflows nor takes log 0.

    Parameters
    ----------
    logits, target : any one shape; [T, B, ...] with ``lengths``
    weight : broadcastable to the shape of ``target``, optional
    lengths : integers [B], optional

    Returns
    -------
    loss : float
    dlogits : as ``logits``

    Examples
    --------
    >>> loss, dlogits = bce_with_logits(np.array([1e4, -1e4]), [1.0, 1.0])
    >>> loss, dlogits.tolist()
    (5000.0, [0.0, -0.5])
    """
    x, t, w = _counted_pair(logits, target, weight, lengths)
    return _weighted_mean(np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))), sigmoid(x) - t, w)
