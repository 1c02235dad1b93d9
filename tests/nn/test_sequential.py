"""Sequential: what goes from layer to layer, forwards and back."""

import numpy as np
import pytest

from fastrnn import nn
from tests.nn.helpers import Leaky, check_layer
from tests.reference.finite_differences import check_gradients

F64 = {"dtype": np.float64}


def stack(seed=0):
    return nn.Sequential(
        nn.Linear(3, 4, seed=seed, **F64),
        Leaky(4),
        nn.Sequential(nn.LayerNorm(4, **F64), Leaky(4, 1)),
        nn.Tanh(),
        nn.Linear(4, 2, seed=seed + 1, **F64),
    )


def test_without_recurrent_layers():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(3, 4, **F64), nn.Dropout(0.3), nn.Swish(), nn.MeanPool(), nn.Linear(4, 2, **F64))
    x = rng.standard_normal((5, 2, 3))
    assert not model.is_recurrent
    assert model.removes_time
    lengths = [5, 2]
    check_layer(model, x, dropout=False, lengths=lengths, call={"lengths": lengths})
    y, pullback = model.vjp(x, lengths=lengths, dropout=False, input_grad=False)
    assert pullback(y) is None
    assert len(model) == 5
    assert [type(layer) for layer in model][1] is type(model[1]) is nn.Dropout


def test_integers_in():
    model = nn.Sequential(nn.Embedding(7, 3, **F64), nn.Linear(3, 2, **F64), nn.MaxPool())
    check_layer(model, np.array([[1, 2], [6, 0]]), dropout=False, call={})


@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
@pytest.mark.parametrize("with_state", [False, True])
def test_recurrent_gradients(lengths, with_state):
    rng = np.random.default_rng(0)
    model, x = stack(), rng.standard_normal((4, 3, 3))
    h1, h2 = rng.standard_normal((2, 3, 4))
    state = (h1, (h2,)) if with_state else None
    (y, final), pullback = model.vjp(x, state, lengths=lengths)
    again, final_again = model(x, state, lengths=lengths)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(final[0], final_again[0])
    np.testing.assert_array_equal(final[1][0], final_again[1][0])
    dy, dfinal = rng.standard_normal(y.shape), (rng.standard_normal((3, 4)), (rng.standard_normal((3, 4)),))
    dx, (d1, (d2,)) = pullback(dy, dfinal)
    gradients = {"x": dx, **model.grads}
    inputs = {"x": x, **model.params}
    if with_state:
        inputs.update(h1=h1, h2=h2)
        gradients.update(h1=d1, h2=d2)
    check_gradients(lambda: model(x, state, lengths=lengths), inputs, (dy, dfinal), gradients)


def test_gradients_of_the_state_alone():
    rng = np.random.default_rng(0)
    model, x = stack(), rng.standard_normal((4, 3, 3))
    dfinal = (rng.standard_normal((3, 4)), None)
    _, pullback = model.vjp(x)
    dx, (d1, (d2,)) = pullback(dstate=dfinal)
    assert not model.grads["4.weight"].any()
    assert not d2.any()
    assert d1.any()
    check_gradients(lambda: model(x)[1][0], {"x": x}, dfinal[0], {"x": dx})
    _, pullback = model.vjp(x, input_grad=False)
    assert pullback(dstate=dfinal)[0] is None


