"""Activation functions: the functions, their derivatives, and the layers that apply them.

Functions take and return float32 or float64 arrays of any shape (a list becomes float32) and are accurate
over the whole range; NaN in gives NaN out. At the kink in 0, relu has derivative 0 and leaky_relu has its
negative slope: both take the derivative from the left, as PyTorch does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def sigmoid(x: ArrayLike) -> NDArray[Any]:
    """`1 / (1 + exp(−x))`.

    Examples
    --------
    >>> from fastrnn.nn.activations import sigmoid
    >>> sigmoid([-1e4, 0.0, 1e4])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return _apply("sigmoid", _check.floats(x, None))


def sigmoid_derivative(x: ArrayLike) -> NDArray[Any]:
    """`σ(x) σ(−x)`; with 1 − σ(x) as the second factor it would be 0 from x = 17 (float32) or 37 on.

    Examples
    --------
    >>> from fastrnn.nn.activations import sigmoid_derivative
    >>> sigmoid_derivative([0.0, 1e4])
    array([0.25, 0.  ], dtype=float32)
    """
    x = _check.floats(x, None)
    y: NDArray[Any] = _apply("sigmoid", x) * _apply("sigmoid", np.negative(x))
    return y


def tanh(x: ArrayLike) -> NDArray[Any]:
    """Hyperbolic tangent.

    Examples
    --------
    >>> from fastrnn.nn.activations import tanh
    >>> tanh([-1e4, 0.0, 1e-30])
    array([-1.e+00,  0.e+00,  1.e-30], dtype=float32)
    """
    return _apply("tanh", _check.floats(x, None))


def tanh_derivative(x: ArrayLike) -> NDArray[Any]:
    """`1 − tanh²(x)`, computed as `4 σ(2x) σ(−2x)`, which loses nothing for large |x|.

    Examples
    --------
    >>> from fastrnn.nn.activations import tanh_derivative
    >>> [f"{d:.3g}" for d in tanh_derivative([0.0, 30.0])]  # 1 − tanh² would be 0 from 10 on
    ['1', '3.5e-26']
    """
    x = _check.floats(x, None)
    y: NDArray[Any] = x.dtype.type(4) * sigmoid_derivative(x.dtype.type(2) * x)
    return y


def relu(x: ArrayLike) -> NDArray[Any]:
    """`max(x, 0)`.

    Examples
    --------
    >>> from fastrnn.nn.activations import relu
    >>> relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.], dtype=float32)
    """
    return _apply("relu", _check.floats(x, None))


def relu_derivative(x: ArrayLike) -> NDArray[Any]:
    """1 where x > 0, else 0.

    Examples
    --------
    >>> from fastrnn.nn.activations import relu_derivative
    >>> relu_derivative([-1.0, 0.0, 1.0])
    array([0., 0., 1.], dtype=float32)
    """
    return leaky_relu_derivative(x, 0.0)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> NDArray[Any]:
    """`x` where x > 0, else `negative_slope · x`.

    Examples
    --------
    >>> from fastrnn.nn.activations import leaky_relu
    >>> leaky_relu([-2.0, 0.0, 2.0], 0.5)
    array([-1.,  0.,  2.], dtype=float32)
    """
    return _apply("leaky_relu", _check.floats(x, None), _check.number(negative_slope, "negative_slope"))


def leaky_relu_derivative(x: ArrayLike, negative_slope: float = 0.01) -> NDArray[Any]:
    """1 where x > 0, else `negative_slope`.

    Examples
    --------
    >>> from fastrnn.nn.activations import leaky_relu_derivative
    >>> leaky_relu_derivative([-2.0, 0.0, 2.0], 0.5)
    array([0.5, 0.5, 1. ], dtype=float32)
    """
    x = _check.floats(x, None)
    slope = np.where(x > 0, x.dtype.type(1), x.dtype.type(_check.number(negative_slope, "negative_slope")))
    return np.where(np.isnan(x), x, slope)


def swish(x: ArrayLike, beta: float = 1.0) -> NDArray[Any]:
    """`x · sigmoid(β x)`; with β = 1 also called SiLU.

    References
    ----------
    Ramachandran, Zoph, Le: Searching for Activation Functions, 2017.

    Examples
    --------
    >>> from fastrnn.nn.activations import swish
    >>> swish([-1e4, 0.0, 1e4])
    array([   -0.,     0., 10000.], dtype=float32)
    """
    return _apply("swish", _check.floats(x, None), _check.number(beta, "beta"))


def swish_derivative(x: ArrayLike, beta: float = 1.0) -> NDArray[Any]:
    """`σ(β x) + β x σ'(β x)`.

    Examples
    --------
    >>> from fastrnn.nn.activations import swish_derivative
    >>> swish_derivative([0.0, 30.0])
    array([0.5, 1. ], dtype=float32)
    """
    x = _check.floats(x, None)
    z = x.dtype.type(_check.number(beta, "beta")) * x
    y: NDArray[Any] = _apply("sigmoid", z) + z * sigmoid_derivative(z)
    return y


