"""Vocabularies made of other tokenisers: of characters, of Hugging Face's, of anything that encodes and decodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn.text.characters import CharVocabulary
from fastrnn.text.vocabulary import Vocabulary

__all__ = ["AdaptedVocabulary", "as_vocabulary", "token_stream", "vocabulary_from_config"]

# Under which names tokenisers keep their special tokens, ours first, then by how usual they are.
NAMES = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"),
    "bos": ("<bos>", "<s>", "[BOS]", "<|startoftext|>", "<|begin_of_text|>", "[CLS]"),
    "eos": ("<eos>", "</s>", "[EOS]", "<|endoftext|>", "<|end_of_text|>", "[SEP]"),
    "unk": ("<unk>", "[UNK]", "<|unk|>"),
}
# What other tokenisers call the number of their tokens: an attribute, or a method without arguments.
SIZES = ("get_vocab_size", "vocab_size", "get_piece_size", "n_vocab", "__len__")


class AdaptedVocabulary:
    """A tokeniser as models want one, with numbers for padding, begin, end and the unknown token.

    Made by `as_vocabulary`. A special token that the tokeniser lacks gets a number past the tokeniser's own ones, in
    the order pad, bos, eos, unk.

    Parameters
    ----------
    tokenizer : object
        Has ``encode(text)``, which returns integers, or an object with integers in ``.ids``, and ``decode(ids)``.
    size : int, optional
        The number of its tokens, where it doesn't say by itself.
    pad, bos, eos, unk : int or str, optional
        Its special tokens, by number or by name, where they aren't found by themselves.

    Attributes
    ----------
    tokenizer : object
    pad, bos, eos, unk : int

    Examples
    --------
    >>> import fastrnn as fr
    >>> vocabulary = fr.text.as_vocabulary(fr.text.CharVocabulary("abc"))
    >>> len(vocabulary), vocabulary.unk, vocabulary.pad, vocabulary.bos, vocabulary.eos
    (7, 0, 4, 5, 6)
    >>> vocabulary.encode("cab!").tolist()
    [3, 1, 2, 0]
    >>> vocabulary.decode([5, 3, 1, 2, 6, 1])
    'cab'
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        size: int | None = None,
        pad: int | str | None = None,
        bos: int | str | None = None,
        eos: int | str | None = None,
        unk: int | str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        for method in ("encode", "decode"):
            if not callable(getattr(tokenizer, method, None)):
                raise TypeError(
                    "vocabulary: expected a Vocabulary, a CharVocabulary, or a tokenizer with `encode` and `decode`, "
                    f"got {_check.describe(tokenizer)}, which has no method {method!r}"
                )
        self._own = _size(tokenizer) if size is None else _check.positive_int(size, "size")
        self._size = self._own
        self._names: dict[int, str] = {}  # of the special tokens
        self.pad = self._special("pad", pad)
        self.bos = self._special("bos", bos)
        self.eos = self._special("eos", eos)
        self.unk = self._special("unk", unk)

    def _special(self, which: str, given: int | str | None) -> int:
        """Return the number of a special token: the one given, the one found, or a new one."""
        if isinstance(given, str):
            number = _number_of(self.tokenizer, given)
            if number is None:
                raise ValueError(f"{which}: the tokenizer has no token {given!r}")
        elif given is not None:
            number = _check.integer(given, which)
            if not 0 <= number < self._own + len(NAMES):
                raise ValueError(f"{which}: expected the number of a token, below {self._own}, got {number}")
            self._size = max(self._size, number + 1)
        else:
            number = _find(self.tokenizer, which)
        if number is None:
            number = self._size
            self._size += 1
        if number >= self._own:
            self._names[number] = f"<{which}>"
        return number

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdaptedVocabulary) and (
            self.tokenizer is other.tokenizer or self._comparable() == other._comparable()
        )

    def __hash__(self) -> int:
        return hash((len(self), self.pad, self.bos, self.eos, self.unk))

    def _comparable(self) -> Any:
        try:
            return self.config()
        except TypeError:
            return id(self.tokenizer)

    def __repr__(self) -> str:
        return f"AdaptedVocabulary({type(self.tokenizer).__name__}, {len(self)} tokens)"

    def encode(self, text: str) -> np.ndarray:
        """Return the numbers of a text's tokens, int32 [N], without begin and end."""
        text = _check.text(text)
        if _is_hugging_face(self.tokenizer):  # whose templates would add [CLS] and the like
            found = self.tokenizer.encode(text, add_special_tokens=False)
        else:
            found = self.tokenizer.encode(text)
        return np.asarray(getattr(found, "ids", found), np.int32)

    def decode(self, tokens: Any) -> str:
        """Return the text of numbers [N]: padding and begin are left out, and what follows an end.

        Raises
        ------
        ValueError
            A number is outside the vocabulary.
        """
        kept: list[int] = []
        for position, number in enumerate(_check.tokens(tokens, len(self)).tolist()):
            if number == self.eos and not (number == self.bos and position == 0):
                break
            if number not in (self.pad, self.bos) and number < self._own:
                kept.append(number)
        return str(self.tokenizer.decode(kept)) if kept else ""

    def token(self, number: int) -> str:
        """Return one token, special ones included."""
        number = _check.index(number, len(self), "number")
        if number in self._names:
            return self._names[number]
        for method in ("id_to_token", "id_to_piece", "token"):
            if callable(getattr(self.tokenizer, method, None)):
                return str(getattr(self.tokenizer, method)(number))
        return str(self.tokenizer.decode([number]))

    def config(self) -> dict[str, Any]:
        """Return what `vocabulary_from_config` rebuilds the vocabulary from.

        Raises
        ------
        TypeError
            The tokeniser can't be written.
        """
        return {"kind": "adapted", **_written(self.tokenizer), "size": self._own, **self._numbers()}

    def _numbers(self) -> dict[str, int]:
        return {which: getattr(self, which) for which in NAMES}


