"""One call of one layer-direction: checked arguments, the kernel, and the pullback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._one_hot import OneHotArray
from fastrnn._pullback import Pullback

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GATES = {_core.LSTM: 4, _core.GRU_AFTER: 3, _core.GRU_BEFORE: 3}
Weights = tuple[Any, Any, Any, Any, Any]


class Call:
    """One call of one layer-direction: checked arguments, and the shapes of what comes out."""

    def __init__(
        self, cell: int, x: Any, state: Any, weights: Weights, lengths: Any, batch_first: bool, out: Any
    ) -> None:
        self.one_hot = isinstance(x, OneHotArray)
        if self.one_hot:  # the core takes the indices
            _check.one_hot(x.shape, batch_first)
            dtype, inputs = _check.floats(weights[0], None, "weight_ih").dtype, x.num_classes
            self.unbatched, x = x.ndim == 2, x.indices
        else:
            x = _check.sequence(x, None, batch_first)
            dtype, inputs, self.unbatched = x.dtype, x.shape[-1], x.ndim == 2
        self.batch_first = batch_first and not self.unbatched
        self.x = x[:, None] if self.unbatched else x
        self.dtype = dtype
        self.cell = cell
        self.weights = _check.recurrent_weights(weights, _GATES.get(cell, 1), inputs, self.dtype)
        steps, batch = self.x.shape[1::-1] if self.batch_first else self.x.shape[:2]
        hidden = self.weights[1].shape[0] // _GATES.get(cell, 1)
        self.h_shape = (1, batch, self.weights[1].shape[1])
        self.c_shape = (1, batch, hidden)
        if lengths is not None:
            one = self.unbatched and np.ndim(lengths) == 0
            lengths = _check.lengths([lengths] if one else lengths, batch, steps)
        self.lengths = lengths
        self.h_0, self.c_0 = self.states(state, "state")
        shape = (*self.x.shape[:2], self.h_shape[2])
        if out is None:
            self.y = _core.empty(shape, self.dtype)
        else:
            out = _check.output(out, shape[:1] + shape[2:] if self.unbatched else shape, self.dtype, "out")
            _check.apart(out, "out", x=x, state=(self.h_0, self.c_0), weights=self.weights)
            self.y = out[:, None] if self.unbatched else out

    @property
    def is_lstm(self) -> bool:
        return bool(self.cell == _core.LSTM)

    def states(self, state: Any, name: str) -> tuple[Any, Any]:
        """(h, c) as [1, B, ·], c None but for the LSTM."""
        if not self.is_lstm:
            return _check.state(state, self.h_shape, self.unbatched, self.dtype, name, 1), None
        h, c = _check.pair(state, name)
        return (
            _check.state(h, self.h_shape, self.unbatched, self.dtype, f"{name}[0]", 1),
            _check.state(c, self.c_shape, self.unbatched, self.dtype, f"{name}[1]", 1),
        )

    def as_state(self, h: NDArray[Any], c: NDArray[Any] | None) -> Any:
        """What the caller gets: without the axis of directions, and without that of one sequence."""
        h = h[0, 0] if self.unbatched else h[0]
        if c is None:
            return h
        return h, (c[0, 0] if self.unbatched else c[0])

    def as_output(self, y: NDArray[Any]) -> NDArray[Any]:
        return y[:, 0] if self.unbatched else y

    def run(self, reverse: bool, save: bool, checkpoint: int | None = None) -> tuple[Any, Any]:
        h_n = np.empty(self.h_shape, self.dtype)
        c_n = np.empty(self.c_shape, self.dtype) if self.is_lstm else None
        saved = _core.forward(
            self.cell, self.x, (self.weights,), self.h_0, self.c_0, self.lengths, self.batch_first, bool(reverse),
            self.y, h_n, c_n, save, checkpoint or 0,
        )  # fmt: skip
        return (self.as_output(self.y), self.as_state(h_n, c_n)), saved


def infer(cell: int, x: Any, state: Any, weights: Weights, options: dict[str, Any]) -> Any:
    call = Call(cell, x, state, weights, options["lengths"], options["batch_first"], options["out"])
    return call.run(options["reverse"], save=False)[0]


def train(
    cell: int, grads_type: type[Any], x: Any, state: Any, weights: Weights, options: dict[str, Any]
) -> tuple[Any, Callable[..., Any]]:
    call = Call(cell, x, state, weights, options["lengths"], options["batch_first"], options["out"])
    checkpoint = _check.optional_positive_int(options["checkpoint"], "checkpoint")
    (y, state_n), saved = call.run(options["reverse"], save=True, checkpoint=checkpoint)
    y = y.view()  # the array given as `out` stays writable
    y.flags.writeable = False  # it is saved memory
    outputs = (y, state_n)
    input_grad, count = options["input_grad"], 5 if call.is_lstm else 4  # only an LSTM has weight_hr

    def run(dy: Any = None, dstate: Any = None, *, out: Any = None) -> tuple[Any, Any, Any]:
        if dy is not None:
            dy = _check.gradient(dy, call.dtype, outputs[0].shape)
            dy = dy[:, None] if call.unbatched else dy
        dh_n, dc_n = call.states(dstate, "dstate")
        dx = None
        if out is not None:
            if call.one_hot:
                raise _check.no_input_gradient("out")
            dx = _check.output(out, call.x[:, 0].shape if call.unbatched else call.x.shape, call.dtype, "out")
            _check.apart(dx, "out", x=call.x, y=call.y, dy=dy, weights=call.weights)
            dx = dx[:, None] if call.unbatched else dx
        dh_0 = np.empty(call.h_shape, call.dtype)
        dc_0 = np.empty(call.c_shape, call.dtype) if call.is_lstm else None
        grads = tuple(None if w is None else np.zeros(w.shape, call.dtype) for w in call.weights)
        dx = saved.backward(dy, dh_n, dc_n, (grads,), input_grad, dh_0, dc_0, False, dx)
        dx = None if dx is None else call.as_output(dx)
        return dx, call.as_state(dh_0, dc_0), grads_type(*grads[:count])

    owner = f"functional.{grads_type.__name__.removesuffix('Grads').lower()}_vjp"
    return outputs, Pullback(run, owner, retain=None)
