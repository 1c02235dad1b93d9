"""LayerStream: what `Stream` is for RNN, LSTM and GRU, for every model whose layers take one time step at a time."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fastrnn import _check
from fastrnn.nn._one_hot import OneHot
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn._scan import Scan
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.sequential import Sequential
from fastrnn.nn.stream import _ONES, Stream, _flat, _runs_as, _sizes, _state_shapes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastrnn.nn._layer import Layer


class LayerStream:
    """A model with SRU, QRNN, minGRU, minLSTM, LRU or IndRNN, one time step at a time.

    `layer.stream(batch_size)` makes one. It has the methods of `Stream`, calls a copy of the layer for each step, and
    gives bitwise what the layer gives for the whole sequence. A stream belongs to one thread.

    Parameters
    ----------
    layer : SRU, QRNN, MinGRU, MinLSTM, LRU, IndRNN, Sequential or LanguageModel
        In one direction. In a `Sequential` also what a `Stream` takes.
    batch_size : int
        B: rows that move on together.

    Attributes
    ----------
    batch_size : int

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.Sequential(fr.MinGRU(3, 5, seed=0), fr.Linear(5, 2, seed=0))
    >>> s = model.stream()
    >>> x = np.ones((10, 3), np.float32)
    >>> steps = [s.step(x_t) for x_t in x]
    >>> y, state = model(x)
    >>> np.array_equal(steps, y), np.array_equal(s.state[0][:, 0], state[0])
    (True, True)
    """

    def __init__(self, layer: Layer, batch_size: int = 1) -> None:
        self.batch_size = _check.positive_int(batch_size, "batch_size")
        members = _members(layer)
        first = next(m for m in members if isinstance(m, Scan | Recurrent))
        self._of = layer
        self._layer = copy.deepcopy(layer)
        self._freeze()
        self._dtype, self._batch_first = first.dtype, first.batch_first
        self._first = members[0]
        self._width = first.input_size
        for member in members:
            if (size := _size(member)[0]) is not None:
                self._width = size
                break
        self._state = self._zeros(self._layer, self.batch_size)

    def refresh(self) -> None:
        """Copy the layer's weights again, after training has changed them. The state stays."""
        self._layer.load_state_dict(self._of.params)
        self._freeze()

    def _freeze(self) -> None:
        for _, member in _flat(self._layer):
            if isinstance(member, Scan):
                member._frozen = {}

    @property
    def _numba_type_(self) -> NoReturn:
        """Numba asks for it when a stream comes to an ``@njit`` function."""
        raise TypeError(_check.native_steps(f"stream of {type(self._of).__name__}"))

    # ---- steps -----------------------------------------------------------------------------------------------------

    def step(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Take a step.

        Parameters
        ----------
        x : array, [B, I], or [I] with one row
            Integers, [B] or one, where the first layer takes integers.
        out : array, optional
            Takes y.

        Returns
        -------
        y : array, [B, ·], or [·] with one row where x has no batch axis
        """
        if self._integers:
            found = self._in_range(_check.step_integers(x, self.batch_size))
            one = found.ndim == 0
            block = found.reshape(-1, 1) if self._batch_first else found.reshape(1, -1)
        else:
            found = _check.step_input(x, self._dtype, self.batch_size, self._width)
            one = found.ndim == 1
            rows = found[None] if one else found
            block = rows[:, None] if self._batch_first else rows[None]
        y = self._call(block)
        y = y[:, 0] if self._batch_first else y[0]
        return _into(out, y[0] if one else y, self._dtype)

    def run(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Take several steps at once.

        Parameters
        ----------
        x : array, [T, B, I] ([B, T, I] with `batch_first`), or [T, I] with one row
            Integers, [T, B] or [T], where the first layer takes integers.
        out : array, optional
            Takes y.

        Returns
        -------
        y : array, in the layout of x
        """
        if self._integers:
            found = self._in_range(_check.stream_integers(x, self.batch_size, self._batch_first))
            one = found.ndim == 1
        else:
            found = _check.sequence(x, self._dtype, self._batch_first, self._width)
            _check.stream_batch(found, self.batch_size, self._batch_first)
            one = found.ndim == 2
        batch = 0 if self._batch_first else 1
        y = self._call(np.expand_dims(found, batch) if one else found)
        return _into(out, y.squeeze(batch) if one else y, self._dtype)

    def _call(self, block: NDArray[Any]) -> NDArray[Any]:
        y: NDArray[Any]
        y, self._state = self._layer(block, self._state)
        return y

    @property
    def _integers(self) -> bool:
        return isinstance(self._first, Embedding | OneHot)

    def _in_range(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        what = "num_embeddings" if isinstance(self._first, Embedding) else "num_classes"
        _check.in_range(x, getattr(self._first, what), what, "x")
        return x

    # ---- states ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """A copy of the state in the layer's form; assigning is `reset(state)`."""
        return copy.deepcopy(self._state)

    @state.setter
    def state(self, state: Any) -> None:
        self.reset(state)

    def reset(self, state: Any = None, rows: ArrayLike | None = None) -> None:
        """Set the state, or a part of it.

        Parameters
        ----------
        state : optional
            In the layer's form, with as many rows as are set, copied. None for zeros. With a batch size of one also
            without the batch axis.
        rows : integers or bools [B], optional
            The rows to set; all of them by default.

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it. Nothing has changed then.
        """
        where = None if rows is None else _check.rows(rows, self.batch_size)
        given = self._given(self._layer, state, self.batch_size if where is None else len(where), "state")
        if where is None:
            self._state = copy.deepcopy(given)
            return
        self._state = copy.deepcopy(self._state)  # a call may have handed out these arrays' memory
        for array, value in zip(_arrays(self._state), _arrays(given), strict=True):
            array[:, where] = value

    def _zeros(self, layer: Layer, count: int) -> Any:
        return self._given(layer, None, count, "state")

    def _given(self, layer: Layer, state: Any, count: int, name: str) -> Any:
        """The state in the layer's form, its arrays [·, count, ·], zeros for what is None."""
        if isinstance(layer, Scan | Recurrent):
            return self._of_layer(layer, state, count, name)
        parts = [child for child in layer.children.values() if child.is_recurrent]
        if not isinstance(layer, Sequential):
            return self._given(parts[0], state, count, name)
        states = _check.member_states(state, len(parts), name)
        return tuple(
            self._given(part, one, count, f"{name}[{k}]")
            for k, (part, one) in enumerate(zip(parts, states, strict=True))
        )

    def _of_layer(self, layer: Scan | Recurrent, state: Any, count: int, name: str) -> Any:
        shapes = layer._state_shapes(count) if isinstance(layer, Scan) else _state_shapes(layer, count)
        parts = (state,) if len(shapes) == 1 else _check.state_parts(state, len(shapes), name)
        found = []
        for k, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
            one = name if len(shapes) == 1 else f"{name}[{k}]"
            unbatched = self.batch_size == 1 and np.ndim(part) == 2
            array = _check.state(part, shape, unbatched, self._dtype, one)
            found.append(np.zeros(shape, self._dtype) if array is None else array)
        return found[0] if len(found) == 1 else tuple(found)

    def __repr__(self) -> str:
        return f"LayerStream({self._of!r}, batch_size={self.batch_size})"


def stream_of(layer: Layer, batch_size: int) -> Stream | LayerStream:
    """The stream that a model made of layers gets: compiled where each of them has a compiled step."""
    scans = any(isinstance(member, Scan) for _, member in _flat(layer))
    return LayerStream(layer, batch_size) if scans else Stream(layer, batch_size)


def _arrays(state: Any) -> list[NDArray[Any]]:
    return [array for part in state for array in _arrays(part)] if isinstance(state, tuple) else [state]


def _into(out: NDArray[Any] | None, y: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if out is None:
        return y
    _check.output(out, y.shape, dtype, "out")[...] = y
    return out


def _size(member: Layer) -> tuple[int | None, int | None]:
    """Sizes of the last axis of input and output; None for what takes any, or no axis."""
    if isinstance(member, Scan):
        return member.input_size, member.hidden_size
    return _sizes(member)


def _members(layer: Layer) -> list[Layer]:
    """The layers of a stream in order, out of all Sequentials; refused by name where one has no step."""
    found = list(_flat(layer))
    if not any(member.is_recurrent for _, member in found):
        raise _check.nothing_recurrent(type(layer).__name__)
    size = None
    for k, (position, member) in enumerate(found):
        name = type(member).__name__ + (f" at position {position}" if position else "")
        if _runs_as(member, Scan) or _runs_as(member, Recurrent):
            if getattr(member, "bidirectional", False):
                raise _check.bidirectional_stream(name)
        elif _runs_as(member, Embedding) or _runs_as(member, OneHot):
            if k:
                raise _check.late_embedding(name)
        elif not any(_runs_as(member, base) for base in _ONES):
            raise _check.no_step(name)
        size = _check.fits_below(name, size, *_size(member))
    return [member for _, member in found]
