"""What the commands say and do differently for models of characters and models of words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fastrnn.text import CharVocabulary, Vocabulary, token_stream
from fastrnn.train.progress import amount

if TYPE_CHECKING:
    from fastrnn.models import LanguageModel

__all__ = ["KINDS", "Kind", "pieces", "unknown_tokens"]

# Tokens that are kept while text is written: what is before them no longer changes how a token looks.
LONGEST, KEPT = 400, 100


class Kind(NamedTuple):
    """Tokens of one kind: what one is called, and the defaults of settings that depend on it."""

    noun: str
    short: str
    symbols: int
    seq_len: int

    def vocabulary(self, text: str, symbols: int) -> CharVocabulary | Vocabulary:
        """The most frequent tokens of a text."""
        if self.noun == "character":
            return CharVocabulary.from_text(text, max_size=symbols)
        return Vocabulary.from_texts([text], tokenizer="tokens", max_size=max(symbols, 5))

    def encode(self, text: str, vocabulary: CharVocabulary | Vocabulary) -> Any:
        """A text as one stream."""
        return vocabulary.encode(text) if isinstance(vocabulary, CharVocabulary) else token_stream([text], vocabulary)

    def held_out(self, model: LanguageModel, held: Any) -> tuple[str, dict[str, float]]:
        """What a model makes of held-out tokens: a line for people, and figures."""
        bits = model.bits_per_token(held)
        perplexity = 2.0 ** min(bits, 1000.0)
        figures = {f"held_out_bits_per_{self.short}": bits, "held_out_perplexity": perplexity}
        shown = "" if self.noun == "character" else f"perplexity {perplexity:.{'1f' if bits < 100 else '3g'}}, "
        return f"{shown}{bits:.3f} bits per {self.noun} ({amount(len(held))} {self.noun}s)", figures


KINDS = {"characters": Kind("character", "char", 128, 128), "words": Kind("word", "word", 8000, 32)}


def unknown_tokens(vocabulary: Any, text: str) -> list[str]:
    """The tokens of a text that a vocabulary doesn't know, where it tells them."""
    if isinstance(vocabulary, CharVocabulary):
        return sorted({c for c in text if c not in vocabulary.symbols[1:]})
    if isinstance(vocabulary, Vocabulary):
        return sorted({token for token in vocabulary.split(text) if token not in vocabulary})
    return []


def pieces(vocabulary: Any, prompt: str, tokens: Iterable[int]) -> Iterator[str]:
    """Yield what each token adds to the text of a prompt."""
    if isinstance(vocabulary, CharVocabulary):
        for token in tokens:
            yield vocabulary.decode([token])
        return
    seen = vocabulary.encode(prompt).tolist()
    shown = vocabulary.decode(seen)
    space = prompt[-1:].isspace()  # it stands there already
    for token in tokens:
        if len(seen) > LONGEST:
            seen = seen[-KEPT:]
            shown = vocabulary.decode(seen)
        seen.append(token)
        text = vocabulary.decode(seen)
        if text.endswith("\ufffd"):  # the first bytes of a character
            continue
        added, shown = text[len(shown) :], text
        yield added[1:] if space and added[:1] == " " else added
        space = False
