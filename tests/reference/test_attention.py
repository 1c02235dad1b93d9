"""The reference of attention against finite differences."""

import numpy as np
import pytest

from fastrnn import reference
from tests.reference.finite_differences import check_gradients


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_rows_without_source(rng):
    q, k, v = rng.standard_normal((3, 2, 4)), rng.standard_normal((5, 2, 4)), rng.standard_normal((5, 2, 6))
    (y, weights), pullback = reference.attention_vjp(q, k, v, num_heads=2, lengths=[0, 3], return_weights=True)
    assert not y[:, 0].any() and not weights[:, 0].any() and not weights[:, 1, :, 3:].any()
    np.testing.assert_allclose(weights[:, 1].sum(-1), 1)
    assert all(not d[:, 0].any() and d[:, 1].any() for d in pullback(np.ones_like(y)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        {"lengths": [0, 5, 3]},
        {"mask": np.random.default_rng(0).random((2, 4, 5)) < 0.6},
        {"mask": np.random.default_rng(0).standard_normal((3, 1, 1, 5)), "scale": 0.7},
        {"dropout": 0.4, "seed": 9, "lengths": [5, 2, 4]},
    ],
    ids=str,
)
def test_attention(rng, options):
    inputs = {name: rng.standard_normal((n, 3, size)) for name, n, size in (("q", 4, 6), ("k", 5, 6), ("v", 5, 8))}
    y, pullback = reference.attention_vjp(**inputs, num_heads=2, **options)
    dy = rng.standard_normal(y.shape)
    gradients = dict(zip("qkv", pullback(dy), strict=True))
    check_gradients(lambda: reference.attention_vjp(**inputs, num_heads=2, **options)[0], inputs, dy, gradients)


@pytest.mark.parametrize("lengths", [None, [0, 5, 3]])
def test_additive_attention(rng, lengths):
    shapes = {"q": (4, 3, 6), "k": (5, 3, 6), "v": (6,), "x": (5, 3, 2)}
    inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    (y, _), pullback = reference.additive_attention_vjp(**inputs, lengths=lengths)
    dy = rng.standard_normal(y.shape)
    gradients = dict(zip("qkvx", pullback(dy), strict=True))
    check_gradients(lambda: reference.additive_attention(**inputs, lengths=lengths), inputs, dy, gradients)
