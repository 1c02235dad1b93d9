"""LSTM, GRU and RNN: what they compute, against PyTorch's stored numbers, the reference, differences."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import reference
from tests.reference.finite_differences import assert_close, check_gradients
from tests.reference.test_torch import DATA, RECURRENT, under

F32, F64 = np.float32, np.float64
CLASSES = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn_tanh": fr.RNN, "rnn_relu": fr.RNN, "rnn_sigmoid": fr.RNN}

# name: (class, options, the reference's name and options)
LAYERS = {
    "lstm": (fr.LSTM, {}, "lstm", {}),
    "lstm_projected": (fr.LSTM, {"proj_size": 2}, "lstm", {}),
    "gru": (fr.GRU, {}, "gru", {}),
    "gru_before": (fr.GRU, {"reset_after": False}, "gru", {"reset_after": False}),
    "rnn": (fr.RNN, {}, "rnn_tanh", {}),
    "rnn_relu": (fr.RNN, {"nonlinearity": "relu"}, "rnn_relu", {}),
    "rnn_sigmoid": (fr.RNN, {"nonlinearity": "sigmoid"}, "rnn_sigmoid", {}),
}
layers = pytest.mark.parametrize("name", LAYERS)


def make(name, input_size=3, hidden_size=4, **options):
    cls, own, _, _ = LAYERS[name]
    return cls(input_size, hidden_size, **own, **options, seed=0)


def flat(value):
    """The arrays in a nested tuple, without what is None."""
    if isinstance(value, tuple):
        return [array for item in value for array in flat(item)]
    return [] if value is None else [value]


def same(found, right):
    """Bitwise equality, array by array."""
    found, right = flat(found), flat(right)
    assert len(found) == len(right)
    for a, b in zip(found, right, strict=True):
        np.testing.assert_array_equal(a, b)


def like(rng, value):
    """Random numbers in the shapes of arrays."""
    if isinstance(value, tuple):
        return tuple(like(rng, v) for v in value)
    return rng.standard_normal(value.shape).astype(value.dtype)


def problem(layer, T=5, B=3, *, batch_first=False, unbatched=False, seed=0):
    """(x, state, dy, dstate) for a layer."""
    rng = np.random.default_rng(seed)
    shape = (T,) if unbatched else (B, T) if batch_first else (T, B)
    x = rng.standard_normal((*shape, layer.input_size)).astype(F32).astype(layer.dtype)
    y, state = layer(x)
    return x, like(rng, state), like(rng, y), like(rng, state)


# ---- PyTorch


def from_torch(case, dtype=F64, **options):
    """The layer of a stored case with its parameters, and its lengths."""
    d = DATA[case]
    config, params = json.loads(str(d["config"])), under(d, "param")
    cell, lengths = config.pop("cell"), config.pop("lengths")
    hidden = d["c_0" if "c_0" in d else "h_0"].shape[-1]
    if "weight_hr_l0" in params:
        options["proj_size"] = len(params["weight_hr_l0"])
    if cell.startswith("rnn"):
        options["nonlinearity"] = cell[4:]
    bias = "bias_ih_l0" in params
    layer = CLASSES[cell](d["x"].shape[-1], hidden, bias=bias, dtype=dtype, **config, **options)
    layer.load_state_dict(params)
    return layer, lengths


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("case", RECURRENT)
def test_against_pytorch(case, batch_first):
    d = DATA[case]
    layer, lengths = from_torch(case, batch_first=batch_first)

    def layout(a):
        return a.swapaxes(0, 1) if batch_first else a

    def states(prefix, suffix):
        return tuple(d[f"{prefix}{s}_{suffix}"] for s in ("hc" if "c_0" in d else "h"))

    def as_state(arrays):
        return arrays if len(arrays) == 2 else arrays[0]

    (y, state_n), pullback = layer.vjp(layout(d["x"]), as_state(states("", "0")), lengths=lengths)
    dx, dstate_0 = pullback(layout(d["dy"]), as_state(states("d", "n")))
    found = [layout(y), layout(dx), *flat(state_n), *flat(dstate_0)]
    for a, b in zip(found, [d["y"], d["dx"], *states("", "n"), *states("d", "0")], strict=True):
        assert_close(a, b, 1e-12)
    assert layer.params.keys() == under(d, "grad").keys()
    for name, grad in layer.grads.items():
        assert_close(grad, d[f"grad/{name}"], 1e-12, name)


@pytest.mark.parametrize("case", RECURRENT)
def test_against_pytorch_in_float32(case):
    d = DATA[case]
    layer, lengths = from_torch(case, F32)
    states = (d["h_0"], d["c_0"]) if "c_0" in d else d["h_0"]
    states = tuple(s.astype(F32) for s in states) if isinstance(states, tuple) else states.astype(F32)
    y, _ = layer(d["x"].astype(F32), states, lengths=lengths)
    assert y.dtype == F32
    assert_close(y, d["y"], 1e-5)


# ---- the reference

STACKS = {
    "one": {},
    "no_bias": {"bias": False},
    "two_directions": {"bidirectional": True},
    "three_layers": {"num_layers": 3},
    "all": {"num_layers": 2, "bidirectional": True},
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("lengths", [None, (5, 0, 2)], ids=["full", "ragged"])
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@layers
def test_against_the_reference(name, stack, lengths, dtype):
    _, _, cell, options = LAYERS[name]
    layer = make(name, 6, 17, **stack, dtype=dtype)
    x, state, dy, dstate = problem(layer)
    outputs, pullback = layer.vjp(x, state, lengths=lengths)
    found = outputs, pullback(dy, dstate)

    def wide(value):
        return tuple(wide(v) for v in value) if isinstance(value, tuple) else value.astype(F64)

    params = {key: wide(a) for key, a in layer.params.items()}
    options = {**options, **{k: v for k, v in stack.items() if k != "bias"}, "lengths": lengths}
    right, back = reference.stack_vjp(cell, wide(x), wide(state), params, **options)
    dx, dstate_0, grads = back(wide(dy), wide(dstate))
    forward, gradient = (1e-5, 1e-4) if dtype is F32 else (1e-12, 1e-12)
    for a, b in zip(flat(found[0]), flat(right), strict=True):
        assert a.dtype == dtype
        assert_close(a, b, forward)
    for a, b in zip(flat(found[1]), flat((dx, dstate_0)), strict=True):
        assert_close(a, b, gradient)
    assert layer.grads.keys() == grads.keys()
    for key, grad in layer.grads.items():
        assert_close(grad, grads[key], gradient, key)


# ---- finite differences


def check_stack(layer, x, state, dy, dstate, **options):
    _, pullback = layer.vjp(x, state, **options)
    dx, dstate_0 = pullback(dy, dstate)
    inputs = {"x": x, **layer.params} | {f"state {k}": s for k, s in enumerate(flat(state))}
    gradients = {"x": dx, **layer.grads} | {f"state {k}": d for k, d in enumerate(flat(dstate_0))}
    check_gradients(lambda: layer.vjp(x, state, **options)[0], inputs, (dy, dstate), gradients)


@pytest.mark.parametrize("lengths", [None, (3, 0, 2)], ids=["full", "ragged"])
@pytest.mark.parametrize("batch_first", [False, True])
@layers
def test_finite_differences(name, batch_first, lengths):
    layer = make(name, 2, 3, num_layers=2, bidirectional=True, batch_first=batch_first, dtype=F64)
    check_stack(layer, *problem(layer, 3, batch_first=batch_first), lengths=lengths)


@pytest.mark.parametrize("lengths", [None, (3, 0, 2)], ids=["full", "ragged"])
@layers
def test_finite_differences_with_dropout(name, lengths):
    """The same seed gives the same masks, so that the layer is a function."""
    layer = make(name, 2, 3, num_layers=3, dropout=0.4, dtype=F64)
    check_stack(layer, *problem(layer, 3), lengths=lengths, seed=7)


@layers
def test_finite_differences_of_one_sequence(name):
    layer = make(name, 2, 3, bidirectional=True, bias=False, dtype=F64)
    check_stack(layer, *problem(layer, 4, unbatched=True))


# ---- layouts and states


@layers
def test_order_of_states(name):
    """[num_layers·D, B, ·]: by layer, then direction; y holds the last layer's directions side by side."""
    layer = make(name, 3, 4, num_layers=2, bidirectional=True, dtype=F64)
    x, state, _, _ = problem(layer)
    y, state_n = layer(x, state)
    h_n = flat(state_n)[0]
    P = y.shape[-1] // 2
    np.testing.assert_array_equal(h_n[2], y[-1, :, :P])
    np.testing.assert_array_equal(h_n[3], y[0, :, P:])
    below = make(name, 3, 4, bidirectional=True, dtype=F64)
    below.load_state_dict({key: a for key, a in layer.params.items() if "_l0" in key})
    first = tuple(s[:2] for s in state) if isinstance(state, tuple) else state[:2]
    _, state_1 = below(x, first)
    for whole, part in zip(flat(state_n), flat(state_1), strict=True):
        np.testing.assert_array_equal(whole[:2], part)


