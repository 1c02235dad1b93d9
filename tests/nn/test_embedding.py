"""Embedding: padding, lazy rows equal to dense ones."""

import numpy as np
import pytest

from fastrnn import nn


def test_looks_rows_up():
    table = nn.Embedding(5, 3, seed=0)
    for x in (
        [[1, 2], [4, 1]],
        np.array([3], np.uint8),
        np.array(2),
        np.arange(4)[::-2],
        np.zeros((0, 2), int),
    ):
        y = table(x)
        np.testing.assert_array_equal(y, table.params["weight"][np.asarray(x)])
        assert not np.shares_memory(y, table.params["weight"])
    assert table([]).shape == (0, 3)


def test_padding_row_starts_as_zeros_and_gets_no_gradient():
    for lazy in (False, True):
        table = nn.Embedding(5, 3, padding_idx=2, lazy=lazy, seed=0)
        assert not table.params["weight"][2].any()
        y, pullback = table.vjp([[1, 2], [2, 4]])
        pullback(np.ones_like(y))
        np.testing.assert_array_equal(table.grads["weight"].sum(1), [0, 3, 0, 0, 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lazy_equals_dense(dtype):
    rng = np.random.default_rng(0)
    dense = nn.Embedding(50, 4, dtype=dtype, seed=0)
    lazy = nn.Embedding(50, 4, lazy=True, dtype=dtype, seed=0)
    assert dense.touched == {}
    for _ in range(3):
        used = set()
        np.testing.assert_array_equal(lazy.touched["weight"], [])
        for _ in range(2):
            x = rng.integers(0, 50, (3, 4))
            used |= set(x.ravel().tolist())
            for table in (dense, lazy):
                y, pullback = table.vjp(x)
                pullback(np.cos(y))
            assert lazy.touched["weight"].tolist() == sorted(used)
        np.testing.assert_array_equal(lazy.grads["weight"], dense.grads["weight"])
        assert lazy.touched["weight"].dtype == np.int64
        for table in (dense, lazy):
            table.zero_grads()
            assert not table.grads["weight"].any()


def test_lazy_clears_touched_rows_alone():
    table = nn.Embedding(10, 2, lazy=True)
    y, pullback = table.vjp([3])
    pullback(y)
    table.grads["weight"][5] = 7
    table.zero_grads()
    np.testing.assert_array_equal(np.flatnonzero(table.grads["weight"].any(1)), [5])


def test_touched_of_a_model_has_dotted_names():
    model = nn.Sequential(nn.Embedding(10, 2, lazy=True), nn.MeanPool(), nn.Linear(2, 1))
    y, pullback = model.vjp(np.array([[4], [9]]))
    assert pullback(y) is None
    assert {name: rows.tolist() for name, rows in model.touched.items()} == {"0.weight": [4, 9]}
    model.zero_grads()
    assert model.touched["0.weight"].size == 0
