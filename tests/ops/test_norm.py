import numpy as np
import pytest

from fastrnn import _core, reference
from tests.ops.helpers import FORWARD, GRADIENT, ROWS, close, same_for_any_threads

EPS = 1e-5


def forward(x, gamma, beta, eps=EPS):
    y, (mean, rstd) = np.empty_like(x), np.empty((2, len(x)), x.dtype)
    _core.layer_norm_forward(x, gamma, beta, eps, y, mean, rstd)
    return y, mean, rstd


def backward(dy, x, gamma, mean, rstd, start=0):
    dx, (dgamma, dbeta) = np.empty_like(x), np.full((2, x.shape[1]), start, x.dtype)
    _core.layer_norm_backward(dy, x, gamma, mean, rstd, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


@pytest.mark.parametrize("F", [*(r for r in ROWS if r > 1), 3001])
def test_values(F, dtype, rng):
    for N in (1, 3, 32, 70):
        x, dy = (rng.standard_normal((2, N, F)) + 0.5).astype(dtype)
        gamma, beta = rng.standard_normal((2, F)).astype(dtype)
        y, mean, rstd = forward(x, gamma, beta)
        wide = [a.astype(np.float64) for a in (x, gamma, beta)]
        expected, pullback = reference.layer_norm_vjp(*wide, eps=EPS)
        close(y, expected, FORWARD[dtype])
        close(mean, wide[0].mean(-1), FORWARD[dtype])
        close(rstd, 1 / np.sqrt(wide[0].var(-1) + EPS), FORWARD[dtype])
        dx, grads = pullback(dy.astype(np.float64))
        actual = backward(dy, x, gamma, mean, rstd, start=2)
        # two elements a row: dx is what is left of a difference of equal numbers, relative to dn·rstd
        scale = np.abs(wide[1]).max() * np.abs(dy).max() * rstd.max() if F == 2 else 0
        np.testing.assert_allclose(actual[0], dx, rtol=0, atol=GRADIENT[dtype] * max(np.abs(dx).max(), scale))
        close(actual[1], 2 + grads[0], GRADIENT[dtype])
        close(actual[2], 2 + grads[1], GRADIENT[dtype])


def test_without_parameters(dtype, rng):
    x, dy = rng.standard_normal((2, 5, 37)).astype(dtype)
    ones, zeros = np.ones(37, dtype), np.zeros(37, dtype)
    y, mean, rstd = forward(x, None, None)
    np.testing.assert_array_equal(y, forward(x, ones, zeros)[0])
    dx, dgamma, dbeta = backward(dy, x, ones, mean, rstd)
    for g, b in [(None, None), (np.zeros_like(dgamma), None), (None, np.zeros_like(dbeta))]:
        out = np.empty_like(x)
        _core.layer_norm_backward(dy, x, None, mean, rstd, out, g, b)
        np.testing.assert_array_equal(out, dx)
        assert g is None or (g == dgamma).all()
        assert b is None or (b == dbeta).all()


def test_variance_is_two_pass(dtype, rng):
    """A mean of a thousand standard deviations: E[x²] - E[x]² would leave nothing in float32."""
    x = (1000 + rng.standard_normal((3, 500))).astype(dtype)
    y, _, _ = forward(x, None, None)
    # the mean itself is rounded to the float type: an error of |mean|·eps, in units of the standard deviation
    close(y, reference.layer_norm(x.astype(np.float64)), 1000 * np.finfo(dtype).eps)


def test_constant_and_huge_rows(dtype):
    x = np.full((2, 33), 3, dtype)
    beta = np.arange(33).astype(dtype)
    y, _, rstd = forward(x, np.ones(33, dtype), beta)
    np.testing.assert_array_equal(y, [beta, beta])
    np.testing.assert_allclose(rstd, EPS**-0.5, rtol=1e-6)
    x[0, 7] = np.nan
    y, _, _ = forward(x, None, None)
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1], 0)


def test_in_place(dtype, rng):
    x, dy = rng.standard_normal((2, 6, 37)).astype(dtype)
    gamma, beta = rng.standard_normal((2, 37)).astype(dtype)
    y, mean, rstd = forward(x, gamma, beta)
    expected = backward(dy, x, gamma, mean, rstd)
    for i in range(2):
        a, (dgamma, dbeta) = [dy.copy(), x.copy()], np.zeros((2, 37), dtype)
        _core.layer_norm_backward(*a, gamma, mean, rstd, a[i], dgamma, dbeta)
        for actual, wanted in zip((a[i], dgamma, dbeta), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
    _core.layer_norm_forward(x, gamma, beta, EPS, x, mean, rstd)
    np.testing.assert_array_equal(x, y)


def test_empty(dtype):
    for shape in [(0, 3), (3, 0)]:
        x, parameter = np.empty(shape, dtype), np.ones(shape[1], dtype)
        y, mean, rstd = forward(x, parameter, parameter)
        assert backward(y, x, parameter, mean, rstd)[1].tolist() == [0] * shape[1]


def test_threads_and_batch(dtype, rng):
    x, dy = rng.standard_normal((2, 1500, 517)).astype(dtype)
    gamma, beta = rng.standard_normal((2, 517)).astype(dtype)

    def run():
        y, mean, rstd = forward(x, gamma, beta)
        return y, mean, rstd, *backward(dy, x, gamma, mean, rstd)

    same_for_any_threads(run)
    np.testing.assert_array_equal(run()[0][9:10], forward(x[9:10], gamma, beta)[0])
