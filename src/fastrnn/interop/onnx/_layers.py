"""How each of fastrnn's layers is written as nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn.functional import reorder_gates
from fastrnn.interop.graph._recurrent import HOLES, ORDERS, TAKES, USUAL
from fastrnn.interop.onnx._builder import Value
from fastrnn.interop.onnx._writer import Writer

Write = Callable[[Writer, Any, Value, str], Value]  # writer, layer, what comes in, the layer's place ("0.1.")
WRITERS: dict[type[Any], Write] = {}


def writes(*layers: type[Any]) -> Callable[[Write], Write]:
    """Enter a function in the table."""

    def enter(function: Write) -> Write:
        WRITERS.update(dict.fromkeys(layers, function))
        return function

    return enter


def write(w: Writer, layer: Any, value: Value, place: str) -> Value:
    """The nodes of a layer.

    Raises
    ------
    ValueError
        It can't be written; the message names it and its place.
    """
    base = next((base for base in type(layer).__mro__ if base in WRITERS), None)
    if base is None or type(layer).__call__ is not base.__call__ or _forward(layer) is not _forward(base):
        known = ", ".join(sorted(kind.__name__ for kind in WRITERS))
        raise refused(layer, place, f"it can't be written as ONNX; these can: {known}")
    return WRITERS[base](w, layer, value, place)


def _forward(layer: Any) -> Any:
    return getattr(layer if isinstance(layer, type) else type(layer), "forward", None)


def refused(layer: Any, place: str, why: str) -> ValueError:
    where = f" at {place.rstrip('.')!r}" if place else ""
    return ValueError(f"{type(layer).__name__}{where}: {why}")


# ---- recurrent layers


@writes(fr.RNN, fr.GRU, fr.LSTM)
def _recurrent(w: Writer, layer: Any, value: Value, place: str) -> Value:
    """A node for each layer of the stack."""
    for name in ("layer_norm", "zoneout"):
        if np.any(getattr(layer.variant, name)):
            raise refused(layer, place, f"ONNX's {_op(layer)} has no {name}")
    if layer.proj_size:
        raise refused(layer, place, f"ONNX's LSTM has no projection, proj_size={layer.proj_size}")
    if layer.batch_first != w.batch_first:
        raise refused(layer, place, "expected the same batch_first in all layers")
    if not value.timed:
        raise refused(layer, place, "expected after layers that keep the axis of time")
    x = value.name
    if w.batch_first:
        x = w.node("Transpose", x, perm=[1, 0, 2])
    lengths = w.lengths()
    steps = w.once("Cast", lengths, to=6) if lengths else ""
    D, H, states = layer._directions, layer.hidden_size, ("h", "c")[: layer.num_states]
    initial = {name: w.initial(place, name, layer.num_layers, D, H) for name in states}
    finals: dict[str, list[str]] = {name: [] for name in states}
    for k in range(layer.num_layers):
        W, R, B, P = (
            "" if array is None else w.weight(f"{place}{name}_l{k}", array)
            for name, array in zip(("W", "R", "B", "P"), _arrays(layer, k), strict=True)
        )
        given = [x, W, R, B, steps, *(initial[name][k] for name in states)]
        outputs = w.node(
            _op(layer), *given, *([P] if len(states) > 1 else []), outputs=1 + len(states), **_attributes(layer)
        )
        y, *ends = outputs
        for name, end in zip(states, ends, strict=True):
            finals[name].append(_kept(w, end, initial[name][k], lengths))
        if D == 1:
            x = w.node("Squeeze", y, w.integers(1))
        else:  # [T, D, B, H] → [T, B, D·H]
            x = w.node("Reshape", w.node("Transpose", y, perm=[0, 2, 1, 3]), w.integers(0, 0, -1))
    w.finals[place] = finals["h"][-1]
    for name in states:
        w.final(place, name, finals[name], D * layer.num_layers, H)
    return Value(w.node("Transpose", x, perm=[1, 0, 2]) if w.batch_first else x, True, D * H)


def _op(layer: Any) -> str:
    return next(kind.__name__ for kind in (fr.RNN, fr.GRU, fr.LSTM) if isinstance(layer, kind))


def _kept(w: Writer, end: str, initial: str, lengths: str) -> str:
    """A row without steps keeps its state; ONNX doesn't say so, and ONNX Runtime gives zeros."""
    if not (initial and lengths):
        return end
    none = w.once("Unsqueeze", w.once("Equal", lengths, w.constant(0, np.int64)), w.integers(0, 2))
    found: str = w.node("Where", none, initial, end)
    return found


