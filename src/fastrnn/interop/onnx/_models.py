"""How what is made of layers is written."""

from __future__ import annotations

from typing import Any

import fastrnn as fr
from fastrnn.interop.onnx._builder import Value
from fastrnn.interop.onnx._layers import refused, write, writes
from fastrnn.interop.onnx._writer import Writer
from fastrnn.models import LanguageModel, SequenceClassifier, SequenceRegressor


@writes(fr.Sequential)
def _sequential(w: Writer, model: Any, value: Value, place: str) -> Value:
    for name, layer in model.children.items():
        value = write(w, layer, value, f"{place}{name}.")
    return value


@writes(fr.Residual)
def _residual(w: Writer, model: Any, value: Value, place: str) -> Value:
    y = _sequential(w, model, value, place)
    if (y.timed, y.width) != (value.timed, value.width):
        raise refused(model, place, "expected layers whose output has the shape of their input")
    return Value(w.node("Add", value.name, y.name), y.timed, y.width)


@writes(fr.Parallel)
def _parallel(w: Writer, model: Any, value: Value, place: str) -> Value:
    parts = [write(w, layer, value, f"{place}{name}.") for name, layer in model.children.items()]
    names = [part.name for part in parts]
    if model.combine == "sum":
        return Value(w.node("Sum", *names), parts[0].timed, parts[0].width)
    return Value(w.joined(names, -1), parts[0].timed, sum(part.width or 0 for part in parts))


@writes(LanguageModel)
def _language_model(w: Writer, model: Any, value: Value, place: str) -> Value:
    for name in ("embedding", "rnn", "output"):
        value = write(w, getattr(model, name), value, f"{place}{name}.")
    return value


@writes(SequenceClassifier, SequenceRegressor)
def _sequence_model(w: Writer, model: Any, value: Value, place: str) -> Value:
    if model.takes_tokens:
        value = write(w, model.embedding, value, f"{place}embedding.")
    value = write(w, model.rnn, value, f"{place}rnn.")
    if model.pools:
        found = [write(w, pool, value, f"{place}pools.{k}.") for k, pool in enumerate(model.pools)]
        names = [part.name for part in found]
        pooled = names[0] if len(names) == 1 else w.joined(names, -1)
    else:  # the state at each row's end, of both directions
        pooled = w.node("Transpose", w.finals[f"{place}rnn."], perm=[1, 0, 2])
        pooled = w.node("Reshape", pooled, w.integers(0, -1))
    y = write(w, model.output, Value(pooled, False, model.output.in_features), f"{place}output.")
    if getattr(model, "num_outputs", 1) is None:
        return Value(w.node("Squeeze", y.name, w.integers(1)), False, None)
    return y
