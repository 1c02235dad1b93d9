"""FASTRNN_JIT=numpy: the contract of csrc/cell.h fulfilled by Python, so that breakpoints in a cell's function work."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.jit._derive import Plan
from fastrnn.jit._graph import Node
from fastrnn.jit._interpret import evaluate
from fastrnn.jit._spec import CellFunction, CellTile, Spec
from fastrnn.jit._trace import Scope, new_states, origin

__all__ = ["Callbacks", "python_spec"]


def _addresses(array: int, count: int) -> list[int]:
    return list((ctypes.c_void_p * count).from_address(array)) if count else []


class _Tile:
    """The memory of a tile as NumPy arrays; each row is a view."""

    def __init__(self, tile: CellTile, plan: Plan, dtype: np.dtype[Any]) -> None:
        self.rows, self.first, self.units = tile.rows, tile.first, tile.last - tile.first
        self.dtype = dtype
        self.section = tile.section
        self.states = len(plan.outputs)
        self.gates = _addresses(tile.gates, self.rows)
        self.tile = tile
        vectors = _addresses(tile.vectors, len(plan.terms))
        self.vectors = [self._at(address, self.first) for address in vectors]

    def _at(self, address: int, element: int) -> np.ndarray[Any, Any]:
        size = self.dtype.itemsize
        memory = (ctypes.c_char * (self.units * size)).from_address(address + element * size)
        return np.frombuffer(memory, self.dtype)

    def _of_rows(self, addresses: list[int], element: int) -> np.ndarray[Any, Any]:
        found = [self._at(address, element) for address in addresses]
        return np.stack(found) if found else np.empty((0, self.units), self.dtype)

    def get_section(self, k: int) -> np.ndarray[Any, Any]:
        return self._of_rows(self.gates, k * self.section + self.first)

    def set_section(self, k: int, value: Any) -> None:
        self._set(self.gates, k * self.section + self.first, value)

    def get_state(self, name: str, k: int) -> np.ndarray[Any, Any]:
        return self._of_rows(self._rows_of(name, k), self.first)

    def set_state(self, name: str, k: int, value: Any) -> None:
        self._set(self._rows_of(name, k), self.first, value)

    def _rows_of(self, name: str, k: int) -> list[int]:
        return _addresses(_addresses(getattr(self.tile, name), self.states)[k], self.rows)

    def _set(self, addresses: list[int], element: int, value: Any) -> None:
        values = np.broadcast_to(np.asarray(value, self.dtype), (self.rows, self.units))
        for address, row in zip(addresses, values):
            self._at(address, element)[:] = row


class Callbacks:
    """The two functions, and the first exception that one of them raised."""

    def __init__(
        self, function: Callable[..., Any], names: tuple[tuple[str, ...], ...], plan: Plan, dtype: np.dtype[Any]
    ) -> None:
        self.function, self.plan, self.dtype = function, plan, dtype
        self.gates, self.states, self.vectors = names
        self.error: BaseException | None = None
        self.forward = CellFunction(lambda tile: self._guard(self._forward, tile[0]))
        self.backward = CellFunction(lambda tile: self._guard(self._backward, tile[0]))

    def _guard(self, run: Callable[[_Tile], None], tile: CellTile) -> None:
        if self.error is not None:
            return
        try:
            with np.errstate(all="ignore"):  # numbers past H mean nothing
                run(_Tile(tile, self.plan, self.dtype))
        except BaseException as error:
            self.error = error

    def raise_kept(self) -> None:
        """Raise what a callback raised, for C can't hand it on."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _inputs(self, tile: _Tile) -> dict[Node, Any]:
        graph = self.plan.graph
        known: dict[Node, Any] = {graph.input("v", k): a for k, a in enumerate(tile.vectors)}
        for k in range(len(self.states)):
            known[graph.input("s", k)] = tile.get_state("before", k)
        return known

    def _forward(self, tile: _Tile) -> None:
        plan, graph = self.plan, self.plan.graph
        known = self._inputs(tile)
        for node, section in plan.products.items():
            known[node] = tile.get_section(section)

        def scope(kind: str, what: str, names: tuple[str, ...]) -> Scope:
            return Scope(what, {name: known[graph.input(kind, k)] for k, name in enumerate(names)})

        arguments = [scope("wx", "gate", self.gates), scope("rh", "gate", self.gates), scope("s", "state", self.states)]
        if self.vectors:
            arguments.append(scope("v", "vector", self.vectors))
        after = new_states(self.function(*arguments), self.states, origin(self.function))
        if tile.tile.save:
            found = evaluate(plan.saved, known, self.dtype)
            for node, section in plan.saved.items():
                if plan.products.get(node) != section:
                    tile.set_section(section, found[node])
        for k, value in enumerate(after):
            tile.set_state("after", k, value)

    def _backward(self, tile: _Tile) -> None:
        plan = self.plan
        known = self._inputs(tile)
        for k in range(len(self.states)):
            known[plan.graph.input("ds", k)] = tile.get_state("gradient", k)
        for node, section in plan.saved.items():
            known[node] = tile.get_section(section)
        found = evaluate(plan.backward_roots(), known, self.dtype)
        for node, section in plan.gradients + plan.terms:
            tile.set_section(section, found[node])
        for k, node in enumerate(plan.state_gradients):
            tile.set_state("gradient", k, found[node])


def python_spec(
    function: Callable[..., Any], names: tuple[tuple[str, ...], ...], plan: Plan, dtype: np.dtype[Any]
) -> Spec:
    """A cell for the core whose functions are Python's. The plan keeps every gate's products apart."""
    callbacks = Callbacks(function, names, plan, dtype)
    return Spec(plan, dtype, callbacks.forward, callbacks.backward, callbacks)
