"""TokenDecoder: a decoder that reads tokens, and in training now and then its own (scheduled sampling)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn._random import Seed, mask_seed
from fastrnn.nn.decoder import AttentionDecoder
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.linear import Linear

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class TokenDecoder(Layer):
    """An embedding, an `AttentionDecoder` and an output layer, with teacher forcing or scheduled sampling.

    In `vjp` with `sampling=p` each step after the first one reads, with probability p for each row, the token that the
    decoder itself finds most probable there, instead of the given one (Bengio et al. 2015). No gradient goes through
    that choice; the embedding of what was read gets its gradient.

    Parameters
    ----------
    embedding : Embedding
    decoder : AttentionDecoder
        Its input is an embedding, followed by `extra` where `input_size` is larger.
    output : Linear
        From the decoder's outputs to logits. Call it on y for a loss: this layer only looks at it.

    References
    ----------
    Bengio, Vinyals, Jaitly & Shazeer 2015, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> table, output = fr.Embedding(20, 4, seed=0), fr.Linear(8, 20, seed=1)
    >>> layer = fr.nn.TokenDecoder(table, fr.nn.AttentionDecoder(4, 8, 6, seed=2), output)
    >>> tokens, source = np.ones((5, 3), np.int64), np.ones((7, 3, 6), np.float32)
    >>> (y, state), pullback = layer.vjp(tokens, source, sampling=0.5, seed=0)
    >>> y.shape
    (5, 3, 8)
    >>> _, dsource, dstate, dfeed, dextra = pullback(np.ones_like(y))
    """

    takes_lengths = True
    dtype: np.dtype[Any]

    def __init__(
        self,
        embedding: Embedding | Mapping[str, Any],
        decoder: AttentionDecoder | Mapping[str, Any],
        output: Linear | Mapping[str, Any],
    ) -> None:
        parts = [from_spec(part) if isinstance(part, Mapping) else part for part in (embedding, decoder, output)]
        _check.search_layers(parts[1], parts[0], parts[2], AttentionDecoder, Embedding, Linear)
        super().__init__(parts[1].dtype)
        self.embedding: Embedding = parts[0]  # type: ignore[assignment]
        self.decoder: AttentionDecoder = parts[1]  # type: ignore[assignment]
        self.output: Linear = parts[2]  # type: ignore[assignment]
        _check.search_sizes(self.dtype, self.embedding, self.output, self.decoder.output_size)
        _check.extra_size(self.decoder.input_size - self.embedding.embedding_dim)
        self.takes_dropout = self.decoder.takes_dropout

    @property
    def children(self) -> dict[str, Layer]:
        return {"embedding": self.embedding, "decoder": self.decoder, "output": self.output}

    def _inputs(self, tokens: Any, extra: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Tokens [T, B], and the decoder's x as an array of our own."""
        tokens = _check.integers(tokens, "tokens")
        if tokens.ndim != 2 or 0 in tokens.shape[self.decoder.batch_first :][:1]:
            raise ValueError(f"tokens: expected [T, B] with at least one step, got shape {tokens.shape}")
        _check.in_range(tokens, self.embedding.num_embeddings, "num_embeddings", "tokens")
        batch = tokens.shape[0 if self.decoder.batch_first else 1]
        size = self.embedding.embedding_dim
        extra = _check.extra(extra, batch, self.decoder.input_size - size, self.dtype)
        x = self.embedding._forward(tokens)
        if extra is None:
            return tokens, x
        both = _core.empty((*tokens.shape, self.decoder.input_size), self.dtype)
        both[..., :size] = x
        both[..., size:] = extra[:, None] if self.decoder.batch_first else extra
        return tokens, both

    def __call__(
        self,
        tokens: ArrayLike,
        source: ArrayLike,
        state: Any = None,
        feed: ArrayLike | None = None,
        extra: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        source_lengths: ArrayLike | None = None,
        weights: bool = False,
        sampling: float = 0.0,
    ) -> Any:
        """Inference with teacher forcing.

        Parameters
        ----------
        tokens : integers, [T, B] ([B, T] with the decoder's `batch_first`)
        source, state, feed, lengths, source_lengths, weights
            As for `AttentionDecoder`.
        extra : array, [B, Z], optional
            Follows every embedding.
        sampling : float
            Not used: it is for training.

        Returns
        -------
        y, state_n[, weights]
            As from `AttentionDecoder`.
        """
        _check.fraction_or_one(sampling, "sampling")
        _, x = self._inputs(tokens, extra)
        return self.decoder(x, source, state, feed, lengths=lengths, source_lengths=source_lengths, weights=weights)

    def vjp(
        self,
        tokens: ArrayLike,
        source: ArrayLike,
        state: Any = None,
        feed: ArrayLike | None = None,
        extra: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        source_lengths: ArrayLike | None = None,
        weights: bool = False,
        sampling: float = 0.0,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Training.

        Parameters
        ----------
        tokens, source, state, feed, extra, lengths, source_lengths, weights
            As in the call.
        sampling : float
            Probability from 0 to 1 of reading the decoder's own token.
        dropout : bool
            As for `AttentionDecoder`.
        seed : None, int or numpy.random.Generator
            For which steps read it, and for masks. The same seed gives the same ones for any number of threads.
        input_grad : bool
            Accepted because all layers do; tokens have no gradient.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        (y, state_n) or (y, state_n, weights)
        pullback : callable
            `pullback(dy=None, dstate=None)` adds to `grads` and returns `(None, dsource, dstate_0, dfeed, dextra)`.
        """
        rate = _check.fraction_or_one(sampling, "sampling")
        tokens, x = self._inputs(tokens, extra)
        drawn = None
        if rate:
            tokens = tokens.copy()
            weight, output = self.embedding._params["weight"], self.output._params
            drawn = (rate, mask_seed(seed), weight, output["weight"], output.get("bias"), tokens)
        outputs, below = self.decoder._vjp(
            x, source, state, feed, lengths, source_lengths, bool(weights), True, retain, drawn,
            self.decoder._draw(dropout, seed),
        )  # fmt: skip
        size, time = self.embedding.embedding_dim, 1 if self.decoder.batch_first else 0

        def run(dy: ArrayLike | None = None, dstate: Any = None, dweights: Any = None) -> tuple[Any, ...]:
            dx, dsource, dstate_0, dfeed = below(dy, dstate, dweights)
            self.embedding._add_gradient(dx[..., :size], tokens)
            return None, dsource, dstate_0, dfeed, dx[..., size:].sum(axis=time) if extra is not None else None

        return outputs, Pullback(run, "TokenDecoder", retain)

    def config(self) -> dict[str, Any]:
        return {name: to_spec(layer) for name, layer in self.children.items()}
