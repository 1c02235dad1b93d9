"""From a plan to LLVM: the two functions of csrc/cell.h, on whole vectors.

For each row, for each vector of units: load what the function reads, compute, store. Everything of a vector is loaded
before any of it is stored, so that sections may change their meaning in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from fastrnn.jit._derive import Plan, row_free
from fastrnn.jit._graph import Node, in_order
from fastrnn.jit._vector_math import Target, VectorMath, ir

__all__ = ["emit"]

# Offsets of CellTile's members
_ROWS, _FIRST, _LAST, _SECTION, _GATES, _BEFORE, _AFTER, _GRADIENT, _VECTORS, _PRODUCT, _SAVE = range(0, 88, 8)


class _Function:
    """One function in the making."""

    def __init__(self, builder: Any, tile: Any, plan: Plan, target: Target) -> None:
        self.b = builder
        self.i64, self.pointers = ir.IntType(64), ir.IntType(8).as_pointer()
        self.tile = builder.bitcast(tile, self.pointers)
        self.plan = plan
        self.math = VectorMath(builder, target)
        self.lanes = target.lanes
        self.size = target.width // target.lanes  # bytes of a number
        self.states = len(plan.outputs)
        self.values: dict[Node, Any] = {}
        self.section = builder.mul(self.member(_SECTION), self.number(self.size))

    def number(self, value: int) -> Any:
        return ir.Constant(self.i64, value)

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _at(self, base: Any, offset: Any) -> Any:
        return self.b.gep(base, [offset])

    def _load(self, kind: Any, place: Any, align: int = 8) -> Any:
        return self.b.load(self.b.bitcast(place, kind.as_pointer()), align=align)

    def member(self, offset: int) -> Any:
        return self._load(self.i64, self._at(self.tile, self.number(offset)))

    def pointer(self, offset: int) -> Any:
        return self._load(self.pointers, self._at(self.tile, self.number(offset)))

    def element(self, array: Any, index: Any) -> Any:
        """array[index], both of pointers."""
        return self._load(self.pointers, self._at(array, self.b.shl(index, self.number(3))))

    def load(self, place: Any) -> Any:
        return self._load(self.math.vector, place, self.size)

    def store(self, value: Any, place: Any) -> None:
        self.b.store(value, self.b.bitcast(place, self.math.vector.as_pointer()), align=self.size)

    # ---- loops -----------------------------------------------------------------------------------------------------

    def loop(self, first: Any, last: Any, step: int, body: Callable[[Any], None]) -> None:
        """for (i = first; i < last; i += step)"""
        b = self.b
        before = b.block
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(self.i64)
        i.add_incoming(first, before)
        b.cbranch(b.icmp_signed("<", i, last), inside, after)
        b.position_at_end(inside)
        body(i)
        i.add_incoming(b.add(i, self.number(step)), b.block)
        b.branch(head)
        b.position_at_end(after)

    def loops(self, vectors: set[Node], hoisted: list[Node], work: Callable[[Any, Any], None]) -> None:
        """Units in rows; rows in units where something dear is the same for all rows."""
        rows, first, last = self.member(_ROWS), self.member(_FIRST), self.member(_LAST)
        arrays = [
            self.element(self.pointer(_VECTORS), self.number(n.value[1]))
            for n in sorted(vectors, key=lambda n: n.number)
        ]

        def load_vectors(u: Any) -> None:
            offset = self.b.mul(u, self.number(self.size))
            for node, array in zip(sorted(vectors, key=lambda n: n.number), arrays):
                self.values[node] = self.load(self._at(array, offset))

        if hoisted:

            def of_unit(u: Any) -> None:
                load_vectors(u)
                self.compute(hoisted)
                self.loop(self.number(0), rows, 1, lambda r: work(self.row(r), u))

            self.loop(first, last, self.lanes, of_unit)
            return

        def of_row(r: Any) -> None:
            row = self.row(r)

            def of_units(u: Any) -> None:
                load_vectors(u)
                work(row, u)

            self.loop(first, last, self.lanes, of_units)

        self.loop(self.number(0), rows, 1, of_row)

    def row(self, r: Any) -> dict[str, Any]:
        """The pointers of row r."""

        def states(member: int) -> list[Any]:
            found = self.pointer(member)
            return [self.element(self.element(found, self.number(k)), r) for k in range(self.states)]

        row = {"gates": self.element(self.pointer(_GATES), r), "before": states(_BEFORE)}
        return {**row, **{name: states(member) for name, member in self.written.items()}}

    written: ClassVar[dict[str, int]] = {}

    # ---- arithmetic ------------------------------------------------------------------------------------------------

    def compute(self, roots: list[Node]) -> None:
        """Values of the roots from the values that are there. Products that one sum uses are fused with it."""
        math, values = self.math, self.values
        nodes = [n for n in in_order(roots, values) if n not in values]
        uses: dict[Node, int] = dict.fromkeys(roots, 2)
        for node in nodes:
            for argument in node.args:
                uses[argument] = uses.get(argument, 0) + 1
        fused = {n for n in nodes if n.op == "mul" and uses[n] == 1}
        parents = {a: n for n in nodes for a in n.args if a in fused}
        fused = {n for n in fused if parents[n].op in ("add", "sub")}
        for node in nodes:
            args = node.args
            if node in fused and not (parents[node].args[0] in fused and parents[node].args[1] is node):
                continue  # of two products the first is fused
            if node.op == "const":
                values[node] = math.const(node.value)
            elif node.op in ("add", "sub") and args[0] in fused and args[0] is not args[1]:
                x, y = (values[k] for k in args[0].args)
                other = values[args[1]] if node.op == "add" else math.neg(values[args[1]])
                values[node] = math.fma(x, y, other)
            elif node.op in ("add", "sub") and args[1] in fused and args[0] is not args[1]:
                x, y = (values[k] for k in args[1].args)
                values[node] = (math.fma if node.op == "add" else math.fnma)(x, y, values[args[0]])
            else:
                values[node] = math.apply(node.op, [values[k] for k in args])

    def _inputs(self, nodes: list[Node], kind: str) -> set[Node]:
        return {n for n in nodes if n.is_input and n.value[0] == kind}

    def sections(self, gates: Any, offset: Any) -> Callable[[int], Any]:
        """Where each section of a row is, at a vector's offset in bytes."""
        return lambda k: self._at(gates, self.b.add(self.b.mul(self.section, self.number(k)), offset))


