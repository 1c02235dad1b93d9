import numpy as np
import pytest

from fastrnn import _core, reference
from tests.ops.helpers import FORWARD, GRADIENT, SIZES, close, same_for_any_threads

ALPHA = 0.3


def swish(x):
    return x * reference.sigmoid(ALPHA * x)


def swish_derivative(x):
    z = ALPHA * x
    return reference.sigmoid(z) + z * reference.sigmoid_derivative(z)


FUNCTIONS = {
    "exp": (np.exp, np.exp),
    "tanh": (np.tanh, reference.tanh_derivative),
    "sigmoid": (reference.sigmoid, reference.sigmoid_derivative),
    "relu": (reference.relu, reference.relu_derivative),
    "leaky_relu": (
        lambda x: reference.leaky_relu(x, ALPHA),
        lambda x: reference.leaky_relu_derivative(x, ALPHA),
    ),
    "swish": (swish, swish_derivative),
    "gelu": (reference.gelu, reference.gelu_derivative),
}


def forward(name, x):
    out = np.empty_like(x)
    _core.activation(name, x, out, ALPHA)
    return out


def backward(name, x, y, dy):
    out = np.empty_like(x)
    _core.activation_backward(name, x, y, dy, out, ALPHA)
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name, dtype, rng):
    f, derivative = FUNCTIONS[name]
    for n in SIZES:
        x, dy = (3 * rng.standard_normal((2, n))).astype(dtype)
        x[0] = 0.5  # something large beside 1 - y², which has few digits for y near 1
        y = forward(name, x)
        close(y, f(x.astype(np.float64)), FORWARD[dtype])
        close(backward(name, x, y, dy), derivative(x.astype(np.float64)) * dy, GRADIENT[dtype])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_place(name, dtype, rng):
    x, dy = rng.standard_normal((2, 33)).astype(dtype)
    y = forward(name, x)
    dx = backward(name, x, y, dy)
    for i in range(3):
        operands = [x.copy(), y.copy(), dy.copy()]
        _core.activation_backward(name, *operands, operands[i], ALPHA)
        np.testing.assert_array_equal(operands[i], dx)
    _core.activation(name, x, x, ALPHA)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extreme_values(name, dtype):
    big = np.finfo(dtype).max
    x = np.array([np.nan, 1e4, -1e4, big, -big, 0.0, 1e-30], dtype)
    y, dy = forward(name, x), np.full(x.shape, 2, dtype)
    dx = backward(name, x, y, dy)
    with np.errstate(over="ignore"):
        f, derivative = FUNCTIONS[name]
        expected, slope = f(x), derivative(x.astype(np.float64))
    close(y, expected, FORWARD[dtype])
    assert np.isnan(y[0])
    assert np.isnan(dx[0])
    if name != "exp":
        close(dx, 2 * slope, GRADIENT[dtype])


def test_infinities(dtype):
    x = np.array([np.inf, -np.inf], dtype)
    expected = {
        "exp": [np.inf, 0],
        "tanh": [1, -1],
        "sigmoid": [1, 0],
        "relu": [np.inf, 0],
        "leaky_relu": [np.inf, -np.inf],
    }
    for name, y in expected.items():
        np.testing.assert_array_equal(forward(name, x), y)


def test_kink_at_zero(dtype):
    zero, dy = np.zeros(3, dtype), np.array([1, np.inf, -2], dtype)
    np.testing.assert_array_equal(backward("relu", zero, zero, dy), 0)
    np.testing.assert_array_equal(backward("leaky_relu", zero, zero, dy), dtype(ALPHA) * dy)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_threads(name, dtype, rng):
    x, dy = rng.standard_normal((2, 1_400_009)).astype(dtype)

    def run():
        y = forward(name, x)
        return y, backward(name, x, y, dy)

    same_for_any_threads(run)


def test_any_shape(dtype, rng):
    x = rng.standard_normal((3, 4, 5)).astype(dtype)
    np.testing.assert_array_equal(forward("tanh", x).ravel(), forward("tanh", x.ravel()))
    assert forward("tanh", np.empty((0, 3), dtype)).shape == (0, 3)
