"""CharVocabulary: every character a token."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _check

UNKNOWN = "\ufffd"


def _codes(text: str) -> np.ndarray:
    """Return the code points of `text`, uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class CharVocabulary:
    """Characters and their numbers. Number 0 is the unknown character, U+FFFD; the others follow in the order
    given.

    Parameters
    ----------
    symbols : str
        The characters, each once.

    Examples
    --------
    >>> import fastrnn as fr
    >>> vocabulary = fr.text.CharVocabulary.from_text("hello world")
    >>> len(vocabulary)
    9
    >>> vocabulary.encode("hold!")
    array([4, 6, 5, 2, 0], dtype=int32)
    >>> vocabulary.decode([4, 6, 5, 2])
    'hold'
    """

    def __init__(self, symbols: str) -> None:
        symbols = _check.text(symbols, "symbols").replace(UNKNOWN, "")
        if len(set(symbols)) != len(symbols):
            raise ValueError("symbols: a character occurs twice")
        self.symbols = UNKNOWN + symbols
        self._codes = _codes(self.symbols)
        # One entry past the largest code point stands for everything above it.
        last = int(self._codes[1:].max(initial=0))
        self._table = np.zeros(last + 2, dtype=np.int32)
        self._table[self._codes[1:]] = np.arange(1, len(self.symbols))

    @classmethod
    def from_text(cls, text: str, *, max_size: int | None = None, min_count: int = 1) -> CharVocabulary:
        """Collect the characters of `text`, in order of code points.

        Parameters
        ----------
        text : str
            What to count.
        max_size : int, optional
            Keep the most frequent, so that the vocabulary with its unknown character has at most this size.
        min_count : int
            Leave out characters that are rarer.
        """
        if max_size is not None and _check.integer(max_size, "max_size") < 2:
            raise ValueError(f"max_size: expected >= 2, got {max_size!r}")
        counts = np.bincount(_codes(_check.text(text)), minlength=1)
        codes = np.flatnonzero(counts >= max(_check.natural(min_count, "min_count"), 1))
        codes = codes[codes != ord(UNKNOWN)]
        if max_size is not None and len(codes) > max_size - 1:
            most = np.argsort(-counts[codes], kind="stable")[: max_size - 1]
            codes = np.sort(codes[most])
        return cls("".join(map(chr, codes.tolist())))

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharVocabulary) and self.symbols == other.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def __repr__(self) -> str:
        return f"CharVocabulary({len(self)} characters)"

    def encode(self, text: str) -> np.ndarray:
        """Return the numbers of the characters of `text`, int32 [N]; characters that aren't known give 0."""
        tokens: np.ndarray = self._table[np.minimum(_codes(_check.text(text)), len(self._table) - 1)]
        return tokens

    def decode(self, tokens: Any) -> str:
        """Return the text of numbers [N]; 0 gives U+FFFD.

        Raises
        ------
        ValueError
            A number is outside the vocabulary.
        """
        numbers = _check.tokens(tokens, len(self))
        data: bytes = self._codes[numbers].astype("<u4").tobytes()
        return data.decode("utf-32-le", "surrogatepass")

    def token(self, number: int) -> str:
        """Return one character, U+FFFD for 0."""
        return self.symbols[_check.index(number, len(self), "number")]

    def config(self) -> dict[str, Any]:
        """Return what rebuilds the vocabulary: ``CharVocabulary(**config)``."""
        return {"symbols": self.symbols[1:]}
