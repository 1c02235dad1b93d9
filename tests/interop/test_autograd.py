"""Layers inside autograd: against finite differences, and against autograd of a loop over time in NumPy."""

# ruff: noqa: E402  (what is missing is said before it is imported)

import threading

import numpy as np
import pytest

autograd = pytest.importorskip("autograd")

import autograd.numpy as anp
from autograd import grad, jacobian, value_and_grad
from autograd.test_util import check_grads

import fastrnn as fr
from fastrnn import functional as F
from fastrnn.interop.autograd import gru, lstm, primitive, rnn

T, B, I, H = 5, 3, 2, 4
CELLS = {"lstm": (lstm, 4, 2), "gru": (gru, 3, 1), "rnn": (rnn, 1, 1)}


def arrays(gates, states, bias=True, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(T, B, I), *[(B, H)] * states, (gates * H, I), (gates * H, H), *[(gates * H,)] * (2 * bias)]
    return [0.5 * rng.standard_normal(shape) for shape in shapes]


def number(outputs):
    """One number of all outputs, with a gradient of its own at each."""
    y, state_n, *_ = outputs
    parts = [y, *state_n] if isinstance(state_n, tuple) else [y, state_n]
    return sum(anp.sum(anp.sin(part) * (k + 1)) for k, part in enumerate(parts))


def call(cell, values, **options):
    function, _, states = CELLS[cell]
    x, state, weights = values[0], tuple(values[1 : 1 + states]), values[1 + states :]
    return function(x, state if states == 2 else state[0], *weights, **options)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"lengths": [5, 2, 0]}, {"reverse": True, "batch_first": False}])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_all_arrays(cell, options, bias):
    values = arrays(*CELLS[cell][1:], bias)
    check_grads(lambda *values: number(call(cell, values, **options)), modes=["rev"], order=1)(*values)


@pytest.mark.parametrize(
    "cell, options",
    [
        ("gru", {"reset_after": False}),
        ("rnn", {"nonlinearity": "sigmoid"}),
        ("lstm", {"coupled": False, "clip": 3.0, "checkpoint": 2}),
        ("lstm", {"zoneout": 0.5, "seed": 3}),
        ("gru", {"recurrent_dropout": 0.5, "seed": 3}),
        ("gru", {"reset_mask": np.arange(T * B).reshape(T, B) % 4 == 1}),
    ],
)
def test_options(cell, options):
    values = arrays(*CELLS[cell][1:])
    check_grads(lambda *values: number(call(cell, values, **options)), modes=["rev"], order=1)(*values)


def test_peepholes_norm_projection_and_all_states():
    x, h, c, W, R, b, d = arrays(4, 2)
    rng = np.random.default_rng(1)
    P = 3
    R, h = R[:, :P], h[:, :P]
    hr, peephole, gains = rng.standard_normal((P, H)), rng.standard_normal(3 * H), 1 + rng.random((2, 4 * H))
    gain_c, bias_c = 1 + rng.random(H), rng.random(H)

    def peeping(x, R, hr, peephole):
        y, (h_n, c_n), (h_all, c_all) = lstm(x, (h, c), W, R, b, d, hr, peephole=peephole, return_all_states=True)
        return anp.sum(anp.sin(c_all)) + anp.sum(y * h_all) + anp.sum(h_n) + anp.sum(c_n)

    check_grads(peeping, modes=["rev"], order=1)(x, R, hr, peephole)
    R = rng.standard_normal((4 * H, H))

    def normed(gain_ih, gain_hh, gain_c, bias_c):
        return number(lstm(x, None, W, R, b, d, norm=F.Norm(gain_ih, gain_hh, gain_c, bias_c)))

    check_grads(normed, modes=["rev"], order=1)(*gains, gain_c, bias_c)


def loop(x, state, W, R, b, d):
    """The LSTM in NumPy, one step after another."""
    h, c = state
    ys = []
    for t in range(len(x)):
        i, f, g, o = anp.split(anp.dot(x[t], W.T) + b + anp.dot(h, R.T) + d, 4, axis=1)
        i, f, o = (1 / (1 + anp.exp(-z)) for z in (i, f, o))
        c = f * c + i * anp.tanh(g)
        h = o * anp.tanh(c)
        ys.append(h)
    return anp.stack(ys), (h, c)


