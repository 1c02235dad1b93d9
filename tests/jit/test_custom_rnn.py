"""Layers of users' cells: against the built-in ones, PyTorch and finite differences, with all that layers have."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import jit
from tests.jit import cells
from tests.jit.cells import CELLS, in_torch
from tests.jit.schedule import torch_layer
from tests.reference.finite_differences import assert_close, check_gradients

pytest.importorskip("numba")

STEPS, BATCH, INPUTS = 7, 4, 3
LENGTHS = [7, 3, 0, 5]
BUILT_IN = {"lstm": fr.LSTM, "gru": fr.GRU}


def layers_of(name, hidden, **options):
    """A built-in layer and a user's with the same weights."""
    ours = BUILT_IN[name](INPUTS, hidden, seed=0, **options)
    theirs = fr.CustomRNN(CELLS[name], INPUTS, hidden, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def tuples(state):
    return state if isinstance(state, tuple) else (state,)


def inputs(dtype, hidden=None, seed=0):
    x = np.random.default_rng(seed).standard_normal((STEPS, BATCH, INPUTS))
    return x.astype(dtype)


OPTIONS = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "both ways": {"bidirectional": True},
    "stacked both ways": {"num_layers": 2, "bidirectional": True},
    "without bias": {"bias": False},
    "batch first": {"batch_first": True},
    "dropout": {"num_layers": 2, "dropout": 0.4},
}
CALLS = {"whole": {}, "ragged": {"lengths": LENGTHS}, "checkpoint": {"checkpoint": 2}}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("hidden", [5, 16, 33])
@pytest.mark.parametrize("name", BUILT_IN)
def test_like_the_built_in_ones(name, hidden, options, call):
    if name == "lstm" and not OPTIONS[options].get("bias", True):
        return  # its forget gate has an initial bias
    ours, theirs = layers_of(name, hidden, dtype=np.float64, **OPTIONS[options])
    x, rng = inputs(np.float64), np.random.default_rng(1)
    x = x.swapaxes(0, 1) if ours.batch_first else x
    found = []
    for layer in (ours, theirs):
        layer.zero_grads()
        (y, state), pullback = layer.vjp(x, seed=3, **CALLS[call])
        rng = np.random.default_rng(2)
        dy = rng.standard_normal(y.shape)
        dstate = tuple(rng.standard_normal(s.shape) for s in tuples(state))
        dx, dstate_0 = pullback(dy, dstate if name == "lstm" else dstate[0])
        found.append([y, *tuples(state), dx, *tuples(dstate_0), *layer.grads.values()])
    for a, b in zip(*found, strict=True):
        assert_close(b, a, 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", CELLS)
def test_against_torch(name, dtype):
    pytest.importorskip("torch")
    cell, rng, hidden = CELLS[name], np.random.default_rng(3), 9
    layer = fr.CustomRNN(cell, INPUTS, hidden, dtype=dtype, seed=1)
    x, dy = inputs(np.float64), rng.standard_normal((STEPS, BATCH, hidden))
    initial, dfinal = (list(rng.standard_normal((len(cell.states), BATCH, hidden))) for _ in range(2))
    short = {"W": "weight_ih_l0", "R": "weight_hh_l0", "b_w": "bias_ih_l0", "b_r": "bias_hh_l0"}
    short |= {vector: f"{vector}_l0" for vector in cell.vectors}
    p = {key: layer.params[name].astype(np.float64) for key, name in short.items()}
    wanted_y, wanted_final, wanted = torch_layer(cell, in_torch(name), p, x, initial, dy, dfinal)

    def given(states):
        arrays = tuple(s[None].astype(dtype) for s in states)
        return arrays if len(arrays) > 1 else arrays[0]

    (y, final), pullback = layer.vjp(x.astype(dtype), given(initial))
    dx, dinitial = pullback(dy.astype(dtype), given(dfinal))
    forward, backward = (1e-5, 1e-4) if dtype is np.float32 else (1e-12, 1e-12)
    assert_close(y, wanted_y, forward, "y")
    for a, b in zip(tuples(final), wanted_final):
        assert_close(a[0], b, forward, "state")
    assert_close(dx, wanted["x"], backward, "dx")
    for a, b in zip(tuples(dinitial), wanted["states"]):
        assert_close(a[0], b, backward, "dstate_0")
    for key, parameter in short.items():
        assert_close(layer.grads[parameter], wanted[key], backward, parameter)


@pytest.mark.parametrize("call", [{}, {"lengths": LENGTHS}])
@pytest.mark.parametrize("name", [name for name in CELLS if name != "everything"])
def test_finite_differences(name, call):
    """Two layers in two directions, with states."""
    cell, rng = CELLS[name], np.random.default_rng(0)
    layer = fr.CustomRNN(cell, 2, 3, 2, bidirectional=True, dtype=np.float64, seed=0)
    x = rng.standard_normal((STEPS, BATCH, 2))
    start = [rng.standard_normal((4, BATCH, 3)) for _ in cell.states]

    def forward():
        y, state = layer(x, tuple(start) if len(start) > 1 else start[0], **call)
        return y, tuples(state)

    y, state = forward()
    cotangents = rng.standard_normal(y.shape), tuple(rng.standard_normal(s.shape) for s in state)
    _, pullback = layer.vjp(x, tuple(start) if len(start) > 1 else start[0], **call)
    dx, dstart = pullback(cotangents[0], cotangents[1] if len(start) > 1 else cotangents[1][0])
    arrays = {"x": x, **{f"state {k}": s for k, s in enumerate(start)}, **layer.params}
    gradients = {"x": dx, **{f"state {k}": d for k, d in enumerate(tuples(dstart))}, **layer.grads}
    check_gradients(forward, arrays, cotangents, gradients)


# ---- the same bits


@pytest.mark.parametrize("name", ["gru", "peephole", "several_states"])
@pytest.mark.parametrize("batch, hidden", [(1, 200), (13, 48), (32, 160)])
def test_threads_and_checkpoints_don_t_change_a_bit(name, batch, hidden, threads):
    layer = fr.CustomRNN(CELLS[name], 24, hidden, 2, bidirectional=True, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, batch, 24), dtype=np.float32)
    dy = rng.standard_normal((40, batch, 2 * hidden), dtype=np.float32)
    lengths = rng.integers(0, 41, batch)
    found = []
    for count, checkpoint in [(1, None), (2, None), (3, None), (8, None), (1, 5), (3, 11)]:
        threads(count)
        layer.zero_grads()
        (y, state), pullback = layer.vjp(x, lengths=lengths, checkpoint=checkpoint)
        dx, dstate = pullback(dy)
        found.append([y, *tuples(state), dx, *tuples(dstate), *(g.copy() for g in layer.grads.values())])
        np.testing.assert_array_equal(layer(x, lengths=lengths)[0], y)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["many_gates", "lstm"])
