"""The helper that proves everything else must itself be able to say no."""

import numpy as np
import pytest

from .finite_differences import assert_close, check_gradients, inner, numerical_gradient, relative_error


def test_known_gradient():
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    before = x.copy()
    assert_close(numerical_gradient(lambda: float(np.sum(x**3)), x), 3 * x**2, 1e-9)
    np.testing.assert_array_equal(x, before)


def test_wrong_gradient_is_found():
    x, dy = np.array([1.0, -2.0]), np.array([0.3, 0.7])
    check_gradients(lambda: x**2, {"x": x}, dy, {"x": 2 * x * dy})
    with pytest.raises(AssertionError, match="gradient of x: relative error"):
        check_gradients(lambda: x**2, {"x": x}, dy, {"x": 2 * x * dy * (1 + 1e-5)})
    with pytest.raises(AssertionError, match="shape"):
        check_gradients(lambda: x**2, {"x": x}, dy, {"x": np.sum(2 * x * dy)})
    with pytest.raises(AssertionError, match="each input needs a gradient"):
        check_gradients(lambda: x**2, {"x": x}, dy, {})


def test_relative_error():
    assert relative_error([1.0, 99.0], [1.0, 100.0]) == 0.01
    assert relative_error([0.0], [0.0]) == 0
    assert relative_error([1e-300], [0.0]) == np.inf
    assert relative_error([np.nan], [1.0]) == np.inf
    assert relative_error([np.inf], [1.0]) == np.inf


def test_inner_follows_the_nesting():
    a, b = np.array([1.0, 2.0]), np.array([3.0])
    assert inner((a, (a, b)), (a, (None, b))) == 5 + 9
    with pytest.raises(AssertionError):
        inner((a, b), (a,))
    with pytest.raises(AssertionError):
        inner(a, b)