def test_beside_a_loop():
    values = arrays(4, 2)
    gradients = [
        value_and_grad(lambda values, f=f: number(f(values[0], (values[1], values[2]), *values[3:])))(tuple(values))
        for f in (lstm, loop)
    ]
    (mine, grads), (theirs, expected) = gradients
    assert mine == pytest.approx(theirs, rel=1e-12)
    for a, e in zip(grads, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)


def test_jacobian_pulls_more_than_once():
    values = arrays(4, 2)

    def h_n(f, h):
        return f(values[0], (h, values[2]), *values[3:])[1][0]

    np.testing.assert_allclose(jacobian(lambda h: h_n(lstm, h))(values[1]), jacobian(lambda h: h_n(loop, h))(values[1]))


def test_forward_runs_once(monkeypatch):
    """A gradient costs one forward pass that saves, and no other."""
    calls = []
    for name in ("lstm", "lstm_vjp"):
        plain = getattr(F, name)
        monkeypatch.setattr(
            F, name, lambda *a, _f=plain, _n=name, **k: calls.append((_n, k.get("input_grad"))) or _f(*a, **k)
        )
    values = arrays(4, 2)
    number(lstm(values[0], None, *values[3:]))
    grad(lambda W: number(lstm(values[0], None, W, *values[4:])))(values[3])
    grad(lambda x: number(lstm(x, None, *values[3:])))(values[0])
    assert calls == [("lstm", None), ("lstm_vjp", False), ("lstm_vjp", True)]


LAYERS = {
    "gru": lambda: fr.GRU(I, H, num_layers=2, bidirectional=True, dtype=np.float64, seed=0),
    "linear": lambda: fr.Linear(I, H, dtype=np.float64, seed=0),
    "lstm": lambda: fr.LSTM(I, H, peephole=True, layer_norm=True, dtype=np.float64, seed=0),
    "sequential": lambda: fr.Sequential(
        fr.LSTM(I, H, dtype=np.float64, seed=0), fr.Last(), fr.Linear(H, 3, dtype=np.float64, seed=1)
    ),
    "parallel": lambda: fr.Sequential(
        fr.Linear(I, H, dtype=np.float64, seed=0), fr.Parallel(fr.MeanPool(), fr.MaxPool())
    ),
    "lru": lambda: fr.LRU(I, H, dtype=np.float64, seed=0),
}


def first(outputs):
    return outputs if isinstance(outputs, np.ndarray) or hasattr(outputs, "shape") else outputs[0]


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    layer = LAYERS[name]()
    before, f = layer.state_dict(), primitive(layer)
    x = np.random.default_rng(0).standard_normal((T, B, I))
    assert np.array_equal(first(f(before, x)), first(layer(x)))

    def loss(params, x):
        return anp.sum(anp.sin(first(f(params, x))))

    moved = {key: value + 0.1 for key, value in before.items()}
    check_grads(loss, modes=["rev"], order=1)(moved, x)
    assert all(np.array_equal(value, before[key]) for key, value in layer.params.items())
    assert all(not value.any() for value in layer.grads.values())


def test_states_lengths_and_two_calls_of_one_function():
    layer = fr.LSTM(I, H, dtype=np.float64, seed=0)
    f, params = primitive(layer), layer.state_dict()
    rng = np.random.default_rng(0)
    x, h, c = rng.standard_normal((T, B, I)), rng.standard_normal((1, B, H)), rng.standard_normal((1, B, H))

    def loss(params, h, c):
        other = {name: 2 * value for name, value in params.items()}
        y, (h_n, c_n) = f(params, x, (h, c), lengths=[5, 2, 0])
        z, _ = f(other, x, (h_n, c_n))  # before the first call's pullback
        return anp.sum(y**2) + anp.sum(anp.sin(z))

    check_grads(loss, modes=["rev"], order=1)(params, h, c)


