"""Sequences from pandas frames, and windows from series."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check

__all__ = ["make_windows", "sequences"]


def sequences(df: Any, by: Any, sort: Any = None, columns: Any = None, *, return_keys: bool = False) -> Any:
    """Make a list of sequences from a frame with a row a step.

    Parameters
    ----------
    df : pandas.DataFrame
        In the long form: the rows of all sequences, in any order.
    by : label or list of labels
        Column, or columns, whose values say which sequence a row belongs to. Sequences come in the order of the
        sorted values, as ``df.groupby(by)`` has them; so ``df.groupby(by)["label"].first()`` is their `y`.
    sort : label or list of labels, optional
        What orders the steps of a sequence, time say; without it they stay in the frame's order.
    columns : label or list of labels, optional
        What a step consists of: a list makes [T_i, F], one label [T_i], labels for a `SequenceTagger` say. All columns
        but those of `by` and `sort` by default, which must be numbers then.
    return_keys : bool
        Return ``(sequences, keys)``, where `keys` is an Index of the values of `by`.

    Returns
    -------
    list of arrays

    Raises
    ------
    KeyError
        There is no such column.
    ValueError, TypeError
        A value of `by` is missing, or a column isn't numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from fastrnn.interop.sklearn import sequences
    >>> df = pd.DataFrame({"id": ["b", "a", "b"], "time": [2, 1, 1], "x": [0.5, 3.0, 0.25], "label": ["v", "u", "v"]})
    >>> [x.tolist() for x in sequences(df, by="id", sort="time", columns=["x"])]
    [[[3.0]], [[0.25], [0.5]]]
    >>> df.groupby("id")["label"].first().tolist()
    ['u', 'v']
    """
    if not hasattr(df, "groupby") or not hasattr(df, "columns"):
        raise TypeError(f"df: expected a pandas DataFrame, got {_check.describe(df)}")
    keys, order = _labels(by), [] if sort is None else _labels(sort)
    flat = columns is not None and not isinstance(columns, list)
    taken = [c for c in df.columns if c not in keys and c not in order] if columns is None else _labels(columns)
    for name, labels in (("by", keys), ("sort", order), ("columns", taken)):
        missing = [label for label in labels if label not in df.columns]
        if missing:
            raise KeyError(f"{name}: no column {missing[0]!r}; there are {', '.join(map(repr, df.columns))}")
    if not taken:
        raise ValueError("columns: expected one at least, the frame has none but those of `by` and `sort`")
    _check_rows(df, keys, taken, named=columns is not None, flat=flat)
    if order:
        df = df.sort_values(order, kind="stable")
    groups = df.groupby(keys if len(keys) > 1 else keys[0], sort=True, observed=True)
    found = groups.ngroup().to_numpy()
    rows = np.argsort(found, kind="stable")
    values = df[taken[0]].to_numpy() if flat else df[taken].to_numpy()
    made = np.split(values[rows], np.cumsum(np.bincount(found))[:-1]) if len(found) else []
    return (made, groups.size().index) if return_keys else made


def _labels(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _check_rows(df: Any, keys: list[Any], taken: list[Any], *, named: bool, flat: bool) -> None:
    for key in keys:
        if df[key].isna().any():
            row = int(np.argmax(df[key].isna().to_numpy()))
            raise ValueError(f"by: column {key!r} is missing in row {row}, so that it belongs to no sequence")
    wrong = [label for label in taken if getattr(df[label].dtype, "kind", "O") not in "fiub"]
    if wrong and not flat:
        raise TypeError(
            f"columns: expected numbers, {wrong[0]!r} has {df[wrong[0]].dtype}"
            + ("" if named else "; name the columns that you want")
        )


def make_windows(
    series: Any, window: int, horizon: int = 1, *, stride: int = 1, target: int | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut series into windows and what comes after each, for any estimator.

    Parameters
    ----------
    series : array [T] or [T, F], or a list of them
        A list's windows follow one another; none spans two series, and one shorter than window + horizon gives none.
    window : int
        Steps of a window.
    horizon : int
        Steps after it.
    stride : int
        Steps from a window to the next.
    target : int, optional
        With [T, F], the feature that is to be told.

    Returns
    -------
    X : array, [n, window] or [n, window, F]
        Read-only where it shows the memory of `series`.
    y : array, [n, horizon], or [n, horizon, F] without `target`

    Examples
    --------
    >>> from fastrnn.interop.sklearn import make_windows
    >>> X, y = make_windows([1, 2, 3, 4, 5], window=3)
    >>> X.tolist(), y.tolist()
    ([[1, 2, 3], [2, 3, 4]], [[4], [5]])
    """
    window, horizon = _check.positive_int(window, "window"), _check.positive_int(horizon, "horizon")
    stride = _check.positive_int(stride, "stride")
    several = isinstance(series, list | tuple) and len(series) > 0 and np.ndim(series[0]) > 0
    arrays = [np.asarray(one) for one in series] if several else [np.asarray(series)]
    shapes = {(one.ndim, one.shape[1:]) for one in arrays}
    if len(shapes) > 1 or arrays[0].ndim not in (1, 2):
        got = ", ".join(str(one.shape) for one in arrays[:3])
        raise ValueError(f"series: expected an array [T] or [T, F], or a list of such of one F, got {got}")
    if target is not None and arrays[0].ndim == 1:
        raise ValueError("target: is a feature of series [T, F], and these are [T]")
    if target is not None:
        target = _check.index(target, arrays[0].shape[1], "target")
    whole = window + horizon
    long = [one for one in arrays if len(one) >= whole]
    if not long:
        most = max(len(one) for one in arrays)
        raise ValueError(f"series: expected window + horizon = {whole} steps at least, the longest has {most}")
    cuts = [np.lib.stride_tricks.sliding_window_view(one, whole, axis=0)[::stride] for one in long]
    cut = cuts[0] if len(cuts) == 1 else np.concatenate(cuts)
    if cut.ndim == 3:
        cut = cut.swapaxes(1, 2)  # [n, F, steps] → [n, steps, F]
    after = cut[:, window:]
    return cut[:, :window], after if target is None else after[..., target]
