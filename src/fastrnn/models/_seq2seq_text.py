"""Texts and tokens of `Seq2Seq`: one side's vocabulary, and what the model takes as a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.text import Vocabulary, as_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Hypothesis(NamedTuple):
    """A text that a model wrote.

    Attributes
    ----------
    text : str, or None for a model without vocabulary
    tokens : integers [T]
        Without begin and end.
    score : float
        Of a beam search its score, else log P.
    weights : array [T + 1, S], or None
        Attention at each token and at the end, to each token of the source.
    """

    text: str | None
    tokens: NDArray[np.int64]
    score: float
    weights: NDArray[Any] | None = None


class Side:
    """Source or target: a vocabulary, or the number of tokens."""

    def __init__(self, given: Any, name: str) -> None:
        self.name = name
        self.vocabulary: Any = None
        if isinstance(given, int | np.integer) and not isinstance(given, bool):
            self.size = _check.integer(given, f"{name}_vocabulary")
            if self.size < 5:
                raise ValueError(
                    f"{name}_vocabulary: expected at least 5 tokens, because 0 to 3 are padding, begin, end and "
                    f"unknown, got {given}"
                )
            self.pad, self.bos, self.eos, self.unk = Vocabulary.pad, Vocabulary.bos, Vocabulary.eos, Vocabulary.unk
            return
        try:
            vocabulary = as_vocabulary(given)
        except TypeError:
            raise TypeError(
                f"{name}_vocabulary: expected a vocabulary, a tokenizer or a number of tokens, "
                f"got {_check.describe(given)}"
            ) from None
        self.vocabulary, self.size = vocabulary, len(vocabulary)
        self.pad, self.bos, self.eos, self.unk = (getattr(vocabulary, k) for k in ("pad", "bos", "eos", "unk"))

    def config(self) -> Any:
        return self.size if self.vocabulary is None else self.vocabulary.config()

    def encode(self, text: Any) -> NDArray[np.int64]:
        """Tokens [T] of a text, or of what holds tokens already."""
        if isinstance(text, str):
            if self.vocabulary is None:
                raise TypeError(f"{self.name}: this model has no vocabulary; pass integers, not text")
            return np.asarray(self.vocabulary.encode(text), np.int64)
        expected = "texts, or integers [T] each"
        _check.items(text, self.name, expected)
        if isinstance(text, list | tuple) and any(isinstance(token, str) for token in text[:1]):
            raise TypeError(f"{self.name}: expected {expected}, got {_check.describe(text)} that holds texts")
        tokens = _check.integers(text, self.name)
        if tokens.ndim != 1:
            raise ValueError(f"{self.name}: expected {expected}, got one of shape {tokens.shape}")
        _check.in_range(tokens, self.size, "the size of the vocabulary", self.name)
        return tokens

    def decode(self, tokens: NDArray[np.int64]) -> str | None:
        return None if self.vocabulary is None else str(self.vocabulary.decode(tokens))

    def names(self, tokens: Any) -> list[Any]:
        """What stands at each token's place: strings, or the tokens of a model without vocabulary."""
        tokens = [int(token) for token in tokens]
        return tokens if self.vocabulary is None else [self.vocabulary.token(token) for token in tokens]

    def batch(self, x: Any, lengths: Any = None, label: str = "lengths") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens [T, B], T ≥ 1, padded, and lengths [B]; of texts, sequences, or an array [T, B] already."""
        if isinstance(x, str):
            x = [x]
        if isinstance(x, list | tuple) and lengths is None:
            rows = [self.encode(row) for row in x]
            ends = np.array([len(row) for row in rows], np.int64)
            tokens = np.full((max(int(ends.max(initial=1)), 1), len(rows)), self.pad, np.int64)
            for b, row in enumerate(rows):
                tokens[: len(row), b] = row
            return tokens, ends
        tokens = _check.integers(x, self.name)
        if tokens.ndim != 2 or len(tokens) == 0:
            raise ValueError(f"{self.name}: expected integers [T, B] with T ≥ 1, got shape {tokens.shape}")
        ends = np.full(tokens.shape[1], len(tokens))
        if lengths is not None:
            ends = _check.lengths(lengths, tokens.shape[1], len(tokens), "T", label)
            tokens = np.where(np.arange(len(tokens))[:, None] < ends, tokens, self.pad)
        _check.in_range(tokens, self.size, "the size of the vocabulary", self.name)
        return tokens, ends


def pairs_of(pairs: Any) -> tuple[list[Any], list[Any]]:
    """Sources and targets of a list of pairs."""
    sources, targets = [], []
    for number, pair in enumerate(_check.items(pairs, "pairs", "a list of (source, target)")):
        if not isinstance(pair, tuple | list | np.ndarray) or len(pair) != 2:
            raise TypeError(f"pairs: expected (source, target) each, got {_check.describe(pair)} as number {number}")
        sources.append(pair[0])
        targets.append(pair[1])
    return sources, targets
