"""How a text becomes tokens, and tokens a text again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fastrnn import _check

# A number with its points and commas; a word with its digits and apostrophes; any other sign; a line break.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?!\w)|[^\W_]+(?:['’][^\W_]+)*|\n|[^\w\s]|_")
_NO_SPACE_BEFORE = frozenset(".,;:!?%)]}…’'”»\n")
_NO_SPACE_AFTER = frozenset("([{“«‘¿¡$£#@\n")
_JOINS = frozenset("-/_\\")  # stands between two words without spaces
_QUOTES = frozenset("\"`'")  # opens and closes


def split_words(text: str) -> list[str]:
    """Split at white space.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.text.split_words("to be or  not")
    ['to', 'be', 'or', 'not']
    """
    return _check.text(text).split()


def split_tokens(text: str) -> list[str]:
    """Split into words, numbers, punctuation and line breaks, each a token of its own.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.text.split_tokens("Isn't 3.5 (or so) enough?")
    ["Isn't", '3.5', '(', 'or', 'so', ')', 'enough', '?']
    """
    found: list[str] = _TOKEN.findall(_check.text(text))
    return found


def join_tokens(tokens: Iterable[str]) -> str:
    """Put a text together from what `split_tokens` returned, with spaces where English has them.

    Each token is placed by those before it alone, so the text of some first tokens begins the text of more.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.text.join_tokens(["so", "-", "called", '"', "words", '"', "(", "two", ")", "."])
    'so-called "words" (two).'
    """
    parts: list[str] = []
    opened: set[str] = set()
    glued = True  # nothing comes between the token before and this one
    for token in tokens:
        closes = token in opened
        if token in _QUOTES:
            opened ^= {token}
            before, after = not closes, closes
        else:
            joins = token in _JOINS
            before, after = not joins and token not in _NO_SPACE_BEFORE, not joins and token not in _NO_SPACE_AFTER
        if token == "\n":
            opened.clear()  # a quotation that a line forgot to close
        parts += [" ", token] if before and not glued else [token]
        glued = not after
    return "".join(parts)


def join_words(tokens: Iterable[str]) -> str:
    """Put words together, with spaces between them."""
    return " ".join(tokens)


def join_characters(tokens: Iterable[str]) -> str:
    """Put characters together."""
    return "".join(tokens)


class Tokenizer(NamedTuple):
    """Two functions, one the way back of the other as nearly as it can."""

    split: Callable[[str], list[str]]
    join: Callable[[Iterable[str]], str]


TOKENIZERS = {
    "words": Tokenizer(split_words, join_words),
    "tokens": Tokenizer(split_tokens, join_tokens),
    "characters": Tokenizer(list, join_characters),
}
