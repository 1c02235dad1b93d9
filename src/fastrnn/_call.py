"""One call of one layer-direction: checked arguments, the kernel, and the pullback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check, _core
from fastrnn._one_hot import OneHotArray
from fastrnn._pullback import Pullback
from fastrnn._variant import RNN_CELLS, Draw, Variant, rnn_variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GATES = {_core.LSTM: 4, _core.GRU_AFTER: 3, _core.GRU_BEFORE: 3}
_USUAL = {_core.LSTM: ("sigmoid", "tanh", "tanh"), _core.GRU_AFTER: ("sigmoid", "tanh")}
_USUAL[_core.GRU_BEFORE] = _USUAL[_core.GRU_AFTER]
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
Weights = tuple[Any, Any, Any, Any, Any]


class Norm(NamedTuple):
    """Gains of a cell with layer normalisation; the LSTM may have gain_c and bias_c, for the c of its output."""

    gain_ih: Any
    gain_hh: Any
    gain_c: Any = None
    bias_c: Any = None


def variant_of(cell: int, options: dict[str, Any]) -> Variant | None:
    """What the options ask for beyond the plain cell; None for nothing."""
    nonlinearity, rate = options.get("nonlinearity", "tanh"), options.get("recurrent_dropout", 0.0)
    asked = [options.get(name) for name in ("peephole", "norm", "clip", "activations", "zoneout")]
    plain = all(value is None for value in asked) and options.get("coupled", False) is False
    if plain and type(rate) is float and rate == 0 and isinstance(nonlinearity, str) and nonlinearity in RNN_CELLS:
        return None
    chosen: dict[str, Any] = {
        "clip": options["clip"],
        "layer_norm": options["norm"] is not None,
        "zoneout": 0.0 if options["zoneout"] is None else options["zoneout"],
        "recurrent_dropout": rate,
        "input_dropout": 0.0,
        "weight_dropout": 0.0,
        "activations": options["activations"],
    }
    if cell not in _USUAL:
        return rnn_variant(nonlinearity, **chosen)
    if cell == _core.LSTM:
        chosen |= {"peephole": options["peephole"] is not None, "coupled": options["coupled"]}
    return Variant.of(_USUAL[cell], 2 if cell == _core.LSTM else 1, **chosen)


class Call:
    """One call of one layer-direction: checked arguments, and the shapes of what comes out."""

    def __init__(
        self, cell: int, x: Any, state: Any, weights: Weights, options: dict[str, Any], train: bool = False
    ) -> None:
        lengths, batch_first, out = options["lengths"], options["batch_first"], options["out"]
        self.cell, self.is_lstm, self.save = cell, cell == _core.LSTM, train
        self.reverse = bool(options["reverse"])
        self.all_states = _check.flag(options["return_all_states"], "return_all_states")
        variant = variant_of(cell, options)
        gates = 3 if variant is not None and variant.coupled else _GATES.get(cell, 1)
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
        self.weights: tuple[Any, ...] = _check.recurrent_weights(weights, gates, inputs, self.dtype)
        steps, batch = self.x.shape[1::-1] if self.batch_first else self.x.shape[:2]
        self.hidden = self.weights[1].shape[0] // gates
        self.h_shape = (1, batch, self.weights[1].shape[1])
        self.c_shape = (1, batch, self.hidden)
        self.arrays: dict[str, Any] = dict(zip(_NAMES, self.weights, strict=True))
        self.variant = variant
        if variant is not None:
            self._further_weights(variant, gates, options)
        if lengths is not None:
            one = self.unbatched and np.ndim(lengths) == 0
            lengths = _check.lengths([lengths] if one else lengths, batch, steps)
        self.lengths = lengths
        self.h_0, self.c_0 = self.states(state, "state")
        self.options, fresh = self._options(gates, options)
        shape = (*self.x.shape[:2], self.h_shape[2])
        if out is None:
            self.y = _core.empty(shape, self.dtype)
        else:
            out = _check.output(out, shape[:1] + shape[2:] if self.unbatched else shape, self.dtype, "out")
            _check.apart(out, "out", x=x, state=(self.h_0, self.c_0), weights=self.weights, reset_state=fresh)
            self.y = out[:, None] if self.unbatched else out

    def _further_weights(self, variant: Variant, gates: int, options: dict[str, Any]) -> None:
        """Peepholes and gains, into `arrays` and `weights`."""
        hidden = self.hidden
        if variant.peephole:
            holes = (2 if variant.coupled else 3) * hidden
            self.arrays["peephole"] = _check.vector(options["peephole"], holes, self.dtype, "peephole")
        if variant.layer_norm:
            norm = dict(zip(Norm._fields, _check.norm(options["norm"], self.is_lstm), strict=True))
            for name, value in norm.items():
                size = hidden if name.endswith("_c") else gates * hidden
                if value is not None or not name.endswith("_c"):
                    self.arrays[name] = _check.vector(value, size, self.dtype, f"norm.{name}")
        self.weights = self.for_core(self.arrays)

    def for_core(self, arrays: dict[str, Any]) -> tuple[Any, ...]:
        """The arrays of one direction in the core's order."""
        five = tuple(arrays[name] for name in _NAMES)
        return five if self.variant is None else (*five, *self.variant.arrays(arrays, "", self.hidden))

    def _options(self, gates: int, options: dict[str, Any]) -> tuple[Any, tuple[Any, Any]]:
        """(`_core.Options`, or None for a plain call; the states after a reset)."""
        variant, mask, state = self.variant, options["reset_mask"], options["reset_state"]
        if state is not None and mask is None:
            raise ValueError("reset_state: expected with reset_mask, got it alone")
        if mask is not None:
            mask = _check.reset_mask(mask, self.x.shape[:2], self.unbatched)
        fresh = self.states(state, "reset_state")
        settings: dict[str, Any] = {}
        if variant is not None and variant.in_kernel:
            settings = {
                "variant": variant.core("gain_c" in self.arrays),
                "zoneout": variant.zoneout,
                "recurrent_dropout": variant.recurrent_dropout if self.save else 0.0,
                "norm": variant.norm(gates, 2 if self.is_lstm else 1),
                "expect": not self.save,
                "seed": Draw(variant, options.get("seed"), self.save and variant.masks).seed,
            }
        elif mask is None:
            return None, fresh
        return _core.Options(**settings, reset=mask, reset_h=fresh[0], reset_c=fresh[1]), fresh

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

    def run(self, checkpoint: int | None = None) -> tuple[Any, Any]:
        h_n = np.empty(self.h_shape, self.dtype)
        c_n = c_all = None
        if self.is_lstm:
            c_n = np.empty(self.c_shape, self.dtype)
            c_all = _core.empty((*self.x.shape[:2], self.hidden), self.dtype) if self.all_states else None
        saved = _core.forward(
            self.cell, self.x, (self.weights,), self.h_0, self.c_0, self.lengths, self.batch_first, self.reverse,
            self.y, h_n, c_n, self.save, checkpoint or 0, self.options, c_all,
        )  # fmt: skip
        y, state_n = self.as_output(self.y), self.as_state(h_n, c_n)
        if self.save:
            y = y.view()  # the array given as `out` stays writable
            y.flags.writeable = False  # it is saved memory
        if not self.all_states:
            return (y, state_n), saved
        return (y, state_n, y if c_all is None else (y, self.as_output(c_all))), saved

    def gradients(self, dy: Any, dstates: Any) -> tuple[Any, Any]:
        """(dy, dc of every step) as the core takes them."""
        shape = (*self.x.shape[:2], self.h_shape[2])

        def checked(value: Any, shape: tuple[int, ...], name: str) -> Any:
            if value is None:
                return None
            value = _check.gradient(value, self.dtype, (shape[0], shape[2]) if self.unbatched else shape, name)
            return value[:, None] if self.unbatched else value

        dy = checked(dy, shape, "dy")
        if dstates is None:
            return dy, None
        if not self.all_states:
            raise ValueError("dstates: expected only with return_all_states=True")
        dh, dc = _check.pair(dstates, "dstates") if self.is_lstm else (dstates, None)
        dh = checked(dh, shape, "dstates[0]" if self.is_lstm else "dstates")
        dc = checked(dc, (*shape[:2], self.hidden), "dstates[1]")
        dc = None if dc is None else np.require(dc, requirements=("C", "A"))
        return (dy if dh is None else dh if dy is None else dy + dh), dc


