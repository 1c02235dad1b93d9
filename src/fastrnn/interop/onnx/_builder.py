"""A graph in the making: nodes, constants, and names that are still free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Value:
    """A value of the graph: its name, and how its axes lie."""

    name: str
    timed: bool  # it has the axis of time
    width: int | None = None  # the size of its last axis; None for integers, which have none


class Builder:
    """Nodes and constants of a graph for one operator set.

    Parameters
    ----------
    opset : int
    dtype : numpy.dtype
        Of floats.
    """

    def __init__(self, opset: int, dtype: np.dtype[Any]) -> None:
        self.opset, self.dtype = opset, dtype
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._names: set[str] = set()
        self._made: dict[tuple[Any, ...], str] = {}

    def name(self, wanted: str) -> str:
        """That name, or one like it that is free."""
        found, k = wanted, 1
        while found in self._names:
            k += 1
            found = f"{wanted}_{k}"
        self._names.add(found)
        return found

    def node(self, op: str, *inputs: str, outputs: int | list[str] = 1, **attributes: Any) -> Any:
        """Add a node; its outputs' names, one as it is. Trailing inputs that are left out are dropped."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        made = [self.name(op.lower()) for _ in range(outputs)] if isinstance(outputs, int) else outputs
        self.nodes.append(helper.make_node(op, given, made, name=made[0] or op, **attributes))
        return made[0] if len(made) == 1 else made

    def once(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node that others may have asked for already."""
        key = (op, inputs, tuple(sorted(attributes.items())))
        if key not in self._made:
            self._made[key] = self.node(op, *inputs, **attributes)
        return self._made[key]

    def weight(self, name: str, array: Any) -> str:
        """A parameter."""
        name = self.name(name)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, self.dtype), name))
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A small array, once for all that need it."""
        array = np.asarray(value, self.dtype if dtype is None else dtype)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = self.name("constant")
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    # ---- what operator sets spell differently

    def reduce(self, op: str, x: str, axis: int, keepdims: bool = False) -> str:
        """A reduction over one axis: its attribute became an input, ReduceSum's earlier than the others'."""
        keep = int(keepdims)
        found: str
        if self.opset >= (13 if op == "ReduceSum" else 18):
            found = self.node(op, x, self.integers(axis), keepdims=keep)
        else:
            found = self.node(op, x, axes=[axis], keepdims=keep)
        return found

    def parts(self, x: str, count: int, axis: int) -> list[str]:
        """Equal parts."""
        if count == 1:
            return [x]
        more = {"num_outputs": count} if self.opset >= 18 else {}
        found: list[str] = self.node("Split", x, outputs=count, axis=axis, **more)
        return found

    def joined(self, parts: list[str], axis: int, name: str | None = None) -> str:
        outputs: int | list[str] = 1 if name is None else [name]
        found: str = self.node("Concat", *parts, outputs=outputs, axis=axis)
        return found


TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
}
