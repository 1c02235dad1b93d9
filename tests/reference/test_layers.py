"""Linear, embedding, layer normalisation, dropout and pooling."""

import numpy as np
import pytest

from fastrnn import reference

from .finite_differences import assert_close, check_gradients


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear(shape, with_bias):
    x, params = random(*shape), {"weight": random(5, 3, seed=1)}
    if with_bias:
        params["bias"] = random(5, seed=2)
    dy = random(*shape[:-1], 5, seed=3)
    y, pullback = reference.linear_vjp(x, **params)
    assert_close(y, np.einsum("oi,...i->...o", params["weight"], x) + params.get("bias", 0), 1e-14)
    dx, grads = pullback(dy)
    grads = grads._asdict()
    if not with_bias:
        assert grads.pop("bias") is None
    check_gradients(lambda: reference.linear(x, **params), {"x": x, **params}, dy, {"x": dx, **grads})
    without, again = reference.linear_vjp(x, **params, input_grad=False)[1](dy)
    assert without is None
    np.testing.assert_array_equal(again.weight, grads["weight"])


def test_embedding():
    indices, weight, dy = np.array([[3, 0], [3, 3], [1, 0]]), random(5, 2), random(3, 2, 2, seed=1)
    y, pullback = reference.embedding_vjp(indices, weight)
    np.testing.assert_array_equal(y[1, 0], weight[3])
    dx, grads = pullback(dy)
    assert dx is None and not grads.weight[[2, 4]].any()
    check_gradients(lambda: reference.embedding(indices, weight), {"weight": weight}, dy, grads._asdict())
    assert_close(grads.weight[3], dy[0, 0] + dy[1, 0] + dy[1, 1], 1e-15)


@pytest.mark.parametrize("indices, error", [([5], ValueError), ([-1], ValueError), ([0.0], TypeError)])
def test_embedding_bad_indices(indices, error):
    with pytest.raises(error, match="indices: expected"):
        reference.embedding(indices, random(5, 2))


@pytest.mark.parametrize("names", [(), ("weight",), ("bias",), ("weight", "bias")])
def test_layer_norm(names):
    x, dy = 3 + random(2, 3, 5), random(2, 3, 5, seed=1)
    params = {name: random(5, seed=2 + k) for k, name in enumerate(names)}
    y, pullback = reference.layer_norm_vjp(x, **params, eps=0.1)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 0.1) * params.get("weight", 1) + params.get("bias", 0)
    assert_close(y, expected, 1e-13)
    dx, grads = pullback(dy)
    grads = {n: g for n, g in grads._asdict().items() if g is not None}
    check_gradients(lambda: reference.layer_norm(x, **params, eps=0.1), {"x": x, **params}, dy, {"x": dx, **grads})


def test_layer_norm_of_a_constant_and_of_large_numbers():
    assert reference.layer_norm(np.full(4, 7.0)).tolist() == [0, 0, 0, 0]
    x = random(8)
    assert_close(reference.layer_norm(1e6 + x), reference.layer_norm(x), 1e-8)  # 1e6 costs x ten digits of 16


def test_dropout():
    x, dy = random(3, 4), random(3, 4, seed=1)
    mask = np.where(random(3, 4, seed=2) > 0, 1.25, 0.0)
    y, pullback = reference.dropout_vjp(x, mask)
    np.testing.assert_array_equal(y, x * mask)
    assert (y == 0).any() and (y != 0).any()
    check_gradients(lambda: reference.dropout(x, mask), {"x": x}, dy, {"x": pullback(dy)})


POOLS = ["last", "mean_pool", "max_pool"]
LENGTHS = [2, 0, 4]


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_pooling(name, lengths):
    x, dy = random(4, 3, 2), random(3, 2, seed=1)
    pool, pool_vjp = getattr(reference, name), getattr(reference, name + "_vjp")
    y, pullback = pool_vjp(x, lengths=lengths)
    dx = pullback(dy)
    np.testing.assert_array_equal(pool(x, lengths=lengths), y)
    by_definition = {
        "last": lambda a: a[-1],
        "mean_pool": lambda a: a.mean(0),
        "max_pool": lambda a: a.max(0),
    }[name]
    for b, n in enumerate(lengths or [4] * 3):
        assert_close(y[b], by_definition(x[:n, b]) if n else np.zeros(2), 1e-15)
    check_gradients(lambda: pool(x, lengths=lengths), {"x": x}, dy, {"x": dx})

    swapped_y, swapped_pullback = pool_vjp(x.swapaxes(0, 1), lengths=lengths, batch_first=True)
    np.testing.assert_array_equal(swapped_y, y)
    np.testing.assert_array_equal(swapped_pullback(dy).swapaxes(0, 1), dx)
    n = 4 if lengths is None else lengths[0]
    alone_y, alone_pullback = pool_vjp(x[:, 0], lengths=n)
    np.testing.assert_array_equal(alone_y, y[0])
    np.testing.assert_array_equal(alone_pullback(dy[0]), dx[:, 0])


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooling_padding_nan_and_dtype(name, dtype):
    x = random(4, 3, 2).astype(dtype)
    pool_vjp = getattr(reference, name + "_vjp")
    y, _ = pool_vjp(x, lengths=LENGTHS)
    for b, n in enumerate(LENGTHS):
        x[n:, b] = np.nan
    padded_y, pullback = pool_vjp(x, lengths=LENGTHS)
    np.testing.assert_array_equal(padded_y, y)
    dx = pullback(np.ones_like(y))
    assert y.dtype == dx.dtype == dtype and dx.shape == x.shape
    assert all(not dx[n:, b].any() for b, n in enumerate(LENGTHS))
    np.testing.assert_array_equal(dx.sum(0)[[0, 2]], np.ones((2, 2)))
    x[1, 0, 0] = np.nan  # in a valid step: it must show, in its own row and feature
    np.testing.assert_array_equal(np.isnan(pool_vjp(x, lengths=LENGTHS)[0]), [[True, False], [False] * 2, [False] * 2])


def test_max_pool_tie_goes_to_the_first():
    _, pullback = reference.max_pool_vjp(np.array([[1.0], [2.0], [2.0]]))
    assert pullback(np.array([3.0])).tolist() == [[0], [3], [0]]


@pytest.mark.parametrize("name", POOLS)
def test_pooling_needs_a_step(name):
    with pytest.raises(ValueError, match="T = 0"):
        getattr(reference, name)(np.zeros((0, 2, 3)))
