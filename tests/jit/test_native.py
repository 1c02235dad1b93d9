"""Streams inside users' `@njit` functions: the bits of Python's calls, and errors."""

import numpy as np
import pytest

import fastrnn as fr
from tests.jit.compiled import (
    F32,
    F64,
    LAYERS,
    arrays,
    assert_states_equal,
    dtypes,
    fresh,
    layers,
    model,
    numba,
    reset,
    run,
    sequence,
    state_of,
    step,
    steps,
)

# ---- the same bits


@layers
@dtypes
@pytest.mark.parametrize("B", [1, 3])
def test_steps(layer, dtype, B):
    layer = LAYERS[layer](dtype=dtype)
    x = sequence(9, B, 4, dtype=dtype)
    y, state = layer(x)
    s, out = layer.stream(B), np.full_like(y, 7)
    steps(s, x[:4], out[:4])
    np.testing.assert_array_equal(fresh(s, x[4]), y[4])
    assert step(s, x[5], out[5]).base is not None
    np.testing.assert_array_equal(run(s, x[6:8]), y[6:8])
    run(s, x[8:], out[8:])
    np.testing.assert_array_equal(np.delete(out, (4, 6, 7), 0), np.delete(y, (4, 6, 7), 0))
    assert_states_equal(state_of(s), state)
    assert_states_equal(s.state, state)


@dtypes
def test_steps_without_the_axis_of_the_batch(dtype):
    layer = LAYERS["lstm"](dtype=dtype)
    x = sequence(6, 4, dtype=dtype)
    y, _ = layer(x)
    s = layer.stream()
    out = np.empty((2, 9), dtype)
    steps(s, x[:2], out)
    np.testing.assert_array_equal(out, y[:2])
    np.testing.assert_array_equal(fresh(s, x[2]), y[2])
    np.testing.assert_array_equal(run(s, x[3:]), y[3:])


@dtypes
@pytest.mark.parametrize("B", [1, 2])
def test_a_model_of_many_layers(dtype, B):
    m = model(dtype)
    codes = np.random.default_rng(0).integers(0, 11, (8, B))
    y, state = m(codes)
    s, out = m.stream(B), np.empty((8, B, 3), dtype)
    steps(s, codes[:3], out)
    np.testing.assert_array_equal(out[:3], y[:3])
    if B == 1:  # one integer, and so no axis of the batch
        np.testing.assert_array_equal(fresh(s, codes[3, 0]), y[3, 0])
    else:
        np.testing.assert_array_equal(fresh(s, codes[3]), y[3])
    np.testing.assert_array_equal(run(s, codes[4:]), y[4:])
    assert_states_equal(state_of(s), state)


def test_batch_first_and_strides():
    layer = fr.GRU(4, 9, batch_first=True, seed=0)
    x = sequence(2, 7, 4)
    y, _ = layer(x)
    s, out = layer.stream(2), np.empty_like(y)
    np.testing.assert_array_equal(run(s, x[:, :3]), y[:, :3])
    run(s, x[:, 3:5], out[:, 3:5])
    np.testing.assert_array_equal(out[:, 3:5], y[:, 3:5])
    np.testing.assert_array_equal(step(s, x[:, 5], out[:, 5]), y[:, 5])
    turned = np.ascontiguousarray(x[:, 6].T).T  # the last axis isn't contiguous: copied
    np.testing.assert_array_equal(step(s, turned, out[:, 6]), y[:, 6])
    backwards = layer.stream(2)
    np.testing.assert_array_equal(run(backwards, x[:, ::-1]), layer(x[:, ::-1])[0])


def test_run_and_step_in_place():
    layer = fr.GRU(5, 5, seed=0)
    x = sequence(6, 2, 5)
    y, _ = layer(x)
    s, a = layer.stream(2), x.copy()
    assert run(s, a[:5], a[:5]) is not None
    step(s, a[5], a[5])
    np.testing.assert_array_equal(a, y)


@pytest.mark.parametrize("B", [1, 3])
def test_x_and_out_are_columns_of_one_array(B):
    layer = fr.GRU(4, 9, seed=0)
    a = sequence(5, B, 20)
    y, _ = layer(a[..., :4])
    run(layer.stream(B), a[..., :4], a[..., 5:14])
    np.testing.assert_array_equal(a[..., 5:14], y)
    with pytest.raises(ValueError, match="apart from x"):
        run(layer.stream(B), a[..., :4], a[..., 3:12])
    with pytest.raises(ValueError, match="apart from x"):
        run(layer.stream(B), a[1:, ..., 3:7], a[:-1, ..., 6:15])


