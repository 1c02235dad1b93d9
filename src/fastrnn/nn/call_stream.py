"""Streams of cells that have no compiled stream: each step is a call of the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.nn._one_hot import OneHot
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.sequential import Sequential
from fastrnn.nn.stream import Stream, _members, _nested, _width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.nn._layer import Layer


class CallStream(Stream):
    """A stream of a variant of a built-in cell, or of a user's cell.

    It is used as every stream is, and gives bitwise what the layer gives for the whole sequence; but a step allocates,
    and the weights are those of the moment.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> lstm = fr.LSTM(3, 5, peephole=True, seed=0)
    >>> s = lstm.stream()
    >>> x = np.ones((4, 3), np.float32)
    >>> y = [s.step(x_t) for x_t in x]
    >>> np.array_equal(y, lstm(x)[0])
    True
    """

    def __init__(self, layer: Layer, batch_size: int = 1) -> None:
        self.batch_size = _check.positive_int(batch_size, "batch_size")
        self._layer = layer
        self._members = list(_members(layer))
        recurrent = [member for member in self._members if isinstance(member, Recurrent)]
        self._dtype = recurrent[0].dtype
        self._batch_first = recurrent[0].batch_first
        self._integers = isinstance(self._members[0], Embedding | OneHot)
        self._states = [
            tuple(
                np.zeros((member.num_layers, self.batch_size, member.hidden_size if k else member._h_size), self._dtype)
                for k in range(member.num_states)
            )
            for member in recurrent
        ]

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """The size of x's last axis."""
        return _width(self._members)

    def refresh(self) -> None:
        """Nothing has to be packed again."""

    # ---- states ----------------------------------------------------------------------------------------------------

    def _nested(self, copy: bool) -> Any:
        states = iter(self._states)
        return _nested(self._layer, lambda member: tuple(s.copy() if copy else s for s in next(states)))

    @property
    def state(self) -> Any:
        """A copy of the state in the layer's form; assigning is `reset(state)`."""
        return self._nested(True)

    @state.setter
    def state(self, state: Any) -> None:
        self.reset(state)

    def _given(self, layer: Recurrent, state: Any, count: int, name: str) -> tuple[Any, ...]:
        several = layer.num_states > 1
        parts = _check.states(state, layer.num_states, name) if several and state is not None else (state,)
        parts = parts if state is not None else (None,) * layer.num_states

        def one(k: int, value: Any) -> Any:
            shape = (layer.num_layers, count, layer.hidden_size if k else layer._h_size)
            alone = self.batch_size == 1 and np.ndim(value) == 2
            return _check.state(value, shape, alone, self._dtype, f"{name}[{k}]" if several else name)

        return tuple(one(k, value) for k, value in enumerate(parts))

    def _write(self, found: list[tuple[Any, ...]], where: NDArray[Any] | None) -> None:
        rows = slice(None) if where is None else where
        for mine, given in zip(self._states, found, strict=True):
            for state, value in zip(mine, given, strict=True):
                state[:, rows] = 0 if value is None else value

    def _keep(self, layer: Layer, state: Any, at: list[int]) -> None:
        """Take over what a call returned."""
        if isinstance(layer, Recurrent):
            self._states[at[0]] = state if isinstance(state, tuple) else (state,)
            at[0] += 1
            return
        parts = [child for child in layer.children.values() if child.is_recurrent]
        states = state if isinstance(layer, Sequential) else (state,)
        for part, given in zip(parts, states, strict=True):
            self._keep(part, given, at)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _call(self, x: NDArray[Any], out: Any, pick: Any) -> Any:
        """The layer on a block [T, B, ·], and of its outputs what `pick` takes."""
        y, state = self._layer(x, self._nested(False))
        y = pick(y)
        if out is None:
            found: NDArray[Any] = np.ascontiguousarray(y) if y.flags.writeable else y.copy()
        else:
            found = _check.output(out, y.shape, self._dtype, "out")
            found[...] = y
        self._keep(self._layer, state, [0])
        return found

    def step(self, x: Any, out: Any = None) -> Any:
        """Move on by one time step; see `Stream.step`."""
        x = self._accept(x, False)
        alone = x.ndim == (0 if self._integers else 1)
        rows = x.reshape(self.batch_size, *(() if self._integers else (x.shape[-1],)))
        time = 1 if self._batch_first else 0

        def pick(y: NDArray[Any]) -> NDArray[Any]:
            y = y[:, 0] if time else y[0]
            return y[0] if alone else y

        return self._call(np.expand_dims(rows, time), out, pick)

    def run(self, x: Any, out: Any = None) -> Any:
        """Move on by a block of time steps; see `Stream.run`."""
        x = self._accept(x, True)
        alone = x.ndim == (1 if self._integers else 2)
        batch = 0 if self._batch_first else 1
        return self._call(np.expand_dims(x, batch) if alone else x, out, lambda y: y.take(0, batch) if alone else y)
