"""From our layers to Keras's: the description of a model, and its files."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from fastrnn._info import __version__
from fastrnn.interop.keras import _activations
from fastrnn.interop.keras._config import Counter, Node
from fastrnn.interop.keras._files import _parts
from fastrnn.interop.keras._weights import RECURRENT, arrays_of
from fastrnn.nn import (
    GELU,
    GRU,
    LSTM,
    RNN,
    Dropout,
    Embedding,
    Ends,
    Last,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Masked,
    MaxPool,
    MeanPool,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    Softmax,
    Swish,
    Tanh,
)

_NAMED = {Tanh: "tanh", Sigmoid: "sigmoid", ReLU: "relu", Softmax: "softmax", GELU: "gelu"}
_KINDS = {LSTM: "LSTM", GRU: "GRU", RNN: "SimpleRNN"}
KNOWN = (
    *_KINDS,
    Linear,
    Embedding,
    LayerNorm,
    Dropout,
    *_NAMED,
    Swish,
    LeakyReLU,
    Last,
    Ends,
    Reverse,
    MeanPool,
    MaxPool,
)


@dataclass
class Part:
    """One layer of Keras: its description, and the weights of ours that it has."""

    kind: str
    config: dict[str, Any]
    layer: Layer | None = None
    number: int = 0  # of a layer in a stack
    name: str = ""

    @property
    def node(self) -> Node:
        """Where files have its weights."""
        return Node(self.kind, self.config, self.name, f"layers/{self.name}")

    def arrays(self) -> list[Any]:
        return [] if self.layer is None else arrays_of(self.layer, self.number)

    def spec(self) -> dict[str, Any]:
        config = {"name": self.name, **self.config}
        return {"module": "keras.layers", "class_name": self.kind, "config": config, "registered_name": None}


def members(model: Any) -> tuple[list[Layer], float | None]:
    """(the layers one after another, what padding is made of)."""
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or Sequential of fastrnn, got {type(model).__name__}")
    if not isinstance(model, Sequential):
        return [model], None
    found: list[Layer] = []
    for member in model:
        if isinstance(member, Masked):
            raise ValueError("Masked inside a Sequential: expected it outermost, for Keras to make the mask")
        found += members(member)[0]
    return found, model.mask_value if isinstance(model, Masked) else None


def parts(model: Any) -> list[Part]:
    """Keras's layers for a model.

    Raises
    ------
    ValueError
        A layer, or an option, that Keras hasn't; the message names it.
    """
    layers, mask = members(model)
    seen: set[int] = set()
    for layer in layers:
        if not isinstance(layer, KNOWN) or type(layer).__module__.partition(".")[0] != "fastrnn":
            known = ", ".join(kind.__name__ for kind in KNOWN)
            raise ValueError(f"{type(layer).__name__}: no layer of Keras does that; written are {known}")
        if layer.num_params and id(layer) in seen:
            raise ValueError(f"{type(layer).__name__}: stands twice in the model, which Keras's Sequential can't say")
        seen.add(id(layer))
    found = list(_parts_of(layers))
    if mask is not None:
        if found[0].kind == "Embedding" and mask == 0:
            found[0].config["mask_zero"] = True
        else:
            found.insert(0, Part("Masking", {"mask_value": mask, "dtype": _dtype(layers)}))
    count = Counter()
    for part in found:
        part.name = count(part.kind)
    return found


def _dtype(layers: list[Layer]) -> str:
    return next((layer.dtype.name for layer in layers if layer.dtype is not None), "float32")


def _parts_of(layers: list[Layer]) -> Iterator[Part]:
    dtype, k = _dtype(layers), 0
    while k < len(layers):
        layer: Any = layers[k]
        backwards = False
        after = layers[k + 1] if k + 1 < len(layers) else None
        if isinstance(layer, Reverse):
            if not isinstance(after, RECURRENT):
                raise ValueError(
                    "Reverse: Keras has it as go_backwards=True of a recurrent layer, which doesn't follow"
                )
            k, layer, backwards = k + 1, after, True
            after = layers[k + 1] if k + 1 < len(layers) else None
        if isinstance(layer, RECURRENT):
            last = isinstance(after, Last | Ends)
            yield from _recurrent(layer, backwards, after if last else None)
            k += 2 if last else 1
            continue
        if isinstance(layer, Last | Ends):
            raise ValueError(
                f"{type(layer).__name__}: Keras has it as return_sequences=False of a recurrent layer only"
            )
        yield _other(layer, dtype)
        k += 1


def _recurrent(layer: Any, backwards: bool, end: Layer | None) -> Iterator[Part]:
    """One layer of Keras for each of a stack, with dropout between them."""
    name, variant = type(layer).__name__, layer.variant
    for option in ("peephole", "coupled", "clip", "layer_norm", "weight_dropout"):
        if getattr(variant, option):
            raise ValueError(f"{name}: {option}={getattr(variant, option)!r}: Keras's layers haven't got it")
    if any(variant.zoneout) or layer.proj_size:
        raise ValueError(f"{name}: {'proj_size' if layer.proj_size else 'zoneout'}: Keras's layers haven't got it")
    if layer.bidirectional and isinstance(end, Last):
        raise ValueError(
            "Last after a bidirectional layer: its reverse half has seen one step there; Keras returns what fr.nn.Ends "
            "does"
        )
    if isinstance(end, Ends) and not layer.bidirectional:
        raise ValueError("Ends: expected after a bidirectional layer")
    if backwards and (layer.bidirectional or layer.num_layers > 1):
        raise ValueError(f"Reverse before {name}: expected one layer in one direction, for Keras's go_backwards")
    kind, options = _KINDS[type(layer)], {"dtype": layer.dtype.name, "return_sequences": True}
    options |= {"units": layer.hidden_size, "use_bias": layer.bias, **_functions(layer)}
    options |= {"dropout": variant.input_dropout, "recurrent_dropout": variant.recurrent_dropout}
    if isinstance(layer, GRU):
        options["reset_after"] = layer.reset_after
    if backwards:
        options["go_backwards"] = True
    for number in range(layer.num_layers):
        if number and layer.dropout:
            yield Part("Dropout", {"rate": layer.dropout, "dtype": layer.dtype.name})
        top = number == layer.num_layers - 1
        config = {**options, "return_sequences": not (top and end is not None)}
        if layer.bidirectional:
            twins = [
                Part(kind, {**config, "go_backwards": back}, name=f"{word}_{kind.lower()}").spec()
                for word, back in (("forward", False), ("backward", True))
            ]
            wrapped = {"dtype": layer.dtype.name, "merge_mode": "concat", "layer": twins[0], "backward_layer": twins[1]}
            yield Part("Bidirectional", wrapped, layer, number)
        else:
            yield Part(kind, config, layer, number)


def _functions(layer: Any) -> dict[str, str]:
    """Keras's names of a cell's activations."""
    name, variant = type(layer).__name__, layer.variant
    plain = variant.activations is None
    usual = (layer.nonlinearity,) if isinstance(layer, RNN) else variant.usual
    chosen = [(one, 0.01, 0.0) for one in usual] if plain else variant.activations
    names = [_activations.keras_name(one, f"{name}: activations") for one in chosen]
    if isinstance(layer, RNN):
        return {"activation": names[0]}
    if isinstance(layer, LSTM) and names[1] != names[2]:
        raise ValueError(f"{name}: activations: Keras has one for g and c, got {names[1]!r} and {names[2]!r}")
    return {"recurrent_activation": names[0], "activation": names[1]}


def _other(layer: Any, dtype: str) -> Part:
    """A layer that isn't recurrent."""
    if isinstance(layer, Linear):
        return Part("Dense", {"units": layer.out_features, "use_bias": layer.bias, "dtype": layer.dtype.name}, layer)
    if isinstance(layer, Embedding):
        sizes = {"input_dim": layer.num_embeddings, "output_dim": layer.embedding_dim, "dtype": layer.dtype.name}
        return Part("Embedding", sizes, layer)
    if isinstance(layer, LayerNorm):
        return Part("LayerNormalization", {"axis": -1, "epsilon": layer.eps, "dtype": layer.dtype.name}, layer)
    if isinstance(layer, Dropout):
        return Part("Dropout", {"rate": layer.p, "dtype": dtype})
    if isinstance(layer, LeakyReLU):
        return Part("LeakyReLU", {"negative_slope": layer.negative_slope, "dtype": dtype})
    if isinstance(layer, MeanPool | MaxPool):
        kind = "GlobalAveragePooling1D" if isinstance(layer, MeanPool) else "GlobalMaxPooling1D"
        return Part(kind, {"dtype": dtype})
    if isinstance(layer, Swish):
        if layer.beta != 1:
            raise ValueError(f"Swish: beta={layer.beta!r}: Keras's silu has 1")
        return Part("Activation", {"activation": "silu", "dtype": dtype})
    return Part("Activation", {"activation": _NAMED[type(layer)], "dtype": dtype})


