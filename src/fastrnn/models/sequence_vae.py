"""SequenceVAE: a variational autoencoder of sequences of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.models import _parts, _vocabulary
from fastrnn.models._annealing import Annealing
from fastrnn.models._cells import chosen, count_states, first_state, own_states
from fastrnn.models._sampling import sample_token, sampling_options
from fastrnn.models.vae import Elbo, line
from fastrnn.nn import Dropout, Embedding, Linear, losses, ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, split
from fastrnn.nn.model import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray


class HideTokens(Layer):
    """Replace each token by `token` with probability `p`, in training: Bowman's word dropout."""

    takes_dropout = True

    def __init__(self, p: float, token: int) -> None:
        super().__init__()
        self.p, self.token = _check.fraction(p, "word_dropout"), token

    def __call__(self, x: NDArray[Any], *, dropout: bool = False, seed: Seed = None) -> Any:
        """Tokens of the shape of x."""
        if not dropout or not self.p:
            return x
        return np.where(generator(seed).random(x.shape) < self.p, self.token, x)

    def vjp(
        self, x: Any, *, dropout: bool = True, seed: Seed = None, input_grad: bool = True, retain: bool = False
    ) -> tuple[Any, Pullback]:
        """Tokens, which have no gradient."""
        return self(x, dropout=dropout, seed=seed), Pullback(lambda dy: None, "HideTokens", retain)

    def config(self) -> dict[str, Any]:
        return {"p": self.p, "token": self.token}


