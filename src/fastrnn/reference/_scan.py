"""What the references of scan.py have in common: rows of any length, two ways through time, and the order of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# step(z_t, s, p) → (y_t, s, saved); back(dy_t, ds, saved, p) → (dz_t, ds, dp): for one row
Step = Callable[[Array, Array, Any], tuple[Array, Array, Any]]
Back = Callable[[Array, Array, Any, Any], tuple[Array, Array, Any]]


class Cell(NamedTuple):
    """The equations of one step of one row, and their derivatives."""

    step: Step
    back: Back


def scan_vjp(
    cell: Cell,
    z: Array,
    s_0: Array | None,
    params: tuple[Array, ...],
    size: int,
    states: int,
    lengths: Any,
    reverse: bool,
) -> tuple[tuple[Array, Array], Callable[[Array | None, Array | None], tuple[Array, Array, list[Array]]]]:
    """Walk through z [T, B, G·H] row by row.

    Returns (y [T, B, ·], s_n [B, S·H]) and ``pullback(dy, ds_n)`` → (dz, ds_0, the gradients of `params`).
    """
    steps, batch = z.shape[:2]
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    s_n = np.zeros((batch, states), z.dtype) if s_0 is None else np.array(s_0, z.dtype)
    y = np.zeros((steps, batch, size), z.dtype)
    saved: dict[tuple[int, int], Any] = {}

    def times(b: int) -> range:
        return range(int(ends[b]) - 1, -1, -1) if reverse else range(int(ends[b]))

    for b in range(batch):
        for t in times(b):
            y[t, b], s_n[b], saved[t, b] = cell.step(z[t, b], s_n[b].copy(), params)

    def pullback(dy: Array | None, ds_n: Array | None) -> tuple[Array, Array, list[Array]]:
        dz = np.zeros_like(z)
        ds = np.zeros_like(s_n) if ds_n is None else np.array(ds_n, z.dtype)
        grads = [np.zeros_like(p) for p in params]
        for b in range(batch):
            for t in reversed(times(b)):
                dy_t = np.zeros(size, z.dtype) if dy is None else dy[t, b]
                dz[t, b], ds[b], found = cell.back(dy_t, ds[b], saved[t, b], params)
                for total, grad in zip(grads, found, strict=True):
                    total += grad
        return dz, ds, grads

    return (y, s_n), pullback


def blocks(z: Array, count: int) -> list[Array]:
    """The blocks of z's last axis.

    Examples
    --------
    >>> [block.tolist() for block in blocks(np.arange(4), 2)]
    [[0, 1], [2, 3]]
    """
    return np.split(z, count, axis=-1)
