"""Losses: each returns `(loss, gradient at its first argument)`, a mean over targets.

Common to all:

- `weight`: numbers ≥ 0 that broadcast to the targets' shape by NumPy's rules; the loss is then the weighted
  mean, `Σ w·loss / Σ w`. For one weight a row of targets [T, B] that is shape [B].
- `lengths`: integers [B]; targets [T, B, ...] at or after a row's length don't count. They are not read, and
  neither are the predictions there, so both may hold anything. The gradient there is zero. With
  `batch_first=True` targets are [B, T, ...].
- Arrays without axes are one target: `mse(1.0, 2.0)`; the gradient then is an array without axes, too.
- When nothing counts (all ignored, all weights zero, or an empty batch), loss and gradient are 0.

A mean over a part of a batch is not a part of the batch's mean, unless one knows what it was divided by. So each loss
says so to whoever listens, with `divided_by`; a loss of one's own that divides by anything but the number of rows (or,
where targets run along time, of steps) says it, too, to be trained by several processes.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._time import time_mask
from fastrnn.nn._variable import Variable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Loss = TypeVar("Loss", bound=Callable[..., Any])

_listening: list[None] = []  # one for each that listens, in any thread; without any, `divided_by` costs nothing
_local = threading.local()


def divided_by(total: float) -> None:
    """Say by what a loss divides its sum: the number of its targets, or their weights' sum.

    `fr.fit(..., comm=)` weighs the means of its processes by it, so that theirs is the mean over the whole batch. The
    losses here call it themselves.

    Parameters
    ----------
    total : float
        ≥ 0; the number before any guard against a division by zero.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> def loss(outputs, target):  # a mean over the targets that aren't negative
    ...     there = target >= 0
    ...     fr.losses.divided_by(there.sum())
    ...     difference = np.where(there, outputs - target, 0)
    ...     count = max(there.sum(), 1)
    ...     return float((difference**2).sum() / count), 2 * difference / count
    """
    if _listening and (found := getattr(_local, "found", None)) is not None:
        found.append(float(total))


@contextlib.contextmanager
def divisions() -> Iterator[list[float]]:
    """Collect what `divided_by` is told in this thread.

    Examples
    --------
    >>> from fastrnn.nn import losses
    >>> with losses.divisions() as found:
    ...     _ = losses.cross_entropy([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1, 0, -1], ignore_index=-1)
    >>> found
    [2.0]
    """
    before, _local.found = getattr(_local, "found", None), []
    _listening.append(None)
    try:
        yield _local.found
    finally:
        _listening.pop()
        _local.found = before


def _recorded(loss: Loss) -> Loss:
    """Let a loss take Variables: it then returns a Variable, and its pullback goes on the tape."""

    @functools.wraps(loss)
    def run(prediction: Any, target: Any, **options: Any) -> Any:
        first, second = type(prediction) is Variable, type(target) is Variable
        if not first and not second:
            return loss(prediction, target, **options)
        tape = prediction._tape if first else target._tape
        value, gradient = loss(prediction.value if first else prediction, target.value if second else target, **options)

        def pull(g: Any) -> tuple[Any, Any]:
            dy = gradient if g == 1 else gradient * gradient.dtype.type(g)
            return dy, -dy if second else None

        return tape.add(np.asarray(value), pull, (prediction, target)), gradient

    return run  # type: ignore[return-value]


@_recorded
def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    weight: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Cross entropy of softmax(logits) against class indices, in nats.

    Each target's loss is `(1 − ε)·(−log p[target]) + ε·mean(−log p)` with ε = `label_smoothing`. It is
    computed from the logits, through their maximum, so huge ones neither overflow nor lose accuracy.

    Parameters
    ----------
    logits : array, [..., C]
        float32 or float64.
    targets : array of integers, [...]
        Classes from 0 to C − 1.
    ignore_index : int, optional
        Targets of this value don't count; it may lie outside the classes, as −100 does.
    label_smoothing : float
        0 ≤ ε < 1.
    weight, lengths, batch_first
        See the module.
    out : array, [..., C], optional
        Where the gradient goes. It may be `logits`, whose values are lost then: with many classes that saves
        memory, and the time to fill it.

    Returns
    -------
    loss : float
    dlogits : array, [..., C]
        `out`, if that was given.

    Raises
    ------
    ValueError
        A target that counts is no class (the message has its value), or shapes don't fit.

    References
    ----------
    Szegedy et al.: Rethinking the Inception Architecture, 2016, section 7, for label smoothing.

    Examples
    --------
    >>> from fastrnn.nn import losses
    >>> loss, dlogits = losses.cross_entropy([[0.0, 0.0], [1e4, 0.0]], [1, 0])
    >>> round(loss, 4)
    0.3466
    >>> dlogits
    array([[ 0.25, -0.25],
           [ 0.  ,  0.  ]], dtype=float32)
    """
    logits = np.ascontiguousarray(_check.at_least_1d(logits, None, "logits"))
    targets = _check.integers(targets, "targets")
    _check.same_shape(targets, logits.shape[:-1], "targets", "logits without its last axis")
    smoothing = _check.fraction(label_smoothing, "label_smoothing")
    keep = None
    if ignore_index is not None:
        keep = targets != _check.integer(ignore_index, "ignore_index")
    factor = _factors(targets.shape, logits.dtype, keep, weight, lengths, batch_first)
    classes, flat = logits.shape[-1], targets.reshape(-1)
    dlogits = _core.empty(logits.shape, logits.dtype) if out is None else _check.in_place(out, logits, "out", "logits")
    rows = (flat.size, classes)
    try:
        loss = _core.cross_entropy(logits.reshape(rows), flat, factor, smoothing, dlogits.reshape(rows))
    except ValueError:  # the kernel looks at every target before it writes; here are the words
        _check.in_range(flat[factor != 0], classes, "C", "targets")
        raise
    return loss, dlogits


