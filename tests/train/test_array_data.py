"""Batches of the rows of arrays."""

import numpy as np
import pytest

import fastrnn as fr

X = np.arange(10.0).reshape(5, 2)


def test_each_row_comes_once_with_what_belongs_to_it():
    data = fr.ArrayBatches(X, np.arange(5), batch_size=2, weight=[0, 1, 2, 3, 4], seed=1)
    orders = []
    for _ in range(3):
        batches = list(data)
        assert [len(b.x) for b in batches] == [2, 2, 1] and len(data) == 3
        orders.append(np.concatenate([b.target for b in batches]).tolist())
        assert sorted(orders[-1]) == [0, 1, 2, 3, 4]
        for b in batches:
            np.testing.assert_array_equal(b.x, X[b.target])
            np.testing.assert_array_equal(b.weight, b.target)
            assert b.lengths is None
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] == np.concatenate([b.target for b in fr.ArrayBatches(X, range(5), batch_size=2, seed=1)]).tolist()


def test_options():
    data = fr.ArrayBatches(X, batch_size=2, shuffle=False, drop_last=True, dtype=np.float32)
    batches = list(data)
    assert len(data) == len(batches) == 2 and batches[0].target is None and batches[0].weight is None
    assert batches[0].x.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([b.x for b in batches]), X[:4])


def test_they_go_on_in_the_middle():
    def epochs(data, count):
        return [b.x[:, 0].tolist() for _ in range(count) for b in data]

    expected, data, seen = (
        epochs(fr.ArrayBatches(X, batch_size=1, seed=3), 2),
        fr.ArrayBatches(X, batch_size=1, seed=3),
        [],
    )
    for b in data:
        seen.append(b.x[:, 0].tolist())
        if len(seen) == 3:
            break
    again = fr.ArrayBatches(X, batch_size=1, seed=99)
    again.load_state_dict(data.state_dict())
    assert seen + epochs(again, 2) == expected


def test_fit_takes_them():
    model = fr.Linear(2, 1, seed=0)
    data = fr.ArrayBatches(X, X.sum(1, keepdims=True).astype(np.float32), batch_size=5, dtype=np.float32)
    history = fr.fit(
        model, data, lambda y, t: fr.losses.mse(y, t), fr.optim.Adam(model, lr=0.1), epochs=200, progress=False
    )
    assert history.epochs[-1]["loss"] < 0.01 * history.epochs[0]["loss"]


@pytest.mark.parametrize("make, error, message", [
    (lambda: fr.ArrayBatches(1.0, batch_size=2), ValueError, r"^x: expected an array \[N, ...\] with N ≥ 1, got"),
    (lambda: fr.ArrayBatches([], batch_size=2), ValueError, r"^x: .* got shape \(0,\)$"),
    (lambda: fr.ArrayBatches(X, [1], batch_size=2), ValueError, r"^target: expected 5 rows, .* got shape \(1,\)$"),
    (lambda: fr.ArrayBatches(X, weight=1, batch_size=2), ValueError, r"^weight: expected 5 rows, .* got shape \(\)$"),
    (lambda: fr.ArrayBatches(X, batch_size=0), ValueError, "^batch_size: expected a positive integer, got 0$"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
