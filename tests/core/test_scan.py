"""Scans through time against the reference, on every instruction set; the same bits for any number of threads."""

import numpy as np
import pytest

from fastrnn import _core
from tests.core.cases import FORWARD, GRADIENT, dtypes, isas, ragged
from tests.core.scan_cases import LAYERS, as_state, case, make, run
from tests.reference.finite_differences import assert_close

layers = pytest.mark.parametrize("name", LAYERS)
# around the vector widths, and one step, one row, one channel; the last one: more than a piece of 512 channels
SHAPES = {
    "small": (6, 3, 4, 5),
    "one_step": (1, 3, 5, 16),
    "one_row": (7, 1, 3, 15),
    "one_channel": (5, 2, 1, 1),
    "vectors": (4, 2, 33, 33),
    "groups": (3, 19, 4, 17),
    "pieces": (2, 1, 3, 517),
}


def compare(found, expected, dtype):
    assert found.keys() == expected.keys()
    for key, array in found.items():
        assert array.dtype == dtype
        tolerance = FORWARD if key == "y" or key.startswith("state") else GRADIENT
        assert_close(array, expected[key], tolerance[dtype], key)


@isas
@dtypes
@layers
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_against_the_reference(shape, name, dtype, isa):
    compare(run(name, dtype, *shape), case(name, *shape)[-1], dtype)


@isas
@dtypes
@layers
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_ragged_stacks(bidirectional, name, dtype, isa):
    arguments = (6, 9, 4, 7, 2, bidirectional, ragged(6, 9))
    compare(run(name, dtype, *arguments), case(name, *arguments)[-1], dtype)


@layers
def test_what_lies_past_a_length(name):
    """It is not read: not x, not dy. y and dx are zero there, and a row has the bits that it has alone."""
    T, B, lengths = 6, 5, np.array([3, 6, 0, 1, 5])
    layer = make(name, 4, 7, 2, np.float32, bidirectional=True)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (4, 14))
    state = as_state([rng.standard_normal(shape) for shape in layer._state_shapes(B)], np.float32)
    past = np.arange(T)[:, None] >= lengths
    x[past], dy[past] = np.nan, np.nan
    (y, s_n), pullback = layer.vjp(x, state, lengths=lengths)
    dx, _ = pullback(dy)
    assert not y[past].any() and not dx[past].any()
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    assert all(np.isfinite(grad).all() for grad in layer.grads.values())
    for b, end in enumerate(lengths):
        rows = [s[:, b : b + 1] for s in (state if isinstance(state, tuple) else (state,))]
        alone = rows if len(rows) > 1 else rows[0]
        finals = [s[:, b : b + 1] for s in (s_n if isinstance(s_n, tuple) else (s_n,))]
        if end == 0:
            assert all(np.array_equal(s, r) for s, r in zip(finals, rows, strict=True))
            continue
        (one, one_n), pull_one = layer.vjp(x[:end, b : b + 1], tuple(alone) if len(rows) > 1 else alone)
        assert np.array_equal(one, y[:end, b : b + 1])
        for s, r in zip(finals, one_n if isinstance(one_n, tuple) else (one_n,), strict=True):
            assert np.array_equal(s, r)
        assert np.array_equal(pull_one(dy[:end, b : b + 1])[0], dx[:end, b : b + 1])


@isas
@layers
def test_number_of_threads(name, isa, threads):
    arguments = (40, 33, 9, 70, 1, True, ragged(40, 33))
    full, one_row = (40, 33, 9, 700), (200, 1, 9, 500)
    for shape in (arguments, full, one_row):
        threads(1)
        one = run(name, np.float32, *shape)
        for count in (2, 3, 8):
            threads(count)
            found = run(name, np.float32, *shape)
            assert all(np.array_equal(found[key], one[key]) for key in one), f"{shape} with {count} threads"


@dtypes
@layers
def test_outputs_larger_than_caches(name, dtype):
    """Written past the caches, they have the bits of those that are not: rows of a large batch and of a small one."""
    T, B, H = 26, 512 // np.dtype(dtype).itemsize * 4, 512
    layer = make(name, 8, H, 1, dtype)
    x = np.random.default_rng(0).standard_normal((T, B, 8)).astype(dtype)
    assert T * B * H * x.itemsize >= 24 << 20
    (y, _), pullback = layer.vjp(x)
    (few, _), pull_few = layer.vjp(x[:, :3])
    assert np.array_equal(y[:, :3], few)
    assert np.array_equal(pullback(y)[0][:, :3], pull_few(few)[0])


@layers
def test_checkpoints_and_retained_pullbacks(name):
    arguments = (6, 5, 4, 7, 2, True, ragged(6, 5))
    plain = run(name, np.float64, *arguments)
    again = run(name, np.float64, *arguments, checkpoint=2)
    assert all(np.array_equal(again[key], plain[key]) for key in plain)
    layer = make(name, 4, 7, 2, bidirectional=True)
    x = case(name, *arguments)[0]
    (y, _), pullback = layer.vjp(x, retain=True)
    first = pullback(y)[0]
    grads = {key: grad.copy() for key, grad in layer.grads.items()}
    layer.zero_grads()
    assert np.array_equal(pullback(y)[0], first)
    assert all(np.array_equal(layer.grads[key], grads[key]) for key in grads)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_min_lstm_with_closed_gates(dtype):
    """f and i underflow; their shares don't."""
    layer = make("minlstm", 1, 1, dtype=dtype)
    layer.params |= {"weight_ih_l0": [[0], [0], [1]], "bias_ih_l0": [-2000, -2000, 0]}
    y, _ = layer(np.full((1, 1, 1), 3, dtype), np.ones((1, 1, 1), dtype))
    assert y.item() == 2  # half of each
    layer.params["bias_ih_l0"] = np.array([50, -2000, 0])
    assert layer(np.full((1, 1, 1), 3, dtype), np.ones((1, 1, 1), dtype))[0].item() == 1


@layers
def test_nan_stays_nan(name):
    layer = make(name, 3, 5, dtype=np.float32)
    x = np.ones((4, 2, 3), np.float32)
    x[1, 0] = np.nan
    y, _ = layer(x)
    assert np.isfinite(y[0]).all() and np.isnan(y[1:, 0]).all() and np.isfinite(y[:, 1]).all()


# ---- the binding's own checks


def call(**changes):
    rows = np.zeros((6, 8), np.float32)
    given = {
        "cell": _core.SCAN_MIN_GRU, "option": False, "T": 3, "lengths": None, "first": np.arange(2), "step": 2,
        "reverse": False, "z": rows, "skip": None, "p": None, "alpha": 1.0, "s_0": None,
        "s_n": np.zeros((2, 4), np.float32), "y": np.zeros((3, 2, 4), np.float32), "s": None, **changes,
    }  # fmt: skip
    _core.scan_forward(*given.values())


def test_bounds():
    call()
    for changes, what in (
        ({"first": np.array([0, 2])}, "first: row 1"),
        ({"first": np.array([-1, 0])}, "first: row 0"),
        ({"step": -2}, "first: row 0"),
        ({"lengths": np.array([3, 4])}, "lengths"),
        ({"cell": 9}, "cell"),
        ({"T": 0}, "T, first"),
        ({"y": None}, "y: expected an array"),
        ({"y": np.zeros((3, 2, 5), np.float32)}, "y: expected"),
        ({"s_n": np.zeros((2, 5), np.float32)}, "s_n"),
        ({"cell": _core.SCAN_IND_RNN, "y": np.zeros((3, 2, 8), np.float32)}, "p: expected"),
    ):
        with pytest.raises((ValueError, TypeError), match=what):
            call(**changes)
