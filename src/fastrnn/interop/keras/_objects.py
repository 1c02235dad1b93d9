"""Layers and models of Keras that are there as objects; Keras is never imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn.interop.keras import _write
from fastrnn.interop.keras._config import MODELS, Counter, chain, node_of
from fastrnn.interop.keras._read import as_model, build
from fastrnn.interop.keras._weights import listed, put_all
from fastrnn.nn import Layer


def _is_model(source: Any) -> bool:
    return hasattr(source, "layers") and type(source).__name__ in MODELS


def checked(source: Any) -> None:
    """Complain about what isn't Keras's."""
    home = type(source).__module__.partition(".")[0]
    if not all(callable(getattr(source, name, None)) for name in ("get_config", "get_weights", "set_weights")):
        raise TypeError(f"expected a file's name, or a layer or model of Keras, got {type(source).__name__}")
    if home not in ("keras", "tf_keras"):
        raise ValueError(f"{type(source).__name__}: a class of your own ({home}), which fastrnn doesn't know")


def load(source: Any, dtype: Any, ignore: tuple[str, ...]) -> Layer:
    """Our layer or model for one of Keras."""
    module = sys.modules.get(type(source).__module__.partition(".")[0])
    keras_2 = str(getattr(module, "__version__", "3")).startswith("2")
    spec = {"class_name": type(source).__name__, "config": source.get_config(), "module": "keras"}
    if not _is_model(source):
        node = node_of(spec, keras_2, dtype, ignore)
        return as_model(build([node], lambda _: source.get_weights()), True)
    weights = dict(_weights(source))
    nodes = list(chain(spec, lambda inner: node_of(inner, keras_2, dtype, ignore)))
    return as_model(build(nodes, lambda node: weights.get(node.path, ())), False)


def _weights(model: Any, path: str = "") -> Iterator[tuple[str, Sequence[Any]]]:
    """(where a file would have a layer's weights, the weights)."""
    count = Counter()
    for layer in model.layers:
        place = f"{path}layers/{count(type(layer).__name__)}"
        if _is_model(layer):
            yield from _weights(layer, f"{place}/")
        else:
            yield place, layer.get_weights()


def read_into(parts: Sequence[Any], source: Any) -> None:
    """Copy the weights of a layer or model of Keras."""
    given = [arrays for _, arrays in _weights(source) if arrays] if _is_model(source) else [source.get_weights()]
    if len(given) != len(parts):
        raise ValueError(f"has {len(given)} layers with weights, the model of fastrnn {len(parts)}")
    put_all(parts, given)


def set_weights(target: Any, layer: Layer) -> None:
    """Copy our weights into Keras's layer or model."""
    checked(target)
    arrays = [array for part in _write.parts(layer) for array in part.arrays()]
    if not target.built:
        target.build(_input_shape(layer))
    wanted, ours = [np.shape(array) for array in target.get_weights()], [array.shape for array in arrays]
    if wanted != ours:
        raise ValueError(
            f"{type(target).__name__} {target.name!r} has weights of shapes {listed(wanted)}; the "
            f"{type(layer).__name__} has {listed(ours)}"
        )
    target.set_weights(arrays)


def _input_shape(layer: Layer) -> Any:
    shape: Any = _write.config_of(_write.parts(layer), layer)["layers"][0]["config"]["batch_shape"]
    return tuple(shape)
