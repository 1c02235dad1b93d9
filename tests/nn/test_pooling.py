"""Pools against the plain loops that define them, and what padding may hold."""

import numpy as np
import pytest

from fastrnn import nn

REDUCTIONS = [
    (nn.Last, lambda row: row[-1]),
    (nn.MeanPool, lambda row: row.mean(0)),
    (nn.MaxPool, lambda row: row.max(0)),
]


@pytest.mark.parametrize(("kind", "reduction"), REDUCTIONS)
@pytest.mark.parametrize("lengths", [None, [5, 2, 0, 1], [0, 0, 0, 0]])
def test_equals_the_loop(kind, reduction, lengths):
    x = np.random.default_rng(0).standard_normal((5, 4, 3))
    rows = [5] * 4 if lengths is None else lengths
    expected = np.stack([reduction(x[:n, b]) if n else np.zeros(3) for b, n in enumerate(rows)])
    if lengths is not None:
        for b, n in enumerate(lengths):
            x[n:, b] = np.nan
    np.testing.assert_allclose(kind()(x, lengths=lengths), expected, rtol=1e-14)
    swapped = np.ascontiguousarray(x.swapaxes(0, 1))
    np.testing.assert_allclose(kind(batch_first=True)(swapped, lengths=lengths), expected, rtol=1e-14)
    for b, n in enumerate(rows):
        one = kind()(x[:, b], lengths=None if lengths is None else [n])
        np.testing.assert_allclose(one, expected[b], rtol=1e-14)
    y, pullback = kind().vjp(x, lengths=lengths)
    dx = pullback(np.ones_like(y))
    for b, n in enumerate(rows):
        assert not dx[n:, b].any()
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("kind", [nn.Last, nn.MeanPool, nn.MaxPool])
def test_empty_batch(kind):
    for lengths in (None, []):
        y, pullback = kind().vjp(np.ones((3, 0, 2)), lengths=lengths)
        assert y.shape == (0, 2)
        assert pullback(y).shape == (3, 0, 2)


def test_max_gives_the_gradient_to_the_first_and_keeps_infinities():
    x = np.array([[1.0], [3.0], [3.0]])[:, None]
    y, pullback = nn.MaxPool().vjp(x)
    assert pullback(np.ones_like(y)).ravel().tolist() == [0, 1, 0]
    low = np.full((2, 1, 1), -np.inf)
    assert nn.MaxPool()(low, lengths=[1]) == -np.inf
    assert np.isnan(nn.MaxPool()(np.array([[[0.0]], [[np.nan]]])))


@pytest.mark.parametrize("kind", [nn.Last, nn.MeanPool, nn.MaxPool])
def test_result_owns_its_memory(kind):
    x = np.ones((3, 2, 2))
    assert not np.shares_memory(kind()(x), x)
