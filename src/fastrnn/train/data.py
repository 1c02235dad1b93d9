"""Batches: padded and bucketed sequences, and windows over a stream of tokens.

Both iterables are resumable: after ``load_state_dict`` the next ``for`` loop goes on in the middle of the
epoch, with the same order and the same random numbers. Every other ``for`` loop begins a new epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.nn._random import generator

__all__ = ["Batch", "SequenceBatches", "TokenWindows"]

# Buckets are formed inside pools of this many batches: large enough that lengths in a batch are close, small
# enough that batches stay random mixtures.
POOL_BATCHES = 50


class Batch(NamedTuple):
    """One step's data. Anything that yields these, or tuples in this order, can be fitted.

    Attributes
    ----------
    x : ndarray
        Input of the model: [T, B], [T, B, F], or whatever it takes.
    target : ndarray
        What the loss compares with.
    lengths : ndarray, optional
        Integers [B]: valid steps of each row. Passed to the model and, if the target has the time axis, to
        the loss. For pairs of sequences [2, B]: those of x and of the target, for models with a loss of their own.
    weight : ndarray, optional
        Passed to the loss. One number a row, [B], or anything that broadcasts to the target's shape.
    """

    x: Any
    target: Any = None
    lengths: Any = None
    weight: Any = None


class _Resumable:
    """Position and generator of an iterable: the state is the generator at the epoch's begin and a count.

    After an epoch's last batch has been followed by the end of the loop, the state is the begin of the next
    epoch.
    """

    def __init__(self, seed: int | np.random.Generator | None) -> None:
        self._rng = generator(seed)
        self._epoch_rng = self._rng.bit_generator.state
        self._position = 0
        self._resumed = False

    def _begin(self) -> int:
        """Start an epoch, or go on in the loaded one; return the number of batches to skip."""
        if self._resumed:
            self._resumed = False
            self._rng.bit_generator.state = self._epoch_rng
        else:
            self._epoch_rng = self._rng.bit_generator.state
            self._position = 0
        return self._position

    def _end(self) -> None:
        self._epoch_rng, self._position = self._rng.bit_generator.state, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, after the batch that was yielded last, and the generator."""
        return {"generator": self._epoch_rng, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next ``for`` loop go on from `state`."""
        if set(state) != {"generator", "position"}:
            raise ValueError(f"state: expected the keys generator and position, got {sorted(state)}")
        self._rng.bit_generator.state = state["generator"]
        self._epoch_rng, self._position, self._resumed = state["generator"], int(state["position"]), True


class SequenceBatches(_Resumable):
    """Mini-batches of sequences of different lengths: padded, time-major, bucketed by length.

    Parameters
    ----------
    sequences : list of array_like
        N sequences, [T_i] or [T_i, F].
    targets : list of array_like, optional
        N targets. Where each is as long as its sequence they are padded along time, [T, B, ...]; otherwise
        they are stacked, [B, ...].
    batch_size : int
        Rows of a batch; the last batch of an epoch may be smaller.
    bucket : bool
        Put sequences of similar length into one batch, so that little is padded.
    shuffle : bool
        A new random order each epoch. Buckets are then formed inside random pools of 50 batches.
    weight : array_like, optional
        [N], one weight for each sequence. Batches carry theirs in the shape that broadcasts to the target's:
        [B], [B, 1] …, or [1, B], [1, B, 1] … where targets run along time.
    pad_value, target_pad
        Values of `x` and of padded targets past the end of a row.
    per_step : bool, optional
        Whether targets run along time. By default they do if every target has its sequence's length as first
        axis; where all sequences have one length, which targets may have by chance, it must be given.
    drop_last : bool
        Leave out a batch smaller than `batch_size`; there has to be another one.
    dtype : dtype, optional
        Of `x`; by default that of the sequences: float64 arrays make float64 batches, lists of Python's
        floats (targets, too) make float32.
    seed : int or Generator
        For the order.

    Examples
    --------
    >>> import fastrnn as fr
    >>> data = fr.SequenceBatches([[1, 2, 3], [4], [5, 6]], [0, 1, 1], batch_size=2, shuffle=False)
    >>> for batch in data:
    ...     print(batch.x.T.tolist(), batch.target, batch.lengths)
    [[4, 0], [5, 6]] [1 1] [1 2]
    [[1, 2, 3]] [0] [3]
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        targets: Sequence[Any] | None = None,
        *,
        batch_size: int,
        bucket: bool = True,
        shuffle: bool = True,
        weight: Any = None,
        pad_value: float = 0,
        target_pad: float = 0,
        per_step: bool | None = None,
        drop_last: bool = False,
        dtype: Any = None,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__(seed)
        self._x = _arrays("sequences", sequences, dtype)
        self._lengths = np.array([len(x) for x in self._x], dtype=np.int64)
        if not self._x:
            raise ValueError("sequences: expected at least one")
        if self._x[0].ndim < 1 or batch_size < 1:
            raise ValueError(f"batch_size: expected >= 1 and sequences with a time axis, got {batch_size!r}")
        self._targets = None if targets is None else _arrays("targets", targets, None)
        if self._targets is not None and len(self._targets) != len(self._x):
            raise ValueError(f"targets: expected {len(self._x)}, one for each sequence, got {len(self._targets)}")
        self._weight = None if weight is None else np.asarray(weight)
        if self._weight is not None and self._weight.shape != self._lengths.shape:
            raise ValueError(f"weight: expected shape {self._lengths.shape}, got {self._weight.shape}")
        fitting = self._targets is not None and all(
            t.ndim >= 1 and len(t) == n for t, n in zip(self._targets, self._lengths, strict=True)
        )
        if per_step and not fitting:
            raise ValueError("per_step: needs targets as long as their sequences")
        vectors = self._targets is not None and self._targets[0].ndim == 1 and len(np.unique(self._lengths)) == 1
        if per_step is None and fitting and vectors:
            raise ValueError(
                f"per_step: every sequence and every target has length {self._lengths[0]}; say with per_step=True "
                "that targets run along time, or with per_step=False that each is one vector"
            )
        self._per_step = fitting if per_step is None else bool(per_step)
        self._batch_size, self._bucket, self._shuffle = int(batch_size), bool(bucket), bool(shuffle)
        self._pad, self._target_pad = pad_value, target_pad
        self._drop_last = _check.drop_last(drop_last, self._batch_size, len(self._x), "sequences")

    def __len__(self) -> int:
        full, rest = divmod(len(self._x), self._batch_size)
        return full + (1 if rest and not self._drop_last else 0)

    def _order(self) -> list[np.ndarray]:
        """Return the rows of each batch of an epoch."""
        lengths = (self._lengths,) if self._bucket else ()
        return batch_rows(self._rng, len(self._x), self._batch_size, lengths, self._shuffle, self._drop_last)

    def _batch(self, rows: np.ndarray) -> Batch:
        lengths = self._lengths[rows]
        x = _padded([self._x[i] for i in rows], lengths, self._pad)
        target = None
        if self._targets is not None:
            picked = [self._targets[i] for i in rows]
            target = _padded(picked, lengths, self._target_pad) if self._per_step else np.stack(picked)
        weight = None if self._weight is None else self._weight[rows]
        if weight is not None and target is not None:
            axis = int(self._per_step)
            weight = weight.reshape((1,) * axis + (-1,) + (1,) * (target.ndim - axis - 1))
        return Batch(x, target, lengths, weight)

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        for rows in self._order()[skip:]:
            self._position += 1
            yield self._batch(rows)
        self._end()


def batch_rows(
    rng: np.random.Generator, n: int, size: int, lengths: tuple[np.ndarray, ...], shuffle: bool, drop_last: bool
) -> list[np.ndarray]:
    """Return the rows of each batch of an epoch. With lengths rows are sorted by them, the last ones first."""
    rows = rng.permutation(n) if shuffle else np.arange(n)
    if lengths:
        pool = size * POOL_BATCHES if shuffle else n
        parts = [rows[i : i + pool] for i in range(0, n, pool)]
        rows = np.concatenate([part[np.lexsort([each[part] for each in lengths])] for part in parts])
    batches = [rows[i : i + size] for i in range(0, n, size)]
    if drop_last and len(batches[-1]) < size:
        batches.pop()
    if lengths and shuffle:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _arrays(name: str, items: Sequence[Any], dtype: Any) -> list[np.ndarray]:
    """Convert to arrays of one dtype whose shapes agree past the first axis."""
    arrays = [np.asarray(item, dtype=dtype) for item in _check.items(items, name, "a list of sequences")]
    if arrays:
        common = np.result_type(*{a.dtype for a in arrays if a.size} or {arrays[0].dtype})
        if dtype is None and common == np.float64 and all(map(_is_plain, items)):
            common = np.dtype(np.float32)
        arrays = [a.astype(common, copy=False) for a in arrays]
    ranks = {(a.ndim, a.shape[1:]) for a in arrays}
    if len(ranks) > 1:
        shapes = sorted({str(a.shape) for a in arrays})[:4]
        raise ValueError(f"{name}: expected shapes that differ in the first axis only, got {', '.join(shapes)}")
    return arrays


def _is_plain(item: Any) -> bool:
    """Tell whether `item` is made of Python's own lists and numbers, which have no dtype."""
    while isinstance(item, list | tuple) and item:
        item = item[0]
    return type(item) in (float, int, bool, list, tuple)


def _padded(items: list[np.ndarray], lengths: np.ndarray, value: float) -> np.ndarray:
    """Stack along a new second axis, [T, B, ...], with T at least 1."""
    out = np.full((max(int(lengths.max()), 1), len(items), *items[0].shape[1:]), value, dtype=items[0].dtype)
    for b, item in enumerate(items):
        out[: len(item), b] = item
    return out


class TokenWindows(_Resumable):
    """Windows over one long stream of tokens, for truncated backpropagation through time.

    The stream is cut into `batch_size` contiguous rows. Window k holds the tokens [k·seq_len, (k+1)·seq_len]
    of every row, so the state that a model ends one window with is the state that the next one starts with:
    ``fr.fit(..., carry_state=True)``. ``x`` and ``target`` are the two views [T, B] of a window [T+1, B].
    Each token of a row but its first is a target exactly once an epoch; the last window may be shorter.

    Parameters
    ----------
    tokens : array_like
        Integers [N].
    batch_size, seq_len : int
        Rows B, and steps T between truncations.
    shuffle : bool
        Cut rows at a random offset each epoch, so that windows differ between epochs.
    max_windows : int, optional
        Stop an epoch after this many windows (for a quick validation).
    seed : int or Generator
        For the offset.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> data = fr.TokenWindows(np.arange(11), batch_size=2, seq_len=3)
    >>> for x, target, *_ in data:
    ...     print(x.T.tolist(), target.T.tolist())
    [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]]
    [[3, 4], [8, 9]] [[4, 5], [9, 10]]
    """

    def __init__(
        self,
        tokens: Any,
        *,
        batch_size: int,
        seq_len: int,
        shuffle: bool = False,
        max_windows: int | None = None,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__(seed)
        self._tokens = np.asarray(tokens)
        if self._tokens.ndim != 1 or self._tokens.dtype.kind not in "iu":
            raise ValueError(f"tokens: expected integers [N], got {self._tokens.dtype} {self._tokens.shape}")
        for name, value in (
            ("batch_size", batch_size),
            ("seq_len", seq_len),
            ("max_windows", max_windows or 1),
        ):
            if value < 1:
                raise ValueError(f"{name}: expected >= 1, got {value!r}")
        self._batch_size, self._seq_len, self._shuffle = int(batch_size), int(seq_len), bool(shuffle)
        # Rows share their last token with the next row's first: every transition inside a row is a target.
        self._margin = self._seq_len if shuffle else 1
        self._row = (len(self._tokens) - self._margin) // self._batch_size
        if self._row < 1:
            raise ValueError(
                f"tokens: {len(self._tokens)} are too few for {batch_size} rows"
                + (f" with random offsets below seq_len={seq_len}" if shuffle else "")
            )
        windows = -(-self._row // self._seq_len)
        self._windows = windows if max_windows is None else min(windows, int(max_windows))

    def __len__(self) -> int:
        return self._windows

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        offset = int(self._rng.integers(self._margin)) if self._shuffle else 0
        starts = offset + self._row * np.arange(self._batch_size)
        for k in range(skip, self._windows):
            first = k * self._seq_len
            steps = np.arange(first, min(first + self._seq_len, self._row) + 1)
            window = np.ascontiguousarray(self._tokens[steps[:, None] + starts])
            self._position += 1
            yield Batch(window[:-1], window[1:])
        self._end()
