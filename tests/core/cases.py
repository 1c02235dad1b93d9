"""One recurrent layer as a test case: its data, what the reference makes of it, what the compiled core does.

All numbers are representable in float32, so one run of the reference in float64 is the oracle for both types.
Weights are scaled by 1/√(their columns), so that rounding errors don't grow from step to step. Sequences have
a mean of 0.5, so that no gradient is what is left of larger terms that cancelled.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pytest

from fastrnn import _core, reference
from tests.reference.finite_differences import assert_close

F32, F64 = np.float32, np.float64

# name: (code, gates, function of the reference)
CELLS = {
    "rnn_tanh": (_core.RNN_TANH, 1, partial(reference.rnn_vjp, nonlinearity="tanh")),
    "rnn_relu": (_core.RNN_RELU, 1, partial(reference.rnn_vjp, nonlinearity="relu")),
    "rnn_sigmoid": (_core.RNN_SIGMOID, 1, partial(reference.rnn_vjp, nonlinearity="sigmoid")),
    "lstm": (_core.LSTM, 4, reference.lstm_vjp),
    "lstm_projected": (_core.LSTM, 4, reference.lstm_vjp),
    "gru_after": (_core.GRU_AFTER, 3, partial(reference.gru_vjp, reset_after=True)),
    "gru_before": (_core.GRU_BEFORE, 3, partial(reference.gru_vjp, reset_after=False)),
}
# DESIGN, "Numerics that we promise": largest difference over largest magnitude
FORWARD = {F32: 1e-5, F64: 1e-12}
GRADIENT = {F32: 1e-4, F64: 1e-12}
WEIGHTS = ("dW", "dR", "db_w", "db_r", "dM")
GUARD, PATTERN = 32, -12345.0

# `isas` first, so that it varies fastest: what the reference found is then used for every instruction set.
isas = pytest.mark.parametrize("isa", _core.isas(), indirect=True)
dtypes = pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])
cells = pytest.mark.parametrize("cell", CELLS)


@dataclass(frozen=True)
class Case:
    """Shapes and options; hashable, so that the reference runs once for all instruction sets and types."""

    cell: str
    T: int = 6
    B: int = 7
    I: int = 9
    H: int = 17
    directions: int = 1
    reverse: bool = False
    lengths: tuple[int, ...] | None = None
    b_w: bool = True
    b_r: bool = True
    state: bool = True
    dy: bool = True
    dstate: bool = True
    seed: int = 0

    @property
    def is_lstm(self):
        return self.cell.startswith("lstm")

    @property
    def P(self):
        return (self.H + 1) // 2 if self.cell == "lstm_projected" else self.H

    @property
    def num_lengths(self):
        return None if self.lengths is None else np.array(self.lengths, np.int64)


def ragged(T, B, seed=0):
    """Lengths in any order, with the extremes among them."""
    lengths = np.random.default_rng(seed).integers(0, T + 1, B)
    lengths[: min(B, 2)] = [T, 0][: min(B, 2)]
    return tuple(np.random.default_rng(seed + 1).permutation(lengths).tolist())


@lru_cache(maxsize=128)
def data(case):
    """Every array of the case in float64, by the kernels' names; a tuple of weights for each direction."""
    rng = np.random.default_rng(case.seed)
    T, B, I, H, P, D = case.T, case.B, case.I, case.H, case.P, case.directions
    rows = CELLS[case.cell][1] * H

    def normal(*shape, scale=1.0, mean=0.0):
        return (mean + scale * rng.standard_normal(shape)).astype(F32).astype(F64)

    weights = tuple(
        (
            normal(rows, I, scale=I**-0.5),
            normal(rows, P, scale=P**-0.5),
            normal(rows, scale=0.5) if case.b_w else None,
            normal(rows, scale=0.5) if case.b_r else None,
            normal(P, H, scale=H**-0.5) if case.cell == "lstm_projected" else None,
        )
        for _ in range(D)
    )
    return {
        "x": normal(T, B, I, mean=0.5),
        "weights": weights,
        "h_0": normal(D, B, P, scale=0.5) if case.state else None,
        "c_0": normal(D, B, H, scale=0.5) if case.state and case.is_lstm else None,
        "dy": normal(T, B, D * P, mean=0.5) if case.dy else None,
        "dh_n": normal(D, B, P) if case.dstate else None,
        "dc_n": normal(D, B, H) if case.dstate and case.is_lstm else None,
    }


@lru_cache(maxsize=128)
def expected(case):
    """Outputs and gradients of the reference: {"y": …, "dx": …, "dW": [D, …], …}."""
    a, run = data(case), CELLS[case.cell][2]
    found = {}
    dx = 0
    for d in range(case.directions):

        def pair(h, c, d=d):
            if not case.is_lstm:
                return None if h is None else h[d]
            return None if h is None else h[d], None if c is None else c[d]

        weights = a["weights"][d][: 5 if case.is_lstm else 4]
        options = {"lengths": case.lengths, "reverse": case.reverse or d == 1}
        (y, state), pullback = run(a["x"], pair(a["h_0"], a["c_0"]), *weights, **options)
        dy = None if a["dy"] is None else a["dy"][..., d * case.P : (d + 1) * case.P]
        dx_d, dstate, grads = pullback(dy, pair(a["dh_n"], a["dc_n"]))
        dx = dx + dx_d
        parts = {"y": y}
        parts |= {"h_n": state[0], "c_n": state[1]} if case.is_lstm else {"h_n": state}
        parts |= {"dh_0": dstate[0], "dc_0": dstate[1]} if case.is_lstm else {"dh_0": dstate}
        parts |= {name: g for name, g in zip(WEIGHTS, grads, strict=False) if g is not None}
        for name, array in parts.items():
            found.setdefault(name, []).append(array)
    y = np.concatenate(found.pop("y"), axis=-1)
    return {"y": y, "dx": dx, **{name: np.stack(arrays) for name, arrays in found.items()}}


