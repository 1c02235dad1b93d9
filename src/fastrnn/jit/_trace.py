"""Tracing: a cell's function is called once, with scalars that note down what is done to them."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NoReturn

import numpy as np

from fastrnn.jit._graph import Graph, Node

__all__ = ["Condition", "Scalar", "Scope", "trace"]

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SINGLE = {
    **{name: name for name in ("exp", "log", "tanh", "sqrt")},
    **{"absolute": "abs", "fabs": "abs", "expit": "sigmoid", "sign": "sign"},
}
_ALL = "sigmoid, tanh, exp, log, sqrt, relu, softplus, abs, minimum, maximum, where, power of fastrnn.jit"


def _place() -> str:
    """file:line of the user's code that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def refuse(kind: type[Exception], message: str) -> NoReturn:
    raise kind(f"{_place()}: {message}")


class Traced:
    """What a cell's function gets and makes instead of numbers."""

    __slots__ = ("graph", "node")
    __array_priority__ = 1000

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node

    def __bool__(self) -> NoReturn:
        refuse(
            TypeError,
            "`if`, `while`, `and`, `or`, `not`, min(), max() and `a < b < c` ask for a value that is known only when "
            "the cell runs; write where(condition, a, b), minimum(a, b), maximum(a, b), and & | ~ between conditions "
            "in parentheses",
        )

    def _number(self) -> NoReturn:
        refuse(
            TypeError,
            "a function that needs a number (such as those of `math`) was given a value that is known only when the "
            f"cell runs; use {_ALL}",
        )

    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _number

    def __iter__(self) -> Iterator[Any]:
        refuse(TypeError, "a cell's values are those of one unit: they can't be unpacked or looped over")

    def __len__(self) -> int:
        refuse(TypeError, "a cell's values are those of one unit: they have no length")

    def __getitem__(self, key: Any) -> NoReturn:
        refuse(
            TypeError, "a cell's values are those of one unit: they can't be indexed; units meet only in W·x and R·h"
        )

    def __matmul__(self, other: Any) -> NoReturn:
        refuse(TypeError, "a cell has the equations of one unit: the products W·x and R·h come in as wx and rh")

    __rmatmul__ = __matmul__

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(TypeError, f"a cell's values can't become NumPy arrays; use arithmetic and {_ALL}")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from fastrnn.jit import functions

        name = ufunc.__name__
        if method != "__call__" or kwargs:
            refuse(TypeError, f"np.{name}: only a plain call without further arguments can be derived")
        scalar = next(x for x in inputs if isinstance(x, Traced))
        if name in _SINGLE:
            return apply(_SINGLE[name], *inputs)
        if name in ("minimum", "fmin"):
            return functions.minimum(*inputs)
        if name in ("maximum", "fmax"):
            return functions.maximum(*inputs)
        if name == "square":
            return inputs[0] * inputs[0]
        if name == "reciprocal":
            return 1 / inputs[0]
        if name in _BINARY:
            return _BINARY[name](*(lift(scalar.graph, x) for x in inputs))
        refuse(TypeError, f"np.{name}: fastrnn has no derivative for it; use arithmetic and {_ALL}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from fastrnn.jit import functions

        if function is np.where and len(args) == 3 and not kwargs:
            return functions.where(*args)
        refuse(TypeError, f"np.{function.__name__}: fastrnn has no derivative for it; use arithmetic and {_ALL}")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what protocols look for
            raise AttributeError(name)
        refuse(TypeError, f"a cell's values have no attribute {name!r}; use arithmetic and {_ALL}")

    def __repr__(self) -> str:
        from fastrnn.jit._write import expression

        return f"<{expression(self.node)}>"

    __hash__ = object.__hash__


class Scalar(Traced):
    """A number of one unit, known only when the cell runs."""

    __slots__ = ()

    def __neg__(self) -> Scalar:
        return Scalar(self.graph, self.graph.neg(self.node))

    def __pos__(self) -> Scalar:
        return self

    def __abs__(self) -> Scalar:
        return Scalar(self.graph, self.graph.function("abs", self.node))

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if modulus is not None:
            refuse(TypeError, "pow() with three arguments can't be derived")
        return _binary("pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _binary("pow", other, self)

    def __mod__(self, other: Any) -> NoReturn:
        refuse(TypeError, f"%, // and divmod have no useful derivative; use arithmetic (+ - * / **) and {_ALL}")

    __rmod__ = __floordiv__ = __rfloordiv__ = __divmod__ = __rdivmod__ = __mod__

    def __and__(self, other: Any) -> NoReturn:
        refuse(TypeError, "&, | and ~ join conditions; write (a > 0) & (b > 0), each comparison in parentheses")

    __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __and__

    def __invert__(self) -> NoReturn:
        self.__and__(None)

    __hash__ = object.__hash__


class Condition(Traced):
    """A comparison of numbers that are known only when the cell runs."""

    __slots__ = ()

    def __and__(self, other: Any) -> Condition:
        return self._join(self.graph.both, other)

    def __or__(self, other: Any) -> Condition:
        return self._join(self.graph.either, other)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Condition:
        return Condition(self.graph, self.graph.opposite(self.node))

    def _join(self, how: Callable[[Node, Node], Node], other: Any) -> Condition:
        if not isinstance(other, Condition):
            refuse(TypeError, f"& and | join conditions, such as (a > 0) & (b > 0), got {type(other).__name__}")
        return Condition(self.graph, how(self.node, other.node))

    def _no_number(self, *_: Any) -> NoReturn:
        refuse(TypeError, "a condition is no number; write where(condition, 1.0, 0.0) to make it one")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_number
    __neg__ = __pos__ = __abs__ = __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = _no_number
    __eq__ = __ne__ = _no_number
    __hash__ = object.__hash__


def lift(graph: Graph, value: Any) -> Scalar:
    """A scalar for a number, or for what is one already."""
    if isinstance(value, Scalar):
        if value.graph is not graph:
            refuse(ValueError, "a value of another call of the cell's function; a cell keeps nothing between calls")
        return value
    if isinstance(value, Condition):
        value._no_number()
    if isinstance(value, bool | np.bool_ | int | float | np.floating | np.integer) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iufb"
    ):
        return Scalar(graph, graph.const(float(value)))
    refuse(TypeError, f"expected a number or a value of the cell, got {_describe(value)}")


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}; what differs from unit to unit belongs in `vectors`"
    return type(value).__name__


