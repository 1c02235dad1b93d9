"""Where the steps of a batch are among the rows of a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Places:
    """Where the steps of a batch are among the rows of a matrix [N, ·]: step t of row b is row first[b] + t·step.

    A full batch stays as it lies in memory. Of a ragged one the rows of the matrix are the steps that exist, row after
    row of the batch, so that nothing is multiplied or read that lies past a row's length.
    """

    def __init__(self, steps: int, batch: int, lengths: NDArray[np.int64] | None, batch_first: bool) -> None:
        self.steps, self.batch, self.batch_first = steps, batch, batch_first
        self.lengths = lengths
        self._mask: NDArray[np.bool_] | None = None
        if lengths is not None and batch and lengths.min() < steps:
            self._mask = np.arange(steps) < lengths[:, None]
            self.first, self.step = np.cumsum(lengths) - lengths, 1
            self.count = int(lengths.sum())
        else:
            self.first, self.step = (np.arange(batch) * steps, 1) if batch_first else (np.arange(batch), batch)
            self.count = steps * batch

    @property
    def ragged(self) -> bool:
        return self._mask is not None

    def ends(self, reverse: bool) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """(rows of the batch with a step, the matrix's rows of their first step in the direction, of their last)."""
        n = np.full(self.batch, self.steps) if self.lengths is None else self.lengths
        rows = np.flatnonzero(n)
        first = self.first[rows]
        last = first + (n[rows] - 1) * self.step
        return (rows, last, first) if reverse else (rows, first, last)

    def gather(self, x: NDArray[Any]) -> NDArray[Any]:
        """The matrix of x [T, B, F] (or [B, T, F]): a view where it can be one."""
        if self._mask is None:
            return np.ascontiguousarray(x).reshape(self.count, x.shape[-1])
        return (x if self.batch_first else x.swapaxes(0, 1))[self._mask]

    def scatter(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The reverse: x with zeros past the lengths."""
        shape = (self.batch, self.steps) if self.batch_first else (self.steps, self.batch)
        if self._mask is None:
            return rows.reshape(*shape, rows.shape[-1])
        x = np.zeros((*shape, rows.shape[-1]), rows.dtype)
        (x if self.batch_first else x.swapaxes(0, 1))[self._mask] = rows
        return x

    def arguments(self, reverse: bool) -> tuple[Any, ...]:
        """T, lengths, first, step, reverse, as `_core` takes them."""
        return self.steps, self.lengths, self.first, self.step, reverse
