"""Batches of pairs of sequences: what a model reads, and what it shall write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn.train.data import Batch, _arrays, _padded, _Resumable, batch_rows

__all__ = ["PairBatches"]


class PairBatches(_Resumable):
    """Mini-batches of pairs of sequences of different lengths: padded, time-major, bucketed by both lengths.

    A batch is ``Batch(x, target, lengths, weight)`` with sources x [S, B], targets [T, B], and both lengths in one
    array [2, B]: row 0 of the sources, row 1 of the targets. Means over batches count the steps of targets.

    Parameters
    ----------
    sources, targets : list of array_like
        N sequences each, [S_i] and [T_i], or [S_i, F] and [T_i, F].
    batch_size : int
        Pairs of a batch; the last batch of an epoch may be smaller.
    bucket : bool
        Put pairs of similar lengths into one batch: sorted by the target's, and where that is equal by the source's.
    shuffle : bool
        A new random order each epoch. Buckets are then formed inside random pools of 50 batches.
    weight : array_like, optional
        [N], one weight for each pair.
    pad_value, target_pad
        Values past the end of a row.
    drop_last : bool
        Leave out a batch smaller than `batch_size`; there has to be another one.
    dtype : dtype, optional
        Of both; by default that of the sequences.
    seed : int or Generator
        For the order.

    Examples
    --------
    >>> import fastrnn as fr
    >>> data = fr.PairBatches([[4, 5, 6], [7], [8, 9]], [[4], [5, 6], [7]], batch_size=2, shuffle=False)
    >>> for batch in data:
    ...     print(batch.x.T.tolist(), batch.target.T.tolist(), batch.lengths.tolist())
    [[8, 9, 0], [4, 5, 6]] [[7], [4]] [[2, 3], [1, 1]]
    [[7]] [[5, 6]] [[1], [2]]
    """

    def __init__(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        *,
        batch_size: int,
        bucket: bool = True,
        shuffle: bool = True,
        weight: Any = None,
        pad_value: float = 0,
        target_pad: float = 0,
        drop_last: bool = False,
        dtype: Any = None,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__(seed)
        self._sources, self._targets = _arrays("sources", sources, dtype), _arrays("targets", targets, dtype)
        if not self._sources or len(self._sources) != len(self._targets):
            raise ValueError(
                f"targets: expected as many as sources, at least one, got {len(self._targets)} and "
                f"{len(self._sources)} sources"
            )
        for name, items in (("sources", self._sources), ("targets", self._targets)):
            if items[0].ndim < 1:
                raise ValueError(f"{name}: expected sequences with a time axis, got numbers")
        self._source_lengths = np.array([len(x) for x in self._sources], np.int64)
        self._target_lengths = np.array([len(x) for x in self._targets], np.int64)
        self._weight = None if weight is None else np.asarray(weight)
        if self._weight is not None and self._weight.shape != self._source_lengths.shape:
            raise ValueError(f"weight: expected shape {self._source_lengths.shape}, got {self._weight.shape}")
        self._batch_size = _check.positive_int(batch_size, "batch_size")
        self._bucket, self._shuffle = bool(bucket), bool(shuffle)
        self._drop_last = _check.drop_last(drop_last, self._batch_size, len(self._sources), "pairs")
        self._pads = pad_value, target_pad

    def __len__(self) -> int:
        full, rest = divmod(len(self._sources), self._batch_size)
        return full + (1 if rest and not self._drop_last else 0)

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        lengths = (self._source_lengths, self._target_lengths) if self._bucket else ()
        batches = batch_rows(self._rng, len(self._sources), self._batch_size, lengths, self._shuffle, self._drop_last)
        for rows in batches[skip:]:
            self._position += 1
            ends = np.stack([self._source_lengths[rows], self._target_lengths[rows]])
            x = _padded([self._sources[i] for i in rows], ends[0], self._pads[0])
            target = _padded([self._targets[i] for i in rows], ends[1], self._pads[1])
            yield Batch(x, target, ends, None if self._weight is None else self._weight[rows])
        self._end()
