"""A recurrent language model: embedding, recurrent layers, a linear map to the logits of the next token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.models._sampling import sample_token, sampling_options
from fastrnn.nn import GRU, LSTM, RNN, Dropout, Embedding, Linear, losses
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, split
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.stream import Stream
from fastrnn.text import CharVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

PROMPT_BLOCK = 512  # tokens whose logits are computed at once
CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


class LanguageModel(Layer):
    """Predict the next token of a sequence.

    Parameters
    ----------
    vocabulary : int or CharVocabulary
        The number of tokens, or a vocabulary; with a vocabulary the model also takes and returns text, and is
        saved together with it.
    cell : {"lstm", "gru", "rnn"}
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
    """

    dtype: np.dtype[Any]
    is_recurrent = True
    takes_lengths = True
    takes_dropout = True
    _in_order = True  # see nn/stream.py; the state is that of `rnn`

    def __init__(
        self,
        vocabulary: int | CharVocabulary | dict[str, Any],
        cell: str = "lstm",
        *,
        embedding_dim: int = 64,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        if isinstance(vocabulary, dict):  # as `config` describes it
            vocabulary = CharVocabulary(**vocabulary)
        self.vocabulary = vocabulary if isinstance(vocabulary, CharVocabulary) else None
        self.vocab_size = _vocab_size(vocabulary)
        if cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        self.cell = cell
        seeds = split(seed, 3)
        self.embedding = Embedding(self.vocab_size, embedding_dim, dtype=dtype, seed=seeds[0])
        self.rnn = CELLS[cell](embedding_dim, hidden_size, num_layers, dropout=dropout, dtype=dtype, seed=seeds[1])
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, self.vocab_size, dtype=dtype, seed=seeds[2])
        self._sizes = {"embedding_dim": embedding_dim, "hidden_size": hidden_size, "num_layers": num_layers}
        if cell == "lstm":
            for layer in range(num_layers):
                for name, value in (("bias_ih", 1.0), ("bias_hh", 0.0)):
                    self.rnn.params[f"{name}_l{layer}"][hidden_size : 2 * hidden_size] = value

    @property
    def children(self) -> dict[str, Layer]:
        return {"embedding": self.embedding, "rnn": self.rnn, "output": self.output}

    def config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocab_size if self.vocabulary is None else self.vocabulary.config(),
            "cell": self.cell,
            **self._sizes,
            "dropout": self.dropout.p,
            "dtype": self.dtype.name,
        }

    def __repr__(self) -> str:
        sizes = "".join(f", {name}={value}" for name, value in self._sizes.items())
        dropout = f", dropout={self.dropout.p!r}" if self.dropout.p else ""
        return f"LanguageModel({self.vocab_size}, {self.cell!r}{sizes}{dropout}, dtype={self.dtype.name!r})"

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
        x, target, lengths, weight = (*batch, None, None)[:4]
        if train:
            (logits, state), pullback = self.vjp(x, state, lengths=lengths, seed=seed)
            loss, dlogits = losses.cross_entropy(logits, target, lengths=lengths, weight=weight, out=logits)
            pullback(dlogits)
        else:
            logits, state = self(x, state, lengths=lengths)
            loss, _ = losses.cross_entropy(logits, target, lengths=lengths, weight=weight, out=logits)
        return loss, state

    def stream(self, batch_size: int = 1) -> Stream:
        """Run the model one token a call, with its weights packed once: for generating text.

        Parameters
        ----------
        batch_size : int
            B: texts that move on together.

        Returns
        -------
        Stream
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
        return Stream(self, batch_size)

    # ---- evaluation ------------------------------------------------------------------------------------

    def _tokens(self, text: str | ArrayLike, name: str = "tokens") -> NDArray[Any]:
        if isinstance(text, str):
            if self.vocabulary is None:
                raise TypeError(f"{name}: this model has no vocabulary; pass integers, not text")
            return self.vocabulary.encode(text)
        tokens = np.asarray(text)
        if tokens.size and tokens.dtype.kind not in "iu":
            raise TypeError(f"{name}: expected text or integers [N], got {tokens.dtype} {tokens.shape}")
        return tokens

    def bits_per_token(self, tokens: str | ArrayLike, *, batch_size: int = 32, seq_len: int = 256) -> float:
        """Return the mean number of bits that the model needs for each token of a stream.

        The stream is cut into `batch_size` rows (fewer if it is short), read with a carried state; the tokens
        that are left over at the end form a last row, and each row's first token is only read.

        Parameters
        ----------
        tokens : integers [N], or str for a model with a vocabulary

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
        """Return 2 to the `bits_per_token`."""
        return float(2.0 ** self.bits_per_token(tokens, batch_size=batch_size, seq_len=seq_len))

    # ---- generation ------------------------------------------------------------------------------------

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
            What comes before; it isn't part of the result. An empty prompt stands for a line break in a
            vocabulary that has one, else for token 0.
        length : int
            Number of tokens.
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
        tokens = np.fromiter(self.generate(prompt, length, **options), np.int64, count=length)
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
        tokens = self._start() if isinstance(prompt, str) and not prompt else self._tokens(prompt, "prompt")
        if tokens.ndim != 1:
            raise ValueError(f"prompt: expected text or integers [N], got shape {tokens.shape}")
        if not tokens.size:
            tokens = self._start()
        return self._generate(tokens, length, options, np.random.default_rng(seed))

    def _start(self) -> NDArray[Any]:
        return np.zeros(1, np.int64) if self.vocabulary is None else self.vocabulary.encode("\n")

    def _generate(
        self, tokens: NDArray[Any], length: int, options: dict[str, Any], rng: np.random.Generator
    ) -> Iterator[int]:
        # Number 0 of a vocabulary is the unknown character, which nobody wants to read.
        banned = None if self.vocabulary is None else 0
        if length == 0:
            return
        if not self._streams():
            yield from self._generate_by_calls(tokens, length, options, rng, banned)
            return
        stream = self.stream()
        for first in range(0, len(tokens), PROMPT_BLOCK):
            logits = stream.run(tokens[first : first + PROMPT_BLOCK])[-1]
        x = np.empty((), np.int64)
        for k in range(length):
            if k:
                logits = stream.step(x, logits)
            x[()] = sample_token(logits, rng, banned=banned, **options)
            yield int(x)

    def _streams(self) -> bool:
        """Whether a stream computes what a call does: not for subclasses that have calls of their own."""
        ours = all(
            type(layer).__call__ is base.__call__ for layer, base in ((self, LanguageModel), (self.rnn, Recurrent))
        )
        return ours and isinstance(self.rnn, Recurrent)

    def _generate_by_calls(
        self, tokens: NDArray[Any], length: int, options: dict[str, Any], rng: np.random.Generator, banned: int | None
    ) -> Iterator[int]:
        state = None
        for _ in range(length):
            logits, state = self(np.asarray(tokens, np.int64)[:, None], state)
            token = sample_token(logits[-1, 0], rng, banned=banned, **options)
            yield token
            tokens = np.array([token])


def _vocab_size(vocabulary: int | CharVocabulary) -> int:
    if isinstance(vocabulary, CharVocabulary):
        return len(vocabulary)
    try:
        return _check.positive_int(vocabulary, "vocabulary")
    except TypeError:
        raise TypeError(
            "vocabulary: expected a number of tokens or a CharVocabulary, such as CharVocabulary.from_text(text), "
            f"got {vocabulary!r:.80}"
        ) from None
