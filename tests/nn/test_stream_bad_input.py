"""What streams say about bad arguments; nothing moves then."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn as fr

F32 = np.float32


class Odd(fr.Linear):
    """Not what a stream would make of a Linear."""

    def __call__(self, x):
        return 2 * super().__call__(x)


def zeros(*shape, dtype=F32):
    return np.zeros(shape, dtype)


READ_ONLY = zeros(2, 5)
READ_ONLY.flags.writeable = False

STEP = [
    (zeros(3, 4), r"^x: expected one time step, \[2, 4\] \(batch_size=2, input_size=4\), got shape \(3, 4\)$"),
    (zeros(2, 3), r"^x: expected one time step, .*, got shape \(2, 3\)$"),
    (zeros(4), r"^x: expected one time step, \[2, 4\] .*\), got shape \(4,\)$"),
    (zeros(1, 2, 4), r"^x: expected one time step, .* got shape \(1, 2, 4\)$"),
    (zeros(2, 4, dtype=np.float64), r"^x: expected float32, got float64; .* dtype=np.float64$"),
    (zeros(2, 4, dtype=int), r"^x: expected float32, got int64"),
    (None, r"^x: expected an array, got None$"),
    ("abc", r"^x: expected float32, got <U3"),
    (zeros(2, 4).astype(">f4"), r"^x: expected float32, got >f4"),
]
OUT = [
    (zeros(5), r"^out: expected shape \(2, 5\), got \(5,\)$"),
    (zeros(2, 4), r"^out: expected shape \(2, 5\), got \(2, 4\)$"),
    (zeros(2, 5, dtype=np.float64), r"^out: expected float32, got float64$"),
    (READ_ONLY, r"^out: expected a writable array, got a read-only one$"),
    (zeros(5, 2).T, r"^out: expected a contiguous last axis, got strides \(4, 8\)$"),
    ([[0.0] * 5] * 2, r"^out: expected an array, got a list of length 2$"),
    (np.zeros(41, np.uint8)[1:].view(F32).reshape(2, 5), r"^out: expected an aligned array"),
]


def unchanged(s, call, message, error=(ValueError, TypeError)):
    before = s.state
    with pytest.raises(error, match=message):
        call()
    np.testing.assert_array_equal(s.state, before)


@pytest.fixture
def gru():
    s = fr.GRU(4, 5, seed=0).stream(2)
    s.step(np.ones((2, 4), F32))
    return s


@pytest.mark.parametrize(("x", "message"), STEP)
def test_x_of_step(gru, x, message):
    unchanged(gru, lambda: gru.step(x), message)


@pytest.mark.parametrize(("out", "message"), OUT)
def test_out_of_step(gru, out, message):
    unchanged(gru, lambda: gru.step(zeros(2, 4), out=out), message)
    unchanged(gru, lambda: gru.step(zeros(2, 4), out), message)


@pytest.mark.parametrize("x", [x for x, _ in STEP if isinstance(x, np.ndarray) and x.ndim < 3])
def test_x_of_run(gru, x):
    unchanged(gru, lambda: gru.run(x), "^x: expected ")
    unchanged(gru, lambda: gru.run(x[None]), "^x: expected ")


@pytest.mark.parametrize(("out", "message"), OUT)
def test_out_of_run(gru, out, message):
    out = out[None] if isinstance(out, np.ndarray) else [out]
    unchanged(gru, lambda: gru.run(zeros(1, 2, 4), out=out), "^out: expected ")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (zeros(0, 2, 4), r"^x: expected at least one time step, got shape \(0, 2, 4\)$"),
        (zeros(3, 4), r"^x: expected 2 rows, the batch_size of this stream, got 1 in shape \(3, 4\)$"),
        (zeros(2, 3, 4), r"^x: expected 2 rows, .* got 3 in shape \(2, 3, 4\)$"),
    ],
)
def test_blocks(gru, x, message):
    unchanged(gru, lambda: gru.run(x), message)


def test_overlap():
    """In place is fine; half in place is not: a step would overwrite what a later one reads."""
    s = fr.GRU(4, 4, seed=0).stream()
    memory = zeros(9, 4)
    for x, out in ((memory[:8], memory[1:]), (memory[:8], memory[7::-1]), (memory[:8, None], memory[1:, None])):
        message = "^out: expected memory of its own, got an array that overlaps x$"
        unchanged(s, lambda x=x, out=out: s.run(x, out=out), message)
    s.run(memory[:4], out=memory[4:8])
    columns = zeros(9, 8)
    s.run(columns[:, :4], out=columns[:, 4:])  # the addresses mix, but no element is shared


def rows_of(shape, strides, *, size=400):
    """Zeros whose strides count elements."""
    return np.lib.stride_tricks.as_strided(zeros(size)[size // 2 :], shape, [4 * n for n in strides])


@pytest.mark.parametrize("stride", [0, 1, 4, -4, -1])
def test_rows_of_out_that_overlap_each_other_in_a_step(gru, stride):
    message = rf"^out: expected rows that don't overlap each other, got strides \({4 * stride}, 4\) for shape \(2, 5\)$"
    out = rows_of((2, 5), (stride, 1))
    unchanged(gru, lambda: gru.step(zeros(2, 4), out), message, ValueError)
    unchanged(gru, lambda: gru.run(zeros(1, 2, 4), out=out[None]), "^out: expected rows that don't", ValueError)
    assert not out.any()


@pytest.mark.parametrize("stride", [5, 7, -5, -9])
def test_rows_of_out_in_any_order(gru, stride):
    expected = fr.GRU(4, 5, seed=0).stream(2).run(np.ones((2, 2, 4), F32))[1]
    out = gru.step(np.ones((2, 4), F32), rows_of((2, 5), (stride, 1)))
    np.testing.assert_array_equal(out, expected)


def test_rows_of_out_that_overlap_each_other_in_a_block():
    """Every pair of strides: refused exactly where two rows share an element, right everywhere else."""
    gru = fr.GRU(2, 3, seed=0)
    x = np.random.default_rng(0).standard_normal((3, 4, 2)).astype(F32)
    y = gru(x)[0]
    s = gru.stream(4)
    refused = 0
    for t in range(-13, 14):
        for b in range(-13, 14):
            out = rows_of((3, 4, 3), (t, b, 1))
            elements = {(t * i + b * j + k) for i in range(3) for j in range(4) for k in range(3)}
            s.reset()
            if len(elements) == out.size:
                np.testing.assert_array_equal(s.run(x, out=out), y)
            else:
                refused += 1
                unchanged(s, lambda out=out: s.run(x, out=out), "^out: expected rows that don't overlap", ValueError)
                assert not out.any()
    assert 0 < refused < 27 * 27


def test_one_row_has_no_other_to_overlap():
    s = fr.GRU(4, 5, seed=0).stream()
    assert s.step(zeros(1, 4), rows_of((1, 5), (0, 1))).any()
    assert s.run(zeros(1, 1, 4), rows_of((1, 1, 5), (0, 0, 1))).any()
    out = rows_of((2, 5), (4, 1))
    unchanged(s, lambda: s.run(zeros(2, 4), out), "^out: expected rows that don't overlap each other", ValueError)


def test_a_step_reads_all_of_x_before_it_writes():
    layer = fr.GRU(4, 4, seed=0)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(F32)
    expected = layer.stream(3).step(x)
    for at in (0, 1, 4, 7):
        memory = zeros(40)
        memory[8:20] = x.ravel()
        out = memory[8 + at : 20 + at].reshape(3, 4)
        np.testing.assert_array_equal(layer.stream(3).step(memory[8:20].reshape(3, 4), out), expected)


def test_in_place_over_rows_of_x_that_overlap_each_other():
    """Backwards through windows: what a step writes, the next would read."""
    s = fr.GRU(4, 2, seed=0).stream()
    memory = np.random.default_rng(0).standard_normal(40).astype(F32)
    x, out = (np.lib.stride_tricks.as_strided(memory[30:], (8, n), (-8, 4)) for n in (4, 2))
    unchanged(s, lambda: s.run(x, out), "^out: expected memory of its own, got an array that overlaps x$", ValueError)
    x, out = memory[:32].reshape(8, 4), memory[:32].reshape(8, 4)[:, :2]
    expected = s.run(x.copy())
    s.reset()
    np.testing.assert_array_equal(s.run(x, out), expected)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (zeros(1, 3, 5), r"^state: expected shape \(1, 2, 5\), got \(1, 3, 5\)$"),
        (zeros(2, 5), r"^state: expected shape \(1, 2, 5\), got \(2, 5\)$"),
        (zeros(1, 2, 5, dtype=np.float64), r"^state: expected float32, got float64"),
        ((zeros(1, 2, 5), zeros(1, 2, 5)), r"^state: expected one array or None, got a tuple of length 2$"),
        ("abc", "^state: expected "),
    ],
)
def test_state(gru, state, message):
    unchanged(gru, lambda: gru.reset(state), message)
    with pytest.raises((ValueError, TypeError), match=message):
        gru.state = state


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([2], r"^rows: expected integers from 0 to 1 \(batch_size=2\), got 2$"),
        ([-1], r"^rows: expected integers from 0 to 1 \(batch_size=2\), got -1$"),
        ([0, 0], r"^rows: expected each row once, got \[0, 0\]$"),
        ([True], r"^rows: expected 2 bools, one for each row, got shape \(1,\)$"),
        (1, r"^rows: expected a list of integers or 2 bools, got shape \(\)$"),
        ([[0]], r"^rows: expected a list of integers or 2 bools, got shape \(1, 1\)$"),
        ([0.5], r"^rows: expected integers, got float64"),
    ],
)
def test_rows(gru, rows, message):
    unchanged(gru, lambda: gru.reset(rows=rows), message)


def test_states_of_models():
    s = fr.Sequential(fr.LSTM(4, 5, seed=0), fr.GRU(5, 3, seed=0)).stream(2)
    good = s.state
    for state, message in [
        (good[0], r"^state\[0\]: expected a tuple \(h, c\) or None, got an array of shape \(1, 2, 5\)$"),
        (good[:1], r"^state: expected a tuple with one entry for each of the 2 recurrent layers, got a tuple of le"),
        ((good[0][0], good[1]), r"^state\[0\]: expected a tuple \(h, c\) or None"),
        (((good[0][0], zeros(1, 2, 3)), good[1]), r"^state\[0\]\[1\]: expected shape \(1, 2, 5\), got \(1, 2, 3\)$"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            s.reset(state)
    s.reset((None, good[1]), rows=[0, 1])
    with pytest.raises(ValueError, match=r"^state\[0\]\[0\]: expected shape \(1, 1, 5\), got \(1, 2, 5\)$"):
        s.reset(good, rows=[1])


def test_tokens():
    s = fr.Sequential(fr.Embedding(6, 4, seed=0), fr.GRU(4, 5, seed=0)).stream(2)
    outside = r"^x: expected integers from 0 to 5 \(num_embeddings=6\), got "
    step = r"^x: expected one time step, integers \[2\] \(batch_size=2\), got shape "
    for x, message in [
        (np.array([0, 6]), outside + "6$"), (np.array([-1, 0]), outside + "-1$"), ([0.5, 1.0], "^x: expected inte"),
        (np.zeros(3, int), step + r"\(3,\)$"), (3, step + r"\(\)$"), (np.zeros((2, 4), int), step + r"\(2, 4\)$"),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            s.step(x)
    for x, message in [
        (np.array([[0, 1], [2, 6]]), outside + "6$"), (np.zeros((2, 3), int), "^x: expected 2 rows, "),
        (np.zeros(3, int), "^x: expected 2 rows, .* got 1"), (np.zeros((0, 2), int), "^x: expected at least one time"),
        (3, r"^x: expected integers \[T, B\], or \[T\] for one sequence, got shape \(\)$"),
        (zeros(3, 2), "^x: expected integers, got float32"),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            s.run(x)
    assert not s.state[0].any()
    with pytest.raises(ValueError, match=r"integers \[1\] \(batch_size=1\) or one integer, got shape \(2,\)$"):
        fr.Sequential(fr.Embedding(6, 4), fr.GRU(4, 5)).stream().step([1, 2])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "2", None, True])
def test_batch_size(batch_size):
    with pytest.raises((ValueError, TypeError), match=r"^batch_size: expected a"):
        fr.GRU(4, 5).stream(batch_size)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (fr.LSTM(4, 5, bidirectional=True), r"^stream: LSTM is bidirectional: its second direction starts at the end"),
        (fr.Sequential(fr.GRU(4, 5, bidirectional=True)), r"^stream: GRU at position 0 is bidirectional: "),
        (fr.Sequential(fr.GRU(4, 5), fr.MeanPool()), r"^stream: MeanPool at position 1 can't run one time step at"),
        (fr.Sequential(fr.GRU(4, 5), fr.MaxPool()), r"^stream: MaxPool at position 1 can't"),
        (fr.Sequential(fr.GRU(4, 5), fr.Sequential(fr.Tanh(), fr.Last())), r"^stream: Last at position 1.1 can't"),
        (fr.Sequential(fr.GRU(4, 5), Odd(5, 3)), r"^stream: Odd at position 1 can't"),
        (fr.Sequential(fr.Linear(4, 5)), r"^stream: no layer of this Sequential is recurrent"),
        (fr.Sequential(fr.GRU(4, 5), fr.Embedding(3, 2)), r"^stream: Embedding at position 1 takes integers, so it"),
        (fr.Sequential(fr.GRU(4, 5), fr.Linear(4, 2)), r"^stream: Linear at position 1 takes 4 values, but .* 5$"),
        (fr.Sequential(fr.Embedding(9, 3), fr.GRU(4, 5)), r"^stream: GRU at position 1 takes 4 values, but .* 3$"),
    ],
)  # fmt: skip
def test_what_has_no_stream(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.stream()


def test_streams_are_neither_pickled_nor_copied(gru):
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"can't be pickled or copied: keep its layer and s\.state"):
            attempt(gru)


def test_out_may_not_share_an_index_array():
    """Equal strides in elements of four and of eight bytes aren't equal."""
    model = fr.Sequential(fr.Embedding(10, 4), fr.LSTM(4, 4, batch_first=True), fr.Linear(4, 1))
    indices = np.zeros((2, 50), np.int64)
    out = indices.view(np.float32).reshape(-1)[:100].reshape(2, 50, 1)
    with pytest.raises(ValueError, match="out"):
        model.stream(2).run(indices, out=out)


@pytest.mark.parametrize("batch_size", [2**40, 2**60, 2**61, 2**62])
def test_a_batch_that_no_memory_holds(batch_size):
    with pytest.raises((MemoryError, ValueError)):
        fr.LSTM(3, 5, seed=0).stream(batch_size)


def test_a_layer_with_a_call_of_its_own():
    class Doubled(fr.LSTM):
        def __call__(self, x, *args, **kwargs):
            y, state = super().__call__(x, *args, **kwargs)
            return 2 * y, state

    with pytest.raises(ValueError, match="Doubled"):
        fr.Sequential(Doubled(3, 5, seed=0), fr.LSTM(5, 2, seed=0)).stream()
    with pytest.raises(ValueError, match="Doubled"):
        Doubled(3, 5, seed=0).stream()
