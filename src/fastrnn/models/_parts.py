"""What autoencoders share: their two networks, their likelihoods, means over rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.nn import Linear, ReLU, Sequential, Sigmoid, Swish, Tanh, losses, ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, split
from fastrnn.nn._tape import current
from fastrnn.nn._variable import Variable
from fastrnn.nn.model import Model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

ACTIVATIONS = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "swish": Swish}
LIKELIHOODS = {"gaussian": "gaussian", "bernoulli": "bernoulli"}


def perceptron(sizes: Sequence[int], activation: str, dtype: DTypeLike, seed: Seed) -> Sequential:
    """Linear maps with an activation between them."""
    between = _check.choice(activation, ACTIVATIONS, "activation")
    layers: list[Layer] = []
    for position, layer_seed in enumerate(split(seed, len(sizes) - 1)):
        layers += [between()] if position else []
        layers.append(Linear(sizes[position], sizes[position + 1], dtype=dtype, seed=layer_seed))
    return Sequential(*layers)


def hidden(sizes: Any) -> list[int]:
    """The sizes of hidden layers: a sequence of them, maybe empty, or one."""
    sizes = sizes if isinstance(sizes, list | tuple | np.ndarray) and np.ndim(sizes) else (sizes,)
    return [_check.positive_int(size, "hidden_sizes") for size in sizes]


def network(given: Any, name: str, sizes: Sequence[int], activation: str, dtype: DTypeLike, seed: Seed) -> Layer:
    """The layer that a user gave, or a perceptron."""
    if given is None:
        return perceptron(sizes, activation, dtype, seed)
    if not isinstance(given, Layer):
        raise TypeError(f"{name}: expected a layer or None, got {_check.describe(given)}")
    return given


def output_of(layer: Layer, x: Any, size: int | None, name: str) -> Any:
    """A network's output without the state of a recurrent one; with `size`, rows of that many values."""
    y = layer(x)
    y = y[0] if isinstance(y, tuple) else y
    if size is not None and (y.ndim < 2 or y.shape[-1] != size):
        raise ValueError(f"{name}: expected a layer that returns [B, {size}], this one returned shape {y.shape}")
    return y


def rows(x: Any, dtype: np.dtype[Any] | None, size: int | None, name: str = "x", what: str = "input_size") -> Any:
    """Floats [B, size], or [B, ...] where a user's encoder decides; `what` is the argument that said the size."""
    array: Any = x if isinstance(x, Variable) else _check.floats(x, dtype, name, layer=True)
    if array.ndim < 2 or (size is not None and array.shape[1:] != (size,)):
        expected = "[B, ...]" if size is None else f"[B, {size}] ({what}={size})"
        raise ValueError(f"{name}: expected {expected}, got shape {array.shape}")
    return array


class Coder(Model):
    """An encoder and a decoder: what `Autoencoder`, `VAE` and `VQVAE` are made of."""

    def _build(
        self,
        input_size: int,
        code_size: int,
        decoded_size: int,
        hidden_sizes: Any,
        likelihood: str,
        scale: float,
        activation: str,
        encoder: Any,
        decoder: Any,
        dtype: DTypeLike,
        seeds: Sequence[Any],
    ) -> None:
        input_size, middle = _check.positive_int(input_size, "input_size"), hidden(hidden_sizes)
        self.likelihood = _check.choice(likelihood, LIKELIHOODS, "likelihood")
        self.scale = _check.above_zero(scale, "scale")
        self.input_size = input_size if encoder is None else None
        self.encoder = network(encoder, "encoder", [input_size, *middle, code_size], activation, dtype, seeds[0])
        back = [decoded_size, *reversed(middle), input_size]
        self.decoder = network(decoder, "decoder", back, activation, dtype, seeds[1])

    def _rows(self, x: Any) -> Any:
        return rows(x, self.dtype, self.input_size)

    def _nats(self, outputs: Any, x: Any, weight: Any) -> Any:
        if self.likelihood == "bernoulli":
            _check.probabilities(ops.stop_gradient(x), "x")
        return likelihood(self.likelihood, outputs, x, self.scale, weight)

    def _mean(self, outputs: Any) -> Any:
        return ops.sigmoid(outputs) if self.likelihood == "bernoulli" else outputs


def parts_of(batch: Any) -> tuple[Any, Any]:
    """(x, weight) of a batch whose target is x itself."""
    if not isinstance(batch, tuple | list):
        return batch, None
    x, _, lengths, weight = (*batch, None, None, None)[:4]
    if lengths is not None:
        raise ValueError("lengths: expected None, a row is a vector here; SequenceVAE takes sequences")
    return x, weight


