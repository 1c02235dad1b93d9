"""ValueDecoder: a decoder of numbers that reads the true ones, or its own (teacher forcing, free running)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.custom import CustomRNN
from fastrnn.nn.decoder import AttentionDecoder
from fastrnn.nn.linear import Linear
from fastrnn.nn.recurrent import GRU
from fastrnn.nn.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class ValueDecoder(Layer):
    """Recurrent layers, and a linear map to a value at each step that the next step may read.

        y_t, state = rnn(x_t, state);   v_t = O·y_t + b

    x_t begins with the value of the step before, followed by what is known of step t (covariates). Where `own` says so,
    that value is v_{t−1}, the decoder's own. Gradients flow through it, as in a loop written in PyTorch, unless
    `feedback_grad` is false.

    No loop over steps is needed for most decoders, since O is linear: what a step adds by reading v_{t−1} is
    W_v·(O·y_{t−1} + b), so own steps run as one call of the layer with W_v·O added to its recurrent weights (of an
    `AttentionDecoder`, to those of input feeding), and b as the value. So do their gradients. A GRU, whose reset gate
    stands between, a layer norm, a user's cell and a stack run their own steps one by one, in inference as a stream.

    Parameters
    ----------
    rnn : RNN, LSTM, GRU, CustomRNN (in one direction) or AttentionDecoder
        It reads [value, covariates], time-major. Without what is drawn in training, such as zoneout.
    output : Linear
        From the outputs of `rnn` to values.
    feedback_grad : bool
        Whether gradients flow through values that were read back.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.nn.ValueDecoder(fr.LSTM(1, 8, seed=0), fr.Linear(8, 1, seed=1))
    >>> x = np.zeros((5, 2, 1), np.float32)  # the first value counts; the others are replaced
    >>> v, state = layer(x, own=[False, True, True, True, True])
    >>> x[1:] = v[:-1]  # what was read
    >>> bool(np.allclose(layer(x)[0], v, atol=1e-6))
    True
    >>> (v, state), pullback = layer.vjp(x, own=[False, False, True, True, True])
    >>> dx, dstate, dsource = pullback(np.ones_like(v))
    >>> bool(dx[:2].all()), bool(dx[2:].any())
    (True, False)
    """

    takes_lengths = True
    dtype: np.dtype[Any]

    def __init__(
        self, rnn: Layer | Mapping[str, Any], output: Linear | Mapping[str, Any], feedback_grad: bool = True
    ) -> None:
        layers: list[Any] = [from_spec(part) if isinstance(part, Mapping) else part for part in (rnn, output)]
        _check.value_layers(layers[0], layers[1], (Recurrent, AttentionDecoder), Linear)
        super().__init__(layers[0].dtype)
        self.rnn: Any = layers[0]
        self.output: Linear = layers[1]
        self.feedback_grad = bool(feedback_grad)
        self.attends = isinstance(self.rnn, AttentionDecoder)
        size = self.rnn.output_size if self.attends else self.rnn._h_size
        _check.value_sizes(self.dtype, self.rnn.input_size, size, self.output)

    @property
    def children(self) -> dict[str, Layer]:
        return {"rnn": self.rnn, "output": self.output}

    def config(self) -> dict[str, Any]:
        return {"rnn": to_spec(self.rnn), "output": to_spec(self.output), "feedback_grad": self.feedback_grad}

    # ---- the two entries ---------------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        source: ArrayLike | None = None,
        *,
        own: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        source_lengths: ArrayLike | None = None,
    ) -> tuple[NDArray[Any], Any]:
        """Inference.

        Parameters
        ----------
        x : array, [T, B, input_size of rnn]
            The values of the steps before, then covariates.
        state : optional
            As `rnn` takes it.
        source : array, [S, B, ·]
            For an `AttentionDecoder`.
        own : bools, [T], optional
            Steps that read the decoder's own value instead of the one in x. The first step has none before it.
        lengths, source_lengths : integers, [B], optional
            Values past `lengths` are zero.

        Returns
        -------
        v : array, [T, B, out_features of output]
        state_n : as `state`

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it.
        """
        call = self._arguments(x, source, own, lengths, source_lengths)
        y, state, _ = self._forward(call, state, None)
        return self._values(y, call), state

    def vjp(
        self,
        x: ArrayLike,
        state: Any = None,
        source: ArrayLike | None = None,
        *,
        own: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        source_lengths: ArrayLike | None = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[tuple[NDArray[Any], Any], Pullback]:
        """Training.

        Parameters
        ----------
        x, state, source, own, lengths, source_lengths
            As in the call. `x`, `source` and parameters are held by reference.
        input_grad : bool
            Compute the gradient of x, else it is None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        (v, state_n)
        pullback : callable
            `pullback(dv=None, dstate=None)` adds to `grads` and returns `(dx, dstate_0, dsource)`; dx is zero where
            the decoder's own values were read, dsource None without attention.
        """
        call = self._arguments(x, source, own, lengths, source_lengths)
        if call.own.any() and not self.feedback_grad:  # with the values known, all is teacher forcing
            values = self._values(self._forward(call, state, None)[0], call)
            call.x[1:, :, : self._size][call.own[1:]] = values[:-1][call.own[1:]]
            call = call._replace(given=True)
        y, state_n, parts = self._forward(call, state, retain)
        v = self._values(y, call)

        def run(dv: ArrayLike | None = None, dstate: Any = None) -> tuple[Any, Any, Any]:
            dv = np.zeros(v.shape, self.dtype) if dv is None else _check.gradient(dv, self.dtype, v.shape)
            return self._backward(call, y, parts, _kept(np.ascontiguousarray(dv), call), dstate, input_grad)

        return (v, state_n), Pullback(run, "ValueDecoder", retain)

    # ---- arguments ---------------------------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        return self.output.out_features

    def _arguments(self, x: Any, source: Any, own: Any, lengths: Any, source_lengths: Any) -> _Call:
        x = _check.batch_of_sequences(x, self.dtype, False, self.rnn.input_size, "x", "input_size")
        if not self.attends:
            _check.without_attention(self.rnn, source, None, source_lengths, False)
        if lengths is not None:
            lengths = _check.lengths(lengths, x.shape[1], x.shape[0])
        own = _check.own_steps(own, len(x))
        return _Call(x.copy() if own.any() else x, source, own, lengths, source_lengths, False)

    def _values(self, y: NDArray[Any], call: _Call) -> NDArray[Any]:
        return _kept(self.output._forward(y.reshape(-1, y.shape[-1]), y.shape), call)

    # ---- running -----------------------------------------------------------------------------------------------

    def _forward(self, call: _Call, state: Any, retain: bool | None) -> tuple[NDArray[Any], Any, list[Any]]:
        """(outputs of rnn, its state, what `_backward` needs of each part); retain None: inference."""
        x, own = call.x, call.own
        follows = np.zeros(len(x), bool) if call.given else own.copy()
        folded = self._folded() if follows.any() else None
        if folded is not None:  # O·y + b of the step before: O is in the weights, b is here
            x[own, :, : self._size] = self.output._params.get("bias", 0)
            if self.attends and follows[1]:
                follows[0] = True  # before the first step y is 0
        elif retain is None and follows.any() and call.lengths is None and x.shape[1]:
            return self._stream(x, own, state)
        cuts = [0, *(1 + np.flatnonzero((follows[1:] != follows[:-1]) | (follows[1:] & (folded is None)))), len(x)]
        parts: list[Any] = []
        y = None
        for first, last in pairwise(cuts):
            if folded is None and follows[first]:
                x[first, :, : self._size] = self.output._forward(y[first - 1], y[first - 1].shape)  # type: ignore[index]
            layer = folded if folded is not None and follows[first] else self.rnn
            options: dict[str, Any] = {}
            if call.lengths is not None:
                options["lengths"] = np.clip(call.lengths - first, 0, last - first)
            args = [x[first:last], state]
            if self.attends:
                args = [x[first:last], call.source, state, None if y is None else y[first - 1]]
                options["source_lengths"] = call.source_lengths
            if retain is None:
                part, state = layer(*args, **options)
            else:
                (part, state), pull = layer.vjp(*args, **options, retain=retain)
                parts.append((first, last, layer, pull))
            if len(cuts) == 2:
                return part, state, parts
            if y is None:
                y = np.empty((len(x), *part.shape[1:]), self.dtype)
            y[first:last] = part
        return y, state, parts  # type: ignore[return-value]

    def _stream(self, x: NDArray[Any], own: NDArray[np.bool_], state: Any) -> tuple[NDArray[Any], Any, list[Any]]:
        """All steps one by one."""
        stream = Stream(self.rnn, x.shape[1])
        stream.reset(state)
        y = np.empty((*x.shape[:2], self.rnn._h_size), self.dtype)
        for step, values in enumerate(x):
            if own[step]:
                values[:, : self._size] = self.output._forward(y[step - 1], y[step - 1].shape)
            stream.step(values, out=y[step])
        return y, stream.state, []

    def _folded(self) -> Any:
        """The layer as it is where it reads its own values: W_v·O among the weights that y_{t−1} meets."""
        rnn, params = self.rnn, self.rnn._params
        if not self.attends and (rnn.num_layers > 1 or isinstance(rnn, GRU | CustomRNN) or rnn.variant.layer_norm):
            return None
        below, name = params["weight_ih_l0"], "weight_ih_l0" if self.attends else "weight_hh_l0"
        back = _product(below[:, : self._size], self.output._params["weight"])
        if not self.attends:
            weight = params[name] + back
        elif rnn.input_feeding:
            weight = below.copy()
            weight[:, rnn.input_size :] += back
        else:
            weight = np.concatenate([below, back], 1)
        layer: Any = object.__new__(type(rnn))
        layer.__dict__.update(rnn.__dict__)
        layer._params = {**rnn._params, name: weight}
        layer._grads = {**rnn._grads, name: np.zeros_like(weight)}
        layer.input_feeding, layer._layer_params, layer._layer_grads = True, None, None
        return layer

    def _backward(
        self, call: _Call, y: NDArray[Any], parts: list[Any], dv: NDArray[Any], dstate: Any, input_grad: bool
    ) -> tuple[Any, Any, Any]:
        size, weight = self._size, self.output._params["weight"]
        dy = _product(dv.reshape(-1, size), weight).reshape(y.shape)
        dx = np.empty(call.x.shape, self.dtype) if input_grad or call.own.any() else None
        own = np.zeros_like(call.own) if call.given else call.own
        dsource, folded, one_by_one = None, None, False
        for first, last, layer, pull in reversed(parts):
            if self.attends:
                below, more, dstate, dfeed = pull(dy[first:last], dstate)
                dsource = more if dsource is None else np.add(dsource, more, out=dsource)
                if first and layer.input_feeding:
                    dy[first - 1] += dfeed
            else:
                below, dstate = pull(dy[first:last], dstate)
            if dx is not None:
                dx[first:last] = below
            if layer is not self.rnn:
                folded = layer
            elif own[first]:
                one_by_one = True
                dy[first - 1] += _product(np.ascontiguousarray(below[0, :, :size]), weight)
        with self.output._lock:
            grads = self.output._grads
            self._add_output(grads, dv, y)
            if own.any():
                back = np.ascontiguousarray(dx[own, :, :size])  # type: ignore[index]
                if one_by_one:
                    self._add_output(grads, back, y[np.flatnonzero(own) - 1])
                elif "bias" in grads:
                    _core.column_sum(back.reshape(-1, size), grads["bias"])
        if folded is not None:
            self._unfold(folded)
        if dx is not None:
            dx[call.own, :, :size] = 0
        return dx if input_grad else None, dstate, dsource

    def _add_output(self, grads: Any, dv: NDArray[Any], y: NDArray[Any]) -> None:
        rows = dv.reshape(-1, self._size)
        _core.gemm(rows.T, np.ascontiguousarray(y).reshape(-1, y.shape[-1]), grads["weight"], accumulate=True)
        if "bias" in grads:
            _core.column_sum(rows, grads["bias"])

    def _unfold(self, folded: Any) -> None:
        """The gradient of the folded weights, at those that they were made of."""
        name, size, split = "weight_hh_l0", self._size, 0
        if self.attends:
            name, split = "weight_ih_l0", self.rnn.input_size
        d = folded._grads[name]
        dback = np.ascontiguousarray(d[:, split:])
        weight, below = self.output._params["weight"], self.rnn._params["weight_ih_l0"]
        with self.rnn._lock:
            grad = self.rnn._grads[name]
            grad += d[:, : grad.shape[1]]
            self.rnn._grads["weight_ih_l0"][:, :size] += _product(dback, weight.T)
        with self.output._lock:
            self.output._grads["weight"] += _product(below[:, :size].T, dback)
        d[...] = 0  # for a pullback that runs once more


class _Call(NamedTuple):
    """The arguments of a call."""

    x: NDArray[Any]
    source: Any
    own: NDArray[np.bool_]
    lengths: Any
    source_lengths: Any
    given: bool  # own values stand in x


def _kept(values: NDArray[Any], call: _Call) -> NDArray[Any]:
    """Zeros past each row's length."""
    if call.lengths is None:
        return values
    return np.where((np.arange(len(values))[:, None] < call.lengths)[..., None], values, values.dtype.type(0))


def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = _core.empty((a.shape[0], b.shape[1]), a.dtype)
    _core.gemm(a, b, found)
    return found
