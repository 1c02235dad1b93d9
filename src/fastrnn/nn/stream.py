"""Stream: a layer that moves on by one time step a call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._one_hot import OneHot
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.activations import Softmax, _Elementwise
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.layer_norm import LayerNorm
from fastrnn.nn.linear import Linear
from fastrnn.nn.sequential import Sequential

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastrnn.nn._layer import Layer


class Stream(_core.Stream):
    """A recurrent layer, or a model with some, one time step at a time.

    `layer.stream(batch_size)` makes one. Weights are packed once and states stay inside: a step allocates nothing,
    takes no lock, wakes no thread, and gives bitwise what the layer gives for the whole sequence.

    Functions that Numba compiles may call a stream as Python does: see `docs/numba.md`.

    A stream belongs to one thread. A call that finds another thread inside raises RuntimeError, and changes nothing.
    Training changes the layer's weights, not the stream's copy: see `refresh`. A stream can't be pickled; its `state`
    can.

    Parameters
    ----------
    layer : RNN, LSTM, GRU, CustomRNN, Sequential or LanguageModel
        In one direction, of any variant; zoneout is by its expectation, and nothing is dropped.
        In a `Sequential` also `Linear`, activations, `LayerNorm`, `Dropout` (which does nothing) and,
        in the first place, `Embedding` or `OneHot`.
    batch_size : int
        B: rows that move on together.

    Attributes
    ----------
    batch_size : int

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> lstm = fr.LSTM(3, 5, seed=0)
    >>> s = lstm.stream()
    >>> x = np.ones((100, 3), np.float32)
    >>> out = np.empty(5, np.float32)
    >>> for x_t in x:
    ...     y_t = s.step(x_t, out=out)  # y_t is out
    >>> y, (h_n, c_n) = lstm(x)
    >>> np.array_equal(y_t, y[-1]), np.array_equal(s.state[1][:, 0], c_n)
    (True, True)
    """

    def __new__(cls, layer: Layer | None = None, batch_size: int = 1) -> Stream:
        """Cells of users that run uncompiled raise what their functions raise."""
        if (
            cls is Stream
            and layer is not None
            and any(
                isinstance(member, Recurrent) and member.variant.in_python(member.dtype) for _, member in _flat(layer)
            )
        ):
            from fastrnn.nn.guarded_stream import GuardedStream

            cls = GuardedStream
        return super().__new__(cls)

    def __init__(self, layer: Layer, batch_size: int = 1) -> None:
        self.batch_size = _check.positive_int(batch_size, "batch_size")
        self._layer = layer
        self._members = list(_members(layer))
        self._dtype: np.dtype[Any] = next(m.dtype for m in self._members if isinstance(m, Recurrent))
        self._batch_first = next(m.batch_first for m in self._members if isinstance(m, Recurrent))
        self._first: list[int] = []  # of each recurrent member, the number of its lowest layer
        sizes = [(m.num_layers, m._h_size, m.hidden_size) for m in self._members if isinstance(m, Recurrent)]
        self._rows = self._described()
        super().__init__(self._rows, self.batch_size, self._dtype, self._batch_first, np.array(sizes, np.int64))

    def _described(self) -> list[tuple[Any, ...]]:
        """The layers as `_core.Stream` takes them."""
        rows: list[tuple[Any, ...]] = []
        self._first = []
        for member in self._members:
            if isinstance(member, Recurrent):
                self._first.append(len(rows))
            rows += _layers(member, rows[-1][4] if rows else _width(self._members))
        return rows

    def refresh(self) -> None:
        """Pack the layer's weights again, after training has changed them. The state stays."""
        for kept, now in zip(self._rows, self._described(), strict=True):
            for array, value in zip(kept[6:], now[6:], strict=True):
                if isinstance(array, np.ndarray) and array is not value:
                    array[...] = value  # computed from parameters, as weights of low rank are
        self.pack()

    # ---- states ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """A copy of the state in the layer's form; assigning is `reset(state)`.

        For an LSTM (h [num_layers, B, ·], c [num_layers, B, H]), for GRU and RNN one array, for a user's cell one
        array or a tuple of them; for a Sequential a tuple with one of these for each recurrent layer.
        """
        found = [
            tuple(np.empty(shape, self._dtype) for shape in _state_shapes(member, self.batch_size))
            for member in self._members
            if isinstance(member, Recurrent)
        ]
        self.read_states(self._by_layer(found))
        states = iter(found)
        return _nested(self._layer, lambda member: next(states))

    @state.setter
    def state(self, state: Any) -> None:
        self.reset(state)

    def reset(self, state: Any = None, rows: ArrayLike | None = None) -> None:
        """Set the state, or a part of it.

        Parameters
        ----------
        state : optional
            In the layer's form, with as many rows as are set: what `state` or a call of the layer gives, copied. None
            for zeros. With a batch size of one also without the batch axis.
        rows : integers or bools [B], optional
            The rows to set, such as the environments of a batch whose episode has ended; all of them by default.

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it. Nothing has changed then.
        """
        where = None if rows is None else _check.rows(rows, self.batch_size)
        count = self.batch_size if where is None else len(where)
        found: list[tuple[Any, ...]] = []

        def read(layer: Layer, state: Any, name: str) -> None:
            if isinstance(layer, Recurrent):
                found.append(self._given(layer, state, count, name))
                return
            parts = [child for child in layer.children.values() if child.is_recurrent]
            if not isinstance(layer, Sequential):
                return read(parts[0], state, name)
            for k, (part, given) in enumerate(zip(parts, _check.member_states(state, len(parts), name), strict=True)):
                read(part, given, f"{name}[{k}]")

        read(self._layer, state, "state")
        self.write_states(self._by_layer(found), where)

    def _given(self, layer: Recurrent, state: Any, count: int, name: str) -> tuple[Any, ...]:
        """The states of one recurrent layer as contiguous [num_layers, count, ·]; None for zeros."""
        several = layer.num_states > 1
        parts = _check.states(state, layer.num_states, name) if several else (state,)
        return tuple(
            _check.state(
                part,
                shape,
                self.batch_size == 1 and np.ndim(part) == 2,
                self._dtype,
                f"{name}[{k}]" if several else name,
            )
            for k, (part, shape) in enumerate(zip(parts, _state_shapes(layer, count), strict=True))
        )

    def _by_layer(self, states: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """What `_core` takes: the number of each cell among the stream's layers, and its states."""
        recurrent = [member for member in self._members if isinstance(member, Recurrent)]
        return [
            (first + k, *(None if part is None else part[k] for part in parts))
            for first, member, parts in zip(self._first, recurrent, states, strict=True)
            for k in range(member.num_layers)
        ]

    @cached_property
    def _numba_type_(self) -> Any:
        """Numba asks for it when a stream comes to an ``@njit`` function: see `fastrnn.jit.native`."""
        from fastrnn.jit.native import stream_type

        most = max(member.num_states for member in self._members if isinstance(member, Recurrent))
        if most > 2:
            raise TypeError(_check.native_states(most))
        form = _nested(self._layer, lambda member: ("h", "c")[: member.num_states])
        return stream_type(self._dtype, isinstance(self._members[0], Embedding | OneHot), form)

    # ---- arguments that `_core` didn't take as they are ----------------------------------------------------------

    def _accept(self, x: Any, block: bool) -> NDArray[Any]:
        first, batch = self._members[0], self.batch_size
        if isinstance(first, Embedding | OneHot):
            x = _check.stream_integers(x, batch, self._batch_first) if block else _check.step_integers(x, batch)
            what = "num_embeddings" if isinstance(first, Embedding) else "num_classes"
            _check.in_range(x, getattr(first, what), what, "x")
        elif block:
            x = _check.sequence(x, self._dtype, self._batch_first, self.input_size)
            _check.stream_batch(x, batch, self._batch_first)
        else:
            x = _check.step_input(x, self._dtype, batch, self.input_size)
        return np.require(x, requirements=("C", "A"))

    def _accept_out(self, out: Any, shape: tuple[int, ...] | None, x: Any = None) -> None:
        if shape is None:
            if x is out:
                raise _check.overlapping_rows("out", out)
            _check.apart(out, "out", x=x)
            return
        _check.output(out, shape, self._dtype, "out")
        raise _check.unaligned("out")

    def __repr__(self) -> str:
        return f"Stream({self._layer!r}, batch_size={self.batch_size})"