@layers
def test_state_is_carried_from_window_to_window(name):
    layer = make(name, 3, 17, num_layers=2)
    x, state, _, _ = problem(layer, T=9)
    y, state_n = layer(x, state)
    parts = []
    for window in (x[:1], x[1:5], x[5:]):
        part, state = layer(window, state)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts), y)
    same(state, state_n)


@pytest.mark.parametrize("batch_first", [False, True])
@layers
def test_one_sequence_is_a_batch_of_one(name, batch_first):
    layer = make(name, 3, 17, num_layers=2, bidirectional=True, batch_first=batch_first)
    x, state, dy, dstate = problem(layer, unbatched=True)
    outputs, pullback = layer.vjp(x, state, lengths=[4])
    found = outputs, pullback(dy, dstate)
    axis = 0 if batch_first else 1

    def batched(value):
        return tuple(s[:, None] for s in value) if isinstance(value, tuple) else value[:, None]

    outputs, pullback = layer.vjp(np.expand_dims(x, axis), batched(state), lengths=[4])
    right = outputs, pullback(np.expand_dims(dy, axis), batched(dstate))
    for a, b in zip(flat(found), flat(right), strict=True):
        np.testing.assert_array_equal(a, b.reshape(a.shape))
        assert a.ndim == 2
    same(layer(x, state, lengths=[4]), found[0])
    same(layer(x, state, lengths=4), found[0])


