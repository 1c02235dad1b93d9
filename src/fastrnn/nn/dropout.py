"""Dropout: zeros at random, so that no unit can rely on another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, mask_seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Dropout(Layer):
    """Set each value to zero with probability `p` and divide the others by `1 - p`.

    The mask is a function of the seed and of the position alone, so nothing is saved for the pullback and
    the same seed gives the same mask.

    Parameters
    ----------
    p : float
        Probability of a zero, 0 ≤ p < 1.

    References
    ----------
    Srivastava et al.: Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer, x = fr.Dropout(0.5), np.ones(1000, np.float32)
    >>> layer(x) is x
    True
    >>> y, pullback = layer.vjp(x, seed=1)
    >>> np.unique(y)
    array([0., 2.], dtype=float32)
    """

    takes_dropout = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _check.fraction(p, "p")

    def __call__(self, x: ArrayLike, *, dropout: bool = False, seed: Seed = None) -> NDArray[Any]:
        """Return `x` itself; with `dropout=True`, `x` with a mask from `seed` (None, int or Generator)."""
        x = _check.floats(x, self.dtype)
        return self._apply(x, mask_seed(seed)) if dropout and self.p else x

    def vjp(
        self,
        x: ArrayLike,
        *,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Drop values; `pullback(dy)` returns `dy` with the same mask (None without `input_grad`).

        Without dropout (`dropout=False` or p = 0) `y` is `x` itself and `dx` is `dy` itself.
        """
        x = _check.floats(x, self.dtype)
        bits = mask_seed(seed) if dropout and self.p else None
        y = x if bits is None else self._apply(x, bits)
        shape, dtype = x.shape, x.dtype

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            dy = _check.gradient(dy, dtype, shape)
            if not input_grad:
                return None
            return dy if bits is None else self._apply(dy, bits)

        return y, Pullback(run, "Dropout", retain)

    def _apply(self, x: NDArray[Any], bits: int) -> NDArray[Any]:
        y = _core.empty(x.shape, x.dtype)
        _core.dropout(x.ravel(), self.p, bits, y.reshape(-1))
        return y

    def config(self) -> dict[str, Any]:
        return {"p": self.p}
