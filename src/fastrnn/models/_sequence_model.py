"""What SequenceClassifier and SequenceRegressor have in common: the network, and lists of sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models._cells import chosen, first_state, open_forget_gates
from fastrnn.models._fit_sequences import fit_sequences
from fastrnn.nn import Dropout, Embedding, Linear, MaxPool, MeanPool, ops
from fastrnn.nn._random import Seed, split
from fastrnn.nn.model import Model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

POOLINGS = {"last": (), "mean": (MeanPool,), "max": (MaxPool,), "both": (MeanPool, MaxPool)}


class SequenceModel(Model):
    """Embedding or features → recurrent layers → pooling over time → dropout → linear map."""

    takes_lengths = True
    removes_time = True

    _tail: tuple[int, ...] = ()  # the shape of one sequence's outputs

    def _build(
        self,
        input_size: int,
        outputs: int,
        hidden_size: int,
        cell: Any,
        num_layers: int,
        bidirectional: bool,
        pooling: str,
        dropout: float,
        embedding_dim: int | None,
        dtype: DTypeLike,
        seed: Seed,
        cell_options: Any = None,
    ) -> None:
        seeds = split(seed, 3)
        recurrent, self.cell = chosen(cell, cell_options)
        self.pooling = pooling
        self.input_size = _check.positive_int(input_size, "input_size")
        self.takes_tokens = embedding_dim is not None
        if embedding_dim is not None:
            self.embedding = Embedding(input_size, embedding_dim, dtype=dtype, seed=seeds[0])
            input_size = embedding_dim
        self.rnn = recurrent(
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=dtype,
            seed=seeds[1],
        )
        open_forget_gates(self.rnn)
        self.pools = [pool() for pool in _check.choice(pooling, POOLINGS, "pooling")]
        self.dropout = Dropout(dropout)
        features = (1 + bool(bidirectional)) * hidden_size * max(len(self.pools), 1)
        self.output = Linear(features, outputs, dtype=dtype, seed=seeds[2])

    def forward(self, x: Any, *, lengths: ArrayLike | None = None) -> Any:
        """The outputs of the linear map, one row for each sequence.

        Parameters
        ----------
        x : array [T, B, input_size], or integers [T, B] with an embedding; without the axis B for one sequence
        lengths : integers [B], optional
        """
        if self.takes_tokens:
            x = self.embedding(x)
        y, state = self.rnn(x, lengths=lengths)
        if self.pools:
            found = [pool(y, lengths=lengths) for pool in self.pools]
        else:  # the state at each row's end, of the second direction at its beginning
            h = first_state(state)
            found = [h[k] for k in range(-1 - self.rnn.bidirectional, 0)]
        pooled = found[0] if len(found) == 1 else ops.concat(found, -1)
        return self.output(self.dropout(pooled) if self.dropout.p else pooled)

    def _outputs(self, x: Any, lengths: Any, batch_size: int) -> NDArray[Any]:
        """Outputs for an array as `forward` takes it, or for a list of sequences."""
        batch_size = _check.positive_int(batch_size, "batch_size")
        if isinstance(x, np.ndarray) and x.dtype != object:
            outputs: NDArray[Any] = self(x, lengths=lengths)
            return outputs
        if lengths is not None:
            raise ValueError("lengths: expected None with a list of sequences, which have their own lengths")
        sequences = self._sequences(x)
        sizes = np.array([len(sequence) for sequence in sequences], np.int64)
        order = np.argsort(sizes, kind="stable")  # little padding
        found = np.empty((len(sequences), *self._tail), self.dtype)
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            ends = sizes[rows]
            padded = np.zeros((max(int(ends.max()), 1), len(rows), *sequences[0].shape[1:]), sequences[0].dtype)
            for column, row in enumerate(rows):
                padded[: sizes[row], column] = sequences[row]
            found[rows] = self(padded, lengths=ends)
        return found

    def _sequences(self, x: Any, name: str = "x") -> list[NDArray[Any]]:
        """A list of sequences [T, input_size], or [T] of tokens, as arrays."""
        if isinstance(x, np.ndarray) and x.ndim >= 2 and x.dtype != object:
            raise TypeError(
                f"{name}: expected a list of sequences, got {_check.describe(x)}; list(x) if its first axis is N"
            )
        if self.takes_tokens:
            found = [_check.integers(sequence, name) for sequence in x]
        else:
            found = [_check.floats(sequence, self.dtype, name, layer=True) for sequence in x]
        shape = () if self.takes_tokens else (self.input_size,)
        for position, sequence in enumerate(found):
            if sequence.ndim != len(shape) + 1 or sequence.shape[1:] != shape:
                expected = "[T] of tokens" if self.takes_tokens else f"[T, {self.input_size}]"
                raise ValueError(f"{name}: expected sequences {expected}, got shape {sequence.shape} at {position}")
        return found

    def _fit(self, x: Any, targets: Any, validation: Any, weight: Any, options: dict[str, Any]) -> None:
        sequences = self._sequences(x)
        if len(sequences) != len(targets):
            raise ValueError(f"y: expected {len(sequences)}, one for each sequence, got {len(targets)}")
        if validation is not None:
            validation = (self._sequences(validation[0], "validation[0]"), validation[1])
        self.history_ = fit_sequences(self, sequences, targets, validation=validation, weight=weight, **options)