def test_a_state_carried_over_equals_one_long_sequence():
    model, x = stack(), np.random.default_rng(0).standard_normal((6, 2, 3))
    whole, final = model(x)
    first, state = model(x[:4])
    second, state = model(x[4:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-14)
    np.testing.assert_allclose(state[0], final[0], rtol=1e-14)
    assert model(x, (None, None))[0].shape == whole.shape


def test_options_reach_the_layers_that_take_them():
    first, second = Leaky(3), Leaky(3)
    model = nn.Sequential(nn.Dropout(0.5), first, nn.Sequential(second))
    x = np.ones((2, 2, 3))
    model.vjp(x, seed=5, checkpoint=4, input_grad=False)
    assert first.seen["input_grad"] is False
    assert second.seen["input_grad"] is True
    assert first.seen["checkpoint"] == second.seen["checkpoint"] == 4
    assert first.seen["dropout"] is second.seen["dropout"] is True
    seeds = first.seen["seed"], second.seen["seed"]
    assert seeds[0] != seeds[1]
    model.vjp(x, seed=5)
    assert (first.seen["seed"], second.seen["seed"]) == seeds
    model.vjp(x, seed=np.random.default_rng(0))
    assert isinstance(first.seen["seed"], int)
    model.vjp(x, dropout=False, seed=5)
    assert first.seen["dropout"] is False
    assert first.seen["seed"] is None


def test_dropout_is_a_function_of_the_seed():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)), nn.Dropout(0.5))
    x = np.ones((20, 20))
    a, b, c = (model.vjp(x, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert set(np.unique(a)) == {0.0, 8.0}
    # Three independent masks leave an eighth: 50 of 400, σ = 6.6.
    assert 17 < np.count_nonzero(a) < 83
    np.testing.assert_array_equal(model(x), x)
    assert set(np.unique(model(x, dropout=True))) == {0.0, 8.0}


def test_lengths_stop_at_the_layer_that_removes_time():
    model = nn.Sequential(Leaky(3), nn.Sequential(nn.Last()), nn.Linear(3, 2, **F64), nn.Dropout(0.5))
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    y, _ = model(x, lengths=[4, 0])
    np.testing.assert_allclose(y[1], model[2].params["bias"])
    (out, _), pullback = model.vjp(x, lengths=[4, 0], dropout=False)
    dx, _ = pullback(np.ones_like(out))
    assert dx[:, 0].all()
    assert not dx[:, 1].any()


def test_one_layer_twice():
    rng = np.random.default_rng(0)
    shared = nn.Linear(3, 3, **F64)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    check_layer(model, rng.standard_normal((4, 3)), dropout=False, call={})
    assert list(model.params) == ["0.weight", "0.bias"]
    again = nn.from_spec(nn.to_spec(model))
    assert again[0] is again[2]
    assert again[0] is not shared
    nested = nn.Sequential(shared, nn.Sequential(shared))
    with pytest.raises(ValueError, match=r"config: the layer at '1.0' is shared between different"):
        nested.config()


def test_retain():
    model, x = stack(), np.ones((3, 2, 3))
    (y, _), pullback = model.vjp(x, retain=True)
    first = pullback(np.ones_like(y))[0]
    np.testing.assert_array_equal(first, pullback(np.ones_like(y))[0])
    (y, _), pullback = model.vjp(x)
    pullback(y)
    with pytest.raises(RuntimeError, match="Sequential: this pullback has already run"):
        pullback(y)


def test_bad_states_and_gradients():
    plain, model, x = nn.Sequential(nn.Tanh()), stack(), np.ones((3, 2, 3))
    with pytest.raises(ValueError, match="state: expected None, because no layer here is recurrent"):
        plain(x, (x,))
    with pytest.raises(ValueError, match="for each of the 2 recurrent layers, got an array"):
        model(x, x)
    with pytest.raises(ValueError, match="for each of the 2 recurrent layers, got a tuple of length 1"):
        model.vjp(x, (None,))
    _, pullback = model.vjp(x)
    with pytest.raises(ValueError, match="dstate: expected a tuple with one entry for each of the 2"):
        pullback(None, (None,))
    y, pullback = plain.vjp(x)
    with pytest.raises(ValueError, match="dy: expected the gradient of the output"):
        pullback()
    with pytest.raises(ValueError, match=r"dy: expected shape \(3, 2, 3\)"):
        pullback(y[0])
    assert pullback(y).shape == x.shape
