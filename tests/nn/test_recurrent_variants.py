"""Layers with variants: bad input, names, files, copies, models."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn as fr

LSTM = {"peephole": True, "layer_norm": True, "zoneout": (0.1, 0.2), "clip": 3.0, "forget_bias": 1.0}
LAYERS = {
    "lstm": lambda: fr.LSTM(3, 5, 2, bidirectional=True, seed=0, **LSTM),
    "coupled": lambda: fr.LSTM(
        3, 5, coupled=True, peephole=True, activations=("sigmoid", ("elu", 0.5), "tanh"), seed=0
    ),
    "gru": lambda: fr.GRU(3, 5, layer_norm=True, zoneout=0.2, recurrent_dropout=0.1, reset_after=False, seed=0),
    "rnn": lambda: fr.RNN(3, 5, activations=("leaky_relu", 0.3), input_dropout=0.2, weight_dropout=0.1, seed=0),
    "leaky": lambda: fr.RNN(3, 5, nonlinearity="leaky_relu", layer_norm=True, seed=0),
}
each = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def x_of(steps=7, batch=4):
    return np.random.default_rng(0).standard_normal((steps, batch, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fr.LSTM(3, 5, peephole="yes"), TypeError, "peephole: expected True or False"),
        (lambda: fr.LSTM(3, 5, coupled=2), TypeError, "coupled: expected True or False"),
        (lambda: fr.LSTM(3, 5, clip=0), ValueError, "clip: expected a number > 0"),
        (lambda: fr.GRU(3, 5, clip=np.inf), ValueError, "clip: expected a finite number"),
        (lambda: fr.LSTM(3, 5, forget_bias="one"), TypeError, "forget_bias: expected a number"),
        (lambda: fr.LSTM(3, 5, forget_bias=1, coupled=True), ValueError, "forget_bias: expected None, since coupled"),
        (lambda: fr.LSTM(3, 5, forget_bias=1, bias=False), ValueError, "forget_bias: expected None, since bias=False"),
        (lambda: fr.RNN(3, 5, layer_norm=None), TypeError, "layer_norm: expected True or False"),
        (lambda: fr.LSTM(3, 5, zoneout=(0.1,)), ValueError, "zoneout: expected a number or 2 of them"),
        (lambda: fr.LSTM(3, 5, zoneout=(0.1, 1.0)), ValueError, "zoneout: expected 0 ≤ zoneout < 1"),
        (lambda: fr.GRU(3, 5, recurrent_dropout=-0.1), ValueError, "recurrent_dropout: expected 0 ≤"),
        (lambda: fr.GRU(3, 5, input_dropout=1.0), ValueError, "input_dropout: expected 0 ≤"),
        (lambda: fr.RNN(3, 5, weight_dropout="half"), TypeError, "weight_dropout: expected a number"),
        (lambda: fr.LSTM(3, 5, activations=("tanh",)), ValueError, "activations: expected 3 of them"),
        (lambda: fr.LSTM(3, 5, activations=7), ValueError, "activations: expected 3 of them"),
        (lambda: fr.GRU(3, 5, activations=("tanh", "gelu")), ValueError, "activations: expected one of identity"),
        (lambda: fr.RNN(3, 5, nonlinearity="relu", activations="elu"), ValueError, "activations: expected without"),
    ],
)
def test_constructor_refuses(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"reset_mask": np.ones((7, 4))}, TypeError, "reset_mask: expected bool [7, 4]"),
        ({"reset_mask": np.ones((4, 7), bool)}, ValueError, "reset_mask: expected bool [7, 4]"),
        ({"reset_state": np.ones((1, 4, 5), np.float32)}, ValueError, "reset_state: expected with reset_mask"),
        ({"reset_mask": np.ones((7, 4), bool), "reset_state": np.ones((4, 5), np.float32)}, ValueError, "reset_state"),
        ({"return_all_states": "all"}, TypeError, "return_all_states: expected True or False"),
    ],
)
def test_call_refuses(given, error, message):
    layer = fr.GRU(3, 5, seed=0)
    for call in (layer, layer.vjp):
        with pytest.raises(error) as caught:
            call(x_of(), **given)
        assert str(caught.value).startswith(message)


def test_names_and_initial_values():
    layer = LAYERS["lstm"]()
    names = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole", "gain_ih", "gain_hh", "gain_c", "bias_c"}
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert set(layer.state_dict()) == {name + suffix for name in names for suffix in suffixes}
    for suffix in suffixes:
        assert (layer.params["bias_ih" + suffix][5:10] == 1).all()
        assert not layer.params["bias_hh" + suffix][5:10].any()
        assert (layer.params["gain_ih" + suffix] == 1).all()
        assert not layer.params["bias_c" + suffix].any()


@each
def test_files_and_copies(make, tmp_path):
    layer, x = make(), x_of()
    fr.save(layer, tmp_path / "layer.safetensors")
    for other in (fr.load(tmp_path / "layer.safetensors"), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.config() == layer.config()
        np.testing.assert_array_equal(other(x)[0], layer(x)[0])
        found, right = other.vjp(x, seed=2)[0][0], layer.vjp(x, seed=2)[0][0]
        np.testing.assert_array_equal(found, right)


class Episodes(fr.Model):
    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.out = rnn, fr.Linear(5, 1, seed=1)

    def forward(self, x, begins):
        return self.out(self.rnn(x, reset_mask=begins)[0])


def test_resets_in_a_model():
    layer, x = fr.LSTM(3, 5, layer_norm=True, seed=0), x_of()
    model, begins = Episodes(layer), np.random.default_rng(1).random((7, 4)) < 0.3
    (y, _), pullback = layer.vjp(x, reset_mask=begins)
    z, back = model.out.vjp(y)
    loss, dz = fr.losses.mse(z, np.zeros_like(z))
    pullback(back(dz))
    right = {name: grad.copy() for name, grad in layer.grads.items()}
    found, grads = fr.value_and_grad(lambda begins: fr.losses.mse(model(x, begins), np.zeros_like(z)), model)(begins)
    assert found == loss
    for name, grad in right.items():
        np.testing.assert_allclose(grads["rnn." + name], grad, rtol=1e-6, atol=1e-9)


@each
def test_fit_in_a_sequential(make):
    layer = make()
    wide = layer(x_of())[0].shape[-1]
    model, x = fr.Sequential(layer, fr.Linear(wide, 1, seed=1)), x_of()
    target = np.cumsum(x[..., :1], 0) / 3
    history = fr.fit(
        model, [(x, target)], loss=fr.losses.mse, optimizer=fr.optim.Adam(model, lr=0.01), epochs=30, seed=0
    )
    losses = [epoch["loss"] for epoch in history.epochs]
    assert losses[-1] < 0.8 * losses[0]
