"""What RNN, LSTM and GRU have in common: parameters, stacking, directions, and the two entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._one_hot import OneHotArray
from fastrnn._pullback import Pullback
from fastrnn._variant import Draw, Variant
from fastrnn.nn._random import Seed, generator
from fastrnn.nn._recurrent_call import Call
from fastrnn.nn._tape import RECORDING, current
from fastrnn.nn._weights import _Weights

if TYPE_CHECKING:
    from typing import TypeGuard

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from fastrnn.nn.stream import Stream


class Recurrent(_Weights):
    """What the three have in common: names, stacking, directions, dropout between layers, and the two entries."""

    is_recurrent = True
    takes_lengths = True
    takes_dropout = True
    records_itself = True
    dtype: np.dtype[Any]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        dtype: DTypeLike,
        seed: Seed,
        variant: Variant | None = None,
    ) -> None:
        super().__init__(dtype)
        self.input_size = _check.positive_int(input_size, "input_size")
        self.hidden_size = _check.positive_int(hidden_size, "hidden_size")
        self.num_layers = _check.positive_int(num_layers, "num_layers")
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = _check.fraction(dropout, "dropout")
        self.bidirectional = bool(bidirectional)
        self.proj_size = _check.proj_size(proj_size, self.hidden_size)
        self._cell = _core.RNN_TANH
        self._directions = 2 if self.bidirectional else 1
        self._layer_params: Any = None
        self._layer_grads: Any = None
        self.variant = variant or Variant(())
        if self.variant.coupled:
            self.gates = 3
        self._plain = not (self.variant.in_kernel or self.variant.masks)
        rng = generator(seed)
        for name, shape in self._shapes():
            self._add_param(name, self._initial_values(name, shape, rng))

    # ---- arguments ---------------------------------------------------------------------------------------------

    def _fits(self, x: Any) -> TypeGuard[NDArray[Any]]:
        """Whether x is a batch in the layer's dtype, ready for the core."""
        return (
            type(x) is np.ndarray
            and x.dtype == self.dtype
            and len(shape := x.shape) == 3
            and shape[2] == self.input_size
            and 0 not in shape
        )

    def _input(self, x: Any, lengths: Any) -> tuple[NDArray[Any], bool, bool, Any]:
        """(x as a batch, unbatched, batch_first, lengths). A one-hot x becomes its indices, as the core takes them."""
        if isinstance(x, OneHotArray):
            _check.one_hot(x.shape, self.batch_first, self.input_size)
            unbatched, x = x.ndim == 2, x.indices
        else:
            if not self._fits(x):
                x = _check.sequence(x, self.dtype, self.batch_first, self.input_size)
            unbatched = x.ndim == 2
        batch_first = self.batch_first and not unbatched
        if unbatched:
            x = x[:, None]
        batch, steps = x.shape[:2] if batch_first else x.shape[1::-1]
        if steps == 0:
            _check.sequence(x, self.dtype, batch_first)
        if lengths is not None:
            one = unbatched and np.ndim(lengths) == 0
            lengths = _check.lengths([lengths] if one else lengths, batch, steps)
        return x, unbatched, batch_first, lengths

    def _state(self, state: Any, batch: int, unbatched: bool, name: str) -> tuple[Any, Any]:
        """(h, c) as contiguous [L·D, B, ·]; None for zeros, and c None without one."""
        layers = self.num_layers * self._directions
        shape, further = (layers, batch, self._h_size), (layers, batch, self.hidden_size)
        if self.num_states == 1:
            return _check.state(state, shape, unbatched, self.dtype, name), None
        parts = _check.states(state, self.num_states, name)
        h = _check.state(parts[0], shape, unbatched, self.dtype, f"{name}[0]")
        rest = [
            _check.state(part, further, unbatched, self.dtype, f"{name}[{k}]") for k, part in enumerate(parts[1:], 1)
        ]
        if self.num_states == 2 or all(part is None for part in rest):
            return h, rest[0]
        return h, np.stack([np.zeros(further, self.dtype) if part is None else part for part in rest])

    def _initial(self, x: NDArray[Any], state: Any, batch_first: bool, unbatched: bool) -> tuple[Any, Any]:
        if state is None:
            return None, None
        return self._state(state, x.shape[0 if batch_first else 1], unbatched, "state")

    def _as_state(self, h: NDArray[Any], c: Any, unbatched: bool) -> Any:
        """What the caller gets, of arrays […, B, ·] or of all steps […, T, B, ·]."""
        if unbatched:
            h = h[..., 0, :]
            c = None if c is None else c[..., 0, :]
        if self.num_states == 1:
            return h
        return (h, c) if self.num_states == 2 else (h, *c)

    # ---- what a variant does -------------------------------------------------------------------------------------

    def _options(
        self,
        x: NDArray[Any],
        batch_first: bool,
        unbatched: bool,
        masks: bool,
        draw: Draw,
        resets: Any,
        all_states: bool,
    ) -> Any:
        """`_core.Options` of a call, or None for a plain one; resets: (mask, state)."""
        variant, (mask, state) = self.variant, resets
        batch = x.shape[0 if batch_first else 1]
        if state is not None and mask is None:
            raise ValueError("reset_state: expected with reset_mask, got it alone")
        if mask is not None:
            mask = _check.reset_mask(mask, x.shape[:2], unbatched)
        if not (variant.in_kernel or all_states or mask is not None or (masks and variant.input_dropout)):
            return None
        reset_h, reset_c = (None, None) if state is None else self._state(state, batch, unbatched, "reset_state")
        sizes = [self.input_size] + [self._h_size * self._directions] * (self.num_layers - 1)
        inputs = draw.inputs(batch, sizes, batch_first, self.dtype) if masks else None
        if inputs is not None and x.ndim == 2:
            raise _check.no_one_hot("input_dropout")
        return _core.Options(
            **self._kernel_options(draw if masks else None),
            reset=mask,
            reset_h=reset_h,
            reset_c=reset_c,
            all_states=all_states,
            input_masks=inputs,
        )

    def _kernel_options(self, draw: Draw | None) -> dict[str, Any]:
        """Of `_core.Options`: the cell, and its masks, or without `draw` what is expected of them."""
        return {
            **self.variant.functions(self.num_states > 1, self.dtype),
            "zoneout": self.variant.zoneout,
            "recurrent_dropout": self.variant.recurrent_dropout if draw else 0.0,
            "norm": self.variant.norm(self.gates, self.num_states),
            "expect": draw is None,
            "seed": draw.seed if draw else 0,
        }

    def _guarded(self, function: Any, *args: Any) -> Any:
        """A call into the core."""
        return function(*args)

    # ---- the two entries ---------------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = False,
        reset_mask: ArrayLike | None = None,
        reset_state: Any = None,
        return_all_states: bool = False,
    ) -> Any:
        """Inference: nothing is saved.

        Parameters
        ----------
        x : array, [T, B, input_size], [B, T, input_size] with `batch_first`, or [T, input_size] for one sequence
            Of the layer's dtype, any strides; or `fr.one_hot` of integers.
        state : array or tuple, optional
            Initial state(s), [num_layers·D, B, ·] in PyTorch's order ([num_layers·D, ·] for one sequence);
            None for zeros.
        lengths : integers, [B], optional
            Steps of each row, 0 … T, in any order. Outputs past them are zero.
        dropout : bool
            Apply dropout between layers, and what a variant drops, with fresh masks.
        reset_mask : bool, [T, B], [B, T] with `batch_first`, or [T] for one sequence, optional
            Where it is true, the state is set to zeros, or to `reset_state`, before `x[t]` is read, as where an episode
            begins; gradients stop there. The second direction starts afresh at the same borders.
        reset_state : as `state`, optional
        return_all_states : bool
            Return every h_t, and c_t, of every layer, too.

        Returns
        -------
        y : array, in the layout of `x`, the directions side by side
        state_n : as `state`
            The state at the end of each row.
        states : only with `return_all_states`
            h [num_layers, T, B, D·P], or a tuple of that and c [num_layers, T, B, D·H]; [B, T] with `batch_first`.

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it.
        """
        if RECORDING and (tape := current()) is not None:
            given = {"dropout": dropout, "reset_mask": reset_mask, "reset_state": reset_state}
            chosen = {name: value for name, value in given.items() if value is not None and value is not False}
            if return_all_states:
                chosen["return_all_states"] = True
            return tape.call(self, (x, state), {"lengths": lengths, **chosen})
        resets = reset_mask is not None or reset_state is not None
        plain = state is None and lengths is None and not dropout and not resets and return_all_states is False
        if plain and self._plain and self._fits(x):  # most calls: nothing to look at
            y, h_n, c_n, _ = _core.forward_layers(
                self._cell, x, self._layers(), None, None, None, self.batch_first, False, 0, 0.0, 0
            )
            return y, (h_n if c_n is None else (h_n, c_n))
        call = Call(self, x, state, lengths, dropout, None, reset_mask, reset_state, return_all_states)
        return call.run(False, 0)

    def vjp(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = True,
        seed: Seed = None,
        checkpoint: int | None = None,
        input_grad: bool = True,
        retain: bool = False,
        reset_mask: ArrayLike | None = None,
        reset_state: Any = None,
        return_all_states: bool = False,
    ) -> tuple[Any, Pullback]:
        """Training: outputs, and what gives their gradients.

        Parameters
        ----------
        x, state, lengths, reset_mask, reset_state, return_all_states
            As in the call. `x` and the parameters are held by reference: changing them before the pullback has run is
            an error that can't be noticed.
        dropout : bool
            Apply dropout between layers, and what a variant drops; else zoneout by its expectation, and the rest not.
        seed : None, int or numpy.random.Generator
            For the dropout masks.
        checkpoint : int, optional
            Save less and compute it again in the pullback (about a third more arithmetic, the same bits): the cell
            states of every `checkpoint` steps, rounded up to whole chunks of the schedule.
        input_grad : bool
            Compute the gradient of `x`; else it is None, as it is for a one-hot `x`.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        (y, state_n)
            As from the call; `y` is read-only where it is saved memory.
        pullback : callable
            `pullback(dy=None, dstate=None, dstates=None)` adds to `grads` and returns `(dx, dstate_0)`. A gradient that
            is None counts as zero; `dstates` are those of `states`. `dy` past a row's length is ignored, `dx`
            there is zero.
        """
        checkpoint = _check.optional_positive_int(checkpoint, "checkpoint")
        call = Call(self, x, state, lengths, dropout, seed, reset_mask, reset_state, return_all_states)
        outputs = call.run(True, checkpoint or 0)
        return outputs, Pullback(call.pullback(input_grad, retain), type(self).__name__, retain)

    def stream(self, batch_size: int = 1) -> Stream:
        """Run this layer one time step a call, with its weights packed once.

        Parameters
        ----------
        batch_size : int
            B: rows that move on together.

        Returns
        -------
        Stream
            With the methods `step`, `run`, `reset` and `refresh`.

        Raises
        ------
        ValueError
            The layer is bidirectional.
        """
        from fastrnn.nn.stream import Stream

        return Stream(self, batch_size)

    # ---- compiled code: see `fastrnn.jit.native`

    @property
    def _numba_type_(self) -> Any:
        """Numba asks for it when a layer comes to an ``@njit`` function."""
        from fastrnn.jit.native import layer_type

        if type(self).__call__ is not Recurrent.__call__:
            raise AttributeError(f"{type(self).__name__} has a call of its own, which compiled code can't run")
        _check.native_plain(not self.variant.in_kernel, type(self).__name__)
        return layer_type(self.dtype, self._cell == _core.LSTM)

    @property
    def _native_address(self) -> int:
        from fastrnn.jit.native import layer_address

        return layer_address(self, self._cell, self._layers(), self.batch_first)

    def config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "dtype": self.dtype.name,
            **self.variant.config(),
        }
