"""Activation functions, their derivatives and their pullbacks.

``f(x)`` is the function, ``f_derivative(x)`` its derivative element by element, and ``f_vjp(x)`` returns
``(y, pullback)`` with ``dx = pullback(dy)``. Softmax mixes the elements of an axis, so it has a Jacobian instead of
a derivative: ``softmax_jvp(x, v)`` multiplies it with a vector.

All of them keep the dtype of a floating-point ``x`` and give NaN for NaN. None overflows for a finite ``x``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._sequence import Array

Pullback = Callable[[Array], Array]


def sigmoid(x: Array) -> Array:
    """Logistic function 1 / (1 + e⁻ˣ).

    The exponential is only ever taken of a number ≤ 0, so it can't overflow, and for a very negative ``x`` the
    quotient e^x / (1 + e^x) keeps all its digits.

    Examples
    --------
    >>> sigmoid(np.array([-1e4, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    e = np.exp(-np.abs(x))
    y: Array = np.where(np.less(x, 0), e, np.ones_like(e)) / (1 + e)
    return y


def sigmoid_derivative(x: Array) -> Array:
    """σ'(x) = σ(x) σ(−x); written as 1 − σ(x), the second factor would be 0 from x = 37 on."""
    return sigmoid(x) * sigmoid(np.negative(x))


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


def tanh_derivative(x: Array) -> Array:
    """tanh'(x) = 1 / cosh²(x) = 4 σ(2x) σ(−2x), which has no cancellation for large |x|.

    Examples
    --------
    >>> float(tanh_derivative(np.array(0.0)))
    1.0
    """
    return 4 * sigmoid_derivative(np.multiply(2, x))


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu_derivative(x: Array) -> Array:
    """1 for x > 0, otherwise 0; at the kink x = 0 it is 0.

    Examples
    --------
    >>> relu_derivative(np.array([-2.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    return leaky_relu_derivative(x, 0.0)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x for x > 0, otherwise ``negative_slope`` · x (Maas et al. 2013)."""
    return np.where(np.greater(x, 0), x, np.multiply(x, negative_slope))


def leaky_relu_derivative(x: Array, negative_slope: float = 0.01) -> Array:
    """1 for x > 0, otherwise ``negative_slope``, which is also the value at the kink x = 0."""
    x = np.asarray(x)
    slope = np.where(x > 0, 1.0, negative_slope).astype(x.dtype)
    return np.where(np.isnan(x), x, slope)


def swish(x: Array) -> Array:
    """x · σ(x), also called SiLU (Ramachandran et al. 2017, β = 1).

    Examples
    --------
    >>> swish(np.array([-1e4, 0.0, 3e2])).tolist()
    [-0.0, 0.0, 300.0]
    """
    return x * sigmoid(x)


def swish_derivative(x: Array) -> Array:
    """σ(x) + x σ'(x)."""
    dy_dx: Array = sigmoid(x) + x * sigmoid_derivative(x)
    return dy_dx


def gelu(x: Array) -> Array:
    """x · Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016).

    Examples
    --------
    >>> gelu(np.array([0.0, 30.0])).tolist()
    [0.0, 30.0]
    """
    return np.multiply(x, _normal(x))


def gelu_derivative(x: Array) -> Array:
    """Φ(x) + x · φ(x).

    Examples
    --------
    >>> gelu_derivative(np.array([0.0, 30.0])).tolist()
    [0.5, 1.0]
    """
    return _normal(x) + np.multiply(x, np.exp(-np.square(x) / 2)) / math.sqrt(2 * math.pi)


def gelu_vjp(x: Array) -> tuple[Array, Pullback]:
    """Return ``gelu(x)`` and its pullback."""
    return gelu(x), lambda dy: dy * gelu_derivative(x)


def _normal(x: Array) -> Array:
    phi: Array = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[np.float64])(x)
    return phi.astype(np.asarray(x).dtype)


def softmax(x: Array, axis: int = -1) -> Array:
    """eˣ / Σ eˣ along an axis. Subtracting the maximum first changes nothing but prevents overflow.

    Examples
    --------
    >>> softmax(np.array([1e4, 1e4, -1e4])).tolist()
    [0.5, 0.5, 0.0]
    """
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    p: Array = e / np.sum(e, axis=axis, keepdims=True)
    return p


def softmax_jvp(x: Array, v: Array, axis: int = -1) -> Array:
    """The Jacobian of softmax at ``x`` times ``v``.

    With p = softmax(x) the Jacobian is J = diag(p) − p pᵀ, so J v = p · (v − Σ p v). J is symmetric: this is also
    the product vᵀ J that backpropagation needs.

    Examples
    --------
    >>> softmax_jvp(np.zeros(2), np.array([1.0, 0.0])).tolist()
    [0.25, -0.25]
    """
    p = softmax(x, axis)
    jv: Array = p * (v - np.sum(p * v, axis=axis, keepdims=True))
    return jv


def log_softmax(x: Array, axis: int = -1) -> Array:
    """log(softmax(x)), computed without ever forming a probability that could underflow to 0.

    Examples
    --------
    >>> log_softmax(np.array([0.0, -1e4])).tolist()
    [0.0, -10000.0]
    """
    shifted = x - np.max(x, axis=axis, keepdims=True)
    log_p: Array = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return log_p


def sigmoid_vjp(x: Array) -> tuple[Array, Pullback]:
    """Return ``sigmoid(x)`` and the function ``dy`` → ``dx``."""
    return sigmoid(x), lambda dy: dy * sigmoid_derivative(x)


def tanh_vjp(x: Array) -> tuple[Array, Pullback]:
    """Return ``tanh(x)`` and the function ``dy`` → ``dx``."""
    return tanh(x), lambda dy: dy * tanh_derivative(x)


def relu_vjp(x: Array) -> tuple[Array, Pullback]:
    """Return ``relu(x)`` and the function ``dy`` → ``dx``."""
    return relu(x), lambda dy: dy * relu_derivative(x)


def leaky_relu_vjp(x: Array, negative_slope: float = 0.01) -> tuple[Array, Pullback]:
    """Return ``leaky_relu(x, negative_slope)`` and the function ``dy`` → ``dx``."""
    return leaky_relu(x, negative_slope), lambda dy: dy * leaky_relu_derivative(x, negative_slope)


def swish_vjp(x: Array) -> tuple[Array, Pullback]:
    """Return ``swish(x)`` and the function ``dy`` → ``dx``."""
    return swish(x), lambda dy: dy * swish_derivative(x)


def softmax_vjp(x: Array, axis: int = -1) -> tuple[Array, Pullback]:
    """Return ``softmax(x, axis)`` and the function ``dy`` → ``dx``."""
    return softmax(x, axis), lambda dy: softmax_jvp(x, dy, axis)


def log_softmax_vjp(x: Array, axis: int = -1) -> tuple[Array, Pullback]:
    """Return ``log_softmax(x, axis)`` and the function ``dy`` → ``dx`` = dy − softmax(x) Σ dy."""
    return log_softmax(x, axis), lambda dy: dy - softmax(x, axis) * np.sum(dy, axis=axis, keepdims=True)
