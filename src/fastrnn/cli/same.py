"""How far one model is from another: weights by name, and outputs on random input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastrnn.nn import Sequential

__all__ = ["Difference", "compared"]

STEPS, ROWS = 7, 3


class Difference(NamedTuple):
    """Largest differences, over the largest magnitude; None where nothing was compared.

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
        return _worst(value for value in self[:2] if value is not None)

    def __str__(self) -> str:
        known = {"weights": self.weights, "outputs": self.outputs}
        parts = [f"of {what} {value:.2g}" for what, value in known.items() if value is not None]
        told = f"; outputs not compared: {self.why}" if self.why else ""
        return f"largest difference {', '.join(parts)}{told}"


def compared(one: Any, other: Any, *, exact: bool) -> Difference:
    """Compare two models.

    Parameters
    ----------
    one, other : layer or model
    exact : bool
        Whether weights are to be the same. Otherwise outputs count, and weights only where these can't be compared, for
        other libraries may have one bias where we have two.

    Raises
    ------
    ValueError
        Nothing can be compared, or shapes differ.
    """
    given, why = _input(one)
    outputs = None
    if given is not None:
        try:
            outputs = _outputs(one, other, given)
        except (TypeError, NotImplementedError) as error:
            why = f"{type(other).__name__}: {error}"
    weights = _weights(one.params, other.params) if exact or outputs is None else None
    if weights is None and outputs is None:
        raise ValueError(f"its weights have other names, and its outputs can't be compared: {why}")
    return Difference(weights, outputs, "" if outputs is not None else why)


def _worst(distances: Iterable[float]) -> float:
    """The largest, or NaN, which Python's own `max` may pass over."""
    return float(np.max(list(distances), initial=0.0))


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
    return _worst(_distance(array, theirs[name], name) for name, array in ours.items())


def _outputs(one: Any, other: Any, given: list[Any]) -> float:
    """Of all outputs, or of y alone where models of other kinds have their states elsewhere."""
    turned = _batch_first(one) is not None and _batch_first(other) not in (None, _batch_first(one))
    ours = list(_flat(one(*given)))
    theirs = list(_flat(other(*(x.swapaxes(0, 1) if turned else x for x in given))))
    if type(one) is not type(other):
        ours, theirs = ours[:1], theirs[:1]
    if not theirs or len(ours) != len(theirs):
        raise ValueError(f"{len(theirs)} outputs instead of {len(ours)}")
    if turned and np.shape(theirs[0]) != np.shape(ours[0]):
        theirs[0] = theirs[0].swapaxes(0, 1)
    return _worst(_distance(a, b, f"output {k}") for k, (a, b) in enumerate(zip(ours, theirs)))


def _flat(value: Any) -> Iterator[Any]:
    """The arrays of outputs and states."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _batch_first(model: Any) -> bool | None:
    """Whether arrays are [B, T, F]; None where a model doesn't say."""
    return next((layer.batch_first for _, layer in model._walk() if hasattr(layer, "batch_first")), None)


def _input(model: Any) -> tuple[list[Any] | None, str]:
    """Random input for a model, or None and why there is none."""
    rng = np.random.default_rng(0)
    if ports := getattr(model, "inputs", None):
        return _of_ports(ports, rng)
    for name in ("vocab_size", "num_embeddings", "num_classes"):
        if isinstance(limit := getattr(_first(model), name, None), int):
            return [rng.integers(0, limit, (STEPS, ROWS))], ""
    for name in ("input_size", "in_features"):
        if isinstance(size := getattr(_first(model), name, None), int):
            dtype = getattr(_first(model), "dtype", np.dtype(np.float32))
            return [rng.standard_normal((STEPS, ROWS, size)).astype(dtype)], ""
    return None, f"nobody knows what a {type(model).__name__} takes"


def _first(model: Any) -> Any:
    """The layer that sees the input."""
    while isinstance(model, Sequential) and len(model):
        model = model[0]
    return model


def _of_ports(ports: list[Any], rng: np.random.Generator) -> tuple[list[Any] | None, str]:
    """Input of an ONNX graph. An axis of a name has one length everywhere; integers are 0 or 1, which any table has."""
    found: list[Any] = []
    sizes: dict[Any, int] = {}
    for port in ports:
        if port.optional:
            continue
        if port.shape is None:
            return None, f"{port.name} has no shape"
        shape = [side if isinstance(side, int) else sizes.setdefault(side, STEPS - len(sizes)) for side in port.shape]
        kind = np.dtype(port.dtype)
        values = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        found.append(values.astype(kind))
    return found, ""
