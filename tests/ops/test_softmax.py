import numpy as np
import pytest

from fastrnn import _core, reference
from tests.ops.helpers import FORWARD, GRADIENT, ROWS, close, same_for_any_threads


def run(kernel, *arrays):
    out = np.empty_like(arrays[0])
    kernel(*arrays, out)
    return out


@pytest.mark.parametrize("C", [*ROWS, 20011])
def test_values(C, dtype, rng):
    x, dy = (2 * rng.standard_normal((2, 5, C))).astype(dtype)
    y = run(_core.softmax, x)
    close(y, reference.softmax(x.astype(np.float64)), FORWARD[dtype])
    close(run(_core.log_softmax, x), reference.log_softmax(x.astype(np.float64)), FORWARD[dtype])
    y64 = y.astype(np.float64)
    close(run(_core.softmax_backward, y, dy), y64 * (dy - (y64 * dy).sum(-1, keepdims=True)), GRADIENT[dtype])


@pytest.mark.parametrize("C", [3, 17, 100])
def test_large_values(C, dtype, rng):
    x = rng.choice([-1e4, 0.0, 1e4, 9999.0], (6, C)).astype(dtype)
    close(run(_core.softmax, x), reference.softmax(x.astype(np.float64)), FORWARD[dtype])
    close(run(_core.log_softmax, x), reference.log_softmax(x.astype(np.float64)), FORWARD[dtype])
    x[:] = np.finfo(dtype).max
    close(run(_core.softmax, x), np.full(x.shape, 1 / C), FORWARD[dtype])
    x[:, 1:] = -np.inf
    np.testing.assert_array_equal(run(_core.softmax, x)[:, 0], 1)
    np.testing.assert_array_equal(run(_core.log_softmax, x)[:, 1:], -np.inf)


@pytest.mark.parametrize("C", [1, 5, 16, 37, 200])
def test_nan_fills_its_row_only(C, dtype, rng):
    for at in {0, C // 2, C - 1}:
        x = rng.standard_normal((3, C)).astype(dtype)
        x[1, at] = np.nan
        for kernel in (_core.softmax, _core.log_softmax):
            y = run(kernel, x)
            assert np.isnan(y[1]).all()
            assert np.isfinite(y[[0, 2]]).all()


def test_in_place(dtype, rng):
    x, dy = rng.standard_normal((2, 4, 37)).astype(dtype)
    for kernel in (_core.softmax, _core.log_softmax):
        y, a = run(kernel, x), x.copy()
        kernel(a, a)
        np.testing.assert_array_equal(a, y)
    y = run(_core.softmax, x)
    dx, a, b = run(_core.softmax_backward, y, dy), y.copy(), dy.copy()
    _core.softmax_backward(a, dy, a)
    _core.softmax_backward(y, b, b)
    np.testing.assert_array_equal(a, dx)
    np.testing.assert_array_equal(b, dx)


def test_empty(dtype):
    for shape in [(0, 3), (3, 0), (0, 0)]:
        assert run(_core.softmax, np.empty(shape, dtype)).shape == shape


def test_threads_and_batch(dtype, rng):
    x, dy = rng.standard_normal((2, 1100, 733)).astype(dtype)

    def all_three():
        y = run(_core.softmax, x)
        return y, run(_core.log_softmax, x), run(_core.softmax_backward, y, dy)

    same_for_any_threads(all_three)
    np.testing.assert_array_equal(run(_core.softmax, x)[5:6], run(_core.softmax, x[5:6]))
