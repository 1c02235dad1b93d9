"""FastRNN and FastGRNN: recurrent layers for devices with kilobytes of memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastrnn import _check, _core
from fastrnn._variant import NONLINEARITIES, Variant
from fastrnn.nn._random import Seed
from fastrnn.nn._recurrent import Recurrent

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class FastVariant(Variant):
    """The options of a cell that is no variant of a built-in one."""

    @property
    def in_kernel(self) -> bool:
        return True


class _Fast(Recurrent):
    """What the two share: one block of weights, perhaps of low rank, and scalars that pass through a σ."""

    _biases: ClassVar[tuple[str, ...]] = ()
    _biases_are_vectors: ClassVar[bool] = False
    _scalars: ClassVar[dict[str, float]] = {}  # with initial values, the paper's code's

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        rank_ih: int | None,
        rank_hh: int | None,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: DTypeLike,
        seed: Seed,
        variant: Variant,
    ) -> None:
        hidden = _check.positive_int(hidden_size, "hidden_size")
        self.rank_ih = _check.rank(rank_ih, min(_check.positive_int(input_size, "input_size"), hidden), "rank_ih")
        self.rank_hh = _check.rank(rank_hh, hidden, "rank_hh")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, dtype, seed, variant
        )  # fmt: skip

    def _ranks(self) -> tuple[tuple[str, int | None], ...]:
        return ("weight_ih", self.rank_ih), ("weight_hh", self.rank_hh)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        hidden = self.hidden_size
        for layer, suffix in self._suffixes():
            inputs = self.input_size if layer == 0 else hidden * self._directions
            for (name, rank), columns in zip(self._ranks(), (inputs, hidden), strict=True):
                if rank is None:
                    yield f"{name}{suffix}", (hidden, columns)
                else:
                    yield f"{name}_1{suffix}", (hidden, rank)
                    yield f"{name}_2{suffix}", (rank, columns)
            for name in self._biases if self.bias else ():
                yield f"{name}{suffix}", (hidden,)
            for name in self._scalars:
                yield f"{name}{suffix}", (1,)

    def _initial_values(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
        parameter = name.rpartition("_l")[0]
        if parameter in self._scalars:
            return np.full(shape, self._scalars[parameter], self.dtype)
        if parameter in self._biases:
            return np.ones(shape, self.dtype)
        if parameter.startswith("weight") and parameter[-1] in "12":  # the product varies as the whole would: ±1/√H
            bound = (3 / (self.hidden_size * (shape[1] if parameter[-1] == "1" else shape[0]))) ** 0.25
        else:
            bound = self.hidden_size**-0.5
        return rng.uniform(-bound, bound, shape).astype(self.dtype)

    # ---- the core's arrays from the parameters, and the way back ---------------------------------------------------

    def _arrays(self, arrays: dict[str, Any], suffix: str) -> tuple[Any, ...]:
        matrices = []
        for name, rank in self._ranks():
            if rank is None:
                matrices.append(arrays[name + suffix])
            else:
                left, right = self._factors(arrays, name, suffix)
                matrices.append(_core.gemm(left, right, _core.empty((len(left), right.shape[1]), self.dtype)))
        biases = [arrays.get(name + suffix) for name in self._biases]
        if self._biases_are_vectors and not self.bias:
            biases = [self._zeros() for _ in biases]
        scalars = [np.full(self.hidden_size, _sigmoid(arrays[name + suffix]), self.dtype) for name in self._scalars]
        return (*matrices, *self._as_core_takes(biases, scalars))

    @staticmethod
    def _factors(arrays: dict[str, Any], name: str, suffix: str) -> tuple[NDArray[Any], NDArray[Any]]:
        return arrays[f"{name}_1{suffix}"], arrays[f"{name}_2{suffix}"]

    def _as_core_takes(self, biases: list[Any], scalars: list[Any]) -> tuple[Any, ...]:
        """b_w, b_r, M, two gains, and vectors."""
        raise NotImplementedError

    def _layers(self) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        return self._by_layer(self._params)

    def _zeros(self) -> NDArray[Any]:
        return np.zeros(self.hidden_size, self.dtype)

    def _gradients(self) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        hidden, found = self.hidden_size, []
        for layer, suffix in self._suffixes():
            sizes = self.input_size if layer == 0 else hidden * self._directions, hidden
            matrices = [
                self._grads[name + suffix] if rank is None else np.zeros((hidden, columns), self.dtype)
                for (name, rank), columns in zip(self._ranks(), sizes, strict=True)
            ]
            biases = [self._grads.get(name + suffix) for name in self._biases]
            found.append((*matrices, *self._as_core_takes(biases, [self._zeros() for _ in self._scalars])))
        n = self._directions
        return tuple(tuple(found[k : k + n]) for k in range(0, len(found), n))

    def _add_gradients(self, layers: tuple[tuple[tuple[Any, ...], ...], ...]) -> None:
        rows = (row for directions in layers for row in directions)
        for (_, suffix), row in zip(self._suffixes(), rows, strict=True):
            for (name, rank), product in zip(self._ranks(), row, strict=False):
                if rank is not None:  # the product is left·right
                    left, right = self._factors(self._params, name, suffix)
                    dleft, dright = self._factors(self._grads, name, suffix)
                    _core.gemm(product, right.T, dleft, accumulate=True)
                    _core.gemm(left.T, product, dright, accumulate=True)
            for name, vector in zip(self._scalars, row[-len(self._scalars) :], strict=True):
                value = self._params[name + suffix]
                slope = _sigmoid(value) * _sigmoid(-value)
                self._grads[name + suffix] += (vector.sum(dtype=np.float64) * slope).astype(self.dtype)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "rank_ih": self.rank_ih, "rank_hh": self.rank_hh}


def _sigmoid(value: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(under="ignore"):
        found: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -value.astype(np.float64)))
    return found


class FastRNN(_Fast):
    """FastRNN: a simple recurrent network with a weighted residual connection, in one direction or two.

    n = φ(W·x + R·h₋₁ + bias);  h = σ(alpha) · n + σ(beta) · h₋₁, where alpha and beta are one number each.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype
        As for `LSTM`.
    rank_ih, rank_hh : int, optional
        W and R are products of two matrices, of so many columns and rows; None for whole matrices.
    nonlinearity : "tanh", "relu", "sigmoid", "leaky_relu" or "identity"
        φ.
    activations, clip, zoneout, recurrent_dropout, input_dropout, weight_dropout
        As for `RNN`.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√H; of low rank, so that their products vary as much. Biases begin as 1,
        alpha as −3 and beta as 3, as in the paper's code.

    Notes
    -----
    `params` are `weight_ih_l0` [H, I], `weight_hh_l0` [H, H], `bias_l0` [H], `alpha_l0`, `beta_l0` [1], with suffix
    `_reverse` for the second direction and `_l1` … above. With a rank r: `weight_ih_1_l0` [H, r] and `weight_ih_2_l0`
    [r, I], `weight_hh_1_l0` [H, r] and `weight_hh_2_l0` [r, H], whose product is made once a call. The state is one
    array [num_layers·D, B, H].

    References
    ----------
    Kusupati, Singh, Bhatia, Kumar, Jain & Varma 2018, "FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized Gated
    Recurrent Neural Network", section 3.1.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.FastRNN(3, 5, num_layers=2, rank_hh=2, seed=0)
    >>> (y, h_n), pullback = layer.vjp(np.ones((7, 2, 3), np.float32))
    >>> y.shape, h_n.shape
    ((7, 2, 5), (2, 2, 5))
    >>> dx, dh_0 = pullback(np.ones_like(y))
    >>> layer.grads["weight_hh_1_l0"].shape, layer.grads["alpha_l0"].shape
    ((5, 2), (1,))
    """

    _biases = ("bias",)
    _scalars: ClassVar[dict[str, float]] = {"alpha": -3.0, "beta": 3.0}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        rank_ih: int | None = None,
        rank_hh: int | None = None,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        clip: float | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activations: Any = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        _check.choice(nonlinearity, dict.fromkeys(NONLINEARITIES), "nonlinearity")
        if activations is not None and nonlinearity != "tanh":
            raise ValueError(f"activations: expected without nonlinearity, got nonlinearity={nonlinearity!r} too")
        variant = FastVariant.of(
            (nonlinearity,), 1, clip=clip, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            input_dropout=input_dropout, weight_dropout=weight_dropout, activations=activations,
        )  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, rank_ih, rank_hh, bias, batch_first, dropout, bidirectional, dtype,
            seed, variant,
        )  # fmt: skip
        self._cell = _core.FAST_RNN
        self.nonlinearity = nonlinearity

    def _as_core_takes(self, biases: list[Any], scalars: list[Any]) -> tuple[Any, ...]:
        return (*biases, None, None, None, None, *scalars)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nonlinearity": self.nonlinearity}


class FastGRNN(_Fast):
    """FastGRNN: a gated unit whose gate and candidate share their weights, in one direction or two.

    v = W·x + R·h₋₁;  z = σ(v + bias_z);  n = tanh(v + bias_h);  h = (σ(zeta) · (1 − z) + σ(nu)) ⊙ n + z ⊙ h₋₁, where
    zeta and nu are one number each.

    Parameters
    ----------
    input_size, hidden_size, num_layers, rank_ih, rank_hh, bias, batch_first, dropout, bidirectional, dtype
        As for `FastRNN`.
    activations : two names or tuples (name, alpha, beta), optional
        Of z and n, as for `GRU`.
    clip, zoneout, recurrent_dropout, input_dropout, weight_dropout
        As for `GRU`.
    seed : None, int or numpy.random.Generator
        As for `FastRNN`; zeta begins as 1 and nu as −4, as in the paper's code.

    Notes
    -----
    `params` are those of `FastRNN`, but for `bias_z_l0`, `bias_h_l0` [H] and `zeta_l0`, `nu_l0` [1]. The state is one
    array [num_layers·D, B, H].

    References
    ----------
    Kusupati et al. 2018 (as for `FastRNN`), section 3.2.

    Examples
    --------
    A model of 32 units in 3 kilobytes, where a GRU has 24:

    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.FastGRNN(32, 32, rank_ih=5, rank_hh=6, seed=0)
    >>> y, h_n = layer(np.ones((99, 1, 32), np.float32))
    >>> y.shape, 4 * layer.num_params, 4 * fr.GRU(32, 32).num_params
    ((99, 1, 32), 3080, 25344)
    """

    _biases = ("bias_z", "bias_h")
    _biases_are_vectors = True
    _scalars: ClassVar[dict[str, float]] = {"zeta": 1.0, "nu": -4.0}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        rank_ih: int | None = None,
        rank_hh: int | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        clip: float | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activations: Any = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        variant = FastVariant.of(
            ("sigmoid", "tanh"), 1, clip=clip, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            input_dropout=input_dropout, weight_dropout=weight_dropout, activations=activations,
        )  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, rank_ih, rank_hh, bias, batch_first, dropout, bidirectional, dtype,
            seed, variant,
        )  # fmt: skip
        self._cell = _core.FAST_GRNN

    def _as_core_takes(self, biases: list[Any], scalars: list[Any]) -> tuple[Any, ...]:
        return (None, None, None, None, None, *biases, *scalars)