def keep(name, array):
    """The arrays as they are; other functions of this kind give them other strides."""
    return array


class Outputs:
    """Arrays for results, each between two guards that nobody may touch."""

    def __init__(self, dtype):
        self.dtype, self.buffers = dtype, []

    def new(self, *shape, value=np.nan):
        size = int(np.prod(shape))
        buffer = np.full(size + 2 * GUARD, PATTERN, self.dtype)
        self.buffers.append(buffer)
        array = buffer[GUARD : GUARD + size].reshape(shape)
        array[...] = value
        return array

    def check(self):
        for buffer in self.buffers:
            assert (buffer[:GUARD] == PATTERN).all(), "written before an output"
            assert (buffer[-GUARD:] == PATTERN).all(), "written past an output"


class Call:
    """A forward call of the core on a case, and backward calls on what it saved.

    change : function of an array's name and the array, which returns the same values in other memory
    """

    def __init__(self, case, dtype, *, batch_first=False, change=keep, save=True, checkpoint=0, outputs=None):
        self.case, self.dtype, self.batch_first, self.change = case, dtype, batch_first, change
        self.out = outputs or Outputs(dtype)
        a = data(case)
        T, B, D, P, H = case.T, case.B, case.directions, case.P, case.H
        y = self.out.new(*((B, T) if batch_first else (T, B)), D * P)
        h_n = self.out.new(D, B, P)
        c_n = self.out.new(D, B, H) if case.is_lstm else None
        names = ("W", "R", "b_w", "b_r", "M")
        weights = tuple(tuple(self.give(n, w) for n, w in zip(names, ws, strict=True)) for ws in a["weights"])
        x, h_0, c_0 = (
            self.give("x", self.layout(a["x"])),
            self.give("h_0", a["h_0"]),
            self.give("c_0", a["c_0"]),
        )
        self.saved = _core.forward(
            CELLS[case.cell][0], x, weights, h_0, c_0, case.num_lengths, batch_first, case.reverse, y, h_n,
            c_n, save, checkpoint,
        )  # fmt: skip
        self.out.check()
        self.results = {"y": self.layout(y), "h_n": h_n}
        if case.is_lstm:
            self.results["c_n"] = c_n

    def layout(self, array):
        return array.swapaxes(0, 1) if self.batch_first else array

    def give(self, name, array):
        return None if array is None else self.change(name, array.astype(self.dtype))

    def backward(self, *, retain=False, start=0.0, input_grad=True, weight_grads=True, state_grads=True):
        """All gradients; weight gradients are added to `start`."""
        case, a, out = self.case, data(self.case), self.out
        D, B, P, H = case.directions, case.B, case.P, case.H
        weights = a["weights"]
        grads = tuple(
            tuple(None if w is None or not weight_grads else out.new(*w.shape, value=start) for w in ws)
            for ws in weights
        )
        dh_0 = out.new(D, B, P) if state_grads else None
        dc_0 = out.new(D, B, H) if state_grads and case.is_lstm else None
        dy = None if a["dy"] is None else self.give("dy", self.layout(a["dy"]))
        dh_n, dc_n = self.give("dh_n", a["dh_n"]), self.give("dc_n", a["dc_n"])
        shape = (case.T, B, case.I)
        dx = self.layout(out.new(*((B, case.T, case.I) if self.batch_first else shape))) if input_grad else None
        back = self.saved.backward(
            dy, dh_n, dc_n, grads, input_grad, dh_0, dc_0, retain, None if dx is None else self.layout(dx)
        )
        assert (back is None) == (not input_grad)
        out.check()
        found = {"dx": dx, "dh_0": dh_0, "dc_0": dc_0}
        for k, name in enumerate(WEIGHTS):
            if grads[0][k] is not None:
                found[name] = np.stack([g[k] for g in grads])
        return {name: array for name, array in found.items() if array is not None}


def run(case, dtype, **options):
    """Outputs and gradients of the compiled core, by the names of `expected`."""
    call = Call(case, dtype, **options)
    return {**call.results, **call.backward()}


def check(case, dtype, **options):
    """The core against the reference, every output and every gradient."""
    found, right = run(case, dtype, **options), expected(case)
    assert found.keys() == right.keys()
    for name, array in found.items():
        tolerance = (GRADIENT if name.startswith("d") else FORWARD)[dtype]
        assert_close(array, right[name], tolerance, f"{name} of {case}")
    return found


def assert_same(found, right, what=""):
    """Bitwise equality of two results, NaN equal to NaN."""
    assert found.keys() == right.keys()
    for name in found:
        assert found[name].shape == right[name].shape
        a, b = np.ascontiguousarray(found[name]), np.ascontiguousarray(right[name])
        bits = np.uint32 if a.dtype == F32 else np.uint64
        different = (a.view(bits) != b.view(bits)) & ~(np.isnan(a) & np.isnan(b))
        assert not different.any(), f"{name} {what}: {different.sum()} of {a.size} differ"


@contextmanager
def using(isa):
    """An instruction set for a block of code, where a fixture can't be used."""
    before = _core.isa()
    _core.select_isa(isa)
    try:
        yield
    finally:
        _core.select_isa(before)
