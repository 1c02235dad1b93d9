"""A graph that runs: nodes in order, values by name, each dropped after its last use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastrnn.interop.graph import _control, _index, _layers, _math, _recurrent, _reduce, _shape  # noqa: F401  # enter
from fastrnn.interop.graph._arrays import decode
from fastrnn.interop.graph._node import LIMITS, OLDEST, OPERATORS, STANDARD, Node

Values = dict[str, Any]
MOST = 1 << 24  # bytes of a result that is computed once and kept, unless its inputs are as large


class Program:
    """The nodes of a graph, or of one inside another (a branch, the body of a loop).

    Parameters
    ----------
    graph : mapping
        "inputs", "outputs" (names and types), "nodes", "constants".
    opsets : mapping of str to int
        Domain → version.
    known : iterable of str
        Names that are there from outside: parameters, what the graph around this one has computed.
    """

    def __init__(self, graph: Mapping[str, Any], opsets: Mapping[str, int], known: Iterable[str] = ()) -> None:
        self.inputs = [one["name"] for one in graph["inputs"]]
        self.outputs = [one["name"] for one in graph["outputs"]]
        self.constants = {name: decode(array) for name, array in graph["constants"].items()}
        outside = set(known)
        here = {*self.inputs, *self.constants}
        self.nodes: list[Node] = []
        self.captured: set[str] = set()  # names of outside that are used here
        for given in graph["nodes"]:
            node = _node(given, opsets, outside | here)
            for name in _reads(node):
                if name in here:
                    continue
                if name not in outside:
                    raise ValueError(f"{node}: its input {name!r} is made by no node before it, and is no input")
                self.captured.add(name)
            for name in filter(None, node.outputs):
                if name in here:
                    raise ValueError(f"{node}: makes {name!r}, which is there already")
                here.add(name)
            self.nodes.append(node)
        for name in self.outputs:
            if name not in here and name not in outside:
                raise ValueError(f"the output {name!r} is made by no node")
            if name not in here:
                self.captured.add(name)
        self._steps = self._left_over({}, {})

    def _last_uses(self) -> list[list[str]]:
        """For each node the names that nobody reads after it."""
        seen = {*self.outputs, *self.constants}
        found: list[list[str]] = []
        for node in reversed(self.nodes):
            names = {name for name in (*_reads(node), *filter(None, node.outputs)) if name not in seen}
            seen |= names
            found.append(sorted(names))
        return found[::-1]

    def fold(self, constants: Mapping[str, Any]) -> Values:
        """What is the same at every call, and is small or made of something as large: computed once.

        `constants` are parameters; nodes are told which of their inputs are constant. An input's default is not.
        """
        known: Values = {
            name: a for name, a in (*self.constants.items(), *constants.items()) if name not in self.inputs
        }
        found: Values = {}
        for node in self.nodes:
            node.kept = None
            node.constant = [not name or name in known for name in node.inputs]
            # a loop may be long, and a recurrent node keeps its layer, not its results
            if not all(name in known for name in _reads(node)) or node.op in ("LSTM", "GRU", "RNN", "Loop", "Scan"):
                continue
            results = _named(node, _results(node, known))
            size = sum(a.nbytes for a in results.values())
            if size <= max(MOST, sum(known[name].nbytes for name in _reads(node))):
                found |= results
                known |= results
        self._steps = self._left_over(found, known)
        return found

    def _left_over(self, found: Values, known: Values) -> list[tuple[Node, list[str]]]:
        """The nodes that run at every call, each with the names to drop after it."""
        return [
            (node, [name for name in drop if name not in known])
            for node, drop in zip(self.nodes, self._last_uses(), strict=True)
            if node.first not in found
        ]

    def run(self, values: Values) -> list[Any]:
        """The outputs; `values` holds inputs, and whatever is captured, and is used up."""
        for name, array in self.constants.items():
            values.setdefault(name, array)  # an input may have one, for where it isn't given
        for node, drop in self._steps:
            for name, result in zip(node.outputs, _results(node, values), strict=False):
                values[name] = result
            for name in drop:
                values.pop(name, None)
        return [values[name] for name in self.outputs]


def _node(given: Mapping[str, Any], opsets: Mapping[str, int], known: set[str]) -> Node:
    domain = given.get("domain", "")
    node = Node(
        given["op"],
        domain,
        given.get("name", ""),
        list(given["inputs"]),
        list(given["outputs"]),
        {},
        opsets.get(domain, 0),
    )
    if domain in STANDARD:
        node.version = opsets.get("", opsets.get("ai.onnx", 0))
    if domain not in STANDARD or node.op not in OPERATORS:
        raise ValueError(f"{node}: there is no such operator here, fastrnn runs {', '.join(sorted(OPERATORS))}")
    if node.version < OLDEST:
        raise ValueError(f"{node}: expected operator set {OLDEST} or later, got {node.version}")
    if not any(node.outputs):
        raise ValueError(f"{node.op} node {node.name!r}: expected at least one output")
    for name, (kind, value) in given["attributes"].items():
        if kind == "tensor":
            value = decode(value)
        elif kind == "graph":
            value = Program(value, opsets, known)
            node.bodies.append(value)
        node.attributes[name] = value
    node.function = OPERATORS[node.op]
    if node.op in LIMITS and (why := LIMITS[node.op](node)):
        raise ValueError(f"{node}: {why}")
    return node


def _reads(node: Node) -> list[str]:
    """Names that a node reads, the graphs inside it too."""
    names = [name for name in node.inputs if name]
    for body in node.bodies:
        names += sorted(body.captured)
    return names


def _named(node: Node, results: tuple[Any, ...]) -> Values:
    return {name: result for name, result in zip(node.outputs, results, strict=False) if name}


# What a function raises for arguments that don't fit.
_MISFITS = (ValueError, TypeError, LookupError, OverflowError, ArithmeticError, AttributeError)


def _results(node: Node, values: Values) -> tuple[Any, ...]:
    arrays = [values[name] if name else None for name in node.inputs]
    try:
        found = node.function(node, values, *arrays) if node.bodies else node.function(node, *arrays)
    except _MISFITS as error:
        shapes = ", ".join("none" if a is None else f"{a.dtype}{list(a.shape)}" for a in arrays)
        raise ValueError(f"{node}, inputs {shapes}: {error}") from error
    return found if type(found) is tuple else (np.asarray(found),)