class SequenceVAE(Model):
    """A language model that writes from a latent vector: an RNN reads a sequence into q(z | x) = N(μ, σ²), another
    writes it again from z.

    The loss is −ELBO = −E_q log p(x | z) + w KL(q(z | x) ‖ N(0, 1)), per token. Alone, a decoder that sees the tokens
    before learns to ignore z. Against that, w rises from 0 to 1 in the first `annealing` steps, and a share
    `word_dropout` of the tokens that the decoder sees is hidden.

    Parameters
    ----------
    vocabulary : int, CharVocabulary, Vocabulary, or a tokenizer that `fr.text.as_vocabulary` takes
        The number of tokens, or a vocabulary; with one the model also takes and returns text. The end of a sequence
        and the hidden token are further ones, which the model adds.
    latent_size : int
        Z.
    cell : "lstm", "gru", "rnn", "sru", "mingru", "minlstm", "indrnn", or a cell made by `fr.cell`
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``.
    embedding_dim, hidden_size, num_layers : int
        Of encoder and decoder.
    bidirectional : bool
        Of the encoder.
    word_dropout : float
        Probability that the decoder sees a hidden token, in training.
    dropout : float
        Probability of a zero before the output layer and between recurrent layers, in training.
    annealing : int
        Steps until w is 1; 0 for 1 from the start.
    annealing_shape : {"linear", "sigmoid"}
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Notes
    -----
    z sets the decoder's initial state and is fed to it at each step. The call gives the logits [T + 1, B, V + 1] of
    the sequence and its end (token V), from z = μ and the tokens before; `vjp` draws z and hides tokens.

    References
    ----------
    Bowman et al. 2016, "Generating Sentences from a Continuous Space".

    Examples
    --------
    >>> import fastrnn as fr
    >>> texts = ["abc", "abcabc", "xyz", "xyzxyz"]
    >>> vocabulary = fr.text.CharVocabulary.from_text("".join(texts))
    >>> model = fr.models.SequenceVAE(vocabulary, 4, "gru", hidden_size=32, annealing=500, word_dropout=0.5, seed=0)
    >>> data = fr.SequenceBatches([vocabulary.encode(text) for text in texts], batch_size=4)
    >>> _ = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=150, progress=False)
    >>> model.reconstruct(texts)
    ['abc', 'abcabc', 'xyz', 'xyzxyz']
    """

    takes_lengths = True

    def __init__(
        self,
        vocabulary: Any,
        latent_size: int = 32,
        cell: Any = "lstm",
        *,
        cell_options: Mapping[str, Any] | None = None,
        embedding_dim: int = 64,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        word_dropout: float = 0.3,
        dropout: float = 0.0,
        annealing: int = 2000,
        annealing_shape: str = "sigmoid",
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.vocabulary, self.vocab_size = _vocabulary.prepared(vocabulary)
        _vocabulary.keep(self, "vocabulary", self.vocab_size if self.vocabulary is None else self.vocabulary)
        self.latent_size = _check.positive_int(latent_size, "latent_size")
        self.hide = HideTokens(word_dropout, self.vocab_size + 1)
        (recurrent, self.cell), seeds = chosen(cell, cell_options), split(seed, 6)
        stack: dict[str, Any] = {"dropout": dropout, "dtype": dtype}
        # Tokens V and V + 1 are the end, which also begins a sequence, and a hidden token.
        self.embedding = Embedding(self.vocab_size + 2, embedding_dim, dtype=dtype, seed=seeds[0])
        self.encoder = recurrent(
            embedding_dim, hidden_size, num_layers, bidirectional=bidirectional, seed=seeds[1], **stack
        )
        self.to_latent = Linear((1 + bidirectional) * hidden_size, 2 * self.latent_size, dtype=dtype, seed=seeds[2])
        states = num_layers * count_states(self.encoder)
        self.to_state = Linear(self.latent_size, states * hidden_size, dtype=dtype, seed=seeds[3])
        self.decoder = recurrent(embedding_dim + self.latent_size, hidden_size, num_layers, seed=seeds[4], **stack)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, self.vocab_size + 1, dtype=dtype, seed=seeds[5])
        self.draw = _parts.GaussianSample()
        self.kl_weight = Annealing(annealing, annealing_shape)

    # ---- between x and z ---------------------------------------------------------------------------------------

    def encode(self, x: Any, lengths: ArrayLike | None = None) -> tuple[Any, Any]:
        """q(z | x): mean and log variance, each [B, latent_size].

        Parameters
        ----------
        x : integers [T, B], or a list of sequences, or of texts
        lengths : integers [B], optional
        """
        x, ends = self._batch(x, lengths)
        return self._encode(x, ends)

    def decode(
        self,
        z: ArrayLike,
        *,
        max_length: int = 100,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Seed = None,
    ) -> list[Any]:
        """Write a sequence from each z [B, latent_size].

        Parameters
        ----------
        z : array
        max_length : int
            Sequences that have not ended by then are cut.
        temperature, top_k, top_p
            As for `LanguageModel.generate`; at temperature 0 always the likeliest token.
        seed
            For the draws.

        Returns
        -------
        list of B texts, or of int64 arrays for a model without vocabulary
        """
        z = _check.features(z, self.dtype, self.latent_size, "latent_size", "z")
        if z.ndim != 2:
            raise ValueError(f"z: expected [B, {self.latent_size}], got shape {z.shape}")
        options = sampling_options(max_length, temperature, top_k, top_p)
        tokens = self._write(z, max_length, options, generator(seed))
        if self.vocabulary is None:
            return tokens
        return [self.vocabulary.decode(row) for row in tokens]

    def reconstruct(self, x: Any, lengths: ArrayLike | None = None, **options: Any) -> list[Any]:
        """Write sequences again from the means of q(z | x); `options` as for `decode`."""
        return self.decode(self.encode(x, lengths)[0], **options)

    def sample(self, count: int, *, temperature: float = 1.0, seed: Seed = None, **options: Any) -> list[Any]:
        """Write `count` sequences from draws of z from the prior; `options` as for `decode`."""
        rng = generator(seed)
        z = rng.standard_normal((_check.positive_int(count, "count"), self.latent_size)).astype(self.dtype)
        return self.decode(z, temperature=temperature, seed=rng, **options)

    def interpolate(self, a: Any, b: Any, steps: int = 7, **options: Any) -> list[Any]:
        """Write the sequences on the line from the latent of a to that of b, `steps` with both ends.

        Parameters
        ----------
        a, b : str, or integers [T]
        steps : int
        **options
            As for `decode`.
        """
        steps = _check.positive_int(steps, "steps")
        first, last = (self.encode([end])[0] for end in (a, b))
        return self.decode(np.concatenate(line(first, last, steps)), **options)

    # ---- training ----------------------------------------------------------------------------------------------

    def forward(self, x: Any, *, lengths: ArrayLike | None = None) -> Any:
        """Logits of each token and of the end, [T + 1, B, V + 1].

        Parameters
        ----------
        x : integers [T, B]
        lengths : integers [B], optional
        """
        x, ends = self._batch(x, lengths)
        return self._logits(self.hide(x), ends, self.draw(*self._encode(x, ends)))

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """−ELBO in nats per token (ends of sequences count as tokens); what ``fr.fit(model, data)`` minimises.

        In training w is that of the step; otherwise it is 1, and no token is hidden.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, None, lengths=None, weight=None)``
            x integers [T, B], and one weight a row.
        seed : None, int or numpy.random.Generator
            For z and the hidden tokens. Without one, they come from the run in training and are always the same
            otherwise.
        train : bool
        """
        x, _, lengths, weight = (*batch, None, None, None)[:4]
        reconstruction, kl = self._terms(*self._batch(x, lengths), weight, _parts.noise_seeds(seed, train, 2))
        return reconstruction + (self.kl_weight() if train else 1.0) * kl

    def elbo(self, x: Any, lengths: ArrayLike | None = None, *, samples: int = 1, seed: Seed = 0) -> Elbo:
        """Estimate the evidence lower bound, in nats a sequence, the mean over sequences.

        Parameters
        ----------
        x, lengths
            As for `encode`.
        samples : int
            Draws of z for each sequence.
        seed
            For the draws.
        """
        x, ends = self._batch(x, lengths)
        count = float((ends + 1).sum()) / max(len(ends), 1)
        draws = [self._terms(x, ends, None, [s, None]) for s in split(seed, _check.positive_int(samples, "samples"))]
        reconstruction, kl = float(np.mean([d[0] for d in draws])) * count, float(draws[0][1]) * count
        return Elbo(-reconstruction - kl, reconstruction, kl)

    # ---- parts -------------------------------------------------------------------------------------------------

    def _batch(self, x: Any, lengths: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens [T, B] with T ≥ 1 and the end token past each row's length, and lengths."""
        if isinstance(x, str):
            x = [x]
        if isinstance(x, list | tuple) and lengths is None:
            found = [self._tokens(sequence) for sequence in x]
            lengths = [len(tokens) for tokens in found]
            x = np.zeros((max([1, *lengths]), len(found)), np.int64)
            for row, tokens in enumerate(found):
                x[: len(tokens), row] = tokens
        x = _check.integers(x, "x")
        if x.ndim != 2 or x.shape[0] == 0:
            raise ValueError(f"x: expected integers [T, B] with T ≥ 1, got shape {x.shape}")
        ends = np.full(x.shape[1], len(x)) if lengths is None else _check.lengths(lengths, x.shape[1], len(x))
        x = np.where(np.arange(len(x))[:, None] < ends, x, self.vocab_size)
        _check.in_range(x, self.vocab_size + 1, "with the end token", "x")
        return x, ends

    def _tokens(self, sequence: Any) -> NDArray[Any]:
        if isinstance(sequence, str):
            return _vocabulary.numbers(self.vocabulary, sequence, "x")
        tokens = _check.integers(sequence, "x")
        if tokens.ndim != 1:
            raise ValueError(f"x: expected a list of sequences [T], or [T, B], got one of shape {tokens.shape}")
        return tokens

    def _encode(self, x: Any, ends: Any) -> tuple[Any, Any]:
        _, state = self.encoder(self.embedding(x), lengths=ends)
        h = first_state(state)
        both = self.to_latent(ops.concat([h[-2], h[-1]], -1) if self.encoder.bidirectional else h[-1])
        return both[:, : self.latent_size], both[:, self.latent_size :]

    def _state(self, z: Any) -> Any:
        """The decoder's initial state: tanh of a linear map, for c the map itself."""
        hidden = self.decoder.hidden_size
        both = self.to_state(z)
        maps = both.reshape(len(z), both.shape[-1] // hidden, hidden).transpose(1, 0, 2)
        return own_states(self.decoder, maps)

    def _logits(self, seen: Any, ends: Any, z: Any) -> Any:
        """Logits [T + 1, B, V + 1] after the beginning and after each token of `seen` [T, B]."""
        tokens = np.concatenate([np.full((1, seen.shape[1]), self.vocab_size), seen])
        fed = ops.broadcast_to(z.reshape(1, *z.shape), (len(tokens), *z.shape))
        y, _ = self.decoder(ops.concat([self.embedding(tokens), fed], -1), self._state(z), lengths=ends + 1)
        return self.output(self.dropout(y))

    def _terms(self, x: Any, ends: Any, weight: Any, seeds: list[int | None]) -> tuple[Any, Any]:
        """−log p(x | z) and the KL term, both per token."""
        mean, log_var = self._encode(x, ends)
        z = self.draw(mean, log_var, dropout=True, seed=seeds[0])
        seen = self.hide(x, seed=seeds[1])  # in training only
        target = np.concatenate([x, np.full((1, x.shape[1]), self.vocab_size)])
        row = None if weight is None else np.reshape(weight, (1, -1))
        nats, _ = losses.cross_entropy(self._logits(seen, ends, z), target, weight=row, lengths=ends + 1)
        share = _parts.shares(len(ends), weight, self.dtype)
        return nats, _parts.kl_to_standard(mean, log_var, share / max(float(share @ (ends + 1)), 1e-30))

    def _write(self, z: NDArray[Any], length: int, options: dict[str, Any], rng: np.random.Generator) -> list[Any]:
        stream = self.decoder.stream(max(len(z), 1))
        found: list[list[int]] = [[] for _ in z]
        tokens, going = np.full(len(z), self.vocab_size), np.ones(len(z), bool)
        if len(z):
            stream.reset(self._state(z))
        banned = _vocabulary.unspoken(self.vocabulary, end=True)  # the end that the model writes is its own
        for _ in range(length):
            if not going.any():
                break
            y = stream.step(np.concatenate([self.embedding(tokens), z], -1))
            logits = self.output(y)
            for row in np.flatnonzero(going):
                tokens[row] = token = sample_token(logits[row], rng, banned=banned, **options)
                going[row] = token != self.vocab_size
                if going[row]:
                    found[row].append(token)
        return [np.array(row, np.int64) for row in found]
