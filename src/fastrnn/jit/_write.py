"""Expressions in words."""

from __future__ import annotations

from collections.abc import Mapping

from fastrnn.jit._graph import Node

__all__ = ["expression"]

_INFIX = {
    **{"or": (" | ", 1), "and": (" & ", 2), "add": (" + ", 4), "sub": (" - ", 4), "mul": (" * ", 5), "div": (" / ", 5)},
    **dict(
        zip(("lt", "le", "gt", "ge", "eq", "ne"), ((f" {sign} ", 3) for sign in ("<", "<=", ">", ">=", "==", "!=")))
    ),
}
_CALLS = {"min": "minimum", "max": "maximum", "pow": "power"}


def expression(node: Node, names: Mapping[Node, str] | None = None) -> str:
    """A node as Python would write it; nodes with a name by it.

    Examples
    --------
    >>> from fastrnn.jit._graph import Graph
    >>> g = Graph()
    >>> x = g.input("wx", 0)
    >>> expression(g.mul(g.sub(g.one, x), x), {x: "a"})
    'a * (1 - a)'
    """
    return _write(node, names or {}, root=True)[0]


def _write(node: Node, names: Mapping[Node, str], root: bool = False) -> tuple[str, int]:
    if not root and node in names:
        return names[node], 9
    if node.op == "input":
        return names.get(node, f"{node.value[0]}_{node.value[1]}"), 9
    if node.op == "const":
        return f"{node.value:.9g}", 9 if node.value >= 0 else 5
    if node.op in ("neg", "not"):
        text, rank = _write(node.args[0], names)
        return ("-" if node.op == "neg" else "~") + (text if rank > 5 else f"({text})"), 6
    if node.op in _INFIX:
        sign, rank = _INFIX[node.op]
        (left, a), (right, b) = (_write(x, names) for x in node.args)
        tight = node.op in ("sub", "div") or rank <= 3  # a − (b − c) needs its parentheses
        left = left if a >= rank else f"({left})"
        right = right if b > rank or (b == rank and not tight) else f"({right})"
        return left + sign + right, rank
    return f"{_CALLS.get(node.op, node.op)}({', '.join(_write(a, names)[0] for a in node.args)})", 9
