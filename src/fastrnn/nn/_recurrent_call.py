"""One call of a stack of recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._variant import Draw
from fastrnn.nn._random import Seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Call:
    """One call of a layer: checked arguments, masks, the core, and the way back."""

    def __init__(
        self,
        layer: Any,
        x: Any,
        state: Any,
        lengths: Any,
        dropout: bool,
        seed: Seed,
        reset_mask: Any,
        reset_state: Any,
        all_states: bool,
    ) -> None:
        self.layer, self.all_states = layer, _check.flag(all_states, "return_all_states")
        self.x, self.unbatched, self.batch_first, self.lengths = layer._input(x, lengths)
        self.initial: tuple[Any, Any] = layer._initial(self.x, state, self.batch_first, self.unbatched)
        self.rate = layer.dropout if dropout and layer.num_layers > 1 else 0.0
        draw = Draw(layer.variant, seed, bool(self.rate or (dropout and layer.variant.masks)))
        self.mask = draw.bits
        self.options = layer._options(
            self.x, self.batch_first, self.unbatched, dropout, draw, (reset_mask, reset_state), self.all_states
        )
        self.dropped: Any
        self.shapes: tuple[Any, Any]  # of the states of every step
        self.weights, self.dropped = draw.weights(layer._layers()) if dropout else (layer._layers(), None)
        self.batch = self.x.shape[0 if self.batch_first else 1]

    def run(self, save: bool, checkpoint: int) -> Any:
        layer, unbatched = self.layer, self.unbatched
        y, h_n, c_n, self.kept = layer._guarded(
            _core.forward_layers, layer._cell, self.x, self.weights, *self.initial, self.lengths, self.batch_first,
            save, checkpoint, self.rate, self.mask, self.options,
        )  # fmt: skip
        state_n = layer._as_state(h_n, c_n, unbatched)
        if not self.all_states:
            self.shape = y.shape
            y = y[:, 0] if unbatched else y
            if save:
                y.flags.writeable = False
            return y, state_n
        h_all, c_all = y, self.kept.pop()
        self.shape, self.shapes = h_all.shape[1:], (h_all.shape, None if c_all is None else c_all.shape)
        if save:
            h_all.flags.writeable = False
        states = layer._as_state(h_all, c_all, unbatched)
        y = h_all[-1]
        return (y[:, 0] if unbatched else y), state_n, states

    def _all_gradients(self, dstates: Any) -> tuple[Any, Any]:
        """(dh, dc) of every step, contiguous."""
        if dstates is None:
            return None, None
        layer, (h_shape, c_shape) = self.layer, self.shapes
        parts = (dstates,) if layer.num_states == 1 else _check.states(dstates, layer.num_states, "dstates")
        found: list[Any] = []
        for k, part in enumerate(parts):
            shape = h_shape if k == 0 else c_shape[-4:]
            asked = (*shape[:2], *shape[3:]) if self.unbatched else shape
            name = f"dstates[{k}]" if layer.num_states > 1 else "dstates"
            found.append(None if part is None else _check.gradient(part, layer.dtype, asked, name).reshape(shape))
        h = None if found[0] is None else np.ascontiguousarray(found[0])
        if all(part is None for part in found[1:]):
            return h, None
        rest = [np.zeros(c_shape[-4:], layer.dtype) if part is None else part for part in found[1:]]
        return h, np.ascontiguousarray(rest[0] if len(rest) == 1 else np.stack(rest))

    def pullback(self, input_grad: bool, retain: bool) -> Any:
        layer, unbatched = self.layer, self.unbatched

        def run(dy: ArrayLike | None = None, dstate: Any = None, dstates: Any = None) -> tuple[Any, Any]:
            if dy is not None:
                dy = _check.gradient(dy, layer.dtype, (self.shape[0], *self.shape[2:]) if unbatched else self.shape)
                dy = dy[:, None] if unbatched else dy
            if dstates is not None and not self.all_states:
                raise ValueError("dstates: expected only with return_all_states=True")
            ends = (None, None) if dstate is None else layer._state(dstate, self.batch, unbatched, "dstate")
            dx, dh_0, dc_0 = self._pull(dy, ends, self._all_gradients(dstates), input_grad, retain)
            return (dx[:, 0] if unbatched and dx is not None else dx), layer._as_state(dh_0, dc_0, unbatched)

        return run

    def _pull(self, dy: Any, ends: tuple[Any, Any], states: tuple[Any, Any], input_grad: bool, retain: bool) -> Any:
        layer = self.layer
        with layer._lock:
            grads = wanted = layer._gradients()
            if self.dropped is not None:  # R's gradients apart, for their masks
                grads = tuple(
                    tuple((dW, np.zeros_like(dR), *rest) for dW, dR, *rest in directions) for directions in grads
                )
            found = layer._guarded(
                _core.backward_layers, self.kept, dy, *ends, grads, input_grad, retain, self.rate, self.mask, *states
            )
            if self.dropped is not None:
                for mine, theirs, masks in zip(wanted, grads, self.dropped, strict=True):
                    for (_, dR, *_), (_, apart, *_), mask in zip(mine, theirs, masks, strict=True):
                        dR += apart * mask
            layer._add_gradients(wanted)
            return found
