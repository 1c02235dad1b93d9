"""`fr.jit.explain`: what was derived, in equations."""

from __future__ import annotations

import sys
from typing import TextIO

from fastrnn import _check
from fastrnn.jit._derive import Plan
from fastrnn.jit._graph import Node, in_order
from fastrnn.jit._write import expression
from fastrnn.jit.cell import Cell

__all__ = ["equations", "explain"]

_NAMED = ("exp", "log", "tanh", "sigmoid", "softplus", "pow", "sqrt")  # each a line of its own


def _inputs(cell: Cell, plan: Plan) -> dict[Node, str]:
    names = {}
    kinds = (("wx", cell.gates), ("rh", cell.gates), ("z", cell.gates), ("s", cell.states), ("v", cell.vectors))
    for kind, members in kinds:
        for k, name in enumerate(members):
            names[plan.graph.input(kind, k)] = f"{kind}.{name}"
    for k, name in enumerate(cell.states):
        names[plan.graph.input("ds", k)] = f"d{name}"
    return names


def _block(roots: dict[Node, list[str]], known: dict[Node, str], named: dict[Node, str], prefix: str) -> list[str]:
    """Lines for roots, and before them for what several of them share. `named`: names that nodes have from forward."""
    names = dict(known)
    nodes = [n for n in in_order(roots, known) if n not in known and n.op != "const"]
    uses: dict[Node, int] = {}
    for n in nodes:
        for a in n.args:
            uses[a] = uses.get(a, 0) + 1
    lines, count = [], 0
    for n in nodes:
        if n in named or (n.op in _NAMED and n not in roots) or (uses.get(n, 0) > 1 and n.op != "neg"):
            if n not in named:
                count += 1
            name = named.get(n) or f"{prefix}{count}"
            lines.append(f"{name} = {expression(n, names)}")
            names[n] = name
    for n, targets in roots.items():
        text = names[n] if n in names else expression(n, names)
        lines += [f"{target} = {text}" for target in targets]
    return lines


def _grouped(pairs: list[tuple[Node, str]]) -> dict[Node, list[str]]:
    found: dict[Node, list[str]] = {}
    for node, name in pairs:
        found.setdefault(node, []).append(name)
    return found


def equations(cell: Cell) -> str:
    """The derived passes of a cell as text; `explain` prints it.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.jit import tanh
    >>> @fr.cell(gates=("n",))
    ... def simple(wx, rh, s):
    ...     return tanh(wx.n + rh.n)
    >>> print(fr.jit.equations(simple))
    cell simple: 1 number a unit and step
    products
      z.n = wx.n + rh.n
    forward
      a1 = tanh(z.n)
      h = a1
    saved for backward
      a1
    backward, from the gradient dh
      dz.n = dh * (1 - a1 * a1)
      s.h gets nothing
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: expected a cell made by fr.cell, got {_check.describe(cell)}")
    plan = cell.plan
    known = _inputs(cell, plan)
    roots = [*plan.outputs, *plan.saved]
    forward_names = {
        n: f"a{k + 1}"
        for k, n in enumerate(
            n for n in in_order(roots) if n.args and (n in plan.saved or n.op in _NAMED) and not n.is_bool
        )
    }
    merged = [name for name, x, r in zip(cell.gates, plan.section_x, plan.section_r) if x == r]
    lines = [f"cell {cell.__name__}: {plan.sections} number{'s' * (plan.sections > 1)} a unit and step", "products"]
    lines += [f"  z.{name} = wx.{name} + rh.{name}" for name in merged]
    lines += [f"  wx.{name} and rh.{name}, apart" for name in cell.gates if name not in merged]
    outputs = _grouped(list(zip(plan.outputs, cell.states)))
    extra: dict[Node, list[str]] = {n: [] for n in plan.saved if n not in outputs}
    lines += ["forward", *("  " + line for line in _block({**outputs, **extra}, known, forward_names, "b"))]
    kept = [forward_names.get(n) or known[n] for n in plan.saved]
    lines += ["saved for backward", "  " + (", ".join(kept) or "nothing")]
    back = {**known, **{n: forward_names[n] for n in plan.saved if n in forward_names}}
    targets = [(n, "d" + known[p]) for p, (n, _) in zip(plan.products, plan.gradients)]
    targets += [(n, f"dv.{name}") for name, (n, _) in zip(cell.vectors, plan.terms)]
    through = list(zip(plan.state_gradients, cell.states))
    targets += [(n, f"ds.{name}") for n, name in through if n is not plan.graph.zero]
    again = {n: name for n, name in forward_names.items() if n not in plan.saved}
    given = " and ".join(f"d{name}" for name in cell.states)
    lines.append(f"backward, from the gradient{'s' * (len(cell.states) > 1)} {given}")
    lines += ["  " + line for line in _block(_grouped(targets), back, again, "d")]
    lines += [f"  s.{name} gets nothing" for n, name in through if n is plan.graph.zero]
    return "\n".join(lines)


def explain(cell: Cell, file: TextIO | None = None) -> None:
    """Print what was derived from a cell: its forward pass, what is saved, its backward pass.

    Parameters
    ----------
    cell : Cell
    file : text file, optional
        Where to print; by default standard output.

    Examples
    --------
    >>> import fastrnn as fr
    >>> @fr.cell(gates=("a", "b"))
    ... def product(wx, rh, s):
    ...     return wx.a * rh.b + (wx.b + rh.a) / 2
    >>> fr.jit.explain(product)
    cell product: 4 numbers a unit and step
    products
      wx.a and rh.a, apart
      wx.b and rh.b, apart
    forward
      h = wx.a * rh.b + 0.5 * (wx.b + rh.a)
    saved for backward
      wx.a, rh.b
    backward, from the gradient dh
      drh.a = 0.5 * dh
      dwx.b = 0.5 * dh
      drh.b = wx.a * dh
      dwx.a = rh.b * dh
      s.h gets nothing
    """
    print(equations(cell), file=file or sys.stdout)