class _Forward(_Function):
    written: ClassVar = {"after": _AFTER}

    def write(self) -> None:
        plan = self.plan
        roots = [*plan.outputs, *plan.saved]
        nodes = in_order(roots)
        free = row_free(nodes)
        hoisted = [n for n in nodes if n in free]
        vectors, states = self._inputs(nodes, "v"), self._inputs(nodes, "s")
        save = self.b.icmp_signed("!=", self.member(_SAVE), self.number(0))

        def work(row: dict[str, Any], u: Any) -> None:
            kept = dict(self.values)
            offset = self.b.mul(u, self.number(self.size))
            at = self.sections(row["gates"], offset)
            for node, k in plan.products.items():
                if node in nodes:
                    self.values[node] = self.load(at(k))
            for node in sorted(states, key=lambda n: n.number):
                self.values[node] = self.load(self._at(row["before"][node.value[1]], offset))
            self.compute(plan.outputs)
            for node, place in zip(plan.outputs, row["after"]):
                self.store(self.values[node], self._at(place, offset))
            left = {n: k for n, k in plan.saved.items() if plan.products.get(n) != k}
            if left:
                with self.b.if_then(save):
                    self.compute(list(left))
                    for node, k in left.items():
                        self.store(self.values[node], at(k))
            self.values = kept

        self.loops(vectors, hoisted, work)


class _Backward(_Function):
    written: ClassVar = {"gradient": _GRADIENT}

    def write(self) -> None:
        plan = self.plan
        roots = plan.backward_roots()
        nodes = in_order(roots, plan.saved)
        free = row_free(nodes, plan.saved)
        hoisted = [n for n in nodes if n in free]
        vectors, states, given = (self._inputs(nodes, kind) for kind in ("v", "s", "ds"))

        def work(row: dict[str, Any], u: Any) -> None:
            kept = dict(self.values)
            offset = self.b.mul(u, self.number(self.size))
            at = self.sections(row["gates"], offset)
            for node, k in plan.saved.items():
                self.values[node] = self.load(at(k))
            for kind, found in (("before", states), ("gradient", given)):
                for node in sorted(found, key=lambda n: n.number):
                    self.values[node] = self.load(self._at(row[kind][node.value[1]], offset))
            self.compute(roots)
            for node, k in plan.gradients + plan.terms:
                self.store(self.values[node], at(k))
            for node, place in zip(plan.state_gradients, row["gradient"]):
                self.store(self.values[node], self._at(place, offset))
            self.values = kept

        self.loops(vectors, hoisted, work)


def emit(builder: Any, tile: Any, plan: Plan, target: Target, direction: str) -> None:
    """Write a plan's forward or backward function at the builder's place; `tile` is a `const CellTile*`."""
    (_Forward if direction == "forward" else _Backward)(builder, tile, plan, target).write()
