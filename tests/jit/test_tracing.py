"""What cells may do, and the errors for the rest, with file and line."""

import inspect
import math
import re

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import jit
from fastrnn.jit._graph import Graph
from fastrnn.jit._write import expression


def make(function, gates=("a", "b"), **arguments):
    return fr.cell(gates=gates, **arguments)(function)


@pytest.mark.parametrize(
    ("function", "vectors", "expected"),
    [
        (lambda wx, rh: wx.a + rh.b, (), "(wx, rh, s), for it has no vectors; got (wx, rh)"),
        (lambda wx, rh, s, v: wx.a + rh.b, (), "(wx, rh, s), for it has no vectors; got (wx, rh, s, v)"),
        (lambda wx, rh, s: wx.a + rh.b, ("p",), "(wx, rh, s, v), for it has vectors; got (wx, rh, s)"),
    ],
)
def test_the_number_of_arguments(function, vectors, expected):
    message = rf"test_tracing\.py:\d+: expected a function of {re.escape(expected)}"
    with pytest.raises(TypeError, match=message):
        make(function, vectors=vectors)


def test_arguments_of_any_name():
    cell = make(lambda *parts, scale=2.0: scale * parts[0].a + parts[1].b)
    assert expression(cell._traced[1][0]) == "rh_1 + 2 * wx_0"


# ---- what works


def test_helpers_and_numpy_scalars():
    slope = np.float32(0.25)

    def leaky(x):
        return jit.where(x > 0, x, slope * x)

    def function(wx, rh, s):
        return leaky(wx.a + rh.a) + leaky(wx.b) * np.float64(2) - np.array(1.5) + np.int64(3)

    cell = make(function)
    (output,) = cell._traced[1]
    assert expression(output) == (
        "3 + where(wx_0 + rh_0 > 0, wx_0 + rh_0, 0.25 * (wx_0 + rh_0)) + 2 * where(wx_1 > 0, wx_1, 0.25 * wx_1) - 1.5"
    )


def test_functions_of_numpy():
    def ours(wx, rh, s):
        a = jit.tanh(wx.a) + jit.exp(rh.a) + jit.log(s.h) + jit.sqrt(wx.b) + jit.abs(rh.b)
        return jit.where(a < 1, jit.minimum(a, 2.0), jit.maximum(a, wx.a)) + a**2 + 1 / a

    def numpys(wx, rh, s):
        a = np.tanh(wx.a) + np.exp(rh.a) + np.log(s.h) + np.sqrt(wx.b) + np.abs(rh.b)
        return np.where(np.less(a, 1), np.minimum(a, 2.0), np.maximum(a, wx.a)) + np.square(a) + np.reciprocal(a)

    texts = [expression(make(f)._traced[1][0]) for f in (ours, numpys)]
    assert texts[0] == texts[1]


def test_numpy_scalars_on_the_left():
    cell = make(lambda wx, rh, s: np.float32(2) * wx.a - np.float64(1) / rh.b)
    assert expression(cell._traced[1][0]) == "2 * wx_0 - 1 / rh_1"


def test_a_cell_in_a_cell():
    inner = make(lambda wx, rh, s: jit.tanh(wx.a + rh.a), ("a",))
    outer = make(lambda wx, rh, s: 0.5 * inner(wx, rh, s) + wx.b)
    assert expression(outer._traced[1][0]) == "wx_1 + 0.5 * tanh(wx_0 + rh_0)"


def test_names_and_text():
    def function(wx, rh, s, v):
        """Its own text."""
        return wx.a * v.p

    cell = make(function, ("a",), vectors=("p",), states=["h"])
    assert repr(cell) == "<cell function: gates a; states h; vectors p>"
    assert cell.__doc__ == "Its own text." and cell.states == ("h",)
    assert cell.name == f"{__name__}:test_names_and_text.<locals>.function"


# ---- what doesn't, and where


def failing(wx, rh, s):
    return jit.tanh(wx.a) if wx.a > 0 else rh.b


def asks_and(wx, rh, s):
    return jit.where(wx.a > 0 and rh.a > 0, wx.a, rh.b)


def chained(wx, rh, s):
    return jit.where(0 < wx.a < 1, wx.a, rh.b)


def pythons_min(wx, rh, s):
    return min(wx.a, rh.b)


def of_math(wx, rh, s):
    return math.exp(wx.a + rh.b)


def to_float(wx, rh, s):
    return float(wx.a) + rh.b


