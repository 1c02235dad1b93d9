"""A recurrent language model: embedding, recurrent layers, a linear map to the logits of the next token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.models import _vocabulary
from fastrnn.models._cells import cell_config, cell_name, chosen, open_forget_gates
from fastrnn.models._writing import Writing
from fastrnn.nn import Dropout, Embedding, Linear, losses
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, split
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn._scan import Scan
from fastrnn.nn.layer_stream import LayerStream, stream_of
from fastrnn.nn.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

MOST_LOGITS = 1 << 24  # that an evaluation keeps at once: 64 MiB; twice as many are no faster


class LanguageModel(Writing, Layer):
    """Predict the next token of a sequence.

    Parameters
    ----------
    vocabulary : int, CharVocabulary, Vocabulary, or a tokenizer that `fr.text.as_vocabulary` takes
        The number of tokens, or a vocabulary; with a vocabulary the model also takes and returns text, and is
        saved together with it.
    cell : "lstm", "gru", "rnn", "sru", "qrnn", "mingru", "minlstm", "lru", "indrnn", "fastrnn", "fastgrnn", or a cell
        Made by `fr.cell`.
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``.
    embedding_dim, hidden_size, num_layers : int
    dropout : float
        Probability of a zero between recurrent layers and before the output layer, in training.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights. The forget gates of an LSTM start with a bias of 1 (Jozefowicz et al., 2015).

    Notes
    -----
    Parameters are named ``embedding.weight``, ``rnn.weight_ih_l0`` …, ``output.weight``, ``output.bias``.
    Tokens are integers [T, B], or [T] for one sequence without a batch; the state is that of the recurrent
    layer.

    Examples
    --------
    >>> import fastrnn as fr
    >>> vocabulary = fr.text.CharVocabulary.from_text("to be or not to be")
    >>> model = fr.models.LanguageModel(vocabulary, hidden_size=16, seed=0)
    >>> logits, state = model(vocabulary.encode("to be")[:, None])
    >>> logits.shape
    (5, 1, 8)
    >>> text = model.sample("to", length=5, seed=1)
    >>> len(text)
    5
    >>> words = fr.text.Vocabulary.from_texts(["to be or not to be"])
    >>> model = fr.models.LanguageModel(words, "gru", hidden_size=16, seed=0)
    >>> data = fr.TokenWindows(words.encode("to be or not " * 20), batch_size=2, seq_len=8)
    >>> _ = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.02), epochs=20, progress=False)
    >>> [token for token, _ in model.predict_next("to be or", 1)]
    ['not']
    """

    dtype: np.dtype[Any]
    is_recurrent = True
    takes_lengths = True
    takes_dropout = True
    _in_order = True  # see nn/stream.py; the state is that of `rnn`

    def __init__(
        self,
        vocabulary: Any,
        cell: Any = "lstm",
        *,
        cell_options: Mapping[str, Any] | None = None,
        embedding_dim: int = 64,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.vocabulary, self.vocab_size = _vocabulary.prepared(vocabulary)
        make, self.cell = chosen(cell, cell_options)
        self._cell_options = _check.cell_options(cell_options)
        seeds = split(seed, 3)
        self.embedding = Embedding(self.vocab_size, embedding_dim, dtype=dtype, seed=seeds[0])
        self.rnn = make(embedding_dim, hidden_size, num_layers, dropout=dropout, dtype=dtype, seed=seeds[1])
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, self.vocab_size, dtype=dtype, seed=seeds[2])
        self._sizes = {"embedding_dim": embedding_dim, "hidden_size": hidden_size, "num_layers": num_layers}
        open_forget_gates(self.rnn)

    @property
    def children(self) -> dict[str, Layer]:
        return {"embedding": self.embedding, "rnn": self.rnn, "output": self.output}

    def config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocab_size if self.vocabulary is None else self.vocabulary.config(),
            "cell": cell_config(self.cell),
            **({"cell_options": self._cell_options} if self._cell_options else {}),
            **self._sizes,
            "dropout": self.dropout.p,
            "dtype": self.dtype.name,
        }

    def __repr__(self) -> str:
        sizes = "".join(f", {name}={value}" for name, value in self._sizes.items())
        dropout = f", dropout={self.dropout.p!r}" if self.dropout.p else ""
        cell = repr(self.cell) if isinstance(self.cell, str) else cell_name(self.cell)
        return f"LanguageModel({self.vocab_size}, {cell}{sizes}{dropout}, dtype={self.dtype.name!r})"

    # ---- running ---------------------------------------------------------------------------------------

    def __call__(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, dropout: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Return the logits of the next tokens, and the state after the last.

        Parameters
        ----------
        x : integers [T, B] or [T]
        state : as returned, or None for zeros
        lengths : integers [B], optional
        dropout : bool
            Drop values as in training (for Monte-Carlo estimates).

        Returns
        -------
        logits : [T, B, vocab_size] or [T, vocab_size]
        state
        """
        y, state = self.rnn(self.embedding(x), state, lengths=lengths, dropout=dropout)
        return self.output(self.dropout(y, dropout=dropout)), state

    def vjp(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = True,
        seed: Seed = None,
        checkpoint: int | None = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[tuple[NDArray[Any], Any], Pullback]:
        """Return ``(logits, state)`` and their pullback.

        ``pullback(dlogits=None, dstate=None)`` adds to `grads` and returns ``(None, dstate_0)``; tokens have
        no gradient. Arguments are those of the recurrent layers.
        """
        seeds = split(seed, 2)
        e, pull_embedding = self.embedding.vjp(x, retain=retain)
        (y, state_n), pull_rnn = self.rnn.vjp(
            e, state, lengths=lengths, dropout=dropout, seed=seeds[0], checkpoint=checkpoint, retain=retain
        )
        z, pull_dropout = self.dropout.vjp(y, dropout=dropout, seed=seeds[1], retain=retain)
        logits, pull_output = self.output.vjp(z, retain=retain)

        def run(dlogits: ArrayLike | None = None, dstate: Any = None) -> tuple[None, Any]:
            dy = None if dlogits is None else pull_dropout(pull_output(dlogits))
            de, dstate_0 = pull_rnn(dy, dstate)
            pull_embedding(de)
            return None, dstate_0

        return (logits, state_n), Pullback(run, "LanguageModel", retain)

    def loss(self, batch: Any, *, state: Any = None, seed: Seed = None, train: bool = True) -> tuple[float, Any]:
        """Return the mean cross entropy of a batch (nats per token) and the state after it.

        The form that ``fr.fit(model, data)`` calls when it is given no loss. With `train` the gradients are
        added to `grads`.

        Parameters
        ----------
        batch : Batch or tuple ``(x, target, lengths=None, weight=None)``
            Tokens [T, B] and the tokens that follow them.
        """
        x, target, lengths, weight = _check.with_targets(batch)
        if train:
            (logits, state), pullback = self.vjp(x, state, lengths=lengths, seed=seed)
            loss, dlogits = losses.cross_entropy(logits, target, lengths=lengths, weight=weight, out=logits)
            pullback(dlogits)
        else:
            logits, state = self(x, state, lengths=lengths)
            loss, _ = losses.cross_entropy(logits, target, lengths=lengths, weight=weight, out=logits)
        return loss, state

    def stream(self, batch_size: int = 1) -> Stream | LayerStream:
        """Run the model one token a call, with its weights packed once: for generating text.

        Parameters
        ----------
        batch_size : int
            B: texts that move on together.

        Returns
        -------
        Stream or LayerStream
            ``step(tokens)`` takes integers [B] and returns logits [B, vocab_size], ``run(tokens)`` takes [T, B]; with
            one row also an integer, and [T]. Its `state` is the model's.

        Examples
        --------
        >>> import fastrnn as fr
        >>> model = fr.models.LanguageModel(8, hidden_size=16, seed=0)
        >>> s = model.stream()
        >>> logits = s.run([3, 1, 4])[-1]
        >>> for _ in range(5):
        ...     logits = s.step(logits.argmax())
        >>> logits.shape
        (8,)
        """
        return stream_of(self, batch_size)

    # ---- evaluation ------------------------------------------------------------------------------------

    def _tokens(self, text: Any, name: str = "tokens") -> NDArray[Any]:
        return _vocabulary.numbers(self.vocabulary, text, name)

    def bits_per_token(self, tokens: str | ArrayLike, *, batch_size: int = 32, seq_len: int = 256) -> float:
        """Return the mean number of bits that the model needs for each token of a stream.

        The stream is cut into `batch_size` rows (fewer if it is short), read with a carried state; the tokens
        that are left over at the end form a last row, and each row's first token is only read.

        Parameters
        ----------
        tokens : integers [N]; for a model with a vocabulary also str, and, unless it is one of characters, a list of
            str, which are read with an end before, between and after them, as `fr.text.token_stream` joins them

        Returns
        -------
        float
            Bits per character if tokens are characters.
        """
        batch_size, seq_len = _check.positive_int(batch_size, "batch_size"), _check.positive_int(seq_len, "seq_len")
        tokens = self._tokens(tokens)
        if tokens.ndim != 1 or len(tokens) < 2:
            raise ValueError(f"tokens: expected [N] with N >= 2, got shape {tokens.shape}")
        B = max(1, min(batch_size, (len(tokens) - 1) // seq_len))
        steps = (len(tokens) - 1) // B
        rest = tokens[B * steps :]
        nats = self._nats(tokens[: B * steps + 1], B, steps, seq_len)
        if len(rest) > 1:
            nats += self._nats(rest, 1, len(rest) - 1, seq_len)
        return nats / (len(tokens) - 1) / math.log(2)

    def _nats(self, tokens: NDArray[Any], B: int, steps: int, seq_len: int) -> float:
        """Return the summed loss of B rows of `steps` targets; row b starts at b·steps."""
        rows = np.lib.stride_tricks.sliding_window_view(tokens, steps + 1)[::steps].T  # [steps + 1, B]
        seq_len = max(1, min(seq_len, MOST_LOGITS // (B * self.vocab_size)))  # in one go
        state, total = None, 0.0
        for start in range(0, steps, seq_len):
            window = np.ascontiguousarray(rows[start : start + seq_len + 1])
            loss, state = self.loss((window[:-1], window[1:]), state=state, train=False)
            total += loss * window[1:].size
        return total

    def bits_per_char(self, text: str | ArrayLike, *, batch_size: int = 32, seq_len: int = 256) -> float:
        """Return `bits_per_token`, under its usual name for models of characters."""
        return self.bits_per_token(text, batch_size=batch_size, seq_len=seq_len)

    def perplexity(self, tokens: str | ArrayLike, *, batch_size: int = 32, seq_len: int = 256) -> float:
        """Return 2 to the `bits_per_token`: among so many tokens the model is, on average, undecided.

        Unknown words count as the unknown token.
        """
        return float(2.0 ** min(self.bits_per_token(tokens, batch_size=batch_size, seq_len=seq_len), 1000.0))

    def _streams(self) -> bool:
        """Whether a stream computes what a call does: not for subclasses that have calls of their own."""
        if type(self).__call__ is not LanguageModel.__call__:
            return False
        return any(
            isinstance(self.rnn, base) and type(self.rnn).__call__ is base.__call__ for base in (Recurrent, Scan)
        )
