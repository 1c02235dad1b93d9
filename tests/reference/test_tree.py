"""Recursive networks over trees: hand-made values, finite differences, PyTorch."""

import numpy as np
import pytest

from fastrnn import reference
from fastrnn.reference.activations import sigmoid

from .finite_differences import assert_close, check_gradients

# two trees: ((0 1) (2 3)) with one more level on the left, and one node; an only child, three children
BINARY = [[], [], [0, 1], [], [], [3, 4], [2, 5], [], [6, 7], []]
ANY = [[], [0], [], [], [1, 2, 3], [], [4, 5], []]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_recursive_net(nonlinearity, with_bias):
    leaves = sum(not below for below in BINARY)
    params = {"weight": random(3, 6, seed=1)} | ({"bias": random(3, seed=2)} if with_bias else {})
    x, dh = random(leaves, 3), random(len(BINARY), 3, seed=3)
    h, pullback = reference.recursive_net_vjp(x, BINARY, **params, nonlinearity=nonlinearity)
    dx, grads = pullback(dh)
    grads = {name: g for name, g in grads._asdict().items() if g is not None}
    assert set(grads) == set(params)

    def forward():
        return reference.recursive_net(x, BINARY, **params, nonlinearity=nonlinearity)

    check_gradients(forward, {"x": x, **params}, dh, {"x": dx, **grads})
    phi = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": sigmoid}[nonlinearity]
    z = params["weight"] @ np.concatenate([x[0], x[1]]) + params.get("bias", 0)
    assert_close(h[2], phi(z), 1e-14)


@pytest.mark.parametrize("children, slots", [(ANY, 0), (BINARY, 0), (BINARY, 2), (ANY, 3), (ANY, 4)])
@pytest.mark.parametrize("on_leaves", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_tree_lstm(children, slots, on_leaves, with_bias):
    I, H = 2, 3
    rows = sum(not below for below in children) if on_leaves else len(children)
    shape = ((3 + slots) * H, slots * H) if slots else (4 * H, H)
    params = {"weight_ih": random(4 * H, I, seed=1), "weight_hh": random(*shape, seed=2)}
    if with_bias:
        params["bias"] = random(4 * H, seed=3)
    x, dh = random(rows, I), random(len(children), H, seed=4)
    _, pullback = reference.tree_lstm_vjp(x, children, **params, slots=slots)
    dx, grads = pullback(dh)
    grads = {name: g for name, g in grads._asdict().items() if g is not None}

    def forward():
        return reference.tree_lstm(x, children, **params, slots=slots)

    check_gradients(forward, {"x": x, **params}, dh, {"x": dx, **grads})


def test_a_chain_is_an_lstm():
    """Each node's one child is the step before: both kinds are the LSTM that stands in every textbook."""
    T, I, H = 6, 2, 3
    chain = [[], *([t] for t in range(T - 1))]
    x, W, U, b = random(T, I), random(4 * H, I, seed=1), random(4 * H, H, seed=2), random(4 * H, seed=3)
    expected = reference.lstm(x, None, W, U, b, np.zeros(4 * H))[0]
    for slots in (0, 1):
        assert_close(reference.tree_lstm(x, chain, W, U, b, slots=slots), expected, 1e-14)


def test_child_sum_forgets_the_order_and_nary_does_not():
    swapped = [list(reversed(below)) for below in BINARY]
    x, W, U, b = random(len(BINARY), 2), random(12, 2, seed=1), random(12, 3, seed=2), random(12, seed=3)
    assert_close(reference.tree_lstm(x, BINARY, W, U, b), reference.tree_lstm(x, swapped, W, U, b), 1e-14)
    U = random(15, 6, seed=4)
    h, other = (reference.tree_lstm(x, c, W, U, b, slots=2) for c in (BINARY, swapped))
    assert np.abs(h[2] - other[2]).max() > 0.01
