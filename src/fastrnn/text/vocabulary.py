"""Vocabulary: words or characters and their numbers, with the special tokens that sequence models need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn.text.tokenizers import TOKENIZERS

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)


class Vocabulary:
    """Words (or characters) and their numbers. Numbers 0 to 3 are padding, the begin and the end of a text, and the
    unknown token; the others follow in the order given.

    Parameters
    ----------
    tokens : sequence of str
        Each once, without the special ones.
    tokenizer : "words", "tokens" or "characters"
        Texts are split at white space; into words, numbers, punctuation and line breaks (`split_tokens`); or into
        characters.
    lower : bool
        Texts are put into lower case first.

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

    def __init__(self, tokens: Sequence[str], *, tokenizer: str = "words", lower: bool = False) -> None:
        if isinstance(tokens, str):
            raise TypeError(
                "tokens: expected a sequence of tokens, got one text; Vocabulary.from_texts([text]) splits it"
            )
        _check.choice(tokenizer, TOKENIZERS, "tokenizer")
        self.tokenizer, self.lower = tokenizer, _check.flag(lower, "lower")
        self.tokens = [*SPECIALS, *(_check.text(token, "tokens") for token in _check.several(tokens, "tokens"))]
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self._numbers) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"tokens: {twice!r} occurs twice, or is a special token")
        # A text that holds "<eos>" as a word must not end there; in prepared corpora "<unk>" is what it says.
        for special in SPECIALS[:UNK]:
            del self._numbers[special]

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        *,
        tokenizer: str = "words",
        lower: bool = False,
        max_size: int | None = None,
        min_count: int = 1,
    ) -> Vocabulary:
        """Collect the tokens of `texts`, the most frequent first (equals in the order of their first occurrence).

        Parameters
        ----------
        texts : iterable of str
        tokenizer, lower
            As for the class.
        max_size : int, optional
            Most tokens, special ones included.
        min_count : int
            Leave out tokens that are rarer.
        """
        if max_size is not None and _check.integer(max_size, "max_size") < len(SPECIALS) + 1:
            raise ValueError(f"max_size: expected >= {len(SPECIALS) + 1}, got {max_size!r}")
        min_count = _check.natural(min_count, "min_count")
        empty = cls([], tokenizer=tokenizer, lower=lower)
        counts: Counter[str] = Counter()
        for text in _check.several(texts):
            counts.update(empty.split(text))
        for special in SPECIALS:
            counts.pop(special, None)
        room = None if max_size is None else max_size - len(SPECIALS)
        kept = [token for token, n in counts.most_common(room) if n >= min_count]
        return cls(kept, tokenizer=tokenizer, lower=lower)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        """Whether `encode` knows a token."""
        return token in self._numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash((tuple(self.tokens), self.tokenizer, self.lower))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {self.tokenizer})"

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text as strings."""
        text = _check.text(text)
        return TOKENIZERS[self.tokenizer].split(text.lower() if self.lower else text)

    def token(self, number: int) -> str:
        """Return one token, special ones included."""
        return self.tokens[_check.index(number, len(self), "number")]

    def encode(self, text: str) -> np.ndarray:
        """Return the numbers of a text's tokens, int32 [N], without begin and end; unknown ones give `unk`."""
        tokens = self.split(text)
        return np.fromiter(map(self._numbers.get, tokens, repeat(UNK)), np.int32, len(tokens))

    def decode(self, tokens: Any) -> str:
        """Return the text of numbers [N]: padding and begin are left out, and what follows an end.

        Raises
        ------
        ValueError
            A number is outside the vocabulary.
        """
        found = []
        for number in _check.tokens(tokens, len(self)).tolist():
            if number == EOS:
                break
            if number > EOS:
                found.append(self.tokens[number])
        return TOKENIZERS[self.tokenizer].join(found)

    def config(self) -> dict[str, Any]:
        """Return what rebuilds the vocabulary: ``Vocabulary(**config)``."""
        return {"tokens": self.tokens[len(SPECIALS) :], "tokenizer": self.tokenizer, "lower": self.lower}