def test_stacks_side_by_side(name, threads):
    """Layers that run as a wavefront on several threads."""
    layer = fr.CustomRNN(CELLS[name], 48, 48, 4, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 4, 48), dtype=np.float32)
    dy = rng.standard_normal(x.shape, dtype=np.float32)
    found = []
    for count in (1, 2, 4):
        threads(count)
        layer.zero_grads()
        (y, state), pullback = layer.vjp(x)
        dx, dstate = pullback(dy)
        found.append([layer(x)[0], y, *tuples(state), dx, *tuples(dstate), *(g.copy() for g in layer.grads.values())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_retain():
    layer = fr.CustomRNN(CELLS["peephole"], INPUTS, 6, 2, seed=0)
    (y, _), pullback = layer.vjp(inputs(np.float32), retain=True)
    first = [pullback(np.ones_like(y))[0], layer.grads["p_i_l0"].copy()]
    layer.zero_grads()
    np.testing.assert_array_equal(pullback(np.ones_like(y))[0], first[0])
    np.testing.assert_array_equal(layer.grads["p_i_l0"], first[1])


# ---- what layers have besides


def test_one_sequence_and_one_hot():
    layer = fr.CustomRNN(CELLS["gru"], 5, 4, seed=0)
    tokens = np.array([[0, 3], [4, 1], [2, 2]])
    dense = np.eye(5, dtype=np.float32)[tokens]
    np.testing.assert_array_equal(layer(fr.one_hot(tokens, 5))[0], layer(dense)[0])
    np.testing.assert_array_equal(layer(dense[:, 0])[0], layer(dense)[0][:, 0])


def test_resets():
    """A reset is a new beginning."""
    layer = fr.CustomRNN(CELLS["several_states"], INPUTS, 6, dtype=np.float64, seed=0)
    x, mask = inputs(np.float64), np.zeros((STEPS, BATCH), bool)
    mask[3, 1] = True
    y, _ = layer(x, reset_mask=mask)
    np.testing.assert_array_equal(y[:, 0], layer(x)[0][:, 0])
    np.testing.assert_array_equal(y[3:, 1], layer(x[3:, 1:2])[0][:, 0])


def test_all_states():
    layer = fr.CustomRNN(CELLS["several_states"], INPUTS, 6, 2, dtype=np.float64, seed=0)
    (y, state, states), pullback = layer.vjp(inputs(np.float64), return_all_states=True)
    assert len(states) == 3 and states[0].shape == (2, STEPS, BATCH, 6)
    for last, every in zip(state, states):
        np.testing.assert_array_equal(every[:, -1], last)
    np.testing.assert_array_equal(states[0][1], y)
    assert pullback(None, None, tuple(np.ones_like(s) for s in states))[0].any()


@pytest.mark.parametrize(
    "options",
    [{"zoneout": (0.2, 0.1, 0.3)}, {"recurrent_dropout": 0.3}, {"input_dropout": 0.3}, {"weight_dropout": 0.3}],
)
def test_noise(options):
    """The gradients are those of the very masks that were drawn, which a seed gives again."""
    layer = fr.CustomRNN(CELLS["several_states"], 2, 3, 2, dtype=np.float64, seed=0, **options)
    x = np.random.default_rng(0).standard_normal((4, 2, 2))
    (y, _), pullback = layer.vjp(x, seed=5)
    assert not np.array_equal(y, layer(x)[0])
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx, _ = pullback(dy)
    arrays, gradients = {"x": x, **layer.params}, {"x": dx, **layer.grads}
    check_gradients(lambda: layer.vjp(x, seed=5)[0][0], arrays, dy, gradients)


def test_in_models_and_training():
    """Sequential, Model, fit."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 64, 2), dtype=np.float32)
    target = (x.sum(axis=(0, 2)) > 0).astype(np.int64)
    model = fr.Sequential(fr.CustomRNN(CELLS["peephole"], 2, 16, seed=0), fr.Last(), fr.Linear(16, 2, seed=1))

    def loss(outputs, wanted):
        return fr.losses.cross_entropy(outputs, wanted)

    history = fr.fit(
        model, [fr.Batch(x, target)], loss, fr.optim.Adam(model, lr=0.02), epochs=40, progress=False, seed=0
    )  # fmt: skip
    assert history is not None
    outputs = model(x)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    assert (outputs.argmax(-1) == target).mean() > 0.9


def test_initial_values():
    layer = fr.CustomRNN(CELLS["lstm"], 3, 4, 2, seed=0)
    for k in range(2):
        np.testing.assert_array_equal(layer.params[f"bias_ih_l{k}"][4:8], 1)
        np.testing.assert_array_equal(layer.params[f"bias_hh_l{k}"][4:8], 0)
    assert len(np.unique(layer.params["bias_ih_l0"][:4])) == 4
    layer = fr.CustomRNN(CELLS["fast_grnn"], 3, 4, bidirectional=True, seed=0)
    assert list(layer.params) == [
        f"{name}_l0{end}"
        for end in ("", "_reverse")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "zeta", "nu")
    ]
    np.testing.assert_array_equal(layer.params["zeta_l0_reverse"], 1)
    np.testing.assert_array_equal(layer.params["nu_l0"], -4)
    with pytest.raises(ValueError, match=r"bias: expected True, since .* has an initial bias of f"):
        fr.CustomRNN(CELLS["lstm"], 3, 4, bias=False)


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"cell: expected a cell made by fr\.cell, or its name, got .*function"):
        fr.CustomRNN(lambda wx, rh, s: wx.a, 3, 4)
    with pytest.raises(ValueError, match="zoneout: expected a number or 3 of them"):
        fr.CustomRNN(CELLS["several_states"], 3, 4, zoneout=(0.1, 0.2))
    layer = fr.CustomRNN(CELLS["several_states"], 3, 4)
    with pytest.raises((TypeError, ValueError), match="state"):
        layer(inputs(np.float32), np.zeros((1, BATCH, 4), np.float32))
    with pytest.raises(ValueError, match="vectors: 'bias_ih' is the name of another parameter"):
        fr.cell(gates=("a",), vectors=("bias_ih",))


# ---- files, copies


def test_save_and_load(tmp_path):
    layer = fr.CustomRNN(cells.importable, 3, 4, 2, zoneout=0.1, dtype=np.float64, seed=0)
    fr.save(layer, tmp_path / "m.safetensors")
    again = fr.load(tmp_path / "m.safetensors")
    assert again.cell is cells.importable and again.config() == layer.config()
    x = inputs(np.float64)
    np.testing.assert_array_equal(again(x)[0], layer(x)[0])
    model = fr.Sequential(layer, fr.Linear(4, 2, dtype=np.float64))
    fr.save(model, tmp_path / "s.safetensors")
    np.testing.assert_array_equal(fr.load(tmp_path / "s.safetensors")(x)[0], model(x)[0])


def make_simple(factor):
    @fr.cell(gates=("a",))
    def simple(wx, rh, s):
        return jit.tanh(wx.a + factor * rh.a)

    return simple


def test_files_know_cells_by_name(tmp_path):
    cell = make_simple(1.0)
    path = tmp_path / "m.safetensors"
    fr.save(fr.CustomRNN(cell, 3, 4, seed=0), path)
    assert fr.load(path).cell is cell
    other = make_simple(2.0)  # of the same name
    with pytest.raises(ValueError, match=r"'tests.jit.*simple' has other equations now; .*cells="):
        fr.load(path)
    assert fr.load(path, cells={"make_simple.<locals>.simple": other}).cell is other
    assert fr.load(path, cells={other.name: other}).cell is other
    rewritten = make_simple(1)
    assert fr.load(path).cell is rewritten  # the same values
    del cell, other, rewritten
    import gc

    gc.collect()
    with pytest.raises(ValueError, match=r"is not known; import tests\.jit\.test_custom_rnn, where it was made"):
        fr.load(path)
    with pytest.raises(TypeError, match=r"cells\['a'\]: expected a cell made by fr\.cell, got"):
        fr.load(path, cells={"a": 3})


def test_loading_imports_nothing(tmp_path):
    layer = fr.CustomRNN(cells.importable, 3, 4, seed=0)
    fr.save(layer, tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    name = cells.importable.name.encode()
    evil = b"antigravity:x".ljust(len(name), b"y")
    (tmp_path / "m.safetensors").write_bytes(data.replace(name, evil))
    import sys

    with pytest.raises(ValueError, match="is not known"):
        fr.load(tmp_path / "m.safetensors")
    assert "antigravity" not in sys.modules


def test_pickles_and_copies():
    layer = fr.CustomRNN(cells.importable, 3, 4, seed=0)
    x = inputs(np.float32)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert other.cell is layer.cell
        np.testing.assert_array_equal(other(x)[0], layer(x)[0])
    with pytest.raises(TypeError, match="can't be pickled: define it at the top of a module"):
        pickle.dumps(fr.CustomRNN(CELLS["gru"], 3, 4))
    assert copy.deepcopy(fr.CustomRNN(CELLS["gru"], 3, 4)).cell is CELLS["gru"]


# ---- uncompiled


def test_uncompiled(monkeypatch, threads):
    threads(3)
    layer = fr.CustomRNN(CELLS["peephole"], INPUTS, 20, 2, bidirectional=True, dtype=np.float64, seed=0)
    found = []
    for how in ("numba", "numpy"):
        monkeypatch.setenv("FASTRNN_JIT", how)
        layer.zero_grads()
        (y, state), pullback = layer.vjp(inputs(np.float64), lengths=LENGTHS)
        dx, dstate = pullback(np.ones_like(y))
        found.append([y, *state, dx, *dstate, *(g.copy() for g in layer.grads.values())])
    for a, b in zip(*found, strict=True):
        assert_close(b, a, 1e-12)
    assert fr.get_num_threads() == 3


def test_errors_in_uncompiled_functions_come_out(monkeypatch):
    monkeypatch.setenv("FASTRNN_JIT", "numpy")

    @fr.cell(gates=("a",))
    def fails(wx, rh, s):
        if isinstance(wx.a, np.ndarray) and (wx.a > 90).any():
            raise ZeroDivisionError("more than 90")
        return jit.tanh(wx.a + rh.a)

    layer = fr.CustomRNN(fails, INPUTS, 4, seed=0)
    x = inputs(np.float32)
    layer(x)
    layer.params["bias_ih_l0"][:] = 100
    with pytest.raises(ZeroDivisionError, match="more than 90"):
        layer(x)
    with pytest.raises(ZeroDivisionError, match="more than 90"):
        layer.vjp(x)
    layer.params["bias_ih_l0"][:] = 0
    assert np.isfinite(layer(x)[0]).all()
