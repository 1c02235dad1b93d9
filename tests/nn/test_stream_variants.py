"""Streams of variants of the built-in cells, and of users' cells: the bits of the layer, states, and bad input."""

import itertools

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core
from tests.core.cases import using
from tests.jit.cells import CELLS
from tests.variants.test_layers import VARIANTS, make

F32, F64 = np.float32, np.float64
isas = pytest.mark.parametrize("isa", _core.isas())


def sequence(*shape, dtype=F32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def assert_states_equal(state, right):
    for a, b in zip(parts(state), parts(right), strict=True):
        np.testing.assert_array_equal(a, b)


def check(layer, B, T=9, singly=4):
    """Some steps one by one, the rest as a block, from a state that isn't zero: y and states of the layer."""
    x = sequence(T, B, layer.input_size, dtype=layer.dtype)
    _, begin = layer(sequence(2, B, layer.input_size, dtype=layer.dtype, seed=1))
    y, state = layer(x, begin)
    s = layer.stream(B)
    assert type(s) is fr.Stream
    s.state = begin
    assert_states_equal(s.state, begin)
    out = np.empty(y.shape[1:], layer.dtype)
    for t in range(singly):
        np.testing.assert_array_equal(s.step(x[t]) if t % 2 else s.step(x[t], out=out), y[t])
    np.testing.assert_array_equal(s.run(x[singly:]), y[singly:])
    assert_states_equal(s.state, state)


def variants():
    for cell, options in ((name, options) for name in VARIANTS for options in VARIANTS[name]):
        for after in (True, False) if cell == "gru" else (None,):
            extra = {} if after is None else {"reset_after": after}
            yield pytest.param(cell, {**options, **extra}, id=f"{cell} {options} {extra}")


every_variant = pytest.mark.parametrize(("cell", "options"), variants())
FEW = [
    ("lstm", {"layer_norm": True, "peephole": True, "zoneout": (0.2, 0.3), "clip": 2.0}),
    ("lstm", {"proj_size": 3, "coupled": True, "zoneout": (0.3, 0.2)}),
    ("gru", {"layer_norm": True, "reset_after": True}),
    ("gru", {"layer_norm": True, "reset_after": False, "zoneout": 0.25}),
    ("gru", {"clip": 0.6, "reset_after": False}),
    ("rnn", {"nonlinearity": "leaky_relu", "zoneout": 0.3}),
]
few = pytest.mark.parametrize(("cell", "options"), FEW)
users_cells = pytest.mark.parametrize("name", CELLS)


# ---- the bits of the layer


@every_variant
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_steps_and_blocks_are_the_layer(cell, options, B, dtype):
    check(make(cell, {"num_layers": 2, **options}, dtype=dtype), B)


@few
@isas
def test_every_instruction_set_and_size(isa, cell, options):
    with using(isa):
        for (I, H), B in itertools.product([(3, 15), (16, 16), (5, 17), (40, 70)], [1, 2, 7, 13]):
            for dtype in (F32, F64):
                check(make(cell, options, I, H, dtype), B, T=5, singly=2)
        check(make(cell, options, 1, 33, F32), 33, T=3, singly=1)


@few
def test_long_blocks(cell, options):
    """More steps than fit into one block, of weights that no cache close by holds."""
    check(make(cell, {"bias": False, **options}, 70, 90, F32), 1, T=95, singly=3)


@few
def test_batch_first(cell, options):
    layer = make(cell, {"batch_first": True, **options}, dtype=F32)
    x = sequence(3, 6, 4)
    s = layer.stream(3)
    y, state = layer(x)
    np.testing.assert_array_equal(np.concatenate([s.run(x[:, :2]), s.run(x[:, 2:])], axis=1), y)
    assert_states_equal(s.state, state)


@few
def test_in_a_model(cell, options):
    below = make(cell, options, 6, 8, F32)
    model = fr.Sequential(
        fr.Embedding(11, 6, seed=0), below, fr.LayerNorm(below._h_size), fr.LSTM(below._h_size, 5, seed=1),
        fr.GRU(5, 4, layer_norm=True, seed=2), fr.Linear(4, 3, seed=3),
    )  # fmt: skip
    x = np.random.default_rng(0).integers(0, 11, (40, 2))
    for B in (1, 2):
        y, state = model(x[:, :B])
        s = model.stream(B)
        np.testing.assert_array_equal([s.step(x_t) for x_t in x[:5, :B]], y[:5])
        np.testing.assert_array_equal(s.run(x[5:, :B]), y[5:])
        for mine, right in zip(s.state, state, strict=True):
            assert_states_equal(mine, right)


@users_cells
@isas
def test_users_cells(isa, name):
    for (I, H), B, dtype in itertools.product([(3, 7), (9, 33)], [1, 5], [F32, F64]):
        with using(isa):
            check(fr.CustomRNN(CELLS[name], I, H, 2, dtype=dtype, seed=0), B)


def test_users_cells_with_zoneout():
    rates = (0.1, 0.2, 0.3)
    check(fr.CustomRNN(CELLS["several_states"], 3, 17, 2, zoneout=rates, seed=0), 4)


@few
def test_nothing_is_drawn(cell, options):
    """Dropout of any kind is for training: a stream's step is that of inference."""
    options = {**options, "recurrent_dropout": 0.4, "input_dropout": 0.3, "weight_dropout": 0.2}
    check(make(cell, options, dtype=F32), 2)


@few
def test_a_row_does_not_see_the_others(cell, options):
    layer = make(cell, options, 4, 17, F32)
    x = sequence(3, 7, 4)
    right = layer(x)[0]
    x[0, 3] = np.nan
    y = layer.stream(7).run(x)
    assert np.isnan(y[:, 3]).all()
    others = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(y[:, others], right[:, others])


# ---- states


@few
def test_rows_begin_again(cell, options):
    layer = make(cell, {"num_layers": 2, **options}, dtype=F32)
    x = sequence(8, 4, 4)
    mask = np.zeros((8, 4), bool)
    mask[2, [0, 3]] = mask[5, [1, 3]] = True
    s, found = layer.stream(4), []
    for t in range(8):
        if mask[t].any():
            s.reset(rows=mask[t])
        found.append(s.step(x[t]))
    y, state = layer(x, reset_mask=mask)
    np.testing.assert_array_equal(found, y)
    assert_states_equal(s.state, state)


@pytest.mark.parametrize("name", ["lstm", "several_states", "gru"])
def test_rows_get_states(name):
    layer = fr.CustomRNN(CELLS[name], 4, 9, 2, seed=0)
    s = layer.stream(4)
    s.run(sequence(3, 4, 4))
    before = parts(s.state)
    assert len(before) == layer.num_states
    given = tuple(np.full((2, 2, 9), k + 1.5, F32) for k in range(len(before)))
    s.reset(given if len(given) > 1 else given[0], rows=[3, 1])
    for a, b, g in zip(parts(s.state), before, given, strict=True):
        np.testing.assert_array_equal(a[:, [0, 2]], b[:, [0, 2]])
        np.testing.assert_array_equal(a[:, [3, 1]], g)
    s.reset(rows=[])
    s.reset()
    assert not any(a.any() for a in parts(s.state))


def test_some_of_several_states():
    s = fr.CustomRNN(CELLS["several_states"], 4, 9, seed=0).stream(2)
    slow = sequence(1, 2, 9)
    s.reset((None, slow, None))
    assert_states_equal(s.state, (np.zeros_like(slow), slow, np.zeros_like(slow)))


@few
def test_one_sequence(cell, options):
    layer = make(cell, options, dtype=F32)
    x = sequence(6, 4)
    s = layer.stream()
    y, state = layer(x)
    found = [s.step(x[0]), s.step(x[1:2])[0], *s.run(x[2:4]), *s.run(x[4:, None])[:, 0]]
    np.testing.assert_array_equal(found, y)
    s.reset()
    s.reset(state)  # without the batch axis
    assert_states_equal(s.state, tuple(a[:, None] for a in parts(state)))


@few
def test_refresh(cell, options):
    layer, other = make(cell, options, dtype=F32), make(cell, options, dtype=F32)
    for array in other.params.values():
        array += 0.25
    x = sequence(6, 2, 4)
    s = layer.stream(2)
    old, state = layer(x)
    layer.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(s.run(x), old)  # as packed
    s.refresh()
    assert_states_equal(s.state, state)
    np.testing.assert_array_equal(s.run(x), other(x, state)[0])


@few
def test_memory_of_any_layout_and_in_place(cell, options):
    layer = fr.Sequential(make(cell, options, 4, 7, F32), fr.Linear(options.get("proj_size", 7), 4, seed=1))
    x = sequence(6, 3, 4)
    y, _ = layer(x)
    wide = np.zeros((6, 3, 8), F32)
    wide[..., 2:6] = x
    s = layer.stream(3)
    for given in (wide[..., 2:6], np.asfortranarray(x), x[::-1].copy()[::-1], x.tolist()):
        s.reset()
        np.testing.assert_array_equal(s.run(given), y)
        s.reset()
        np.testing.assert_array_equal([s.step(x_t) for x_t in given], y)
    s.reset()
    np.testing.assert_array_equal(s.run(x, out=x), y)


def test_a_stream_keeps_its_cell_and_its_instruction_set():
    for isa in _core.isas():
        layer = make("gru", {"layer_norm": True}, 5, 19, F32)
        x = sequence(4, 2, 5)
        with using(isa):
            s, right = layer.stream(2), layer(x)[0]
        del layer
        np.testing.assert_array_equal(s.run(x), right)
        s.reset()
        s.refresh()
        np.testing.assert_array_equal(s.run(x), right)


# ---- bad input


def test_bad_states():
    s = fr.CustomRNN(CELLS["several_states"], 4, 9, seed=0).stream(2)
    h = sequence(1, 2, 9)
    s.reset((h, h, h))
    for bad, error, match in [
        ((h, h), TypeError, "state: expected a tuple of 3 arrays"),
        (h[0], TypeError, "state: expected a tuple of 3 arrays"),
        ((h, h, h[:, :1]), ValueError, r"state\[2\]"),
        ((h, h.astype(F64), h), TypeError, r"state\[1\]"),
    ]:
        with pytest.raises(error, match=match):
            s.reset(bad)
    assert_states_equal(s.state, (h, h, h))
    with pytest.raises(ValueError, match="rows"):
        s.reset(rows=[2])


@few
def test_bad_input(cell, options):
    layer = make(cell, options, dtype=F32)
    s = layer.stream(2)
    for bad, error in [
        (np.ones((3, 4), F32), ValueError),
        (np.ones((2, 5), F32), ValueError),
        (np.ones((2, 4)), TypeError),
    ]:
        with pytest.raises(error, match="x: "):
            s.step(bad)
    with pytest.raises(ValueError, match="out: "):
        s.step(np.ones((2, 4), F32), out=np.ones((2, 9), F32))
    with pytest.raises(ValueError, match="bidirectional"):
        make(cell, {**options, "bidirectional": True}, dtype=F32).stream()


def test_the_core_takes_nothing_but_good_cells():
    W, R, b, v = np.zeros((12, 2), F32), np.zeros((12, 3), F32), np.zeros(12, F32), np.zeros(3, F32)
    sigmoid, tanh = (_core.ACTIVATIONS.index(name) for name in ("sigmoid", "tanh"))
    functions = ((sigmoid, 0.0, 0.0), (tanh, 0.0, 0.0), (tanh, 0.0, 0.0))
    options = _core.Options((True, False, False, 0.0, functions))
    good = (_core.STREAM_CELL, _core.LSTM, 2, 3, 3, 0.0, W, R, None, b, b)
    _core.Stream([(*good, options, None, None, v, v, v)], 1, F32)
    norm = _core.Options((True, False, False, 0.0, functions), norm=5)
    drawn = _core.Options((True, False, False, 0.0, functions), recurrent_dropout=0.5)
    gru = (_core.STREAM_CELL, _core.GRU_AFTER, 2, 3, 3, 0.0, W[:9], R[:9], None, b[:9], b[:9])
    for bad in [
        (*good, options, None, None, v, v),
        (*good, options, None, None, v, v, v[:2]),
        (*good, options, None, None, v, v, b),
        (*good, norm, b, b, v, v, v),
        (*good, _core.Options((True, False, False, 0.0, functions), norm=4), b, None, v, v, v),
        (*good, drawn, None, None, v, v, v),
        (*good, _core.Options(), None, None),
        (*gru, options, None, None, v, v, v),
        (*good[:7], R[:9], None, b, b, options, None, None, v, v, v),
    ]:
        with pytest.raises((ValueError, TypeError)):
            _core.Stream([bad], 1, F32)
    s = _core.Stream([(*good, options, None, None, v, v, v)], 1, F32)
    with pytest.raises(ValueError, match="states: the cell has more"):
        s.read_states([(0, np.empty((1, 3), F32))])
