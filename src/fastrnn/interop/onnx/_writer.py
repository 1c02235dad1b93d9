"""One graph for a model: its inputs, the lengths and states that layers ask for, and its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from fastrnn.interop.onnx._builder import TYPES, Builder, Value

ENDLESS = np.iinfo(np.int32).max  # a length that the number of steps limits


class Writer(Builder):
    """What layers need to know of the graph around them.

    Parameters
    ----------
    opset, dtype
        As for `Builder`.
    batch_first : bool
        x is [B, T, ·].
    lengths, states, optional : bool
        As for `save`.
    """

    def __init__(
        self, opset: int, dtype: np.dtype[Any], batch_first: bool, lengths: bool, states: bool, optional: bool
    ) -> None:
        super().__init__(opset, dtype)
        self.batch_first, self.has_lengths, self.has_states, self.optional = batch_first, lengths, states, optional
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.finals: dict[str, str] = {}  # of recurrent layers, by their place: the last h, [D, B, H]
        self.x = ""

    # ---- what goes in and out

    def start(self, timed: bool, width: int | None) -> Value:
        """The input x."""
        self.x = self.name("x")
        kind = TYPES[np.dtype(np.int64) if width is None else self.dtype]
        self.inputs.append(helper.make_tensor_value_info(self.x, kind, self._axes(timed, width)))
        return Value(self.x, timed, width)

    def finish(self, value: Value) -> None:
        """The output y; a node of its own gives it its name."""
        y = self.name("y")
        self.node("Identity", value.name, outputs=[y])
        shape = self._axes(value.timed, value.width)
        self.outputs.insert(0, helper.make_tensor_value_info(y, TYPES[self.dtype], shape))

    def _axes(self, timed: bool, width: int | None) -> list[Any]:
        axes = (["B", "T"] if self.batch_first else ["T", "B"]) if timed else ["B"]
        return axes if width is None else [*axes, width]

    def _given(self, name: str, shape: list[Any], default: Any) -> str:
        """An input that may be left out."""
        name = self.name(name)
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[default.dtype], shape))
        if self.optional:
            self.initializers.append(numpy_helper.from_array(default, name))
        return name

    # ---- sizes

    @property
    def time_axis(self) -> int:
        return int(self.batch_first)

    def steps(self) -> str:
        """T, [1]."""
        return self.once("Gather", self.once("Shape", self.x), self.integers(self.time_axis))

    def rows(self) -> str:
        """B, [1]."""
        return self.once("Gather", self.once("Shape", self.x), self.integers(1 - self.time_axis))

    def lengths(self) -> str:
        """The steps of each row, int64 [B], or "" where all rows are whole."""
        if not self.has_lengths:
            return ""
        if "lengths" not in self._names:
            self._given("lengths", ["B"], np.full(1, ENDLESS, np.int64))
        return self.once("Min", self.once("Expand", "lengths", self.rows()), self.steps())

    def before_end(self) -> str:
        """bool [T, B, 1] (or [B, T, 1]): whether a step is before its row's end."""
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        t = self.once("Range", zero, self.once("Squeeze", self.steps(), self.integers(0)), one)
        t = self.once("Unsqueeze", t, self.integers(0 if self.batch_first else 1))
        ends = self.once("Unsqueeze", self.lengths(), self.integers(1 if self.batch_first else 0))
        return self.once("Unsqueeze", self.once("Less", t, ends), self.integers(2))

    # ---- states

    def initial(self, place: str, name: str, layers: int, directions: int, size: int) -> list[str]:
        """For each layer of a stack an initial state [D, B, size]; "" for zeros."""
        if not self.has_states:
            return [""] * layers
        count = layers * directions
        given = self._given(f"{place}{name}_0", [count, "B", size], np.zeros((count, 1, size), self.dtype))
        shape = self.joined([self.integers(count), self.rows(), self.integers(size)], 0)
        return self.parts(self.node("Expand", given, shape), layers, 0)

    def final(self, place: str, name: str, parts: list[str], layers: int, size: int) -> None:
        """The output of a state [layers, B, size], of its parts [D, B, size]."""
        if self.has_states:
            output = self.name(f"{place}{name}_n")
            self.joined(parts, 0, output)
            self.outputs.append(helper.make_tensor_value_info(output, TYPES[self.dtype], [layers, "B", size]))
