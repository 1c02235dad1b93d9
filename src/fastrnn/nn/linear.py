"""Linear: y = x Wᵀ + b."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class Linear(Layer):
    """An affine map of the last axis, `y = x @ weight.T + bias`.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of input and output.
    bias : bool
        Add a bias.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√in_features as in PyTorch.

    Notes
    -----
    `params` are `"weight"` [out_features, in_features] and `"bias"` [out_features].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.Linear(3, 2, seed=0)
    >>> x = np.ones((5, 4, 3), np.float32)
    >>> y, pullback = layer.vjp(x)
    >>> y.shape, pullback(np.ones_like(y)).shape
    ((5, 4, 2), (5, 4, 3))
    >>> layer.grads["bias"]
    array([20., 20.], dtype=float32)
    """

    dtype: np.dtype[Any]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.in_features = _check.positive_int(in_features, "in_features")
        self.out_features = _check.positive_int(out_features, "out_features")
        self.bias = bool(bias)
        rng = generator(seed)
        draw: dict[str, Any] = {"fan": self.in_features, "dtype": self.dtype, "seed": rng}
        self._add_param("weight", init.uniform((self.out_features, self.in_features), **draw))
        if self.bias:
            self._add_param("bias", init.uniform((self.out_features,), **draw))

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Apply the map.

        Parameters
        ----------
        x : array, [..., in_features]
            Of the layer's dtype, any strides.

        Returns
        -------
        array, [..., out_features]
        """
        x = _check.features(x, self.dtype, self.in_features, "in_features")
        return self._forward(x.reshape(-1, self.in_features), x.shape)

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """Apply the map and return what gives its gradients.

        Parameters
        ----------
        x : array, [..., in_features]
            Held by reference: don't change it before the pullback has run.
        input_grad : bool
            Compute the gradient of `x`; else the pullback returns None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        y : array, [..., out_features]
        pullback : callable
            `pullback(dy)` adds to `grads` and returns `dx`.
        """
        x = _check.features(x, self.dtype, self.in_features, "in_features")
        rows = x.reshape(-1, self.in_features)
        y = self._forward(rows, x.shape)
        shape, y_shape = x.shape, y.shape

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            # dW += dyᵀ x;  db += Σ dy;  dx = dy W
            dy = _check.gradient(dy, self.dtype, y_shape)
            dy = np.ascontiguousarray(dy).reshape(-1, self.out_features)
            with self._lock:
                _core.gemm(dy.T, rows, self._grads["weight"], accumulate=True)
                if self.bias:
                    _core.column_sum(dy, self._grads["bias"])
            if not input_grad:
                return None
            dx = _core.empty(shape, self.dtype)
            _core.gemm(dy, self._params["weight"], dx.reshape(-1, self.in_features))
            return dx

        return y, Pullback(run, "Linear", retain)

    def _forward(self, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        y = _core.empty((rows.shape[0], self.out_features), self.dtype)
        _core.gemm(rows, self._params["weight"].T, y, self._params.get("bias"))
        return y.reshape(*shape[:-1], self.out_features)

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }
