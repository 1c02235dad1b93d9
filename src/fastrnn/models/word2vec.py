"""Word vectors from plain text: skip-gram and CBOW."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.models import _word_files
from fastrnn.models._word_loss import batch_loss
from fastrnn.models._word_queries import WordQueries
from fastrnn.models._word_tables import alias_table, huffman, keep_shares
from fastrnn.models._word_training import Training
from fastrnn.nn import Embedding
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator
from fastrnn.train import History, Progress

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Word2Vec(WordQueries, Layer):
    """Vectors of words, learned from the words around them (Mikolov et al. 2013a, 2013b).

    ::

        skip-gram   h = v_w, a prediction for each word c around w       CBOW   h = mean of v_c, predicts w
        loss = -log σ(h·u_target) - Σ log σ(-h·u_noise)                  over `negative` words drawn from noise
        loss = -Σ log σ(± h·u_node)                                      over the way down a Huffman tree (`hs`)

    Parameters
    ----------
    vocabulary : mapping of word to count, optional
        By default `train` collects it. Words are strings or integers.
    vector_size : int
    window : int
        The most words to either side that count as around.
    min_count : int
        Rarer words are left out.
    sg, hs : bool
        Skip-gram instead of CBOW; hierarchical softmax, alone with ``negative=0``.
    negative : int
        Words drawn from noise for each prediction; 0 for none.
    ns_exponent : float
        Noise has the words in proportion to their count to this power.
    sample : float
        Words more frequent than this share of the text are passed over at random, ever more often; 0 for never.
    cbow_mean : bool
        CBOW predicts from the mean of the vectors, not from their sum.
    shrink_windows : bool
        Each word draws its window from 1 … `window`, so that near words count more.
    max_vocab : int, optional
        Keep only so many of the most frequent words.
    seed : None, int or numpy.random.Generator
        For the initial vectors.

    Attributes
    ----------
    words : list
        The most frequent first; all below is in this order.
    index : dict
        Number of each word.
    counts : int64 [V] or None
        None after `load_word2vec_format`: those files have none.
    vectors : float32 [V, D]

    Notes
    -----
    Parameters are ``embedding.weight`` [V, D], the vectors v; ``output`` [V, D], the vectors u of negative
    sampling; ``nodes`` [V-1, D], those of the tree. `embedding` is an `fr.Embedding` like any other.

    `train` runs a compiled loop with its own gradient descent. ``fr.fit(model, batches)`` works too, for other
    optimisers, or a model of which this is a part: see `loss`.

    Examples
    --------
    >>> import fastrnn as fr
    >>> text = ["one two three four".split(), "three two one four".split()] * 50
    >>> model = fr.models.Word2Vec(vector_size=16, window=2, min_count=1, seed=0)
    >>> history = model.train(text, epochs=3, threads=1, progress=False)
    >>> len(model), "two" in model, model["two"].shape
    (4, True, (16,))
    >>> [word for word, _ in model.most_similar("one", topn=2)] != []
    True
    """

    dtype: np.dtype[Any]

    def __init__(
        self,
        vocabulary: Mapping[Any, Any] | None = None,
        *,
        vector_size: int = 100,
        window: int = 5,
        min_count: int = 5,
        sg: bool = False,
        hs: bool = False,
        negative: int = 5,
        ns_exponent: float = 0.75,
        sample: float = 1e-3,
        cbow_mean: bool = True,
        shrink_windows: bool = True,
        max_vocab: int | None = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(np.float32)
        self.vector_size = _check.positive_int(vector_size, "vector_size")
        self.window = _check.positive_int(window, "window")
        self.min_count = _check.positive_int(min_count, "min_count")
        self.sg, self.hs = _check.flag(sg, "sg"), _check.flag(hs, "hs")
        self.negative = _check.natural(negative, "negative")
        if not self.negative and not self.hs:
            raise ValueError("negative: expected at least 1, or hs=True: with neither there is nothing to learn from")
        self.ns_exponent = _check.number(ns_exponent, "ns_exponent")
        self.sample = _check.fraction(sample, "sample")
        self.cbow_mean = _check.flag(cbow_mean, "cbow_mean")
        self.shrink_windows = _check.flag(shrink_windows, "shrink_windows")
        self.max_vocab = None if max_vocab is None else _check.positive_int(max_vocab, "max_vocab")
        self._rng = generator(seed)
        self.words: list[Any] = []
        self.index: dict[Any, int] = {}
        self.counts: NDArray[np.int64] | None = None
        self.embedding: Embedding | None = None
        self._tables: dict[str, Any] | None = None
        if vocabulary is not None:
            words, counts, chosen = _words_and_counts(vocabulary)
            self._set_vocabulary(*((words, counts) if chosen else self._choose(words, counts)))

    # ---- vocabulary --------------------------------------------------------------------------------------

    def _choose(self, words: list[Any], counts: NDArray[np.int64]) -> tuple[list[Any], NDArray[np.int64]]:
        """Return the words that are frequent enough, the most frequent first."""
        order = np.argsort(-counts, kind="stable")
        order = order[counts[order] >= self.min_count][: self.max_vocab]
        if not len(order):
            most = counts.max(initial=0)
            raise ValueError(
                f"min_count: expected some words to occur at least {self.min_count} times, got {len(words)} words, "
                f"the most frequent of them {most} times"
            )
        return [words[k] for k in order.tolist()], counts[order]

    def _set_vocabulary(self, words: list[Any], counts: NDArray[np.int64] | None) -> None:
        self.words, self.counts = words, counts
        self.index = dict(zip(words, range(len(words))))
        V, D = len(words), self.vector_size
        self.embedding = Embedding(V, D, lazy=True, seed=0)
        # ±1/D, as gensim has it. With the ±0.5/D of Mikolov's program CBOW takes longer: after 3 epochs of 0.5 million
        # words a split word found its twin with a reciprocal rank of 0.46, not 0.56 (benchmarks/word2vec.py)
        self.embedding.params["weight"] = (2 * self._rng.random((V, D), np.float32) - 1) / D
        if self.negative:
            self._add_param("output", np.zeros((V, D), np.float32))
            self._touched["output"] = []
        if self.hs:
            self._add_param("nodes", np.zeros((V - 1, D), np.float32))
            self._touched["nodes"] = []

    def tables(self) -> dict[str, Any]:
        """Return the tables of csrc/word2vec.h, made at the first call: keep, alias_share, alias, path, steps."""
        if self.counts is None:
            raise ValueError("counts: this model was read from a word2vec file and has none; train counts the words")
        if self._tables is None:
            tables: dict[str, Any] = dict.fromkeys(("alias_share", "alias", "path", "steps"))
            tables["keep"] = keep_shares(self.counts, self.sample)
            if self.negative:
                weights = np.maximum(self.counts, 1).astype(np.float64) ** self.ns_exponent
                tables["alias_share"], tables["alias"] = alias_table(weights)
            if self.hs:
                tables["path"], tables["steps"] = huffman(self.counts)
            self._tables = tables
        return self._tables

    @property
    def vectors(self) -> NDArray[Any]:
        return self._table("look up").params["weight"]

    def _table(self, what: str) -> Embedding:
        if self.embedding is None:
            raise ValueError(f"vocabulary: this Word2Vec has no words to {what} yet; train it, or pass a vocabulary")
        return self.embedding

    @property
    def children(self) -> dict[str, Layer]:
        return {} if self.embedding is None else {"embedding": self.embedding}

    def config(self) -> dict[str, Any]:
        counts = None if self.counts is None else self.counts.tolist()
        vocabulary = None if self.embedding is None else {"words": self.words, "counts": counts}
        return {"vocabulary": vocabulary, **{name: getattr(self, name) for name in _SETTINGS}}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in _SETTINGS)
        return f"Word2Vec({len(self)} words, {settings})"

    # ---- training ----------------------------------------------------------------------------------------

    def train(
        self,
        corpus: Any,
        epochs: int = 5,
        *,
        lr: float = 0.025,
        min_lr: float = 1e-4,
        threads: int | None = None,
        seed: int | None = 0,
        progress: bool | Progress = True,
    ) -> History:
        """Learn from a text, in compiled code without the GIL.

        Parameters
        ----------
        corpus : path, iterable of sentences, or integers [N] or [S, T]
            A text file in UTF-8, one sentence a line; lists of words; arrays of integers, which then are the
            words. It is read once to count words, and each epoch if it has more than 64 million tokens, a piece
            at a time; so an iterable must be able to start anew. Sentences of more than 10,000 words are cut.
        epochs : int
        lr, min_lr : float
            The learning rate falls from one to the other along the text.
        threads : int, optional
            ``fr.get_num_threads()`` by default. Several write into the same vectors without waiting for each
            other (Niu et al. 2011), so results differ from run to run; one gives the same bits for one seed.
        seed : int, optional
            For subsampling, windows and noise. None draws a fresh one.
        progress : bool or Progress
            A live line on standard error, with the mean loss of a prediction: before its own update, so on text
            that the model has not seen in this epoch.

        Returns
        -------
        History
            A step is a piece of text. ``notes`` has ``words`` (tokens of the corpus times epochs), ``kept`` (those
            that were trained on), ``predictions`` and ``seconds`` (without the counting).

        Raises
        ------
        Interrupted
            A KeyboardInterrupt: Ctrl-C was pressed; the piece was finished, and the model keeps what it learned.
        FloatingPointError
            The vectors are not finite: the learning rate is too high.

        Notes
        -----
        A model that has a vocabulary keeps it, and goes on learning. Training runs on rows that begin at cache
        lines: where `vector_size` is no multiple of 16 it needs the memory of the vectors twice.
        """
        settings = Training.check(epochs, lr, min_lr, threads, seed, progress)
        return Training(self, corpus, settings).run()

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> float:
        """Return the mean loss of a batch of predictions; with `train` the gradients are added to `grads`.

        The form that ``fr.fit(model, batches)`` calls. In contrast to `train` these are exact gradients of one
        batch, for any optimiser.

        Parameters
        ----------
        batch : Batch or tuple ``(x, target, lengths=None, weight=None)``
            Numbers of words. Skip-gram: x [N], target [N]. CBOW: x [C, N], the words around, of which the first
            ``lengths[n]`` count; target [N]. `weight` [N] multiplies the losses.
        seed : None, int or Generator
            For the noise.

        Examples
        --------
        >>> import fastrnn as fr
        >>> model = fr.models.Word2Vec({"a": 3, "b": 2, "c": 1}, min_count=1, sg=True, seed=0)
        >>> print(f"{model.loss(([0, 1], [1, 2]), seed=0):.3f}")  # (1 + negatives that are others)·log 2
        3.466
        """
        return batch_loss(self, batch, generator(seed), train)

    # ---- running -----------------------------------------------------------------------------------------

    def numbers(self, words: Any) -> NDArray[np.int64]:
        """Return the numbers of words, in the shape of nested lists.

        Raises
        ------
        KeyError
            A word is not known.
        """
        self._table("number")
        if isinstance(words, list | tuple):
            return np.array([self.numbers(word) for word in words], np.int64)
        return np.int64(self._number(words))  # type: ignore[return-value]  # 0-d

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Return the vectors of numbers of words, [..., D]; see `numbers`."""
        return self._table("look up")(x)

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """Return the vectors of numbers of words and what adds their gradients, as `fr.Embedding.vjp`."""
        return self._table("look up").vjp(x, input_grad=input_grad, retain=retain)

    # ---- word2vec's files --------------------------------------------------------------------------------

    def save_word2vec_format(self, path: str | os.PathLike[str], *, binary: bool = False) -> None:
        """Write words and vectors as Mikolov's program does; gensim's ``KeyedVectors`` reads it.

        Counts, settings and what else training needs have no place there: `fr.save` keeps all.
        """
        _word_files.write(path, self.words, self.vectors, binary=binary)

    @classmethod
    def load_word2vec_format(
        cls, path: str | os.PathLike[str], *, binary: bool = False, limit: int | None = None, **settings: Any
    ) -> Word2Vec:
        """Read what Mikolov's program, gensim or `save_word2vec_format` wrote.

        Parameters
        ----------
        path : path
        binary : bool
        limit : int, optional
            Read the first so many words only.
        **settings
            Of the constructor, for training to go on; `train` then counts the words it finds.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such file; it isn't of this format, or not whole.
        """
        limit = None if limit is None else _check.positive_int(limit, "limit")
        words, vectors = _word_files.read(path, binary=binary, limit=limit)
        model = cls({"words": words, "counts": None}, vector_size=vectors.shape[1], **settings)
        model.vectors[...] = vectors
        return model


_SETTINGS = (
    *("vector_size", "window", "min_count", "sg", "hs", "negative", "ns_exponent", "sample", "cbow_mean"),
    *("shrink_windows", "max_vocab"),
)


def _words_and_counts(vocabulary: Mapping[Any, Any]) -> tuple[list[Any], Any, bool]:
    """Return words, counts, and whether they are chosen already: `config` writes {"words": […], "counts": […]}."""
    if not isinstance(vocabulary, Mapping):
        raise TypeError(f"vocabulary: expected a mapping of words to counts, got {type(vocabulary).__name__}")
    chosen = set(vocabulary) == {"words", "counts"} and isinstance(vocabulary["words"], list)
    words = list(vocabulary["words"] if chosen else vocabulary)
    counts = vocabulary["counts"] if chosen else list(vocabulary.values())
    if chosen and counts is None:
        return words, None, True
    found = _check.integers(counts, "vocabulary")
    if found.shape != (len(words),) or (found < 0).any():
        raise ValueError(
            f"vocabulary: expected a count of at least 0 for each of {len(words)} words, got {counts!r:.80}"
        )
    return words, found, chosen
