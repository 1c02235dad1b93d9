"""The functions of cells in NumPy, and expressions evaluated with them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastrnn.jit._graph import Node, in_order

__all__ = ["FUNCTIONS", "evaluate", "evaluate_constant"]


def sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(np.less(x, 0), e, np.ones_like(e)) / (1 + e)


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _power(a: Any, b: Any) -> Any:
    return np.power(a, b)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "relu": lambda x: np.maximum(x, 0),
    "sign": np.sign,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "sqrt": np.sqrt,
    "pow": _power,
    "min": np.minimum,
    "max": np.maximum,
    "where": np.where,
}
_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": np.divide,
    "neg": operator.neg,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
}


def evaluate(roots: Iterable[Node], known: dict[Node, Any], dtype: np.dtype[Any]) -> dict[Node, Any]:
    """Arrays for the roots, and for all that they need, from those of the nodes that are known."""
    found = dict(known)
    for node in in_order(roots, known):
        if node in found:
            continue
        if node.op == "const":
            found[node] = dtype.type(node.value)
        else:
            function = _OPERATORS.get(node.op) or FUNCTIONS[node.op]
            found[node] = function(*(found[a] for a in node.args))
    return found


def evaluate_constant(op: str, value: float) -> float:
    with np.errstate(all="ignore"):
        return float(FUNCTIONS[op](np.float64(value)))
