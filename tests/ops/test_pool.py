import numpy as np
import pytest

from fastrnn import _core, reference
from tests.ops.helpers import FORWARD, close, same_for_any_threads

SHAPES = [(1, 1, 1), (2, 3, 15), (5, 1, 16), (7, 9, 17), (63, 2, 33), (64, 3, 8), (65, 10, 5), (130, 4, 300)]  # T, B, F


def ragged(T, B, rng):
    """Lengths in any order, 0 and T among them."""
    lengths = rng.integers(0, T + 1, B)
    lengths[: min(B, 2)] = [T, 0][: min(B, 2)]
    return rng.permutation(lengths)


def max_forward(x, lengths, y=None):
    y = np.full(x.shape[1:], 7, x.dtype) if y is None else y
    step = np.full(y.shape, -5, np.int32 if x.dtype == np.float32 else np.int64)
    _core.max_pool(x, lengths, y, step)
    return y, step


def max_backward(dy, step, lengths, T):
    dx = np.full((T, *dy.shape), 7, dy.dtype)
    _core.max_pool_backward(dy, step, lengths, dx)
    return dx


def mean_forward(x, lengths):
    y = np.full(x.shape[1:], 7, x.dtype)
    _core.mean_pool(x, lengths, y)
    return y


def mean_backward(dy, lengths, T):
    dx = np.full((T, *dy.shape), 7, dy.dtype)
    _core.mean_pool_backward(dy, lengths, dx)
    return dx


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "ragged"])
def test_values(shape, with_lengths, dtype, rng):
    T, B, F = shape
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal((B, F)).astype(dtype)
    x[rng.random(shape) < 0.3] = 0.5  # equal maxima: the first of them counts
    lengths = ragged(T, B, rng) if with_lengths else None
    if with_lengths:
        x[np.arange(T)[:, None] >= lengths] = np.nan  # not read
    expected, pullback = reference.max_pool_vjp(x, lengths=lengths)
    y, step = max_forward(x, lengths)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(max_backward(dy, step, lengths, T), pullback(dy))
    alone = np.empty_like(y)
    _core.max_pool(x, lengths, alone)
    np.testing.assert_array_equal(alone, y)
    expected, pullback = reference.mean_pool_vjp(x.astype(np.float64), lengths=lengths)
    close(mean_forward(x, lengths), expected, FORWARD[dtype])
    close(mean_backward(dy, lengths, T), pullback(dy.astype(np.float64)), FORWARD[dtype])


def test_special_values(dtype):
    """A NaN is the largest, and the first one gets the gradient; -0 and 0 are equal; infinities are numbers."""
    nan, inf = np.nan, np.inf
    columns = [[1, nan, 5, nan], [nan, 9, nan, 9], [-inf, -inf, -inf, -inf], [-0.0, 0.0, -0.0, 0.0], [1, inf, inf, 2]]
    x = np.ascontiguousarray(np.array(columns, dtype).T)[:, None]
    y, step = max_forward(x, None)
    np.testing.assert_array_equal(step, x.argmax(axis=0))
    np.testing.assert_array_equal(y[0], [nan, nan, -inf, 0, inf])
    assert np.signbit(y[0, 3])
    with np.errstate(invalid="ignore"):
        expected = x.mean(axis=0)
    np.testing.assert_array_equal(mean_forward(x, None), expected)
    dy = np.full((1, 5), nan, dtype)
    dx = max_backward(dy, step, np.array([2]), 4)
    assert np.isnan(dx).sum() == 5
    assert not mean_backward(dy, np.array([2]), 4)[2:].any()


