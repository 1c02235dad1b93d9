"""SRU: the simple recurrent unit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._random import Seed
from fastrnn.nn._scan import Scan, Way

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_ACTIVATIONS = {"identity": False, "tanh": True}


class SRU(Scan):
    """Simple recurrent unit: a stack of layers in one direction or two.

    x̃ = W_x·x;  f = σ(W_f·x + v_f ⊙ c₋₁ + b_f);  r = σ(W_r·x + v_r ⊙ c₋₁ + b_r);  c = f ⊙ c₋₁ + (1 − f) ⊙ x̃;
    h = r ⊙ g(c) + (1 − r) ⊙ α·x. Where I ≠ H the highway carries W_s·x instead of x.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    peephole : bool
        Have v: the gates see c₋₁, as in the paper of 2018. Without it the equations are those of its first version.
    activation : {"identity", "tanh"}
        g. The identity is the paper's of 2018, tanh that of its first version.
    highway_bias : float
        Initial value of b_r: the lower, the more of x passes.
    rescale : bool
        α = √(1 + 2·exp(highway_bias)), which keeps the variance from layer to layer at the start; else 1.

    Notes
    -----
    `params` are `weight_ih_l0` [3·H, I], the blocks in the order x̃, f, r, and [4·H, I] with W_s at the end where I ≠
    H; `weight_c_l0` [2·H], v_f and v_r; `bias_ih_l0` [2·H], b_f and b_r. W starts uniform with variance 1/I, v and b_f
    at zero. The state is c [num_layers·D, B, H].

    References
    ----------
    Lei, Zhang, Wang, Dai & Artzi 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence", equations 1 to 4
    and section 3.2; version 1 of arXiv:1709.02755 (2017).

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> sru = fr.SRU(3, 5, num_layers=2, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> y, c_n = sru(x, lengths=[7, 4])
    >>> y.shape, c_n.shape
    ((7, 2, 5), (2, 2, 5))
    >>> (y, _), pullback = sru.vjp(x)
    >>> dx, dc_0 = pullback(np.ones_like(y))
    >>> sru.grads["weight_ih_l0"].shape, sru.grads["weight_ih_l1"].shape
    ((20, 3), (15, 5))
    """

    _code = _core.SCAN_SRU

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
        peephole: bool = True,
        activation: str = "identity",
        highway_bias: float = 0.0,
        rescale: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.peephole = bool(peephole)
        self._tanh = bool(_check.choice(activation, _ACTIVATIONS, "activation"))
        self.activation = activation
        self.highway_bias = _check.number(highway_bias, "highway_bias")
        self.rescale = bool(rescale)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        H = self.hidden_size
        bound = math.sqrt(3 / inputs)
        found = {"weight_ih": rng.uniform(-bound, bound, ((3 if inputs == H else 4) * H, inputs))}
        if self.peephole:
            found["weight_c"] = np.zeros(2 * H)
        if self.bias:
            found["bias_ih"] = np.repeat([0.0, self.highway_bias], H)
        return found

    def _option(self) -> bool:
        return self._tanh

    def _scale(self) -> float:
        return math.sqrt(1 + 2 * math.exp(self.highway_bias)) if self.rescale else 1.0

    def _channel(self, params: dict[str, Any]) -> Any:
        return params.get("weight_c")

    def _wide_bias(self, params: dict[str, Any]) -> Any:
        if not self.bias:
            return None
        H = self.hidden_size
        wide = np.zeros(len(params["weight_ih"]), self.dtype)
        wide[H : 3 * H] = params["bias_ih"]
        return wide

    def _add_bias(self, grads: dict[str, Any], db: NDArray[Any]) -> None:
        grads["bias_ih"] += db[self.hidden_size : 3 * self.hidden_size]

    def _skip(self, way: Way) -> Any:
        return way.x if way.x.shape[1] == self.hidden_size else None

    def _saves(self) -> bool:
        return True

    def config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("peephole", "activation", "highway_bias", "rescale")}
        return {**super().config(), **own}
