"""SRU, QRNN, minGRU, minLSTM, LRU and IndRNN as layers: names, states, dropout, files, models, streams, bad input."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.nn import from_spec, to_spec
from fastrnn.nn.registry import CELLS
from tests.core.scan_cases import LAYERS, make

layers = pytest.mark.parametrize("name", LAYERS)
SCANS = ("sru", "qrnn", "mingru", "minlstm", "lru", "indrnn")
F32, F64 = np.float32, np.float64


def numbers(*shape, dtype=F32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def arrays(state):
    return [state] if isinstance(state, np.ndarray) else [a for part in state for a in arrays(part)]


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(arrays(left), arrays(right), strict=True))


# ---- layouts, names, states


@layers
def test_layouts(name):
    layer, x = make(name, 4, 6, 2, F32, bidirectional=True), numbers(7, 3, 4)
    first = make(name, 4, 6, 2, F32, bidirectional=True, batch_first=True)
    y, state = layer(x)
    assert y.shape == (7, 3, 12) and y.dtype == F32
    assert [s.shape for s in arrays(state)] == layer._state_shapes(3)
    other, other_state = first(x.swapaxes(0, 1))
    assert np.array_equal(other.swapaxes(0, 1), y) and same(other_state, state)
    one, one_state = layer(x[:, 1])  # one sequence
    assert np.array_equal(one, y[:, 1]) and same(one_state, [s[:, 1] for s in arrays(state)])
    again, _ = layer(np.asfortranarray(x))
    assert np.array_equal(again, y)
    (y_vjp, state_vjp), pullback = first.vjp(x.swapaxes(0, 1), lengths=[7, 2, 0])
    assert not y_vjp.flags.writeable
    y_call, state_call = first(x.swapaxes(0, 1), lengths=[7, 2, 0])
    assert np.array_equal(y_vjp, y_call) and same(state_vjp, state_call)
    dx, dstate = pullback(np.ones_like(y_vjp), state_vjp)
    assert dx.shape == (3, 7, 4) and same([d * 0 for d in arrays(dstate)], [s * 0 for s in arrays(state)])
    assert not dx[1, 2:].any() and not dx[2].any()


@layers
@pytest.mark.parametrize("lengths", [None, [4, 3, 4]])
def test_a_state_goes_on(name, lengths):
    layer, x = make(name, 4, 6, 2), numbers(8, 3, 4, dtype=F64)
    if lengths is None:
        y, state = layer(x)
        a, middle = layer(x[:5])
        b, end = layer(x[5:], middle)
        assert np.array_equal(np.concatenate([a, b]), y) and same(end, state)
        (_, one), pullback = layer.vjp(x)
        dx, dstate = pullback(None, one)
        grads = {key: grad.copy() for key, grad in layer.grads.items()}
        layer.zero_grads()
        (_, middle), first = layer.vjp(x[:5])
        _, second = layer.vjp(x[5:], middle)
        dx_b, dmiddle = second(None, one)
        dx_a, dstart = first(None, dmiddle)
        np.testing.assert_allclose(np.concatenate([dx_a, dx_b]), dx, rtol=0, atol=1e-12)
        for key, grad in grads.items():
            np.testing.assert_allclose(layer.grads[key], grad, rtol=0, atol=1e-11)
        for left, right in zip(arrays(dstart), arrays(dstate), strict=True):
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-12)
    else:  # a row that has ended keeps its state
        _, state = layer(x[:4], lengths=lengths)
        _, later = layer(x[:2], state, lengths=[0, 0, 2])
        assert same([s[:, :2] for s in arrays(later)], [s[:, :2] for s in arrays(state)])
        assert not same([s[:, 2:] for s in arrays(later)], [s[:, 2:] for s in arrays(state)])


def test_names_and_starting_values():
    sru = fr.SRU(3, 5, 2, highway_bias=-1.0, seed=0)
    assert {k: v.shape for k, v in sru.params.items()} == {
        "weight_ih_l0": (20, 3), "weight_c_l0": (10,), "bias_ih_l0": (10,),
        "weight_ih_l1": (15, 5), "weight_c_l1": (10,), "bias_ih_l1": (10,),
    }  # fmt: skip
    assert np.array_equal(sru.params["bias_ih_l0"], [0] * 5 + [-1] * 5)
    assert list(fr.SRU(5, 5, bias=False, peephole=False).params) == ["weight_ih_l0"]
    assert fr.QRNN(3, 5, bidirectional=True, window=2).params["weight_ih_l0_reverse"].shape == (15, 6)
    assert fr.MinGRU(3, 5).params["weight_ih_l0"].shape == (10, 3)
    assert fr.MinLSTM(3, 5).params["bias_ih_l0"].shape == (15,)
    assert fr.IndRNN(3, 500, seed=0).params["weight_hh_l0"].min() >= 0
    lru = fr.LRU(3, 5, 2, state_size=2000, r_min=0.8, r_max=0.9, max_phase=0.3, seed=0, dtype=F64)
    radius, angle = abs(lru.eigenvalues()), np.angle(lru.eigenvalues(1))
    assert 0.8 <= radius.min() < 0.801 and 0.899 < radius.max() <= 0.9
    assert abs((radius**2).mean() - (0.64 + 0.81) / 2) < 0.005  # uniform by area
    assert 0 < angle.min() < 0.001 and 0.299 < angle.max() <= 0.3
    np.testing.assert_allclose(np.exp(lru.params["gamma_log_l0"]) ** 2, 1 - radius**2, rtol=1e-9)
    assert np.isfinite(fr.LRU(3, 1000, r_min=1.0, seed=0).params["gamma_log_l0"]).all()


@layers
def test_one_seed_one_layer(name):
    cls, own, _ = LAYERS[name]
    one, two = (cls(3, 5, 2, seed=7, dtype=dtype, **own) for dtype in (F32, F64))
    assert all(np.array_equal(one.params[key], two.params[key].astype(F32)) for key in one.params)


@layers
def test_dropout_between_layers(name):
    layer, x = make(name, 4, 40, 2, F32, dropout=0.5), numbers(5, 2, 4)
    plain, _ = layer(x)
    (a, _), pull_a = layer.vjp(x, seed=1)
    (b, _), _ = layer.vjp(x, seed=1)
    (c, _), _ = layer.vjp(x, seed=2)
    assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a, plain)
    assert np.array_equal(layer.vjp(x, dropout=False)[0][0], plain)
    assert not np.array_equal(layer(x, dropout=True)[0], plain)
    assert np.isfinite(pull_a(np.ones_like(a))[0]).all()


def test_dropout_has_the_gradient_of_its_mask():
    layer, x = make("mingru", 3, 6, 2, dropout=0.4), numbers(4, 2, 3, dtype=F64)
    dy = numbers(4, 2, 6, dtype=F64, seed=1)
    _, pullback = layer.vjp(x, seed=3)
    dx, _ = pullback(dy)
    for k in ((0, 0, 0), (2, 1, 2), (3, 0, 1)):
        step = np.zeros_like(x)
        step[k] = 1e-6
        above, below = (layer.vjp(x + s, seed=3)[0][0] for s in (step, -step))
        assert abs(((above - below) * dy).sum() / 2e-6 - dx[k]) < 1e-7


@layers
def test_no_rows_and_integers(name):
    layer = make(name, 4, 6, 2, F32, bidirectional=True)
    (y, _), pullback = layer.vjp(np.empty((3, 0, 4), F32))
    dx, _ = pullback(np.empty_like(y))
    assert y.shape == (3, 0, 12) and dx.shape == (3, 0, 4) and not any(g.any() for g in layer.grads.values())
    tokens = np.array([[0, 3], [2, 1]])
    (y, _), pullback = layer.vjp(fr.one_hot(tokens, 4))
    assert np.array_equal(y, layer(np.eye(4, dtype=F32)[tokens])[0]) and pullback(y)[0] is None
    (y, _), pullback = layer.vjp(numbers(3, 2, 4), input_grad=False)
    assert pullback(y)[0] is None
    _, pullback = layer.vjp(numbers(3, 2, 4), lengths=[0, 0])
    assert not pullback(np.ones((3, 2, 12), F32))[0].any()


# ---- configurations and files


@layers
def test_files_copies_and_pickles(name, tmp_path):
    layer, x = make(name, 4, 6, 2, F32, bidirectional=True), numbers(5, 2, 4)
    y, state = layer(x)
    rebuilt = from_spec(to_spec(layer))
    assert rebuilt.config() == layer.config() and repr(rebuilt) == repr(layer)
    rebuilt.load_state_dict(layer.state_dict())
    fr.save(layer, tmp_path / "layer.safetensors")
    for other in (
        rebuilt,
        fr.load(tmp_path / "layer.safetensors"),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
    ):
        assert np.array_equal(other(x)[0], y) and same(other(x)[1], state)


# ---- in models


@layers
def test_in_a_sequential_and_a_model(name):
    class Two(fr.Model):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = make(name, 4, 6, 1, F32), fr.Linear(6, 2, seed=0)

        def forward(self, x):
            y, _ = self.rnn(x)
            return self.out(y)

    model, x = Two(), numbers(5, 3, 4)
    chain = fr.Sequential(make(name, 4, 6, 1, F32), fr.Linear(6, 2, seed=0))
    y, pullback = model.vjp(x)
    (z, _), pull = chain.vjp(x)
    assert np.array_equal(y, z)
    dx, (dz, _) = pullback(np.ones_like(y)), pull(np.ones_like(z))
    assert np.array_equal(dx, dz)
    for a, b in zip(model.grads.values(), chain.grads.values(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("cell", SCANS)
def test_language_models(cell):
    vocabulary = fr.text.CharVocabulary.from_text("to be or not to be, ")
    model = fr.models.LanguageModel(vocabulary, cell, embedding_dim=12, hidden_size=24, num_layers=2, seed=0)
    assert isinstance(model.rnn, CELLS[cell])
    data = fr.TokenWindows(vocabulary.encode("to be or not to be, " * 30), batch_size=4, seq_len=20)
    before = model.bits_per_char("to be or not to be, " * 4)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.02), epochs=12, progress=False)
    assert model.bits_per_char("to be or not to be, " * 4) < min(0.7 * before, 2)
    text = model.sample("to be", 30, temperature=0)
    assert text == model.sample("to be", 30, temperature=0) and len(text) == 30
    logits, state = model(vocabulary.encode("to be")[:, None])
    s = model.stream()
    assert np.array_equal(s.run(vocabulary.encode("to be"))[-1], logits[-1, 0])
    assert same(s.state, [a[:, :] for a in arrays(state)])
    assert len(model.predict_next("to", 2)) == 2


# ---- streams


@layers
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_and_blocks_are_the_layer(name, B, batch_first):
    layer, x = make(name, 4, 9, 2, F32, batch_first=batch_first), numbers(9, B, 4)
    swap = (lambda a: a.swapaxes(0, 1)) if batch_first else (lambda a: a)
    y, state = layer(swap(x))
    y = swap(y)
    s = layer.stream(B)
    out = np.empty(y.shape[1:], F32)
    for t in range(4):
        np.testing.assert_array_equal(s.step(x[t]) if t % 2 else s.step(x[t], out=out), y[t])
    np.testing.assert_array_equal(swap(s.run(swap(x[4:]))), y[4:])
    assert same(s.state, state)
    kept = s.state
    s.step(x[0])
    s.reset(kept)
    assert same(s.state, state)
    s.reset(rows=[B - 1])
    assert not any(a[:, B - 1].any() for a in arrays(s.state)) and same(
        [a[:, : B - 1] for a in arrays(s.state)], [a[:, : B - 1] for a in arrays(state)]
    )
    s.state = None
    np.testing.assert_array_equal(s.step(x[0]), y[0])
    if B == 1:
        s.reset()
        np.testing.assert_array_equal(s.step(x[0, 0]), y[0, 0])
        np.testing.assert_array_equal(s.run(x[1:, 0]), y[1:, 0])


def test_streams_of_models_and_refresh():
    model = fr.Sequential(
        fr.Embedding(7, 4, seed=0), fr.Dropout(0.5), fr.Sequential(fr.SRU(4, 6, seed=0), fr.Tanh()), fr.LayerNorm(6),
        fr.LSTM(6, 5, seed=1), fr.QRNN(5, 6, 2, window=2, seed=2), fr.Linear(6, 3, seed=3),
    )  # fmt: skip
    tokens = np.random.default_rng(0).integers(7, size=(6, 2))
    y, state = model(tokens)
    s = model.stream(2)
    assert isinstance(s, fr.LayerStream) and isinstance(fr.Sequential(fr.LSTM(3, 4)).stream(), fr.Stream)
    assert all(np.array_equal(s.step(tokens[t]), y[t]) for t in range(3))
    assert np.array_equal(s.run(tokens[3:]), y[3:]) and same(s.state, state)
    model.params["6.bias"] += 1
    s.reset()
    assert np.array_equal(s.step(tokens[0]), y[0])
    s.reset()
    s.refresh()
    np.testing.assert_allclose(s.step(tokens[0]), y[0] + 1, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^x: expected integers from 0 to 6|^x: "):
        s.step([7, 0])


@layers
def test_a_stream_keeps_its_weights(name):
    layer, x = make(name, 4, 5, 1, F32), numbers(2, 4)
    s = layer.stream()
    before = s.step(x[0])
    for array in layer.params.values():
        array *= 0.9
    after = layer(x[:1])[0][0]
    s.reset()
    assert np.array_equal(s.step(x[0]), before) and not np.array_equal(before, after)
    s.refresh()
    s.reset()
    assert np.array_equal(s.step(x[0]), after)


# ---- bad input


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: fr.SRU(0, 3), ValueError, "input_size: expected"),
        (lambda: fr.SRU(3, 3, activation="relu"), ValueError, "activation: expected one of 'identity', 'tanh'"),
        (lambda: fr.SRU(3, 3, highway_bias="x"), TypeError, "highway_bias: expected a number"),
        (lambda: fr.QRNN(3, 3, window=3), ValueError, "window: expected 1 or 2, got 3"),
        (lambda: fr.MinGRU(3, 3, candidate="tanh"), ValueError, "candidate: expected one of 'plain', 'g'"),
        (lambda: fr.IndRNN(3, 3, nonlinearity="gelu"), ValueError, "nonlinearity: expected one of"),
        (lambda: fr.LRU(3, 3, r_min=0.9, r_max=0.5), ValueError, "r_min, r_max: expected 0 ≤ r_min ≤ r_max ≤ 1"),
        (lambda: fr.LRU(3, 3, max_phase=0), ValueError, "max_phase: expected a number > 0"),
        (lambda: fr.LRU(3, 3, state_size=0), ValueError, "state_size: expected"),
        (lambda: fr.LRU(3, 3).eigenvalues(1), ValueError, "layer: expected an integer from 0 to 0, got 1"),
        (lambda: fr.MinGRU(3, 3)(np.ones((2, 2, 4), F32)), ValueError, r"x: expected \[T, B, 3\]"),
        (lambda: fr.MinGRU(3, 3)(np.ones((2, 2, 3))), TypeError, "x: expected float32"),
        (lambda: fr.MinGRU(3, 3)(np.ones((0, 2, 3), F32)), ValueError, "x: expected at least one time step"),
        (lambda: fr.MinGRU(3, 3)(np.ones((2, 2, 3), F32), lengths=[3, 1]), ValueError, "lengths: expected"),
        (lambda: fr.MinGRU(3, 3)(np.ones((2, 2, 3), F32), np.ones((1, 3), F32)), ValueError, "state: expected shape"),
        (lambda: fr.QRNN(3, 3, window=2)(np.ones((2, 2, 3), F32), np.ones((1, 2, 3), F32)), TypeError,
         "state: expected a tuple of 2 arrays"),
        (lambda: fr.QRNN(3, 3, window=2)(np.ones((2, 2, 3), F32), (None, np.ones((1, 2, 4), F32))), ValueError,
         r"state\[1\]: expected shape \(1, 2, 3\)"),
        (lambda: fr.SRU(3, 3, bidirectional=True).stream(), ValueError, "stream: SRU is bidirectional"),
        (lambda: fr.SRU(3, 3).stream(0), ValueError, "batch_size: expected"),
        (lambda: fr.Sequential(fr.SRU(3, 3), fr.Last()).stream(), ValueError, "stream: Last at position 1 can't run"),
        (lambda: fr.Sequential(fr.SRU(3, 3), fr.Linear(4, 3)).stream(), ValueError, "Linear at position 1"),
        (lambda: fr.SRU(3, 3).stream().step(np.ones(4, F32)), ValueError, "x: expected one time step"),
        (lambda: fr.SRU(3, 3).stream(2).run(np.ones((4, 3, 3), F32)), ValueError, "x: expected 2 rows"),
        (lambda: fr.SRU(3, 3).stream().step(np.ones(3, F32), out=np.ones(4, F32)), ValueError, "out: expected shape"),
        (lambda: fr.SRU(3, 3).stream().reset(np.ones((2, 1, 3), F32)), ValueError, "state: expected shape"),
        (lambda: fr.SRU(3, 3).stream().reset(rows=[1]), ValueError, "rows: expected"),
        (lambda: fr.models.LanguageModel(5, "tcn"), ValueError, "cell: expected one of lstm, .*indrnn, .*got 'tcn'"),
    ],
)  # fmt: skip
def test_bad_input(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


@layers
def test_bad_gradients(name):
    layer = make(name, 3, 4, 1, F32)
    (y, _), pullback = layer.vjp(numbers(2, 2, 3))
    with pytest.raises(ValueError, match="dy: expected shape"):
        pullback(np.ones((2, 2, 5), F32))
    with pytest.raises((ValueError, TypeError), match="dstate"):
        pullback(None, np.ones((3, 2, 4), F32))
    pullback(np.ones_like(y))
    with pytest.raises(RuntimeError, match="retain"):
        pullback(np.ones_like(y))
