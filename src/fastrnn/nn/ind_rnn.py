"""IndRNN: units that see their own past alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._random import Seed
from fastrnn.nn._scan import Scan, uniform

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_NONLINEARITIES = {"tanh": False, "relu": True}


class IndRNN(Scan):
    """Independently recurrent network: a stack of layers in one direction or two.

    h = φ(W·x + u ⊙ h₋₁ + b), a recurrent weight a unit.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    nonlinearity : {"relu", "tanh"}
        φ.

    Notes
    -----
    `params` are `weight_ih_l0` [H, I], `weight_hh_l0` [H], which is u, and `bias_ih_l0` [H]; u starts uniform in 0 … 1,
    where relu neither explodes nor dies. For long sequences the paper limits |u| to 2^(1/T) after each step of the
    optimiser. The state is h.

    References
    ----------
    Li, Li, Cook, Zhu & Gao 2018, "Independently Recurrent Neural Network (IndRNN): Building A Longer and Deeper RNN".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.IndRNN(3, 5, seed=0)
    >>> (y, h_n), pullback = layer.vjp(np.ones((7, 2, 3), np.float32))
    >>> dx, dh_0 = pullback(np.ones_like(y))
    >>> y.shape, layer.grads["weight_hh_l0"].shape
    ((7, 2, 5), (5,))
    """

    _code = _core.SCAN_IND_RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self._relu = bool(_check.choice(nonlinearity, _NONLINEARITIES, "nonlinearity"))
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        found = uniform(self.hidden_size, inputs, self.bias, rng)
        found["weight_hh"] = rng.uniform(0, 1, self.hidden_size)
        return found

    def _option(self) -> bool:
        return self._relu

    def _channel(self, params: dict[str, Any]) -> Any:
        return params["weight_hh"]

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nonlinearity": self.nonlinearity}
