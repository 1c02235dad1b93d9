"""Before anything is timed: did all sides compute the same numbers?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOLERANCES", "Disagreement", "check", "check_losses", "difference"]

# dtype: (outputs and states, gradients), relative to the largest magnitude of the array.
TOLERANCES = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-12)}
OUTPUTS = ("y", "h_n", "c_n")


class Disagreement(AssertionError):
    """Two sides computed different numbers, so comparing their times would mean nothing."""


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the largest difference over the largest magnitude; infinite for different shapes, NaN for a NaN.

    Examples
    --------
    >>> difference(np.array([1.0, 4.0]), np.array([1.5, 4.0]))
    0.125
    """
    if a.shape != b.shape:
        return float("inf")
    if not a.size:
        return 0.0
    gap = float(np.max(np.abs(np.subtract(a, b, dtype=np.float64))))
    scale = max(float(np.max(np.abs(a))), float(np.max(np.abs(b))))
    return gap / scale if gap else 0.0


def check(results: Mapping[str, Mapping[str, NDArray[Any]]], dtype: str, what: str = "") -> dict[str, float]:
    """Compare every side with the first.

    Parameters
    ----------
    results : dict
        Side: name of an array: array. All sides must have the same names.
    dtype : {"float32", "float64"}
        What was computed in; it gives the tolerances.
    what : str
        The case, for the message.

    Returns
    -------
    dict
        For each other side, its largest relative difference.

    Raises
    ------
    Disagreement
        An array is missing, misshapen, or differs by more than the tolerance.

    Examples
    --------
    >>> one, two = {"y": np.ones(3)}, {"y": np.array([1.0, 1.0, 1.5])}
    >>> check({"a": one, "b": one}, "float64")
    {'b': 0.0}
    >>> check({"a": one, "b": two}, "float64", "a case")
    Traceback (most recent call last):
    ...
    fastrnn.bench.agree.Disagreement: a case: b differs from a in y (0.33, expected <= 1e-12)
    """
    (first, base), *others = results.items()
    worst = {}
    for name, arrays in others:
        reasons = [f"{key} (only one side has it)" for key in sorted(set(base) ^ set(arrays))]
        worst[name] = 0.0
        for key in base:
            if key not in arrays:
                continue
            tolerance = TOLERANCES[dtype][0 if key in OUTPUTS else 1]
            gap = difference(base[key], arrays[key])
            worst[name] = max(worst[name], gap)
            if not gap <= tolerance:  # a NaN too
                reasons.append(f"{key} ({gap:.2g}, expected <= {tolerance:g})")
        if reasons:
            raise Disagreement(f"{what + ': ' if what else ''}{name} differs from {first} in {', '.join(reasons)}")
    return worst


def check_losses(losses: Mapping[str, Sequence[float]], tolerance: float, what: str = "") -> None:
    """Compare the losses of several training steps from equal weights, side by side.

    Raises
    ------
    Disagreement
        A loss differs from the first side's by more than `tolerance`, relatively.

    Examples
    --------
    >>> check_losses({"a": [4.0, 3.0], "b": [4.0, 3.1]}, 1e-3)
    Traceback (most recent call last):
    ...
    fastrnn.bench.agree.Disagreement: b differs from a in step 2: loss 3.1, expected 3.0
    """
    (first, base), *others = losses.items()
    for name, values in others:
        for step, (loss, expected) in enumerate(zip(values, base, strict=True), 1):
            if not abs(loss - expected) <= tolerance * abs(expected):
                raise Disagreement(
                    f"{what + ': ' if what else ''}{name} differs from {first} in step {step}: loss {loss}, "
                    f"expected {expected}"
                )
