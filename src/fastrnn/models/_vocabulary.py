"""What models that read and write text share: their vocabulary, and texts as numbers."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.text import AdaptedVocabulary, CharVocabulary, Vocabulary, as_vocabulary, vocabulary_from_config
from fastrnn.text.adapters import token_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

Words = Vocabulary | AdaptedVocabulary  # with padding, begin, end
AnyVocabulary = CharVocabulary | Words


def prepared(vocabulary: Any) -> tuple[AnyVocabulary | None, int]:
    """Return a model's vocabulary, or None, and its size.

    A number of tokens is no vocabulary; a CharVocabulary is taken as it is; a dict is what `config` returned; anything
    else that encodes and decodes is adapted.
    """
    if isinstance(vocabulary, dict):
        vocabulary = vocabulary_from_config(vocabulary)
    if callable(getattr(vocabulary, "encode", None)) and callable(getattr(vocabulary, "decode", None)):
        found = vocabulary if isinstance(vocabulary, CharVocabulary) else as_vocabulary(vocabulary)
        return found, len(found)
    try:
        return None, _check.positive_int(vocabulary, "vocabulary")
    except TypeError:
        raise TypeError(
            "vocabulary: expected a number of tokens or a CharVocabulary, such as CharVocabulary.from_text(text), "
            f"a Vocabulary, or a tokenizer with `encode` and `decode`, got {vocabulary!r:.80}"
        ) from None


def keep(model: Any, name: str, value: Any) -> None:
    """Put what a constructor made of an argument in the argument's place, for the model's `config`."""
    args, kwargs = model._arguments
    bound = inspect.signature(type(model).__init__).bind(model, *args, **kwargs)
    bound.arguments[name] = value
    model._arguments = (bound.args[1:], bound.kwargs)


def numbers(vocabulary: AnyVocabulary | None, text: Any, name: str) -> NDArray[Any]:
    """Return the tokens of a text, of a list of texts (with an end around each), or of numbers."""
    listed = isinstance(text, list | tuple) and bool(text) and all(isinstance(part, str) for part in text)
    if vocabulary is None and (listed or isinstance(text, str)):
        raise TypeError(f"{name}: this model has no vocabulary; pass integers, not text")
    if listed:
        if isinstance(vocabulary, CharVocabulary):
            raise TypeError(f"{name}: expected one text, got a list; characters have no end of a text, join them")
        return token_stream(text, vocabulary)
    if isinstance(text, str):
        assert vocabulary is not None
        return vocabulary.encode(text)
    try:
        tokens = np.asarray(text)
    except ValueError:  # lists of different lengths
        raise ValueError(f"{name}: expected text or integers [N], got {_check.describe(text)}") from None
    if tokens.size and tokens.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected text or integers [N], got {tokens.dtype} {tokens.shape}")
    return tokens


def unspoken(vocabulary: AnyVocabulary | None, *, end: bool = False) -> list[int]:
    """Return the tokens that nobody wants to read: the unknown one, padding, begin, with `end` the end, too."""
    if vocabulary is None:
        return []
    if isinstance(vocabulary, CharVocabulary):
        return [0]
    return [vocabulary.pad, vocabulary.bos, vocabulary.unk, *([vocabulary.eos] if end else [])]


def beginning(vocabulary: AnyVocabulary | None) -> NDArray[Any]:
    """Return what an empty prompt stands for: a line break, or the end of a text where there is no line break."""
    if vocabulary is None:
        return np.zeros(1, np.int64)
    tokens = vocabulary.encode("\n")
    if isinstance(vocabulary, CharVocabulary) or (tokens.size == 1 and tokens[0] != vocabulary.unk):
        return tokens
    return np.array([vocabulary.eos])
