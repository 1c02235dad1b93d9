"""Batches of trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn.nn import Trees
from fastrnn.train.data import Batch, _Resumable

__all__ = ["TreeBatches"]


class TreeBatches(_Resumable):
    """Mini-batches of trees.

    Parameters
    ----------
    trees : Trees
    targets : array, optional
        One for each tree, or for each node; by default the model takes the trees' labels.
    batch_size : int
        Trees of a batch; the last one of an epoch may be smaller.
    shuffle : bool
        A new random order each epoch.
    seed : int or Generator
        For the order.

    Examples
    --------
    >>> import fastrnn as fr
    >>> trees = fr.Trees.from_nested([(1, 2), 3, (4, (5, 6))])
    >>> for batch in fr.TreeBatches(trees, [0, 1, 0], batch_size=2, shuffle=False):
    ...     print(batch.x, batch.target)
    <2 trees of 4 nodes, 3 of them leaves> [0 1]
    <1 trees of 5 nodes, 3 of them leaves> [0]
    """

    def __init__(
        self,
        trees: Trees,
        targets: Any = None,
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__(seed)
        self._trees = _check.trees(trees, Trees, None, exact=False)
        self._targets = None if targets is None else np.asarray(targets)
        if self._targets is not None and len(self._targets) not in (len(trees), trees.num_nodes):
            raise ValueError(
                f"targets: expected one for each of the {len(trees)} trees or of the {trees.num_nodes} nodes, "
                f"got {len(self._targets)}"
            )
        self._batch_size, self._shuffle = _check.positive_int(batch_size, "batch_size"), bool(shuffle)

    def __len__(self) -> int:
        return -(-len(self._trees) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        count, size = len(self._trees), self._batch_size
        order = self._rng.permutation(count) if self._shuffle else np.arange(count)
        starts = np.cumsum(self._trees.sizes) - self._trees.sizes
        for number, at in enumerate(range(0, count, size)):
            if number < skip:
                continue
            rows = order[at : at + size]
            target = self._targets
            if target is not None and len(target) != count:
                rows_of = [np.arange(starts[k], starts[k] + self._trees.sizes[k]) for k in rows]
                target = target[np.concatenate(rows_of)]
            elif target is not None:
                target = target[rows]
            self._position = number + 1
            yield Batch(self._trees[rows], target)
        self._end()
