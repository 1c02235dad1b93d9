"""Layers inside JAX: against the same cells written with `lax.scan`, under its transformations."""

# ruff: noqa: E402  (what is missing is said before it is imported)

import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp

import fastrnn as fr
from fastrnn import functional as F
from fastrnn.interop import jax as module
from fastrnn.interop.jax import from_layer, gru, lstm, rnn

T, B, I, H = 5, 3, 2, 4
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@pytest.fixture(autouse=True)
def nothing_waits():
    """Each test ends with no saved arrays left, or clears them where that is its point."""
    module._waiting._saved.clear()
    yield
    assert not module._waiting._saved


def arrays(cell, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    gates, states = GATES[cell], 2 if cell == "lstm" else 1
    shapes = [(T, B, I), *[(B, H)] * states, (gates * H, I), (gates * H, H), (gates * H,), (gates * H,)]
    return [0.5 * rng.standard_normal(shape).astype(dtype) for shape in shapes]


def mine(cell, values, **options):
    function, states = {"lstm": lstm, "gru": gru, "rnn": rnn}[cell], 2 if cell == "lstm" else 1
    state = tuple(values[1:3]) if states == 2 else values[1]
    y, state_n = function(values[0], state, *values[1 + states :], **options)[:2]
    return (y, *state_n) if states == 2 else (y, state_n)


def scan(cell, values):
    """The cell by `lax.scan`: y and the final states."""
    states = 2 if cell == "lstm" else 1
    x, state, (W, R, b, d) = values[0], tuple(values[1 : 1 + states]), values[1 + states :]

    def step(state, x):
        h, *c = state
        z, r = x @ W.T + b, h @ R.T + d
        if cell == "lstm":
            i, f, g, o = jnp.split(z + r, 4, -1)
            c = [jax.nn.sigmoid(f) * c[0] + jax.nn.sigmoid(i) * jnp.tanh(g)]
            h = jax.nn.sigmoid(o) * jnp.tanh(c[0])
        elif cell == "gru":
            (zr, zz, zn), (rr, rz, rn) = jnp.split(z, 3, -1), jnp.split(r, 3, -1)
            u = jax.nn.sigmoid(zz + rz)
            h = (1 - u) * jnp.tanh(zn + jax.nn.sigmoid(zr + rr) * rn) + u * h
        else:
            h = jnp.tanh(z + r)
        return (h, *c), h

    state, y = jax.lax.scan(step, tuple(jnp.asarray(s) for s in state), jnp.asarray(x))
    return y, *state


def number(outputs):
    return sum(jnp.sum(jnp.sin(part) * (k + 1)) for k, part in enumerate(outputs))


def close(found, expected, tolerance=2e-6):
    """float32: sums of a hundred products."""
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for a, e in zip(found, expected, strict=True):
        assert a.dtype == e.dtype and a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1, np.abs(e).max()))


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("jit", [False, True])
def test_values_and_gradients(cell, jit):
    values = arrays(cell)
    maybe = jax.jit if jit else lambda f: f
    close(maybe(lambda values: mine(cell, values))(values), scan(cell, values))
    found, expected = (
        maybe(jax.value_and_grad(lambda values, f=f: number(f(cell, values))))(values) for f in (mine, scan)
    )
    close(found, expected)


@pytest.mark.parametrize("cell", GATES)
def test_vmap_over_everything(cell):
    stacked = [np.stack(each) for each in zip(*(arrays(cell, seed) for seed in range(3)))]
    found, expected = (
        jax.jit(jax.vmap(jax.grad(lambda values, f=f: number(f(cell, values)))))(stacked) for f in (mine, scan)
    )
    close(found, expected)


def test_vmap_of_the_input_alone():
    values, xs = arrays("lstm"), np.stack([arrays("lstm", seed)[0] for seed in range(3)])

    def loss(f):
        return lambda W: jnp.sum(jax.vmap(lambda x: number(f("lstm", [x, *values[1:3], W, *values[4:]])), 0)(xs))

    close(*(jax.grad(loss(f))(values[3]) for f in (mine, scan)))


