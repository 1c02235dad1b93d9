"""What a decoder writes by itself: beam search, the most probable token at each step, samples. All in compiled code."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._random import Seed, mask_seed
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.decoder import AttentionDecoder
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.linear import Linear

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

_NO_LIMIT = {"top_k": 0, "top_p": 1.0, "temperature": 0.0, "seed": 0}
_NO_PENALTY = {"length_penalty": 0.0, "coverage_penalty": 0.0, "early": False}


class Texts(NamedTuple):
    """What was written, N texts a sentence, the best first.

    Attributes
    ----------
    tokens : integers, [B, N, max_length]
        Without `eos`, which fills the rest.
    lengths : integers, [B, N]
        Tokens before `eos`; −1 where a search found fewer than N texts.
    scores : floats, [B, N]
        Of a beam search its score; else log P.
    weights : array, [B, N, max_length, S], or None
        Attention at each token, and at `eos`; zero after it.
    """

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    scores: NDArray[np.float64]
    weights: NDArray[Any] | None


def beam_search(
    decoder: AttentionDecoder | Recurrent,
    embedding: Embedding,
    output: Linear,
    source: ArrayLike | None = None,
    state: Any = None,
    feed: ArrayLike | None = None,
    *,
    bos: int,
    eos: int,
    max_length: int,
    beam_size: int = 5,
    n_best: int = 1,
    min_length: int = 0,
    source_lengths: ArrayLike | None = None,
    extra: ArrayLike | None = None,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    early_stopping: bool = False,
    banned: Iterable[int] = (),
    weights: bool = False,
) -> Texts:
    """Find probable texts: in each step a sentence keeps its `beam_size` most probable unfinished beginnings.

    Their extensions are taken in order of log P; one by `eos` is a finished text, whose score is (Wu et al. 2016,
    equation 14)

        log P / ((5 + n) / 6)^length_penalty + coverage_penalty · Σ_s log min(Σ_t w_t[s], 1)

    of its n tokens, `eos` among them; with both penalties 0 it is log P. Beginnings of `max_length` tokens count as
    finished. A sentence is done when none of its beginnings can reach the worst of its `n_best` texts any more.

    Parameters
    ----------
    decoder : AttentionDecoder, or LSTM, GRU, RNN of one direction
    embedding : Embedding
        From tokens to the decoder's input.
    output : Linear
        From the decoder's output to logits of tokens.
    source, state, feed, source_lengths
        As the decoder takes them; without attention `state` [num_layers, B, ·] alone.
    bos, eos : int
        The token before the first one, and the one that ends a text.
    max_length : int
        Most tokens of a text.
    beam_size : int
    n_best : int
        Texts of a sentence to return, up to `beam_size`.
    min_length : int
        Texts have at least so many tokens before `eos`; up to `max_length`.
    extra : array, [B, Z], optional
        Follows every embedding in the decoder's input, as the thought vector does for a peeky decoder.
    length_penalty, coverage_penalty : float
        ≥ 0.
    early_stopping : bool
        A sentence is done when it has `beam_size` finished texts.
    banned : integers
        Tokens that never come, such as padding; the others share their probability.
    weights : bool
        Return attention weights, too.

    Returns
    -------
    Texts
        `(tokens, lengths, scores, weights)`.

    Raises
    ------
    ValueError, TypeError
        An argument doesn't fit; the message names it.
    FloatingPointError
        Logits are not finite.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> table, output = fr.Embedding(20, 4, seed=0), fr.Linear(8, 20, seed=1)
    >>> decoder = fr.nn.AttentionDecoder(4, 8, 6, seed=2)
    >>> source = np.ones((7, 3, 6), np.float32)
    >>> texts = fr.nn.beam_search(decoder, table, output, source, bos=0, eos=1, max_length=5, n_best=2)
    >>> texts.tokens.shape, texts.scores.shape
    ((3, 2, 5), (3, 2))
    """
    width = _check.positive_int(beam_size, "beam_size")
    found = _check.positive_int(n_best, "n_best")
    if found > width:
        raise ValueError(f"n_best: expected at most beam_size={width}, got {found}")
    options = {
        **_NO_LIMIT,
        "length_penalty": _check.at_least_zero(length_penalty, "length_penalty"),
        "coverage_penalty": _check.at_least_zero(coverage_penalty, "coverage_penalty"),
        "early": bool(early_stopping),
    }
    call = _Call(decoder, embedding, output, source, state, feed, source_lengths, extra, banned, weights)
    return call.run(_core.SEARCH_BEAM, width, found, bos, eos, max_length, min_length, options)


def greedy_search(
    decoder: AttentionDecoder | Recurrent,
    embedding: Embedding,
    output: Linear,
    source: ArrayLike | None = None,
    state: Any = None,
    feed: ArrayLike | None = None,
    *,
    bos: int,
    eos: int,
    max_length: int,
    min_length: int = 0,
    source_lengths: ArrayLike | None = None,
    extra: ArrayLike | None = None,
    banned: Iterable[int] = (),
    weights: bool = False,
) -> Texts:
    """Write one text a sentence: in each step its most probable token. Parameters as for `beam_search`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> table, output, gru = fr.Embedding(20, 4, seed=0), fr.Linear(8, 20, seed=1), fr.GRU(4, 8, seed=2)
    >>> thought = np.ones((1, 3, 8), np.float32)
    >>> texts = fr.nn.greedy_search(gru, table, output, state=thought, bos=0, eos=1, max_length=6)
    >>> texts.tokens.shape
    (3, 1, 6)
    """
    call = _Call(decoder, embedding, output, source, state, feed, source_lengths, extra, banned, weights)
    return call.run(_core.SEARCH_SAMPLE, 1, 1, bos, eos, max_length, min_length, {**_NO_PENALTY, **_NO_LIMIT})


def sample_search(
    decoder: AttentionDecoder | Recurrent,
    embedding: Embedding,
    output: Linear,
    source: ArrayLike | None = None,
    state: Any = None,
    feed: ArrayLike | None = None,
    *,
    bos: int,
    eos: int,
    max_length: int,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_length: int = 0,
    source_lengths: ArrayLike | None = None,
    extra: ArrayLike | None = None,
    banned: Iterable[int] = (),
    weights: bool = False,
    seed: Seed = None,
) -> Texts:
    """Draw texts token by token from softmax(logits / temperature). Further parameters as for `beam_search`.

    Parameters
    ----------
    num_samples : int
        Texts of a sentence.
    temperature : float
        ≥ 0; at 0 the most probable token comes.
    top_k : int, optional
        Only the k most probable tokens come.
    top_p : float, optional
        Only the fewest tokens come, the most probable first, whose share (after `top_k`) is at least that.
    seed : None, int or numpy.random.Generator
        The same seed gives the same texts, for any number of threads.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> table, output, gru = fr.Embedding(20, 4, seed=0), fr.Linear(8, 20, seed=1), fr.GRU(4, 8, seed=2)
    >>> thought = np.ones((1, 3, 8), np.float32)
    >>> ends = {"bos": 0, "eos": 1, "max_length": 6}
    >>> texts = fr.nn.sample_search(gru, table, output, state=thought, num_samples=4, top_k=5, seed=0, **ends)
    >>> texts.tokens.shape
    (3, 4, 6)
    """
    width = _check.positive_int(num_samples, "num_samples")
    options = {
        **_NO_PENALTY,
        "temperature": _check.at_least_zero(temperature, "temperature"),
        "top_k": _check.optional_positive_int(top_k, "top_k") or 0,
        "top_p": 1.0 if top_p is None else _check.share(top_p, "top_p"),
        "seed": mask_seed(seed),
    }
    call = _Call(decoder, embedding, output, source, state, feed, source_lengths, extra, banned, weights)
    return call.run(_core.SEARCH_SAMPLE, width, width, bos, eos, max_length, min_length, options)


class _Call:
    """The decoder's part in a search, checked: what `_core.search` takes."""

    def __init__(
        self, decoder: Any, embedding: Any, output: Any, source: Any, state: Any, feed: Any, source_lengths: Any,
        extra: Any, banned: Iterable[int], weights: bool,
    ) -> None:  # fmt: skip
        attention = isinstance(decoder, AttentionDecoder)
        _check.search_layers(decoder, embedding, output, (AttentionDecoder, Recurrent), Embedding, Linear)
        self.dtype = decoder.dtype
        self.vocabulary = embedding.num_embeddings
        self.weights = bool(weights)
        _check.search_sizes(decoder.dtype, embedding, output, decoder.output_size if attention else decoder.hidden_size)
        if attention:
            run = self._with_attention(decoder, source, state, feed, source_lengths)
        else:
            _check.without_attention(decoder, source, feed, source_lengths, weights)
            run = self._without(decoder, state)
        self.batch: int = run["batch"]
        self.attention = attention
        size = decoder.input_size - embedding.embedding_dim
        self.extra = _check.extra(extra, self.batch, size, decoder.dtype)
        self.banned = None
        if tokens := list(banned):
            self.banned = np.zeros(self.vocabulary, np.uint8)
            for token in tokens:
                self.banned[_check.index(token, self.vocabulary, "banned")] = 1
        self.decoder = run
        self.guarded = decoder._steps.guarded if attention else decoder._guarded
        self.table = embedding._params["weight"]
        self.output = output._params["weight"], output._params.get("bias")
        self.size = decoder.input_size

    def _with_attention(
        self, decoder: AttentionDecoder, source: Any, state: Any, feed: Any, source_lengths: Any
    ) -> dict[str, Any]:
        source, source_lengths = decoder._source(source, source_lengths)
        batch = source.shape[0 if decoder.batch_first else 1]
        h_0, c_0 = decoder._state(state, batch, "state")
        keys, _, _ = decoder._keys(source, source_lengths)
        params = dict(decoder._params)
        return {
            "cell": decoder._steps.core, "batch": batch, "layers": decoder._by_layer(params), "h_0": h_0, "c_0": c_0,
            "feed_0": decoder._feed(feed, batch), "keys": keys, "values": source, "source_lengths": source_lengths,
            "U": params.get("weight_query"), "v": params.get("v"), "scale": decoder._scale, "C": params["weight_c"],
            "b_c": params.get("bias_c"), "feeding": decoder.input_feeding, "batch_first": decoder.batch_first,
            "options": decoder._steps.options(None),
        }  # fmt: skip

    def _without(self, decoder: Recurrent, state: Any) -> dict[str, Any]:
        batch = _check.batch_of_state(state, decoder.num_states)
        h_0, c_0 = decoder._state(state, batch, False, "state")
        given = decoder.variant.in_kernel
        layers = tuple(one if given else one[:4] for (one,) in decoder._layers())
        return {
            "cell": decoder._cell, "batch": batch, "layers": layers, "h_0": h_0, "c_0": c_0, "feed_0": None,
            "keys": None, "values": None, "source_lengths": None, "U": None, "v": None, "scale": 1.0, "C": None,
            "b_c": None, "feeding": False, "batch_first": False,
            "options": _core.Options(**decoder._kernel_options(None)) if given else None,
        }  # fmt: skip

    def run(
        self, mode: int, width: int, n_best: int, bos: Any, eos: Any, most: Any, least: Any, options: dict[str, Any]
    ) -> Texts:
        most = _check.positive_int(most, "max_length")
        _check.texts(width, "beam_size" if mode == _core.SEARCH_BEAM else "num_samples", self.batch, most)
        least = _check.least_length(least, most)
        options = {**options, "top_k": min(options["top_k"], self.vocabulary)}
        eos = _check.index(eos, self.vocabulary, "eos")
        _check.token_left(self.banned, self.vocabulary, eos, least)
        if options["coverage_penalty"] and not self.attention:
            raise ValueError("coverage_penalty: expected 0, because this decoder has no attention")
        texts = Texts(
            *self.guarded(partial(
                _core.search,
                mode=mode, width=width, n_best=n_best, most=most, least=least, weights=self.weights,
                bos=_check.index(bos, self.vocabulary, "bos"), eos=eos,
                embedding=self.table, extra=self.extra, O=self.output[0], b_o=self.output[1], banned=self.banned,
                input_size=self.size, **self.decoder, **options,
            ))
        )  # fmt: skip
        if any(math.isnan(score) for score in texts.scores.flat) or (texts.lengths[:, :1] < 0).any():
            raise FloatingPointError("the model's logits are not finite; its weights are probably broken")
        return texts
