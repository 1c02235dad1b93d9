"""Expressions of one unit as a graph: equal expressions are one node, constants are folded, what does nothing vanishes.

A node is an operation on other nodes, an input, or a constant. Nodes are made by the methods of `Graph` alone, which
look for an equal one first; so `is` is equality, and common subexpressions are shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["COMPARISONS", "COST", "Graph", "Node", "in_order"]

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
BOOLEAN = {*COMPARISONS, "and", "or", "not"}

# What computing a node costs, in units of an addition of vectors.
COST = {"exp": 15, "log": 20, "tanh": 20, "sigmoid": 20, "softplus": 40, "pow": 45, "div": 6, "sqrt": 6}

_SAME_EITHER_WAY = {"add", "mul", "eq", "ne", "and", "or"}


class Node:
    """An operation `op` on `args`; for "const" `value` is the number, for inputs (kind, index)."""

    __slots__ = ("args", "number", "op", "value")

    def __init__(self, op: str, args: tuple[Node, ...], value: Any, number: int) -> None:
        self.op = op
        self.args = args
        self.value = value
        self.number = number  # arguments have smaller ones

    @property
    def is_bool(self) -> bool:
        return self.op in BOOLEAN

    @property
    def is_input(self) -> bool:
        return self.op == "input"

    def __repr__(self) -> str:
        return f"Node({self.op}, {self.value if not self.args else [a.number for a in self.args]})"


def in_order(roots: Iterable[Node], leaves: Iterable[Node] = ()) -> list[Node]:
    """Every node that the roots need, arguments first; below `leaves` nothing is needed."""
    stop = set(leaves)
    found: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if node not in stop:
                waiting += node.args
    return sorted(found, key=lambda node: node.number)


class Graph:
    """All nodes of one cell."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[Any, ...], Node] = {}
        self.zero = self.const(0.0)
        self.one = self.const(1.0)

    def _node(self, op: str, args: tuple[Node, ...] = (), value: Any = None) -> Node:
        if op in _SAME_EITHER_WAY:
            args = tuple(sorted(args, key=lambda a: (a.op != "const", a.number)))
        key = (op, *(a.number for a in args), value)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(op, args, value, len(self._nodes))
        return node

    def input(self, kind: str, index: int) -> Node:
        return self._node("input", (), (kind, index))

    def const(self, value: float) -> Node:
        value = float(value)
        key = ("const", value.hex())  # tells -0.0 from 0.0, and finds NaN again
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node("const", (), value, len(self._nodes))
        return node

    # ---- arithmetic ------------------------------------------------------------------------------------------------

    def add(self, a: Node, b: Node) -> Node:
        if a.op == b.op == "const":
            return self.const(a.value + b.value)
        if a is self.zero:
            return b
        if b is self.zero:
            return a
        if b.op == "neg":
            return self.sub(a, b.args[0])
        if a.op == "neg":
            return self.sub(b, a.args[0])
        return self._node("add", (a, b))

    def sub(self, a: Node, b: Node) -> Node:
        if a.op == b.op == "const":
            return self.const(a.value - b.value)
        if b is self.zero:
            return a
        if a is self.zero:
            return self.neg(b)
        if a is b:
            return self.zero
        if b.op == "neg":
            return self.add(a, b.args[0])
        return self._node("sub", (a, b))

    def neg(self, a: Node) -> Node:
        if a.op == "const":
            return self.const(-a.value)
        if a.op == "neg":
            return a.args[0]
        if a.op == "sub":
            return self.sub(a.args[1], a.args[0])
        return self._node("neg", (a,))

    def mul(self, a: Node, b: Node) -> Node:
        if a.op == b.op == "const":
            return self.const(a.value * b.value)
        for x, y in ((a, b), (b, a)):
            if x.op == "const":
                if x.value == 0:
                    return self.zero
                if x.value == 1:
                    return y
                if x.value == -1:
                    return self.neg(y)
                if y.op == "mul" and y.args[0].op == "const":  # they come first
                    return self.mul(self.const(x.value * y.args[0].value), y.args[1])
        if a.op == "neg" and b.op == "neg":
            return self.mul(a.args[0], b.args[0])
        if a.op == "neg":
            return self.neg(self.mul(a.args[0], b))
        if b.op == "neg":
            return self.neg(self.mul(a, b.args[0]))
        return self._node("mul", (a, b))

    def div(self, a: Node, b: Node) -> Node:
        if a.op == b.op == "const" and b.value != 0:
            return self.const(a.value / b.value)
        if a is self.zero and b.op != "const":
            return self.zero
        if b.op == "const" and b.value != 0 and math.frexp(b.value)[0] in (0.5, -0.5):
            return self.mul(a, self.const(1 / b.value))  # exact for powers of two
        if a.op == "neg":
            return self.neg(self.div(a.args[0], b))
        if b.op == "neg":
            return self.neg(self.div(a, b.args[0]))
        return self._node("div", (a, b))

    def pow(self, a: Node, b: Node) -> Node:
        """a to the power of b: products for an integer constant b, roots for ±½, else exp(b·log(a))."""
        if b.op == "const":
            if a.op == "const":
                return self.const(_power(a.value, b.value))
            if math.isfinite(b.value) and b.value == int(b.value):
                return self._integer_power(a, int(b.value))
            if b.value == 0.5:
                return self.function("sqrt", a)
            if b.value == -0.5:
                return self.div(self.one, self.function("sqrt", a))
            if 0 < b.value < 8 and 2 * b.value == int(2 * b.value):  # x^(n + ½)
                return self.mul(self._integer_power(a, int(b.value)), self.function("sqrt", a))
        return self._node("pow", (a, b))

    def _integer_power(self, a: Node, n: int) -> Node:
        if n < 0:
            return self.div(self.one, self._integer_power(a, -n))
        if n > 1024:  # more products than exp(n·log|a|) takes
            size = self._node("pow", (self.function("abs", a), self.const(n)))
            return self.mul(self.function("sign", a), size) if n % 2 else size
        result, square = self.one, a
        while n:
            if n & 1:
                result = self.mul(result, square)
            n >>= 1
            square = self.mul(square, square) if n else square
        return result

    # ---- functions, choices ----------------------------------------------------------------------------------------

    def function(self, op: str, a: Node) -> Node:
        """abs, relu, sign, exp, log, tanh, sigmoid, softplus or sqrt."""
        if a.op == "const":
            from fastrnn.jit._interpret import evaluate_constant

            return self.const(evaluate_constant(op, a.value))
        if op in ("abs", "tanh", "sign") and a.op == "neg":
            inner = self.function(op, a.args[0])
            return inner if op == "abs" else self.neg(inner)
        if op in ("abs", "relu") and a.op in ("relu", "abs", "exp", "sigmoid", "softplus", "sqrt"):
            return a
        return self._node(op, (a,))

    def minimum(self, a: Node, b: Node) -> Node:
        return self._extreme("min", a, b)

    def maximum(self, a: Node, b: Node) -> Node:
        return self._extreme("max", a, b)

    def _extreme(self, op: str, a: Node, b: Node) -> Node:
        if a.op == b.op == "const":
            return self.const(min(a.value, b.value) if op == "min" else max(a.value, b.value))
        return a if a is b else self._node(op, (a, b))

    def compare(self, op: str, a: Node, b: Node) -> Node:
        return self._node(op, (a, b))

    def both(self, a: Node, b: Node) -> Node:
        return a if a is b else self._node("and", (a, b))

    def either(self, a: Node, b: Node) -> Node:
        return a if a is b else self._node("or", (a, b))

    def opposite(self, a: Node) -> Node:
        return a.args[0] if a.op == "not" else self._node("not", (a,))

    def where(self, condition: Node, a: Node, b: Node) -> Node:
        if a is b:
            return a
        if condition.op == "not":
            return self.where(condition.args[0], b, a)
        return self._node("where", (condition, a, b))

    # ---- rebuilding ------------------------------------------------------------------------------------------------

    def make(self, op: str, args: tuple[Node, ...]) -> Node:
        """The node of this operation on other arguments, simplified again."""
        if op in COMPARISONS:
            return self.compare(op, *args)
        named: dict[str, Callable[..., Node]] = {
            **{"add": self.add, "sub": self.sub, "neg": self.neg, "mul": self.mul, "div": self.div, "pow": self.pow},
            **{"min": self.minimum, "max": self.maximum, "where": self.where},
            **{"and": self.both, "or": self.either, "not": self.opposite},
        }
        return named[op](*args) if op in named else self.function(op, *args)

    def replace(self, roots: list[Node], by: dict[Node, Node]) -> list[Node]:
        """The roots with some nodes replaced by others."""
        new = dict(by)
        for node in in_order(roots, by):
            if node not in new:
                same = all(new[a] is a for a in node.args)
                new[node] = node if same else self.make(node.op, tuple(new[a] for a in node.args))
        return [new[root] for root in roots]


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except (ValueError, ZeroDivisionError):
        return math.inf if a == 0 else math.nan
    except OverflowError:
        return math.inf