def test_scan_jacobian_and_remat():
    values = arrays("gru")
    xs = np.stack([arrays("gru", seed)[0] for seed in range(4)])

    def chunks(f):
        def loss(weights):
            def step(h, x):
                y, h = f("gru", [x, h, *weights])
                return h, y

            h, y = jax.lax.scan(step, jnp.asarray(values[1]), xs)
            return jnp.sum(jnp.sin(y)) + jnp.sum(h)

        return loss

    close(*(jax.jit(jax.grad(chunks(f)))(values[2:]) for f in (mine, scan)))
    close(*(jax.grad(jax.checkpoint(chunks(f)))(values[2:]) for f in (mine, scan)))
    close(*(jax.jacrev(lambda h, f=f: f("gru", [values[0], h, *values[2:]])[1])(values[1]) for f in (mine, scan)))
    module._waiting._saved.clear()


def test_more_calls_than_may_wait(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 2)
    values = arrays("gru")

    def loss(f):
        def run(weights):
            x = jnp.asarray(values[0])
            for _ in range(5):
                x = f("gru", [x, values[1], *weights])[0][..., :I]
            return jnp.sum(jnp.sin(x))

        return run

    close(*(jax.grad(loss(f))(values[2:]) for f in (mine, scan)))


def test_what_nobody_pulls_is_forgotten(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 3)
    values = arrays("rnn")
    for _ in range(5):
        jax.vjp(lambda values: mine("rnn", values), values)
    assert len(module._waiting._saved) == 3
    module._waiting._saved.clear()


def test_input_gradient_only_if_wanted(monkeypatch):
    seen = []
    plain = F.lstm_vjp
    monkeypatch.setattr(F, "lstm_vjp", lambda *a, **k: seen.append(k["input_grad"]) or plain(*a, **k))
    values = arrays("lstm")
    jax.grad(lambda W: number(mine("lstm", [*values[:3], W, *values[4:]])))(values[3])
    jax.grad(lambda x: number(mine("lstm", [x, *values[1:]])))(values[0])
    assert seen == [False, True]


def test_lengths_and_options_may_be_traced():
    values = arrays("lstm")

    @jax.jit
    def run(values, lengths):
        return mine("lstm", values, lengths=lengths)

    y, h_n, c_n = run(values, jnp.array([5, 2, 0]))
    expected, (h, c) = F.lstm(values[0], tuple(values[1:3]), *values[3:], lengths=[5, 2, 0])
    assert np.array_equal(y, expected) and np.array_equal(h_n, h) and np.array_equal(c_n, c)
    mask = np.arange(T * B).reshape(T, B) % 4 == 1
    y, h_n, c_n = jax.jit(lambda mask, h: mine("lstm", values, reset_mask=mask, reset_state=(h, h)))(mask, values[1])
    again = (values[1], values[1])
    expected, _ = F.lstm(values[0], tuple(values[1:3]), *values[3:], reset_mask=mask, reset_state=again)
    assert np.array_equal(y, expected)


