"""The encoder of `Seq2Seq`: from tokens to states of the source, and to what the decoder begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.models._cells import chosen, first_state, open_forget_gates
from fastrnn.nn import Embedding, Linear, ops
from fastrnn.nn._random import Seed, split
from fastrnn.nn.model import Model

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

BRIDGES = {"sum": "sum", "linear": "linear"}


class Encoded(NamedTuple):
    """What an encoder makes of sources.

    Attributes
    ----------
    outputs : array [S, B, K]
        The encoder's outputs, in the order that it read the source in; K = hidden_size, twice that if bidirectional.
    lengths : integers [B]
    state : array [L, B, H], or (h, c) of an LSTM
        What the decoder begins with.
    thought : array [B, H]
        The thought vector: h of the decoder's last layer.
    """

    outputs: Any
    lengths: NDArray[np.int64]
    state: Any
    thought: Any


class Encoder(Model):
    """Embedding, recurrent layers, and a bridge from their last states to the decoder's first ones."""

    def __init__(
        self,
        embedding: Embedding,
        cell: Any,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        reverse: bool,
        bridge: str | None,
        decoder_hidden: int,
        decoder_layers: int,
        dropout: float,
        dtype: DTypeLike,
        seed: Seed,
        cell_options: Any = None,
        states: int | None = None,
    ) -> None:
        seeds = split(seed, 3)
        self.embedding = embedding
        make, self.cell = chosen(cell, cell_options)
        self.rnn: Any = make(
            embedding.embedding_dim, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout,
            dtype=dtype, seed=seeds[0],
        )  # fmt: skip
        open_forget_gates(self.rnn)
        self.reverse = bool(reverse)
        given = getattr(self.rnn, "num_states", 1)
        self.states = given if states is None else states  # of the decoder
        shapes = getattr(self.rnn, "_state_shapes", lambda batch: [(0, batch, hidden_size)])(1)
        width = shapes[0][2]  # an LRU's is not its hidden_size
        equal = (
            self.states == given
            and width == hidden_size
            and (num_layers, hidden_size) == (decoder_layers, decoder_hidden)
        )
        self.kind = ("sum" if equal else "linear") if bridge is None else _check.choice(bridge, BRIDGES, "bridge")
        if self.kind == "sum" and not equal:
            raise ValueError(
                f"bridge: 'sum' needs a decoder of the encoder's {num_layers} layers of {hidden_size}, got "
                f"{decoder_layers} of {decoder_hidden}; use 'linear'"
            )
        self.shape = (decoder_layers, decoder_hidden)
        self.to_h: Linear | None = None
        self.to_c: Linear | None = None
        if self.kind == "linear":
            sizes = ((1 + bool(bidirectional)) * num_layers * width, decoder_layers * decoder_hidden)
            self.to_h = Linear(*sizes, dtype=dtype, seed=seeds[1])
            if self.states > 1:
                self.to_c = Linear(sizes[0], (self.states - 1) * sizes[1], dtype=dtype, seed=seeds[2])

    @property
    def output_size(self) -> int:
        """K."""
        return (2 if self.rnn.bidirectional else 1) * int(self.rnn.hidden_size)

    def forward(self, source: NDArray[np.int64], lengths: NDArray[np.int64]) -> Encoded:
        """Sources [S, B] of those lengths, S ≥ 1."""
        if self.reverse:
            source = reversed_rows(source, lengths)
        whole = bool((lengths == len(source)).all())
        outputs, state = self.rnn(self.embedding(source), lengths=None if whole else lengths)
        h = self._bridge(first_state(state), self.to_h)
        if self.kind == "linear":
            h = ops.tanh(h)
        return Encoded(outputs, lengths, (h, *self._further(state)) if self.states > 1 else h, h[-1])

    def _further(self, state: Any) -> list[Any]:
        """What the decoder begins with beside h: a linear map of the encoder's c, or h where there is no c."""
        if self.to_c is None:
            return [self._bridge(part, None) for part in state[1:]]
        last = state[1] if getattr(self.rnn, "num_states", 1) > 1 else first_state(state)
        flat = last.transpose(1, 0, 2).reshape(last.shape[1], -1)
        maps = self.to_c(flat).reshape(flat.shape[0], self.states - 1, *self.shape).transpose(1, 2, 0, 3)
        return [maps[k] for k in range(self.states - 1)]

    def _bridge(self, states: Any, linear: Linear | None) -> Any:
        """[layers·directions, B, H] as [decoder_layers, B, decoder_hidden]."""
        batch = states.shape[1]
        if linear is None:
            if not self.rnn.bidirectional:
                return states
            return states[::2] + states[1::2]
        flat = states.transpose(1, 0, 2).reshape(batch, -1)
        return linear(flat).reshape(batch, *self.shape).transpose(1, 0, 2)


def reversed_rows(x: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Each row of [T, B, ...] backwards, as far as its length; the rest stays.

    Examples
    --------
    >>> import numpy as np
    >>> reversed_rows(np.array([[1, 4], [2, 5], [3, 0]]), np.array([3, 2])).T
    array([[3, 2, 1],
           [5, 4, 0]])
    """
    steps = np.arange(len(x))[:, None]
    at = np.where(steps < lengths, lengths - 1 - steps, steps)
    return np.take_along_axis(x, at.reshape(at.shape + (1,) * (x.ndim - 2)), 0)