def _arrays(layer: Any, k: int) -> list[Any]:
    """W, R, B and P of one layer of a stack, its directions stacked; None for what it doesn't have."""
    ours, theirs = ORDERS[_op(layer)][::-1]
    params, hidden, coupled = layer.params, layer.hidden_size, layer.variant.coupled
    suffixes = [f"_l{k}", f"_l{k}_reverse"][: layer._directions]

    def whole(a: Any, order: tuple[str, str]) -> Any:
        if coupled:  # ONNX's weights have a forget gate, which is not used
            a = np.insert(a, [hidden] * hidden, 0, axis=0)
        return reorder_gates(a, *order)

    def both(name: str, order: tuple[str, str]) -> Any:
        return np.stack([whole(params[name + suffix], order) for suffix in suffixes])

    order = (ours, theirs)
    B = np.concatenate([both("bias_ih", order), both("bias_hh", order)], axis=1) if layer.bias else None
    P = both("peephole", HOLES[::-1]) if layer.variant.peephole else None
    return [both("weight_ih", order), both("weight_hh", order), B, P]


def _attributes(layer: Any) -> dict[str, Any]:
    op, variant, D = _op(layer), layer.variant, layer._directions
    found: dict[str, Any] = {
        "hidden_size": layer.hidden_size,
        "direction": "bidirectional" if layer.bidirectional else "forward",
    }
    chosen = [(name, 0.0, 0.0) for name in USUAL[op]]
    if op == "RNN":
        chosen = [(layer.nonlinearity.capitalize(), 0.0, 0.0)]
    if variant.activations:
        chosen = [_activation(*one) for one in variant.activations]
    if [name for name, _, _ in chosen] != USUAL[op]:
        found["activations"] = [name for name, _, _ in chosen] * D
        for letter, key, at in (("a", "activation_alpha", 1), ("b", "activation_beta", 2)):
            numbers = [one[at] for one in chosen if letter in TAKES.get(one[0].lower(), "")]
            if numbers:
                found[key] = numbers * D
    if variant.clip is not None:
        found["clip"] = variant.clip
    if variant.coupled:
        found["input_forget"] = 1
    if op == "GRU":
        found["linear_before_reset"] = int(layer.reset_after)
    return found


def _activation(name: str, alpha: float, beta: float) -> tuple[str, float, float]:
    """ONNX's name; it has no identity, but an affine map that is one."""
    if name == "identity":
        return "Affine", 1.0, 0.0
    return "".join(part.capitalize() for part in name.split("_")), alpha, beta


# ---- layers of each step


@writes(fr.Embedding)
def _embedding(w: Writer, layer: Any, value: Value, place: str) -> Value:
    if value.width is not None:
        raise refused(layer, place, "expected first, where integers come in")
    table = w.weight(f"{place}weight", layer.params["weight"])
    return Value(w.node("Gather", table, value.name), value.timed, layer.embedding_dim)


@writes(fr.OneHot)
def _one_hot(w: Writer, layer: Any, value: Value, place: str) -> Value:
    if value.width is not None:
        raise refused(layer, place, "expected first, where integers come in")
    depth, ends = w.constant(layer.num_classes, np.int64), w.constant([0, 1])
    return Value(w.node("OneHot", value.name, depth, ends, axis=-1), value.timed, layer.num_classes)


@writes(fr.Linear)
def _linear(w: Writer, layer: Any, value: Value, place: str) -> Value:
    y = w.node("MatMul", value.name, w.weight(f"{place}weight", layer.params["weight"].T))
    if layer.bias:
        y = w.node("Add", y, w.weight(f"{place}bias", layer.params["bias"]))
    return Value(y, value.timed, layer.out_features)


@writes(fr.LayerNorm)
def _layer_norm(w: Writer, layer: Any, value: Value, place: str) -> Value:
    scale, bias = (w.weight(f"{place}{name}", layer.params[name]) for name in ("weight", "bias"))
    x = value.name
    if w.opset >= 17:
        return replace(value, name=w.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=layer.eps))
    rest = w.node("Sub", x, w.reduce("ReduceMean", x, -1, True))
    variance = w.reduce("ReduceMean", w.node("Mul", rest, rest), -1, True)
    normal = w.node("Div", rest, w.node("Sqrt", w.node("Add", variance, w.constant(layer.eps))))
    return replace(value, name=w.node("Add", w.node("Mul", normal, scale), bias))


