"""What RNN, LSTM and GRU have in common: parameters, stacking, directions, and the two entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._one_hot import OneHotArray
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, mask_seed
from fastrnn.nn._tape import RECORDING, current

if TYPE_CHECKING:
    from typing import TypeGuard

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from fastrnn.nn.stream import Stream

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class Recurrent(Layer):
    """What the three have in common: names, stacking, directions, dropout between layers, and the two entries."""

    is_recurrent = True
    takes_lengths = True
    takes_dropout = True
    records_itself = True
    dtype: np.dtype[Any]
    gates = 1  # G

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
        rng = generator(seed)
        for name, shape in self._shapes():
            self._add_param(name, init.uniform(shape, fan=self.hidden_size, dtype=self.dtype, seed=rng))

    @property
    def _h_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _suffixes(self) -> Iterator[tuple[int, str]]:
        for layer in range(self.num_layers):
            for direction in range(self._directions):
                yield layer, f"_l{layer}" + ("_reverse" if direction else "")

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        rows = self.gates * self.hidden_size
        for layer, suffix in self._suffixes():
            inputs = self.input_size if layer == 0 else self._h_size * self._directions
            yield f"weight_ih{suffix}", (rows, inputs)
            yield f"weight_hh{suffix}", (rows, self._h_size)
            if self.bias:
                yield f"bias_ih{suffix}", (rows,)
                yield f"bias_hh{suffix}", (rows,)
            if self.proj_size:
                yield f"weight_hr{suffix}", (self.proj_size, self.hidden_size)

    def _by_layer(self, arrays: dict[str, Any]) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        """For each layer, for each direction, the five arrays that `_core` takes."""
        rows = [tuple(arrays.get(name + suffix) for name in _NAMES) for _, suffix in self._suffixes()]
        n = self._directions
        return tuple(tuple(rows[k : k + n]) for k in range(0, len(rows), n))

    def _layers(self) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        """`_by_layer` of the parameters, whose arrays stay the same for ever."""
        layers: tuple[tuple[tuple[Any, ...], ...], ...] | None = self._layer_params
        if layers is None:
            layers = self._layer_params = self._by_layer(self._params)
        return layers

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_layer_params": None, "_layer_grads": None}

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
        shape = (layers, batch, self._h_size)
        if self._cell != _core.LSTM:
            return _check.state(state, shape, unbatched, self.dtype, name), None
        h, c = _check.pair(state, name)
        return (
            _check.state(h, shape, unbatched, self.dtype, f"{name}[0]"),
            _check.state(c, (layers, batch, self.hidden_size), unbatched, self.dtype, f"{name}[1]"),
        )

    def _initial(self, x: NDArray[Any], state: Any, batch_first: bool, unbatched: bool) -> tuple[Any, Any]:
        if state is None:
            return None, None
        return self._state(state, x.shape[0 if batch_first else 1], unbatched, "state")

    def _as_state(self, h: NDArray[Any], c: Any, unbatched: bool) -> Any:
        if unbatched:
            h = h[:, 0]
            c = None if c is None else c[:, 0]
        return h if self._cell != _core.LSTM else (h, c)

    # ---- the two entries ---------------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = False,
    ) -> tuple[NDArray[Any], Any]:
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
            Apply dropout between layers, with fresh masks.

        Returns
        -------
        y : array, in the layout of `x`, the directions side by side
        state_n : as `state`
            The state at the end of each row.

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it.
        """
        if RECORDING and (tape := current()) is not None:
            recorded: tuple[Any, Any] = tape.call(
                self, (x, state), {"lengths": lengths, **({"dropout": True} if dropout else {})}
            )
            return recorded
        if state is None and lengths is None and not dropout and self._fits(x):  # most calls: nothing to look at
            y, h_n, c_n, _ = _core.forward_layers(
                self._cell, x, self._layers(), None, None, None, self.batch_first, False, 0, 0.0, 0
            )
            return y, (h_n if c_n is None else (h_n, c_n))
        x, unbatched, batch_first, ends = self._input(x, lengths)
        h_0, c_0 = self._initial(x, state, batch_first, unbatched)
        rate = self.dropout if dropout and self.num_layers > 1 else 0.0
        mask = mask_seed(None) if rate else 0
        y, h_n, c_n, _ = _core.forward_layers(
            self._cell, x, self._layers(), h_0, c_0, ends, batch_first, False, 0, rate, mask
        )
        return (y[:, 0] if unbatched else y), self._as_state(h_n, c_n, unbatched)

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
    ) -> tuple[tuple[NDArray[Any], Any], Pullback]:
        """Training: outputs, and what gives their gradients.

        Parameters
        ----------
        x, state, lengths
            As in the call. `x` and the parameters are held by reference: changing them before the pullback has run is
            an error that can't be noticed.
        dropout : bool
            Apply dropout between layers.
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
            `pullback(dy=None, dstate=None)` adds to `grads` and returns `(dx, dstate_0)`. A gradient that is None
            counts as zero. `dy` past a row's length is ignored, `dx` there is zero.
        """
        x, unbatched, batch_first, ends = self._input(x, lengths)
        checkpoint = _check.optional_positive_int(checkpoint, "checkpoint")
        h_0, c_0 = self._initial(x, state, batch_first, unbatched)
        rate = self.dropout if dropout and self.num_layers > 1 else 0.0
        mask = mask_seed(seed) if rate else 0
        y, h_n, c_n, kept = _core.forward_layers(
            self._cell, x, self._layers(), h_0, c_0, ends, batch_first, True, checkpoint or 0, rate, mask
        )
        y = y[:, 0] if unbatched else y
        y.flags.writeable = False
        shape, batch = y.shape, x.shape[0 if batch_first else 1]

        def run(dy: ArrayLike | None = None, dstate: Any = None) -> tuple[Any, Any]:
            if dy is not None:
                dy = _check.gradient(dy, self.dtype, shape)
                dy = dy[:, None] if unbatched else dy
            dh_n, dc_n = (None, None) if dstate is None else self._state(dstate, batch, unbatched, "dstate")
            dx, dh_0, dc_0 = self._pull(kept, dy, dh_n, dc_n, input_grad, retain, rate, mask)
            return (dx[:, 0] if unbatched and dx is not None else dx), self._as_state(dh_0, dc_0, unbatched)

        return (y, self._as_state(h_n, c_n, unbatched)), Pullback(run, type(self).__name__, retain)

    def _pull(
        self, kept: list[Any], dy: Any, dh_n: Any, dc_n: Any, input_grad: bool, retain: bool, rate: float, mask: int
    ) -> tuple[Any, NDArray[Any], Any]:
        with self._lock:
            if self._layer_grads is None:
                self._layer_grads = self._by_layer(self._grads)
            return _core.backward_layers(kept, dy, dh_n, dc_n, self._layer_grads, input_grad, retain, rate, mask)

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
        }
