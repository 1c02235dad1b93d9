"""Sequential and init with the recurrent layers themselves."""

import numpy as np
import pytest

import fastrnn as fr
from tests.reference.finite_differences import check_gradients

F64 = {"dtype": np.float64}


def models():
    yield fr.Sequential(
        fr.Linear(3, 4, seed=0, **F64),
        fr.LSTM(4, 5, 2, bidirectional=True, seed=1, **F64),
        fr.LayerNorm(10, **F64),
        fr.GRU(10, 3, seed=2, **F64),
        fr.MeanPool(),
        fr.Linear(3, 2, seed=3, **F64),
    )
    yield fr.Sequential(fr.RNN(3, 4, seed=0, **F64), fr.Sequential(fr.Tanh(), fr.LSTM(4, 3, seed=1, **F64)), fr.Last())
    yield fr.Sequential(fr.GRU(3, 4, reset_after=False, seed=0, **F64), fr.MaxPool())


@pytest.mark.parametrize("model", list(models()), ids=["stack", "nested", "gru"])
@pytest.mark.parametrize("lengths", [None, [5, 1, 0]])
def test_gradients(model, lengths):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3, 3))
    model.zero_grads()
    (y, _), pullback = model.vjp(x, lengths=lengths)
    dy = rng.standard_normal(y.shape)
    dx, _ = pullback(dy)
    check_gradients(lambda: model(x, lengths=lengths)[0], {"x": x, **model.params}, dy, {"x": dx, **model.grads})


def test_checkpoint_and_retain_give_the_same():
    model = next(models())
    x = np.random.default_rng(0).standard_normal((5, 3, 3))
    grads = []
    for options in ({}, {"checkpoint": 2}, {"retain": True}):
        model.zero_grads()
        (y, _), pullback = model.vjp(x, **options)
        pullback(np.ones_like(y))
        grads.append({name: grad.copy() for name, grad in model.grads.items()})
    for other in grads[1:]:
        for name, grad in grads[0].items():
            np.testing.assert_array_equal(grad, other[name])


def test_one_seed_fixes_every_mask():
    model = fr.Sequential(fr.LSTM(3, 8, 2, dropout=0.5), fr.Dropout(0.5), fr.GRU(8, 8, 2, dropout=0.5))
    x = np.ones((4, 2, 3), np.float32)
    a, b, c = (model.vjp(x, seed=seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_carried_state_equals_one_long_sequence():
    model = fr.Sequential(fr.LSTM(3, 4, **F64), fr.GRU(4, 4, **F64), fr.Linear(4, 2, **F64))
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    whole, _ = model(x)
    first, state = model(x[:4])
    assert len(state) == 2
    second, _ = model(x[4:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-12)


def test_config_rebuilds_recurrent_models():
    for model in models():
        again = fr.nn.from_spec(fr.nn.to_spec(model))
        again.load_state_dict(model.state_dict())
        x = np.ones((5, 2, 3))
        np.testing.assert_array_equal(again(x)[0], model(x)[0])


def test_forget_bias_of_every_lstm_and_of_nothing_else():
    model = fr.Sequential(
        fr.LSTM(3, 4, 2, bidirectional=True, proj_size=2), fr.GRU(4, 4), fr.Linear(4, 16), fr.LSTM(16, 4)
    )
    before = model.state_dict()
    fr.init.lstm_forget_bias(model)
    for name, array in model.params.items():
        expected = before[name].copy()
        if name.startswith(("0.bias", "3.bias")):
            expected[4:8] = 1 if "bias_ih" in name else 0
        np.testing.assert_array_equal(array, expected)


def test_apply_fills_gate_by_gate():
    lstm = fr.LSTM(3, 4, 2, **F64)
    fr.init.apply(lstm, "weight_hh*", fr.init.orthogonal, gates=4)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        for gate in np.split(lstm.params[name], 4):
            np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-12)
