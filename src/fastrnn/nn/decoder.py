"""AttentionDecoder: a recurrent decoder with attention and input feeding, compiled over all its steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn._variant import Draw
from fastrnn.nn import init
from fastrnn.nn._decoder_cell import DecoderCell
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

SCORES = {"dot": "dot", "scaled_dot": "dot", "general": "dot", "additive": "additive", "concat": "additive"}


class AttentionDecoder(Layer):
    """A stack of recurrent layers that looks at a source sequence in every step.

    With input feeding the layers read x_t = [emb_t ; y_{t−1}], else emb_t. Their last output h_t asks the source:

        w_t = softmax(score(h_t, s))
        context_t = Σ w_t[s]·source[s]
        y_t = tanh(weight_c·[context_t ; h_t] + bias_c)

    All steps run in compiled code, and so do their gradients. A row's cost is that of its own length.

    Parameters
    ----------
    input_size : int
        E, the size of emb.
    hidden_size : int
        H, the size of a layer's state.
    source_size : int
        K, the size of a source state.
    num_layers : int
        Each layer reads the outputs of the one below.
    cell : "lstm", "gru", "rnn", or a cell made by `fr.cell`
    attention : "dot", "scaled_dot", "general", "additive" or "concat"
        score(h, s): h·s and h·s/√H (both need K = H), h·(weight_key·s), v·tanh(weight_query·h + weight_key·s). The last
        is Bahdanau's; Luong's concat is the same function.
    attention_size : int, optional
        Q, the size of `v`: for "additive" and "concat". H by default.
    output_size : int, optional
        A, the size of y. H by default.
    input_feeding : bool
        The layers read y_{t−1}, too.
    bias : bool
        Layers have bias_ih and bias_hh, and y a bias_c.
    batch_first : bool
        Sequences are [B, T, ·] instead of [T, B, ·].
    reset_after : bool
        For "gru": as for `GRU`.
    nonlinearity : "tanh", "relu" or "sigmoid"
        For "rnn".
    cell_options : dict, optional
        Further arguments of the cell's layer, such as ``{"layer_norm": True}``; all but `input_dropout`.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√H.

    Notes
    -----
    `params` are `weight_ih_l0` [G·H, E + A with input feeding], `weight_hh_l0` [G·H, H], `bias_ih_l0`, `bias_hh_l0`,
    those of further layers, `weight_c` [A, K + H], `bias_c` [A], and for the score `weight_key` ([H, K] for "general",
    else [Q, K]), `weight_query` [Q, H] and `v` [Q].

    References
    ----------
    Luong, Pham & Manning 2015, "Effective Approaches to Attention-based Neural Machine Translation", equations 5 to 8
    and section 3.3 (input feeding); Bahdanau, Cho & Bengio 2015 for the additive score.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> decoder = fr.nn.AttentionDecoder(4, 8, 6, attention="general", seed=0)
    >>> emb, source = np.ones((5, 2, 4), np.float32), np.ones((7, 2, 6), np.float32)
    >>> y, (h, c) = decoder(emb, source, source_lengths=[7, 3])
    >>> y.shape, h.shape
    ((5, 2, 8), (1, 2, 8))
    >>> (y, state), pullback = decoder.vjp(emb, source, source_lengths=[7, 3])
    >>> demb, dsource, dstate_0, dfeed = pullback(np.ones_like(y))
    >>> dsource.shape, bool((dsource[3:, 1] == 0).all())
    ((7, 2, 6), True)
    """

    takes_lengths = True
    dtype: np.dtype[Any]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        source_size: int,
        num_layers: int = 1,
        *,
        cell: Any = "lstm",
        attention: str = "general",
        attention_size: int | None = None,
        output_size: int | None = None,
        input_feeding: bool = True,
        bias: bool = True,
        batch_first: bool = False,
        reset_after: bool = True,
        nonlinearity: str = "tanh",
        cell_options: Mapping[str, Any] | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.input_size = _check.positive_int(input_size, "input_size")
        self.hidden_size = _check.positive_int(hidden_size, "hidden_size")
        self.source_size = _check.positive_int(source_size, "source_size")
        self.num_layers = _check.decoder_layers(num_layers, _core.DECODER_LAYERS)
        kind = _check.choice(attention, SCORES, "attention")
        self.attention = attention
        self.attention_size = _check.optional_positive_int(attention_size, "attention_size")
        self.output_size = _check.optional_positive_int(output_size, "output_size") or self.hidden_size
        self.input_feeding, self.bias, self.batch_first = bool(input_feeding), bool(bias), bool(batch_first)
        self.reset_after, self.nonlinearity = bool(reset_after), nonlinearity
        self._steps = DecoderCell(
            cell, cell_options, self.hidden_size, self.bias, self.reset_after, nonlinearity, self.dtype
        )
        self.cell, self.num_states = self._steps.cell, self._steps.num_states
        self.takes_dropout = self._steps.variant.masks
        _check.score_sizes(attention, kind == "additive", self.hidden_size, self.source_size, self.attention_size)
        self._scale = 1 / math.sqrt(self.hidden_size) if attention == "scaled_dot" else 1.0
        rng = generator(seed)
        for name, shape in self._shapes(kind):
            if "_l" in name:
                self._add_param(name, self._steps.initial(name, shape, rng))
            else:
                self._add_param(name, init.uniform(shape, fan=self.hidden_size, dtype=self.dtype, seed=rng))

    def _shapes(self, kind: str) -> list[tuple[str, tuple[int, ...]]]:
        H, A, K = self.hidden_size, self.output_size, self.source_size
        found: list[tuple[str, tuple[int, ...]]] = []
        for layer in range(self.num_layers):
            inputs = H if layer else self.input_size + (A if self.input_feeding else 0)
            found += self._steps.shapes(f"_l{layer}", inputs)
        if kind == "additive":
            Q = self.attention_size or H
            found += [("weight_query", (Q, H)), ("weight_key", (Q, K)), ("v", (Q,))]
        elif self.attention == "general":
            found += [("weight_key", (H, K))]
        found += [("weight_c", (A, K + H))]
        return [*found, ("bias_c", (A,))] if self.bias else found

    def _by_layer(self, arrays: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
        return tuple(self._steps.arrays(arrays, f"_l{l}") for l in range(self.num_layers))

    # ---- arguments ---------------------------------------------------------------------------------------------

    def _sequences(self, x: Any, source: Any, lengths: Any, source_lengths: Any) -> tuple[Any, Any, Any, Any]:
        x = _check.batch_of_sequences(x, self.dtype, self.batch_first, self.input_size, "x", "input_size")
        source, source_lengths = self._source(source, source_lengths)
        time, batch = (1, 0) if self.batch_first else (0, 1)
        _check.same_batch(source.shape[batch], x.shape[batch])
        if lengths is not None:
            lengths = _check.lengths(lengths, x.shape[batch], x.shape[time])
        return x, source, lengths, source_lengths

    def _source(self, source: Any, source_lengths: Any) -> tuple[Any, Any]:
        source = _check.batch_of_sequences(
            source, self.dtype, self.batch_first, self.source_size, "source", "source_size"
        )
        if source_lengths is not None:
            steps, batch = source.shape[1::-1] if self.batch_first else source.shape[:2]
            source_lengths = _check.lengths(source_lengths, batch, steps, "S", "source_lengths")
        return source, source_lengths

    def _state(self, state: Any, batch: int, name: str) -> tuple[Any, Any]:
        return self._steps.state(state, self.num_layers, batch, name)

    def _feed(self, feed: Any, batch: int) -> Any:
        if feed is None:
            return None
        shape = (1, batch, self.output_size)
        return _check.state(feed, shape, False, self.dtype, "feed", 1)

    # ---- scores ------------------------------------------------------------------------------------------------

    def _keys(self, source: NDArray[Any], source_lengths: Any) -> tuple[NDArray[Any], Any, Any]:
        """(keys, the rows that they were made of, where these are); keys are `source` itself without weight_key."""
        weight = self._params.get("weight_key")
        if weight is None:
            return source, None, None
        rows, at = source.reshape(-1, self.source_size), None
        if source_lengths is not None:  # what lies past a length is neither multiplied nor looked at
            at = np.flatnonzero(_steps(source.shape, source_lengths, self.batch_first))
            rows = rows[at]
        keys = _core.empty((rows.shape[0], weight.shape[0]), self.dtype)
        _core.gemm(rows, weight.T, keys)
        if at is not None:
            all_keys = _core.empty((source.shape[0] * source.shape[1], weight.shape[0]), self.dtype)
            all_keys[at] = keys
            keys = all_keys
        return keys.reshape(*source.shape[:2], weight.shape[0]), rows, at

    def _run(
        self,
        x: Any,
        source: Any,
        state: Any,
        feed: Any,
        lengths: Any,
        source_lengths: Any,
        weights: bool,
        save: bool,
        sampling: Any = None,
        draw: Draw | None = None,
    ) -> tuple[Any, ...]:
        x, source, lengths, source_lengths = self._sequences(x, source, lengths, source_lengths)
        batch = x.shape[0 if self.batch_first else 1]
        h_0, c_0 = self._state(state, batch, "state")
        feed = self._feed(feed, batch)
        keys, rows, at = self._keys(source, source_lengths)
        params = dict(self._params)
        layers, dropped = self._by_layer(params), None
        if draw is not None:
            masked, dropped = draw.weights(tuple((layer,) for layer in layers))
            layers = tuple(layer for (layer,) in masked)
        y, h_n, c_n, w, saved = self._steps.guarded(
            _core.decoder_forward, self._steps.core, x, layers, h_0, c_0, feed, lengths, keys, source, source_lengths,
            params.get("weight_query"), params.get("v"), self._scale, params["weight_c"], params.get("bias_c"),
            self.input_feeding, self.batch_first, weights, save, sampling, self._steps.options(draw),
        )  # fmt: skip
        outputs = (y, self._steps.as_state(h_n, c_n), *((w,) if weights else ()))
        return outputs, saved, source, keys, rows, at, dropped

    # ---- the two entries ---------------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        source: ArrayLike,
        state: Any = None,
        feed: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        source_lengths: ArrayLike | None = None,
        weights: bool = False,
    ) -> Any:
        """Inference: nothing is saved.

        Parameters
        ----------
        x : array, [T, B, input_size] ([B, T, input_size] with `batch_first`)
            Embedded targets, of the layer's dtype.
        source : array, [S, B, source_size] ([B, S, source_size])
            What is attended to, such as an encoder's outputs.
        state : array [num_layers, B, hidden_size] (LSTM: a tuple of two), optional
            Initial state, such as an encoder's last; zeros by default.
        feed : array, [B, output_size], optional
            y_{−1}; zeros by default. With it a sequence can be continued: `y[-1]` of the part before.
        lengths, source_lengths : integers, [B], optional
            Steps of each row. Outputs past `lengths` are zero; source states past `source_lengths` aren't read. A row
            without source states has a context of zeros.
        weights : bool
            Return the attention weights, too.

        Returns
        -------
        y : array, [T, B, output_size] ([B, T, output_size])
        state_n : as `state`
            At the end of each row.
        weights : array, [T, B, S], where asked for

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it.
        """
        return self._run(x, source, state, feed, lengths, source_lengths, bool(weights), False)[0]

    def vjp(
        self,
        x: ArrayLike,
        source: ArrayLike,
        state: Any = None,
        feed: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        source_lengths: ArrayLike | None = None,
        weights: bool = False,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Training: outputs, and what gives their gradients.

        Parameters
        ----------
        x, source, state, feed, lengths, source_lengths, weights
            As in the call. `x`, `source` and the parameters are held by reference: don't change them before the
            pullback has run.
        dropout, seed
            Whether and how masks of zoneout and dropouts among `cell_options` are drawn.
        input_grad : bool
            Compute the gradient of `x`; else it is None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        (y, state_n) or (y, state_n, weights)
            As from the call; `y` is read-only, for it is saved memory.
        pullback : callable
            `pullback(dy=None, dstate=None)` adds to `grads` and returns `(dx, dsource, dstate_0, dfeed)`. The weights
            take no gradient.
        """
        draw = self._draw(dropout, seed)
        return self._vjp(x, source, state, feed, lengths, source_lengths, bool(weights), input_grad, retain, None, draw)

    def _draw(self, dropout: bool, seed: Seed) -> Draw | None:
        return Draw(self._steps.variant, seed, True) if dropout and self.takes_dropout else None

    def _vjp(
        self, x: Any, source: Any, state: Any, feed: Any, lengths: Any, source_lengths: Any, weights: bool,
        input_grad: bool, retain: bool, sampling: Any = None, draw: Draw | None = None,
    ) -> tuple[Any, Pullback]:  # fmt: skip
        given = (x, source, state, feed, lengths, source_lengths, weights, True, sampling, draw)
        outputs, saved, states, keys, rows, at, dropped = self._run(*given)
        y = outputs[0]
        y.flags.writeable = False
        batch = y.shape[0 if self.batch_first else 1]

        def run(dy: ArrayLike | None = None, dstate: Any = None, dweights: Any = None) -> tuple[Any, ...]:
            _check.no_weights_gradient(dweights)
            if dy is not None:
                dy = _check.gradient(dy, self.dtype, y.shape)
            dh_n, dc_n = (None, None) if dstate is None else self._state(dstate, batch, "dstate")
            dsource = np.zeros(states.shape, self.dtype)
            dkeys = dsource if rows is None else np.zeros(keys.shape, self.dtype)
            with self._lock:
                grads = dict(self._grads)
                others = tuple(grads.get(name) for name in ("weight_query", "v", "weight_c", "bias_c"))
                layers = self._by_layer(grads)
                apart = layers if dropped is None else tuple((l[0], np.zeros_like(l[1]), *l[2:]) for l in layers)
                dx, dh_0, dc_0, dfeed = self._steps.guarded(
                    saved.backward, dy, dh_n, dc_n, apart, others, input_grad, dkeys, dsource, retain
                )
                for mine, theirs, (mask,) in zip(layers, apart, dropped or (), strict=False):
                    mine[1][...] += theirs[1] * mask
                if rows is not None:
                    self._keys_backward(dkeys, dsource, rows, at, grads["weight_key"])
            return dx, dsource, self._steps.as_state(dh_0, dc_0), dfeed

        return outputs, Pullback(run, "AttentionDecoder", retain)

    def _keys_backward(self, dkeys: Any, dsource: Any, rows: Any, at: Any, grad: Any) -> None:
        """keys = rows · weight_keyᵀ"""
        flat, dflat = dkeys.reshape(-1, dkeys.shape[-1]), dsource.reshape(-1, self.source_size)
        weight = self._params["weight_key"]
        if at is None:
            _core.gemm(flat.T, rows, grad, accumulate=True)
            _core.gemm(flat, weight, dflat, accumulate=True)
            return
        flat = flat[at]
        _core.gemm(flat.T, rows, grad, accumulate=True)
        parts = _core.empty(rows.shape, self.dtype)
        _core.gemm(flat, weight, parts)
        dflat[at] += parts

    def config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "source_size": self.source_size,
            "num_layers": self.num_layers,
            **self._steps.config(),
            "attention": self.attention,
            "attention_size": self.attention_size,
            "output_size": self.output_size,
            "input_feeding": self.input_feeding,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "reset_after": self.reset_after,
            "nonlinearity": self.nonlinearity,
            "dtype": self.dtype.name,
        }


def _steps(shape: tuple[int, ...], lengths: NDArray[np.int64], batch_first: bool) -> NDArray[np.bool_]:
    """Which of the first two axes' places lie within a row's length."""
    if batch_first:
        return np.asarray(np.arange(shape[1])[None] < lengths[:, None])
    return np.asarray(np.arange(shape[0])[:, None] < lengths[None])
