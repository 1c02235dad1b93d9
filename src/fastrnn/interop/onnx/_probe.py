"""What a graph computes beside its data (sizes, lengths, masks), told by computing it for inputs of some sizes.

Exporters spell the same thing in many ways; the numbers that come out are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.interop.graph import OnnxModel
from fastrnn.interop.graph._node import Node
from fastrnn.interop.graph._program import Program, _reads, _results

MOST = 1 << 20  # numbers of a result that is looked at
SIZES = ((5, 3), (4, 6))  # steps and rows; they differ, unless the graph fixes them
LENGTHS = (2, 0, 9, 1, 3, 9)  # 9 is more than there are steps: as many as there are


class Probe:
    """The values beside the data for one size of the input.

    Parameters
    ----------
    sizes : mapping
        Of the input's axes "a" and "b".
    lengths : array
        Of the rows; [rows]. NaN, which equals nothing, if the graph has no lengths.
    values : dict
        Constants, and inputs but for the data.
    """

    def __init__(self, sizes: Mapping[str, int], lengths: Any, values: dict[str, Any]) -> None:
        self.sizes, self.lengths, self.values = dict(sizes), lengths, values
        self.has_lengths = lengths.dtype.kind == "i"

    def take(self, node: Node, shapes: Mapping[str, tuple[str, int, int]]) -> None:
        """Compute a node, if its inputs are known and it doesn't blow up; `shapes` are those of data."""
        given = self.values
        if node.op in ("Shape", "Size") and node.inputs[0] in shapes:
            axes, features, directions = shapes[node.inputs[0]]
            sizes = self.sizes | {"f": features, "d": directions}
            given = {node.inputs[0]: np.broadcast_to(np.float32(0), [sizes[letter] for letter in axes])}
        if node.bodies or any(name not in given for name in _reads(node)):
            return
        try:
            with np.errstate(all="ignore"):
                found = _results(node, given)
        except (ValueError, MemoryError):
            return
        for name, result in zip(node.outputs, found, strict=False):
            if np.size(result) <= MOST:
                self.values[name] = result

    def says(self, name: str, wanted: Any) -> bool:
        """Whether a value is known and is `wanted`; zeros, if that is None."""
        found = self.values.get(name)
        if found is None or wanted is None:
            return found is not None and not np.any(found)
        return bool(np.array_equal(found, wanted))

    # ---- what a value may be

    def full(self, axes: str) -> Any:
        """As many steps for each row as there are, where `axes` begins with those of time and rows."""
        return np.full(self.sizes[axes[1]], self.sizes[axes[0]])

    def joined(self, kept: str, last: int) -> Any:
        """The sizes of these axes, and a last one."""
        return [*(self.sizes[letter] for letter in kept), last]

    def before_end(self, time: str) -> Any:
        """[T, B, 1], in the input's order: whether a step is before its row's end."""
        if not self.has_lengths:
            return np.nan
        found = np.arange(self.sizes[time])[:, None] < self.lengths
        return (found if time == "a" else found.T)[..., None]

    def ends(self, time: str) -> Any:
        """[B, 2]: where each row's last step is, in the input's order; the first one of rows without."""
        rows, last = np.arange(len(self.lengths)), np.maximum(self.lengths - 1, 0)
        return np.stack((last, rows) if time == "a" else (rows, last), axis=1)


def probes(model: OnnxModel, known: Mapping[str, Any]) -> list[Probe]:
    """Probes of some sizes. An input of integers [B] is the lengths; others are not known."""
    first, *others = model.inputs
    ports = [port for port in others if port.dtype.kind == "i" and port.shape is not None and len(port.shape) == 1]
    axes = "ab" if len(first.shape or ()) == (2 if first.dtype.kind in "iu" else 3) else "b"
    dims = dict(zip(axes, first.shape or (), strict=False))
    named = [letter for letter in axes if ports and ports[0].shape and dims[letter] == ports[0].shape[0] is not None]
    rows = named[0] if len(named) == 1 else ""
    found = []
    for steps, count in SIZES:
        if not rows:
            count = steps if ports else count  # either axis may be that of the rows
        sizes = {letter: count if letter == (rows or "b") else steps for letter in axes}
        sizes |= {letter: size for letter, size in dims.items() if isinstance(size, int)}
        batch, time = sizes[rows or "b"], sizes[next((x for x in axes if x != (rows or "b")), "b")]
        given = np.minimum(np.resize(np.array(LENGTHS), batch), time)
        values = dict(known)
        if len(ports) == 1:
            values[ports[0].name] = given.astype(ports[0].dtype)
        else:
            given = np.full(batch, np.nan)
        found.append(Probe(sizes, given, values))
    return found


def used(program: Program) -> list[Node]:
    """The nodes that the outputs need, in order."""
    wanted, found = set(program.outputs), []
    for node in reversed(program.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(_reads(node))
            found.append(node)
    return found[::-1]
