"""The time axis and lengths, for layers and losses that look at both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def time_mask(lengths: ArrayLike, shape: tuple[int, ...], batch_first: bool) -> NDArray[np.bool_]:
    """True where a step lies within its row's length.

    Parameters
    ----------
    lengths : array of integers, [B]
    shape : tuple
        `(T, B, ...)`, or `(B, T, ...)` with `batch_first`.

    Returns
    -------
    array of bool, [T, B, 1, ...] (or [B, T, 1, ...]), that broadcasts to `shape`.
    """
    batch, steps = shape[:2] if batch_first else shape[1::-1]
    found = _check.lengths(lengths, batch, steps)
    time = np.arange(steps)
    mask = time < found[:, None] if batch_first else time[:, None] < found
    return mask.reshape(mask.shape + (1,) * (len(shape) - 2))


def time_major(x: NDArray[Any], lengths: Any, batch_first: bool) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """View `x` ([T, B, F], [B, T, F], or [T, F] for one sequence) as [T, B, F], and check `lengths`."""
    if x.ndim == 2:
        x = x[:, None]
        lengths = None if lengths is None else np.reshape(lengths, -1)
    elif batch_first:
        x = x.swapaxes(0, 1)
    if lengths is not None:
        lengths = _check.lengths(lengths, x.shape[1], x.shape[0])
    return x, lengths
