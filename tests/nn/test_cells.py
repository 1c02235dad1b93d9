"""LSTMCell, GRUCell and RNNCell: one step, which is what a layer does with a sequence of one."""

import copy
import json
import pickle

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import nn
from tests.nn.test_recurrent import F32, F64, flat, like, same
from tests.reference.finite_differences import assert_close, check_gradients

# name: (cell, the layer with the same equations, options of both)
CELLS = {
    "lstm": (fr.LSTMCell, fr.LSTM, {}),
    "gru": (fr.GRUCell, fr.GRU, {}),
    "gru_before": (fr.GRUCell, fr.GRU, {"reset_after": False}),
    "rnn": (fr.RNNCell, fr.RNN, {}),
    "rnn_relu": (fr.RNNCell, fr.RNN, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (fr.RNNCell, fr.RNN, {"nonlinearity": "sigmoid"}),
}
cells = pytest.mark.parametrize("name", CELLS)


def make(name, input_size=3, hidden_size=5, **options):
    cls, _, own = CELLS[name]
    return cls(input_size, hidden_size, **own, **options, seed=0)


def problem(cell, B=4, *, one=False):
    """(x, state, dstate)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((cell.input_size,) if one else (B, cell.input_size)).astype(cell.dtype)
    state = cell(x)
    return x, like(rng, state), like(rng, state)


@pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])
@cells
def test_a_loop_of_steps_is_the_layer(name, dtype):
    _, layer_class, options = CELLS[name]
    cell = make(name, 3, 17, dtype=dtype)
    layer = layer_class(3, 17, **options, dtype=dtype)
    layer.load_state_dict({f"{key}_l0": a for key, a in cell.params.items()})
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(dtype)
    (y, state_n), pullback = layer.vjp(x)
    state, pullbacks = None, []
    for x_t, y_t in zip(x, y, strict=True):
        inference = cell(x_t, state)
        state, back = cell.vjp(x_t, state)
        same(inference, state)
        pullbacks.append(back)
        np.testing.assert_array_equal(flat(state)[0], y_t)
    for a, b in zip(flat(state), flat(state_n), strict=True):
        np.testing.assert_array_equal(a, b[0])
    # and back: the gradient of the last state
    dstate = like(np.random.default_rng(1), state)
    lifted = tuple(d[None] for d in dstate) if isinstance(dstate, tuple) else dstate[None]
    dx, dstate_0 = pullback(dstate=lifted)
    for t in reversed(range(6)):
        dx_t, dstate = pullbacks[t](dstate)
        assert_close(dx_t, dx[t], 1e-4 if dtype is F32 else 1e-12)
    for a, b in zip(flat(dstate), flat(dstate_0), strict=True):
        assert_close(a, b[0], 1e-4 if dtype is F32 else 1e-12)
    for key, grad in cell.grads.items():
        assert_close(grad, layer.grads[f"{key}_l0"], 1e-4 if dtype is F32 else 1e-12, key)


@pytest.mark.parametrize("one", [False, True], ids=["batch", "row"])
@pytest.mark.parametrize("bias", [True, False])
@cells
def test_finite_differences(name, bias, one):
    cell = make(name, bias=bias, dtype=F64)
    x, state, dstate = problem(cell, one=one)
    _, pullback = cell.vjp(x, state)
    dx, dstate_0 = pullback(dstate)
    inputs = {"x": x, **cell.params} | {f"state {k}": s for k, s in enumerate(flat(state))}
    gradients = {"x": dx, **cell.grads} | {f"state {k}": d for k, d in enumerate(flat(dstate_0))}
    check_gradients(lambda: cell(x, state), inputs, dstate, gradients)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_same_weights_in_pytorch(kind):
    torch = pytest.importorskip("torch")
    peer, cell = getattr(torch.nn, f"{kind}Cell")(3, 5), getattr(fr, f"{kind}Cell")(3, 5)
    cell.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    assert list(cell.params) == list(peer.state_dict())
    x, state, _ = problem(cell)
    right = peer(torch.tensor(x), tuple(map(torch.tensor, state)) if kind == "LSTM" else torch.tensor(state))
    for a, b in zip(flat(cell(x, state)), right if kind == "LSTM" else (right,), strict=True):
        assert_close(a, b.detach().numpy(), 1e-5)


@cells
def test_one_row_is_a_batch_of_one(name):
    cell = make(name)
    x, state, dstate = problem(cell, one=True)

    def lifted(value):
        return tuple(v[None] for v in value) if isinstance(value, tuple) else value[None]

    found, pullback = cell.vjp(x, state)
    back = pullback(dstate)
    right, pullback = cell.vjp(x[None], lifted(state))
    for a, b in zip(flat((found, back)), flat((right, pullback(lifted(dstate)))), strict=True):
        assert a.ndim == 1
        np.testing.assert_array_equal(a, b[0])


@cells
def test_rules(name):
    """What `test_recurrent_rules` shows for layers: once, retained, None, no dx, sums, lists, empty batch."""
    cell = make(name)
    x, state, dstate = problem(cell)
    zero = tuple(np.zeros_like(s) for s in state) if isinstance(state, tuple) else np.zeros_like(state)
    right = cell.vjp(x, state)[1](dstate)
    once = {key: grad.copy() for key, grad in cell.grads.items()}
    _, pullback = cell.vjp(x, state, retain=True)
    same(pullback(dstate), right)
    same(pullback(dstate), right)
    for key, grad in cell.grads.items():
        assert_close(grad, 3 * once[key], 1e-6, key)
    cell.zero_grads()
    _, pullback = cell.vjp(x, state, input_grad=False)
    dx, dstate_0 = pullback(dstate)
    assert dx is None
    same(dstate_0, right[1])
    with pytest.raises(RuntimeError, match="this pullback has already run"):
        pullback(dstate)
    same(cell.vjp(x, state)[1](), cell.vjp(x, state)[1](zero))
    same(cell(x), cell(x, zero))
    lists = tuple(s.tolist() for s in state) if isinstance(state, tuple) else state.tolist()
    same(cell(x.tolist(), lists), cell(x, state))
    same(cell(np.asfortranarray(x), state), cell(x, state))
    assert all(a.flags.writeable for a in flat(cell.vjp(x, state)[0]))
    assert all(s.shape == (0, 5) for s in flat(cell(np.ones((0, 3), F32))))


@cells
def test_states_may_change_after_the_call(name):
    """The state that a loop carries is often one array that each step writes over."""
    cell = make(name)
    x, state, dstate = problem(cell)
    right = cell.vjp(x, state)[1](dstate)
    grads = {key: grad.copy() for key, grad in cell.grads.items()}
    cell.zero_grads()
    state_n, pullback = cell.vjp(x, state)
    for array in (*flat(state), *flat(state_n)):
        array[...] = 100
    same(pullback(dstate), right)
    same(tuple(cell.grads.values()), tuple(grads.values()))


@cells
def test_parameters(name):
    cell = make(name, 3, 50)
    G = {"lstm": 4, "gru": 3, "rnn": 1}[name.partition("_")[0]]
    shapes = {"weight_ih": (50 * G, 3), "weight_hh": (50 * G, 50), "bias_ih": (50 * G,), "bias_hh": (50 * G,)}
    assert {key: a.shape for key, a in cell.params.items()} == shapes
    assert all(np.abs(a).max() <= 50**-0.5 for a in cell.params.values())
    assert list(make(name, bias=False).params) == ["weight_ih", "weight_hh"]
    np.testing.assert_array_equal(make(name, 3, 50).params["weight_hh"], cell.params["weight_hh"])
    state = cell.state_dict()
    cell.params["weight_ih"] = 0
    cell.load_state_dict(state)
    np.testing.assert_array_equal(cell.params["weight_ih"], state["weight_ih"])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
@cells
def test_copies_and_config(name, duplicate):
    cell = make(name, bias=False, dtype=F64)
    x, state, _ = problem(cell)
    again = duplicate(cell)
    same(again(x, state), cell(x, state))
    again = type(cell)(**json.loads(json.dumps(cell.config())))
    assert again.config() == cell.config()
    assert repr(again) == repr(cell)
    again.load_state_dict(cell.state_dict())
    same(again(x, state), cell(x, state))
    assert nn.from_spec(nn.to_spec(cell)).config() == cell.config()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fr.LSTMCell(0, 5), ValueError, "input_size: expected a positive integer, got 0"),
        (lambda: fr.GRUCell(3, 2.0), TypeError, "hidden_size: expected an integer, got 2.0"),
        (
            lambda: fr.RNNCell(3, 5, nonlinearity="selu"),
            ValueError,
            "nonlinearity: expected one of 'tanh', 'relu'",
        ),
        (lambda: fr.LSTMCell(3, 5, dtype=int), TypeError, "dtype: expected float32 or float64"),
        (lambda: fr.LSTMCell(3, 5, False), TypeError, "positional"),
        (
            lambda: make("lstm")(np.ones((4, 2), F32)),
            ValueError,
            "x: expected [..., 3] (input_size=3), got shape (4, 2)",
        ),
        (lambda: make("lstm")(np.ones((4, 3))), TypeError, "x: expected float32, got float64"),
        (lambda: make("lstm")(np.ones((2, 4, 3), F32)), ValueError, "x: expected [B, 3], or [3] for one row"),
        (lambda: make("lstm")(None), TypeError, "x: expected an array, got None"),
        (
            lambda: make("lstm")(np.ones((4, 3), F32), np.ones((4, 5), F32)),
            TypeError,
            "state: expected a tuple (h, c)",
        ),
        (
            lambda: make("lstm")(np.ones((4, 3), F32), (np.ones((3, 5), F32), None)),
            ValueError,
            "state[0]: expected shape (4, 5), got (3, 5)",
        ),
        (
            lambda: make("gru")(np.ones((4, 3), F32), np.ones((1, 4, 5), F32)),
            ValueError,
            "state: expected shape (4, 5), got (1, 4, 5)",
        ),
        (
            lambda: make("rnn")(np.ones(3, F32), np.ones((1, 5), F32)),
            ValueError,
            "state: expected shape (5,), got (1, 5)",
        ),
        (
            lambda: make("rnn")(np.ones((4, 3), F32), np.ones((4, 5))),
            TypeError,
            "state: expected float32, got float64",
        ),
        (
            lambda: make("gru").vjp(np.ones((4, 3), F32))[1](np.ones((4, 6), F32)),
            ValueError,
            "dstate: expected shape (4, 5), got (4, 6)",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
