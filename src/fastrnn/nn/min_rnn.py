"""MinGRU and MinLSTM: gates that see the input alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._random import Seed
from fastrnn.nn._scan import Scan, uniform

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_CANDIDATES = {"plain": False, "g": True}


class _Gated(Scan):
    """minGRU and minLSTM."""

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
        candidate: str = "plain",
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self._positive = bool(_check.choice(candidate, _CANDIDATES, "candidate"))
        self.candidate = candidate
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return uniform(self._gates * self.hidden_size, inputs, self.bias, rng)

    def _option(self) -> bool:
        return self._positive

    def config(self) -> dict[str, Any]:
        return {**super().config(), "candidate": self.candidate}


class MinGRU(_Gated):
    """minGRU, in linear space: a stack of layers in one direction or two.

    z = σ(W_z·x + b_z);  h̃ = W_h·x + b_h, or g of it;  h = (1 − z) ⊙ h₋₁ + z ⊙ h̃.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    candidate : {"plain", "g"}
        "g" makes h̃ positive, as the paper's log-space form does: g(v) = v + ½ for v ≥ 0, σ(v) for v < 0.

    Notes
    -----
    `params` are `weight_ih_l0` [2·H, I] and `bias_ih_l0` [2·H], the blocks in the order z, h̃. The state is h.

    References
    ----------
    Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, "Were RNNs All We Needed?", section 3.1 and appendix B.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.MinGRU(3, 5, bidirectional=True, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> (y, h_n), pullback = layer.vjp(x)
    >>> dx, dh_0 = pullback(np.ones_like(y))
    >>> y.shape, h_n.shape, layer.grads["weight_ih_l0"].shape
    ((7, 2, 10), (2, 2, 5), (10, 3))
    """

    _code = _core.SCAN_MIN_GRU
    _gates = 2


class MinLSTM(_Gated):
    """minLSTM, in linear space: a stack of layers in one direction or two.

    f, i = σ(W_f·x + b_f), σ(W_i·x + b_i);  h̃ = W_h·x + b_h, or g of it;  h = f/(f + i) ⊙ h₋₁ + i/(f + i) ⊙ h̃.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    candidate : {"plain", "g"}
        As for `MinGRU`.

    Notes
    -----
    `params` are `weight_ih_l0` [3·H, I] and `bias_ih_l0` [3·H], the blocks in the order f, i, h̃. The state is h. The
    shares are computed from 1/f and 1/i, and are right where both gates are closed and f + i is 0 in floating point.

    References
    ----------
    Feng et al. 2024, "Were RNNs All We Needed?", section 3.2.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.MinLSTM(3, 5, seed=0)
    >>> y, h_n = layer(np.ones((7, 2, 3), np.float32))
    >>> y.shape, np.array_equal(y[-1], h_n[0])
    ((7, 2, 5), True)
    """

    _code = _core.SCAN_MIN_LSTM
    _gates = 3
