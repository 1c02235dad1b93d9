"""How far one model is from another: weights by name, and outputs on random input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastrnn.nn import Sequential

__all__ = ["Difference", "compared"]

STEPS, ROWS = 7, 3


class Difference(NamedTuple):
    """Largest differences, over the largest magnitude; None where nothing could be compared.

    Examples
    --------
    >>> print(Difference(0.0, 2.5e-7))
    largest difference of weights 0, of outputs 2.5e-07
    """

    weights: float | None
    outputs: float | None
    why: str = ""  # outputs weren't compared

    @property
    def largest(self) -> float:
        """Of both."""
        return float(np.max([value for value in self[:2] if value is not None]))

    def __str__(self) -> str:
        parts = [f"of {what} {value:.2g}" for what, value in (("weights", self.weights), ("outputs", self.outputs))
                 if value is not None]  # fmt: skip
        told = f"; outputs not compared: {self.why}" if self.why else ""
        return f"largest difference {', '.join(parts)}{told}"


def compared(one: Any, other: Any) -> Difference:
    """Compare two models.

    Raises
    ------
    ValueError
        Nothing can be compared, or shapes differ.
    """
    weights = _weights(one.params, other.params)
    x, why = _input(one)
    outputs = None
    if x is not None:
        try:
            outputs = _outputs(one, other, x)
        except (TypeError, NotImplementedError) as error:
            why = f"{type(other).__name__}: {error}"
    if weights is None and outputs is None:
        raise ValueError(f"its weights have other names, and outputs can't be compared: {why}")
    return Difference(weights, outputs, "" if outputs is not None else why)


def _distance(a: Any, b: Any, what: str) -> float:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"{what}: shape {b.shape} instead of {a.shape}")
    if not a.size:
        return 0.0
    wide = np.promote_types(np.promote_types(a.dtype, b.dtype), np.float64)
    a, b = a.astype(wide), b.astype(wide)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    return float(np.max(gap)) / (scale or 1.0)


def _weights(ours: Any, theirs: Any) -> float | None:
    """Of all weights; None where they have other names, as in ONNX."""
    if set(ours) != set(theirs):
        return None
    return max((_distance(array, theirs[name], name) for name, array in ours.items()), default=0.0)


def _outputs(one: Any, other: Any, x: Any) -> float:
    ours, theirs = list(_flat(one(x))), list(_flat(other(x)))
    if len(ours) != len(theirs):
        raise ValueError(f"{len(theirs)} outputs instead of {len(ours)}")
    return max(_distance(a, b, f"output {k}") for k, (a, b) in enumerate(zip(ours, theirs)))


def _flat(value: Any) -> Iterator[Any]:
    """The arrays of outputs and states."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _input(model: Any) -> tuple[Any, str]:
    """Random input for a model, or None and why there is none."""
    first = model
    while isinstance(first, Sequential) and len(first):
        first = first[0]
    rng = np.random.default_rng(0)
    for name in ("vocab_size", "num_embeddings", "num_classes"):
        if isinstance(limit := getattr(first, name, None), int):
            return rng.integers(0, limit, (STEPS, ROWS)), ""
    for name in ("input_size", "in_features"):
        if isinstance(size := getattr(first, name, None), int):
            dtype = getattr(first, "dtype", np.dtype(np.float32))
            return rng.standard_normal((STEPS, ROWS, size)).astype(dtype), ""
    return None, f"no input is known for a {type(model).__name__}"
