"""What `fit` accepts: everything is checked before anything is changed."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from fastrnn.train.arrays import named_arrays
from fastrnn.train.optim import Optimizer
from fastrnn.train.run import Limits
from fastrnn.train.schedules import Plateau, Schedule

__all__ = ["check_data", "check_limits", "check_model", "check_numbers", "check_validation"]


def check_model(model: Any, optimizer: Any) -> None:
    """Raise for what is no model or no optimiser, and for an optimiser of other parameters."""
    if isinstance(model, type):
        raise TypeError(f"model: expected a layer or model, got the class {model.__name__} itself; call it first")
    if not all(hasattr(model, name) for name in ("params", "grads", "zero_grads")):
        raise TypeError(f"model: expected a layer or model, got {model!r:.80}")
    if optimizer is None:
        return
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an optimiser such as fr.optim.Adam(model), got {optimizer!r:.80}")
    ours = {_place(param) for param, _ in named_arrays(model).values()}
    foreign = [name for name, (param, _) in optimizer._arrays.items() if _place(param) not in ours]
    if foreign:
        raise ValueError(
            f"optimizer: was made for another model; not of this one are {', '.join(foreign[:4])}"
            + (" …" if len(foreign) > 4 else "")
        )


def _place(array: np.ndarray) -> tuple[int, tuple[int, ...]]:
    return array.__array_interface__["data"][0], array.shape


def check_limits(limits: Limits) -> Limits:
    """Return the limits as numbers, or raise."""
    if limits == Limits(None, None, None):
        raise ValueError("epochs: how long? Give epochs=, steps= or minutes=")
    return Limits(_whole("epochs", limits.epochs), _whole("steps", limits.steps), _positive("minutes", limits.minutes))


def check_numbers(**numbers: Any) -> None:
    """Raise for what is neither None nor a number > 0; counts are whole."""
    for name, value in numbers.items():
        if name in ("early_stopping", "validate_every"):
            _whole(name, value, "expected >= 1")
        else:
            _positive(name, value)


def _whole(name: str, value: Any, expected: str = "expected a number > 0") -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name}: {expected}, got {value!r}")
    return number


def _positive(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool | str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not (number >= 0 if name == "checkpoint_seconds" else number > 0) or math.isnan(number):
        raise ValueError(f"{name}: expected a number > 0, got {value!r}")
    return number


def check_validation(validation: Any, validate_every: Any, schedule: Any, early_stopping: Any) -> None:
    """Raise for a schedule that is none, and for what needs a validation where there is none."""
    if schedule is not None and not isinstance(schedule, Schedule):
        raise TypeError(
            f"schedule: expected one of fr.schedules, got {schedule!r:.80}; a function goes into the __call__ of a "
            "class derived from fr.schedules.Schedule"
        )
    if validation is not None:
        return
    if early_stopping is not None or validate_every is not None:
        name = "early_stopping" if early_stopping is not None else "validate_every"
        raise ValueError(f"{name}: needs validation=")
    if isinstance(schedule, Plateau):
        raise ValueError("schedule: Plateau needs validation=")


def check_data(data: Any, validation: Any, limits: Limits) -> None:
    """Raise for what can't be iterated as often as needed."""
    for name, batches in (("data", data), ("validation", validation)):
        if batches is None and name == "validation":
            continue
        if not hasattr(batches, "__iter__"):
            raise TypeError(f"{name}: expected an iterable of batches, got {type(batches).__name__}")
        if hasattr(batches, "__next__") and (name == "validation" or (limits.epochs or 1) > 1):
            raise ValueError(
                f"{name}: an iterator can be read once; pass something that can be read again, such as a list"
            )
