"""Streams of layers and models: the same bits a step at a time, states, and what they cost."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core

F32, F64 = np.float32, np.float64
LAYERS = {
    "lstm": lambda **o: fr.LSTM(4, 9, 2, seed=0, **o),
    "lstm_projected": lambda **o: fr.LSTM(4, 9, 2, proj_size=5, seed=0, **o),
    "gru": lambda **o: fr.GRU(4, 9, 2, seed=0, **o),
    "gru_before": lambda **o: fr.GRU(4, 9, 2, reset_after=False, seed=0, **o),
    "rnn_tanh": lambda **o: fr.RNN(4, 9, 2, seed=0, **o),
    "rnn_relu": lambda **o: fr.RNN(4, 9, 2, nonlinearity="relu", seed=0, **o),
    "rnn_sigmoid": lambda **o: fr.RNN(4, 9, 2, nonlinearity="sigmoid", bias=False, seed=0, **o),
}
layers = pytest.mark.parametrize("layer", LAYERS)


def sequence(*shape, dtype=F32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def arrays(state):
    """The arrays of a nested state."""
    return [state] if isinstance(state, np.ndarray) else [a for part in state for a in arrays(part)]


def assert_states_equal(state, right):
    for a, b in zip(arrays(state), arrays(right), strict=True):
        np.testing.assert_array_equal(a, b)


def model(dtype=F32, **options):
    """Everything that can be streamed."""
    return fr.Sequential(
        fr.Embedding(11, 6, dtype=dtype, seed=0),
        fr.Dropout(0.3),
        fr.Sequential(fr.LSTM(6, 8, 2, dropout=0.2, dtype=dtype, seed=1, **options), fr.Tanh()),
        fr.LayerNorm(8, dtype=dtype),
        fr.GRU(8, 5, dtype=dtype, seed=2, **options),
        fr.Linear(5, 7, dtype=dtype, seed=3),
        fr.Swish(1.5),
        fr.Linear(7, 3, bias=False, dtype=dtype, seed=4),
        fr.LeakyReLU(0.2),
        fr.Sigmoid(),
        fr.ReLU(),
        fr.Softmax(),
    )


# ---- the bits of the layer


@layers
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_steps_and_blocks_are_the_layer(layer, B, dtype):
    layer = LAYERS[layer](dtype=dtype)
    x = sequence(9, B, 4, dtype=dtype)
    y, state = layer(x)
    s = layer.stream(B)
    out = np.empty(y.shape[1:], dtype)
    for t in range(4):
        np.testing.assert_array_equal(s.step(x[t]) if t % 2 else s.step(x[t], out=out), y[t])
    np.testing.assert_array_equal(s.run(x[4:6]), y[4:6])
    block = np.empty_like(y[6:])
    assert s.run(x[6:], out=block) is block
    np.testing.assert_array_equal(block, y[6:])
    assert_states_equal(s.state, state)


@layers
def test_batch_first(layer):
    layer = LAYERS[layer](batch_first=True)
    x = sequence(3, 6, 4)
    s = layer.stream(3)
    y, state = layer(x)
    np.testing.assert_array_equal(np.concatenate([s.run(x[:, :2]), s.run(x[:, 2:])], axis=1), y)
    assert_states_equal(s.state, state)


@layers
def test_one_sequence(layer):
    layer = LAYERS[layer]()
    x = sequence(6, 4)
    s = layer.stream()
    y, state = layer(x)
    found = [s.step(x[0]), s.step(x[1:2])[0], *s.run(x[2:4]), *s.run(x[4:, None])[:, 0]]
    np.testing.assert_array_equal(found, y)
    assert_states_equal(s.state, [a[:, None] for a in arrays(state)])
    s.reset(state)  # as the layer gives it for one sequence
    assert_states_equal(s.state, [a[:, None] for a in arrays(state)])


@pytest.mark.parametrize("B", [1, 4])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_model(B, dtype):
    m = model(dtype)
    x = np.random.default_rng(0).integers(0, 11, (7, B))
    y, state = m(x)
    s = m.stream(B)
    np.testing.assert_array_equal([s.step(x_t) for x_t in x], y)
    assert_states_equal(s.state, state)
    assert isinstance(s.state[0], tuple) and isinstance(s.state[0][0], tuple)  # the nested Sequential's
    s.reset()
    np.testing.assert_array_equal(s.run(x), y)
    s.state = state
    np.testing.assert_array_equal(s.run(x), m(x, state)[0])


def test_a_model_of_tokens_one_at_a_time():
    m = model(batch_first=True)
    x = np.random.default_rng(0).integers(0, 11, 5)
    y, _ = m(x[None])
    s = m.stream()
    np.testing.assert_array_equal([s.step(int(token)) for token in x], y[0])
    s.reset()
    found = [s.step(x[0]), s.step(x[1:2])[0], s.step([int(x[2])])[0]]
    found += [s.step(np.array(x[3])), s.step(x.astype(np.uint8)[4])]
    np.testing.assert_array_equal(found, y[0])
    s.reset()
    np.testing.assert_array_equal(s.run(x), y[0])
    s.reset()
    np.testing.assert_array_equal(s.run(x[None].tolist()), y)


def test_what_comes_before_a_layer_with_a_size():
    m = fr.Sequential(fr.Tanh(), fr.Dropout(), fr.GRU(4, 5, seed=0))
    x = sequence(6, 2, 4)
    np.testing.assert_array_equal(m.stream(2).run(x), m(x)[0])


def test_a_layer_twice_has_two_states():
    gru = fr.GRU(4, 4, seed=0)
    m = fr.Sequential(gru, gru)
    x = sequence(6, 2, 4)
    s = m.stream(2)
    np.testing.assert_array_equal(s.run(x), m(x)[0])
    assert_states_equal(s.state, m(x)[1])


def test_memory_of_any_layout():
    layer = fr.LSTM(4, 9, seed=0)
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
    out = np.full((6, 3, 12), 7, F32)[:, ::-1]
    s.reset()
    s.run(x, out=out[..., 1:10])
    np.testing.assert_array_equal(out[..., 1:10], y)
    assert (out[..., [0, 10, 11]] == 7).all()
    s.reset()
    for t in range(6):
        s.step(x[t], out=out[t, :, 1:10])
    np.testing.assert_array_equal(out[..., 1:10], y)


@layers
def test_in_place(layer):
    """y may be x itself; the states are elsewhere."""
    layer = fr.Sequential(LAYERS[layer](), fr.Linear(9 if layer != "lstm_projected" else 5, 4, seed=1))
    x = sequence(6, 3, 4)
    y, _ = layer(x)
    s = layer.stream(3)
    step = x.copy()
    for t in range(6):
        assert s.step(step[t], out=step[t]).base is step
    np.testing.assert_array_equal(step, y)
    s.reset()
    np.testing.assert_array_equal(s.run(x, out=x), y)


def test_outputs_belong_to_the_caller():
    layer = fr.LSTM(4, 9, seed=0)
    x = sequence(6, 4)
    s = layer.stream()
    for t in range(5):
        s.step(x[t])[...] = np.nan
    np.testing.assert_array_equal(s.step(x[5]), layer(x)[0][5])


# ---- states


@layers
def test_rows_begin_again(layer):
    """Episodes that end at different times: each row as if it were alone."""
    layer = LAYERS[layer]()
    x = sequence(8, 4, 4)
    s = layer.stream(4)
    ends = {2: [0, 3], 5: np.array([False, True, False, True])}
    found = []
    for t in range(8):
        if t in ends:
            s.reset(rows=ends[t])
        found.append(s.step(x[t]))
    for row, begins in enumerate([[0, 2], [0, 5], [0], [0, 2, 5]]):
        for begin, end in zip(begins, [*begins[1:], 8], strict=True):
            np.testing.assert_array_equal(np.array(found)[begin:end, row], layer(x[begin:end, row])[0])


@layers
def test_rows_get_states(layer):
    layer = LAYERS[layer]()
    x = sequence(3, 4, 4)
    s = layer.stream(4)
    s.run(x)
    before = arrays(s.state)
    given = [np.full((2, 2, a.shape[-1]), k + 1.5, F32) for k, a in enumerate(before)]
    s.reset(tuple(given) if len(given) == 2 else given[0], rows=[3, 1])
    for a, b, g in zip(arrays(s.state), before, given, strict=True):
        np.testing.assert_array_equal(a[:, [0, 2]], b[:, [0, 2]])
        np.testing.assert_array_equal(a[:, [3, 1]], g)
    s.reset(rows=[])
    s.reset()
    assert not any(a.any() for a in arrays(s.state))


def test_half_an_lstm_state():
    s = fr.LSTM(4, 9, seed=0).stream(2)
    h = sequence(1, 2, 9)
    s.reset((h, None))
    assert_states_equal(s.state, (h, np.zeros_like(h)))


def test_states_are_copies():
    s = fr.GRU(4, 9, seed=0).stream(2)
    h = sequence(1, 2, 9)
    s.state = h
    right = h.copy()
    h[...] = 0
    s.state[...] = 0
    np.testing.assert_array_equal(s.state, right)


def test_refresh():
    layer = fr.LSTM(4, 9, seed=0)
    x = sequence(6, 4)
    s = layer.stream()
    old, (h, c) = layer(x)
    layer.load_state_dict(fr.LSTM(4, 9, seed=1).state_dict())
    np.testing.assert_array_equal(s.run(x), old)  # as packed
    s.refresh()
    assert_states_equal(s.state, (h[:, None], c[:, None]))
    np.testing.assert_array_equal(s.run(x), layer(x, (h, c))[0])


def test_refresh_of_a_model():
    m, other = model(), model()
    for array in other.params.values():
        array += 0.25
    x = np.random.default_rng(0).integers(0, 11, (7, 3))
    s = m.stream(3)
    m.load_state_dict(other.state_dict())
    s.refresh()
    np.testing.assert_array_equal(s.run(x), other(x)[0])


def test_a_stream_outlives_its_layer():
    layer = fr.LSTM(4, 9, seed=0)
    x = sequence(6, 4)
    y, _ = layer(x)
    s = layer.stream()
    del layer
    gc.collect()
    s.refresh()
    np.testing.assert_array_equal(s.run(x), y)


def test_streams_of_one_layer_are_apart():
    layer = fr.GRU(4, 9, seed=0)
    x = sequence(6, 4)
    a, b = layer.stream(), layer.stream()
    for x_t in x:
        a.step(x_t)
    np.testing.assert_array_equal(b.run(x), layer(x)[0])


# ---- what they cost


@pytest.mark.parametrize("B", [1, 5])
def test_a_step_allocates_nothing(B):
    m = fr.Sequential(fr.LSTM(4, 9, 2, seed=0), fr.LayerNorm(9), fr.Linear(9, 4, seed=0), fr.Tanh())
    s, x, out = m.stream(B), sequence(B, 4), np.empty((B, 4), F32)
    block, block_out = sequence(10, B, 4), np.empty((10, B, 4), F32)

    def work():
        for _ in range(200):
            s.step(x, out=out)
            s.step(x, out)
            s.run(block, out=block_out)

    work()
    gc.collect()
    cached = _core.cached_bytes()
    tracemalloc.start()  # NumPy tells it of its arrays
    try:
        work()
        tracemalloc.reset_peak()
        base, _ = tracemalloc.get_traced_memory()
        work()
        end, peak = tracemalloc.get_traced_memory()
        s.step(x)
        _, fresh = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end - base < 200  # the loop's own frame and numbers
    assert peak - base < 400
    assert fresh - peak >= 0 and _core.cached_bytes() == cached


def test_the_memory_goes_back():
    layer = fr.LSTM(64, 256, seed=0)
    for _ in range(3):
        layer.stream(), gc.collect()
    cached = _core.cached_bytes()
    for _ in range(5):
        layer.stream(), gc.collect()
    assert _core.cached_bytes() == cached


def test_threads_that_share_a_stream_do_no_harm():
    """Long calls let go of the GIL: whoever finds another inside gets an error, and the first goes on undisturbed."""
    layer = fr.LSTM(64, 128, seed=0)
    x = sequence(4000, 64)
    y, _ = layer(x)
    s = layer.stream()
    found, refused = [], 0
    thread = threading.Thread(target=lambda: found.append(s.run(x)))
    thread.start()
    while thread.is_alive():
        for call in (lambda: s.step(x[0]), lambda: s.run(x[:2]), s.refresh, s.reset, lambda: s.state):
            if s.busy:  # the other is past its checks; it may have left when we call
                try:
                    call()
                except RuntimeError as error:
                    assert "another thread is inside" in str(error)  # noqa: PT017 - it needn't come
                    refused += 1
    thread.join()
    np.testing.assert_array_equal(found[0], y)
    assert refused


def test_after_fork(tmp_path):
    import os

    s = fr.LSTM(4, 9, seed=0).stream()
    x = sequence(4)
    s.step(x)
    state = s.state
    right = s.step(x)
    s.reset(state)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(s.step(x), right) else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(s.step(x), right)  # the child's step was its own


def test_attributes():
    s = fr.LSTM(4, 9, seed=0).stream(3)
    assert s.batch_size == 3 and s.input_size == 4
    assert repr(s).startswith("Stream(LSTM(") and repr(s).endswith("batch_size=3)")
    assert isinstance(s, fr.Stream)
