"""Which rows of a batch a rank takes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn._one_hot import OneHotArray
from fastrnn.nn._layer import Layer
from fastrnn.train.data import Batch

__all__ = ["Shards", "fingerprint", "joined", "parted", "split"]


def split(count: int, rank: int, size: int) -> slice:
    """The rank's rows of `count`: neighbours, as many on each rank, or one more on the first ones.

    Examples
    --------
    >>> [split(5, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    each, rest = divmod(count, size)
    begin = rank * each + min(rank, rest)
    return slice(begin, begin + each + (rank < rest))


class Shards:
    """Cut batches by rows.

    Parameters
    ----------
    model
        Its layers tell where time is: layers that know it take [T, B, ...], with `batch_first` [B, T, ...].
    given : callable or dict, optional
        See `Distributed`.
    rank, size : int
    carried : bool
        Rows stay with their rank from batch to batch, for the state that is carried on. Otherwise rows with lengths are
        dealt out so that every rank has about as many steps.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> shards = Shards(fr.LSTM(3, 4), None, rank=1, size=2, carried=False)
    >>> shards.part(fr.Batch(np.zeros((9, 5, 3)), np.arange(5))).target
    array([3, 4])
    """

    def __init__(
        self,
        model: Any,
        given: Callable[..., Any] | Mapping[str, int] | None,
        *,
        rank: int,
        size: int,
        carried: bool,
    ) -> None:
        self.given, self.rank, self.size, self.carried = given, rank, size, carried
        layers = [layer for _, layer in model._walk()] if isinstance(model, Layer) else [model]
        self._batch_first = any(getattr(layer, "batch_first", False) for layer in layers)
        leaves = [layer for layer in layers if not getattr(layer, "children", None)]
        self._timed = any(getattr(x, "is_recurrent", False) or getattr(x, "takes_lengths", False) for x in leaves)
        self._removes_time = bool(getattr(model, "removes_time", False))

    def part(self, batch: Batch) -> Batch | None:
        """The rank's part of a batch, or None if it has no rows."""
        if self.size == 1:
            return batch
        if callable(self.given):
            found = self.given(batch, self.rank, self.size)
            return None if found is None else Batch(*found)
        if hasattr(batch.x, "num_nodes") and hasattr(batch.x, "sizes"):
            return self._of_trees(batch)
        if hasattr(batch.x, "turns"):
            return self._of_dialogues(batch)
        axes = self._axes(batch)
        count = np.shape(batch.x)[axes["x"]]
        rows = self._rows(count, batch.lengths)
        if _count(rows) == 0:
            return None
        values = batch._asdict()
        for name, axis in axes.items():
            values[name] = _taken(values[name], axis, rows)
        return Batch(**values)

    def _rows(self, count: int, lengths: Any) -> Any:
        if lengths is None or self.carried:
            return split(count, self.rank, self.size)
        steps = np.asarray(lengths).reshape(-1, count).sum(0)
        order = np.argsort(-steps, kind="stable")
        turn = np.arange(count) % (2 * self.size)  # 0 1 2 2 1 0 0 1 2 …: every rank gets long and short ones
        owner = np.where(turn < self.size, turn, 2 * self.size - 1 - turn)
        return np.sort(order[owner == self.rank])

    # ---- where the rows are --------------------------------------------------------------------------------

    def _axes(self, batch: Batch) -> dict[str, int]:
        """The axis of rows of each array that has one."""
        given: Mapping[str, int] = self.given if isinstance(self.given, Mapping) else {}
        x_axis = given["x"] if "x" in given else self._axis_of_x(batch)
        shape = np.shape(batch.x)
        if not -len(shape) <= x_axis < len(shape):
            raise ValueError(f"shard: x of shape {shape} has no axis {x_axis}")
        count = shape[x_axis]
        axes = {"x": x_axis}
        if batch.target is not None:
            axes["target"] = given["target"] if "target" in given else self._axis_of_target(batch, x_axis, count)
        if batch.lengths is not None:
            axes["lengths"] = given.get("lengths", np.ndim(batch.lengths) - 1)
        if batch.weight is not None:
            axis = given["weight"] if "weight" in given else _axis_of_weight(batch, axes.get("target"), count)
            if axis is not None:
                axes["weight"] = axis
        for name, axis in axes.items():
            found = np.shape(getattr(batch, name))
            if not -len(found) <= axis < len(found) or found[axis] != count:
                raise ValueError(
                    f"{name}: expected {count} rows, as many as x has, along axis {axis}, got shape {found}"
                )
        return axes

    def _axis_of_x(self, batch: Batch) -> int:
        shape = np.shape(batch.x)
        if not shape:
            raise _unknown("x", shape)
        if len(shape) == 1:
            return 0
        usual = 0 if self._batch_first or not self._timed else 1
        if batch.lengths is not None:
            count = np.shape(batch.lengths)[-1]
            usual = 0 if self._batch_first else 1
            if shape[usual] != count:
                raise _unknown("x", shape)
            return usual
        if batch.target is not None and np.ndim(batch.target) == 1:
            fitting = [axis for axis in (0, 1) if shape[axis] == len(batch.target)]
            if usual not in fitting and fitting:
                return fitting[0]
        kind = "i" if isinstance(batch.x, OneHotArray) else np.asarray(batch.x).dtype.kind
        if self._timed and len(shape) == 2 and kind not in "iu":
            raise ValueError(f"x: one sequence, {list(shape)}, has no rows to share out; batches have three axes")
        return usual

    def _axis_of_target(self, batch: Batch, x_axis: int, count: int) -> int:
        shape, x = np.shape(batch.target), np.shape(batch.x)
        if len(shape) > 1 and shape[:2] == x[:2]:
            return x_axis
        fitting = [axis for axis in (0, 1) if axis < len(shape) and shape[axis] == count]
        if self._removes_time and 0 in fitting:
            return 0
        if np.ndim(batch.lengths) == 2 and 1 in fitting:  # pairs of sequences
            return 1
        if len(fitting) != 1:
            raise _unknown("target", shape)
        return fitting[0]

    # ---- batches that aren't arrays ------------------------------------------------------------------------

    def _of_trees(self, batch: Batch) -> Batch | None:
        trees, target, weight = batch.x, batch.target, batch.weight
        rows = split(len(trees), self.rank, self.size)
        if _count(rows) == 0:
            return None
        ends = np.cumsum(trees.sizes)
        nodes = slice(int(ends[rows.start] - trees.sizes[rows.start]), int(ends[rows.stop - 1]))

        def taken(values: Any) -> Any:
            return None if values is None else values[rows if len(values) == len(trees) else nodes]

        return Batch(trees[rows], taken(target), None, taken(weight))

    def _of_dialogues(self, batch: Batch) -> Batch | None:
        rows = split(len(batch.x), self.rank, self.size)
        if _count(rows) == 0:
            return None
        ends = np.cumsum(np.asarray(batch.x.turns) - 1)  # answers: all utterances but the first
        answers = slice(int(ends[rows.start - 1]) if rows.start else 0, int(ends[rows.stop - 1]))
        lengths = None if batch.lengths is None else np.asarray(batch.lengths)[answers]
        return Batch(batch.x[rows], batch.target, lengths, None if batch.weight is None else batch.weight[answers])


def _axis_of_weight(batch: Batch, target_axis: int | None, count: int) -> int | None:
    """None where the weight is the same for all rows."""
    shape = np.shape(batch.weight)
    if len(shape) == 1 and shape[0] == count:
        return 0
    if target_axis is None:
        return 0 if shape and shape[0] == count else None
    axis = target_axis % np.ndim(batch.target) - (np.ndim(batch.target) - len(shape))  # as NumPy broadcasts
    return None if axis < 0 or shape[axis] == 1 else axis


def _unknown(name: str, shape: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"{name}: which axis of {shape} has the rows? Say so with comm=fr.train.Distributed(comm, shard="
        '{"x": 1, "target": 0}), give a function shard(batch, rank, size), or let each rank yield its own batches '
        "(sharded=True)"
    )


def _taken(values: Any, axis: int, rows: Any) -> Any:
    if not isinstance(values, OneHotArray):
        values = np.asarray(values)
    return values[(slice(None),) * (axis % values.ndim) + (rows,)]


def _count(rows: Any) -> int:
    return max(rows.stop - rows.start, 0) if isinstance(rows, slice) else len(rows)


def fingerprint(batch: Batch) -> int:
    """A number that tells batches apart."""
    total = 0
    for value in batch:
        if isinstance(value, OneHotArray):
            value = value.indices
        parts = vars(value).values() if hasattr(value, "__dict__") else (value,)  # trees, dialogues
        for part in parts:
            if isinstance(part, np.ndarray | list | tuple | int | float | np.generic):
                array = np.ascontiguousarray(part)
                if array.dtype.kind != "O":
                    total = zlib.crc32(array.data if array.size else b"", total)
                    total = zlib.crc32(repr(array.shape).encode(), total)
    return total


def joined(states: list[Any]) -> Any:
    """The state of all rows, from the states of the ranks that have rows."""
    states = [state for state in states if state is not None]
    if not states:
        return None
    if isinstance(states[0], tuple | list):
        return tuple(joined(list(parts)) for parts in zip(*states, strict=True))
    return np.concatenate(states, axis=-2)


def parted(state: Any, rank: int, size: int) -> Any:
    """The rank's rows of the state of all rows."""
    if isinstance(state, tuple | list):
        return tuple(parted(part, rank, size) for part in state)
    if state is None:
        return None
    return np.ascontiguousarray(state[..., split(state.shape[-2], rank, size), :])