def test_variants():
    x, h, c, W, R, b, d = arrays("lstm")
    rng = np.random.default_rng(1)
    peephole = rng.standard_normal(3 * H).astype(np.float32)
    norm = F.Norm(*(1 + rng.random((2, 4 * H), np.float32)), *rng.random((2, H), np.float32))
    dropped = {"peephole": peephole, "norm": norm, "zoneout": (0.2, 0.1), "recurrent_dropout": 0.3, "clip": 2.0}

    @jax.jit
    def loss(peephole, norm, seed):
        options = {**dropped, "peephole": peephole, "norm": norm, "return_all_states": True, "seed": seed}
        y, (h_n, c_n), (_, c_all) = lstm(x, (h, c), W, R, b, d, **options)
        return jnp.sum(y * 2) + jnp.sum(h_n) + jnp.sum(c_n) + jnp.sum(c_all * 3)

    value, (dp, dn) = jax.value_and_grad(loss, (0, 1))(peephole, norm, 5)
    (y, (h_n, c_n), (_, c_all)), pullback = F.lstm_vjp(x, (h, c), W, R, b, d, **dropped, return_all_states=True, seed=5)
    grads = pullback(np.full_like(y, 2), (np.ones_like(h_n), np.ones_like(c_n)), (None, np.full_like(c_all, 3)))[2]
    assert float(value) == pytest.approx(float(2 * y.sum() + h_n.sum() + c_n.sum() + 3 * c_all.sum()), rel=1e-5)
    close((dp, *dn), (grads.peephole, grads.gain_ih, grads.gain_hh, grads.gain_c, grads.bias_c))
    assert float(loss(peephole, norm, 6)) != float(value)


# ---- layers


def model():
    return fr.Sequential(
        fr.Embedding(9, I, seed=0), fr.LSTM(I, H, bidirectional=True, seed=1), fr.Last(), fr.Linear(2 * H, 3, seed=2)
    )


def test_layer_against_our_own_gradients():
    layer = model()
    f, params = from_layer(layer), layer.state_dict()
    tokens, lengths = np.random.default_rng(0).integers(0, 9, (T, B)), np.array([5, 2, 1])

    @jax.jit
    def loss(params, tokens, lengths):
        y, ((h_n, c_n),) = f(params, tokens, lengths=lengths)
        return jnp.sum(jnp.sin(y)) + jnp.sum(h_n * c_n)

    value, found = jax.value_and_grad(loss)(params, tokens, lengths)
    (y, ((h_n, c_n),)), pullback = layer.vjp(tokens, lengths=lengths)
    pullback(np.cos(y), ((c_n, h_n),))
    assert float(value) == pytest.approx(float(np.sin(y).sum() + (h_n * c_n).sum()), rel=1e-5)
    close(found, dict(layer.grads))
    assert all(np.array_equal(layer.params[name], params[name]) for name in params)


def test_state_has_gradients():
    layer = fr.LSTM(I, H, num_layers=2, seed=0)
    f, params = from_layer(layer), layer.state_dict()
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal(s).astype(np.float32) for s in ((T, B, I), (2, B, H), (2, B, H)))
    dx, (dh, dc) = jax.grad(lambda x, state: jnp.sum(f(params, x, state)[0] ** 2), (0, 1))(x, (h, c))
    (y, _), pullback = layer.vjp(x, (h, c))
    close((dx, (dh, dc)), pullback(2 * y))


def test_dropout_by_seed():
    layer = fr.Sequential(fr.Linear(I, 50, seed=0), fr.Dropout(0.5))
    f, params, x = jax.jit(from_layer(layer)), layer.state_dict(), np.ones((3, I), np.float32)
    one, two = (f(params, x, seed=jnp.asarray(seed)) for seed in (1, 2))
    assert np.array_equal(one, f(params, x, seed=1)) and not np.array_equal(one, two)
    assert np.array_equal(f(params, x), layer(x))
    gradient = jax.grad(lambda p: jnp.sum(f(p, x, seed=1)))(params)
    assert np.array_equal(gradient["0.bias"], 2 * (np.asarray(one) != 0).sum(0))


def test_a_layer_without_gradients_of_its_input():
    f = from_layer(fr.Embedding(5, 3, seed=0))
    gradient = jax.grad(lambda p: jnp.sum(f(p, jnp.array([1, 1, 4]))))(fr.Embedding(5, 3).state_dict())
    assert gradient["weight"].sum(1).tolist() == [0, 6, 0, 0, 3]