def infer(cell: int, x: Any, state: Any, weights: Weights, options: dict[str, Any]) -> Any:
    return Call(cell, x, state, weights, options).run()[0]


def train(
    cell: int, grads_type: type[Any], x: Any, state: Any, weights: Weights, options: dict[str, Any]
) -> tuple[Any, Callable[..., Any]]:
    call = Call(cell, x, state, weights, options, train=True)
    checkpoint = _check.optional_positive_int(options["checkpoint"], "checkpoint")
    outputs, saved = call.run(checkpoint)
    input_grad = options["input_grad"]

    def run(dy: Any = None, dstate: Any = None, dstates: Any = None, *, out: Any = None) -> tuple[Any, Any, Any]:
        dy, dc_all = call.gradients(dy, dstates)
        dh_n, dc_n = call.states(dstate, "dstate")
        dx = None
        if out is not None:
            if call.one_hot:
                raise _check.no_input_gradient("out")
            dx = _check.output(out, call.x[:, 0].shape if call.unbatched else call.x.shape, call.dtype, "out")
            _check.apart(dx, "out", x=call.x, y=call.y, dy=dy, dstates=dc_all, weights=call.weights)
            dx = dx[:, None] if call.unbatched else dx
        dh_0 = np.empty(call.h_shape, call.dtype)
        dc_0 = np.empty(call.c_shape, call.dtype) if call.is_lstm else None
        grads = {name: None if w is None else np.zeros(w.shape, call.dtype) for name, w in call.arrays.items()}
        dx = saved.backward(dy, dh_n, dc_n, (call.for_core(grads),), input_grad, dh_0, dc_0, False, dx, dc_all)
        dx = None if dx is None else call.as_output(dx)
        return dx, call.as_state(dh_0, dc_0), grads_type(*map(grads.get, grads_type._fields))

    owner = f"functional.{grads_type.__name__.removesuffix('Grads').lower()}_vjp"
    return outputs, Pullback(run, owner, retain=None)