def _state_shapes(layer: Recurrent, rows: int) -> list[tuple[int, int, int]]:
    return [(layer.num_layers, rows, layer.hidden_size if k else layer._h_size) for k in range(layer.num_states)]


def _nested(layer: Layer, state_of: Any) -> Any:
    """States in the form that `layer` returns them in."""
    if isinstance(layer, Recurrent):
        state = state_of(layer)
        return state if len(state) > 1 else state[0]
    parts = tuple(_nested(child, state_of) for child in layer.children.values() if child.is_recurrent)
    return parts if isinstance(layer, Sequential) else parts[0]


# ---- what a stream is made of --------------------------------------------------------------------------------

_ONES = (Linear, Softmax, LayerNorm, _Elementwise)  # each time step by itself


def _runs_as(layer: Layer, base: type[Any]) -> bool:
    """A `base` whose call nobody has changed."""
    return isinstance(layer, base) and type(layer).__call__ is base.__call__


def _in_order(layer: Layer) -> bool:
    """Whether a call hands `children` one after the other what the one before returned: a class says so by
    `_in_order = True`, and nobody has changed its call."""
    owner = next((base for base in type(layer).__mro__ if vars(base).get("_in_order") is True), None)
    return owner is not None and type(layer).__call__ is owner.__call__


