"""RNNCell, LSTMCell and GRUCell: one step at a time, for loops that the caller writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn._variant import RNN_CELLS
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Cell(Layer):
    """One step: `state = cell(x, state)`."""

    is_cell = True
    dtype: np.dtype[Any]
    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool, cell: int, dtype: DTypeLike, seed: Seed) -> None:
        super().__init__(dtype)
        self.input_size = _check.positive_int(input_size, "input_size")
        self.hidden_size = _check.positive_int(hidden_size, "hidden_size")
        self.bias = bool(bias)
        self._cell = cell
        rng = generator(seed)
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.hidden_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            self._add_param(name, init.uniform(shape, fan=self.hidden_size, dtype=self.dtype, seed=rng))

    def _arrays(self, arrays: dict[str, Any]) -> tuple[tuple[Any, ...]]:
        return ((*(arrays.get(name) for name in _NAMES), None),)

    def _states(self, state: Any, batch: int, unbatched: bool, name: str) -> tuple[Any, Any]:
        shape = (1, batch, self.hidden_size)
        if self._cell != _core.LSTM:
            return _check.state(state, shape, unbatched, self.dtype, name, 1), None
        h, c = _check.pair(state, name)
        return (
            _check.state(h, shape, unbatched, self.dtype, f"{name}[0]", 1),
            _check.state(c, shape, unbatched, self.dtype, f"{name}[1]", 1),
        )

    def _as_state(self, h: NDArray[Any], c: Any, unbatched: bool) -> Any:
        h = h[0, 0] if unbatched else h[0]
        if self._cell != _core.LSTM:
            return h
        return h, (c[0, 0] if unbatched else c[0])

    def _empty(self, batch: int) -> tuple[NDArray[Any], Any]:
        h = np.empty((1, batch, self.hidden_size), self.dtype)
        return h, np.empty_like(h) if self._cell == _core.LSTM else None

    def _step(self, x: Any, state: Any, save: bool) -> tuple[Any, Any, bool, int]:
        x = _check.cell_input(x, self.dtype, self.input_size)
        unbatched = x.ndim == 1
        x = x[None, None] if unbatched else x[None]
        batch = x.shape[1]
        h_0, c_0 = self._states(state, batch, unbatched, "state")
        h_n, c_n = self._empty(batch)
        y = np.empty((1, batch, self.hidden_size), self.dtype)
        weights = self._arrays(self._params)
        saved = _core.forward(self._cell, x, weights, h_0, c_0, None, False, False, y, h_n, c_n, save, 0)
        return self._as_state(h_n, c_n, unbatched), saved, unbatched, batch

    def __call__(self, x: ArrayLike, state: Any = None) -> Any:
        """One step of inference.

        Parameters
        ----------
        x : array, [B, input_size], or [input_size] for one row
        state : array [B, hidden_size] (LSTM: a tuple of two), optional
            Zeros by default.

        Returns
        -------
        state : as `state`
            After the step.
        """
        return self._step(x, state, False)[0]

    def vjp(
        self, x: ArrayLike, state: Any = None, *, input_grad: bool = True, retain: bool = False
    ) -> tuple[Any, Pullback]:
        """One step of training.

        Parameters
        ----------
        x, state
            As in the call; `x` is held by reference.
        input_grad : bool
            Compute the gradient of `x`; else it is None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        state : as from the call
        pullback : callable
            `pullback(dstate)` adds to `grads` and returns `(dx, dstate_0)`.
        """
        outputs, saved, unbatched, batch = self._step(x, state, True)

        def run(dstate: Any = None) -> tuple[Any, Any]:
            dh_n, dc_n = self._states(dstate, batch, unbatched, "dstate")
            dh_0, dc_0 = self._empty(batch)
            with self._lock:
                grads = self._arrays(self._grads)
                dx = saved.backward(None, dh_n, dc_n, grads, input_grad, dh_0, dc_0, retain)
            if dx is not None:
                dx = dx[0, 0] if unbatched else dx[0]
            return dx, self._as_state(dh_0, dc_0, unbatched)

        return outputs, Pullback(run, type(self).__name__, retain)

    def config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }


class LSTMCell(_Cell):
    """One step of an LSTM: `(h, c) = cell(x, (h, c))`; the equations are those of `LSTM`.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    dtype : dtype
    seed : None, int or numpy.random.Generator

    Notes
    -----
    `params` are PyTorch's: `weight_ih` [4·H, I], `weight_hh` [4·H, H], `bias_ih`, `bias_hh` [4·H].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> cell = fr.LSTMCell(3, 5, seed=0)
    >>> h, c = cell(np.ones((2, 3), np.float32))
    >>> h, c = cell(np.ones((2, 3), np.float32), (h, c))
    >>> h.shape
    (2, 5)
    """

    gates = 4

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, dtype: DTypeLike = np.float32, seed: Seed = None
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, _core.LSTM, dtype, seed)


class GRUCell(_Cell):
    """One step of a GRU: `h = cell(x, h)`; the equations are those of `GRU`.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    reset_after : bool
        As for `GRU`.
    dtype : dtype
    seed : None, int or numpy.random.Generator

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> cell = fr.GRUCell(3, 5, seed=0)
    >>> h, pullback = cell.vjp(np.ones((2, 3), np.float32))
    >>> dx, dh_0 = pullback(np.ones_like(h))
    >>> dx.shape, dh_0.shape
    ((2, 3), (2, 5))
    """

    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, reset_after: bool = True,
        dtype: DTypeLike = np.float32, seed: Seed = None,
    ) -> None:  # fmt: skip
        self.reset_after = bool(reset_after)
        cell = _core.GRU_AFTER if self.reset_after else _core.GRU_BEFORE
        super().__init__(input_size, hidden_size, bias, cell, dtype, seed)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "reset_after": self.reset_after}


class RNNCell(_Cell):
    """One step of a simple recurrent network: `h = cell(x, h)`; the equation is that of `RNN`.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool
    nonlinearity : "tanh", "relu" or "sigmoid"
    dtype : dtype
    seed : None, int or numpy.random.Generator

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> cell = fr.RNNCell(3, 5, seed=0)
    >>> cell(np.ones(3, np.float32)).shape
    (5,)
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, nonlinearity: str = "tanh",
        dtype: DTypeLike = np.float32, seed: Seed = None,
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity
        cell = _check.choice(nonlinearity, RNN_CELLS, "nonlinearity")
        super().__init__(input_size, hidden_size, bias, cell, dtype, seed)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nonlinearity": self.nonlinearity}