def _graph_of(*values: Any) -> Graph:
    return next(v.graph for v in values if isinstance(v, Traced))


def apply(op: str, value: Any) -> Scalar:
    """A function of one scalar."""
    graph = _graph_of(value)
    return Scalar(graph, graph.function(op, lift(graph, value).node))


def _binary(op: str, a: Any, b: Any) -> Scalar:
    graph = _graph_of(a, b)
    return Scalar(graph, graph.make(op, (lift(graph, a).node, lift(graph, b).node)))


def _compare(op: str, a: Any, b: Any) -> Condition:
    graph = _graph_of(a, b)
    return Condition(graph, graph.compare(op, lift(graph, a).node, lift(graph, b).node))


def extreme(op: str, a: Any, b: Any) -> Scalar:
    return _binary(op, a, b)


def choose(condition: Any, a: Any, b: Any) -> Scalar:
    """`where` of something traced."""
    graph = _graph_of(condition, a, b)
    if isinstance(condition, bool | np.bool_):
        return lift(graph, a if condition else b)
    if not isinstance(condition, Condition):
        refuse(TypeError, f"where: expected a comparison such as x > 0, got {type(condition).__name__}")
    return Scalar(graph, graph.where(condition.node, lift(graph, a).node, lift(graph, b).node))


_BINARY: dict[str, Any] = {}


def _add_operators() -> None:
    ufuncs = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}
    for name, ufunc in ufuncs.items():
        op = "div" if name == "truediv" else name
        setattr(Scalar, f"__{name}__", lambda a, b, op=op: _binary(op, a, b))
        setattr(Scalar, f"__r{name}__", lambda a, b, op=op: _binary(op, b, a))
        _BINARY[ufunc] = lambda a, b, op=op: _binary(op, a, b)
    _BINARY["true_divide"] = _BINARY["divide"]
    _BINARY["power"] = _BINARY["float_power"] = lambda a, b: _binary("pow", a, b)
    _BINARY["negative"] = lambda a: -a
    compares = {
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
        "eq": "equal",
        "ne": "not_equal",
    }
    for op, ufunc in compares.items():
        setattr(Scalar, f"__{op}__", lambda a, b, op=op: _compare(op, a, b))
        _BINARY[ufunc] = lambda a, b, op=op: _compare(op, a, b)


_add_operators()


class Scope:
    """`wx`, `rh`, `s` or `v` of a cell's function: one value a name."""

    __slots__ = ("_values", "_what")

    def __init__(self, what: str, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_what", what)
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        values: dict[str, Any] = object.__getattribute__(self, "_values")
        if name not in values:
            what = object.__getattribute__(self, "_what")
            refuse(ValueError, f"no {what} is named {name!r}; the cell has {', '.join(values) or 'none'}")
        return values[name]

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        refuse(TypeError, f"{name!r} can't be set; a cell returns its new states")

    def __dir__(self) -> list[str]:
        return list(self._values)

    def __repr__(self) -> str:
        return f"{self._what}s {', '.join(map(repr, self._values))}"


def origin(function: Callable[..., Any]) -> str:
    code: CodeType | None = getattr(function, "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}: "


def new_states(result: Any, states: tuple[str, ...], where: str) -> tuple[Any, ...]:
    """What a cell's function returned as a tuple with one value a state."""
    values = tuple(result) if isinstance(result, tuple | list) else (result,)
    if len(values) != len(states):
        expected = "one value" if len(states) == 1 else f"a tuple of {len(states)} values"
        raise ValueError(f"{where}expected {expected} to be returned, the new {', '.join(states)}; got {len(values)}")
    return values


def _expect_arguments(function: Callable[..., Any], count: int, where: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables written in C have none; the call will tell
        return
    try:
        signature.bind(*[None] * count)
    except TypeError:
        expected = "(wx, rh, s, v), for it has vectors" if count == 4 else "(wx, rh, s), for it has no vectors"
        raise TypeError(f"{where}expected a function of {expected}; got {signature}") from None


def trace(
    function: Callable[..., Any], gates: tuple[str, ...], states: tuple[str, ...], vectors: tuple[str, ...]
) -> tuple[Graph, list[Node]]:
    """The graph of a cell's function, and the nodes of its new states."""
    graph = Graph()

    def scope(kind: str, what: str, names: tuple[str, ...]) -> Scope:
        return Scope(what, {name: Scalar(graph, graph.input(kind, k)) for k, name in enumerate(names)})

    arguments = [scope("wx", "gate", gates), scope("rh", "gate", gates), scope("s", "state", states)]
    if vectors:
        arguments.append(scope("v", "vector", vectors))
    where = origin(function)
    _expect_arguments(function, len(arguments), where)
    values = new_states(function(*arguments), states, where)
    nodes = []
    for name, value in zip(states, values):
        if not isinstance(value, Scalar | int | float | np.floating | np.integer):
            raise TypeError(f"{where}the new {name}: expected a number of the cell, got {_describe(value)}")
        nodes.append(lift(graph, value).node)
    return graph, nodes