def _members(layer: Layer) -> Iterator[Layer]:
    """The layers that have something to do in a stream, in order, out of all Sequentials."""
    found = list(_flat(layer))
    if not any(isinstance(member, Recurrent) for _, member in found):
        owner = type(layer).__name__
        recurrent = any(member.is_recurrent for _, member in found)
        raise _check.no_step(owner) if recurrent else _check.nothing_recurrent(owner)
    size = None
    for k, (position, member) in enumerate(found):
        name = type(member).__name__ + (f" at position {position}" if position else "")
        if isinstance(member, Recurrent) and _runs_as(member, Recurrent):
            if member.bidirectional:
                raise _check.bidirectional_stream(name)
        elif _runs_as(member, Embedding) or _runs_as(member, OneHot):
            if k:
                raise _check.late_embedding(name)
        elif not any(_runs_as(member, base) for base in _ONES):
            raise _check.no_step(name)
        size = _check.fits_below(name, size, *_sizes(member))
        yield member


def _flat(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """(position, layer), "1.0" being the first of the Sequential that is the second."""
    if _in_order(layer):
        for position, child in layer.children.items():
            yield from _flat(child, f"{prefix}{position}.")
    elif not _runs_as(layer, Dropout):
        yield prefix.rstrip("."), layer


def _sizes(member: Layer) -> tuple[int | None, int | None]:
    """Sizes of the last axis of input and output; None for what takes any, or no axis."""
    if isinstance(member, Recurrent):
        return member.input_size, member._h_size
    if isinstance(member, Linear):
        return member.in_features, member.out_features
    if isinstance(member, LayerNorm):
        return member.normalized_shape, member.normalized_shape
    if isinstance(member, Embedding):
        return None, member.embedding_dim
    if isinstance(member, OneHot):
        return None, member.num_classes
    return None, None


def _width(members: list[Layer]) -> int:
    """The size of x's last axis: what the first layer with a size takes."""
    return next(size for member in members for size in _sizes(member) if size is not None)


def _layers(member: Layer, width: int) -> Iterator[tuple[Any, ...]]:
    """One layer as `_core.Stream` takes it: kind, function, I, H, P, alpha, five weights, and what a variant adds."""
    params, nothing = member._params, (None,) * 5
    if isinstance(member, Recurrent):
        options = _core.Options(**member._kernel_options(None)) if member.variant.in_kernel else None
        for ((w, r, b_w, b_r, m, *given),) in member._by_layer(params):
            sizes = w.shape[1], member.hidden_size, member._h_size
            more = () if options is None else (options, *given)
            yield (_core.STREAM_CELL, member._cell, *sizes, 0.0, w, r, m, b_w, b_r, *more)
    elif isinstance(member, Linear):
        size = member.out_features
        weights = (params["weight"], None, None, params.get("bias"), None)
        yield (_core.STREAM_LINEAR, 0, member.in_features, size, size, 0.0, *weights)
    elif isinstance(member, Embedding):
        size = member.embedding_dim
        yield (_core.STREAM_EMBEDDING, 0, member.num_embeddings, size, size, 0.0, params["weight"], *nothing[1:])
    elif isinstance(member, OneHot):
        size = member.num_classes
        yield (_core.STREAM_EMBEDDING, 0, size, size, size, 0.0, *nothing)
    elif isinstance(member, LayerNorm):
        weights = (params["weight"], None, None, params["bias"], None)
        yield (_core.STREAM_NORM, 0, width, width, width, member.eps, *weights)
    elif isinstance(member, _Elementwise):
        yield (_core.STREAM_ACTIVATION, member._kernel, width, width, width, member._alpha, *nothing)
    else:
        yield (_core.STREAM_SOFTMAX, 0, width, width, width, 0.0, *nothing)
