"""One-hot input as codes: the bits of the dense array, whatever the schedule, on every instruction set."""

import numpy as np
import pytest

from fastrnn import _core
from tests.core.cases import F32, F64, Call, Case, assert_same, cells, dtypes, isas, keep, ragged

# I below 2·T·B: tables of W and dW are made; above: columns are taken from where they lie.
KINDS = {
    "few_classes": {"I": 9},
    "two_classes": {"I": 2, "T": 3},
    "one_class": {"I": 1, "B": 3},
    "many_classes": {"I": 130, "H": 33},
    "whole_vectors": {"I": 32, "H": 64, "B": 3},
    "one_step": {"T": 1, "B": 1, "I": 5, "H": 40},
    "ragged": {"I": 12, "lengths": ragged(6, 7)},
    "ragged_many_classes": {"I": 100, "lengths": ragged(6, 7), "directions": 2},
    "two_directions": {"I": 20, "directions": 2},
    "reverse_many_classes": {"I": 90, "reverse": True},
    "nobody_runs": {"I": 4, "lengths": (0,) * 7},
    "no_bias": {"I": 17, "b_w": False, "b_r": False},
    "no_bias_many_classes": {"I": 100, "b_w": False},
}
THREADS = (1, 2, 3, 8)


def codes_of(x):
    """Codes for the x of a case, [T, B] or [B, T]."""
    return np.ascontiguousarray(x.argmax(-1), np.int64)


def as_codes(name, array):
    return codes_of(array) if name == "x" else array


def as_dense(name, array):
    return np.eye(array.shape[-1], dtype=array.dtype)[codes_of(array)] if name == "x" else array


def run(case, dtype, change, start=0.25, backward=None, **options):
    """Outputs and all gradients but dx."""
    call = Call(case, dtype, change=change, **options)
    return {**call.results, **call.backward(input_grad=False, start=start, **(backward or {}))}


@isas
@dtypes
@cells
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_same_bits_as_dense(isa, dtype, cell, kind):
    case = Case(cell, **kind)
    dense = run(case, dtype, as_dense)
    assert_same(run(case, dtype, as_codes), dense)
    assert_same(run(case, dtype, as_codes, batch_first=True), dense, "batch first")
    assert_same(run(case, dtype, as_codes, checkpoint=2), dense, "checkpoint")
    outputs = Call(case, dtype, change=as_codes, save=False).results
    assert_same(outputs, {name: dense[name] for name in outputs}, "inference")


def test_codes_matter():
    """Other codes give other results: what is compared above isn't the same for all of them."""
    case = Case("lstm", I=9)

    def next_code(name, array):
        return (codes_of(array) + 1) % 9 if name == "x" else array

    assert abs(run(case, F64, as_codes)["y"] - run(case, F64, next_code)["y"]).max() > 0.01


# Each large enough that eight threads are woken where the work of a step is enough.
SHAPES = {
    "batch_groups": {"T": 9, "B": 33, "I": 40, "H": 130},
    "batch_groups_many_classes": {"T": 9, "B": 33, "I": 700, "H": 130},
    "hidden_slices": {"T": 31, "B": 1, "I": 60, "H": 512},
    "hidden_slices_many_classes": {"T": 31, "B": 1, "I": 64, "H": 512},
    "groups_and_slices": {"T": 14, "B": 9, "I": 33, "H": 200},
    "two_directions_ragged": {"T": 21, "B": 18, "I": 33, "H": 100, "directions": 2, "lengths": ragged(21, 18)},
    "ragged_many_classes": {"T": 21, "B": 18, "I": 900, "H": 100, "lengths": ragged(21, 18)},
    "chunks": {"T": 90, "B": 31, "I": 20, "H": 33, "directions": 2, "lengths": ragged(90, 31)},
    "chunks_many_classes": {"T": 90, "B": 16, "I": 3000, "H": 17, "lengths": ragged(90, 16)},
}


@cells
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_number_of_threads(threads, cell, shape):
    case = Case(cell, **shape)
    threads(1)
    dense = run(case, F32, as_dense)
    for count in THREADS:
        threads(count)
        assert_same(run(case, F32, as_codes), dense, f"with {count} threads")
        assert_same(run(case, F32, as_codes, checkpoint=5), dense, f"with {count} threads and checkpoints")
        for _ in range(3):  # groups take turns in one memory; it is a matter of chance who is ahead
            outputs = Call(case, F32, change=as_codes, save=False).results
            assert_same(outputs, {name: dense[name] for name in outputs}, f"inference with {count} threads")


