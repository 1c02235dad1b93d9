"""Stacks of layers, whose layers may run side by side: the same bits as a call for each layer.

The shapes are those for which layers do run side by side with two threads or more: few rows, few units, many steps.
"""

import os
import threading

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core
from tests.core.cases import assert_same, dtypes, isas, ragged

KINDS = {
    "rnn": (fr.RNN, {}),
    "lstm": (fr.LSTM, {}),
    "lstm_projected": (fr.LSTM, {"proj_size": 21}),
    "gru_after": (fr.GRU, {}),
    "gru_before": (fr.GRU, {"reset_after": False}),
}
kinds = pytest.mark.parametrize("kind", KINDS)
# T, B, I, H, layers, lengths
SHAPES = {
    "one_row": (160, 1, 20, 64, 2, None),
    "three_layers": (130, 3, 33, 65, 3, None),
    "ragged": (110, 5, 9, 60, 4, ragged(110, 5, seed=2)),
    "many_chunks": (300, 6, 40, 64, 2, ragged(300, 6, seed=3)),
    "short_input": (200, 2, 1, 64, 2, None),
}
THREADS = (1, 2, 3, 8)


class Stack:
    """A layer object with data; `alone` calls the core for one layer after the other."""

    def __init__(self, kind, shape, dtype=np.float32, given=True, dy=True, dstate=True):
        T, B, I, H, L, lengths = SHAPES[shape]
        make, options = KINDS[kind]
        self.layer = make(I, H, L, dtype=dtype, seed=3, **options)
        P = self.layer.proj_size or H
        self.cell = self.layer._cell
        self.lstm = make is fr.LSTM
        rng = np.random.default_rng(5)

        def normal(*shape):
            return rng.standard_normal(shape).astype(dtype)

        def state(wanted):
            if not wanted:
                return None
            return (normal(L, B, P), normal(L, B, H)) if self.lstm else normal(L, B, P)

        self.x, self.state, self.dstate = normal(T, B, I), state(given), state(dstate)
        self.dy = normal(T, B, P) if dy else None
        self.lengths = None if lengths is None else np.array(lengths, np.int64)

    def parts(self, state, k):
        if state is None:
            return None, None
        h, c = state if self.lstm else (state, None)
        return h[k : k + 1], None if c is None else c[k : k + 1]

    def alone(self, backward=True):
        weights, L = self.layer._layers(), self.layer.num_layers
        y, saved, found = self.x, [], {}
        B, dtype = y.shape[1], y.dtype
        for k in range(L):
            R = weights[k][0][1]
            P, H = R.shape[1], self.layer.hidden_size
            x, y = y, np.empty((*y.shape[:2], P), dtype)
            h_n, c_n = np.empty((1, B, P), dtype), np.empty((1, B, H), dtype) if self.lstm else None
            saved.append(
                _core.forward(
                    self.cell, x, weights[k], *self.parts(self.state, k), self.lengths, False, False, y, h_n, c_n, True
                )
            )
            found |= {f"h_n {k}": h_n} | ({f"c_n {k}": c_n} if self.lstm else {})
        found["y"], dy = y, self.dy
        for k in reversed(range(L)) if backward else ():
            grads = tuple(None if w is None else np.zeros_like(w) for w in weights[k][0])
            dh_0 = np.empty_like(found[f"h_n {k}"])
            dc_0 = np.empty_like(found[f"c_n {k}"]) if self.lstm else None
            dy = saved[k].backward(dy, *self.parts(self.dstate, k), (grads,), True, dh_0, dc_0)
            found |= {f"dh_0 {k}": dh_0} | ({f"dc_0 {k}": dc_0} if self.lstm else {})
            found |= {f"grad {k} {i}": g for i, g in enumerate(grads) if g is not None}
        return found | ({"dx": dy} if backward else {})

    def states(self, name, state):
        pair = state if self.lstm else (state,)
        return {f"{n} {k}": a[k : k + 1] for n, a in zip(name, pair, strict=False) for k in range(len(a))}

    def together(self, checkpoint=None, input_grad=True, retain=False):
        layer = self.layer
        (y, state), pullback = layer.vjp(
            self.x, self.state, lengths=self.lengths, checkpoint=checkpoint, input_grad=input_grad, retain=retain
        )
        for _ in range(1 + retain):
            layer.zero_grads()
            dx, dstate = pullback(self.dy, self.dstate)
        found = {"y": y} | self.states(("h_n", "c_n"), state) | self.states(("dh_0", "dc_0"), dstate)
        for k, layers in enumerate(layer._by_layer(layer.grads)):
            found |= {f"grad {k} {i}": g.copy() for i, g in enumerate(layers[0]) if g is not None}
        return found | ({"dx": dx} if input_grad else {})

    def infer(self):
        y, state = self.layer(self.x, self.state, lengths=self.lengths)
        return {"y": y} | self.states(("h_n", "c_n"), state)