def test_a_model_of_mine():
    class Both(fr.Model):
        def __init__(self):
            self.embed, self.rnn = fr.Embedding(7, I, dtype=np.float64, seed=0), fr.RNN(I, H, dtype=np.float64, seed=1)

        def forward(self, x):
            y, h_n = self.rnn(self.embed(x))
            return fr.ops.tanh(y), h_n[0]

    model = Both()
    f, x = primitive(model), np.random.default_rng(0).integers(0, 7, (T, B))

    def loss(params):
        y, h_n = f(params, x)
        return anp.sum(y) + anp.sum(h_n**2)

    check_grads(loss, modes=["rev"], order=1)(model.state_dict())


def test_dropout_by_seed():
    layer = fr.Sequential(fr.Linear(I, 50, dtype=np.float64, seed=0), fr.Dropout(0.5))
    f, params, x = primitive(layer), layer.state_dict(), np.ones((3, I))
    assert np.array_equal(f(params, x, seed=1), f(params, x, seed=1))
    assert not np.array_equal(f(params, x, seed=1), f(params, x, seed=2))
    assert np.array_equal(f(params, x), layer(x))
    gradient = grad(lambda params: anp.sum(f(params, x, seed=1)))(params)
    assert np.array_equal(gradient["0.bias"], 2.0 * (f(params, x, seed=1) != 0).sum(0))


def test_float32_beside_float64():
    layer = fr.GRU(I, H, seed=0)
    f, x = primitive(layer), np.ones((T, B, I), np.float32)
    gradient = grad(lambda params: np.float64(3) * anp.sum(f(params, x)[0]))(layer.state_dict())
    assert {value.dtype for value in gradient.values()} == {np.dtype(np.float32)}
    with pytest.raises(TypeError, match="x: expected float32"):
        f(layer.state_dict(), x.astype(np.float64))


def test_threads_share_a_function():
    layer = fr.GRU(I, H, dtype=np.float64, seed=0)
    f, x = primitive(layer), np.ones((T, B, I))
    wanted = [grad(lambda p, k=k: anp.sum(f(p, k * x)[0]))(layer.state_dict()) for k in range(4)]
    found = [None] * 4

    def work(k):
        for _ in range(20):
            found[k] = grad(lambda p: anp.sum(f(p, k * x)[0]))(layer.state_dict())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, expected in zip(found, wanted, strict=True):
        assert all(np.array_equal(mine[name], expected[name]) for name in expected)


def test_errors():
    values = arrays(3, 1)
    x, h, W, R, *_ = values
    with pytest.raises(NotImplementedError, match=r"^gru: second derivatives are not known"):
        grad(lambda h: anp.sum(grad(lambda h: number(gru(x, h, W, R)))(h)))(h)
    with pytest.raises(ValueError, match=r"^out: expected None"):
        gru(x, h, W, R, out=np.empty((T, B, H)))
    with pytest.raises(ValueError, match=r"^seed: expected an integer"):
        gru(x, h, W, R, zoneout=0.1)
    with pytest.raises(NotImplementedError, match=r"with respect to reset_state"):
        grad(lambda h: number(gru(x, None, W, R, reset_state=h, reset_mask=np.ones((T, B), bool))))(h)
    for wrong in ("nonsense", "peephole"):
        with pytest.raises(TypeError, match=wrong):
            gru(x, h, W, R, **{wrong: 1})
    with pytest.raises(ValueError, match="norm: expected gain_c and bias_c for an LSTM only"):
        gru(x, h, W, R, norm=F.Norm(*np.ones((2, 3 * H)), np.ones(H), np.ones(H)))
    with pytest.raises(ValueError, match=r"^state: expected a tuple \(h_0, c_0\), got 3 arrays"):
        lstm(x, (h, h, h), W, R)
    with pytest.raises(TypeError, match=r"^layer: expected a layer or model of fastrnn, got int"):
        primitive(3)
    f = primitive(fr.Linear(I, H))
    with pytest.raises(ValueError, match=r"^params: .*missing bias; unknown c"):
        f({"weight": np.ones((H, I)), "c": 1}, np.ones((2, I)))
    with pytest.raises(TypeError, match=r"^params: expected a dict such as layer.state_dict\(\), got list"):
        f([np.ones((H, I))], np.ones((2, I)))