def config_of(found: list[Part], model: Layer) -> dict[str, Any]:
    """A Keras Sequential's description."""
    layers = members(model)[0]
    entry = next((layer for layer in layers if layer.num_params), None)
    if entry is None:
        raise ValueError(f"model: expected a layer with parameters, which say the size of the input, got {model!r:.80}")
    dtype = _dtype(layers)
    timed = any(layer.is_recurrent or layer.takes_lengths for layer in layers)
    if isinstance(entry, Embedding):
        shape, dtype = [None, None], "int32"
    else:
        size: Any = getattr(entry, "input_size", None) or getattr(entry, "in_features", None)
        shape = [None, *([None] if timed else []), size or getattr(entry, "normalized_shape", None)]
    first = Part("InputLayer", {"batch_shape": shape, "dtype": dtype}, name="input_layer").spec()
    return {"name": "sequential", "layers": [first, *(part.spec() for part in found)]}


def write_h5(found: list[Part]) -> bytes:
    """A `.weights.h5` file."""
    data = io.BytesIO()
    with h5py.File(data, "w") as h5:
        for part in found:
            arrays, places = part.arrays(), _parts(part.node)
            count = len(arrays) // len(places)
            for k, place in enumerate(places):
                group = h5.create_group(f"layers/{part.name}/{place}vars")
                for number, array in enumerate(arrays[k * count : (k + 1) * count]):
                    group[str(number)] = array
    return data.getvalue()


def write_archive(found: list[Part], model: Layer) -> bytes:
    """A `.keras` file."""
    spec = {"module": "keras", "class_name": "Sequential", "config": config_of(found, model), "registered_name": None}
    metadata = {"keras_version": "3.0.0", "written_by": f"fastrnn {__version__}"}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in (
            ("metadata.json", json.dumps(metadata)),
            ("config.json", json.dumps(spec)),
            ("model.weights.h5", write_h5(found)),
        ):
            # a fixed date: equal models make equal files
            archive.writestr(zipfile.ZipInfo(name), content)
    return data.getvalue()


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a file's name asks for."""
    name = os.fspath(path)
    for ending in (".keras", ".weights.h5"):
        if name.endswith(ending):
            return ending
    raise ValueError(f"file: expected a name that ends in .keras or .weights.h5, got {name!r}")
