"""Batches of pairs of series: what an encoder reads, and what a decoder is to write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn.train.data import Batch, SequenceBatches


class SeriesBatches(SequenceBatches):
    """Batches of series x [T_i, F] with targets [H_i, O]; both are padded, targets with NaN.

    ``target`` is time-major [H, B, O + C]: values, then covariates, then NaN past the end of a row.
    """

    def __init__(self, x: Sequence[Any], y: Sequence[Any], covariates: Sequence[Any] | None, **options: Any) -> None:
        super().__init__(x, **options)
        self._y = list(y) if covariates is None else [np.concatenate(p, -1) for p in zip(y, covariates, strict=True)]

    def __iter__(self) -> Iterator[Batch]:
        skip = self._begin()
        for rows in self._order()[skip:]:
            self._position += 1
            x, _, lengths, weight = self._batch(rows)
            yield Batch(x, padded([self._y[row] for row in rows], np.nan), lengths, weight)
        self._end()


def padded(series: Sequence[Any], value: float) -> Any:
    """Series [T_i, F] side by side, [T, N, F], with T at least 1."""
    steps = max(1, *map(len, series))
    found = np.full((steps, len(series), series[0].shape[-1]), value, series[0].dtype)
    for column, one in enumerate(series):
        found[: len(one), column] = one
    return found


def series(given: Any, size: int, dtype: Any, name: str, label: str) -> list[Any]:
    """N series [T_i, size] as arrays, from a list of them or an array [N, T, size]; [T_i] where size is 1."""
    if not isinstance(given, list | tuple | np.ndarray):
        raise TypeError(f"{name}: expected a list of series or an array [N, T, {size}], got {_check.describe(given)}")
    found = []
    for position, one in enumerate(given):
        array = _numbers(one, dtype, name)
        if array.ndim == 1 and size == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != size or len(array) == 0:
            raise ValueError(
                f"{name}: expected series [T, {size}] ({label}={size}) of at least one step, got shape {array.shape} "
                f"at {position}"
            )
        found.append(array)
    if not found:
        raise ValueError(f"{name}: expected at least one series")
    return found


def without_gaps(given: list[Any], name: str) -> list[Any]:
    """Series none of whose values is NaN, which past a row's end stands for a missing step."""
    for position, one in enumerate(given):
        if np.isnan(one).any():
            step = int(np.argwhere(np.isnan(one).any(-1))[0, 0])
            raise ValueError(f"{name}: expected numbers, got NaN at step {step} of series {position}")
    return given


def _numbers(one: Any, dtype: Any, name: str) -> Any:
    """One series as an array of `dtype`, from real numbers of any type: lists, arrays, data frames."""
    if isinstance(one, list | tuple) or one is None:
        return _check.floats(one, dtype, name, layer=True)
    array = np.asarray(one)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    return array.astype(dtype, copy=False)


def ends_of(values: Any) -> Any:
    """Steps of each column of [H, B, ·] before the NaN that fill it up; None where there are none."""
    missing = np.isnan(values).any(-1)
    if not missing.any():
        return None
    ends = len(values) - np.cumprod(missing[::-1], 0).sum(0)
    if (missing != (np.arange(len(values))[:, None] >= ends)).any():
        step, row = np.argwhere(missing != (np.arange(len(values))[:, None] >= ends))[0]
        raise ValueError(f"target: expected NaN only past a row's end, got one at step {step} of row {row}")
    return ends


def steps_of(horizon: Any, target: Any, covariates: Any) -> int:
    """H, from whichever says it."""
    for array in (target, covariates):
        if array is not None and np.ndim(array):
            if horizon is not None and horizon != len(array):
                raise ValueError(f"horizon: expected {len(array)}, the steps of target and covariates, got {horizon}")
            return len(array)
    return _check.positive_int(horizon, "horizon")