@writes(fr.Dropout)
def _dropout(w: Writer, layer: Any, value: Value, place: str) -> Value:
    return value


@writes(fr.Sigmoid, fr.Tanh, fr.ReLU)
def _function(w: Writer, layer: Any, value: Value, place: str) -> Value:
    kind = next(kind for kind in (fr.Sigmoid, fr.Tanh, fr.ReLU) if isinstance(layer, kind))
    return replace(value, name=w.node(kind.__name__.capitalize(), value.name))


@writes(fr.LeakyReLU)
def _leaky_relu(w: Writer, layer: Any, value: Value, place: str) -> Value:
    return replace(value, name=w.node("LeakyRelu", value.name, alpha=layer.negative_slope))


@writes(fr.Swish)
def _swish(w: Writer, layer: Any, value: Value, place: str) -> Value:
    gate = w.node("Sigmoid", w.node("Mul", value.name, w.constant(layer.beta)))
    return replace(value, name=w.node("Mul", value.name, gate))


@writes(fr.GELU)
def _gelu(w: Writer, layer: Any, value: Value, place: str) -> Value:
    if w.opset >= 20:
        return replace(value, name=w.node("Gelu", value.name))
    share = w.node("Add", w.node("Erf", w.node("Mul", value.name, w.constant(0.5**0.5))), w.constant(1.0))
    return replace(value, name=w.node("Mul", w.node("Mul", value.name, w.constant(0.5)), share))


@writes(fr.Softmax)
def _softmax(w: Writer, layer: Any, value: Value, place: str) -> Value:
    return replace(value, name=w.node("Softmax", value.name, axis=-1))


# ---- over time


def _pooled(w: Writer, layer: Any, value: Value, place: str) -> None:
    if not value.timed:
        raise refused(layer, place, "expected after layers that keep the axis of time")
    if layer.batch_first != w.batch_first:
        raise refused(layer, place, "expected the same batch_first in all layers")


def _none_are_zero(w: Writer, y: str) -> str:
    """Rows without steps are zeros."""
    some = w.once("Unsqueeze", w.once("Greater", w.lengths(), w.constant(0, np.int64)), w.integers(1))
    found: str = w.node("Where", some, y, w.constant(0.0))
    return found


@writes(fr.Last)
def _last(w: Writer, layer: Any, value: Value, place: str) -> Value:
    _pooled(w, layer, value, place)
    x, axis = value.name, w.time_axis
    if not w.has_lengths:
        return Value(w.node("Gather", x, w.constant(-1, np.int64), axis=axis), False, value.width)
    last = w.node("Max", w.node("Sub", w.lengths(), w.integers(1)), w.integers(0))
    zero, one = w.constant(0, np.int64), w.constant(1, np.int64)
    row = w.once("Range", zero, w.once("Squeeze", w.rows(), w.integers(0)), one)
    pairs = [w.node("Unsqueeze", part, w.integers(1)) for part in ((row, last) if w.batch_first else (last, row))]
    return Value(_none_are_zero(w, w.node("GatherND", x, w.joined(pairs, 1))), False, value.width)


@writes(fr.MeanPool)
def _mean_pool(w: Writer, layer: Any, value: Value, place: str) -> Value:
    _pooled(w, layer, value, place)
    x = value.name
    if not w.has_lengths:
        return Value(w.reduce("ReduceMean", x, w.time_axis), False, value.width)
    total = w.reduce("ReduceSum", w.node("Where", w.before_end(), x, w.constant(0.0)), w.time_axis)
    count = w.node("Cast", w.node("Max", w.lengths(), w.integers(1)), to=_code(w))
    return Value(w.node("Div", total, w.node("Unsqueeze", count, w.integers(1))), False, value.width)


@writes(fr.MaxPool)
def _max_pool(w: Writer, layer: Any, value: Value, place: str) -> Value:
    _pooled(w, layer, value, place)
    x = value.name
    if not w.has_lengths:
        return Value(w.reduce("ReduceMax", x, w.time_axis), False, value.width)
    inside = w.node("Where", w.before_end(), x, w.constant(-np.inf))
    return Value(_none_are_zero(w, w.reduce("ReduceMax", inside, w.time_axis)), False, value.width)


def _code(w: Writer) -> int:
    return 1 if w.dtype == np.float32 else 11
