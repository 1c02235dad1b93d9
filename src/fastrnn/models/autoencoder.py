"""Autoencoder: a network that reads its input through a narrow place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models import _parts
from fastrnn.nn import Dropout
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, split

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class Autoencoder(_parts.Coder):
    """z = f(x), x̂ = g(z), both learned together from −log p(x | x̂).

    With `corruption` it is a denoising autoencoder: f reads x with a share of its values set to zero, and the loss
    compares with all of x.

    Parameters
    ----------
    input_size, latent_size : int
        Values of a row of x, and of its code z.
    hidden_sizes : int or sequence of int
        Hidden layers of f; those of g are the same in reverse.
    likelihood : {"gaussian", "bernoulli"}
        Gaussian with standard deviation `scale` for any real x; Bernoulli for x from 0 to 1.
    scale : float
    corruption : float
        Probability of a zero in the input, in training.
    activation : {"relu", "tanh", "sigmoid", "swish"}
    encoder, decoder : Layer, optional
        Instead of these networks: from x, whose first axis is the batch, to [B, latent_size] and back (for
        "bernoulli" to logits).
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    References
    ----------
    Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.random.default_rng(0).random((100, 1), np.float32) * np.arange(6, dtype=np.float32)
    >>> model = fr.models.Autoencoder(6, 1, (), seed=0)
    >>> _ = fr.fit(model, [(x,)], None, fr.optim.Adam(model, lr=0.05), epochs=300, progress=False)
    >>> model.encode(x).shape, bool(np.abs(model(x) - x).max() < 0.1)
    ((100, 1), True)
    """

    def __init__(
        self,
        input_size: int,
        latent_size: int,
        hidden_sizes: int | Sequence[int] = (128,),
        *,
        likelihood: str = "gaussian",
        scale: float = 1.0,
        corruption: float = 0.0,
        activation: str = "relu",
        encoder: Layer | None = None,
        decoder: Layer | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.latent_size = _check.positive_int(latent_size, "latent_size")
        self.corrupt = Dropout(_check.fraction(corruption, "corruption"))
        self._build(
            input_size, self.latent_size, self.latent_size, hidden_sizes, likelihood, scale, activation, encoder,
            decoder, dtype, split(seed, 2),
        )  # fmt: skip

    def encode(self, x: Any) -> Any:
        """The codes [B, latent_size] of x [B, input_size]."""
        return _parts.output_of(self.encoder, self.corrupt(self._rows(x)), self.latent_size, "encoder")

    def decode(self, z: Any) -> Any:
        """The mean of p(x | z), [B, input_size], for codes [B, latent_size]."""
        return self._mean(self._outputs(z))

    def forward(self, x: Any) -> Any:
        """The reconstruction x̂ of x [B, input_size]."""
        return self.decode(self.encode(x))

    def reconstruct(self, x: Any) -> Any:
        """The same as calling the model."""
        return self(x)

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """−log p(x | x̂) in nats, the mean over rows; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, None, None, weight=None)``
            x [B, input_size], and one weight a row.
        seed, train
            Masks of a corrupted input come from the run.
        """
        x, weight = _parts.parts_of(batch)
        x = self._rows(x)
        return self._nats(self._outputs(self.encode(x)), x, weight)

    def _outputs(self, z: Any) -> Any:
        z = _parts.rows(z, self.dtype, self.latent_size, "z", "latent_size")
        return _parts.output_of(self.decoder, z, None, "decoder")