@isas
@dtypes
@cells
@pytest.mark.parametrize("shape", ["hidden_slices", "two_directions_ragged", "ragged_many_classes"])
def test_number_of_threads_everywhere(isa, threads, dtype, cell, shape):
    case = Case(cell, **SHAPES[shape])
    threads(1)
    dense = run(case, dtype, as_dense)
    for count in (2, 5):
        threads(count)
        assert_same(run(case, dtype, as_codes), dense, f"with {count} threads")


# ---- memory


def column_major(array):
    return np.asfortranarray(array)


def with_gaps(array):
    wide = np.zeros((array.shape[0] * 2, array.shape[1] * 3), array.dtype)
    wide[::2, ::3] = array
    return wide[::2, ::3]


def backwards(array):
    return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]


@dtypes
@cells
@pytest.mark.parametrize("strides", [column_major, with_gaps, backwards])
@pytest.mark.parametrize("classes", [9, 130])
def test_strides(dtype, cell, strides, classes):
    """Of W, and of the codes."""
    case = Case(cell, I=classes)

    def change(name, array):
        array = as_codes(name, array)
        return strides(array) if name in ("x", "W") else array

    assert_same(run(case, dtype, change), run(case, dtype, as_dense))


@pytest.mark.parametrize("classes", [9, 130])
def test_pullback_twice_and_without_gradients_of_weights(classes):
    call = Call(Case("lstm", I=classes), F32, change=as_codes)
    some = call.backward(retain=True, input_grad=False, weight_grads=False)
    first = call.backward(retain=True, input_grad=False)
    assert_same(call.backward(input_grad=False), first)
    assert_same(some, {name: first[name] for name in some})


@pytest.mark.parametrize("classes", [9, 130])
def test_codes_may_change_before_the_pullback(classes):
    given = []

    def change(name, array):
        if name == "x":
            given.append(codes_of(array))
            return given[0]
        return array

    case = Case("gru_after", I=classes)
    call = Call(case, F32, change=change)
    given[0][...] = 10**9
    assert_same(call.backward(input_grad=False), Call(case, F32, change=as_codes).backward(input_grad=False))


# ---- what would read or write out of bounds


@pytest.mark.parametrize("code", [-1, 9, 2**40, -(2**62)])
@pytest.mark.parametrize("save", [False, True])
def test_codes_out_of_range(code, save):
    def change(name, array):
        if name != "x":
            return array
        found = codes_of(array)
        found[3, 4] = code
        return found

    with pytest.raises(ValueError, match=r"^x: expected codes from 0 to 8, got "):
        Call(Case("rnn_tanh", I=9), F32, change=change, save=save)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda x: codes_of(x)[0], ValueError),
        (lambda x: codes_of(x)[:, :, None], ValueError),
        (lambda x: codes_of(x).astype(np.int32), TypeError),
        (lambda x: codes_of(x).astype(np.uint64), TypeError),
        (lambda x: codes_of(x)[:0], ValueError),
    ],
)
def test_misfits(change, error):
    with pytest.raises(error):
        Call(Case("lstm", I=9), F32, change=lambda name, a: change(a) if name == "x" else keep(name, a))


def test_second_direction_of_another_size():
    """Codes are looked at for the first direction; the second must have as many columns."""
    case = Case("lstm", I=9, directions=2)
    seen = []

    def change(name, array):
        if name == "W":
            seen.append(name)
            return array[:, :5].copy() if len(seen) == 2 else array
        return as_codes(name, array)

    with pytest.raises(ValueError, match="weight_ih"):
        Call(case, F32, change=change)


def test_no_rows():
    weights = ((np.ones((12, 3), F32), np.ones((12, 3), F32), None, None, None),)
    for codes in (np.zeros((4, 0), np.int64), np.zeros((0, 4), np.int64).T):
        y, h_n, c_n = np.empty((4, 0, 3), F32), np.empty((1, 0, 3), F32), np.empty((1, 0, 3), F32)
        saved = _core.forward(_core.LSTM, codes, weights, None, None, None, False, False, y, h_n, c_n, True)
        grads = ((np.zeros((12, 3), F32), np.zeros((12, 3), F32), None, None, None),)
        assert saved.backward(None, None, None, grads, True, None, None) is None
        assert not grads[0][0].any()
