"""What estimators take: 2-D and 3-D arrays and lists of sequences, as one array of all their steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from fastrnn import _check

__all__ = ["Sequences", "as_given", "form_of", "pieces", "plain", "read"]

TAKEN = "an array [n, T] or [n, T, F], or a list of sequences [T_i, F] or [T_i]"


@dataclass(frozen=True)
class Sequences:
    """Sequences one after the other.

    Attributes
    ----------
    steps : array, [ΣT, F]
    lengths : integers, [n]
    form : {"2d", "3d", "list", "objects"}
        What was given: an array, a list, or an array of objects that are sequences.
    flat : bool
        A sequence is [T], not [T, F].
    """

    steps: NDArray[Any]
    lengths: NDArray[np.int64]
    form: str
    flat: bool

    def __len__(self) -> int:  # the number of sequences
        return len(self.lengths)

    @property
    def items(self) -> list[NDArray[Any]]:
        """Each sequence, [T, F]: views."""
        return pieces(self.steps, self.lengths)

    def pick(self, rows: NDArray[Any]) -> Sequences:
        """Some of them."""
        items = self.items
        picked = [items[row] for row in rows]
        return replace(self, steps=np.concatenate(picked), lengths=self.lengths[rows])


def pieces(steps: NDArray[Any], lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    """What belongs to each sequence of what all of them have, step by step: views."""
    return np.split(steps, np.cumsum(lengths)[:-1])


def as_given(found: Sequences, items: list[NDArray[Any]]) -> Any:
    """A list with something for each sequence, in the way that sequences came: a list, or an array of objects."""
    if found.form != "objects":
        return items
    made = np.empty(len(items), object)
    made[:] = items
    return made


def read(estimator: Any, X: Any, dtype: Any, *, reset: bool, finite: bool = True) -> Sequences:
    """Check X and convert it; set (with `reset`) or compare what the estimator knows of its features.

    Without a dtype it stays as it is, text included. With `finite` NaN and infinity are refused.

    Raises
    ------
    ValueError, TypeError
        X is none of what is taken; the message says which sequence, and what was expected.
    """
    name = type(estimator).__name__
    form, X = form_of(X)
    with np.errstate(over="ignore"):  # what is too large for the dtype is named below
        if form == "2d":
            found = _read_table(estimator, X, dtype, reset)
        elif form == "3d":
            found = _read_cube(estimator, X, dtype)
        else:
            found = _read_list(X, dtype, name, form)
    size = found.steps.shape[1]
    if form != "2d" and reset:
        estimator.n_features_in_ = size
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    if reset:
        estimator._step_size = size
    elif size != estimator._step_size:
        raise ValueError(_other_size(X, form, size, estimator._step_size, name))
    if finite and found.steps.dtype.kind == "f":
        _check_finite(found, name)
    return found


def plain(X: Any) -> Sequences:
    """Sequences of which nothing is known yet."""
    form, X = form_of(X)
    if form == "2d":
        array = check_array(X, dtype=None, ensure_all_finite=False)
        return Sequences(array.reshape(-1, 1), np.full(len(array), array.shape[1], np.int64), "2d", True)
    return _read_cube(None, X, None) if form == "3d" else _read_list(X, None, "", form)


def form_of(X: Any) -> tuple[str, Any]:
    """("2d", "3d", "list" or "objects", X), X as an array where it only has the ways of one."""
    if X is None or (isinstance(X, str | bytes | dict) and not hasattr(X, "toarray")):  # a sparse dok_matrix is a dict
        raise TypeError(f"X: expected {TAKEN}, got {_check.describe(X)}")
    if hasattr(X, "iloc") and np.ndim(X) == 1:  # a column of sequences
        X = X.to_numpy()
    if hasattr(X, "iloc") or hasattr(X, "toarray"):  # frames keep their names; what is sparse is refused by its type
        return "2d", X
    if isinstance(X, list | tuple):
        return _form_of_list(X)
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    if array.ndim == 0:
        raise TypeError(f"X: expected {TAKEN}, got {_check.describe(X)}")
    if array.ndim == 3:
        return "3d", array
    if array.ndim == 1 and array.dtype == object and len(array) and not _is_number(array[0]):
        return "objects", list(array)
    if array.ndim == 1:
        raise ValueError(_one_alone(array.shape))
    return "2d", X


def _one_alone(shape: tuple[int, ...]) -> str:
    return (
        f"Expected 2D array, got 1D array instead, of shape {shape}: one series alone is [x], a list of one. "
        "Reshape your data using array.reshape(1, -1) if it is one series, array.reshape(-1, 1) if each number is one"
    )


def _form_of_list(X: Any) -> tuple[str, Any]:
    plain = all(isinstance(item, list | tuple) for item in X)
    if not len(X):
        raise ValueError("X: expected at least one sequence, got an empty list")
    if any(map(_is_number, X)):
        raise ValueError(_one_alone((len(X),)))
    if plain:  # nested lists are an array where they can be one
        try:
            array = np.asarray(X)
        except ValueError:
            return "list", X
        if array.ndim < 4:
            return ("3d", array) if array.ndim == 3 else ("2d", X)
    return "list", X


def _is_number(item: Any) -> bool:
    return not isinstance(item, list | tuple) and np.ndim(item) == 0


def _read_table(estimator: Any, X: Any, dtype: Any, reset: bool) -> Sequences:
    """n univariate series, [n, T]."""
    # scikit-learn compares the columns with those that fit saw, if that was a table, too
    if not reset and not estimator._from_table:
        array = check_array(X, dtype=dtype, ensure_all_finite=False, estimator=estimator, input_name="X")
    else:
        try:
            array = validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=False)
        except ValueError as error:
            if "features as input" not in str(error):
                raise
            hint = (
                "Features of a 2-D array are its columns, here steps; series of other lengths go in as a list of "
                "arrays: list(np.asarray(X))"
            )
            raise ValueError(f"{error} {hint}") from None
    n, T = array.shape
    if getattr(estimator, "_steps_of_rows", False):  # a SequenceTagger with one label a row
        return Sequences(array, np.ones(n, np.int64), "2d", False)
    return Sequences(np.ascontiguousarray(array).reshape(-1, 1), np.full(n, T, np.int64), "2d", True)


def _read_cube(estimator: Any, X: Any, dtype: Any) -> Sequences:
    """[n, T, F]."""
    array = check_array(X, dtype=dtype, ensure_all_finite=False, allow_nd=True, estimator=estimator, input_name="X")
    n, T, F = array.shape
    if T == 0 or F == 0:
        raise ValueError(f"X: expected [n, T, F] with T and F of at least 1, got shape {array.shape}")
    return Sequences(np.ascontiguousarray(array).reshape(-1, F), np.full(n, T, np.int64), "3d", False)


def _read_list(X: Any, dtype: Any, name: str, form: str) -> Sequences:
    """A list of [T_i, F] or [T_i]."""
    arrays = [_one(item, position, dtype) for position, item in enumerate(X)]
    ranks = {array.ndim for array in arrays}
    if ranks not in ({1}, {2}):
        shapes = ", ".join(f"X[{k}] {a.shape}" for k, a in enumerate(arrays[:3]))
        raise ValueError(f"X: expected a list of sequences [T_i, F], or of [T_i], got {shapes}{_more(arrays)}")
    flat = ranks == {1}
    if not flat:
        _check_columns(arrays)
    lengths = np.array([len(array) for array in arrays], np.int64)
    if not lengths.all():
        position = int(np.argmin(lengths))
        raise ValueError(
            f"X: sequence {position} (X[{position}]) has no steps, shape {arrays[position].shape}: there is nothing "
            f"that {name} could learn or tell from it; leave it out, and what belongs to it in y"
        )
    steps = np.concatenate([array.reshape(len(array), -1) for array in arrays])
    return Sequences(steps if dtype is None else steps.astype(dtype, copy=False), lengths, form, flat)


def _one(item: Any, position: int, dtype: Any) -> NDArray[Any]:
    if hasattr(item, "toarray"):
        raise TypeError(f"X[{position}]: expected a dense array, got a sparse one; use .toarray()")
    try:
        array = np.asarray(item)
    except ValueError:
        raise ValueError(f"X[{position}]: expected numbers [T, F], got lists of different lengths") from None
    if array.dtype.kind == "c":
        raise ValueError(f"X[{position}]: Complex data not supported")
    if dtype is not None and array.dtype.kind not in "fiub":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(
                f"X[{position}]: expected numbers, got {array.dtype}: an argument must be a string that is one, or a "
                "number"
            ) from None
    return array


def _check_columns(arrays: list[NDArray[Any]]) -> None:
    columns, rows = {a.shape[1] for a in arrays}, {len(a) for a in arrays}
    if columns == {0}:
        raise ValueError(f"X: expected sequences [T_i, F] with F of at least 1, got shape {arrays[0].shape}")
    if len(columns) == 1:
        return
    first = arrays[0].shape
    position = next(k for k, a in enumerate(arrays) if a.shape[1] != first[1])
    other = f"X[0] has shape {first}, X[{position}] {arrays[position].shape}"
    if len(rows) == 1:
        raise ValueError(
            f"X: sequences differ in the second axis, and not in the first: {other}. Are they transposed? "
            "Expected [T_i, F], a row a step: [x.T for x in X]"
        )
    raise ValueError(f"X: expected sequences [T_i, F] of one F, got others: {other}")


def _more(arrays: list[Any]) -> str:
    return ", …" if len(arrays) > 3 else ""


def _other_size(X: Any, form: str, size: int, expected: int, name: str) -> str:
    text = f"X has {size} features, but {name} is expecting {expected} features as input"
    if form == "2d":
        return f"{text}: rows of a 2-D array are series of one feature; expected [n, T, {expected}] or a list"
    first = np.shape(X[0])
    if len(first) == 2 and first[0] == expected:
        return f"{text}: X[0] has shape {first}, expected [T, {expected}]. Are sequences transposed?"
    return f"{text}, a step"


def _check_finite(found: Sequences, name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(found.steps.sum()):
            return
    bad = np.argwhere(~np.isfinite(found.steps))
    if not len(bad):
        return
    row, feature = bad[0]
    ends = np.cumsum(found.lengths)
    sequence = int(np.searchsorted(ends, row, side="right"))
    step = int(row - ends[sequence] + found.lengths[sequence])
    what = "NaN" if np.isnan(found.steps[row, feature]) else f"infinity or a value too large for {found.steps.dtype}"
    place = f"sequence {sequence}, step {step}" + ("" if found.steps.shape[1] == 1 else f", feature {feature}")
    raise ValueError(
        f"Input X contains {what}: {place}. {name} does not accept missing values; leave such steps out, or fill them, "
        "PerStep(SimpleImputer()) in a pipeline say"
    )
