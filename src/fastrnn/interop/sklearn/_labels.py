"""Labels and their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite

__all__ = ["check_classes", "class_weights", "numbered", "required"]


def required(estimator: Any, y: Any) -> None:
    """Say that y is missing, in scikit-learn's words."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")


def numbered(estimator: Any, labels: NDArray[Any], classes: Any, *, reset: bool) -> NDArray[Any]:
    """The number of each label among `classes_`; with `reset` they are those of `classes`, or those that come."""
    assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    if reset:
        estimator.classes_ = np.unique(labels if classes is None else classes)
    unknown = np.setdiff1d(labels, estimator.classes_)
    if len(unknown):
        raise ValueError(
            f"y: expected labels of {_some(estimator.classes_)}, got {_some(unknown)}; with warm_start and partial_fit "
            "classes stay those of the first call"
        )
    return np.searchsorted(estimator.classes_, labels)


def check_classes(estimator: Any, classes: Any, *, needed: bool = True) -> Any:
    """What partial_fit was given as `classes`, if that is right."""
    first = not hasattr(estimator, "model_")
    if first and needed and classes is None:
        raise ValueError("classes: the first call of partial_fit needs all labels that will ever come")
    if not first and classes is not None and not np.array_equal(np.unique(classes), estimator.classes_):
        raise ValueError(
            f"classes: expected those of the first call, {_some(estimator.classes_)}, got {_some(np.unique(classes))}"
        )
    if isinstance(estimator.class_weight, str):
        raise ValueError(
            f"class_weight: {estimator.class_weight!r} needs all labels at once, which partial_fit doesn't see; give a "
            "dict of weights"
        )
    return classes


def class_weights(given: Any, classes: NDArray[Any], numbers: NDArray[Any]) -> NDArray[Any]:
    """The weight of each class, [K]. Of the labels, given by their numbers, not every class need be there."""
    weights = np.ones(len(classes))
    rows = np.arange(len(classes)) if isinstance(given, dict) else np.unique(numbers)
    weights[rows] = compute_class_weight(given, classes=classes[rows], y=classes[numbers])
    return weights


def _some(labels: NDArray[Any]) -> str:
    found = labels.tolist()
    return ", ".join(map(repr, found[:6])) + (", …" if len(found) > 6 else "")