def softmax(x: ArrayLike) -> NDArray[Any]:
    """`exp(x) / Σ exp(x)` along the last axis, computed from `x − max(x)` so that nothing overflows.

    Examples
    --------
    >>> from fastrnn.nn.activations import softmax
    >>> softmax([1e4, 1e4, -1e4])
    array([0.5, 0.5, 0. ], dtype=float32)
    """
    x = np.ascontiguousarray(_check.at_least_1d(x, None))
    y = _core.empty(x.shape, x.dtype)
    _core.softmax(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))
    return y


def softmax_jvp(x: ArrayLike, v: ArrayLike) -> NDArray[Any]:
    """The Jacobian of softmax at `x`, times `v`: `y (v − Σ y v)` with `y = softmax(x)`.

    The Jacobian is symmetric, so this is the product from the left (for `v = dy`) as well.

    Parameters
    ----------
    x, v : array, [..., C]

    Returns
    -------
    array, [..., C]

    Examples
    --------
    >>> from fastrnn.nn.activations import softmax_jvp
    >>> softmax_jvp([0.0, 0.0], [1.0, 0.0])
    array([ 0.25, -0.25], dtype=float32)
    """
    y = softmax(x)
    return _softmax_backward(y, _check.gradient(v, y.dtype, y.shape, "v"))


def _apply(kernel: str, x: NDArray[Any], alpha: float = 0.0) -> NDArray[Any]:
    y = _core.empty(x.shape, x.dtype)
    _core.activation(kernel, x.ravel(), y.reshape(-1), alpha)
    return y


def _backward(kernel: str, x: NDArray[Any], y: NDArray[Any], dy: NDArray[Any], alpha: float) -> NDArray[Any]:
    dx = _core.empty(x.shape, x.dtype)
    _core.activation_backward(kernel, x.ravel(), y.ravel(), dy.ravel(), dx.reshape(-1), alpha)
    return dx


def _softmax_backward(y: NDArray[Any], dy: NDArray[Any]) -> NDArray[Any]:
    dx = _core.empty(y.shape, y.dtype)
    rows = (-1, y.shape[-1])
    _core.softmax_backward(y.reshape(rows), np.ascontiguousarray(dy).reshape(rows), dx.reshape(rows))
    return dx


class _Elementwise(Layer):
    """A layer that applies one kernel to each value."""

    _kernel: ClassVar[str]
    # Whether the derivative needs x; else y alone is kept, and x can be freed.
    _needs_x: ClassVar[bool] = False
    _alpha: float = 0.0

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Apply the function to `x`, of any shape."""
        return _apply(self._kernel, _check.floats(x, self.dtype), self._alpha)

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """Apply the function; `pullback(dy)` returns `dx` (None without `input_grad`). `y` is read-only,
        because the pullback needs it."""
        x = _check.floats(x, self.dtype)
        y = _apply(self._kernel, x, self._alpha)
        y.flags.writeable = False
        saved = x if self._needs_x else y

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            dy = _check.gradient(dy, y.dtype, y.shape)
            return _backward(self._kernel, saved, y, dy, self._alpha) if input_grad else None

        return y, Pullback(run, type(self).__name__, retain)


class Sigmoid(_Elementwise):
    """`sigmoid` as a layer.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> y, pullback = fr.Sigmoid().vjp(np.zeros(2))
    >>> pullback(np.ones(2))
    array([0.25, 0.25])
    """

    _kernel = "sigmoid"


class Tanh(_Elementwise):
    """`tanh` as a layer.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.Tanh()(np.array([0.0, 30.0]))
    array([0., 1.])
    """

    _kernel = "tanh"


class ReLU(_Elementwise):
    """`relu` as a layer; its derivative in 0 is 0.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.ReLU()(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """

    _kernel = "relu"


class LeakyReLU(_Elementwise):
    """`leaky_relu` as a layer; its derivative in 0 is `negative_slope`.

    Parameters
    ----------
    negative_slope : float
        The slope for x ≤ 0.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.LeakyReLU(0.1)(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    _kernel = "leaky_relu"
    _needs_x = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = self._alpha = _check.number(negative_slope, "negative_slope")

    def config(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}


class Swish(_Elementwise):
    """`swish` as a layer.

    Parameters
    ----------
    beta : float
        The factor inside the sigmoid; it is not trained.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.Swish()(np.array([-30.0, 0.0, 30.0])).round(6)
    array([-0.,  0., 30.])
    """

    _kernel = "swish"
    _needs_x = True

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = self._alpha = _check.number(beta, "beta")

    def config(self) -> dict[str, Any]:
        return {"beta": self.beta}


class Softmax(Layer):
    """`softmax` along the last axis as a layer.

    For training a classifier, leave it out and use `losses.cross_entropy`, which takes the logits.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.Softmax()(np.array([[1e4, 1e4], [0.0, 1e4]]))
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Apply softmax to `x` [..., C]."""
        return softmax(x)

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """Apply softmax; `pullback(dy)` returns `dx` (None without `input_grad`). `y` is read-only, because
        the pullback needs it."""
        y = softmax(x)
        y.flags.writeable = False

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            dy = _check.gradient(dy, y.dtype, y.shape)
            return _softmax_backward(y, dy) if input_grad else None

        return y, Pullback(run, "Softmax", retain)