@layers
def test_batch_first_is_a_layout(name):
    layer, other = (make(name, 3, 17, num_layers=2, bidirectional=True, batch_first=flag) for flag in (False, True))
    x, state, dy, dstate = problem(layer)
    lengths = [2, 5, 0]
    (y, state_n), pullback = layer.vjp(x, state, lengths=lengths)
    dx, dstate_0 = pullback(dy, dstate)
    (y_first, found), pullback = other.vjp(x.swapaxes(0, 1), state, lengths=lengths)
    dx_first, dfound = pullback(dy.swapaxes(0, 1), dstate)
    same((y_first.swapaxes(0, 1), found), (y, state_n))
    same((dx_first.swapaxes(0, 1), dfound), (dx, dstate_0))
    assert y_first.flags.c_contiguous
    same(tuple(other.grads.values()), tuple(layer.grads.values()))


@layers
def test_padding(name):
    """What x and dy hold past a row's length is never read; y and dx are zero there."""
    layer = make(name, 3, 17, num_layers=2, bidirectional=True)
    x, state, dy, dstate = problem(layer)
    lengths = np.array([2, 5, 0])
    padding = np.arange(5)[:, None] >= lengths
    (y, state_n), pullback = layer.vjp(x, state, lengths=lengths)
    dx, dstate_0 = pullback(dy, dstate)
    assert not y[padding].any()
    assert not dx[padding].any()
    grads = {key: grad.copy() for key, grad in layer.grads.items()}
    layer.zero_grads()
    x[padding], dy[padding] = np.nan, np.inf
    outputs, pullback = layer.vjp(x, state, lengths=lengths)
    same((*outputs, pullback(dy, dstate)), (y, state_n, (dx, dstate_0)))
    same(tuple(layer.grads.values()), tuple(grads.values()))


@layers
def test_rows_are_independent(name):
    layer = make(name, 3, 17, num_layers=2, bidirectional=True)
    x, state, _, _ = problem(layer, B=7)
    y, state_n = layer(x, state)
    for row in range(7):
        part = tuple(s[:, row : row + 1] for s in state) if isinstance(state, tuple) else state[:, row : row + 1]
        found, found_n = layer(x[:, row : row + 1], part)
        np.testing.assert_array_equal(found[:, 0], y[:, row])
        for a, b in zip(flat(found_n), flat(state_n), strict=True):
            np.testing.assert_array_equal(a[:, 0], b[:, row])


