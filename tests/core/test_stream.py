"""Streams against the layers' own kernels: bitwise, on every instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import _core
from tests.core.cases import CELLS, F32, F64, Call, Case, Outputs, assert_same, cells, data, dtypes, isas, using


def stream_of(case, dtype):
    """A stream with the weights and the initial state of a case; its weights in any layout."""
    weights = data(case)["weights"][0]
    order = "F" if case.seed % 2 else "C"
    W, R, b_w, b_r, M = (None if w is None else np.array(w, dtype, order=order) for w in weights)
    layer = (_core.STREAM_CELL, CELLS[case.cell][0], case.I, case.H, case.P, 0.0, W, R, M, b_w, b_r)
    s = _core.Stream([layer], case.B, dtype)
    h, c = (None if data(case)[n] is None else data(case)[n][0].astype(dtype) for n in ("h_0", "c_0"))
    s.write_states([(0, h, c)], None)
    return s


def streamed(case, dtype, steps):
    """What Call gives: `steps` time steps one by one, between guards, and the others in a block."""
    s, out = stream_of(case, dtype), Outputs(dtype)
    x = data(case)["x"].astype(dtype)
    y = out.new(case.T, case.B, case.P)
    for t in range(steps):
        assert s.step(x[t], out=y[t]) is not None
    if steps < case.T:
        s.run(x[steps:], out=y[steps:])
    h, c = out.new(1, case.B, case.P), out.new(1, case.B, case.H) if case.is_lstm else None
    s.read_states([(0, h[0], None if c is None else c[0])])
    out.check()
    return {"y": y, "h_n": h} | ({"c_n": c} if case.is_lstm else {})


def check(case, dtype, steps=3):
    call = Call(case, dtype, save=False)
    assert_same(streamed(case, dtype, steps), call.results, str(case))


@dtypes
@cells
@pytest.mark.parametrize("B", [1, 2, 3, 7, 33])
@isas
def test_bits_of_the_layer(isa, B, cell, dtype):
    for seed, (I, H) in enumerate([(1, 1), (3, 7), (16, 8), (9, 15), (16, 16), (5, 17), (2, 33), (40, 70)]):
        check(Case(cell, T=5, B=B, I=I, H=H, seed=seed), dtype)


@cells
@isas
def test_bits_of_large_layers(isa, cell):
    check(Case(cell, T=4, B=1, I=130, H=200), F32)
    check(Case(cell, T=4, B=5, I=130, H=200), F64)


@cells
@isas
def test_optional_parts(isa, cell):
    for seed, options in enumerate([{"b_w": False}, {"b_r": False}, {"b_w": False, "b_r": False}, {"state": False}]):
        for B in (1, 4):
            check(Case(cell, T=4, B=B, H=19, seed=seed, **options), F32)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    isa=st.sampled_from(_core.isas()),
    cell=st.sampled_from(sorted(CELLS)),
    dtype=st.sampled_from([F32, F64]),
    T=st.integers(1, 12),
    B=st.integers(1, 20),
    I=st.integers(1, 70),
    H=st.integers(1, 70),
    steps=st.integers(0, 12),
)
def test_any_sizes(isa, cell, dtype, T, B, I, H, steps):
    with using(isa):
        check(Case(cell, T=T, B=B, I=I, H=H), dtype, min(steps, T))


@cells
@isas
def test_a_row_does_not_see_the_others(isa, cell):
    """NaN in one row stays there, whatever tile the row shares with others."""
    case = Case(cell, T=3, B=7, H=17)
    s = stream_of(case, F32)
    right = Call(case, F32, save=False).results["y"]
    x = data(case)["x"].astype(F32)
    x[0, 3] = np.nan
    y = s.run(x)
    assert np.isnan(y[0, 3]).all()
    others = [0, 1, 2, 4, 5, 6]
    assert_same({"y": y[:, others]}, {"y": right[:, others]})


def test_a_stream_keeps_its_instruction_set():
    case = Case("lstm", T=3, B=1)
    for isa in _core.isas():
        with using(isa):
            s, right = stream_of(case, F32), Call(case, F32, save=False).results["y"]
        assert_same({"y": s.run(data(case)["x"].astype(F32))}, {"y": right}, isa)


def test_nothing_but_good_layers_is_taken():
    W, R, b = np.zeros((12, 2), F32), np.zeros((12, 3), F32), np.zeros(12, F32)
    good = (_core.STREAM_CELL, _core.LSTM, 2, 3, 3, 0.0, W, R, None, b, b)

    def changed(**changes):
        names = ("kind", "function", "I", "H", "P", "alpha", "W", "R", "M", "b_w", "b_r")
        return tuple(changes.get(name, value) for name, value in zip(names, good, strict=True))

    _core.Stream([good], 1, F32)
    bad = [
        {"kind": 6}, {"function": 6}, {"I": 0}, {"H": 0}, {"I": 3}, {"H": 4}, {"P": 2}, {"W": W[:, :1]}, {"R": R.T},
        {"W": W.astype(F64)}, {"b_w": b[:5]}, {"b_r": b[:5]}, {"function": _core.GRU_AFTER}, {"W": None},
        {"kind": _core.STREAM_LINEAR}, {"kind": _core.STREAM_NORM}, {"kind": _core.STREAM_EMBEDDING},
    ]  # fmt: skip
    for changes in bad:
        with pytest.raises((ValueError, TypeError)):
            _core.Stream([changed(**changes)], 1, F32)
    with pytest.raises(ValueError, match="number 1 doesn't fit"):
        _core.Stream([good, good], 1, F32)
    for layers, batch in (([], 1), ([good], 0)):
        with pytest.raises(ValueError, match="expected layers"):
            _core.Stream(layers, batch, F32)


def test_a_stream_that_was_never_made_does_nothing():
    s = _core.Stream.__new__(_core.Stream)
    x = np.zeros(2, F32)
    for call in (lambda: s.step(x), lambda: s.run(x[None]), s.pack, lambda: s.write_states([(0, None, None)], None)):
        with pytest.raises((RuntimeError, TypeError)):
            call()
    done = stream_of(Case("lstm"), F32)
    with pytest.raises(ValueError, match="one call of __init__"):
        done.__init__([], 1, F32)


def test_states_stay_in_bounds():
    s = stream_of(Case("lstm", B=2, H=3), F32)
    good = np.zeros((2, 3), F32)
    for states, rows in [
        ((1, good, good), None), ((-1, good, good), None), ((0, good[:1], good), None), ((0, good, good.T), None),
        ((0, good, good), [0, 2]), ((0, good, good), [-1, 0]), ((0, good, good), [0]),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=r"^(states|rows|h|c): "):
            s.write_states([states], None if rows is None else np.array(rows))
