"""Weights in Keras's order and layout, and in ours.

Keras multiplies from the left, `x @ kernel`, so matrices are transposed. Its gates are i f c o in the LSTM, as ours
(c is our g), and z r h in the GRU, ours r z n. It has one bias, where ours is bias_ih and bias_hh is zero, but for the
GRU with reset_after: [2, 3·H], both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.functional import reorder_gates
from fastrnn.nn import GRU, LSTM, RNN, Embedding, Layer, LayerNorm, Linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDERS = {LSTM: ("ifgo", "ifgo"), GRU: ("rzn", "zrn"), RNN: ("h", "h")}  # ours, Keras's
RECURRENT = tuple(ORDERS)
Shape = tuple[int, ...]


def shapes_of(layer: Any, number: int = 0) -> list[Shape]:
    """Shapes of the arrays that Keras has for a layer of a stack (or for a layer without stacks)."""
    return [array.shape for array in arrays_of(layer, number)]


def arrays_of(layer: Any, number: int = 0) -> list[NDArray[Any]]:
    """A layer's weights as `keras_layer.get_weights()` orders them."""
    params = layer.params
    if isinstance(layer, RECURRENT):
        return [a for suffix in _suffixes(layer, number) for a in _recurrent_arrays(layer, suffix)]
    if isinstance(layer, Linear):
        return [params["weight"].T.copy(), *([params["bias"].copy()] if layer.bias else [])]
    if isinstance(layer, LayerNorm):
        return [params["weight"].copy(), params["bias"].copy()]
    if isinstance(layer, Embedding):
        return [params["weight"].copy()]
    return []


def checked(layer: Layer, number: int, arrays: Sequence[Any], where: str) -> list[NDArray[Any]]:
    """Arrays that fit a layer; `where` names them in errors."""
    given, wanted = [np.asarray(a) for a in arrays], shapes_of(layer, number)
    if [a.shape for a in given] != wanted:
        raise ValueError(f"{where}: expected weights of shapes {listed(wanted)}, got {listed(a.shape for a in given)}")
    if any(a.dtype.kind != "f" for a in given):
        raise ValueError(f"{where}: expected floats, got {', '.join(str(a.dtype) for a in given)}")
    return given


def put_all(parts: Sequence[Any], arrays: Sequence[Sequence[Any]]) -> None:
    """Copy each part's arrays into its layer: all of them or none."""
    fitting = [checked(part.layer, part.number, given, part.name) for part, given in zip(parts, arrays, strict=True)]
    for part, given in zip(parts, fitting, strict=True):
        put_arrays(part.layer, part.number, given, part.name)


def put_arrays(layer: Layer, number: int, arrays: Sequence[Any], where: str) -> None:
    """Copy arrays in Keras's order into a layer's parameters."""
    given = checked(layer, number, arrays, where)
    params = layer.params
    if isinstance(layer, RECURRENT):
        suffixes = _suffixes(layer, number)
        count = len(given) // len(suffixes)
        for k, suffix in enumerate(suffixes):
            _put_recurrent(layer, suffix, given[k * count : (k + 1) * count])
    elif isinstance(layer, Linear):
        params["weight"] = given[0].T
        if layer.bias:
            params["bias"] = given[1]
    else:
        for name, array in zip(params, given, strict=True):
            params[name] = array


def listed(shapes: Any) -> str:
    return ", ".join(map(str, shapes)) or "none"


def _suffixes(layer: Any, number: int) -> list[str]:
    return [f"_l{number}", f"_l{number}_reverse"] if layer.bidirectional else [f"_l{number}"]


def _orders(layer: Any) -> tuple[str, str]:
    return next(order for kind, order in ORDERS.items() if isinstance(layer, kind))


def _two_biases(layer: Any) -> bool:
    return isinstance(layer, GRU) and layer.reset_after


def _recurrent_arrays(layer: Any, suffix: str) -> list[NDArray[Any]]:
    ours, theirs = _orders(layer)
    W, R = (reorder_gates(layer.params[f"weight_{part}{suffix}"], ours, theirs).T.copy() for part in ("ih", "hh"))
    if not layer.bias:
        return [W, R]
    biases = [reorder_gates(layer.params[f"bias_{part}{suffix}"], ours, theirs) for part in ("ih", "hh")]
    return [W, R, np.stack(biases) if _two_biases(layer) else biases[0] + biases[1]]


def _put_recurrent(layer: Any, suffix: str, arrays: Sequence[NDArray[Any]]) -> None:
    ours, theirs = _orders(layer)
    params = layer.params
    for part, array in zip(("ih", "hh"), arrays, strict=False):
        params[f"weight_{part}{suffix}"] = reorder_gates(array.T, theirs, ours)
    if layer.bias:
        biases = arrays[2] if _two_biases(layer) else (arrays[2], np.zeros_like(arrays[2]))
        for part, bias in zip(("ih", "hh"), biases, strict=True):
            params[f"bias_{part}{suffix}"] = reorder_gates(bias, theirs, ours)
