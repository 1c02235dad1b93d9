import numpy as np
import pytest

from fastrnn import _core, reference
from tests.ops.helpers import FORWARD, GRADIENT, ROWS, close, same_for_any_threads


def cross_entropy(logits, targets, factor, smoothing=0.0):
    dlogits = np.full_like(logits, 7)
    return _core.cross_entropy(logits, targets, factor, smoothing, dlogits), dlogits


def expected_cross_entropy(logits, targets, factor, smoothing):
    factor = factor.astype(np.float64)
    loss, dlogits = reference.cross_entropy(
        logits.astype(np.float64), targets, weight=factor, label_smoothing=smoothing
    )
    return loss * factor.sum(), dlogits * factor.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("C", [*ROWS, 96, 20000])
def test_cross_entropy(C, smoothing, dtype, rng):
    logits = (2 * rng.standard_normal((7, C))).astype(dtype)
    targets = rng.integers(0, C, 7)
    factor = rng.uniform(0.5, 2, 7).astype(dtype)
    factor[[2, 5]] = 0
    loss, dlogits = cross_entropy(logits, targets, factor, smoothing)
    expected, dexpected = expected_cross_entropy(logits, targets, factor, smoothing)
    # one class: the loss is 0, and exp and log may differ from it by a rounding
    assert loss == pytest.approx(expected, rel=FORWARD[dtype], abs=FORWARD[dtype])
    if C > 1:
        close(dlogits, dexpected, GRADIENT[dtype])
    else:
        np.testing.assert_allclose(dlogits, 0, atol=FORWARD[dtype])
    assert _core.cross_entropy(logits, targets, factor, smoothing, None) == pytest.approx(loss, rel=1e-12)
    assert type(loss) is float


def test_cross_entropy_in_place(dtype, rng):
    logits = rng.standard_normal((5, 37)).astype(dtype)
    targets, factor = rng.integers(0, 37, 5), np.ones(5, dtype)
    loss, dlogits = cross_entropy(logits, targets, factor, 0.1)
    assert _core.cross_entropy(logits, targets, factor, 0.1, logits) == loss
    np.testing.assert_array_equal(logits, dlogits)


def test_cross_entropy_large_values(dtype):
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [0, -np.inf, 0]], dtype)
    loss, dlogits = cross_entropy(logits, np.array([0, 1, 2]), np.ones(3, dtype))
    assert loss == pytest.approx(2e4 + np.log(2))
    close(dlogits, [[0, 0, 0], [1, -1, 0], [0.5, 0, -0.5]], FORWARD[dtype])


@pytest.mark.parametrize("C", [1, 15, 37])
def test_cross_entropy_skips_factor_zero(C, dtype, rng):
    logits = rng.standard_normal((4, C)).astype(dtype)
    targets, factor = rng.integers(0, C, 4), np.array([1, 0, 0, 2], dtype)
    clean = cross_entropy(logits, targets, factor)
    logits[1], logits[2] = np.nan, np.inf
    targets[1], targets[2] = -100, 10**15
    loss, dlogits = cross_entropy(logits, targets, factor)
    assert loss == clean[0]
    np.testing.assert_array_equal(dlogits, clean[1])
    np.testing.assert_array_equal(dlogits[1:3], 0)
    logits[3, C - 1] = np.nan
    loss, dlogits = cross_entropy(logits, targets, factor)
    assert np.isnan(loss)
    assert np.isnan(dlogits[3]).all()
    assert np.isfinite(dlogits[:3]).all()


@pytest.mark.parametrize("value", [-1, 5, 2**62, -(2**63)])
def test_cross_entropy_bad_target(value, dtype):
    logits, dlogits, targets = np.zeros((3, 5), dtype), np.full((3, 5), 7, dtype), np.array([0, value, 1])
    message = f"^targets: expected integers from 0 to 4, got {value} at position 1$"
    with pytest.raises(ValueError, match=message):
        _core.cross_entropy(logits, targets, np.ones(3, dtype), 0.0, dlogits)
    np.testing.assert_array_equal(dlogits, 7)


def test_cross_entropy_empty(dtype):
    for N in (0, 3):
        shape = (N, 0 if N else 5)
        assert cross_entropy(np.empty(shape, dtype), np.zeros(N, np.int64), np.zeros(N, dtype))[0] == 0


def test_cross_entropy_threads(dtype, rng):
    logits = rng.standard_normal((2500, 96)).astype(dtype)
    targets, factor = rng.integers(0, 96, 2500), rng.uniform(0, 1, 2500).astype(dtype)
    same_for_any_threads(lambda: cross_entropy(logits, targets, factor, 0.1))


def bce(logits, targets, factor):
    dlogits = np.full_like(logits, 7)
    return _core.bce_with_logits(logits, targets, factor, dlogits), dlogits


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 1000, 4096, 100003])
def test_bce(n, dtype, rng):
    logits, targets = (3 * rng.standard_normal(n)).astype(dtype), rng.uniform(0, 1, n).astype(dtype)
    factor = (rng.uniform(0, 1, n) * (rng.uniform(0, 1, n) < 0.7)).astype(dtype)
    loss, dlogits = bce(logits, targets, factor)
    x, t, w = (a.astype(np.float64) for a in (logits, targets, factor))
    expected, dexpected = reference.bce_with_logits(x, t, weight=w)
    assert loss == pytest.approx(expected * w.sum(), rel=FORWARD[dtype])
    close(dlogits, dexpected * w.sum(), GRADIENT[dtype])
    assert _core.bce_with_logits(logits, targets, factor, None) == loss
    assert _core.bce_with_logits(logits, targets, factor, logits) == loss
    np.testing.assert_array_equal(logits, dlogits)


def test_bce_is_accurate_everywhere(dtype):
    """log(1 + e⁻|x|) of each x alone, where float32 and float64 have nothing to average."""
    x = np.concatenate([np.linspace(-40, 40, 1601), np.logspace(-20, 2, 200)]).astype(dtype)
    tolerance = 8 * float(np.finfo(dtype).eps)  # 4 ulp of exp and a few roundings
    for value in x.reshape(-1, 1):
        loss = _core.bce_with_logits(value, np.zeros(1, dtype), np.ones(1, dtype))
        v = float(value[0])
        assert loss == pytest.approx(max(v, 0) + np.log1p(np.exp(-abs(v))), rel=tolerance)


def test_bce_extreme_values(dtype):
    logits = np.array([1e4, 1e4, -1e4, -1e4, np.nan, np.inf], dtype)
    targets = np.array([1, 0, 1, 0, 0, np.nan], dtype)
    loss, dlogits = bce(logits, targets, np.array([1, 1, 1, 1, 0, 0], dtype))
    assert loss == 2e4
    np.testing.assert_array_equal(dlogits, [0, 1, -1, 0, 0, 0])
    loss, dlogits = bce(logits, targets, np.ones(6, dtype))
    assert np.isnan(loss)
    assert np.isnan(dlogits[4:]).all()


def test_bce_threads(dtype, rng):
    logits, targets, factor = rng.uniform(0, 1, (3, 160_001)).astype(dtype)
    same_for_any_threads(lambda: bce(logits, targets, factor))
