"""A node of a graph, and the table of operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Operator of the standard domain → function(node, *inputs), which returns an array, or a tuple of them.
OPERATORS: dict[str, Callable[..., Any]] = {}
OLDEST = 7  # the operator set in which Add and its kin got NumPy's broadcasting
STANDARD = ("", "ai.onnx")

# Operator → what says of a node why it can't run, or nothing: so that loading fails, and not the first call.
LIMITS: dict[str, Callable[[Node], str | None]] = {}

Function = Callable[..., Any]


def operator(*names: str, limit: Callable[[Node], str | None] | None = None) -> Callable[[Function], Function]:
    """Enter a function in the table."""

    def enter(function: Function) -> Function:
        OPERATORS.update(dict.fromkeys(names, function))
        if limit is not None:
            LIMITS.update(dict.fromkeys(names, limit))
        return function

    return enter


@dataclass(eq=False)
class Node:
    """One operation: which, on what, and what its results are called."""

    op: str
    domain: str
    name: str
    inputs: list[str]  # "" where an optional one is left out
    outputs: list[str]
    attributes: dict[str, Any]  # graphs among them as Programs
    version: int  # of the operator set that the graph was written in
    function: Any = None
    bodies: list[Any] = field(default_factory=list)  # the graphs among the attributes
    constant: list[bool] = field(default_factory=list)  # for each input: the same at every call
    kept: Any = None  # what an operator has made of its constant inputs

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what it is where it isn't given."""
        return self.attributes.get(name, default)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    @property
    def first(self) -> str:
        """The name of its first output; those that nobody asked for have none."""
        return next(filter(None, self.outputs), "")

    def __str__(self) -> str:
        return self.where(f"{self.op} (domain {self.domain or 'ai.onnx'})")

    def where(self, what: str) -> str:
        """`what`, of this node."""
        return f"{what} of node {self.name!r}" if self.name else f"{what} of the node that makes {self.first!r}"