def test_strides(dtype, rng):
    """x as [B, T, F], as part of wider rows, backwards in time; dx alike."""
    x, dy = rng.standard_normal((9, 6, 21)).astype(dtype), rng.standard_normal((6, 21)).astype(dtype)
    lengths = ragged(9, 6, rng)
    for given in (None, lengths):
        y, step = max_forward(x, given)
        results = [y, step, mean_forward(x, given), max_backward(dy, step, given, 9), mean_backward(dy, given, 9)]
        swapped = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
        wide = np.full((9, 6, 50), np.nan, dtype)
        wide[..., 3:24] = x
        for view in (swapped, wide[..., 3:24], np.ascontiguousarray(x[::-1])[::-1], np.repeat(x, 2, -1)[..., ::2]):
            found = [*max_forward(view, given), mean_forward(view, given)]
            for actual, expected in zip(found, results[:3], strict=True):
                np.testing.assert_array_equal(actual, expected)
        for whole in (np.full((6, 9, 21), 7, dtype), np.full((9, 6, 50), 7, dtype)):
            dx = whole.swapaxes(0, 1) if whole.shape[0] == 6 else whole[..., 3:24]
            _core.max_pool_backward(dy, step, given, dx)
            np.testing.assert_array_equal(dx, results[3])
            _core.mean_pool_backward(dy, given, dx)
            np.testing.assert_array_equal(dx, results[4])
            assert (whole != 7).sum() == dx.size


def test_mean_of_many_steps(dtype):
    """A hundred thousand equal numbers, summed one by one in float32, would be off by more than 1e-4."""
    x = np.full((100_000, 1, 3), 1.1, dtype)
    close(mean_forward(x, None), np.full((1, 3), dtype(1.1)), FORWARD[dtype])


@pytest.mark.parametrize("shape", [(3, 0, 4), (3, 4, 0)])
def test_empty(shape, dtype):
    x, dy = np.ones(shape, dtype), np.ones(shape[1:], dtype)
    y, step = max_forward(x, None)
    assert y.shape == mean_forward(x, None).shape == dy.shape
    assert max_backward(dy, step, None, 3).shape == mean_backward(dy, None, 3).shape == shape


@pytest.mark.parametrize("shape", [(300, 33, 130), (3000, 1, 2000), (900, 500, 3)])
def test_threads_and_batch(shape, dtype, rng):
    T, B, F = shape
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal((B, F)).astype(dtype)
    for lengths in (None, ragged(T, B, rng)):

        def run(lengths=lengths):
            y, step = max_forward(x, lengths)
            backward = max_backward(dy, step, lengths, T), mean_backward(dy, lengths, T)
            return y, step, mean_forward(x, lengths), *backward

        same_for_any_threads(run)
        last = None if lengths is None else lengths[-1:]
        np.testing.assert_array_equal(run()[2][-1:], mean_forward(x[:, -1:], last))


def test_bad_input(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    whole = np.int32 if dtype == np.float32 else np.int64
    x, y, dx = np.ones((4, 3, 5), dtype), np.ones((3, 5), dtype), np.ones((4, 3, 5), dtype)
    step, wrong = np.zeros((3, 5), whole), np.zeros((3, 5), np.int64 if whole is np.int32 else np.int32)
    frozen = y.copy()
    frozen.flags.writeable = False
    bad = [
        lambda: _core.max_pool(x[0], None, y),
        lambda: _core.max_pool(x[:0], None, y),
        lambda: _core.max_pool(x.astype(np.int64), None, y),
        lambda: _core.max_pool(x, None, y[:2]),
        lambda: _core.max_pool(x, None, y.astype(other)),
        lambda: _core.max_pool(x, None, frozen),
        lambda: _core.max_pool(x, None, y, wrong),
        lambda: _core.max_pool(x, None, y, step[:2]),
        lambda: _core.mean_pool(x, np.array([1, 2]), y),
        lambda: _core.mean_pool(x, np.array([1, 2, 3], np.int32), y),
        lambda: _core.max_pool_backward(y, wrong, None, dx),
        lambda: _core.max_pool_backward(y, None, None, dx),
        lambda: _core.max_pool_backward(y[:2], step, None, dx),
        lambda: _core.mean_pool_backward(y, None, dx[:, :2]),
        lambda: _core.mean_pool_backward(y, None, dx[..., ::2]),
        lambda: _core.mean_pool_backward(y, None, np.broadcast_to(dx[0], dx.shape)),
    ]
    for call in bad:
        with pytest.raises((ValueError, TypeError)):
            call()
    for value in (-1, 5, 2**62):
        with pytest.raises(ValueError, match=f"^lengths: expected integers from 0 to T=4, got {value} in row 1$"):
            _core.mean_pool(x, np.array([4, value, 0]), y)
