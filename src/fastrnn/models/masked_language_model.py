"""MaskedLanguageModel: words are hidden, and a bidirectional network finds them from both sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models import _parts, _vocabulary
from fastrnn.models._cells import chosen, open_forget_gates
from fastrnn.models._word_queries import WordQueries
from fastrnn.models._writing import top_tokens
from fastrnn.nn import Dropout, Embedding, Linear, losses
from fastrnn.nn._random import Seed, generator, split
from fastrnn.nn.model import Model
from fastrnn.train.data import SequenceBatches

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

HIDDEN = "<mask>"  # how a text for `predict` writes a hidden word
ALL_HIDDEN = (1.0, 0.0, 0.0)
# Of the usual scale of an embedding. From the whole, the vectors stay where they were drawn: perplexity of held-out
# words 94.6 (92.5 with another seed) in place of 91.6 (88.8), and what is nearest to a word has nothing to do with it.
START = 0.2


class MaskedLanguageModel(WordQueries, Model):
    """Find hidden words from the words on both sides: embedding, bidirectional recurrent layers, a linear map.

    ::

        h→_t, h←_t = BiLSTM(E[x̃])_t        x̃: the text x with a share of its words M hidden
        loss = −1/|M| Σ_{t ∈ M} log softmax(W [h→_t, h←_t] + b)[x_t]

    Of the words to be found most are replaced by a hidden token, some by a word drawn at random, and some stay as they
    are, so that the network has to know about every word whether it fits (Devlin et al. 2019, section 3.1).

    Parameters
    ----------
    vocabulary : int, Vocabulary, CharVocabulary, or a tokenizer that `fr.text.as_vocabulary` takes
        The number of tokens, or a vocabulary; with one the model also takes text. The hidden token is a further one,
        which the model adds: its number is `vocab_size`.
    cell : "lstm", "gru", "rnn", "sru", "qrnn", "mingru", "minlstm", "lru", "indrnn", or a cell made by `fr.cell`
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``.
    embedding_dim, hidden_size, num_layers : int
        `hidden_size` units in each direction.
    hidden_share : float
        The share of the words that are to be found.
    replace : (float, float, float)
        Of these, the shares that are hidden, that are replaced by a word at random, and that stay. Their sum is 1.
    dropout : float
        Probability of a zero between recurrent layers and before the output layer, in training.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Attributes
    ----------
    words : list
        Those that have vectors: the tokens but padding, begin, end and the unknown one. Numbers without a vocabulary.
    index : dict
        Each word's place in `words`.
    vectors : array [N, embedding_dim]
        A copy of their rows of ``embedding.weight``; `most_similar`, `similarity` and `analogy` ask them.

    Notes
    -----
    Each row of a batch is one text, best a sentence or a paragraph: ``fr.SequenceBatches`` of encoded texts. The call
    gives logits [T, B, V] for every place, and takes ``vocab_size`` for a hidden word. Unknown words are read, but
    never hidden.

    References
    ----------
    Devlin, Chang, Lee and Toutanova 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding".

    Examples
    --------
    >>> import fastrnn as fr
    >>> texts = [f"the {a} {b} the {c}" for a, b, c in (("cat", "eats", "fish"), ("cow", "eats", "grass"))] * 8
    >>> vocabulary = fr.text.Vocabulary.from_texts(texts)
    >>> model = fr.models.MaskedLanguageModel(vocabulary, hidden_size=16, hidden_share=0.2, seed=0)
    >>> data = fr.SequenceBatches([vocabulary.encode(text) for text in texts], batch_size=8)
    >>> _ = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.02), epochs=100, seed=0, progress=False)
    >>> [word for word, _ in model.predict("the cow eats the <mask>", 1)]
    ['grass']
    """

    takes_lengths = True

    def __init__(
        self,
        vocabulary: Any,
        cell: Any = "lstm",
        *,
        cell_options: Mapping[str, Any] | None = None,
        embedding_dim: int = 64,
        hidden_size: int = 128,
        num_layers: int = 1,
        hidden_share: float = 0.15,
        replace: Sequence[float] = (0.8, 0.1, 0.1),
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.vocabulary, self.vocab_size = _vocabulary.prepared(vocabulary)
        _vocabulary.keep(self, "vocabulary", self.vocab_size if self.vocabulary is None else self.vocabulary)
        self.hidden_share = _check.share(hidden_share, "hidden_share")
        self.replace = _shares(replace)
        (recurrent, self.cell), seeds = chosen(cell, cell_options), split(seed, 3)
        self.embedding = Embedding(self.vocab_size + 1, embedding_dim, dtype=dtype, seed=seeds[0])
        self.embedding.params["weight"][...] *= START
        self.rnn = recurrent(
            embedding_dim, hidden_size, num_layers, bidirectional=True, dropout=dropout, dtype=dtype, seed=seeds[1]
        )
        open_forget_gates(self.rnn)
        self.dropout = Dropout(dropout)
        self.output = Linear(2 * hidden_size, self.vocab_size, dtype=dtype, seed=seeds[2])
        self._special = _vocabulary.unspoken(self.vocabulary, end=True)
        self._ordinary = np.setdiff1d(np.arange(self.vocab_size), self._special)
        self._findable = np.zeros(self.vocab_size + 1, bool)
        self._findable[self._ordinary] = True
        token = (lambda k: k) if self.vocabulary is None else self.vocabulary.token
        self.words = [token(k) for k in self._ordinary.tolist()]
        self.index = {word: place for place, word in enumerate(self.words)}

    @property
    def hidden_token(self) -> int:
        """The number that stands for a hidden word."""
        return self.vocab_size

    @property
    def vectors(self) -> NDArray[Any]:
        return self.embedding.params["weight"][self._ordinary]

    def __getitem__(self, words: Any) -> NDArray[Any]:
        numbers = [self._number(word) for word in words] if isinstance(words, list) else self._number(words)
        rows = self._ordinary[np.asarray(numbers, np.int64)]  # `vectors` would copy them all
        return np.array(self.embedding.params["weight"][rows])

    # ---- training ----------------------------------------------------------------------------------------------

    def forward(self, x: Any, *, lengths: ArrayLike | None = None) -> Any:
        """Logits of the word at every place, [T, B, V].

        Parameters
        ----------
        x : integers [T, B], or [T] for one text
            `hidden_token` where a word is to be found.
        lengths : integers [B], optional
        """
        return self.output(self.dropout(self._read(x, lengths)))

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """Mean cross entropy of the words to be found, in nats; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, None, lengths=None, weight=None)``
            x integers [T, B], and one weight a row.
        seed : None, int or numpy.random.Generator
            For the places and what stands there. Without one, it comes from the run in training and is always the same
            otherwise.
        train : bool
            Otherwise every word to be found is hidden.
        """
        x, _, lengths, weight = (*batch, None, None, None)[:4]
        (number,) = _parts.noise_seeds(seed, train)
        return self._terms(x, lengths, weight, generator(number), self.replace if train else ALL_HIDDEN)[0]

    def _terms(
        self, x: Any, lengths: Any, weight: Any, rng: np.random.Generator, replace: Sequence[float]
    ) -> tuple[Any, int]:
        """Return the mean loss of words to be found, and their number."""
        x = _check.integers(x, "x")
        if x.ndim != 2:
            raise ValueError(f"x: expected integers [T, B], got shape {x.shape}")
        ends = None if lengths is None else _check.lengths(lengths, x.shape[1], len(x))
        if ends is not None:  # padding may be any number
            x = np.where(np.arange(len(x))[:, None] < ends, x, self.hidden_token)
        _check.in_range(x, self.vocab_size + 1, "vocab_size + 1", "x")
        seen, places = self._hide(x, rng, replace)
        if not len(places):
            raise ValueError("x: expected words that can be hidden, got unknown and special tokens alone")
        h = self._read(seen, ends)
        # Only the places that are asked for go through the output layer, the largest one by far.
        logits = self.output(self.dropout(h.reshape(-1, h.shape[-1])[places]))
        row = _check.row_weights(weight, x.shape[1])
        row = row if row is None else row[places % x.shape[1]]
        return losses.cross_entropy(logits, x.reshape(-1)[places], weight=row)[0], len(places)

    def _read(self, x: Any, lengths: Any) -> Any:
        return self.rnn(self.embedding(x), lengths=lengths)[0]

    def _hide(self, x: Any, rng: np.random.Generator, replace: Sequence[float]) -> tuple[Any, Any]:
        """Return what the network gets to see, and the places [M] of x.ravel() that it is asked for, at least one."""
        flat = x.reshape(-1)
        candidates = np.flatnonzero(self._findable[flat])
        chosen = rng.random(len(candidates)) < self.hidden_share
        if len(candidates) and not chosen.any():
            chosen[rng.integers(len(candidates))] = True
        places = candidates[chosen]
        seen, what = flat.copy(), rng.random(len(places))
        seen[places[what < replace[0]]] = self.hidden_token
        drawn = (what >= replace[0]) & (what < replace[0] + replace[1])
        seen[places[drawn]] = rng.choice(self._ordinary, int(drawn.sum()))
        return seen.reshape(x.shape), places

    # ---- questions ---------------------------------------------------------------------------------------------

    def predict(self, text: Any, n: int = 5, *, hidden: str = HIDDEN) -> list[Any]:
        """Return the likeliest words for a hidden place, with their probabilities.

        Parameters
        ----------
        text : str, or integers [N]
            With `hidden` (as integers: `hidden_token`) in the place of one word or more.
        n : int
            How many.
        hidden : str
            How the text writes a hidden word.

        Returns
        -------
        list of (word, probability), the likeliest first
            With several hidden words a list of such lists.

        Examples
        --------
        >>> import fastrnn as fr
        >>> model = fr.models.MaskedLanguageModel(fr.text.Vocabulary(["a", "b"]), hidden_size=8, seed=0)
        >>> sorted(word for word, _ in model.predict("a ___ b", hidden="___"))
        ['a', 'b']
        """
        n = _check.positive_int(n, "n")
        tokens = self._with_hidden(text, hidden) if isinstance(text, str) else _check.integers(text, "text")
        places = np.flatnonzero(tokens == self.hidden_token) if tokens.ndim == 1 else np.empty(0, np.int64)
        if not len(places):
            found = repr(text[:60]) if isinstance(text, str) else f"integers {tokens.shape}"
            raise ValueError(
                f"text: expected a hidden word, {hidden!r} (among integers {self.hidden_token}), got {found}"
            )
        logits = self(tokens[:, None])[places, 0].astype(np.float64)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        tops = [top_tokens(row, n, self.vocabulary, self._special) for row in p]
        return tops[0] if len(tops) == 1 else tops

    def perplexity(self, texts: Any, *, batch_size: int = 64, seed: int = 0) -> float:
        """Return exp of the mean loss of hidden words: among so many the model is, on average, undecided.

        Parameters
        ----------
        texts : list of str, or of integers [T]
            A share `hidden_share` of their words is hidden, at places drawn by `seed`.
        batch_size : int
        seed : int
        """
        size = _check.positive_int(batch_size, "batch_size")
        sequences = [self._tokens(text) for text in _check.several(texts)]
        sequences = [tokens for tokens in sequences if self._findable[tokens].any()]
        if not sequences:
            raise ValueError("texts: expected texts with words that the model knows")
        total, count, rng = 0.0, 0, generator(seed)
        for x, _, lengths, _ in SequenceBatches(sequences, batch_size=size, shuffle=False):
            loss, words = self._terms(x, lengths, None, rng, ALL_HIDDEN)
            total += words * float(loss)
            count += words
        return math.exp(min(total / count, 700.0))

    def _tokens(self, text: Any) -> NDArray[Any]:
        tokens = _vocabulary.numbers(self.vocabulary, text, "texts")
        if tokens.ndim != 1:
            raise ValueError(f"texts: expected texts or integers [T], got one of shape {tokens.shape}")
        _check.in_range(_check.integers(tokens, "texts"), self.vocab_size, "vocab_size", "texts")
        return tokens

    def _with_hidden(self, text: str, hidden: str) -> NDArray[Any]:
        if self.vocabulary is None:
            raise TypeError("text: this model has no vocabulary; pass integers, not text")
        if not _check.text(hidden, "hidden"):
            raise ValueError("hidden: expected how the text writes a hidden word, got ''")
        parts: list[Any] = []
        for part in text.split(hidden):
            parts += [[self.hidden_token], self.vocabulary.encode(part)]
        return np.concatenate(parts[1:]).astype(np.int64)


def _shares(value: Any) -> tuple[float, float, float]:
    found = tuple(_check.fraction_or_one(part, "replace") for part in np.ravel(value).tolist())
    if len(found) != 3 or abs(sum(found) - 1) > 1e-9:
        raise ValueError(f"replace: expected three shares (hidden, at random, kept) whose sum is 1, got {value!r}")
    return found
