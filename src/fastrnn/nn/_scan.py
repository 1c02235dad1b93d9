"""What layers with an elementwise recurrence have in common: one product for all steps, then a scan through time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from fastrnn import _check, _core
from fastrnn._one_hot import OneHotArray
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._places import Places
from fastrnn.nn._random import Seed, generator, mask_seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from fastrnn.nn.layer_stream import LayerStream

_BITS = 0xFFFF_FFFF_FFFF_FFFF


class Way(NamedTuple):
    """One direction of one layer in one call: what its equations read and write."""

    params: dict[str, Any]  # by their names without layer and direction
    places: Places
    reverse: bool
    x: NDArray[Any]  # [N, I]
    y: NDArray[Any]  # [T, B, H], a view
    s_0: Any  # [B, ·] or None
    extra_0: Any  # QRNN: the last input of the call before [B, I], or None


class Scan(Layer):
    """SRU, QRNN, minGRU, minLSTM, LRU and IndRNN: names, stacking, directions, dropout between layers, two entries."""

    is_recurrent = True
    takes_lengths = True
    takes_dropout = True
    dtype: np.dtype[Any]
    _code = 0  # of _core.SCAN_…
    _gates = 1  # blocks of the product's rows
    _frozen: dict[int, Any] | None = None  # what is made from parameters that don't change: in a stream

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
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
        self._directions = 2 if self.bidirectional else 1
        rng = generator(seed)
        for layer, suffix in self._suffixes():
            for name, value in self._draw(self._inputs(layer), rng).items():
                self._add_param(name + suffix, value)

    # ---- what a cell says ----------------------------------------------------------------------------------------

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Initial parameters of one direction of one layer."""
        raise NotImplementedError

    def _option(self) -> bool:
        return False

    def _scale(self) -> float:
        return 1.0

    def _channel(self, params: dict[str, Any]) -> Any:
        """Parameters of channels, as `_core` takes them."""
        return None

    def _wide_bias(self, params: dict[str, Any]) -> Any:
        """The bias of the product."""
        return params.get("bias_ih")

    def _add_bias(self, grads: dict[str, Any], db: NDArray[Any]) -> None:
        grads["bias_ih"] += db

    def _skip(self, way: Way) -> Any:
        """SRU: what its highway carries, where that is x itself."""
        return None

    def _saves(self) -> bool:
        """Whether backward needs the states beside the outputs."""
        return False

    # ---- one direction of one layer ------------------------------------------------------------------------------

    def _forward(self, way: Way, s_n: NDArray[Any], extra_n: Any, keep: bool) -> Any:
        """Write y and s_n; with `keep` return what `_backward` needs."""
        W = way.params["weight_ih"]
        z = _core.empty((len(way.x), len(W)), self.dtype)
        _core.gemm(way.x, W.T, z, self._wide_bias(way.params))
        s = _core.empty((len(way.x), self.hidden_size), self.dtype) if keep and self._saves() else None
        steps, lengths, first, step, reverse = way.places.arguments(way.reverse)
        _core.scan_forward(
            self._code, self._option(), steps, lengths, first, step, reverse, z, self._skip(way),
            self._channel(way.params), self._scale(), way.s_0, s_n, way.y, s,
        )  # fmt: skip
        return (z, s) if keep else None

    def _backward(
        self,
        way: Way,
        saved: Any,
        dy: Any,
        ds_n: Any,
        ds_0: NDArray[Any],
        extra: Any,
        grads: Any,
        need: bool,
        retain: bool,
    ) -> Any:
        """Add to `grads`, write ds_0, and return dx [N, I] if it is needed. extra: (dextra_n, dextra_0)."""
        z, s = saved
        dz = _core.empty(z.shape, self.dtype) if retain else z
        skip = self._skip(way)
        dskip = None if skip is None or not need else _core.empty(skip.shape, self.dtype)
        steps, lengths, first, step, reverse = way.places.arguments(way.reverse)
        _core.scan_backward(
            self._code, self._option(), steps, lengths, first, step, reverse, z, skip, self._channel(way.params),
            self._scale(), way.s_0, way.y, s, dy, ds_n, ds_0, dz, dskip, self._channel(grads),
        )  # fmt: skip
        _core.gemm(dz.T, way.x, grads["weight_ih"], accumulate=True)
        if self.bias:
            db = np.zeros(dz.shape[1], self.dtype)
            _core.column_sum(dz, db)
            self._add_bias(grads, db)
        if not need:
            return None
        dx = _core.empty(way.x.shape, self.dtype) if dskip is None else dskip
        return _core.gemm(dz, way.params["weight_ih"], dx, accumulate=dskip is not None)

    # ---- names and states ----------------------------------------------------------------------------------------

    def _inputs(self, layer: int) -> int:
        return self.hidden_size * self._directions if layer else self.input_size

    def _suffixes(self) -> Iterator[tuple[int, str]]:
        for layer in range(self.num_layers):
            for direction in range(self._directions):
                yield layer, f"_l{layer}" + ("_reverse" if direction else "")

    @staticmethod
    def _of(arrays: dict[str, Any], layer: int, direction: int) -> dict[str, Any]:
        """The arrays of one direction of one layer, by their bare names."""
        suffix = f"_l{layer}" + ("_reverse" if direction else "")
        return {name.removesuffix(suffix): array for name, array in arrays.items() if name.endswith(suffix)}

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        return [(self.num_layers * self._directions, batch, self.hidden_size)]

    def _states(self, state: Any, batch: int, unbatched: bool, name: str) -> list[Any]:
        """The state's arrays as contiguous [·, B, ·]; None for zeros."""
        shapes = self._state_shapes(batch)
        if len(shapes) == 1:
            return [_check.state(state, shapes[0], unbatched, self.dtype, name)]
        parts = _check.state_parts(state, len(shapes), name)
        return [
            _check.state(part, shape, unbatched, self.dtype, f"{name}[{k}]")
            for k, (part, shape) in enumerate(zip(parts, shapes, strict=True))
        ]

    @staticmethod
    def _as_state(states: list[NDArray[Any]], unbatched: bool) -> Any:
        found = tuple(state[:, 0] for state in states) if unbatched else tuple(states)
        return found if len(found) > 1 else found[0]

    def _extra(self, states: list[Any], layer: int, direction: int) -> Any:
        """QRNN: where the state holds the last input of a layer."""
        return None

    # ---- the two entries -----------------------------------------------------------------------------------------

    def _input(self, x: Any, lengths: Any) -> tuple[NDArray[Any], bool, Places]:
        if isinstance(x, OneHotArray):
            _check.one_hot(x.shape, self.batch_first, self.input_size)
            x = np.asarray(x).astype(self.dtype, copy=False)
        x = _check.sequence(x, self.dtype, self.batch_first, self.input_size)
        unbatched = x.ndim == 2
        batch_first = self.batch_first and not unbatched
        if unbatched:
            x = x[:, None]
        batch, steps = x.shape[:2] if batch_first else x.shape[1::-1]
        if lengths is not None:
            one = unbatched and np.ndim(lengths) == 0
            lengths = np.ascontiguousarray(_check.lengths([lengths] if one else lengths, batch, steps))
        return x, unbatched, Places(steps, batch, lengths, batch_first)

    def _ways(self, x: Any, y: NDArray[Any], layer: int, states: list[Any], places: Places) -> Iterator[Way]:
        H, y = self.hidden_size, y.swapaxes(0, 1) if places.batch_first else y
        for d in range(self._directions):
            s_0 = None if states[0] is None else states[0][layer * self._directions + d]
            yield Way(
                self._of(self._params, layer, d), places, d == 1, x, y[..., d * H : (d + 1) * H], s_0,
                self._extra(states, layer, d),
            )  # fmt: skip

    def _run(
        self, x: NDArray[Any], states: list[Any], places: Places, rate: float, mask: int, keep: bool
    ) -> tuple[NDArray[Any], list[Any], list[Any]]:
        """(y, the final states, for each layer its ways and what they saved)."""
        final: list[Any] = [np.empty(shape, self.dtype) for shape in self._state_shapes(places.batch)]
        kept: list[Any] = []
        for layer in range(self.num_layers):
            if layer and rate:
                dropped = _core.empty(x.shape, self.dtype)
                _core.dropout(x, rate, (mask + layer) & _BITS, dropped)
                x = dropped
            rows = places.gather(x)
            y = _core.empty((*x.shape[:2], self._directions * self.hidden_size), self.dtype)
            ways = list(self._ways(rows, y, layer, states, places))
            saved = [
                self._forward(way, final[0][layer * self._directions + d], self._extra(final, layer, d), keep)
                for d, way in enumerate(ways)
            ]
            kept.append((ways, saved))
            x = y
        return x, final, kept

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Inference: nothing is saved. Arguments and results are those of `GRU`, the state is that of this layer."""
        x, unbatched, places = self._input(x, lengths)
        states = self._states(state, places.batch, unbatched, "state")
        rate = self.dropout if dropout and self.num_layers > 1 else 0.0
        y, final, _ = self._run(x, states, places, rate, mask_seed(None) if rate else 0, False)
        return (y[:, 0] if unbatched else y), self._as_state(final, unbatched)

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
        """Training: outputs, and what gives their gradients. Arguments and results are those of `GRU.vjp`.

        With a `checkpoint`, of any number of steps, what the pullback needs beside `x` and the outputs of the layers is
        computed again in it: one more product and scan for each layer, the same bits.
        """
        one_hot = isinstance(x, OneHotArray)
        x, unbatched, places = self._input(x, lengths)
        again = _check.optional_positive_int(checkpoint, "checkpoint") is not None
        states = self._states(state, places.batch, unbatched, "state")
        rate = self.dropout if dropout and self.num_layers > 1 else 0.0
        mask = mask_seed(seed) if rate else 0
        y, final, kept = self._run(x, states, places, rate, mask, not again)
        y = (y[:, 0] if unbatched else y).view()
        y.flags.writeable = False
        shape, need = y.shape, input_grad and not one_hot

        def run(dy: ArrayLike | None = None, dstate: Any = None) -> tuple[Any, Any]:
            if dy is not None:
                dy = _check.gradient(dy, self.dtype, shape)
                dy = dy[:, None] if unbatched else dy
            dfinal = self._states(dstate, places.batch, unbatched, "dstate")
            dx, dstates = self._pull(kept, dy, dfinal, places, need, retain, rate, mask)
            return (dx[:, 0] if unbatched and dx is not None else dx), self._as_state(dstates, unbatched)

        return (y, self._as_state(final, unbatched)), Pullback(run, type(self).__name__, retain)

    def _pull(
        self,
        kept: list[Any],
        dy: Any,
        dfinal: list[Any],
        places: Places,
        need: bool,
        retain: bool,
        rate: float,
        mask: int,
    ) -> tuple[Any, list[Any]]:
        D, H = self._directions, self.hidden_size
        dstates: list[Any] = [np.empty(shape, self.dtype) for shape in self._state_shapes(places.batch)]
        with self._lock:
            for layer in range(self.num_layers - 1, -1, -1):
                ways, saved = kept[layer]
                if dy is not None and places.batch_first:
                    dy = dy.swapaxes(0, 1)
                total = None
                for d, way in enumerate(ways):
                    k = layer * D + d
                    found = self._backward(
                        way, self._again(way) if saved[d] is None else saved[d],
                        None if dy is None else dy[..., d * H : (d + 1) * H],
                        None if dfinal[0] is None else dfinal[0][k], dstates[0][k],
                        (self._extra(dfinal, layer, d), self._extra(dstates, layer, d)),
                        self._of(self._grads, layer, d), need or layer > 0, retain or saved[d] is None,
                    )  # fmt: skip
                    total = found if total is None else np.add(total, found, out=total)
                dy = None if total is None else places.scatter(total)
                if layer and rate:
                    _core.dropout(dy, rate, (mask + layer) & _BITS, dy)
        return dy, dstates

    def _again(self, way: Way) -> Any:
        """What forward would have kept."""
        shapes = self._state_shapes(way.places.batch)
        extra = None if way.extra_0 is None and len(shapes) == 1 else np.empty(way.x.shape[1:], self.dtype)
        y = _core.empty(way.y.shape, self.dtype)
        return self._forward(way._replace(y=y), np.empty(shapes[0][1:], self.dtype), extra, True)

    def stream(self, batch_size: int = 1) -> LayerStream:
        """Run this layer one time step a call, with a copy of its weights.

        Parameters
        ----------
        batch_size : int
            B: rows that move on together.

        Returns
        -------
        LayerStream
            With the methods `step`, `run`, `reset` and `refresh`.

        Raises
        ------
        ValueError
            The layer is bidirectional.
        """
        from fastrnn.nn.layer_stream import LayerStream

        return LayerStream(self, batch_size)

    @property
    def _numba_type_(self) -> NoReturn:
        """Numba asks for it when a layer comes to an ``@njit`` function."""
        raise TypeError(_check.native_steps(type(self).__name__))

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


def uniform(rows: int, columns: int, bias: bool, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Weights and biases as those of a Linear."""
    draw: dict[str, Any] = {"fan": columns, "dtype": np.float64, "seed": rng}
    found = {"weight_ih": init.uniform((rows, columns), **draw)}
    if bias:
        found["bias_ih"] = init.uniform((rows,), **draw)
    return found
