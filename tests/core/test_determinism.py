"""The same bits for any number of threads and in every run; rows that know nothing of their batch."""

from dataclasses import replace

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core
from tests.core.cases import (
    CELLS,
    F32,
    Call,
    Case,
    assert_same,
    cells,
    check,
    data,
    dtypes,
    isas,
    ragged,
    run,
)

THREADS = (2, 3, 8)

# Each large enough that eight threads are woken; how they share the work depends on the shape.
SHAPES = {
    "batch_groups": {"T": 9, "B": 33, "I": 40, "H": 50},
    "hidden_slices": {"T": 5, "B": 1, "I": 60, "H": 512},
    "groups_and_slices": {"T": 4, "B": 9, "I": 33, "H": 200},
    "two_directions": {"T": 7, "B": 18, "I": 33, "H": 70, "directions": 2},
    "two_directions_sliced": {"T": 3, "B": 1, "I": 30, "H": 300, "directions": 2},
    "ragged": {"T": 11, "B": 21, "I": 33, "H": 70, "lengths": ragged(11, 21)},
    "ragged_two_directions": {"T": 11, "B": 21, "I": 30, "H": 65, "directions": 2, "lengths": ragged(11, 21)},
    "ragged_reverse_sliced": {"T": 6, "B": 3, "H": 260, "lengths": (2, 6, 5), "reverse": True},
    "chunks": {"T": 40, "B": 31, "I": 20, "H": 33, "directions": 2, "lengths": ragged(40, 31)},
}


@cells
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_number_of_threads(threads, cell, shape):
    case = Case(cell, **shape)
    threads(1)
    one = check(case, F32)
    for count in THREADS:
        threads(count)
        assert_same(run(case, F32), one, f"with {count} threads")


@isas
@dtypes
@cells
def test_number_of_threads_everywhere(isa, threads, dtype, cell):
    for name in ("hidden_slices", "ragged_two_directions"):
        case = Case(cell, **SHAPES[name])
        threads(1)
        one = check(case, dtype)
        for count in (2, 5):
            threads(count)
            assert_same(run(case, dtype), one, f"with {count} threads")


@cells
def test_forward_and_backward_on_different_numbers(threads, cell):
    case = Case(cell, **SHAPES["ragged_two_directions"])
    threads(1)
    one = run(case, F32)
    for before, after in ((1, 8), (8, 1), (3, 2)):
        threads(before)
        call = Call(case, F32)
        threads(after)
        assert_same({**call.results, **call.backward()}, one, f"{before}, then {after} threads")


# Without saving, time chunks take turns in one buffer, and batch groups wait for each other no more than they
# must: a group that runs ahead must not disturb another. Repeated, for it is a matter of chance who is ahead. In
# "uneven" one of two groups has one row of the three, so it comes to the chunk of two rows first.
TURNS = {
    "uneven": {"T": 600, "B": 8, "I": 20, "H": 33, "lengths": (600, 0, 340, 0, 600, 0, 0, 0)},
    "full": {"T": 60, "B": 40, "I": 20, "H": 33},
    "ragged": {"T": 150, "B": 61, "I": 20, "H": 17, "lengths": ragged(150, 61)},
    "ragged_two_directions": {**SHAPES["chunks"], "T": 90, "lengths": ragged(90, 31)},
}


@cells
@pytest.mark.parametrize("shape", TURNS.values(), ids=TURNS)
def test_inference(threads, cell, shape):
    case = Case(cell, **shape)
    threads(1)
    one = Call(case, F32).results
    for count in THREADS:
        threads(count)
        for _ in range(10):
            assert_same(Call(case, F32, save=False).results, one, f"with {count} threads")


@cells
@pytest.mark.parametrize("shape", TURNS.values(), ids=TURNS)
def test_checkpoints(threads, cell, shape):
    case = Case(cell, **shape)
    threads(1)
    one = run(case, F32)
    for count in (1, *THREADS):
        threads(count)
        for steps in (1, 4, 20):
            assert_same(run(case, F32, checkpoint=steps), one, f"with {count} threads")


@cells
@pytest.mark.parametrize("shape", ["groups_and_slices", "chunks"])
def test_runs(threads, cell, shape):
    case = Case(cell, **SHAPES[shape])
    threads(3)
    first = run(case, F32)
    for _ in range(4):
        assert_same(run(case, F32), first)


# ---- rows


def outputs(case, rows=slice(None), *, dtype=F32, lengths=None):
    """Forward results of some rows of a case, each array with the batch first."""
    a = data(case)
    x = a["x"][:, rows].astype(dtype)
    B, D = x.shape[1], case.directions
    weights = tuple(tuple(None if w is None else w.astype(dtype) for w in ws) for ws in a["weights"])
    h_0 = np.ascontiguousarray(a["h_0"][:, rows], dtype)
    c_0 = np.ascontiguousarray(a["c_0"][:, rows], dtype) if case.is_lstm else None
    y, h_n = np.empty((case.T, B, D * case.P), dtype), np.empty_like(h_0)
    c_n = np.empty_like(c_0) if case.is_lstm else None
    lengths = None if lengths is None else np.array(lengths, np.int64)[rows].copy()
    _core.forward(CELLS[case.cell][0], x, weights, h_0, c_0, lengths, False, case.reverse, y, h_n, c_n, False)
    found = {"y": y, "h_n": h_n} | ({"c_n": c_n} if case.is_lstm else {})
    return {name: array.swapaxes(0, 1) for name, array in found.items()}


