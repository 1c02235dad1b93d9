import numpy as np
import pytest

from fastrnn import _core
from tests.ops.helpers import FORWARD, GRADIENT, SIZES, close, same_for_any_threads


@pytest.mark.parametrize("M", [0, 1, 31, 32, 33, 1000])
def test_column_sum(M, dtype, rng):
    for N in (1, 15, 16, 17, 33, 100):
        a, out = rng.standard_normal((M, N)).astype(dtype), rng.standard_normal(N).astype(dtype)
        expected = out.copy()
        for row in a:  # in their order, so even the bits agree
            expected += row
        _core.column_sum(a, out)
        np.testing.assert_array_equal(out, expected)


def test_column_sum_is_accurate_enough(dtype, rng):
    a, out = rng.standard_normal((100003, 3)).astype(dtype), np.zeros(3, dtype)
    _core.column_sum(a, out)
    close(out, a.astype(np.float64).sum(0), {**GRADIENT, np.float64: 1e-11}[dtype])  # 10⁵ roundings


@pytest.mark.parametrize("n", [0, *SIZES])
def test_sum_squares(n, dtype, rng):
    a = rng.standard_normal(n).astype(dtype)
    assert _core.sum_squares(a) == pytest.approx(np.square(a.astype(np.float64)).sum(), rel=1e-13)


def test_sum_squares_extremes():
    assert _core.sum_squares(np.full(20, 1e30, np.float32)) == pytest.approx(20e60, rel=1e-6)
    assert _core.sum_squares(np.full(20, 1e-30, np.float32)) == pytest.approx(20e-60, rel=1e-6)
    assert np.isnan(_core.sum_squares(np.array([1, np.nan, np.inf])))
    assert _core.sum_squares(np.array([1, -np.inf])) == np.inf


@pytest.mark.parametrize("n", SIZES)
def test_all_finite(n, dtype):
    a = np.full(n, np.finfo(dtype).max, dtype)
    assert _core.all_finite(a) is True
    for at in {0, n // 2, n - 1}:
        for value in (np.nan, np.inf, -np.inf):
            b = a.copy()
            b[at] = value
            assert _core.all_finite(b) is False


def test_all_finite_of_nothing(dtype):
    assert _core.all_finite(np.empty(0, dtype)) is True


@pytest.mark.parametrize("n", SIZES)
def test_scale_clip_add(n, dtype, rng):
    a, b = rng.standard_normal((2, n)).astype(dtype)
    expected = a * dtype(0.3)
    _core.scale(a, 0.3)
    np.testing.assert_array_equal(a, expected)
    expected = np.clip(a, dtype(-0.1), dtype(0.2))
    _core.clip(a, -0.1, 0.2)
    np.testing.assert_array_equal(a, expected)
    out, expected = np.empty_like(a), a + b
    _core.add(a, b, out)
    np.testing.assert_array_equal(out, expected)
    _core.add(a, b, b)
    _core.add(a, out, a)
    np.testing.assert_array_equal(b, expected)
    close(a, out + expected - b + (a - out), FORWARD[dtype])


def test_clip_extremes(dtype):
    a = np.array([np.nan, np.inf, -np.inf, 5, -5, 0.5], dtype)
    _core.clip(a, -1, 1)
    np.testing.assert_array_equal(a, [np.nan, 1, -1, 1, -1, 0.5])
    _core.clip(a, -np.inf, np.inf)
    np.testing.assert_array_equal(a, [np.nan, 1, -1, 1, -1, 0.5])
    for low, high in [(1, 0), (np.nan, 1), (0, np.nan)]:
        with pytest.raises(ValueError, match=r"^low, high: expected low ≤ high, got"):
            _core.clip(a, low, high)


def test_threads(dtype, rng):
    n = 1_400_009
    a, b = rng.standard_normal((2, n)).astype(dtype)
    matrix = a[: n // 700 * 700].reshape(-1, 700)

    def run():
        c, sums = a.copy(), np.zeros(700, dtype)
        _core.scale(c, 0.7)
        _core.clip(c, -1, 1)
        _core.add(c, b, c)
        _core.column_sum(matrix, sums)
        return c, sums, _core.sum_squares(a), _core.all_finite(a)

    same_for_any_threads(run)
    broken = a.copy()
    broken[-1] = np.nan
    same_for_any_threads(lambda: (_core.all_finite(broken),))