def shares(count: int, weight: ArrayLike | None, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    """What each row's loss counts in the mean: `w / Σ w`, [B]."""
    share = np.ones(count) if weight is None else _check.weights(np.reshape(weight, -1), (count,))
    return np.asarray(share / max(float(share.sum()), np.finfo(np.float64).tiny), dtype)


def likelihood(kind: str, outputs: Any, x: NDArray[Any], scale: float, weight: ArrayLike | None) -> Any:
    """−log p(x | outputs) in nats: the sum over a row's values, the mean over rows.

    bernoulli: outputs are logits. gaussian: outputs are means, the standard deviation is `scale`.
    """
    if outputs.shape != x.shape:
        raise ValueError(f"decoder: expected outputs of x's shape {x.shape}, got {outputs.shape}")
    size = math.prod(x.shape[1:])
    spread = None
    if weight is not None:
        spread = _check.weights(np.reshape(weight, -1), x.shape[:1]).reshape(-1, *(1,) * (x.ndim - 1))
    if kind == "bernoulli":
        return losses.bce_with_logits(outputs, x, weight=spread)[0] * size
    constant = 0.5 * size * math.log(2 * math.pi * scale * scale)
    return losses.mse(outputs, x, weight=spread)[0] * (0.5 * size / (scale * scale)) + constant


def kl_to_standard(mean: Any, log_var: Any, share: NDArray[Any]) -> Any:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (σ² + μ² − 1 − log σ²), [B, Z] summed over Z, averaged over rows."""
    return 0.5 * ops.sum((ops.exp(log_var) + mean * mean - 1 - log_var) * share[:, None])


class GaussianSample(Layer):
    """z = μ + σ ⊙ ε with ε ~ N(0, 1): the reparameterisation of Kingma & Welling 2014, eq. 4.

    With `dropout=False`, as in inference, z = μ: the noise is one more thing that training draws.

    Examples
    --------
    >>> import numpy as np
    >>> layer, mean = GaussianSample(), np.zeros((2, 3))
    >>> layer(mean, mean - 2)
    array([[0., 0., 0.],
           [0., 0., 0.]])
    >>> z, pullback = layer.vjp(mean, mean, seed=0)
    >>> dmean, dlog_var = pullback(np.ones_like(z))
    >>> np.array_equal(dlog_var, z / 2)
    True
    """

    takes_dropout = True

    def __call__(self, mean: ArrayLike, log_var: ArrayLike, *, dropout: bool = False, seed: Seed = None) -> Any:
        """z of the shape of `mean`, [B, Z]; `log_var` is log σ²."""
        return self._forward(mean, log_var, dropout, seed)[0]

    def vjp(
        self,
        mean: ArrayLike,
        log_var: ArrayLike,
        *,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """z, and what returns the gradients of mean and log_var."""
        z, shift = self._forward(mean, log_var, dropout, seed)

        def run(dz: ArrayLike) -> tuple[Any, Any]:
            # dμ = dz;  d log σ² = ½ dz ⊙ σ ⊙ ε
            dz = _check.gradient(dz, z.dtype, z.shape)
            return dz, np.zeros_like(dz) if shift is None else z.dtype.type(0.5) * dz * shift

        return z, Pullback(run, "GaussianSample", retain)

    def _forward(self, mean: Any, log_var: Any, dropout: bool, seed: Seed) -> tuple[Any, Any]:
        mean = _check.floats(mean, None, "mean")
        log_var = _check.floats(log_var, mean.dtype, "log_var")
        _check.same_shape(log_var, mean.shape, "log_var", "mean")
        if not dropout:
            return mean, None
        noise = generator(seed).standard_normal(mean.shape).astype(mean.dtype, copy=False)
        shift = np.exp(mean.dtype.type(0.5) * log_var) * noise
        return mean + shift, shift


class Buffers(Layer):
    """Arrays that belong to a model and are saved with it, but that no optimiser changes.

    To optimisers they look like the rows of a lazy embedding that were not used.
    """

    def _add_buffer(self, name: str, value: NDArray[Any]) -> None:
        self._add_param(name, value)
        self._touched[name] = []


def noise_seeds(seed: Seed, train: bool, count: int = 1) -> list[int | None]:
    """Seeds for what a loss draws: from the seed given, from the run's tape, or always the same ones."""
    tape = current()
    if seed is None and tape is not None:
        return [tape.next_seed() for _ in range(count)]
    return split(0 if seed is None and not train else seed, count)