@isas
@dtypes
@cells
def test_a_row_does_not_depend_on_its_batch(isa, threads, dtype, cell):
    for lengths in (None, ragged(6, 33, seed=4)):
        case = Case(cell, B=33, H=21, directions=2)
        threads(1)
        whole = outputs(case, dtype=dtype, lengths=lengths)
        parts = [slice(b, b + 1) for b in range(33)]
        parts += [slice(4, 6), slice(10, 17), slice(32, None, -1), slice(1, 33, 3)]
        for rows in parts:
            part = outputs(case, rows, dtype=dtype, lengths=lengths)
            assert_same(part, {name: array[rows] for name, array in whole.items()}, f"rows {rows}")
        threads(3)
        assert_same(outputs(case, dtype=dtype, lengths=lengths), whole)


@isas
@cells
def test_a_large_batch_changes_no_row(isa, cell):
    """Other numbers of rows make other time chunks and other blocks of K."""
    case = Case(cell, T=5, B=140, I=170, H=170)
    whole = outputs(case)
    for rows in (slice(0, 1), slice(139, 140), slice(50, 63)):
        assert_same(outputs(case, rows), {name: array[rows] for name, array in whole.items()})


# ---- NaN and padding


def poisoned(case, dtype, name, where, value):
    """A run of the case in which one array holds `value` at `where`."""

    def change(other, array):
        if other == name:
            array[where] = value
        return array

    return run(case, dtype, change=change)


def without_row(found, row):
    """What belongs to the other rows: batch is axis 1 of all but the weight gradients."""
    shared = ("dW", "dR", "db_w", "db_r", "dM")
    return {name: np.delete(a, row, 1) for name, a in found.items() if name not in shared}


@isas
@dtypes
@cells
@pytest.mark.parametrize("options", [{}, {"directions": 2, "lengths": (3, 6, 0, 1, 5, 6, 2)}], ids=["", "ragged"])
def test_nan_stays_in_its_row(isa, dtype, cell, options):
    case = Case(cell, **options)
    clean = run(case, dtype)
    for row in (0, 1, 4, 6):
        for name, where in (
            ("x", (1, row, 3)),
            ("h_0", (0, row, 2)),
            ("dy", (0, row, 2)),
            ("dh_n", (0, row)),
        ):
            found = poisoned(case, dtype, name, where, np.nan)
            assert_same(without_row(found, row), without_row(clean, row), f"NaN in {name}, row {row}")
        found = poisoned(case, dtype, "x", (0, row, 3), np.nan)
        assert np.isnan(found["y"][0, row, : case.P]).all() == (case.lengths is None or case.lengths[row] > 0)


@isas
@dtypes
@cells
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_padding_is_never_read(isa, dtype, cell, value):
    case = Case(cell, directions=2, lengths=(3, 6, 0, 1, 5, 6, 2))
    clean = check(case, dtype)
    padding = np.arange(case.T)[:, None] >= np.array(case.lengths)
    for name in ("x", "dy"):
        assert_same(poisoned(case, dtype, name, padding, value), clean, f"padding of {name}")
    assert not clean["y"][padding].any()
    assert not clean["dx"][padding].any()


@dtypes
@cells
def test_infinity_stays_in_its_row(dtype, cell):
    case = Case(cell, B=20)
    clean = run(case, dtype)
    found = poisoned(case, dtype, "x", (2, 11), np.inf)
    assert_same(without_row(found, 11), without_row(clean, 11))


@cells
def test_row_of_length_zero_is_a_copy(cell):
    case = Case(cell, directions=2, lengths=(3, 6, 0, 1, 5, 6, 0))
    a, found = data(case), run(case, F32)
    for row in (2, 6):
        for out, given in (("h_n", "h_0"), ("c_n", "c_0"), ("dh_0", "dh_n"), ("dc_0", "dc_n")):
            if given in a and a[given] is not None:
                np.testing.assert_array_equal(found[out][:, row], a[given][:, row].astype(F32))
    none = replace(case, state=False, dstate=False)
    found = run(none, F32)
    for name in ("h_n", "dh_0", *(("c_n", "dc_0") if case.is_lstm else ())):
        assert not found[name][:, [2, 6]].any()


def test_plain_panels_of_three_vectors():
    """Three slices of 128 units make panels of three vectors, the last with two: its biases once ran over."""
    layer = fr.RNN(64, 128, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((12, 7, 64)).astype(np.float32)
    before = fr.get_num_threads()
    try:
        fr.set_num_threads(1)
        right = layer.vjp(x)[0][0]
        fr.set_num_threads(6)
        for _ in range(30):
            assert np.array_equal(layer.vjp(x)[0][0], right)
    finally:
        fr.set_num_threads(before)