def test_compiled_once():
    layer = fr.GRU(I, H, seed=0)
    f, params, x = from_layer(layer), layer.state_dict(), np.ones((T, B, I), np.float32)
    traced = []

    @jax.jit
    def loss(params, x):
        traced.append(1)
        return jnp.sum(f(params, x)[0])

    step = jax.jit(jax.grad(loss))
    for _ in range(3):
        step(params, x)
    assert len(traced) == 1


# ---- errors


def test_errors_come_when_traced():
    x, h, W, R, b, d = arrays("gru")
    with pytest.raises(ValueError, match=r"^weight_ih: expected \[3·H, 2\]"):
        jax.jit(lambda W: gru(x, h, W, R))(W[:, :1])
    with pytest.raises(TypeError, match="nonsense"):
        gru(x, h, W, R, nonsense=1)
    with pytest.raises(ValueError, match=r"^out: expected None"):
        gru(x, h, W, R, out=np.empty((T, B, H)))
    with pytest.raises(ValueError, match=r"^seed: expected an integer"):
        gru(x, h, W, R, zoneout=0.5)
    with pytest.raises(TypeError, match=r"^clip: expected a Python value"):
        jax.jit(lambda clip: gru(x, h, W, R, clip=clip))(2.0)
    with pytest.raises(NotImplementedError, match="only first derivatives"):
        jax.hessian(lambda h: number(mine("gru", [x, h, W, R, b, d])))(h)
    with pytest.raises(ValueError, match=r"^params: .*missing bias"):
        from_layer(fr.Linear(2, 3))({"weight": W}, x)
    with pytest.raises(TypeError, match=r"^params: expected a dict such as layer.state_dict\(\), got list"):
        from_layer(fr.Linear(2, 3))([W], x)
    with pytest.raises(TypeError, match="x: expected float64"):
        from_layer(fr.Linear(2, 3, dtype=np.float64))(fr.Linear(2, 3).state_dict(), x)


def test_errors_when_the_program_runs():
    values = arrays("gru")
    with pytest.raises(Exception, match="lengths: expected"):
        jax.block_until_ready(jax.jit(lambda n: mine("gru", values, lengths=n))(jnp.array([5, 2, 9])))


# ---- processes of their own: settings that JAX reads when it starts

IN_64_BITS = """
import jax, jax.numpy as jnp, numpy as np, fastrnn as fr
from fastrnn.interop.jax import from_layer, lstm
layer = fr.LSTM(2, 3, dtype=np.float64, seed=0)
f, params, x = from_layer(layer), layer.state_dict(), np.random.default_rng(0).standard_normal((5, 2, 2))
def loss(params, x):
    return jnp.sum(jnp.sin(f(params, x)[0]))
from jax.test_util import check_grads
check_grads(loss, (params, x), order=1, modes=["rev"], atol=1e-7, rtol=1e-7)
assert jax.grad(loss)(params, x)["weight_hh_l0"].dtype == np.float64
"""

ON_ONE_CPU = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
from fastrnn.interop.jax import gru
x = np.ones((200, 64, 256), np.float32)
W, R = np.full((192, 256), 0.01, np.float32), np.full((192, 64), 0.01, np.float32)
def loss(W, x):
    y, h_n = gru(2 * x, None, W, R)
    y, h_n = gru(y @ jnp.ones((64, 256)), h_n, W, R)
    return jnp.sum(y)
step = jax.jit(jax.value_and_grad(loss, (0, 1)))
for _ in range(3):
    value, gradients = jax.block_until_ready(step(W, x))
assert np.isfinite(float(value)) and float(loss(W, x)) == float(value)
"""


@pytest.mark.parametrize("code", [IN_64_BITS, ON_ONE_CPU], ids=["float64", "large arrays on one CPU"])
def test_in_a_process_of_its_own(code):
    """Large arrays on one CPU are where callbacks of JAX that wait for JAX have hung."""
    if "sched_setaffinity" in code and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system can't give a process one CPU")
    environment = {**os.environ, "JAX_ENABLE_X64": "1" if code is IN_64_BITS else "0", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
