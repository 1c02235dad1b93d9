"""Activations: gradients, extreme arguments, and exact values."""

import numpy as np
import pytest

from fastrnn import reference

from .finite_differences import assert_close, check_gradients

ELEMENTWISE = ["sigmoid", "tanh", "relu", "leaky_relu", "swish"]
AXIS = ["softmax", "log_softmax"]


def functions(name):
    return getattr(reference, name), getattr(reference, name + "_vjp")


@pytest.mark.parametrize("name", ELEMENTWISE + AXIS)
def test_gradients(name):
    rng = np.random.default_rng(0)
    x, dy = 2 * rng.standard_normal((2, 3, 4))[None], rng.standard_normal((1, 2, 3, 4))
    f, f_vjp = functions(name)
    for options in [{}] if name in ELEMENTWISE else [{}, {"axis": 1}]:
        y, pullback = f_vjp(x, **options)
        np.testing.assert_array_equal(y, f(x, **options))
        check_gradients(lambda: f(x, **options), {"x": x}, dy, {"x": pullback(dy)})  # noqa: B023


def test_leaky_slope():
    x = np.array([-2.0, 3.0])
    assert reference.leaky_relu(x, 0.25).tolist() == [-0.5, 3.0]
    y, pullback = reference.leaky_relu_vjp(x, 0.25)
    assert y.tolist() == [-0.5, 3.0] and pullback(np.array([1.0, 10.0])).tolist() == [0.25, 10.0]
    assert reference.leaky_relu(x).tolist() == [-0.02, 3.0]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivative_is_the_pullback_of_one(name):
    x = np.linspace(-5, 5, 41)
    derivative = getattr(reference, name + "_derivative")(x)
    np.testing.assert_array_equal(functions(name)[1](x)[1](np.ones_like(x)), derivative)


def test_kinks():
    zeros = np.array([0.0, -0.0])
    assert reference.relu_derivative(zeros).tolist() == [0, 0]
    assert reference.leaky_relu_derivative(zeros, 0.25).tolist() == [0.25, 0.25]


def test_softmax_jvp_is_the_jacobian_times_a_vector():
    rng = np.random.default_rng(1)
    x, v = rng.standard_normal(5), rng.standard_normal(5)
    p = reference.softmax(x)
    jacobian = np.diag(p) - np.outer(p, p)
    assert_close(reference.softmax_jvp(x, v), jacobian @ v, 1e-14)
    step = 1e-6
    assert_close(
        reference.softmax_jvp(x, v),
        (reference.softmax(x + step * v) - reference.softmax(x - step * v)) / (2 * step),
        1e-8,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE + AXIS)
def test_dtype_and_nan(name, dtype):
    f, f_vjp = functions(name)
    x = np.array([[-1.0, 0.0, 2.0], [1.0, np.nan, 3.0]], dtype)
    y, pullback = f_vjp(x)
    dx = pullback(np.ones_like(x))
    assert f(x).dtype == y.dtype == dx.dtype == dtype
    nan = np.isnan(x) if name in ELEMENTWISE else [[False] * 3, [True] * 3]
    np.testing.assert_array_equal(np.isnan(y), nan)
    np.testing.assert_array_equal(np.isnan(dx), nan)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_arguments(dtype):
    """No overflow, no warning (they are errors here), and the exact limits."""
    x = np.array([-1e4, -200.0, 200.0, 1e4], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert reference.sigmoid(x)[[0, 2, 3]].tolist() == [0, 1, 1]
        assert reference.tanh(x).tolist() == [-1, -1, 1, 1]
        assert reference.swish(x)[[0, 2, 3]].tolist() == [0, 200, 1e4]
        assert reference.sigmoid_derivative(x)[[0, 3]].tolist() == [0, 0]
        assert reference.tanh_derivative(x)[[0, 3]].tolist() == [0, 0]
        assert reference.swish_derivative(x)[[0, 3]].tolist() == [0, 1]
        assert reference.softmax(x).tolist() == [0, 0, 0, 1]
        assert reference.log_softmax(x).tolist() == [-2e4, -10200, -9800, 0]
        assert reference.softmax_jvp(x, np.ones_like(x)).tolist() == [0, 0, 0, 0]
        assert reference.softmax(np.full(2, -1e4, dtype)).tolist() == [0.5, 0.5]


def test_tails_keep_their_digits():
    """For very negative x, σ(x) = eˣ and σ'(x) = eˣ to full precision; 1 − σ(x) would have lost it."""
    x = np.array([-40.0, -100.0, -700.0])
    np.testing.assert_allclose(reference.sigmoid(x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(reference.sigmoid_derivative(-x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(reference.tanh_derivative(x / 2), 4 * np.exp(x), rtol=1e-14)
    np.testing.assert_allclose(reference.swish(x), x * np.exp(x), rtol=1e-15)
    tiny = np.array([1e-300, -1e-20])
    np.testing.assert_array_equal(reference.tanh(tiny), tiny)
