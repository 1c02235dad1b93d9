"""The decoder of `Seq2Seq`: recurrent layers with or without attention, and the output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models._cells import open_forget_gates, steps
from fastrnn.models._seq2seq_encoder import Encoded
from fastrnn.nn import Dropout, Embedding, Linear, ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, split
from fastrnn.nn._tape import current
from fastrnn.nn.decoder import AttentionDecoder
from fastrnn.nn.model import Model
from fastrnn.nn.token_decoder import TokenDecoder

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Bias(Layer):
    """What an output layer has of its own when its weights are an embedding's rows."""

    def __init__(self, size: int, dtype: DTypeLike) -> None:
        super().__init__(dtype)
        self._add_param("bias", np.zeros(size, self.dtype))


class Decoder(Model):
    """Embedding, recurrent layers (an `AttentionDecoder`, or an RNN, LSTM or GRU), output layer.

    A peeky decoder without attention is an `AttentionDecoder` that attends to one state, the thought vector z: its
    context is z in every step, so y_t = tanh(weight_c·[z ; h_t] + bias_c).
    """

    def __init__(
        self,
        embedding: Embedding,
        cell: Any,
        hidden_size: int,
        num_layers: int,
        source_size: int,
        attention: str | None,
        attention_size: int | None,
        input_feeding: bool,
        peeky: bool,
        tied: bool,
        dropout: float,
        dtype: DTypeLike,
        seed: Seed,
        cell_options: Any = None,
    ) -> None:
        seeds = split(seed, 2)
        self.embedding, self.attention, self.peeky = embedding, attention, bool(peeky)
        size, words = embedding.embedding_dim, embedding.num_embeddings
        inputs = size + (hidden_size if peeky else 0)
        self.rnn: Any
        if attention is None and not peeky:
            self.rnn = steps(cell, cell_options)[0](
                inputs, hidden_size, num_layers, dropout=dropout, dtype=dtype, seed=seeds[0]
            )
        else:
            self.rnn = AttentionDecoder(
                inputs, hidden_size, hidden_size if attention is None else source_size, num_layers, cell=cell,
                attention="dot" if attention is None else attention, attention_size=attention_size,
                output_size=size if tied else hidden_size, input_feeding=attention is not None and input_feeding,
                cell_options=cell_options, dtype=dtype, seed=seeds[0],
            )  # fmt: skip
        open_forget_gates(self.rnn)
        self.dropout = Dropout(dropout)
        found = getattr(self.rnn, "output_size", hidden_size)
        if tied and found != size:
            raise ValueError(
                f"tied: without attention needs embedding_dim = the decoder's hidden_size, got {size} and {found}"
            )
        self.output: Layer = Bias(words, dtype) if tied else Linear(found, words, dtype=dtype, seed=seeds[1])

    def linear(self) -> Linear:
        """The output layer; one with the embedding's arrays where they are tied."""
        if isinstance(self.output, Linear):
            return self.output
        table, found = self.embedding, Linear.__new__(Linear)
        Layer.__init__(found, table.dtype)
        found.in_features, found.out_features, found.bias = table.embedding_dim, table.num_embeddings, True
        for name, layer in (("weight", table), ("bias", self.output)):
            dict.__setitem__(found._params, name, layer._params[name])
            dict.__setitem__(found._grads, name, layer._grads[name])
        found._lock = table._lock  # both add to one gradient
        return found

    def inputs(self, encoded: Encoded) -> dict[str, Any]:
        """What `TokenDecoder` and the searches take of the source."""
        found: dict[str, Any] = {"state": encoded.state}
        if self.attention is not None:
            found |= {"source": encoded.outputs, "source_lengths": encoded.lengths}
        elif self.peeky:
            found |= {"source": encoded.thought.reshape(1, *encoded.thought.shape)}
        if self.peeky:
            found |= {"extra": encoded.thought}
        return found

    def forward(
        self, tokens: NDArray[np.int64], encoded: Encoded, lengths: Any, sampling: float = 0.0, seed: Seed = None
    ) -> Any:
        """Outputs [T, B, ·] after each of `tokens` [T, B]; with `sampling` after those that were read instead."""
        given = self.inputs(encoded)
        if isinstance(self.rnn, AttentionDecoder):
            layer = TokenDecoder(self.embedding, self.rnn, self.linear())
            drawn: dict[str, Any] = {"sampling": sampling, "seed": seed} if sampling and current() is not None else {}
            y, _ = layer(
                tokens, given["source"], given["state"], None, given.get("extra"), lengths=lengths,
                source_lengths=given.get("source_lengths"), **drawn,
            )  # fmt: skip
        else:
            if sampling and current() is not None:
                tokens = self._read(tokens, given["state"], sampling, generator(seed))
            y, _ = self.rnn(self.embedding(tokens), given["state"], lengths=lengths)
        return self.dropout(y)

    def _read(
        self, tokens: NDArray[np.int64], state: Any, sampling: float, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Run without gradients: what a decoder without attention reads with scheduled sampling."""
        tokens, own, output = tokens.copy(), rng.random(tokens.shape) < sampling, self.linear()
        stream = self.rnn.stream(tokens.shape[1])
        stream.reset(tuple(map(ops.stop_gradient, state)) if isinstance(state, tuple) else ops.stop_gradient(state))
        for t in range(1, len(tokens)):
            y = stream.step(self.embedding._forward(tokens[t - 1]))
            if own[t].any():
                best = output._forward(y, y.shape).argmax(-1)
                tokens[t] = np.where(own[t], best, tokens[t])
        return tokens

    def attention_weights(self, tokens: NDArray[np.int64], encoded: Encoded) -> NDArray[Any]:
        """w [T, B, S]."""
        given = self.inputs(encoded)
        layer = TokenDecoder(self.embedding, self.rnn, self.linear())
        weights: NDArray[Any] = layer(
            tokens, given["source"], given["state"], None, given.get("extra"),
            source_lengths=given["source_lengths"], weights=True,
        )[2]  # fmt: skip
        return weights


def check_sizes(attention: str | None, attention_size: int | None) -> None:
    """Raise for options of an attention that isn't there."""
    if attention is None and attention_size is not None:
        raise ValueError(f"attention_size: expected None without attention, got {attention_size!r}")
    _check.optional_positive_int(attention_size, "attention_size")
