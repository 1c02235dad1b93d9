"""Initialisers: their spread, and where they put it."""

import math

import numpy as np
import pytest

from fastrnn import nn
from fastrnn.nn import init

SHAPE = (300, 200)  # fan_in 200, fan_out 300
SIGMAS = [
    (lambda **k: init.normal(SHAPE, 0.05, **k), 0.05),
    (lambda **k: init.uniform(SHAPE, **k), 1 / math.sqrt(3 * 200)),
    (lambda **k: init.uniform(SHAPE, fan=50, **k), 1 / math.sqrt(3 * 50)),
    (lambda **k: init.xavier_uniform(SHAPE, **k), math.sqrt(2 / 500)),
    (lambda **k: init.xavier_normal(SHAPE, gain=2, **k), 2 * math.sqrt(2 / 500)),
    (lambda **k: init.he_uniform(SHAPE, **k), math.sqrt(2 / 200)),
    (lambda **k: init.he_normal(SHAPE, gain=1, **k), math.sqrt(1 / 200)),
    (lambda **k: init.orthogonal(SHAPE, **k), math.sqrt(1 / 300)),
    (lambda **k: init.zeros(SHAPE, **k), 0),
]


@pytest.mark.parametrize(("make", "sigma"), SIGMAS)
def test_spread_seed_and_dtype(make, sigma):
    a = make(seed=1, dtype=np.float64)
    assert a.shape == SHAPE
    # The standard error of σ over 60,000 values is 0.3%, that of the mean 0.4% of σ: five of them.
    assert abs(a.std() - sigma) <= 0.015 * sigma
    assert abs(a.mean()) <= 0.02 * sigma
    np.testing.assert_array_equal(a, make(seed=np.random.default_rng(1), dtype=np.float64))
    single = make(seed=1)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, a.astype(np.float32))
    if sigma:
        assert not np.array_equal(a, make(seed=2, dtype=np.float64))
        assert not np.array_equal(make(), make())


@pytest.mark.parametrize(
    ("function", "bound"),
    [
        (init.xavier_uniform, math.sqrt(6 / 500)),
        (init.he_uniform, math.sqrt(6 / 200)),
        (init.uniform, 1 / math.sqrt(200)),
    ],
)
def test_bounds(function, bound):
    largest = np.abs(function(SHAPE, seed=0)).max()
    assert 0.999 * bound < largest <= bound


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5), (4, 3, 2)])
def test_orthogonal(shape):
    q = init.orthogonal(shape, gain=2, dtype=np.float64, seed=0).reshape(shape[0], -1)
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-14)


def test_orthogonal_is_uniform_over_signs():
    rng = np.random.default_rng(0)
    determinants = [np.linalg.det(init.orthogonal((3, 3), dtype=np.float64, seed=rng)) for _ in range(200)]
    assert 60 < sum(d > 0 for d in determinants) < 140


def test_layers_start_as_in_pytorch():
    layer = nn.Linear(64, 500, seed=0)
    for array in layer.params.values():
        assert 0.9 / 8 < np.abs(array).max() <= 1 / 8
    assert abs(nn.Embedding(300, 200, seed=0).params["weight"].std() - 1) < 0.015
    norm = nn.LayerNorm(3)
    assert norm.params["weight"].tolist() == [1, 1, 1]
    assert norm.params["bias"].tolist() == [0, 0, 0]


def test_apply():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    live, before = model.params["1.weight"], model.state_dict()
    init.apply(model, "1.w*", init.orthogonal, seed=0)
    assert model.params["1.weight"] is live
    np.testing.assert_allclose(live @ live.T, np.eye(4), atol=1e-6)
    for name in ("0.weight", "0.bias", "1.bias"):
        np.testing.assert_array_equal(model.params[name], before[name])
    init.apply(model, "*bias", init.zeros)
    init.apply(model, "*weight", init.normal, std=3.0)
    assert not model.params["0.bias"].any()
    assert 1 < live.std() < 5
    init.apply(model, "0.weight", init.orthogonal, gates=2, gain=2)
    for gate in np.split(model.params["0.weight"], 2):
        np.testing.assert_allclose(gate @ gate.T, 4 * np.eye(4), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: init.apply(nn.Linear(2, 3), "wieght", init.zeros),
            ValueError,
            "pattern: 'wieght' matches no parameter; there are weight, bias",
        ),
        (
            lambda: init.apply(nn.Tanh(), "*", init.zeros),
            ValueError,
            "pattern: '*' matches no parameter; there are none",
        ),
        (
            lambda: init.apply(nn.Linear(2, 3), "weight", init.zeros, gates=2),
            ValueError,
            "gates: weight has shape (3, 2), whose first axis 2 does not divide",
        ),
        (
            lambda: init.xavier_uniform((3,)),
            ValueError,
            "shape: expected [out, in] for xavier_uniform, got (3,)",
        ),
        (lambda: init.uniform((3,)), ValueError, "shape: expected [out, in] for uniform without fan, got (3,)"),
        (lambda: init.normal((3,), -1), ValueError, "std: expected a number ≥ 0, got -1.0"),
        (
            lambda: init.zeros((3,), dtype=int),
            TypeError,
            "dtype: expected float32 or float64, got <class 'int'>",
        ),
        (
            lambda: init.lstm_forget_bias(nn.Linear(2, 8)),
            ValueError,
            "layer: expected an LSTM with biases, or a model that has one, got Linear",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


class FourGates(nn.Layer):
    hidden_size = 2

    def __init__(self):
        super().__init__(np.float32)
        for name in ("bias_ih_l0", "bias_hh_l0", "bias_ih_l0_reverse", "bias_hh_l0_reverse"):
            self._add_param(name, np.full(8, 0.5))


def test_lstm_forget_bias():
    model = nn.Sequential(nn.Linear(2, 2), FourGates())
    init.lstm_forget_bias(model, 1.5)
    for suffix in ("", "_reverse"):
        for kind, value in (("ih", 1.5), ("hh", 0)):
            expected = [0.5, 0.5, value, value, 0.5, 0.5, 0.5, 0.5]
            np.testing.assert_array_equal(model.params[f"1.bias_{kind}_l0{suffix}"], expected)


MATRICES = [init.xavier_uniform, init.xavier_normal, init.he_uniform, init.he_normal, init.orthogonal, init.uniform]


@pytest.mark.parametrize("initialiser", MATRICES, ids=lambda f: f.__name__)
def test_matrices_need_two_axes(initialiser):
    for shape in (5, (5,), ()):
        with pytest.raises(ValueError, match=rf"^shape: expected \[out, in\] for {initialiser.__name__}.*, got \("):
            initialiser(shape)


@pytest.mark.parametrize("initialiser", MATRICES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), [0, 4]], ids=str)
def test_empty_matrices(initialiser, shape):
    assert initialiser(shape, seed=0).shape == tuple(shape)


@pytest.mark.parametrize("initialiser", [init.zeros, init.normal, *MATRICES], ids=lambda f: f.__name__)
def test_shapes_are_integers(initialiser):
    for shape in ("ab", (2.0, 3), None):
        with pytest.raises(TypeError, match=r"^shape: expected a tuple of integers, got "):
            initialiser(shape)
    with pytest.raises(ValueError, match=r"^shape: expected sizes ≥ 0, got \(2, -1\)"):
        initialiser((2, -1))
    assert init.zeros(5).shape == init.normal(5).shape == (5,)
