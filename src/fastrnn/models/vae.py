"""VAE: the variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.models import _parts
from fastrnn.nn import ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, split

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class Elbo(NamedTuple):
    """The evidence lower bound and its two parts, in nats a row: ``elbo = −reconstruction − kl``.

    Attributes
    ----------
    elbo : float
    reconstruction : float
        −log p(x | z), z drawn from q(z | x).
    kl : float
        KL(q(z | x) ‖ p(z)).
    """

    elbo: float
    reconstruction: float
    kl: float


class VAE(_parts.Coder):
    """A latent-variable model, p(z) = N(0, 1) and p(x | z) by a decoder, trained with an encoder q(z | x) = N(μ, σ²).

    The loss is −ELBO = −E_q log p(x | z) + β KL(q(z | x) ‖ p(z)), with one z = μ + σ ⊙ ε for each row and step. β > 1
    asks for independent latents, β < 1 for sharper reconstructions.

    Parameters
    ----------
    input_size, latent_size : int
        Values of a row of x, and of z.
    hidden_sizes : int or sequence of int
        Hidden layers of the encoder; those of the decoder are the same in reverse.
    likelihood : {"bernoulli", "gaussian"}
        p(x | z): Bernoulli for x from 0 to 1; Gaussian with standard deviation `scale` for any real x.
    scale : float
    beta : float
    activation : {"relu", "tanh", "sigmoid", "swish"}
    encoder, decoder : Layer, optional
        Instead of these networks: from x, whose first axis is the batch, to [B, 2·latent_size] (μ, then log σ²), and
        from [B, latent_size] to x's shape (for "bernoulli" to logits).
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Notes
    -----
    The call gives the mean of p(x | z) at z = μ; `vjp` draws z, from its `seed`.

    References
    ----------
    Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; Higgins et al. 2017, "beta-VAE".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = (np.random.default_rng(0).random((200, 1)) < [[0.1] * 4 + [0.9] * 4]).astype(np.float32)
    >>> model = fr.models.VAE(8, 2, 16, seed=0)
    >>> before = model.elbo(x, seed=0).elbo
    >>> history = fr.fit(model, [(x,)], None, fr.optim.Adam(model, lr=0.01), epochs=100, progress=False)
    >>> model.elbo(x, seed=0).elbo > before
    True
    >>> mean, log_var = model.encode(x)
    >>> mean.shape, model.decode(mean).shape, model.sample(5, seed=0).shape
    ((200, 2), (200, 8), (5, 8))
    """

    def __init__(
        self,
        input_size: int,
        latent_size: int,
        hidden_sizes: int | Sequence[int] = (128,),
        *,
        likelihood: str = "bernoulli",
        scale: float = 1.0,
        beta: float = 1.0,
        activation: str = "relu",
        encoder: Layer | None = None,
        decoder: Layer | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.latent_size = _check.positive_int(latent_size, "latent_size")
        self.beta = _check.at_least_zero(beta, "beta")
        self.draw = _parts.GaussianSample()
        self._build(
            input_size, 2 * self.latent_size, self.latent_size, hidden_sizes, likelihood, scale, activation, encoder,
            decoder, dtype, split(seed, 2),
        )  # fmt: skip

    # ---- between x and z ---------------------------------------------------------------------------------------

    def encode(self, x: Any) -> tuple[Any, Any]:
        """q(z | x): mean and log variance, each [B, latent_size], for x [B, input_size]."""
        both = _parts.output_of(self.encoder, self._rows(x), 2 * self.latent_size, "encoder")
        return both[:, : self.latent_size], both[:, self.latent_size :]

    def decode(self, z: Any) -> Any:
        """The mean of p(x | z), [B, input_size], for z [B, latent_size]."""
        return self._mean(self._outputs(z))

    def forward(self, x: Any) -> Any:
        """The reconstruction of x [B, input_size]."""
        return self.decode(self.draw(*self.encode(x)))

    def reconstruct(self, x: Any) -> Any:
        """The same as calling the model: the mean of p(x | z) at the mean of q(z | x)."""
        return self(x)

    def sample(self, count: int, *, seed: Seed = None) -> NDArray[Any]:
        """Means of p(x | z) for `count` draws of z from the prior, [count, input_size]."""
        count = _check.positive_int(count, "count")
        z = generator(seed).standard_normal((count, self.latent_size))
        decoded: NDArray[Any] = self.decode(z.astype(self.dtype))
        return decoded

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int = 9) -> NDArray[Any]:
        """Decode points on the lines between the latents of two inputs.

        Parameters
        ----------
        a, b : array [input_size] or [B, input_size]
        steps : int
            Points, both ends included.

        Returns
        -------
        array [steps, input_size] or [steps, B, input_size]
        """
        return interpolated(self, a, b, steps)

    # ---- loss --------------------------------------------------------------------------------------------------

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """−ELBO in nats, with β, the mean over rows; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, None, None, weight=None)``
            x [B, input_size], and one weight a row.
        seed : None, int or numpy.random.Generator
            For ε. Without one, ε comes from the run in training and is always the same otherwise.
        train : bool
        """
        x, weight = _parts.parts_of(batch)
        reconstruction, kl = self._terms(x, weight, *_parts.noise_seeds(seed, train))
        return reconstruction + self.beta * kl

    def elbo(self, x: ArrayLike, *, samples: int = 1, seed: Seed = 0) -> Elbo:
        """Estimate the evidence lower bound (β = 1) of x [B, input_size], the mean over rows.

        Parameters
        ----------
        x : array
        samples : int
            Draws of z for each row.
        seed
            For the draws.
        """
        draws = [self._terms(x, None, s) for s in split(seed, _check.positive_int(samples, "samples"))]
        reconstruction, kl = np.mean([draw[0] for draw in draws]), draws[0][1]
        return Elbo(-float(reconstruction + kl), float(reconstruction), float(kl))

    def _terms(self, x: Any, weight: Any, seed: Seed) -> tuple[Any, Any]:
        x = self._rows(x)
        mean, log_var = self.encode(x)
        reconstruction = self._nats(
            self._outputs(self.draw(mean, log_var, dropout=True, seed=seed)), ops.stop_gradient(x), weight
        )
        return reconstruction, _parts.kl_to_standard(mean, log_var, _parts.shares(len(x), weight, self.dtype))

    def _outputs(self, z: Any) -> Any:
        z = _parts.rows(z, self.dtype, self.latent_size, "z", "latent_size")
        return _parts.output_of(self.decoder, z, None, "decoder")


def interpolated(model: Any, a: ArrayLike, b: ArrayLike, steps: int) -> NDArray[Any]:
    """What a VAE decodes between two inputs, of one row each or of B."""
    steps = _check.positive_int(steps, "steps")
    ends = [_check.floats(end, model.dtype, name, layer=True) for end, name in ((a, "a"), (b, "b"))]
    _check.same_shape(ends[1], ends[0].shape, "b", "a")
    single = ends[0].ndim == 1
    first, last = (model.encode(end[None] if single else end)[0] for end in ends)
    decoded = np.stack([model.decode(point) for point in line(first, last, steps)])
    return decoded[:, 0] if single else decoded


def line(first: NDArray[Any], last: NDArray[Any], steps: int) -> list[NDArray[Any]]:
    """Points from `first` to `last`; one point is the first."""
    return [(first + (last - first) * first.dtype.type(t)) for t in np.linspace(0, 1, steps)]
