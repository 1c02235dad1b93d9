"""What a language model writes: the likeliest next tokens, and whole texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models import _vocabulary
from fastrnn.models._sampling import sample_token, sampling_options
from fastrnn.nn._random import generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastrnn.nn.layer_stream import LayerStream
    from fastrnn.nn.stream import Stream

PROMPT_BLOCK = 512  # tokens whose logits are computed at once


class Writing:
    """Prediction and sampling, of a model with `vocabulary`, `vocab_size`, `stream` and a call."""

    vocabulary: _vocabulary.AnyVocabulary | None
    vocab_size: int

    if TYPE_CHECKING:  # what the model has

        def __call__(self, x: ArrayLike, state: Any = None) -> tuple[NDArray[Any], Any]: ...
        def stream(self, batch_size: int = 1) -> Stream | LayerStream: ...
        def _streams(self) -> bool: ...

    def _tokens(self, text: Any, name: str = "tokens") -> NDArray[Any]:
        return _vocabulary.numbers(self.vocabulary, text, name)

    def predict_next(self, text: Any = "", n: int = 5) -> list[Any]:
        """Return the tokens that are the likeliest to come next, with their probabilities.

        Parameters
        ----------
        text : str, or integers [N], or a list of str
            What comes before, all of which is read. Empty, it stands for what it stands for in `sample`.
        n : int
            How many.

        Returns
        -------
        list of (token, probability), the likeliest first
            For a list of texts a list of such lists. Tokens are strings, numbers for a model without vocabulary.
            Padding, begin and the unknown token are passed over; the end of a text counts as a token. Probabilities
            are the model's, among all tokens.

        Examples
        --------
        >>> import fastrnn as fr
        >>> vocabulary = fr.text.Vocabulary.from_texts(["one two three"])
        >>> model = fr.models.LanguageModel(vocabulary, hidden_size=8, seed=0)
        >>> best = model.predict_next("one two", n=2)
        >>> [type(token).__name__ for token, p in best], 0 < best[1][1] <= best[0][1] < 1
        (['str', 'str'], True)
        """
        n = _check.positive_int(n, "n")
        if isinstance(text, list | tuple) and text and all(isinstance(part, str) for part in text):
            return [self.predict_next(part, n) for part in text]
        logits = self._next_logits(self._prompt(text, "text"))[0].astype(np.float64)
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model's logits are not finite; its weights are probably broken")
        p = np.exp(logits - logits.max())
        return top_tokens(p / p.sum(), n, self.vocabulary, _vocabulary.unspoken(self.vocabulary))

    def _prompt(self, text: Any, name: str) -> NDArray[Any]:
        empty = isinstance(text, str) and not text
        tokens = np.empty(0, np.int64) if empty else self._tokens(text, name)
        if tokens.ndim != 1:
            raise ValueError(f"{name}: expected text or integers [N], got shape {tokens.shape}")
        return tokens if tokens.size else _vocabulary.beginning(self.vocabulary)

    def _next_logits(self, tokens: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """Return the logits after tokens [N], N ≥ 1, and the stream or the state that goes on from there."""
        if not self._streams():
            logits, state = self(np.asarray(tokens, np.int64)[:, None])
            return logits[-1, 0], state
        stream = self.stream()
        for first in range(0, len(tokens), PROMPT_BLOCK):
            logits = stream.run(tokens[first : first + PROMPT_BLOCK])[-1]
        return logits, stream

    def sample(
        self,
        prompt: str | ArrayLike = "",
        length: int = 200,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> Any:
        """Continue a prompt.

        Parameters
        ----------
        prompt : str, or integers [N]
            What comes before; it isn't part of the result. An empty prompt stands for a line break in a vocabulary
            that has one, for the end of a text in another, for token 0 without a vocabulary.
        length : int
            Number of tokens; fewer where a text ends before.
        temperature, top_k, top_p
            See `generate`.
        seed : int or Generator
            The same seed gives the same text.

        Returns
        -------
        str, or an int64 array [length] for a model without vocabulary
        """
        length = _check.integer(length, "length")
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        tokens = np.fromiter(self.generate(prompt, length, **options), np.int64)
        return tokens if self.vocabulary is None else self.vocabulary.decode(tokens)

    def generate(
        self,
        prompt: str | ArrayLike = "",
        length: int = 200,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> Iterator[int]:
        """Yield the tokens of a continuation one by one, from a `stream` of the weights as they are at the first.

        With a vocabulary that has an end of texts, the end is the last token.

        Parameters
        ----------
        temperature : float
            Logits are divided by it: below 1 safer, above 1 wilder; 0 always takes the likeliest token.
        top_k : int, optional
            Choose among the k likeliest tokens.
        top_p : float, optional
            Choose among the likeliest tokens that together have this probability (Holtzman et al., 2020).
        """
        options = sampling_options(length, temperature, top_k, top_p)
        if isinstance(prompt, list | tuple) and any(isinstance(part, str) for part in prompt):
            raise TypeError(f"prompt: expected one text, or integers [N], got {_check.describe(prompt)}; loop over it")
        return self._generate(self._prompt(prompt, "prompt"), length, options, generator(seed))

    def _generate(
        self, tokens: NDArray[Any], length: int, options: dict[str, Any], rng: np.random.Generator
    ) -> Iterator[int]:
        banned = _vocabulary.unspoken(self.vocabulary)
        end = getattr(self.vocabulary, "eos", None)
        if length == 0:
            return
        logits, going = self._next_logits(tokens)
        streams = self._streams()
        x = np.empty((), np.int64)
        for k in range(length):
            if k and streams:
                logits = going.step(x, logits)
            elif k:
                block, going = self(x.reshape(1, 1), going)
                logits = block[-1, 0]
            x[()] = token = sample_token(logits, rng, banned=banned, **options)
            yield token
            if token == end:
                return


def top_tokens(p: NDArray[Any], n: int, vocabulary: Any, passed_over: list[int]) -> list[tuple[Any, float]]:
    """Return the n likeliest tokens but some, with their probabilities p [V]; ties in the order of the tokens."""
    shown = p.copy()
    shown[passed_over] = -1.0
    best = np.argsort(-shown, kind="stable")[:n]
    return [(k if vocabulary is None else vocabulary.token(k), float(p[k])) for k in best.tolist() if shown[k] >= 0]
