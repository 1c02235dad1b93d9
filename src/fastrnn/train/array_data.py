"""Batches of arrays whose rows are examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _check
from fastrnn.train.data import Batch, _Resumable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

__all__ = ["ArrayBatches"]


class ArrayBatches(_Resumable):
    """Mini-batches of the rows of arrays: images, vectors, whatever has one example after the other.

    Parameters
    ----------
    x : array, [N, ...]
    target : array, [N, ...], optional
        Autoencoders need none.
    batch_size : int
        Rows of a batch; the last one of an epoch may be smaller.
    weight : array, [N], optional
        One for each row.
    shuffle : bool
        A new random order each epoch.
    drop_last : bool
        Leave out a batch smaller than `batch_size`; there has to be another one.
    dtype : dtype, optional
        Of `x`, by default its own.
    seed : int or Generator
        For the order.

    Notes
    -----
    `state_dict` and `load_state_dict` make a loop go on in the middle of an epoch, as `fr.fit` does with `resume`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> for batch in fr.ArrayBatches(np.eye(3), [7, 8, 9], batch_size=2, shuffle=False):
    ...     print(batch.x.shape, batch.target)
    (2, 3) [7 8]
    (1, 3) [9]
    """

    def __init__(
        self,
        x: ArrayLike,
        target: ArrayLike | None = None,
        *,
        batch_size: int,
        weight: ArrayLike | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        dtype: DTypeLike | None = None,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__(seed)
        self._x = np.asarray(x, dtype)
        if self._x.ndim == 0 or not len(self._x):
            raise ValueError(f"x: expected an array [N, ...] with N ≥ 1, got shape {self._x.shape}")
        self._target = None if target is None else np.asarray(target)
        self._weight = None if weight is None else np.asarray(weight)
        for name, array in (("target", self._target), ("weight", self._weight)):
            if array is not None and array.shape[:1] != self._x.shape[:1]:
                raise ValueError(f"{name}: expected {len(self._x)} rows, as many as x has, got shape {array.shape}")
        self._batch_size = _check.positive_int(batch_size, "batch_size")
        self._shuffle = bool(shuffle)
        self._drop_last = _check.drop_last(drop_last, self._batch_size, len(self._x), "rows")

    def __len__(self) -> int:
        whole, rest = divmod(len(self._x), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        order = self._rng.permutation(len(self._x)) if self._shuffle else np.arange(len(self._x))
        for number in range(skip, len(self)):
            rows = order[number * self._batch_size : (number + 1) * self._batch_size]
            self._position = number + 1
            yield Batch(self._x[rows], *(None if a is None else a[rows] for a in (self._target, None, self._weight)))
        self._end()
