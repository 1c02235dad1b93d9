"""Pooling over time: a sequence becomes one vector, made from the valid steps of each row only.

``x`` is [T, B, F], [B, T, F] with ``batch_first``, or [T, F] without a batch; the result is [B, F] or [F].
``lengths`` [B] may hold 0: such a row has nothing to pool and gives zeros. What ``x`` holds past the length of a row
is not read, and ``dx`` is zero there. ``f_vjp`` returns ``(y, pullback)`` with ``dx = pullback(dy)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._sequence import Array, Layout, check_lengths

Pullback = Callable[[Array], Array]


def _valid_steps(x: Array, lengths: Any, batch_first: bool) -> tuple[Layout, Array, Array, Array]:
    """Layout, x as [T, B, F], lengths [B], and valid [T, B, 1], which is True for the steps that count."""
    layout = Layout.of(x, batch_first)
    x = layout.sequence_in(x)
    T, B, _ = x.shape
    if T == 0:
        raise ValueError("x: expected at least one time step, got T = 0")
    lengths = check_lengths(lengths, T, B)
    return layout, x, lengths, (np.arange(T)[:, None] < lengths)[:, :, None]


def _pick(x: Array, step: Array, lengths: Array) -> Array:
    """x[step] for each row (and feature), [B, F]; zeros for a row of length 0."""
    picked = np.take_along_axis(x, step[None], axis=0)[0]
    return np.where(lengths[:, None] > 0, picked, 0).astype(x.dtype)


def _put(dy: Array, step: Array, lengths: Array, T: int) -> Array:
    """The reverse of `_pick`: dx [T, B, F] is dy at the step that was picked and zero elsewhere."""
    picked = (np.arange(T)[:, None, None] == step) & (lengths[:, None] > 0)
    return np.where(picked, dy, 0).astype(dy.dtype)


def _picked_vjp(layout: Layout, x: Array, step: Array, lengths: Array) -> tuple[Array, Pullback]:
    T = len(x)
    y = layout.vector_out(_pick(x, step, lengths))
    return y, lambda dy: layout.sequence_out(_put(layout.vector_in(dy), step, lengths, T))


def last_vjp(x: Array, *, lengths: Any = None, batch_first: bool = False) -> tuple[Array, Pullback]:
    """Return ``last(x)`` and the function ``dy`` → ``dx``."""
    layout, x, lengths, _ = _valid_steps(x, lengths, batch_first)
    step = np.broadcast_to(np.maximum(lengths - 1, 0)[:, None], x.shape[1:])
    return _picked_vjp(layout, x, step, lengths)


def last(x: Array, *, lengths: Any = None, batch_first: bool = False) -> Array:
    """The last valid step of each row, ``x[length − 1]``.

    Examples
    --------
    >>> last(np.array([[[1.0], [2.0]], [[3.0], [4.0]]]), lengths=[2, 1]).tolist()
    [[3.0], [2.0]]
    """
    return last_vjp(x, lengths=lengths, batch_first=batch_first)[0]


def max_pool_vjp(x: Array, *, lengths: Any = None, batch_first: bool = False) -> tuple[Array, Pullback]:
    """Return ``max_pool(x)`` and the function ``dy`` → ``dx``. Of equal maxima the first receives the gradient."""
    layout, x, lengths, valid = _valid_steps(x, lengths, batch_first)
    step = np.argmax(np.where(valid, x, -np.inf), axis=0)  # a NaN counts as the largest, so it is not hidden
    return _picked_vjp(layout, x, step, lengths)


def max_pool(x: Array, *, lengths: Any = None, batch_first: bool = False) -> Array:
    """The maximum over the valid steps, for each row and feature.

    Examples
    --------
    >>> max_pool(np.array([[1.0, 5.0], [3.0, 4.0]])).tolist()
    [3.0, 5.0]
    """
    return max_pool_vjp(x, lengths=lengths, batch_first=batch_first)[0]


def mean_pool_vjp(x: Array, *, lengths: Any = None, batch_first: bool = False) -> tuple[Array, Pullback]:
    """Return ``mean_pool(x)`` and the function ``dy`` → ``dx``."""
    layout, x, lengths, valid = _valid_steps(x, lengths, batch_first)
    count = np.maximum(lengths, 1)[:, None].astype(x.dtype)
    y = np.where(valid, x, 0).sum(axis=0, dtype=x.dtype) / count

    def pullback(dy: Array) -> Array:
        dx = np.where(valid, layout.vector_in(dy) / count, 0)
        return layout.sequence_out(dx.astype(dy.dtype))

    return layout.vector_out(y), pullback


def mean_pool(x: Array, *, lengths: Any = None, batch_first: bool = False) -> Array:
    """The mean over the valid steps, for each row and feature.

    Examples
    --------
    >>> mean_pool(np.array([[1.0, 5.0], [3.0, 4.0]])).tolist()
    [2.0, 4.5]
    """
    return mean_pool_vjp(x, lengths=lengths, batch_first=batch_first)[0]
