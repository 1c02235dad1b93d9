"""One step of a cell's functions on NumPy arrays, without the core: what `check` and the tests call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.jit._spec import CellTile, Spec

__all__ = ["Step", "backward", "forward"]

_VECTOR = 64  # bytes: a multiple of every width


def _pointers(addresses: Sequence[int]) -> Any:
    return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)


class _Rows:
    """Arrays [B, n] in padded memory, and the tables of pointers that a tile has to them."""

    def __init__(self, arrays: Sequence[NDArray[Any]], padded: int, dtype: np.dtype[Any]) -> None:
        self.data = []
        for array in arrays:
            room = np.ones((array.shape[0], padded), dtype)  # finite past H
            room[:, : array.shape[1]] = array
            self.data.append(room)
        self.rows = [
            _pointers([room.ctypes.data + r * room.strides[0] for r in range(len(room))]) for room in self.data
        ]
        self.table = _pointers([ctypes.addressof(rows) for rows in self.rows])
        self.address = ctypes.addressof(self.table)


class Step:
    """What a step leaves: new states, and the memory that backward reads."""

    def __init__(self, spec: Spec, size: int) -> None:
        lanes = _VECTOR // spec.dtype.itemsize
        self.spec, self.size = spec, size
        self.padded = -(-size // lanes) * lanes
        self.before: _Rows
        self.gates: NDArray[Any]
        self.vectors: list[NDArray[Any]]
        self.after: list[NDArray[Any]]

    def tile(self, rows: int, save: bool, after: _Rows | None, gradient: _Rows | None) -> tuple[CellTile, list[Any]]:
        gates = _pointers([self.gates.ctypes.data + r * self.gates.strides[0] for r in range(rows)])
        vectors = _pointers([v.ctypes.data for v in self.vectors])
        tile = CellTile(
            rows, 0, self.padded, self.padded, ctypes.addressof(gates), self.before.address,
            after.address if after else None, gradient.address if gradient else None,
            ctypes.addressof(vectors), None, int(save), None, self.size,
        )  # fmt: skip
        return tile, [gates, vectors]  # alive as long as the tile


def forward(
    spec: Spec, wx: NDArray[Any], rh: NDArray[Any], before: Sequence[NDArray[Any]], vectors: Sequence[NDArray[Any]],
    save: bool = True,
) -> Step:  # fmt: skip
    """wx, rh [G, B, H]: the products; before: [B, H] each; vectors: [H] each."""
    _, rows, size = wx.shape
    step = Step(spec, size)
    step.before = _Rows(before, step.padded, spec.dtype)
    step.vectors = [v.data[0][0] for v in (_Rows([a[None]], step.padded, spec.dtype) for a in vectors)]
    step.gates = np.ones((rows, spec.sections * step.padded), spec.dtype)
    sections = step.gates.reshape(rows, spec.sections, step.padded)
    for g, (kx, kr) in enumerate(zip(spec.plan.section_x, spec.plan.section_r)):
        sections[:, kx, :size] = wx[g] + (rh[g] if kx == kr else 0)
        if kx != kr:
            sections[:, kr, :size] = rh[g]
    after = _Rows([np.zeros((rows, 0), spec.dtype)] * len(before), step.padded, spec.dtype)
    tile, _alive = step.tile(rows, save, after, None)
    spec.forward(ctypes.byref(tile))
    if spec.callbacks is not None:
        spec.callbacks.raise_kept()
    step.after = [a[:, :size] for a in after.data]
    return step


def backward(
    step: Step, gradients: Sequence[NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any], list[NDArray[Any]], list[NDArray[Any]]]:
    """dwx, drh [G, B, H], the gradients of the states before [B, H], of the vectors [B, H] before summing over rows."""
    spec, size = step.spec, step.size
    rows = _Rows(gradients, step.padded, spec.dtype)
    count = len(step.gates)
    tile, _alive = step.tile(count, True, None, rows)
    spec.backward(ctypes.byref(tile))
    if spec.callbacks is not None:
        spec.callbacks.raise_kept()
    sections = step.gates.reshape(count, spec.sections, step.padded)[:, :, :size]
    dwx, drh = (np.stack([sections[:, k] for k in ks]) for ks in (spec.plan.section_x, spec.plan.section_r))
    return dwx, drh, [a[:, :size] for a in rows.data], [sections[:, k].copy() for k in spec.plan.section_v]