def test_one_hot():
    layer = fr.Sequential(fr.OneHot(7), fr.GRU(7, 5, seed=0))
    codes = np.array([3, 1, 6])
    np.testing.assert_array_equal(run(layer.stream(), codes), layer(codes)[0])


# ---- states


@layers
@dtypes
def test_reset(layer, dtype):
    layer = LAYERS[layer](dtype=dtype)
    x = sequence(5, 3, 4, dtype=dtype)
    _, state = layer(x)
    s, right = layer.stream(3), layer.stream(3)
    for given, rows in (
        (state, None),
        (None, np.array([2, 0])),
        (None, np.array([False, True, False])),
        (None, None),
        (state, None),
        (right.state, np.array([0, 1, 2], np.int32)),
    ):
        if given is not None and rows is not None and len(rows) == 2:
            given = None
        reset(s, given, rows)
        right.reset(given, rows)
        assert_states_equal(s.state, right.state)
        np.testing.assert_array_equal(fresh(s, x[0]), right.step(x[0]))


def test_reset_of_rows_to_a_state():
    layer = fr.LSTM(4, 9, 2, seed=0)
    _, (h, c) = layer(sequence(5, 2, 4))
    s, right = layer.stream(4), layer.stream(4)
    for given in ((h, c), (h[:, ::-1], None), (None, c), (np.asfortranarray(h), c)):
        reset(s, given, np.array([3, 1]))
        right.reset(given, [3, 1])
        assert_states_equal(s.state, right.state)


def test_reset_of_a_model():
    m = model()
    codes = np.random.default_rng(0).integers(0, 11, (8, 2))
    _, state = m(codes)
    s = m.stream(2)
    reset(s, state)
    assert_states_equal(s.state, state)
    reset(s, (None, state[1]))
    assert not np.any(arrays(s.state)[0])
    np.testing.assert_array_equal(s.state[1], state[1])


def test_reset_without_the_axis_of_the_batch():
    layer = fr.GRU(4, 9, 2, seed=0)
    _, state = layer(sequence(5, 4))
    s = layer.stream()
    reset(s, state)
    np.testing.assert_array_equal(s.state[:, 0], state)


def test_sizes_and_refresh():
    @numba.njit
    def sizes(s):
        s.refresh()
        return s.batch_size, s.input_size

    layer = fr.GRU(4, 9, seed=0)
    s, x = layer.stream(3), sequence(3, 4)
    layer.params["bias_ih_l0"] += 1
    assert sizes(s) == (3, 4)
    np.testing.assert_array_equal(s.step(x), layer(x[None])[0][0])


# ---- errors

BAD_STREAM_CALLS = {
    "width of x": (step, lambda s, x, y: (s, x[:, :3].copy(), y), "x: expected"),
    "rows of x": (step, lambda s, x, y: (s, x[:2], y), "x: expected"),
    "no axis of the batch": (step, lambda s, x, y: (s, x[0], y[0]), "x: expected"),
    "width of out": (step, lambda s, x, y: (s, x, np.empty((3, 10), F32)), "out: expected the shape"),
    "rows of out": (step, lambda s, x, y: (s, x, np.empty((4, 9), F32)), "out: expected the shape"),
    "out isn't contiguous": (step, lambda s, x, y: (s, x, np.empty((9, 3), F32).T), "contiguous last axis"),
    "rows of out overlap": (
        step,
        lambda s, x, y: (s, x, np.lib.stride_tricks.as_strided(np.empty(30, F32), (3, 9), (16, 4))),
        "rows that don't overlap",
    ),
    "no steps": (run, lambda s, x, y: (s, x[None][:0], y[None][:0]), "at least one time step"),
    "rows of a block": (run, lambda s, x, y: (s, x[None, :2], y[None]), "x: expected"),
    "steps of out": (run, lambda s, x, y: (s, x[None], np.empty((2, 3, 9), F32)), "out: expected the shape"),
    "rows of a block overlap": (
        run,
        lambda s, x, y: (s, x[None], np.lib.stride_tricks.as_strided(np.empty(30, F32), (1, 3, 9), (4, 4, 4))),
        "rows that don't overlap",
    ),
    "state": (reset, lambda s, x, y: (s, np.zeros((2, 3, 8), F32)), "state: expected"),
    "layers of the state": (reset, lambda s, x, y: (s, np.zeros((3, 3, 9), F32)), "state: expected"),
    "rows of the state": (reset, lambda s, x, y: (s, np.zeros((2, 3, 9), F32), np.array([1])), "state: expected"),
    "state without the batch": (reset, lambda s, x, y: (s, np.zeros((2, 9), F32)), "state: expected"),
    "row too large": (reset, lambda s, x, y: (s, None, np.array([0, 3])), "rows: expected integers"),
    "row below zero": (reset, lambda s, x, y: (s, None, np.array([-1])), "rows: expected integers"),
    "a row twice": (reset, lambda s, x, y: (s, None, np.array([2, 0, 2])), "each row once"),
    "too few bools": (reset, lambda s, x, y: (s, None, np.array([True, False])), "rows: expected integers"),
}


