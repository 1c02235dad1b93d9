"""Every layer and option against central finite differences in float64."""

import numpy as np
import pytest

from fastrnn import nn
from tests.nn.helpers import check_layer

DOUBLE = {"dtype": np.float64}


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (5, 3), (4, 2, 3), (0, 3), (2, 0, 3)])
def test_linear(rng, shape, bias):
    check_layer(nn.Linear(3, 4, bias=bias, seed=0, **DOUBLE), rng.standard_normal(shape))


def test_linear_accepts_any_strides(rng):
    layer = nn.Linear(3, 4, seed=0, **DOUBLE)
    x = rng.standard_normal((6, 5, 4))
    for view in (
        x.T[:, :, ::2][:3, 1].T,
        x.transpose(1, 2, 0)[..., ::-2],
        np.broadcast_to(x[:3, 0, 0], (7, 3)),
    ):
        assert view.shape[-1] == 3
        y, pullback = layer.vjp(view)
        expected, pull_expected = layer.vjp(view.copy())
        np.testing.assert_array_equal(y, expected)
        dy = rng.standard_normal((*y.shape[:-1], 8))[..., ::2]
        np.testing.assert_array_equal(pullback(dy), pull_expected(dy.copy()))


def test_inputs_may_be_read_only(rng):
    x = rng.standard_normal((4, 3))
    dy = rng.standard_normal((4, 3))
    x.flags.writeable = dy.flags.writeable = False
    layers = [nn.Linear(3, 3, **DOUBLE), nn.LayerNorm(3, **DOUBLE), nn.Dropout(0.5), nn.Softmax()]
    layers += [nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.LeakyReLU(), nn.Swish()]
    for layer in layers:
        _, pullback = layer.vjp(x)
        assert pullback(dy).shape == x.shape


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (0,)])
def test_embedding(rng, shape, padding_idx, lazy):
    layer = nn.Embedding(5, 3, padding_idx=padding_idx, lazy=lazy, seed=0, **DOUBLE)
    x = rng.integers(0, 5, shape)
    if padding_idx is not None:
        x = np.where(x == padding_idx, 0, x)  # that row's gradient is zero by decree: tested apart
    check_layer(layer, np.asarray(x))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (0, 5)])
def test_layer_norm(rng, shape):
    layer = nn.LayerNorm(5, 1e-3, **DOUBLE)
    layer.params["weight"] = rng.standard_normal(5)
    layer.params["bias"] = rng.standard_normal(5)
    check_layer(layer, rng.standard_normal(shape))


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_dropout(rng, p):
    layer = nn.Dropout(p)
    check_layer(layer, rng.standard_normal((4, 5)), dropout=True, seed=7)
    check_layer(layer, rng.standard_normal((4, 5)), dropout=False)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Sigmoid(),
        nn.Tanh(),
        nn.ReLU(),
        nn.LeakyReLU(),
        nn.LeakyReLU(-0.3),
        nn.Swish(),
        nn.Swish(1.7),
        nn.Softmax(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 2), (0, 4)])
def test_activations(rng, layer, shape):
    check_layer(layer, rng.standard_normal(shape))


@pytest.mark.parametrize("kind", [nn.Last, nn.MeanPool, nn.MaxPool])
@pytest.mark.parametrize("lengths", [None, [4, 1, 0, 3]])
@pytest.mark.parametrize("batch_first", [True, False])
def test_pools(rng, kind, lengths, batch_first):
    x = rng.standard_normal((4, 4, 3))
    check_layer(kind(batch_first=batch_first), x, lengths=lengths)
    if lengths is None:
        check_layer(kind(batch_first=batch_first), x[0])
    else:
        check_layer(kind(batch_first=batch_first), x[0], lengths=3)


def test_without_input_grad(rng):
    x = rng.standard_normal((4, 2, 3))
    layers = [
        nn.Linear(3, 2, **DOUBLE),
        nn.LayerNorm(3, **DOUBLE),
        nn.Dropout(0.5),
        nn.Softmax(),
        nn.Sigmoid(),
    ]
    for layer in [*layers, nn.Last(), nn.MeanPool(), nn.MaxPool()]:
        y, pullback = layer.vjp(x, input_grad=False)
        assert pullback(np.ones_like(y)) is None
        for grad in layer.grads.values():
            assert grad.any()


def test_gradients_add_up(rng):
    layer, x = nn.Linear(3, 2, **DOUBLE), rng.standard_normal((4, 3))
    y, pullback = layer.vjp(x, retain=True)
    dy = rng.standard_normal(y.shape)
    pullback(dy)
    once = {name: grad.copy() for name, grad in layer.grads.items()}
    pullback(dy)
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-14)
    layer.zero_grads()
    assert not any(grad.any() for grad in layer.grads.values())