def as_vocabulary(thing: Any, **specials: Any) -> Vocabulary | AdaptedVocabulary:
    """Return a vocabulary with `pad`, `bos`, `eos`, `unk`, `len`, `encode`, `decode`, `token` and `config`.

    Parameters
    ----------
    thing : Vocabulary, CharVocabulary, tokenizer, or what their `config` returned
        A Vocabulary is returned as it is. Anything else that has `encode` and `decode` is adapted: a `Tokenizer` of
        Hugging Face's `tokenizers`, a fast tokenizer of `transformers`, a processor of `sentencepiece`, a class of
        your own whose `encode` returns a list of integers.
    **specials
        `pad`, `bos`, `eos`, `unk` (numbers, or names that the tokenizer knows) and `size`, where a tokenizer doesn't
        tell them: see `AdaptedVocabulary`. Usual names, such as ``[PAD]`` or ``</s>``, are found by themselves.

    Raises
    ------
    TypeError
        It is nothing of that kind.

    Examples
    --------
    >>> import fastrnn as fr
    >>> class Bytes:
    ...     vocab_size = 256
    ...     def encode(self, text):
    ...         return list(text.encode())
    ...     def decode(self, ids):
    ...         return bytes(ids).decode(errors="replace")
    >>> vocabulary = fr.text.as_vocabulary(Bytes())
    >>> vocabulary.encode("né").tolist(), vocabulary.eos, len(vocabulary)
    ([110, 195, 169], 258, 260)
    """
    if isinstance(thing, dict):
        thing = vocabulary_from_config(thing)
    if isinstance(thing, Vocabulary | AdaptedVocabulary):
        if specials:
            raise TypeError(f"{min(specials)}: this vocabulary has its special tokens already")
        return thing
    backend = getattr(thing, "backend_tokenizer", None)  # `transformers` wraps a `tokenizers`, and knows its specials
    if _is_hugging_face(backend):
        named = {which: getattr(thing, f"{which}_token_id", None) for which in NAMES}
        return AdaptedVocabulary(backend, **{**{k: v for k, v in named.items() if v is not None}, **specials})
    return AdaptedVocabulary(thing, **specials)


def vocabulary_from_config(config: dict[str, Any]) -> Vocabulary | CharVocabulary | AdaptedVocabulary:
    """Rebuild a vocabulary from what its `config` returned.

    Raises
    ------
    ImportError
        It was made of another package's tokenizer, which isn't installed.
    ValueError
        It isn't the description of a vocabulary.

    Examples
    --------
    >>> import fastrnn as fr
    >>> vocabulary = fr.text.Vocabulary.from_texts(["to be or not to be"])
    >>> fr.text.vocabulary_from_config(vocabulary.config()) == vocabulary
    True
    """
    if not isinstance(config, dict):
        raise TypeError(
            f"config: expected the dict that a vocabulary's config() returned, got {_check.describe(config)}"
        )
    try:
        if "kind" not in config:
            return CharVocabulary(**config) if "symbols" in config else Vocabulary(**config)
        specials = {which: config[which] for which in (*NAMES, "size")}
        if config["kind"] == "adapted":
            return AdaptedVocabulary(_read(config), **specials)
    except (KeyError, TypeError) as error:
        raise ValueError(f"config: doesn't describe a vocabulary ({error})") from None
    raise ValueError(f"config: of an unknown kind of vocabulary, {config['kind']!r:.40}")


