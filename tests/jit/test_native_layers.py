"""Whole sequences through recurrent layers inside users' `@njit` functions: the bits of Python's calls, and errors."""

import numpy as np
import pytest

import fastrnn as fr
from tests.jit.compiled import F32, F64, LAYERS, assert_states_equal, call, dtypes, layers, numba, sequence


@layers
@dtypes
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers(layer, dtype, batch_first, bidirectional):
    layer = LAYERS[layer](dtype=dtype, batch_first=batch_first, bidirectional=bidirectional)
    x = sequence(6, 3, 4, dtype=dtype)
    y, state = layer(x)
    found, last = call(layer, x)
    np.testing.assert_array_equal(found, y)
    assert_states_equal(last, state)
    B = 6 if batch_first else 3
    lengths = np.random.default_rng(0).integers(0, x.size // (4 * B) + 1, B)
    for ends in (lengths, lengths.astype(np.int32)):
        found, last = call(layer, x, state, ends)
        y, right = layer(x, state, lengths=lengths)
        np.testing.assert_array_equal(found, y)
        assert_states_equal(last, right)


def test_one_sequence_of_any_strides():
    layer = LAYERS["lstm"]()
    x = sequence(4, 6).T
    y, state = layer(x)
    found, last = call(layer, x)
    np.testing.assert_array_equal(found, y)
    assert_states_equal(last, state)
    found, last = call(layer, x[::2], (state[0], None))
    y, right = layer(x[::2], (state[0], None))
    np.testing.assert_array_equal(found, y)
    assert_states_equal(last, right)


def test_layers_side_by_side_and_deep_stacks():
    """What runs at once on two threads, and more layers than run at once."""
    threads = fr.get_num_threads()
    fr.set_num_threads(2)
    try:
        for layer in (fr.LSTM(16, 64, 3, seed=0), fr.RNN(3, 5, 18, seed=0)):
            x = sequence(200, 2, layer.input_size)
            y, state = layer(x)
            found, last = call(layer, x)
            np.testing.assert_array_equal(found, y)
            assert_states_equal(last, state)
    finally:
        fr.set_num_threads(threads)


def test_layers_read_their_weights_at_each_call():
    layer, x = fr.GRU(3, 5, seed=0), sequence(4, 2, 3)
    before, _ = call(layer, x)
    layer.load_state_dict(fr.GRU(3, 5, seed=1).state_dict())
    after, _ = call(layer, x)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, layer(x)[0])


def test_no_rows():
    layer = fr.LSTM(3, 5, seed=0)
    y, (h, c) = call(layer, np.empty((4, 0, 3), F32))
    assert y.shape == (4, 0, 5) and h.shape == c.shape == (1, 0, 5)


BAD_LAYER_CALLS = {
    "width": (lambda x, h: (x[..., :3].copy(),), "x: expected"),
    "no steps": (lambda x, h: (x[:0],), "x: expected"),
    "rows of the state": (lambda x, h: (x, (h[:, :2].copy(), h)), "state: expected"),
    "size of the state": (lambda x, h: (x, (h, h[..., :8].copy())), "state: expected"),
    "layers of the state": (lambda x, h: (x, (h[:1], h)), "state: expected"),
    "number of lengths": (lambda x, h: (x, None, np.array([1, 2])), "lengths: expected"),
    "length too large": (lambda x, h: (x, None, np.array([1, 2, 6])), "lengths: expected"),
    "length below zero": (lambda x, h: (x, None, np.array([-1, 2, 3])), "lengths: expected"),
}


@pytest.mark.parametrize("case", BAD_LAYER_CALLS)
def test_errors_of_layers(case):
    arguments, message = BAD_LAYER_CALLS[case]
    with pytest.raises(ValueError, match=message):
        call(fr.LSTM(4, 9, 2, seed=0), *arguments(sequence(5, 3, 4), np.zeros((2, 3, 9), F32)))


def test_types_that_do_not_fit_layers():
    layer, x = fr.LSTM(4, 9, seed=0), sequence(5, 3, 4)
    for arguments in ((x.astype(F64),), (x[0, 0],), (x, x), (x, None, np.zeros(3)), (x, (x, x[0]))):
        with pytest.raises(numba.TypingError, match=r"(x|state|lengths)[^\n]*: expected .*, got"):
            call(layer, *arguments)


@pytest.mark.parametrize("cell", [fr.SRU, fr.LRU])
def test_steps_that_go_through_python(cell):
    layer = cell(4, 9)
    for found in (layer, layer.stream()):
        with pytest.raises(TypeError, match=f"{cell.__name__}: its steps go through Python"):
            call(found, sequence(5, 3, 4))


class Changed(fr.GRU):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


def test_a_layer_with_a_call_of_its_own():
    with pytest.raises(numba.TypingError, match="Changed"):
        call(Changed(4, 9), sequence(5, 3, 4))
    with pytest.raises(numba.TypingError, match="Linear"):
        call(fr.Linear(4, 9), sequence(5, 3, 4))
