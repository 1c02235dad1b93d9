"""VHRED: an HRED with a latent variable for each reply, so that replies vary in what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models import _parts
from fastrnn.models._annealing import Annealing
from fastrnn.models._dialogue import DialogueModel, Places, take_rows
from fastrnn.models.sequence_vae import HideTokens
from fastrnn.models.vae import Elbo
from fastrnn.nn import ops
from fastrnn.nn._random import Seed, split
from fastrnn.train.dialogue_data import Dialogues

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray


class VHRED(DialogueModel):
    """Latent variable hierarchical recurrent encoder-decoder: an `HRED` whose reply also depends on a z of its own,
    which is drawn before the first word and so decides on the whole of it.

        e_n, c_n                                                as for `HRED`
        p(z_n | u_≤n) = N(μ_p, σ_p²),                           (μ_p, log σ_p²) = prior(c_n)
        q(z_n | u_≤n+1) = N(μ_q, σ_q²),                         (μ_q, log σ_q²) = posterior([c_n ; e_{n+1}])
        log P(u_{n+1} | u_≤n) ≥ E_q log P(u_{n+1} | z_n, c_n) − KL(q ‖ p)

    `prior` and `posterior` are perceptrons with one layer of tanh; the decoder gets [c_n ; z_n] where that of `HRED`
    gets c_n. The loss is minus that bound, per token, with the KL term weighted by a w that rises from 0 to 1 in the
    first `annealing` steps. A share `word_dropout` of the tokens that the decoder sees in training is replaced by the
    unknown one. Both keep the decoder from learning to do without z.

    Parameters
    ----------
    vocabulary, cell, cell_options, embedding_dim, hidden_size, context_size, num_layers, bidirectional, peeky
        As for `HRED`.
    dropout, dtype, seed
        As for `HRED`.
    latent_size : int
        Z.
    latent_hidden : int, optional
        Units of the layer in `prior` and `posterior`; `context_size` by default.
    word_dropout : float
    annealing : int
        Steps until w is 1; 0 for 1 from the start.
    annealing_shape : {"linear", "sigmoid"}

    Notes
    -----
    `reply` draws z from the prior, for each reply one of its own. The call gives logits for z = μ_q; `vjp` draws z.

    References
    ----------
    Serban, Sordoni, Lowe, Charlin, Pineau, Courville & Bengio 2017, "A Hierarchical Latent Variable Encoder-Decoder
    Model for Generating Dialogues"; Bowman et al. 2016 for annealing and word dropout.

    Examples
    --------
    >>> import fastrnn as fr
    >>> dialogues = [["hi", reply] for reply in ("good day", "hello", "how are you", "nice to see you")]
    >>> vocabulary = fr.text.Vocabulary.from_texts(text for dialogue in dialogues for text in dialogue)
    >>> sizes = {"embedding_dim": 16, "hidden_size": 32, "context_size": 16, "latent_size": 4}
    >>> model = fr.models.VHRED(vocabulary, **sizes, annealing=300, seed=0)
    >>> data = fr.DialogueBatches(dialogues * 4, batch_size=16, vocabulary=vocabulary)
    >>> _ = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=400, progress=False, seed=0)
    >>> (replies,) = model.reply([["hi"]], num_samples=50, seed=0)  # of each z the most probable one
    >>> {"good day", "hello", "how are you", "nice to see you"} <= set(replies)
    True
    """

    def __init__(
        self,
        vocabulary: Any,
        cell: Any = "gru",
        *,
        cell_options: Mapping[str, Any] | None = None,
        embedding_dim: int = 128,
        hidden_size: int = 256,
        context_size: int = 256,
        latent_size: int = 32,
        latent_hidden: int | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        peeky: bool = True,
        word_dropout: float = 0.25,
        dropout: float = 0.0,
        annealing: int = 2000,
        annealing_shape: str = "linear",
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        seeds = split(seed, 8)
        self.latent_size = _check.positive_int(latent_size, "latent_size")
        self._build(
            vocabulary, cell, embedding_dim, hidden_size, context_size, self.latent_size, num_layers, bidirectional,
            peeky, dropout, dtype, seeds, cell_options,
        )  # fmt: skip
        self.hide = HideTokens(word_dropout, self.unk)
        middle = _check.optional_positive_int(latent_hidden, "latent_hidden") or context_size
        encoded, out = (1 + bool(bidirectional)) * hidden_size, 2 * self.latent_size
        self.prior = _parts.perceptron([context_size, middle, out], "tanh", dtype, seeds[6])
        self.posterior = _parts.perceptron([context_size + encoded, middle, out], "tanh", dtype, seeds[7])
        self.draw = _parts.GaussianSample()
        self.kl_weight = Annealing(annealing, annealing_shape)

    def forward(self, dialogues: Any) -> Any:
        """Logits of each utterance but the first of its dialogue, [T + 1, R, V], for z = μ_q; in `vjp` for a draw.

        Parameters
        ----------
        dialogues : Dialogues, or list of lists of texts or of integers [T]
        """
        x, where = self._answers(dialogues)
        contexts, _, (mean, log_var) = self._latents(x, where)
        thought = ops.concat([contexts, self.draw(mean, log_var)], -1)
        y = self._decode(self.hide(self._seen(x, where)), x.lengths[where.answered] + 1, thought)
        return self.output(self.dropout(y))

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """Minus the bound in nats per token, ends counted; what ``fr.fit(model, data)`` minimises.

        In training w is that of the step; otherwise it is 1, and no token is hidden.

        Parameters
        ----------
        batch : Batch, as from `DialogueBatches`, or dialogues
            `x` are the dialogues, `weight` has a number for each of their utterances but the first.
        seed : None, int or numpy.random.Generator
            For z and the hidden tokens. Without one, they come from the run in training and are always the same
            otherwise.
        train : bool
        """
        x, where, weight = self._batch(batch)
        nats, kl = self._terms(x, where, weight, _parts.noise_seeds(seed, train, 2))
        return nats + (self.kl_weight() if train else 1.0) * kl

    def elbo(self, dialogues: Any, *, samples: int = 1, seed: Seed = 0) -> Elbo:
        """Estimate the evidence lower bound, in nats an utterance, the mean over all but the first ones.

        Parameters
        ----------
        dialogues : Dialogues, or list of lists of texts or of integers [T]
        samples : int
            Draws of z for each utterance.
        seed
            For the draws.
        """
        x, where = self._answers(dialogues)
        tokens = float((x.lengths[where.answered] + 1).sum()) / len(where.answered)
        seeds = split(seed, _check.positive_int(samples, "samples"))
        draws = [self._terms(x, where, None, [one, None]) for one in seeds]
        nats, kl = float(np.mean([d[0] for d in draws])) * tokens, float(draws[0][1]) * tokens
        return Elbo(-nats - kl, nats, kl)

    # ---- parts -------------------------------------------------------------------------------------------------

    def _latents(self, x: Dialogues, where: Places) -> tuple[Any, tuple[Any, Any], tuple[Any, Any]]:
        """Contexts [R, C]; mean and log variance [R, Z] of prior and posterior."""
        encoded = self._encode(x, np.arange(len(x.lengths)))
        contexts = self._contexts(take_rows(encoded, where.asked), where)
        prior = self.prior(contexts)
        posterior = self.posterior(ops.concat([contexts, take_rows(encoded, where.answered)], -1))
        return contexts, self._halves(prior), self._halves(posterior)

    def _halves(self, both: Any) -> tuple[Any, Any]:
        return both[:, : self.latent_size], both[:, self.latent_size :]

    def _terms(self, x: Dialogues, where: Places, weight: Any, seeds: list[int | None]) -> tuple[Any, Any]:
        """−log P(answers | z, contexts) and the KL term, both per token."""
        contexts, prior, posterior = self._latents(x, where)
        z = self.draw(*posterior, dropout=True, seed=seeds[0])
        seen = self.hide(self._seen(x, where), seed=seeds[1])  # in training only
        nats = self._nats(x, where, seen, ops.concat([contexts, z], -1), weight)
        ends = x.lengths[where.answered] + 1
        share = _parts.shares(len(ends), weight, self.embedding.dtype)
        return nats, kl_between(*posterior, *prior, share / max(float(share @ ends), 1e-30))

    def _thoughts(self, contexts: NDArray[Any], count: int, rng: np.random.Generator) -> tuple[NDArray[Any], int]:
        contexts = np.repeat(contexts, count, axis=0)
        mean, log_var = self._halves(self.prior(contexts))
        z = self.draw(mean, log_var, dropout=True, seed=rng)
        return np.concatenate([contexts, z], -1), count


def kl_between(mean: Any, log_var: Any, prior_mean: Any, prior_log_var: Any, share: NDArray[Any]) -> Any:
    """KL(N(μ, σ²) ‖ N(μ_p, σ_p²)) = ½ Σ (log σ_p² − log σ² + (σ² + (μ − μ_p)²) / σ_p² − 1), of [R, Z] summed over Z,
    rows weighted by `share` [R]."""
    apart, ratio = mean - prior_mean, log_var - prior_log_var
    return 0.5 * ops.sum((ops.exp(ratio) + apart * apart * ops.exp(-prior_log_var) - 1 - ratio) * share[:, None])
