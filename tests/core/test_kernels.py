"""Every cell on every instruction set and in both types against the reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import _core
from tests.core.cases import (
    CELLS,
    F32,
    F64,
    WEIGHTS,
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
    using,
)


@pytest.fixture(autouse=True)
def one_thread(threads):
    """test_determinism.py shows that more of them change no bit."""
    threads(1)


@isas
@dtypes
@cells
@pytest.mark.parametrize("H", [1, 15, 16, 17, 33, 100])
def test_sizes(isa, dtype, cell, H):
    inputs = (1, 5, H + 3)
    for k, (T, B) in enumerate((T, B) for T in (1, 2, 17) for B in (1, 2, 5, 7, 33)):
        check(Case(cell, T=T, B=B, I=inputs[k % 3], H=H), dtype)


OPTIONS = {
    "no_bias": {"b_w": False, "b_r": False},
    "b_w": {"b_r": False},
    "b_r": {"b_w": False},
    "no_state": {"state": False},
    "no_dstate": {"dstate": False},
    "no_dy": {"dy": False},
    "no_gradient": {"dy": False, "dstate": False},
    "reverse": {"reverse": True},
    "two_directions": {"directions": 2},
    "ragged": {"lengths": (3, 6, 0, 1, 5, 6, 2)},
    "ragged_reverse": {"lengths": (3, 6, 0, 1, 5, 6, 2), "reverse": True},
    "ragged_two_directions": {"lengths": (0, 4, 4, 1, 6, 0, 3), "directions": 2},
    "ragged_from_zeros": {"lengths": (0, 4, 4, 1, 6, 0, 3), "state": False, "directions": 2},
    "ragged_without_dstate": {"lengths": (0, 4, 4, 1, 6, 0, 3), "dstate": False, "directions": 2},
    "short": {"lengths": (2, 1, 2, 0, 2, 1, 2), "directions": 2},
    "all_empty": {"lengths": (0,) * 7, "directions": 2},
    "one_input": {"I": 1, "directions": 2},
    "one_unit": {"H": 1, "directions": 2, "lengths": (3, 6, 0, 1, 5, 6, 2)},
    "many_inputs": {"I": 130},
}


@isas
@dtypes
@cells
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(isa, dtype, cell, options):
    check(Case(cell, **options), dtype)


@isas
@dtypes
@cells
def test_options_batch_first(isa, dtype, cell):
    for options in ({}, OPTIONS["reverse"], OPTIONS["ragged_two_directions"]):
        check(Case(cell, **options), dtype, batch_first=True)


# At most 512 rows make a chunk of time, and never fewer than 128.
MANY_ROWS = {
    "three_chunks": {"T": 36, "B": 40, "H": 20},
    "ragged": {"T": 36, "B": 61, "H": 20, "lengths": ragged(36, 61), "directions": 2},
    "small_chunks": {"T": 17, "B": 33, "H": 130, "I": 7},
    "a_step_is_more_than_a_chunk": {"T": 3, "B": 530, "H": 5, "directions": 2},
    "ragged_wide": {"T": 3, "B": 530, "H": 5, "lengths": ragged(3, 530)},
}


@isas
@dtypes
@cells
@pytest.mark.parametrize("shape", MANY_ROWS.values(), ids=MANY_ROWS)
def test_chunks(isa, dtype, cell, shape):
    check(Case(cell, **shape), dtype)


@isas
@dtypes
@cells
def test_long_columns(isa, dtype, cell):
    """More than 160 terms in each product, so that K comes in blocks; the second H is whole vectors."""
    check(Case(cell, T=3, B=14, I=170, H=331), dtype)
    check(Case(cell, T=2, B=14, I=321, H=192), dtype)


@isas
@dtypes
@cells
def test_every_tile(isa, dtype, cell):
    """One to 13 rows of one tile or two, and 1 … 5 vectors of columns, the last one full or not."""
    for B in range(1, 14):
        check(Case(cell, T=2, B=B, I=11, H=20), dtype)
    for vectors in range(1, 6):
        for more in (-1, 0):
            check(Case(cell, T=2, B=3, I=16 * vectors + more, H=8 * vectors + more), dtype)


# ---- memory: any strides, read-only, nothing that isn't wanted


def spaced(array):
    """The same values with other numbers between them, along every axis."""
    wide = np.full(tuple(2 * n + 1 for n in array.shape), np.nan, array.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    return np.ascontiguousarray(array[(slice(None, None, -1),) * array.ndim])[(slice(None, None, -1),) * array.ndim]


def wide_rows(array):
    """Contiguous rows inside of a larger array."""
    wide = np.full((*array.shape[:-1], array.shape[-1] + 5), np.nan, array.dtype)
    wide[..., 2:-3] = array
    return wide[..., 2:-3]


def unaligned(array):
    buffer = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = buffer.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def swapped(array):
    """Time and batch exchanged in memory."""
    return np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)


def frozen(array):
    array.flags.writeable = False
    return array


SEQUENCES, MATRICES = ("x", "dy"), ("W", "R", "M")
LAYOUTS = {
    "spaced_weights": (MATRICES, spaced),
    "transposed_weights": (MATRICES, np.asfortranarray),
    "reversed_weights": (MATRICES, backwards),
    "rows_of_wide_weights": (MATRICES, wide_rows),
    "spaced_sequences": (SEQUENCES, spaced),
    "reversed_sequences": (SEQUENCES, backwards),
    "reversed_time": (SEQUENCES, lambda a: np.ascontiguousarray(a[::-1])[::-1]),
    "reversed_batch": (SEQUENCES, lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1]),
    "fortran_sequences": (SEQUENCES, np.asfortranarray),
    "rows_of_wide_sequences": (SEQUENCES, wide_rows),
    "swapped_sequences": (SEQUENCES, swapped),
    "unaligned_sequences": (SEQUENCES, unaligned),
    "read_only": ((*SEQUENCES, *MATRICES, "b_w", "b_r", "h_0", "c_0", "dh_n", "dc_n"), frozen),
}


@isas
@dtypes
@cells
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_strides_change_no_bit(isa, dtype, cell, layout):
    names, function = layout
    case = Case(cell, **OPTIONS["ragged_two_directions"])
    plain = check(case, dtype)
    assert_same(run(case, dtype, change=lambda name, a: function(a) if name in names else a), plain)


@isas
@dtypes
@cells
def test_batch_first_changes_no_bit(isa, dtype, cell):
    case = Case(cell, **OPTIONS["ragged_two_directions"])
    assert_same(run(case, dtype, batch_first=True), run(case, dtype))


@isas
@cells
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_broadcast_sequences(isa, cell, axes):
    def broadcast(name, a):
        if name not in SEQUENCES:
            return a
        return np.broadcast_to(a[tuple(slice(0, 1) if k in axes else slice(None) for k in range(3))], a.shape)

    def copied(name, a):
        return broadcast(name, a).copy()

    case = Case(cell, directions=2)
    assert_same(run(case, F64, change=broadcast), run(case, F64, change=copied))


@isas
@dtypes
@cells
def test_outputs_in_wide_arrays(isa, dtype, cell):
    """y and dx may have any strides but for a contiguous last axis; nothing beside them is written."""
    case = Case(cell, **OPTIONS["ragged_two_directions"])
    a = data(case)
    plain = check(case, dtype)
    y_wide = np.full((case.T, 2, case.B, 2 * case.P + 3), 7.0, dtype)
    dx_wide = np.full((case.T, 2, case.B, case.I + 3), 7.0, dtype)
    y, dx = y_wide[::-1, 1, :, 1:-2], dx_wide[::-1, 1, ::-1, 2:-1]

    def cast(value):
        return None if value is None else value.astype(dtype)

    weights = tuple(tuple(map(cast, ws)) for ws in a["weights"])
    h_n, c_n = (np.empty((2, case.B, n), dtype) for n in (case.P, case.H))
    dh_0, dc_0 = h_n.copy(), c_n.copy()
    saved = _core.forward(
        CELLS[cell][0], cast(a["x"]), weights, cast(a["h_0"]), cast(a["c_0"]), case.num_lengths, False, False,
        y, h_n, c_n, True,
    )  # fmt: skip
    grads = tuple(tuple(None if w is None else np.zeros_like(w) for w in ws) for ws in weights)
    saved.backward(
        cast(a["dy"]),
        cast(a["dh_n"]),
        cast(a["dc_n"]),
        grads,
        True,
        dh_0,
        dc_0 if case.is_lstm else None,
        False,
        dx,
    )
    found = {"y": y, "h_n": h_n, "dx": dx, "dh_0": dh_0}
    found |= {"c_n": c_n, "dc_0": dc_0} if case.is_lstm else {}
    found |= {n: np.stack([g[k] for g in grads]) for k, n in enumerate(WEIGHTS) if grads[0][k] is not None}
    assert_same(found, plain)
    y[...] = dx[...] = 7
    assert (y_wide == 7).all()
    assert (dx_wide == 7).all()


@isas
@dtypes
@cells
def test_gradients_are_added_to_what_is_there(isa, dtype, cell):
    case = Case(cell, directions=2)
    call = Call(case, dtype)
    once = call.backward(retain=True)
    more = call.backward(start=64.0)
    # adding to 64 loses the bits below 64·ε, in each chunk's sum
    for name, array in more.items():
        expected = once[name] + 64 if name in WEIGHTS else once[name]
        assert np.abs(array - expected).max() <= 64 * np.finfo(dtype).eps * (20 if name in WEIGHTS else 0), name


@isas
@dtypes
@cells
def test_retained_memory_gives_the_same_again(isa, dtype, cell):
    call = Call(Case(cell, directions=2, **MANY_ROWS["three_chunks"]), dtype)
    first, second = call.backward(retain=True), call.backward(retain=True)
    assert_same(second, first)
    assert_same(call.backward(), first)


@isas
@dtypes
@cells
def test_gradients_that_are_not_wanted(isa, dtype, cell):
    call = Call(Case(cell, directions=2), dtype)
    everything = call.backward(retain=True)
    for unwanted in ("input_grad", "weight_grads", "state_grads"):
        some = call.backward(retain=True, **{unwanted: False})
        assert len(some) < len(everything)
        assert_same(some, {name: everything[name] for name in some}, f"without {unwanted}")


@isas
@dtypes
@cells
@pytest.mark.parametrize("batch_first", [False, True])
def test_empty_batch(isa, dtype, cell, batch_first):
    for directions in (1, 2):
        case = Case(cell, B=0, directions=directions, lengths=())
        found = run(case, dtype, batch_first=batch_first)
        assert found["y"].shape == (case.T, 0, directions * case.P)
        assert found["dx"].shape == (case.T, 0, case.I)
        for name in WEIGHTS:
            assert name not in found or not found[name].any()


@isas
@dtypes
@cells
def test_inference_equals_training(isa, dtype, cell):
    for options in (
        {},
        {"B": 1, "T": 17},
        {"directions": 2, **OPTIONS["ragged"]},
        {"directions": 2, **MANY_ROWS["ragged"]},
        MANY_ROWS["small_chunks"],
    ):
        case = Case(cell, **options)
        assert_same(Call(case, dtype, save=False).results, Call(case, dtype).results, str(options))


@isas
@dtypes
@cells
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_checkpoints_change_no_bit(isa, dtype, cell, steps):
    for options in ({"T": 36, "B": 40, "H": 20, "directions": 2}, MANY_ROWS["ragged"], {"T": 17, "B": 1}):
        case = Case(cell, **options)
        assert_same(run(case, dtype, checkpoint=steps), run(case, dtype))


# ---- whatever shapes hypothesis thinks of


@st.composite
def shapes(draw):
    T, B = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B).map(tuple))
    flags = {name: draw(st.booleans()) for name in ("b_w", "b_r", "state", "dy", "dstate", "reverse")}
    directions = draw(st.integers(1, 2))
    if directions == 2:
        flags["reverse"] = False
    return Case(
        draw(st.sampled_from(list(CELLS))), T=T, B=B, I=draw(st.integers(1, 70)), H=draw(st.integers(1, 70)),
        directions=directions, lengths=lengths, seed=draw(st.integers(0, 9)), **flags,
    )  # fmt: skip


@dtypes
@settings(max_examples=200, deadline=None, derandomize=True)
@given(case=shapes(), isa=st.sampled_from(_core.isas()), batch_first=st.booleans())
def test_any_shape(dtype, case, isa, batch_first):
    with using(isa):
        found = check(case, dtype, batch_first=batch_first)
        inference = Call(case, dtype, batch_first=batch_first, save=False).results
    assert_same(inference, {name: found[name] for name in inference})


def test_reverse_is_the_second_direction():
    """One direction with `reverse` and the second of two give the same bits."""
    for cell in CELLS:
        case = Case(cell, **OPTIONS["ragged_two_directions"])
        both = Call(case, F32).results["y"][..., case.P :]
        a = data(case)
        one = replace(case, directions=1, reverse=True)
        y = np.empty((case.T, case.B, case.P), F32)
        h_n, c_n = np.empty((1, case.B, case.P), F32), np.empty((1, case.B, case.H), F32)
        weights = tuple(None if w is None else w.astype(F32) for w in a["weights"][1])
        c_0 = a["c_0"][1:].astype(F32) if case.is_lstm else None
        _core.forward(
            CELLS[cell][0], a["x"].astype(F32), (weights,), a["h_0"][1:].astype(F32), c_0, one.num_lengths,
            False, True, y, h_n, c_n if case.is_lstm else None, False,
        )  # fmt: skip
        assert_same({"y": y}, {"y": np.ascontiguousarray(both)})