@kinds
@pytest.mark.parametrize("shape", SHAPES)
@dtypes
def test_layers_side_by_side(threads, kind, shape, dtype):
    stack = Stack(kind, shape, dtype)
    threads(1)
    right = stack.alone()
    for count in THREADS:
        threads(count)
        assert_same(stack.together(), right, f"with {count} threads")
        assert_same(stack.infer(), stack.alone(backward=False), f"inference with {count} threads")


@isas
@kinds
def test_everywhere(isa, threads, kind):
    stack = Stack(kind, "ragged")
    threads(1)
    right = stack.alone()
    for count in (2, 5):
        threads(count)
        assert_same(stack.together(), right, f"with {count} threads")


@pytest.mark.parametrize("kind", ["lstm", "gru_after"])
@pytest.mark.parametrize(
    "options",
    [{"given": False}, {"dy": False}, {"dstate": False}, {"given": False, "dy": False, "dstate": False}],
    ids=["zero_state", "dstate_only", "dy_only", "nothing"],
)
def test_what_is_given(threads, kind, options):
    stack = Stack(kind, "three_layers", **options)
    threads(1)
    right = stack.alone()
    for count in (2, 8):
        threads(count)
        assert_same(stack.together(), right, f"with {count} threads")


@pytest.mark.parametrize("kind", ["lstm_projected", "gru_before"])
@pytest.mark.parametrize("options", [{"checkpoint": 7}, {"retain": True}, {"input_grad": False}], ids=str)
def test_options(threads, kind, options):
    stack = Stack(kind, "many_chunks")
    threads(1)
    right = stack.alone()
    if "input_grad" in options:
        del right["dx"]
    for count in THREADS:
        threads(count)
        assert_same(stack.together(**options), right, f"with {count} threads")


def test_batch_first(threads):
    stack = Stack("lstm", "ragged")
    other = fr.LSTM(9, 60, 4, batch_first=True, seed=3)
    threads(2)
    y, _ = stack.layer(stack.x, lengths=stack.lengths)
    z, _ = other(np.ascontiguousarray(stack.x.swapaxes(0, 1)), lengths=stack.lengths)
    np.testing.assert_array_equal(z.swapaxes(0, 1), y)


def test_all_rows_empty(threads):
    layer = fr.LSTM(9, 64, 2, seed=0)
    threads(2)
    x = np.ones((100, 3, 9), np.float32)
    (y, (h_n, _)), pullback = layer.vjp(x, lengths=[0, 0, 0])
    dx, _ = pullback(np.ones_like(y))
    assert not y.any()
    assert not h_n.any()
    assert not dx.any()


def test_many_callers(threads):
    """Whoever finds the pool busy runs its layers alone."""
    stack = Stack("lstm", "three_layers")
    threads(1)
    right = stack.alone(backward=False)
    threads(3)
    failures = []

    def work():
        try:
            for _ in range(20):
                assert_same(stack.infer(), right)
        except AssertionError as error:
            failures.append(error)

    callers = [threading.Thread(target=work) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(threads):
    stack = Stack("gru_after", "one_row")
    threads(2)
    right = stack.together()
    child = os.fork()
    if child == 0:
        try:
            assert_same(stack.together(), right)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_nothing_runs_before_all_is_checked(threads):
    """A layer that doesn't fit is found before gradients or memory are touched."""
    stack = Stack("lstm", "one_row")
    threads(2)
    weights = stack.layer._layers()
    W, *rest = weights[1][0]
    bad = (weights[0], ((W[:, :-1].copy(), *rest),))
    with pytest.raises(ValueError, match="weight_ih"):
        _core.forward_layers(stack.cell, stack.x, bad, None, None, None, False, True, 0, 0.0, 0)
    *_, kept = _core.forward_layers(stack.cell, stack.x, weights, None, None, None, False, True, 0, 0.0, 0)
    grads = tuple(tuple(tuple(None if w is None else np.zeros_like(w) for w in d) for d in ws) for ws in weights)
    gW, *others = grads[0][0]
    wrong = (((gW[:-1].copy(), *others),), grads[1])
    held = _core.cached_bytes()
    for _ in range(3):
        with pytest.raises(ValueError, match="dW"):
            _core.backward_layers(kept, stack.dy, None, None, wrong, True, False, 0.0, 0)
        with pytest.raises(ValueError, match="dy"):
            _core.backward_layers(kept, stack.dy[:-1], None, None, grads, True, False, 0.0, 0)
    assert _core.cached_bytes() == held
    assert not any(g.any() for ws in grads for d in ws for g in d if g is not None)
    dx, _, _ = _core.backward_layers(kept, stack.dy, None, None, grads, True, False, 0.0, 0)
    assert dx.any()
