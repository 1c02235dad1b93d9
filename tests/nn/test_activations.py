"""Activation functions: values, derivatives, extremes, kinks."""

import numpy as np
import pytest

from fastrnn.nn import activations as act
from tests.reference.finite_differences import assert_close, check_gradients

PAIRS = [
    (act.sigmoid, act.sigmoid_derivative, lambda x: 1 / (1 + np.exp(-x)), {}),
    (act.tanh, act.tanh_derivative, np.tanh, {}),
    (act.relu, act.relu_derivative, lambda x: np.maximum(x, 0), {}),
    (act.leaky_relu, act.leaky_relu_derivative, lambda x: np.where(x > 0, x, 0.01 * x), {}),
    (
        act.leaky_relu,
        act.leaky_relu_derivative,
        lambda x: np.where(x > 0, x, 0.3 * x),
        {"negative_slope": 0.3},
    ),
    (act.swish, act.swish_derivative, lambda x: x / (1 + np.exp(-x)), {}),
    (act.swish, act.swish_derivative, lambda x: x / (1 + np.exp(-2 * x)), {"beta": 2.0}),
]
# 1e-12 is what the kernels promise against the reference in float64, 1e-5 in float32.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "derivative", "expected", "options"), PAIRS)
def test_values(function, derivative, expected, options, dtype):
    x = np.random.default_rng(0).standard_normal((7, 5)) * 3
    y = function(x.astype(dtype), **options)
    assert y.dtype == dtype
    assert_close(y, expected(x.astype(dtype).astype(np.float64)), TOLERANCE[dtype])
    np.testing.assert_array_equal(function(x.T.astype(dtype), **options), y.T)
    assert derivative(x.astype(dtype), **options).dtype == dtype


@pytest.mark.parametrize(("function", "derivative", "expected", "options"), PAIRS)
def test_derivatives(function, derivative, expected, options):
    x = np.random.default_rng(0).standard_normal((4, 5)) * 3
    ones = np.ones_like(x)
    check_gradients(lambda: function(x, **options), {"x": x}, ones, {"x": derivative(x, **options)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "derivative", "expected", "options"), PAIRS)
def test_extremes(function, derivative, expected, options, dtype):
    x = np.array([-1e4, 1e4], dtype)
    slope = options.get("negative_slope", 0.01 if function is act.leaky_relu else 0)
    grows = function in (act.relu, act.leaky_relu, act.swish)
    low = {act.tanh: -1}.get(function, -1e4 * slope)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, dy = function(x, **options), derivative(x, **options)
    np.testing.assert_allclose(y, [low, 1e4 if grows else 1], rtol=1e-6)
    np.testing.assert_allclose(dy, [slope, 1 if grows else 0], rtol=1e-6)
    for value in (function, derivative):
        assert np.isnan(value(np.array([np.nan, 1], dtype), **options)).tolist() == [True, False]


def test_derivatives_keep_their_tails():
    assert_close(act.sigmoid_derivative(np.array([-50.0, 50.0])), np.full(2, np.exp(-50.0)), 1e-12)
    assert_close(act.tanh_derivative(np.array([-50.0, 50.0])), np.full(2, 4 * np.exp(-100.0)), 1e-12)


def test_kinks():
    zero = np.zeros(1)
    assert act.relu_derivative(zero) == 0
    assert act.leaky_relu_derivative(zero, 0.2) == 0.2


def test_layers_agree_with_functions_on_kinks():
    from fastrnn import nn

    for layer, value in ((nn.ReLU(), 0), (nn.LeakyReLU(0.2), 0.2)):
        _, pullback = layer.vjp(np.zeros(3))
        np.testing.assert_array_equal(pullback(np.ones(3)), np.full(3, value))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(dtype):
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(dtype)
    e = np.exp(x.astype(np.float64))
    assert_close(act.softmax(x), e / e.sum(-1, keepdims=True), TOLERANCE[dtype])
    np.testing.assert_array_equal(act.softmax(x.T), act.softmax(np.ascontiguousarray(x.T)))
    extreme = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, jvp = act.softmax(extreme), act.softmax_jvp(extreme, np.ones_like(extreme))
    assert_close(y, [[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]], TOLERANCE[dtype])
    assert np.abs(jvp).max() < 1e-6
    nan = act.softmax(np.array([[0, np.nan], [0, 0]], dtype))
    assert np.isnan(nan[0]).all()
    assert nan[1].tolist() == [0.5, 0.5]


def test_softmax_jacobian():
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, 4)), rng.standard_normal((2, 4))
    check_gradients(lambda: act.softmax(x), {"x": x}, v, {"x": act.softmax_jvp(x, v)})
    for row, u in zip(x, v, strict=True):
        y = act.softmax(row)
        assert_close(act.softmax_jvp(row, u), (np.diag(y) - np.outer(y, y)) @ u, 1e-12)
    with pytest.raises(ValueError, match=r"v: expected shape \(2, 4\), that of the output, got \(4,\)"):
        act.softmax_jvp(x, v[0])


def test_scalars_and_bad_input():
    assert act.tanh(0.0) == 0
    assert act.swish_derivative(np.float32(0)).dtype == np.float32
    assert act.sigmoid(np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(TypeError, match=r"x: expected float32 or float64, got int64; use x.astype"):
        act.sigmoid(np.arange(3))
    with pytest.raises(TypeError, match="beta: expected a number, got 'big'"):
        act.swish([1.0], beta="big")
