import numpy as np
import pytest

from fastrnn import _core
from tests.ops.helpers import same_for_any_threads


@pytest.mark.parametrize("N", [0, 1, 17, 1000])
@pytest.mark.parametrize("E", [1, 15, 16, 17, 33, 300])
def test_values(N, E, dtype, rng):
    V = 11
    weight, idx = rng.standard_normal((V, E)).astype(dtype), rng.integers(0, V, N)
    out = np.empty((N, E), dtype)
    _core.embedding_forward(weight, idx, out)
    np.testing.assert_array_equal(out, weight[idx])
    dweight = rng.standard_normal((V, E)).astype(dtype)
    expected = dweight.copy()
    np.add.at(expected, idx, out)  # in the order of idx, so even the bits agree
    _core.embedding_backward(out, idx, dweight)
    np.testing.assert_array_equal(dweight, expected)


@pytest.mark.parametrize(("V", "E"), [(50, 8), (3, 16), (50, 600), (1, 33)])
def test_threads(V, E, dtype, rng):
    idx = rng.integers(0, V, 30_000 if E < 100 else 4000)
    dy = rng.standard_normal((idx.size, E)).astype(dtype)
    weight = rng.standard_normal((V, E)).astype(dtype)

    def run():
        dweight, out = np.zeros((V, E), dtype), np.empty_like(dy)
        _core.embedding_forward(weight, idx, out)
        _core.embedding_backward(dy, idx, dweight)
        return dweight, out

    same_for_any_threads(run)


@pytest.mark.parametrize("value", [-1, 4, 2**62, -(2**63)])
def test_index_out_of_range(value, dtype):
    weight, rows = np.ones((4, 3), dtype), np.full((2, 3), 7, dtype)
    idx = np.array([3, value])
    message = f"^idx: expected integers from 0 to 3, got {value} at position 1$"
    with pytest.raises(ValueError, match=message):
        _core.embedding_forward(weight, idx, rows)
    np.testing.assert_array_equal(rows, 7)
    with pytest.raises(ValueError, match=message):
        _core.embedding_backward(rows, idx, weight)
    np.testing.assert_array_equal(weight, 1)