@_recorded
def mse(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
) -> tuple[float, NDArray[Any]]:
    """Mean squared error, `mean((prediction − target)²)` over all values.

    Parameters
    ----------
    prediction, target : array, [...]
        Of one shape and one dtype, float32 or float64.
    weight, lengths, batch_first
        See the module.

    Returns
    -------
    loss : float
    dprediction : array, [...]

    Examples
    --------
    >>> from fastrnn.nn import losses
    >>> losses.mse([1.0, 2.0], [1.0, 4.0])
    (2.0, array([ 0., -2.], dtype=float32))
    """
    prediction = _check.floats(prediction, None, "prediction")
    target = _check.floats(target, prediction.dtype, "target")
    _check.same_shape(target, prediction.shape, "target", "prediction")
    if weight is None and lengths is None:
        # `prediction - target` of two arrays without axes would be a scalar.
        difference = np.subtract(prediction, target, out=_core.empty(prediction.shape, prediction.dtype))
        count = max(difference.size, 1)
        divided_by(difference.size)
        loss = np.square(difference, dtype=np.float64).sum() / count
        return float(loss), np.multiply(difference, 2 / count, out=difference)
    factor = _factors(prediction.shape, prediction.dtype, None, weight, lengths, batch_first)
    factor = factor.reshape(prediction.shape)
    difference = np.zeros(prediction.shape, prediction.dtype)
    np.subtract(prediction, target, out=difference, where=factor != 0)
    loss = (factor * np.square(difference, dtype=np.float64)).sum()
    difference *= 2 * factor
    return float(loss), difference


@_recorded
def bce_with_logits(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
) -> tuple[float, NDArray[Any]]:
    """Binary cross entropy of sigmoid(logits), in nats.

    Each value's loss is `max(z, 0) − z·target + log(1 + exp(−|z|))`, which is stable for any logit z.

    Parameters
    ----------
    logits : array, [...]
        float32 or float64.
    targets : array, [...]
        Numbers from 0 to 1 of the dtype of logits; or integers or bool.
    weight, lengths, batch_first
        See the module.

    Returns
    -------
    loss : float
    dlogits : array, [...]

    Examples
    --------
    >>> from fastrnn.nn import losses
    >>> loss, dlogits = losses.bce_with_logits([0.0, 1e4], [1, 1])
    >>> round(loss, 4), dlogits
    (0.3466, array([-0.25,  0.  ], dtype=float32))
    """
    logits = _check.floats(logits, None, "logits")
    if isinstance(targets, np.ndarray) and targets.dtype.kind in "iub":
        targets = targets.astype(logits.dtype)
    targets = _check.floats(targets, logits.dtype, "targets")
    _check.same_shape(targets, logits.shape, "targets", "logits")
    factor = _factors(logits.shape, logits.dtype, None, weight, lengths, batch_first)
    flat = targets.ravel()
    _check.probabilities(flat if weight is None and lengths is None else flat[factor != 0], "targets")
    dlogits = _core.empty(logits.shape, logits.dtype)
    loss = _core.bce_with_logits(logits.ravel(), flat, factor, dlogits.reshape(-1))
    return loss, dlogits


def _factors(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    keep: NDArray[np.bool_] | None,
    weight: ArrayLike | None,
    lengths: ArrayLike | None,
    batch_first: bool,
) -> NDArray[Any]:
    """Each target's share of the mean, flat: `w / Σ w`, and 0 for one that doesn't count."""
    if keep is None and weight is None and lengths is None:
        count = math.prod(shape)
        divided_by(count)
        return np.full(count, 1 / max(count, 1), dtype)
    share = np.ones(shape) if weight is None else _check.weights(weight, shape).copy()
    if keep is not None:
        share *= keep
    if lengths is not None:
        _check.time_axes(shape, batch_first)
        share *= time_mask(lengths, shape, batch_first)
    total = share.sum()
    divided_by(total)
    if total > 0:
        share /= total
    return share.reshape(-1).astype(dtype, copy=False)
