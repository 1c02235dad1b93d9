"""What `Seq2Seq` writes: beam search, greedy, samples; and where its attention looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.models._seq2seq_encoder import Encoded
from fastrnn.models._seq2seq_text import Hypothesis, Side
from fastrnn.nn._random import Seed, split
from fastrnn.nn.search import Texts, beam_search, greedy_search, sample_search
from fastrnn.train.progress import Counted, Progress, progress_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AttentionMap(NamedTuple):
    """Where a decoder looks.

    Attributes
    ----------
    weights : array [T + 1, S]
        A row for each token of the target and for its end, whose sum is 1; a column for each token of the source.
    source, target : list
        Their tokens: strings, or integers for a model without vocabularies. The end is the target's last.
    """

    weights: NDArray[Any]
    source: list[Any]
    target: list[Any]


class Translating:
    """The searches of a `Seq2Seq`."""

    source: Side
    target: Side
    encoder: Any
    decoder: Any
    _encoded: Callable[[Any, Any], Encoded]

    def encode(self, source: Any, lengths: Any = None) -> Encoded:
        """Run the encoder.

        Parameters
        ----------
        source : integers [S, B], or a list of sequences, or of texts
        lengths : integers [B], optional

        Returns
        -------
        Encoded
            `(outputs, lengths, state, thought)`.
        """
        return self._encoded(source, lengths)

    def translate(
        self,
        texts: Any,
        *,
        beam_size: int = 5,
        n_best: int | None = None,
        max_length: int = 100,
        min_length: int = 0,
        length_penalty: float = 0.6,
        coverage_penalty: float = 0.0,
        early_stopping: bool = False,
        unknown: bool = False,
        banned: Iterable[int] = (),
        weights: bool = False,
        batch_size: int = 64,
        progress: bool | Progress = False,
    ) -> Any:
        """Write the most probable targets that a beam search finds, see `fr.nn.beam_search`.

        Parameters
        ----------
        texts : list of texts, or of integers [S], or one text
        beam_size : int
        n_best : int, optional
            Return so many hypotheses for each text.
        max_length, min_length : int
            Of tokens.
        length_penalty, coverage_penalty : float
            α and β of Wu et al. 2016, equation 14.
        early_stopping : bool
        unknown : bool
            Targets may hold the unknown token.
        banned : integers
            Tokens that never come, beside padding and begin.
        weights : bool
            Hypotheses have attention weights.
        batch_size : int
            Texts of one search; they are sorted by length first.
        progress : bool or Progress
            Show how much is done.

        Returns
        -------
        list of str (of integers [T] for a model without vocabulary), or one for one text
            With `n_best` or `weights` a list of `Hypothesis` for each, the best first.
        """
        options = {
            "beam_size": beam_size, "n_best": _check.optional_positive_int(n_best, "n_best") or 1,
            "length_penalty": length_penalty, "coverage_penalty": coverage_penalty, "early_stopping": early_stopping,
            "max_length": max_length, "min_length": min_length,
        }  # fmt: skip
        plain = n_best is None and not weights
        return self._write(beam_search, texts, plain, unknown, banned, weights, batch_size, options, progress)

    def greedy(
        self,
        texts: Any,
        *,
        max_length: int = 100,
        min_length: int = 0,
        unknown: bool = False,
        banned: Iterable[int] = (),
        weights: bool = False,
        batch_size: int = 64,
        progress: bool | Progress = False,
    ) -> Any:
        """Write the most probable token in each step; parameters and result as for `translate`."""
        options = {"max_length": max_length, "min_length": min_length}
        return self._write(greedy_search, texts, not weights, unknown, banned, weights, batch_size, options, progress)

    def sample(
        self,
        texts: Any,
        *,
        num_samples: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        max_length: int = 100,
        min_length: int = 0,
        unknown: bool = False,
        banned: Iterable[int] = (),
        weights: bool = False,
        batch_size: int = 64,
        seed: Seed = None,
        progress: bool | Progress = False,
    ) -> Any:
        """Draw targets token by token, see `fr.nn.sample_search`.

        Parameters
        ----------
        texts, max_length, min_length, unknown, banned, weights, batch_size, progress
            As for `translate`.
        num_samples : int, optional
            Return so many hypotheses for each text.
        temperature : float
        top_k, top_p : optional
        seed : None, int or numpy.random.Generator

        Returns
        -------
        As from `translate`.
        """
        options = {
            "num_samples": _check.optional_positive_int(num_samples, "num_samples") or 1, "temperature": temperature,
            "top_k": top_k, "top_p": top_p, "max_length": max_length, "min_length": min_length, "seed": seed,
        }  # fmt: skip
        plain = num_samples is None and not weights
        return self._write(sample_search, texts, plain, unknown, banned, weights, batch_size, options, progress)

    def attention_map(self, source: Any, target: Any = None) -> AttentionMap:
        """Where the decoder looks while it writes `target`, by default the translation of `source`.

        Parameters
        ----------
        source, target : text, or integers
        """
        self._needs_attention("attention_map")
        tokens = self.source.encode(source)
        if target is None:
            target = self.translate([tokens], n_best=1)[0][0].tokens
        written = self.target.encode(target)
        encoded = self._encoded([tokens], None)
        w = self.decoder.attention_weights(np.concatenate([[self.target.bos], written])[:, None], encoded)
        w = w[:, 0, : len(tokens)]
        if self.encoder.reverse:
            w = w[:, ::-1]
        return AttentionMap(
            np.ascontiguousarray(w), self.source.names(tokens), self.target.names([*written, self.target.eos])
        )

    # ---- parts -------------------------------------------------------------------------------------------------

    def _needs_attention(self, what: str) -> None:
        if self.decoder.attention is None:
            raise ValueError(f"{what}: this model has no attention")

    def _write(
        self, search: Callable[..., Texts], texts: Any, plain: bool, unknown: bool, banned: Iterable[int],
        weights: bool, batch_size: int, options: dict[str, Any], progress: Any,
    ) -> Any:  # fmt: skip
        if weights:
            self._needs_attention("weights")
        one = isinstance(texts, str)
        given_texts = [texts] if one else _check.items(texts, "texts", "a text, or a list of texts or of integers [S]")
        rows = [self.source.encode(text) for text in given_texts]
        found: list[Any] = [None] * len(rows)
        size = _check.positive_int(batch_size, "batch_size")
        order = np.argsort([len(row) for row in rows], kind="stable")
        never = {self.target.pad, self.target.bos, *_check.items(banned, "banned", "integers")} | (
            set() if unknown else {self.target.unk}
        )
        given = {"bos": self.target.bos, "eos": self.target.eos, "banned": never - {self.target.eos}, **options}
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        seeds = split(given.pop("seed"), len(parts)) if "seed" in given else None
        with Counted(progress_of(progress, unit="text"), sum(map(len, rows)) + len(rows)) as work:
            for number, part in enumerate(parts):
                if seeds is not None:
                    given["seed"] = seeds[number]
                encoded = self._encoded([rows[k] for k in part], None)
                inputs = self.decoder.inputs(encoded)
                texts_ = search(
                    self.decoder.rnn, self.decoder.embedding, self.decoder.linear(), weights=weights, **inputs, **given
                )
                for row, k in enumerate(part):
                    found[k] = self._hypotheses(texts_, row, len(rows[k]))
                work.add(len(part), sum(len(rows[k]) + 1 for k in part))
        if plain:
            found = [each[0].tokens if each[0].text is None else each[0].text for each in found]
        return found[0] if one else found

    def _hypotheses(self, texts: Texts, row: int, source_length: int) -> list[Hypothesis]:
        found = []
        for rank, length in enumerate(texts.lengths[row]):
            if length < 0:
                break
            tokens = texts.tokens[row, rank, :length].copy()
            w = None
            if texts.weights is not None:
                w = texts.weights[row, rank, : length + 1, :source_length]
                w = np.ascontiguousarray(w[:, ::-1] if self.encoder.reverse else w)
            found.append(Hypothesis(self.target.decode(tokens), tokens, float(texts.scores[row, rank]), w))
        return found
