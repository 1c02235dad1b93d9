"""Dialogues: lists of utterances, ragged in turns and in tokens, flattened; and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn.train.data import POOL_BATCHES, Batch, _Resumable

__all__ = ["DialogueBatches", "Dialogues"]


class Dialogues:
    """Dialogues as arrays: their utterances side by side, one dialogue after the other.

    Parameters
    ----------
    tokens : integers, [T, N]
        A column for each utterance. What lies past its length is not read.
    lengths : integers, [N]
        Tokens of each utterance.
    turns : integers, [B]
        Utterances of each dialogue; they sum to N.

    Attributes
    ----------
    tokens, lengths, turns : int64 arrays
    shape : tuple
        (T, N).

    Examples
    --------
    >>> import fastrnn as fr
    >>> dialogues = fr.Dialogues.from_lists([[[5, 6], [7]], [[8], [9, 5], [6]]])
    >>> dialogues
    <2 dialogues of 5 utterances, 7 tokens>
    >>> dialogues.tokens.T.tolist(), dialogues.turns.tolist()
    ([[5, 6], [7, 0], [8, 0], [9, 5], [6, 0]], [2, 3])
    """

    def __init__(self, tokens: Any, lengths: Any, turns: Any) -> None:
        self.tokens = _check.integers(tokens, "tokens")
        if self.tokens.ndim != 2 or not len(self.tokens):
            raise ValueError(f"tokens: expected [T, N] with T ≥ 1, got shape {self.tokens.shape}")
        steps, count = self.tokens.shape
        self.lengths = _check.lengths(lengths, count, steps)
        self.turns = _check.integers(turns, "turns")
        if self.turns.ndim != 1 or (self.turns < 0).any() or self.turns.sum() != count:
            raise ValueError(f"turns: expected integers [B] ≥ 0 that sum to N={count}, got {self.turns.tolist()!s:.60}")
        self.shape = self.tokens.shape

    @classmethod
    def from_lists(cls, dialogues: Sequence[Any], encode: Callable[[str], Any] | None = None) -> Dialogues:
        """Flatten lists.

        Parameters
        ----------
        dialogues : list of lists of utterances
            Integers [T_i]; or texts, with `encode`.
        encode : callable, optional
            From a text to integers, such as `vocabulary.encode`; or what has such a method.
        """
        return cls._joined(_utterances(dialogues, encode if callable(encode) else _encoder(encode, "encode")))

    @classmethod
    def _joined(cls, dialogues: list[list[np.ndarray]]) -> Dialogues:
        """From lists of lists of int64 arrays [T_i], which nobody needs to look at again."""
        flat = [utterance for dialogue in dialogues for utterance in dialogue]
        self = cls.__new__(cls)
        self.lengths = np.fromiter(map(len, flat), np.int64, len(flat))
        self.turns = np.fromiter(map(len, dialogues), np.int64, len(dialogues))
        rows = np.zeros((len(flat), max(int(self.lengths.max(initial=1)), 1)), np.int64)
        rows[np.arange(rows.shape[1]) < self.lengths[:, None]] = np.concatenate([np.zeros(0, np.int64), *flat])
        self.tokens = np.ascontiguousarray(rows.T)
        self.shape = self.tokens.shape
        return self

    def padded(self, value: int) -> Dialogues:
        """The same with `value` past each utterance's length."""
        other = type(self).__new__(type(self))
        other.tokens = np.where(np.arange(len(self.tokens))[:, None] < self.lengths, self.tokens, value)
        other.lengths, other.turns, other.shape = self.lengths, self.turns, self.shape
        return other

    def __getitem__(self, index: Any) -> Dialogues:
        """Some of the dialogues: by an index, a slice, indices or a mask."""
        rows = _check.some_of(index, len(self), "dialogues")
        starts, turns = np.cumsum(self.turns) - self.turns, self.turns[rows]
        columns = np.arange(turns.sum()) + np.repeat(starts[rows] - (np.cumsum(turns) - turns), turns)
        lengths = self.lengths[columns]
        steps = max(int(lengths.max(initial=1)), 1)
        return Dialogues(self.tokens[:steps, columns], lengths, turns)

    def __len__(self) -> int:
        """The number of dialogues, B."""
        return len(self.turns)

    def __repr__(self) -> str:
        return f"<{len(self)} dialogues of {len(self.lengths)} utterances, {self.lengths.sum()} tokens>"


