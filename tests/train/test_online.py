"""`fr.train.online` makes the steps of the loop that it replaces."""

import numpy as np
import pytest

import fastrnn as fr


def model_of(cell, dtype, bias=True, seed=0):
    kinds = {"rnn": fr.RNN, "lstm": fr.LSTM, "gru": fr.GRU}
    options = {"reset_after": False} if cell == "gru" else {"nonlinearity": "relu"} if cell == "rnn" else {}
    rnn = kinds[cell](3, 17, bias=bias, dtype=dtype, seed=seed, **options)
    return fr.Sequential(rnn, fr.Linear(17, 2, bias=bias, dtype=dtype, seed=seed))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 9])
def test_same_steps_as_the_loop(cell, dtype, bias, batch):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((30, 5, batch, 3)).astype(dtype)
    target = rng.integers(0, 2, (30, 5, batch, 2)).astype(dtype)
    ours, loop = model_of(cell, dtype, bias), model_of(cell, dtype, bias)
    losses = fr.train.online(ours, x, target, lr=0.3)
    sgd = fr.optim.SGD(loop, lr=0.3)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for k in range(len(x)):
        (logits, _), pullback = loop.vjp(x[k], input_grad=False)
        loss, dlogits = fr.losses.bce_with_logits(logits, target[k])
        np.testing.assert_allclose(losses[k], loss, rtol=tolerance)
        loop.zero_grads()
        pullback(dlogits)
        sgd.step()
    for name, p in loop.params.items():
        np.testing.assert_allclose(ours.params[name], p, rtol=0, atol=tolerance * abs(p).max())
        assert not np.array_equal(p, model_of(cell, dtype, bias).params[name])


def test_nothing_to_do():
    model = model_of("lstm", np.float32)
    before = model.state_dict()
    assert (
        fr.train.online(model, np.empty((0, 5, 1, 3), np.float32), np.empty((0, 5, 1, 2), np.float32), lr=1).size == 0
    )
    none = fr.train.online(model, np.empty((4, 5, 0, 3), np.float32), np.empty((4, 5, 0, 2), np.float32), lr=1)
    assert none.tolist() == [0] * 4
    for name, p in model.params.items():
        np.testing.assert_array_equal(p, before[name])


X, Y = np.zeros((2, 5, 1, 3), np.float32), np.zeros((2, 5, 1, 2), np.float32)


@pytest.mark.parametrize("call, error, message", [
    (lambda: fr.train.online(fr.RNN(3, 4), X, Y, lr=1), TypeError, "^model: expected fr.Sequential of an RNN"),
    (lambda: fr.train.online(fr.Sequential(fr.Linear(3, 2)), X, Y, lr=1), TypeError, "got Sequential of Linear$"),
    (lambda: fr.train.online(fr.Sequential(fr.RNN(3, 4, 2), fr.Linear(4, 2)), X, Y, lr=1), ValueError,
     "^model: expected num_layers=1, got 2$"),
    (lambda: fr.train.online(fr.Sequential(fr.RNN(3, 4), fr.Linear(5, 2)), X, Y, lr=1), ValueError,
     "^model: in_features: expected 4"),
    (lambda: fr.train.online(model_of("rnn", np.float32), X[0], Y, lr=1), ValueError, r"^x: expected \[N, T, B, 3\]"),
    (lambda: fr.train.online(model_of("rnn", np.float64), X, Y, lr=1), TypeError, "^x: expected float64, got float32"),
    (lambda: fr.train.online(model_of("rnn", np.float32), X, Y[:1], lr=1), ValueError,
     r"^target: expected shape \(2, 5, 1, 2\)"),
    (lambda: fr.train.online(model_of("rnn", np.float32), X, Y + 2, lr=1), ValueError, "^target: expected numbers"),
    (lambda: fr.train.online(model_of("rnn", np.float32), X, Y, lr=-1), ValueError, "^lr: expected a number ≥ 0"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
