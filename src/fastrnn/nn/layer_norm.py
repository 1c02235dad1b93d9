"""LayerNorm: zero mean and unit variance along the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class LayerNorm(Layer):
    """`y = (x − mean) / √(variance + eps) · weight + bias` along the last axis.

    Parameters
    ----------
    normalized_shape : int
        Size F of the last axis.
    eps : float
        Added to the variance, which is the biased one (divided by F).
    dtype : dtype
        float32 or float64.

    Notes
    -----
    `params` are `"weight"` [F], which starts as ones, and `"bias"` [F], zeros.

    References
    ----------
    Ba, Kiros, Hinton: Layer Normalization, 2016, equation 4.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.LayerNorm(4)([[1, 2, 3, 4]]).round(3)
    array([[-1.342, -0.447,  0.447,  1.342]], dtype=float32)
    """

    dtype: np.dtype[Any]

    def __init__(self, normalized_shape: int, eps: float = 1e-5, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(dtype)
        self.normalized_shape = _check.positive_int(normalized_shape, "normalized_shape")
        self.eps = _check.at_least_zero(eps, "eps")
        self._add_param("weight", np.ones(self.normalized_shape))
        self._add_param("bias", np.zeros(self.normalized_shape))

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Normalise `x` [..., F]; the result has the same shape."""
        return self._forward(self._rows(x))[0]

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """Normalise `x` [..., F], held by reference; `pullback(dy)` adds to `grads` and returns `dx`
        (None without `input_grad`). `retain` allows the pullback to run more than once."""
        x = self._rows(x)
        y, mean, rstd = self._forward(x)
        rows = x.reshape(-1, self.normalized_shape)

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            dy = np.ascontiguousarray(_check.gradient(dy, self.dtype, x.shape))
            dx = _core.empty(x.shape, self.dtype)
            with self._lock:
                _core.layer_norm_backward(
                    dy.reshape(rows.shape),
                    rows,
                    self._params["weight"],
                    mean,
                    rstd,
                    dx.reshape(rows.shape),
                    self._grads["weight"],
                    self._grads["bias"],
                )
            return dx if input_grad else None

        return y, Pullback(run, "LayerNorm", retain)

    def _rows(self, x: ArrayLike) -> NDArray[Any]:
        x = _check.features(x, self.dtype, self.normalized_shape, "normalized_shape")
        return np.ascontiguousarray(x)

    def _forward(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        rows = x.reshape(-1, self.normalized_shape)
        y = _core.empty(x.shape, self.dtype)
        mean, rstd = np.empty((2, len(rows)), self.dtype)
        weight, bias = self._params["weight"], self._params["bias"]
        _core.layer_norm_forward(rows, weight, bias, self.eps, y.reshape(rows.shape), mean, rstd)
        return y, mean, rstd

    def config(self) -> dict[str, Any]:
        return {"normalized_shape": self.normalized_shape, "eps": self.eps, "dtype": self.dtype.name}
