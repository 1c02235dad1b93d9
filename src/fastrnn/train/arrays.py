"""What optimisers and clipping see of a model: its parameters and gradients by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.nn._layer import Layer

__all__ = ["gradients", "named_arrays", "touched_rows"]


def named_arrays(model: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return name -> (parameter, gradient) of a model, or of a mapping that already is that.

    Raises
    ------
    TypeError
        It is neither. ``model.params`` alone has no gradients.
    """
    if not isinstance(model, type) and hasattr(model, "params") and hasattr(model, "grads"):
        grads = model.grads
        return {name: (param, grads[name]) for name, param in model.params.items()}
    if isinstance(model, Mapping) and all(map(_is_pair, model.values())):
        return dict(model)
    got = "" if isinstance(model, Mapping) else f", got {model!r:.80}"
    raise TypeError(
        "model: expected a layer, or name -> (parameter, gradient); pass the model itself, not model.params" + got
    )


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(array, np.ndarray) for array in value)
        and value[0].shape == value[1].shape
        and value[0].dtype == value[1].dtype
    )


def touched_rows(model: Any) -> dict[str, np.ndarray]:
    """Return parameter name -> rows in use, for the parameters with lazy rows."""
    return dict(getattr(model, "touched", None) or {})


def gradients(model: Any) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return every gradient with the rows in use of those with lazy rows, and None for the others."""
    touched = touched_rows(model)
    if isinstance(model, Layer):
        return [(g, touched.get(name)) for name, g in model.grads.items()]
    return [(g, touched.get(name)) for name, (_, g) in named_arrays(model).items()]