def of_numpy(wx, rh, s):
    return np.sinh(wx.a + rh.b)


def numpys_sum(wx, rh, s):
    return np.sum(wx.a) + rh.b


def unknown_gate(wx, rh, s):
    return wx.a + wx.q


def unknown_state(wx, rh, s):
    return wx.a + s.c


def indexed(wx, rh, s):
    return wx.a[0] + rh.b


def method(wx, rh, s):
    return wx.a.mean()


def matrix(wx, rh, s):
    return wx.a @ rh.b


def modulo(wx, rh, s):
    return wx.a % 2


def unpacked(wx, rh, s):
    a, b = wx.a
    return a + b


def with_array(wx, rh, s):
    return wx.a * np.arange(3.0)


def with_text(wx, rh, s):
    return wx.a + "one"


def sets(wx, rh, s):
    wx.a = rh.b
    return wx.a


def condition_as_number(wx, rh, s):
    return wx.a * (rh.b > 0)


def number_as_condition(wx, rh, s):
    return jit.where(wx.a, rh.b, 1.0)


def and_of_numbers(wx, rh, s):
    return jit.where(wx.a & rh.b, 1.0, 2.0)


def returns_text(wx, rh, s):
    return "h"


REFUSED = {
    failing: (TypeError, r"`if`.*write where\(condition, a, b\)"),
    asks_and: (TypeError, r"`and`.*& \| ~"),
    chained: (TypeError, r"`a < b < c`"),
    pythons_min: (TypeError, r"min\(\).*minimum\(a, b\)"),
    of_math: (TypeError, r"`math`.*use sigmoid, tanh, exp"),
    to_float: (TypeError, r"needs a number"),
    of_numpy: (TypeError, r"np\.sinh: fastrnn has no derivative for it; use arithmetic and sigmoid"),
    numpys_sum: (TypeError, r"np\.\w+: "),
    unknown_gate: (ValueError, r"no gate is named 'q'; the cell has a, b"),
    unknown_state: (ValueError, r"no state is named 'c'; the cell has h"),
    indexed: (TypeError, r"can't be indexed"),
    method: (TypeError, r"no attribute 'mean'"),
    matrix: (TypeError, r"W·x and R·h come in as wx and rh"),
    modulo: (TypeError, r"%, // and divmod"),
    unpacked: (TypeError, r"can't be unpacked"),
    with_array: (TypeError, r"array of shape \(3,\).*`vectors`"),
    with_text: (TypeError, r"expected a number or a value of the cell, got str"),
    sets: (TypeError, r"'a' can't be set"),
    condition_as_number: (TypeError, r"where\(condition, 1.0, 0.0\)"),
    number_as_condition: (TypeError, r"expected a comparison such as x > 0"),
    and_of_numbers: (TypeError, r"each comparison in parentheses"),
    returns_text: (TypeError, r"the new h: expected a number of the cell, got str"),
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_refusals_name_the_line(function):
    kind, text = REFUSED[function]
    with pytest.raises(kind, match=text) as error:
        make(function)
    lines, first = inspect.getsourcelines(function)
    (file, line) = re.match(r"(.*?):(\d+): ", str(error.value)).groups()
    assert file == __file__
    assert first <= int(line) < first + len(lines)
    if function in (failing, asks_and, of_math, unknown_gate):
        assert int(line) == first + 1


def helper_that_asks(x):
    if x > 0:
        return x
    return 0.0


def test_the_line_of_a_helper():
    with pytest.raises(TypeError) as error:
        make(lambda wx, rh, s: helper_that_asks(wx.a) + rh.b)
    assert str(error.value).startswith(f"{__file__}:{inspect.getsourcelines(helper_that_asks)[1] + 1}: ")


@pytest.mark.parametrize(
    "function, states, text",
    [
        (lambda wx, rh, s: (wx.a, rh.b), ("h",), "expected one value to be returned, the new h; got 2"),
        (lambda wx, rh, s: wx.a + rh.b, ("h", "c"), "expected a tuple of 2 values to be returned, the new h, c; got 1"),
        (lambda wx, rh, s: wx.a, ("h",), "gate 'b' is in no equation"),
    ],
)
def test_wrong_returns(function, states, text):
    with pytest.raises(ValueError, match=rf"^{re.escape(__file__)}:\d+: {re.escape(text)}$"):
        make(function, states=states)


def test_unused_vector():
    with pytest.raises(ValueError, match="vector 'p' is in no equation"):
        make(lambda wx, rh, s, v: wx.a + rh.b, vectors=("p",))


def test_values_of_another_call():
    kept = []

    def function(wx, rh, s):
        kept.append(wx.a)
        return kept[0] + rh.b

    make(function)
    with pytest.raises(ValueError, match="another call of the cell's function"):
        make(function)


# ---- arguments of the decorator


@pytest.mark.parametrize(
    "arguments, kind, text",
    [
        ({"gates": "rzn"}, TypeError, "gates: expected a tuple of names, got 'rzn'"),
        ({"gates": ()}, ValueError, "gates: expected 1 to 8 names, got 0"),
        ({"gates": tuple("abcdefghi")}, ValueError, "gates: expected 1 to 8 names, got 9"),
        ({"states": tuple("abcde")}, ValueError, "states: expected 1 to 4 names, got 5"),
        ({"states": ()}, ValueError, "states: expected 1 to 4 names, got 0"),
        ({"vectors": tuple("abcdefghi")}, ValueError, "vectors: expected 0 to 8 names, got 9"),
        ({"gates": ("a", "a")}, ValueError, "gates: expected each name once, got a, a"),
        ({"gates": ("a b",)}, ValueError, "gates: expected names such as Python's variables have, got 'a b'"),
        ({"gates": ("if",)}, ValueError, "got 'if'"),
        ({"gates": (1,)}, ValueError, "got 1"),
        ({"initial": {"q": 1}}, ValueError, "initial: expected one of a, b, got 'q'"),
        ({"initial": {"a": "x"}}, TypeError, r"initial\['a'\]: expected a number, got 'x'"),
        ({"initial": {"a": math.inf}}, ValueError, r"initial\['a'\]: expected a finite number"),
        ({"initial": 3}, TypeError, "initial: expected a dict"),
        ({"vectors": ("a",), "initial": {"a": 1}}, ValueError, "initial: 'a' is both a gate and a vector"),
    ],
)
def test_bad_arguments(arguments, kind, text):
    with pytest.raises(kind, match=text):
        fr.cell(**{"gates": ("a", "b"), **arguments})


def test_no_function():
    with pytest.raises(TypeError, match="cell: expected a function"):
        fr.cell(gates=("a",))(3)


# ---- the graph


def test_equal_expressions_are_one():
    g = Graph()
    a, b = g.input("wx", 0), g.input("rh", 0)
    assert g.add(a, b) is g.add(b, a) and g.mul(a, b) is g.mul(b, a) and g.sub(a, b) is not g.sub(b, a)
    assert g.function("tanh", g.add(a, b)) is g.function("tanh", g.add(b, a))
    assert g.const(0.0) is not g.const(-0.0) and g.const(math.nan) is g.const(math.nan)


def test_simplifications():
    g = Graph()
    x, y = g.input("wx", 0), g.input("rh", 0)
    two = g.const(2)
    for found, wanted in [
        (g.add(x, g.zero), x),
        (g.mul(x, g.one), x),
        (g.mul(x, g.zero), g.zero),
        (g.sub(x, x), g.zero),
        (g.neg(g.neg(x)), x),
        (g.mul(g.const(-1), x), g.neg(x)),
        (g.add(x, g.neg(y)), g.sub(x, y)),
        (g.sub(x, g.neg(y)), g.add(x, y)),
        (g.neg(g.sub(x, y)), g.sub(y, x)),
        (g.mul(g.neg(x), g.neg(y)), g.mul(x, y)),
        (g.mul(two, g.mul(two, x)), g.mul(g.const(4), x)),
        (g.div(x, two), g.mul(g.const(0.5), x)),
        (g.pow(x, two), g.mul(x, x)),
        (g.pow(x, g.zero), g.one),
        (g.pow(x, g.const(-1)), g.div(g.one, x)),
        (g.pow(x, g.const(0.5)), g.function("sqrt", x)),
        (g.pow(x, g.const(1.5)), g.mul(x, g.function("sqrt", x))),
        (g.function("exp", g.zero), g.one),
        (g.where(g.compare("lt", x, y), x, x), x),
        (g.where(g.opposite(g.compare("lt", x, y)), x, y), g.where(g.compare("lt", x, y), y, x)),
        (g.minimum(x, x), x),
        (g.function("abs", g.neg(x)), g.function("abs", x)),
    ]:
        assert found is wanted, (expression(found), expression(wanted))
    assert expression(g.pow(x, g.const(3))) == "wx_0 * wx_0 * wx_0"
