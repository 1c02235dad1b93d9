"""Calls of the core on PyTorch's tensors: nothing is copied that needn't be."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from fastrnn import _core
from fastrnn.interop.torch._threads import Threads

SEEDS = 1 << 62
CELLS = {"RNN_TANH": _core.RNN_TANH, "RNN_RELU": _core.RNN_RELU, "LSTM": _core.LSTM, "GRU": _core.GRU_AFTER}


class Spec(NamedTuple):
    """What a call is besides its tensors."""

    mode: str  # as `torch.nn.RNNBase.mode`
    directions: int
    bias: bool
    projected: bool
    batch_first: bool
    unbatched: bool
    rate: float  # of the dropout between layers
    seed: int  # of its masks

    @property
    def per_direction(self) -> int:
        """Weights of one direction of one layer."""
        return 2 + 2 * self.bias + self.projected


class Saved:
    """What a forward pass keeps for one backward pass; `kept` is None when that has run."""

    __slots__ = ("__weakref__", "kept")

    def __init__(self, kept: list[Any]) -> None:
        self.kept: list[Any] | None = kept


def by_layer(flat: list[Any], spec: Spec) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """Arrays in PyTorch's order, as the core takes them: for each layer, each direction (W, R, b_w, b_r, M)."""
    n = spec.per_direction
    rows: list[tuple[Any, ...]] = []
    for k in range(0, len(flat), n):
        if not spec.bias:
            rows.append((flat[k], flat[k + 1], None, None, flat[k + 2] if spec.projected else None))
        else:
            rows.append((*flat[k : k + 4], flat[k + 4] if spec.projected else None))
    if spec.directions == 1:
        return tuple([(row,) for row in rows])
    return tuple([(rows[k], rows[k + 1]) for k in range(0, len(rows), 2)])


def _time_major(array: Any, spec: Spec) -> Any:
    """[T, B, ·]. PyTorch computes so, too, and y has the strides of its y, which random numbers drawn for y hang on."""
    return array[:, None] if spec.unbatched else array.swapaxes(0, 1) if spec.batch_first else array


def _as_given(array: Any, spec: Spec) -> Any:
    """The other way."""
    return array[:, 0] if spec.unbatched else array.swapaxes(0, 1) if spec.batch_first else array


def _state(tensor: Any, unbatched: bool) -> Any:
    """A state as the core takes it, [L·D, B, ·] and contiguous."""
    if tensor is None:
        return None
    array = tensor.numpy(force=True)
    if unbatched:
        array = array[:, None]
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _tensor(array: Any) -> Any:
    return None if array is None else torch.from_numpy(array)


def forward(spec: Spec, x: Any, h_0: Any, c_0: Any, lengths: Any, weights: Any, save: bool) -> tuple[Any, ...]:
    """(y, h_n, c_n or None, `Saved` or None); the tensors don't require gradients."""
    unbatched = spec.unbatched
    array = _time_major(x.numpy(force=True), spec)
    with Threads():
        y, h_n, c_n, kept = _core.forward_layers(
            CELLS[spec.mode], array, by_layer([w.numpy(force=True) for w in weights], spec),
            _state(h_0, unbatched), _state(c_0, unbatched), None if lengths is None else lengths.numpy(),
            False, save, 0, spec.rate, spec.seed,
        )  # fmt: skip
    if unbatched:
        h_n, c_n = h_n[:, 0], None if c_n is None else c_n[:, 0]
    return torch.from_numpy(_as_given(y, spec)), torch.from_numpy(h_n), _tensor(c_n), Saved(kept) if save else None


def backward(
    spec: Spec, saved: Saved, dy: Any, dh_n: Any, dc_n: Any, weights: Any, wanted: tuple[bool, ...]
) -> list[Any]:
    """Gradients of x, h_0, c_0 and the weights, where `wanted`, else None; uses `saved` up."""
    kept, saved.kept = saved.kept, None
    assert kept is not None
    unbatched = spec.unbatched
    grads = [_zeros(w) if want else None for w, want in zip(weights, wanted[3:], strict=True)]
    if dy is not None:
        dy = _time_major(dy.numpy(force=True), spec)
    with Threads():
        dx, dh_0, dc_0 = _core.backward_layers(
            kept, dy, _state(dh_n, unbatched), _state(dc_n, unbatched), by_layer(grads, spec),
            wanted[0], False, spec.rate, spec.seed,
        )  # fmt: skip
    if unbatched:
        dh_0, dc_0 = dh_0[:, 0], None if dc_0 is None else dc_0[:, 0]
    return [
        None if dx is None else torch.from_numpy(_as_given(dx, spec)),
        _tensor(dh_0) if wanted[1] else None,
        _tensor(dc_0) if wanted[2] else None,
        *[_tensor(dw) for dw in grads],
    ]


def _zeros(tensor: Any) -> Any:
    """For the gradient of a weight, on reused memory."""
    zeros = _core.empty(tuple(tensor.shape), np.float32 if tensor.dtype is torch.float32 else np.float64)
    zeros.fill(0)
    return zeros