class DialogueBatches(_Resumable):
    """Mini-batches of dialogues, for models that answer: `Batch(dialogues, None, lengths, weight)`.

    `x` is a `Dialogues`; `lengths` are the tokens of each utterance but the first of its dialogue, end counted: what
    a loss per token is a mean over. Nothing is padded in turns, and utterances to the longest one of a batch.

    Parameters
    ----------
    dialogues : list of lists of utterances
        Integers [T_i]; or texts, with a `vocabulary`. Dialogues of fewer than two utterances have no answer, and are an
        error.
    batch_size : int
        Dialogues of a batch; the last batch of an epoch may be smaller.
    vocabulary : optional
        What has `encode(text)`.
    bucket : bool
        Put dialogues whose longest utterances are of similar length into one batch.
    shuffle : bool
        A new random order each epoch. Buckets are then formed inside random pools of 50 batches.
    weight : list, optional
        For each dialogue the weight of its answers, or a list of one for each utterance but the first. With zeros for
        one speaker only the other one's utterances are learned.
    drop_last : bool
        Leave out a batch smaller than `batch_size`; there has to be another one.
    seed : int or Generator
        For the order.

    Examples
    --------
    >>> import fastrnn as fr
    >>> data = fr.DialogueBatches([[[5, 6], [7]], [[8], [9, 5], [6]]], batch_size=2, shuffle=False)
    >>> for batch in data:
    ...     print(batch.x, batch.lengths)
    <2 dialogues of 5 utterances, 7 tokens> [2 3 2]
    """

    def __init__(
        self,
        dialogues: Sequence[Any],
        *,
        batch_size: int,
        vocabulary: Any = None,
        bucket: bool = True,
        shuffle: bool = True,
        weight: Any = None,
        drop_last: bool = False,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__(seed)
        self._dialogues = _utterances(dialogues, _encoder(vocabulary, "vocabulary"))
        if not self._dialogues:
            raise ValueError("dialogues: expected at least one")
        for position, dialogue in enumerate(self._dialogues):
            if len(dialogue) < 2:
                raise ValueError(f"dialogues: expected two utterances or more, got {len(dialogue)} at {position}")
        self._weight = None if weight is None else _weights(weight, self._dialogues)
        self._batch_size = _check.positive_int(batch_size, "batch_size")
        self._bucket, self._shuffle = bool(bucket), bool(shuffle)
        self._drop_last = _check.drop_last(drop_last, self._batch_size, len(self._dialogues), "dialogues")
        self._longest = np.array([max(map(len, dialogue)) for dialogue in self._dialogues])

    def __len__(self) -> int:
        full, rest = divmod(len(self._dialogues), self._batch_size)
        return full + (1 if rest and not self._drop_last else 0)

    def _order(self) -> list[np.ndarray]:
        """Return the dialogues of each batch of an epoch."""
        size, n = self._batch_size, len(self._dialogues)
        rows = self._rng.permutation(n) if self._shuffle else np.arange(n)
        if self._bucket:
            pool = size * POOL_BATCHES if self._shuffle else n
            parts = [rows[i : i + pool] for i in range(0, n, pool)]
            rows = np.concatenate([part[np.argsort(self._longest[part], kind="stable")] for part in parts])
        batches = [rows[i : i + size] for i in range(0, n, size)]
        if self._drop_last and len(batches[-1]) < size:
            batches.pop()
        if self._bucket and self._shuffle:
            batches = [batches[i] for i in self._rng.permutation(len(batches))]
        return batches

    def _batch(self, rows: np.ndarray) -> Batch:
        picked = [self._dialogues[i] for i in rows]
        lengths = np.array([len(utterance) + 1 for dialogue in picked for utterance in dialogue[1:]])
        weight = None if self._weight is None else np.concatenate([self._weight[i] for i in rows])
        return Batch(Dialogues._joined(picked), None, lengths, weight)

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        for rows in self._order()[skip:]:
            self._position += 1
            yield self._batch(rows)
        self._end()


def _encoder(vocabulary: Any, name: str) -> Callable[[str], Any] | None:
    """The function from a text to integers."""
    encode: Callable[[str], Any] | None = getattr(vocabulary, "encode", None)
    if vocabulary is not None and not callable(encode):
        raise TypeError(f"{name}: expected a vocabulary, or anything with `encode`, got {_check.describe(vocabulary)}")
    return encode


def _utterances(dialogues: Any, encode: Callable[[str], Any] | None) -> list[list[np.ndarray]]:
    """Lists of lists of int64 arrays."""
    expected = "dialogues: expected a list of dialogues, each a list of utterances"
    if isinstance(dialogues, str) or not hasattr(dialogues, "__iter__"):
        raise TypeError(f"{expected}, got {_check.describe(dialogues)}")
    found = []
    for dialogue in dialogues:
        if isinstance(dialogue, str) or not hasattr(dialogue, "__iter__"):
            raise TypeError(f"{expected}, got {_check.describe(dialogue)} for a dialogue")
        found.append([_tokens(utterance, encode, expected) for utterance in dialogue])
    return found


def _tokens(utterance: Any, encode: Callable[[str], Any] | None, expected: str) -> np.ndarray:
    if isinstance(utterance, str):
        if encode is None:
            raise TypeError(f"{expected} of integers, got text; texts need a vocabulary")
        utterance = encode(utterance)
    elif not hasattr(utterance, "__len__"):
        raise TypeError(f"{expected}, got {_check.describe(utterance)} for an utterance")
    tokens = _check.integers(utterance, "dialogues") if len(utterance) else np.zeros(0, np.int64)
    if tokens.ndim != 1:
        raise ValueError(f"{expected} [T], got one of shape {tokens.shape}")
    return tokens


def _weights(weight: Any, dialogues: list[list[np.ndarray]]) -> list[np.ndarray]:
    """For each dialogue the weights of its answers."""
    if not hasattr(weight, "__len__"):
        raise TypeError(f"weight: expected {len(dialogues)}, one for each dialogue, got {_check.describe(weight)}")
    if len(weight) != len(dialogues):
        raise ValueError(f"weight: expected {len(dialogues)}, one for each dialogue, got {len(weight)}")
    found = []
    for position, (one, dialogue) in enumerate(zip(weight, dialogues, strict=True)):
        count = len(dialogue) - 1
        if np.ndim(one) and np.shape(one) != (count,):
            raise ValueError(
                f"weight: expected a number or {count} of them, one for each utterance but the first, "
                f"got shape {np.shape(one)} at {position}"
            )
        found.append(np.array(np.broadcast_to(_check.weights(one, np.shape(one)), (count,))))
    return found
