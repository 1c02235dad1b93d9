"""What is derived: sections, what is saved, gradients."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import jit
from fastrnn.jit._derive import MOST_SECTIONS
from fastrnn.jit._differentiate import differentiate
from fastrnn.jit._graph import COST, Graph, in_order
from fastrnn.jit._interpret import evaluate
from fastrnn.jit._write import expression
from tests.jit.cells import CELLS


def make(function, gates=("a", "b"), **arguments):
    return fr.cell(gates=gates, **arguments)(function)


def saved(cell):
    return [expression(n) for n in cell.plan.saved]


def test_sections_of_the_gru():
    """As the built-in one has them: r, z, the product inside the reset, n."""
    plan = CELLS["gru"].plan
    assert (plan.section_x, plan.section_r, plan.sections) == ([0, 1, 3], [0, 1, 2], 4)
    assert saved(CELLS["gru"]) == ["rh_2", "sigmoid(z_0)", "sigmoid(z_1)", "tanh(wx_2 + rh_2 * sigmoid(z_0))"]
    assert plan.saved[next(iter(plan.saved))] == 2  # a product stays where it is


def test_sections_of_the_lstm():
    """tanh(c) is computed again, as in the built-in one, since a fifth section would be needed for it."""
    plan = CELLS["lstm"].plan
    assert plan.section_x == plan.section_r == [0, 1, 2, 3] and plan.sections == 4
    assert sorted(saved(CELLS["lstm"])) == ["sigmoid(z_0)", "sigmoid(z_1)", "sigmoid(z_3)", "tanh(z_2)"]


def test_sums_with_something_between():
    """wx + p·c + rh: only the sum counts, wherever the products stand in it."""
    plan = CELLS["peephole"].plan
    assert plan.section_x == plan.section_r == [0, 1, 2, 3]
    assert plan.section_v == [4, 5, 6] and plan.sections == 7
    assert len(plan.saved) == 5  # here is room for tanh(c)


def test_products_apart():
    plan = make(lambda wx, rh, s: wx.a * rh.a + (wx.b + 2 * rh.b)).plan
    assert plan.section_r == [0, 1] and plan.section_x == [2, 3]
    plan = make(lambda wx, rh, s: jit.tanh(wx.a - (-rh.a)) + rh.b).plan
    assert plan.section_r == [0, 1] and plan.section_x == [0, 2]


def test_nothing_cheap_is_saved():
    """Linear cells need nothing; chains of sums and products are computed again."""
    assert saved(make(lambda wx, rh, s: 0.5 * s.h + wx.a - 2 * rh.b)) == []
    assert saved(make(lambda wx, rh, s: jit.tanh(wx.a + rh.a) * 2 + 1, ("a",))) == ["tanh(z_0)"]
    cell = make(lambda wx, rh, s: jit.tanh(wx.a + rh.a) ** 2 * jit.relu(1 - wx.b) + s.h**2)
    assert sorted(saved(cell)) == ["tanh(z_0)", "wx_1"]


def test_functions_of_states_are_saved_and_those_of_vectors_not():
    cell = make(lambda wx, rh, s, v: jit.tanh(s.h) * (wx.a + rh.a) * jit.sigmoid(v.p), ("a",), vectors=("p",))
    assert sorted(saved(cell)) == ["tanh(s_0)", "z_0"]


def test_long_chains_are_saved():
    """A polynomial of 20 terms is not computed twice."""

    def function(wx, rh, s):
        x = y = wx.a + rh.a
        for k in range(20):
            y = y * x + k
        return y * s.h

    cell = make(function, ("a",))
    (output,) = cell.plan.outputs
    again = in_order(cell.plan.backward_roots(), cell.plan.saved)
    assert sum(COST.get(n.op, 1) for n in again) < sum(COST.get(n.op, 1) for n in in_order([output])) * 6
    assert cell.plan.sections <= 4


def test_never_too_many_sections():
    """40 functions whose results all count in the derivative: some are computed again."""

    def function(wx, rh, s):
        total = 0
        for k in range(MOST_SECTIONS + 8):
            total = total + jit.tanh(wx.a * (k + 1) / 40 + rh.a * (k + 2) / 40) * s.h / 40
        return total

    cell = make(function, ("a",))
    assert cell.plan.sections == MOST_SECTIONS
    pytest.importorskip("numba")
    jit.check(cell)


def test_unused_product_has_no_gradient():
    plan = make(lambda wx, rh, s: wx.a + rh.b * s.h).plan
    gradients = dict(zip([n.value for n in plan.products], (n for n, _ in plan.gradients)))
    assert gradients["rh", 0] is plan.graph.zero and gradients["wx", 1] is plan.graph.zero
    assert gradients["rh", 1] is not plan.graph.zero


SINGLE = ["exp", "log", "tanh", "sigmoid", "softplus", "sqrt", "abs", "relu"]


@pytest.mark.parametrize("op", SINGLE)
def test_derivatives(op):
    """Against central differences, away from kinks and on both sides of them."""
    g = Graph()
    x, dy = g.input("wx", 0), g.input("ds", 0)
    y = g.function(op, x)
    (dx,) = differentiate(g, [y], [dy], [x])
    points = np.array([0.1, 0.7, 2.5, 9.0])
    if op not in ("log", "sqrt"):
        points = np.concatenate([points, -points])
    kind = np.dtype(np.float64)
    ends = [evaluate([y], {x: points + h}, kind)[y] for h in (1e-6, -1e-6)]
    found = evaluate([dx], {x: points, dy: np.full(points.shape, 1.5)}, kind)[dx]
    np.testing.assert_allclose(found, 1.5 * (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "pow", "min", "max"])
def test_derivatives_of_two(op):
    g = Graph()
    a, b, dy = g.input("wx", 0), g.input("rh", 0), g.input("ds", 0)
    y = g.make(op, (a, b))
    kind, rng = np.dtype(np.float64), np.random.default_rng(0)
    va, vb = rng.uniform(0.2, 3, (2, 50))
    slopes = differentiate(g, [y], [dy], [a, b])
    for slope, steps in zip(slopes, ((1e-6, 0), (0, 1e-6))):
        ends = [evaluate([y], {a: va + h * steps[0], b: vb + h * steps[1]}, kind)[y] for h in (1, -1)]
        found = evaluate([slope], {a: va, b: vb, dy: np.ones(50)}, kind)[slope]
        np.testing.assert_allclose(np.broadcast_to(found, 50), (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_derivatives_at_kinks():
    """0 for abs and relu; min and max give all to the first where both are equal."""
    g = Graph()
    a, b, dy = g.input("wx", 0), g.input("rh", 0), g.input("ds", 0)
    kind, zero = np.dtype(np.float64), np.zeros(1)

    def slope(y, x):
        (d,) = differentiate(g, [y], [dy], [x])
        return float(np.reshape(evaluate([d], {a: zero, b: zero, dy: np.ones(1)}, kind)[d], ()))

    assert slope(g.function("abs", a), a) == slope(g.function("relu", a), a) == 0
    for y in (g.minimum(a, b), g.maximum(a, b)):
        assert (slope(y, a), slope(y, b)) == (1, 0)


def test_power_at_zero():
    """x^b and its derivative are 0 at 0 for b > 1, and the derivative by b is 0, not NaN."""
    g = Graph()
    a, b, dy = g.input("wx", 0), g.input("rh", 0), g.input("ds", 0)
    slopes = differentiate(g, [g.pow(a, b)], [dy], [a, b])
    with np.errstate(all="ignore"):  # the logarithm of 0 is computed, and not taken
        found = evaluate(slopes, {a: np.zeros(1), b: np.full(1, 2.3), dy: np.ones(1)}, np.dtype(np.float64))
    assert [float(found[s][0]) for s in slopes] == [0, 0]


def test_high_powers():
    g = Graph()
    a = g.input("wx", 0)
    values = np.array([-1.001, 1.001, 0.5])
    for n in (5, -3, 1024, 2001, 2000):
        y = g.pow(a, g.const(n))
        found = evaluate([y], {a: values}, np.dtype(np.float64))[y]
        np.testing.assert_allclose(found, values**n, rtol=1e-11)