# ---- dropout


@layers
def test_dropout(name):
    layer = make(name, 3, 40, num_layers=3, dropout=0.5, bidirectional=True)
    plain = make(name, 3, 40, num_layers=3, bidirectional=True)
    plain.load_state_dict(layer.state_dict())
    x, state, _, _ = problem(layer)
    right = plain(x, state)
    same(layer(x, state), right)  # off in inference
    same(layer.vjp(x, state, dropout=False)[0], right)
    first = layer.vjp(x, state, seed=3)[0]
    same(layer.vjp(x, state, seed=3)[0], first)
    assert not np.array_equal(first[0], right[0])
    assert not np.array_equal(layer.vjp(x, state, seed=4)[0][0], first[0])
    assert not np.array_equal(layer.vjp(x, state)[0][0], layer.vjp(x, state)[0][0])
    assert not np.array_equal(layer(x, state, dropout=True)[0], layer(x, state, dropout=True)[0])
    one, two = (layer.vjp(x, state, seed=np.random.default_rng(5))[0] for _ in range(2))
    same(one, two)
    rng = np.random.default_rng(5)
    assert not np.array_equal(layer.vjp(x, seed=rng)[0][0], layer.vjp(x, seed=rng)[0][0])


def test_dropout_is_between_layers_only():
    """The first layer's states and the last layer's outputs know nothing of it."""
    layer = fr.LSTM(3, 400, 2, dropout=0.5, seed=0)
    x, _, _, _ = problem(layer)
    _, (h_n, c_n) = layer(x)
    (dropped, (h, c)), _ = layer.vjp(x, seed=1)
    np.testing.assert_array_equal(h[0], h_n[0])
    np.testing.assert_array_equal(c[0], c_n[0])
    assert (dropped != 0).all()
    assert not np.array_equal(h[1], h_n[1])
    single = fr.LSTM(3, 4, 1, dropout=0.9, seed=0)
    same(single.vjp(x, seed=1)[0], single(x))


def test_dropout_keeps_the_mean():
    """A linear chain: relu of positive numbers, so that the mean over masks is the value without them."""
    layer = fr.RNN(1, 600, 2, nonlinearity="relu", dropout=0.3, bias=False, dtype=F64)
    for key, param in layer.params.items():
        param[...] = 0 if "hh" in key else 1
    x = np.ones((1, 1, 1))
    found = [layer.vjp(x, seed=seed)[0][0][0, 0, 0] / 600 for seed in range(20)]
    # each is a mean of 600 values of variance p/(1-p) = 0.43
    assert np.abs(np.array(found) - 1).max() < 5 * (0.43 / 600) ** 0.5
    assert len(set(found)) > 10


# ---- checkpoints


@pytest.mark.parametrize("steps", [1, 5, 1000])
@layers
def test_checkpoint_changes_no_bit(name, steps):
    layer = make(name, 3, 17, num_layers=2, bidirectional=True, dropout=0.2)
    x, state, dy, dstate = problem(layer, T=30, B=50)
    lengths = np.random.default_rng(0).integers(0, 31, 50)

    def run(**options):
        layer.zero_grads()
        outputs, pullback = layer.vjp(x, state, lengths=lengths, seed=1, **options)
        back = pullback(dy, dstate)
        return outputs, back, tuple(grad.copy() for grad in layer.grads.values())

    same(run(checkpoint=steps), run())


def test_checkpoint_saves_memory():
    """Gates and cells (66 MB here) are computed again instead of kept."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory is in use")
    code = """if True:
        import sys, numpy as np, fastrnn as fr
        pages = lambda: int(open("/proc/self/statm").read().split()[1])
        layer, x = fr.LSTM(8, 128), np.zeros((400, 64, 8), np.float32)
        layer(x)
        before = pages()
        kept = layer.vjp(x, checkpoint=20 if sys.argv[1] == "1" else None)
        print(pages() - before)
    """
    commands = [[sys.executable, "-c", code, flag] for flag in "01"]
    used = [int(subprocess.run(c, capture_output=True, check=True, timeout=60).stdout) for c in commands]
    assert used[1] < used[0] / 3
