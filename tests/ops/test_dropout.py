import numpy as np
import pytest

from fastrnn import _core
from tests.ops.helpers import SIZES, same_for_any_threads


def hash_of(n, seed, start=0):
    """Note [dropout mask] of ops_dropout.h in NumPy: the 32 random bits of elements start … start+n-1."""
    i = np.arange(start, start + n, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + ((i >> np.uint64(32)) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)

        def mix(h):
            h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
            h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
            return h ^ (h >> np.uint32(16))

        return mix(mix(i.astype(np.uint32) + z.astype(np.uint32)) ^ (z >> np.uint64(32)).astype(np.uint32))


def mask(n, p, seed):
    return (hash_of(n, seed) >> np.uint32(1)) >= np.uint32(int(p * 2**31))


def dropout(x, p, seed):
    out = np.empty_like(x)
    _core.dropout(x, p, seed, out)
    return out


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**64 - 1])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.99])
def test_mask_is_the_same_everywhere(p, seed, dtype, rng):
    for n in SIZES:
        x = rng.uniform(1, 2, n).astype(dtype)
        keep = mask(n, p, seed)
        out = dropout(x, p, seed)
        np.testing.assert_array_equal(out, np.where(keep, x * dtype(1 / (1 - p)), 0))
        np.testing.assert_array_equal(_core.dropout_mask(n, p, seed), keep)


def test_in_place_and_no_dropout(dtype, rng):
    x = rng.standard_normal(1003).astype(dtype)
    y = dropout(x, 0.3, 5)
    np.testing.assert_array_equal(dropout(x, 0.0, 5), x)
    _core.dropout(x, 0.3, 5, x)
    np.testing.assert_array_equal(x, y)


def test_nan_stays(dtype):
    assert np.isnan(dropout(np.full(100, np.nan, dtype), 0.5, 1)).all()


def test_threads(dtype, rng):
    x = rng.standard_normal(500_003).astype(dtype)
    same_for_any_threads(lambda: (dropout(x, 0.4, 99),))


def test_bad_arguments():
    x = np.ones(3)
    for p in (1.0, -0.1, 2.0, np.nan):
        with pytest.raises(ValueError, match=r"^p: expected 0 ≤ p < 1, got"):
            dropout(x, p, 0)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"^seed: expected an integer from 0 to .*, got {seed}$"):
            dropout(x, 0.5, seed)
    with pytest.raises(TypeError, match=r"^seed: expected an integer, got 'a'$"):
        dropout(x, 0.5, "a")