@pytest.mark.parametrize("case", BAD_STREAM_CALLS)
def test_errors_of_streams(case):
    function, arguments, message = BAD_STREAM_CALLS[case]
    layer = fr.GRU(4, 9, 2, seed=0)
    s, x, y = layer.stream(3), sequence(3, 4), np.empty((3, 9), F32)
    s.step(x)
    before = s.state
    with pytest.raises(ValueError, match=message):
        function(*arguments(s, x, y))
    assert_states_equal(s.state, before)
    assert not s.busy
    np.testing.assert_array_equal(step(s, x, y), layer(np.stack([x, x]))[0][1])


def test_overlap():
    s = fr.GRU(5, 5, seed=0).stream()
    a = sequence(8, 5)
    with pytest.raises(ValueError, match="apart from x"):
        run(s, a[:6], a[1:7])


def test_integers_out_of_range():
    for bad in (-1, 11):
        for B in (1, 2):
            s = model().stream(B)
            with pytest.raises(ValueError, match="integers from 0"):
                fresh(s, np.array([3, bad])[2 - B :])
            with pytest.raises(ValueError, match="integers from 0"):
                run(s, np.array([[3, 4], [5, bad]])[:, 2 - B :])
            assert not any(map(np.any, arrays(s.state)))
    with pytest.raises(ValueError, match="integers from 0"):
        fresh(model().stream(), 11)


TYPES = {
    "x of another float type": lambda s, m, x, y: fresh(s, x.astype(F64)),
    "x of integers": lambda s, m, x, y: fresh(s, x.astype(np.int64)),
    "axes of x": lambda s, m, x, y: fresh(s, x[None, None]),
    "out of another type": lambda s, m, x, y: step(s, x, y.astype(F64)),
    "axes of out": lambda s, m, x, y: step(s, x, y[0]),
    "floats for an embedding": lambda s, m, x, y: fresh(m, x[:, 0].copy()),
    "short integers for an embedding": lambda s, m, x, y: fresh(m, np.zeros(3, np.int32)),
    "state of another type": lambda s, m, x, y: reset(s, np.zeros((2, 3, 9))),
    "a tuple as state": lambda s, m, x, y: reset(s, (np.zeros((2, 3, 9), F32), np.zeros((2, 3, 9), F32))),
    "a flat state of a model": lambda s, m, x, y: reset(m, np.zeros((2, 3, 9), F32)),
    "rows of floats": lambda s, m, x, y: reset(s, None, np.zeros(2)),
    "a list": lambda s, m, x, y: fresh(s, (1.0, 2.0)),
}


@pytest.mark.parametrize("case", TYPES)
def test_types_that_do_not_fit(case):
    """They are known when the function is compiled, and named."""
    s, m = fr.GRU(4, 9, 2, seed=0).stream(3), model().stream(3)
    with pytest.raises(numba.TypingError, match=r"(x|out|state|rows)[^\n]*: expected .*, got"):
        TYPES[case](s, m, sequence(3, 4), np.empty((3, 9), F32))


def test_errors_are_caught_where_code_says_so():
    @numba.njit
    def careful(s, x, out):
        try:
            s.step(x, out)
        except Exception:
            return 1
        return 0

    s, x = fr.GRU(4, 9, seed=0).stream(), sequence(4)
    assert [careful(s, x, np.empty(n, F32)) for n in (9, 8, 9)] == [0, 1, 0]


def test_a_read_only_out():
    s, x, out = fr.GRU(4, 9, seed=0).stream(), sequence(4), np.empty(9, F32)
    out.flags.writeable = False
    with pytest.raises(numba.TypingError, match="out: expected a writable"):
        step(s, x, out)
