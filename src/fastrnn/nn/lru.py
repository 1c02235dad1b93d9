"""LRU: the linear recurrent unit, a complex state whose recurrence is diagonal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._random import Seed
from fastrnn.nn._scan import Scan, Way

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class LRU(Scan):
    """Linear recurrent unit: a stack of layers in one direction or two.

    s = λ ⊙ s₋₁ + γ ⊙ (B·x);  y = Re(C·s) + D·x + b, with complex s [N] and λ = exp(−exp(ν) + i·exp(θ)), γ = exp(γ_log).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`; H is the size of y. Layers are stacked without anything between them; for the paper's blocks
        put normalisation and activations between single layers in a `Sequential`.
    state_size : int, optional
        N; H by default.
    r_min, r_max, max_phase : float
        |λ| starts uniform on the ring between these radii (by area), its angle uniform in 0 … max_phase.

    Notes
    -----
    `params` are `nu_log_l0`, `theta_log_l0`, `gamma_log_l0` [N]; `weight_b_l0` [2·N, I], `weight_c_l0` [H, 2·N], real
    parts first; `weight_d_l0` [H, I]; `bias_l0` [H], which the paper doesn't have and which starts at zero. B starts
    normal with variance 1/(2·I) in each part, C with 1/N, D with 1/I; γ = √(1 − |λ|²). The state is one real array
    [num_layers·D, B, 2·N], the real parts first.

    References
    ----------
    Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu & De 2023, "Resurrecting Recurrent Neural Networks for Long
    Sequences", section 3 and appendix A.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> lru = fr.LRU(3, 5, state_size=8, r_min=0.9, r_max=0.99, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> (y, s_n), pullback = lru.vjp(x)
    >>> dx, ds_0 = pullback(np.ones_like(y))
    >>> y.shape, s_n.shape
    ((7, 2, 5), (1, 2, 16))
    >>> bool(abs(lru.eigenvalues()).min() > 0.89)
    True
    """

    _code = _core.SCAN_LRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        state_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        hidden_size = _check.positive_int(hidden_size, "hidden_size")
        self.state_size = hidden_size if state_size is None else _check.positive_int(state_size, "state_size")
        self.r_min, self.r_max = _check.ring(r_min, r_max)
        self.max_phase = _check.above_zero(max_phase, "max_phase")
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        N, H = self.state_size, self.hidden_size
        # uniform by area: |λ|² is uniform between the squares of the radii; 1 − u keeps 0 and 1 out of the logarithms
        squared = self.r_min**2 + (1 - rng.random(N)) * (self.r_max**2 - self.r_min**2)
        squared = np.clip(squared, 1e-12, 1 - 1e-6)
        nu_log = np.log(-0.5 * np.log(squared))
        found = {
            "nu_log": nu_log,
            "theta_log": np.log(self.max_phase * (1 - rng.random(N))),
            "gamma_log": 0.5 * np.log1p(-squared),
            "weight_b": rng.standard_normal((2 * N, inputs)) / math.sqrt(2 * inputs),
            "weight_c": rng.standard_normal((H, 2 * N)) / math.sqrt(N),
            "weight_d": rng.standard_normal((H, inputs)) / math.sqrt(inputs),
        }
        if self.bias:
            found["bias"] = np.zeros(H)
        return found

    def eigenvalues(self, layer: int = 0, reverse: bool = False) -> NDArray[np.complex128]:
        """λ of a layer, [state_size]: how fast each part of its state fades, and turns."""
        layer = _check.index(layer, self.num_layers, "layer")
        return _eigenvalues(self._of(self._params, layer, int(bool(reverse) and self.bidirectional)))

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        return [(self.num_layers * self._directions, batch, 2 * self.state_size)]

    def _lambda(self, params: dict[str, Any]) -> NDArray[Any]:
        value = _eigenvalues(params)
        return np.concatenate([value.real, value.imag]).astype(self.dtype)

    def _made(self, params: dict[str, Any]) -> tuple[NDArray[Any], ...]:
        """`_scaled` and `_lambda`; once, where the parameters stay what they are."""
        if self._frozen is None:
            return (*self._scaled(params), self._lambda(params))
        key = id(params["nu_log"])
        if key not in self._frozen:
            self._frozen[key] = (*self._scaled(params), self._lambda(params))
        found: tuple[NDArray[Any], ...] = self._frozen[key]
        return found

    def _scaled(self, params: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """(γ, γ ⊙ B, C with the imaginary parts' sign turned): Re(C·s) = C_re·s_re − C_im·s_im."""
        gamma = np.tile(np.exp(params["gamma_log"]), 2)[:, None]
        c = params["weight_c"].copy()
        c[:, self.state_size :] *= -1
        return gamma, gamma * params["weight_b"], c

    def _forward(self, way: Way, s_n: NDArray[Any], extra_n: Any, keep: bool) -> Any:
        _, b, c, lam = self._made(way.params)
        s = _core.empty((len(way.x), len(b)), self.dtype)
        _core.gemm(way.x, b.T, s)
        steps, lengths, first, step, reverse = way.places.arguments(way.reverse)
        _core.scan_forward(
            self._code, False, steps, lengths, first, step, reverse, s, None, lam, 1.0, way.s_0, s_n, None, s,
        )  # fmt: skip
        y = _core.empty((len(way.x), self.hidden_size), self.dtype)
        _core.gemm(s, c.T, y, way.params.get("bias"))
        _core.gemm(way.x, way.params["weight_d"].T, y, accumulate=True)
        found = way.places.scatter(y)
        way.y[...] = found.swapaxes(0, 1) if way.places.batch_first else found
        return s if keep else None

    def _backward(
        self,
        way: Way,
        saved: Any,
        dy: Any,
        ds_n: Any,
        ds_0: NDArray[Any],
        extra: Any,
        grads: Any,
        need: bool,
        retain: bool,
    ) -> Any:
        params, N = way.params, self.state_size
        gamma, b, c, lam = self._made(params)
        if dy is None:
            rows = np.zeros((len(way.x), self.hidden_size), self.dtype)
        else:
            rows = way.places.gather(dy.swapaxes(0, 1) if way.places.batch_first else dy)
        # y = Re(C·s) + D·x + b
        dc = np.zeros(c.shape, self.dtype)
        _core.gemm(rows.T, saved, dc)
        dc[:, N:] *= -1
        grads["weight_c"] += dc
        _core.gemm(rows.T, way.x, grads["weight_d"], accumulate=True)
        if self.bias:
            _core.column_sum(rows, grads["bias"])
        ds = _core.empty(saved.shape, self.dtype)
        _core.gemm(rows, c, ds)
        # s = λ ⊙ s₋₁ + γ ⊙ (B·x)
        steps, lengths, first, step, reverse = way.places.arguments(way.reverse)
        dlam = np.zeros(2 * N, self.dtype)
        _core.scan_backward(
            self._code, False, steps, lengths, first, step, reverse, None, None, lam, 1.0, way.s_0, None, saved, None,
            ds_n, ds_0, ds, None, dlam,
        )  # fmt: skip
        db = np.zeros(b.shape, self.dtype)
        _core.gemm(ds.T, way.x, db)
        grads["weight_b"] += gamma * db
        by_gamma = (db * b).sum(axis=1)  # γ·dγ
        grads["gamma_log"] += by_gamma[:N] + by_gamma[N:]
        value = _eigenvalues(params)
        by_log = np.conj(value) * (dlam[:N] + 1j * dlam[N:])  # of log λ = −exp(ν) + i·exp(θ)
        grads["nu_log"] -= (by_log.real * np.exp(params["nu_log"])).astype(self.dtype)
        grads["theta_log"] += (by_log.imag * np.exp(params["theta_log"])).astype(self.dtype)
        if not need:
            return None
        dx = _core.empty(way.x.shape, self.dtype)
        _core.gemm(ds, b, dx)
        return _core.gemm(rows, params["weight_d"], dx, accumulate=True)

    def config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("state_size", "r_min", "r_max", "max_phase")}
        return {**super().config(), **own}


def _eigenvalues(params: dict[str, Any]) -> NDArray[np.complex128]:
    nu, theta = (np.exp(params[name].astype(np.float64)) for name in ("nu_log", "theta_log"))
    found: NDArray[np.complex128] = np.exp(-nu + 1j * theta)
    return found
