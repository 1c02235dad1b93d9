"""Dropout: masks are functions of the seed."""

import numpy as np
import pytest

from fastrnn import nn


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_seed_same_mask(dtype):
    layer, x = nn.Dropout(0.3), np.ones((50, 40), dtype)
    a, pullback = layer.vjp(x, seed=3)
    np.testing.assert_array_equal(a, layer.vjp(x, seed=3)[0])
    np.testing.assert_array_equal(a, layer(x, dropout=True, seed=3))
    np.testing.assert_array_equal(a, pullback(x))
    assert not np.array_equal(a, layer.vjp(x, seed=4)[0])
    assert not np.array_equal(layer.vjp(x)[0], layer.vjp(x)[0])
    np.testing.assert_array_equal(
        layer.vjp(x, seed=np.random.default_rng(1))[0], layer.vjp(x, seed=np.random.default_rng(1))[0]
    )
    rng = np.random.default_rng(1)
    assert not np.array_equal(layer.vjp(x, seed=rng)[0], layer.vjp(x, seed=rng)[0])
    assert layer.vjp(x, seed=2**80)[0].shape == x.shape


def test_share_and_scale():
    y = nn.Dropout(0.3)(np.ones(100_000), dropout=True, seed=0)
    kept = y != 0
    # σ of the share is √(0.3·0.7/1e5) = 0.0014; four of them.
    assert abs(kept.mean() - 0.7) < 0.006
    np.testing.assert_allclose(y[kept], 1 / 0.7, rtol=1e-15)
    neighbours = np.corrcoef(kept[:-1], kept[1:])[0, 1]
    assert abs(neighbours) < 0.013


def test_identity_without_dropout():
    x = np.ones((3, 2))
    for layer, options in ((nn.Dropout(0.5), {"dropout": False}), (nn.Dropout(0), {"dropout": True})):
        assert layer(x, **options) is x
        y, pullback = layer.vjp(x, **options)
        assert y is x
        assert pullback(x) is x
    assert nn.Dropout(0.5)(x) is x


def test_bad_seed():
    with pytest.raises(ValueError, match="seed: expected None, an int ≥ 0 or a numpy Generator, got -3"):
        nn.Dropout(0.5).vjp(np.ones(3), seed=-3)
