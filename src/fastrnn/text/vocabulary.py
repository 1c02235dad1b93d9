"""Vocabulary: words or characters and their numbers, with the special tokens that sequence models need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)


def split_words(text: str) -> list[str]:
    """Split at white space.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.text.split_words("to be or  not")
    ['to', 'be', 'or', 'not']
    """
    return text.split()


# How a text becomes tokens, and what stands between them in a text again.
TOKENIZERS: dict[str, tuple[Callable[[str], list[str]], str]] = {"words": (split_words, " "), "characters": (list, "")}


class Vocabulary:
    """Words (or characters) and their numbers. Numbers 0 to 3 are padding, the begin and the end of a text, and the
    unknown token; the others follow in the order given.

    Parameters
    ----------
    tokens : sequence of str
        Each once, without the special ones.
    tokenizer : "words" or "characters"
        Texts are split at white space, or into characters.

    Attributes
    ----------
    pad, bos, eos, unk : int
        0, 1, 2, 3.
    tokens : list of str
        All of them, special ones included, in the order of their numbers.

    Examples
    --------
    >>> import fastrnn as fr
    >>> vocabulary = fr.text.Vocabulary.from_texts(["to be or not to be"])
    >>> vocabulary.encode("not to know").tolist()
    [7, 4, 3]
    >>> vocabulary.decode([1, 7, 4, 3, 2])
    'not to <unk>'
    """

    pad, bos, eos, unk = PAD, BOS, EOS, UNK

    def __init__(self, tokens: Sequence[str], *, tokenizer: str = "words") -> None:
        if tokenizer not in TOKENIZERS:
            raise ValueError(f"tokenizer: expected one of {', '.join(map(repr, TOKENIZERS))}, got {tokenizer!r}")
        self.tokenizer = tokenizer
        self.tokens = [*SPECIALS, *tokens]
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self._numbers) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"tokens: {twice!r} occurs twice, or is a special token")

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], *, tokenizer: str = "words", max_size: int | None = None, min_count: int = 1
    ) -> Vocabulary:
        """Collect the tokens of `texts`, the most frequent first (equals in the order of their first occurrence).

        Parameters
        ----------
        texts : iterable of str
        tokenizer : "words" or "characters"
        max_size : int, optional
            Most tokens, special ones included.
        min_count : int
            Leave out tokens that are rarer.
        """
        if isinstance(texts, str):
            raise TypeError("texts: expected an iterable of texts, got one text; put it into a list")
        if max_size is not None and max_size < len(SPECIALS) + 1:
            raise ValueError(f"max_size: expected >= {len(SPECIALS) + 1}, got {max_size!r}")
        empty = cls([], tokenizer=tokenizer)
        counts = Counter(token for text in texts for token in empty.split(text))
        for special in SPECIALS:
            counts.pop(special, None)
        room = None if max_size is None else max_size - len(SPECIALS)
        return cls([token for token, n in counts.most_common(room) if n >= min_count], tokenizer=tokenizer)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and (self.tokens, self.tokenizer) == (other.tokens, other.tokenizer)

    def __hash__(self) -> int:
        return hash((tuple(self.tokens), self.tokenizer))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {self.tokenizer})"

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text as strings."""
        if not isinstance(text, str):
            raise TypeError(f"text: expected str, got {type(text).__name__}")
        return TOKENIZERS[self.tokenizer][0](text)

    def encode(self, text: str) -> np.ndarray:
        """Return the numbers of a text's tokens, int32 [N], without begin and end; unknown ones give `unk`."""
        numbers = self._numbers
        return np.array([numbers.get(token, UNK) for token in self.split(text)], np.int32)

    def decode(self, tokens: Any) -> str:
        """Return the text of numbers [N]: padding and begin are left out, and what follows an end.

        Raises
        ------
        ValueError
            A number is outside the vocabulary.
        """
        tokens = np.asarray(tokens)
        if tokens.size == 0:
            return ""
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise ValueError(f"tokens: expected integers [N], got {tokens.dtype} {tokens.shape}")
        if tokens.min() < 0 or tokens.max() >= len(self):
            raise ValueError(f"tokens: expected 0 … {len(self) - 1}, got {tokens.min()} … {tokens.max()}")
        found = []
        for number in tokens.tolist():
            if number == EOS:
                break
            if number > EOS:
                found.append(self.tokens[number])
        return TOKENIZERS[self.tokenizer][1].join(found)

    def config(self) -> dict[str, Any]:
        """Return what rebuilds the vocabulary: ``Vocabulary(**config)``."""
        return {"tokens": self.tokens[len(SPECIALS) :], "tokenizer": self.tokenizer}