def token_stream(texts: Iterable[str], vocabulary: Any) -> np.ndarray:
    """Join texts to one stream of tokens with an end before, between and after them: what a language model reads.

    Parameters
    ----------
    texts : iterable of str
    vocabulary
        What `as_vocabulary` takes.

    Returns
    -------
    int32 array [N]

    Examples
    --------
    >>> import fastrnn as fr
    >>> texts = ["to be", "or not to be"]
    >>> vocabulary = fr.text.Vocabulary.from_texts(texts)
    >>> fr.text.token_stream(texts, vocabulary).tolist()
    [2, 4, 5, 2, 6, 7, 4, 5, 2]
    """
    texts = _check.several(texts)
    vocabulary = as_vocabulary(vocabulary)
    end = np.array([vocabulary.eos], np.int32)
    parts = [end]
    for text in texts:
        parts += [vocabulary.encode(text), end]
    return np.concatenate(parts)


# ---- what we know about other tokenisers --------------------------------------------------------------------


def _is_hugging_face(tokenizer: Any) -> bool:
    return callable(getattr(tokenizer, "token_to_id", None)) and callable(getattr(tokenizer, "to_str", None))


def _size(tokenizer: Any) -> int:
    for name in SIZES:
        found = getattr(tokenizer, name, None)
        if found is not None:
            return _check.positive_int(found() if callable(found) else found, f"vocabulary.{name}")
    raise TypeError(
        f"size: {type(tokenizer).__name__} doesn't say how many tokens it has (no {', '.join(SIZES)}); "
        "pass fr.text.as_vocabulary(tokenizer, size=…)"
    )


def _number_of(tokenizer: Any, name: str) -> int | None:
    """Return the number of a token by its name, or None."""
    if callable(getattr(tokenizer, "token_to_id", None)):
        found = tokenizer.token_to_id(name)
        return None if found is None else int(found)
    if callable(getattr(tokenizer, "piece_to_id", None)):
        found = int(tokenizer.piece_to_id(name))  # that of the unknown token, where there is no such piece
        return found if tokenizer.id_to_piece(found) == name else None
    return None


def _find(tokenizer: Any, which: str) -> int | None:
    """Return the number of a special token that the tokeniser tells, or that has one of the usual names."""
    if isinstance(tokenizer, CharVocabulary):
        return 0 if which == "unk" else None
    told = getattr(tokenizer, f"{which}_id", None)  # sentencepiece: a method, -1 where there is none
    told = told() if callable(told) else told
    if isinstance(told, int) and told >= 0:
        return told
    found = (_number_of(tokenizer, name) for name in NAMES[which])
    return next((number for number in found if number is not None), None)


def _written(tokenizer: Any) -> dict[str, Any]:
    """Return a tokeniser as JSON can hold it."""
    if isinstance(tokenizer, CharVocabulary):
        return {"format": "characters", "data": tokenizer.symbols[1:]}
    if _is_hugging_face(tokenizer):
        return {"format": "tokenizers", "data": tokenizer.to_str()}
    if callable(getattr(tokenizer, "serialized_model_proto", None)):
        import base64

        return {"format": "sentencepiece", "data": base64.b64encode(tokenizer.serialized_model_proto()).decode()}
    raise TypeError(
        f"vocabulary: a {type(tokenizer).__name__} can't be written to a file (Hugging Face's and sentencepiece's "
        "tokenizers can); keep the weights with fr.io.save_tree(path, model.state_dict()), and load them with "
        "model.load_state_dict(fr.io.load_tree(path)) into a model that was built with the tokenizer again"
    )


def _read(config: dict[str, Any]) -> Any:
    """Return the tokeniser that `_written` wrote."""
    kind, data = config["format"], config["data"]
    if kind == "characters":
        return CharVocabulary(data)
    if kind == "tokenizers":
        tokenizers = _package("tokenizers")
        return tokenizers.Tokenizer.from_str(data)
    if kind == "sentencepiece":
        import base64

        return _package("sentencepiece").SentencePieceProcessor(model_proto=base64.b64decode(data))
    raise ValueError(f"config: of an unknown kind of tokenizer, {kind!r:.40}")


def _package(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this vocabulary is one of the package {name}: pip install {name}") from error
