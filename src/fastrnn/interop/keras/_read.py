"""From Keras's layers to ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.interop.keras import _activations
from fastrnn.interop.keras._config import Node
from fastrnn.interop.keras._weights import put_arrays
from fastrnn.nn import (
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
    Softmax,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Sequence["NDArray[Any]"]
CELLS = ("SimpleRNN", "LSTM", "GRU")


def build(nodes: Iterable[Node], arrays_of: Callable[[Node], Arrays]) -> list[Layer]:
    """Layers of ours for those of Keras, with their weights.

    Parameters
    ----------
    nodes : iterable of Node
    arrays_of : callable
        Gives a layer's weights, as `get_weights()` orders them.
    """
    layers: list[Layer] = []
    mask: float | None = None
    rank = 0
    for node in nodes:
        rank = rank or len(node.config.get("batch_shape") or node.config.get("batch_input_shape") or ())
        if node.kind == "InputLayer":  # a model inside the model has one, too
            continue
        node.rank = rank
        if node.kind == "Masking" or (node.kind == "Embedding" and node.config.get("mask_zero")):
            if layers:
                raise ValueError(
                    f"{node.where}: a mask is read from the model's input, so this must be its first layer"
                )
            mask = float(node.option("mask_value", 0.0)) if node.kind == "Masking" else 0.0
        elif node.masked and mask is None:
            raise ValueError(
                f"{node.where}: called with a mask that neither Embedding(mask_zero=True) nor Masking makes"
            )
        if node.kind == "GlobalMaxPooling1D" and mask is not None:
            raise ValueError(f"{node.where}: in Keras it takes no notice of the mask, fr.MaxPool would")
        made = _made(node, arrays_of(node))
        if rank:
            rank += (node.kind == "Embedding") - any(layer.removes_time for layer in made)
        layers += made
        node.done()
    if mask is not None and any(layer.takes_lengths for layer in layers):
        return [Masked(*layers, mask_value=mask)]
    return layers


def _made(node: Node, arrays: Arrays) -> list[Layer]:
    if node.kind == "TimeDistributed":
        inner = node.inner("layer")
        if inner.kind not in ("Dense", "Activation", "LayerNormalization", "Softmax", "ReLU", "LeakyReLU"):
            raise ValueError(f"{node.where}: of {inner.kind}: expected a layer that works on the last axis, as Dense")
        layers = _made(inner, arrays)
        inner.done()
        return layers
    if node.kind == "Bidirectional":
        return _bidirectional(node, arrays)
    if node.kind in CELLS:
        return _recurrent(node, arrays)
    make = _MAKERS.get(node.kind)
    if make is None:
        known = ", ".join(("InputLayer", "Masking", "Bidirectional", "TimeDistributed", *CELLS, *_MAKERS))
        raise ValueError(f"{node.where}: fastrnn has no such layer; it reads {known}")
    return make(node, arrays)


def _first_shape(node: Node, arrays: Arrays, axes: int) -> tuple[int, ...]:
    if not arrays or np.ndim(arrays[0]) != axes or 0 in np.shape(arrays[0]):
        found = np.shape(arrays[0]) if len(arrays) else "none"
        raise ValueError(f"{node.where}: expected weights, the first of {axes} axes, got {found} (a layer not built?)")
    return tuple(np.shape(arrays[0]))


# ---- recurrent layers


def _cell(node: Node, inputs: int, reset_after: Any, bidirectional: bool) -> Layer:
    """The layer, without its weights."""
    hidden, dtype = node.size("units"), node.float_type()
    options: dict[str, Any] = {
        "bias": node.flag("use_bias", True),
        "batch_first": True,
        "bidirectional": bidirectional,
        "input_dropout": node.rate("dropout"),
        "recurrent_dropout": node.rate("recurrent_dropout"),
        "dtype": dtype,
        "seed": 0,
    }
    node.refuse("stateful", False, "fastrnn's layers keep no state between calls but take and return it, y, state = "
                "model(x, state); load(…, ignore=['stateful']) reads the layer as such")  # fmt: skip
    node.refuse("time_major", False, "expected sequences [B, T, F]")
    node.flag("return_state", False)  # ours return it always
    activation = _activations.in_cell(node.option("activation", "tanh"), f"{node.where}: activation", node.keras_2)
    usual = "hard_sigmoid" if node.keras_2 and "recurrent_activation" not in node.config else "sigmoid"
    if node.kind == "SimpleRNN":
        if activation[0] in ("tanh", "relu", "sigmoid"):
            return RNN(inputs, hidden, nonlinearity=activation[0], **options)
        return RNN(inputs, hidden, activations=(activation,), **options)
    value = node.option("recurrent_activation", usual)
    gates = _activations.in_cell(value, f"{node.where}: recurrent_activation", node.keras_2)
    chosen = (gates, activation, activation) if node.kind == "LSTM" else (gates, activation)
    if [name for name, _, _ in chosen] != ["sigmoid", "tanh", "tanh"][: len(chosen)]:
        options["activations"] = chosen
    if node.kind == "LSTM":
        return LSTM(inputs, hidden, **options)
    given = node.option("reset_after", reset_after)
    if not isinstance(given, bool):
        raise ValueError(f"{node.where}: reset_after: expected true or false, got {given!r:.60}")
    return GRU(inputs, hidden, reset_after=given, **options)


def _reset_after(arrays: Arrays) -> bool:
    """What the bias says, where a config doesn't (files of Keras 2.1)."""
    return len(arrays) > 2 and np.ndim(arrays[2]) == 2


def _recurrent(node: Node, arrays: Arrays) -> list[Layer]:
    layer = _cell(node, _first_shape(node, arrays, 2)[0], _reset_after(arrays), False)
    put_arrays(layer, 0, arrays, node.where)
    layers: list[Layer] = [Reverse(batch_first=True)] if node.flag("go_backwards", False) else []
    layers.append(layer)
    return layers if node.flag("return_sequences", False) else [*layers, Last(batch_first=True)]


def _bidirectional(node: Node, arrays: Arrays) -> list[Layer]:
    inner = node.inner("layer")
    if inner.kind not in CELLS:
        raise ValueError(f"{node.where}: of {inner.kind}: expected one of {', '.join(CELLS)}")
    mode = node.option("merge_mode", "concat")
    if mode != "concat":
        raise ValueError(f"{node.where}: merge_mode={mode!r}: fastrnn's layers put directions side by side, 'concat'")
    if inner.flag("go_backwards", False):
        raise ValueError(
            f"{node.where}: go_backwards=True: expected a layer that reads forwards, and its backward twin"
        )
    back = node.option("backward_layer")
    if back is not None:
        _twins(node, inner, node.inner("backward_layer"))
    # Written for the wrapper, too, in files of Keras 2.
    layer = _cell(inner, _first_shape(node, arrays, 2)[0], _reset_after(arrays), True)
    put_arrays(layer, 0, arrays, node.where)
    sequences = inner.flag("return_sequences", False)
    inner.done()
    return [layer] if sequences else [layer, Ends(batch_first=True)]


def _twins(node: Node, forward: Node, backward: Node) -> None:
    """Complain about a backward layer that isn't the forward one's twin."""
    if backward.kind != forward.kind:
        raise ValueError(f"{node.where}: backward_layer: expected another {forward.kind}, got {backward.kind}")
    if not backward.flag("go_backwards", False):
        raise ValueError(f"{node.where}: backward_layer: expected go_backwards=True")
    asked = ("units", "activation", "recurrent_activation", "use_bias", "reset_after", "dropout", "recurrent_dropout")
    for name in (*asked, "return_sequences"):
        if (mine := backward.config.get(name)) != (other := forward.config.get(name)):
            raise ValueError(
                f"{node.where}: backward_layer: {name}={mine!r:.60}, but the forward layer has {other!r:.60}"
            )


# ---- the others


def _embedding(node: Node, arrays: Arrays) -> list[Layer]:
    node.flag("mask_zero", False)  # see build
    layer = Embedding(node.size("input_dim"), node.size("output_dim"), dtype=node.float_type(), seed=0)
    put_arrays(layer, 0, arrays, node.where)
    return [layer]


def _dense(node: Node, arrays: Arrays) -> list[Layer]:
    size, bias = node.size("units"), node.flag("use_bias", True)
    layer = Linear(_first_shape(node, arrays, 2)[0], size, bias=bias, dtype=node.float_type(), seed=0)
    put_arrays(layer, 0, arrays, node.where)
    return [layer, *_activations.as_layers(node.option("activation"), f"{node.where}: activation")]


def _layer_norm(node: Node, arrays: Arrays) -> list[Layer]:
    axis = node.option("axis", -1)
    last = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    rank = node.rank or len(node.config.get("build_config", {}).get("input_shape") or ())
    if last != -1 and (not rank or last != rank - 1):  # counted from the front in files of Keras 2
        raise ValueError(f"{node.where}: axis={axis!r:.60}: fastrnn normalises the last axis")
    node.refuse("rms_scaling", False, "fastrnn normalises mean and variance")
    scale, center = node.flag("scale", True), node.flag("center", True)
    if not (scale or center):
        raise ValueError(f"{node.where}: scale=False and center=False: it has no weights that say its size")
    size = _first_shape(node, arrays, 1)[0]
    epsilon = node.option("epsilon", 1e-3)
    layer = LayerNorm(size, epsilon, dtype=node.float_type())
    rest = list(arrays)
    gamma = rest.pop(0) if scale else np.ones(size)
    beta = rest.pop(0) if center and rest else np.zeros(size)
    put_arrays(layer, 0, [gamma, beta, *rest], node.where)
    return [layer]


def _dropout(node: Node, arrays: Arrays) -> list[Layer]:
    node.refuse("noise_shape", None, "fastrnn drops each number by itself")
    return [Dropout(node.rate("rate"))]


def _activation(node: Node, arrays: Arrays) -> list[Layer]:
    return _activations.as_layers(node.option("activation"), f"{node.where}: activation")


def _softmax(node: Node, arrays: Arrays) -> list[Layer]:
    if node.option("axis", -1) not in (-1, [-1]):
        raise ValueError(f"{node.where}: axis={node.option('axis')!r:.60}: expected the last, -1")
    return [Softmax()]


def _relu(node: Node, arrays: Arrays) -> list[Layer]:
    node.refuse("max_value", None, "fr.ReLU has no upper limit")
    node.refuse("threshold", 0.0, "fr.ReLU begins at 0")
    slope = node.option("negative_slope", 0.0)
    return [LeakyReLU(slope) if slope else ReLU()]


def _leaky_relu(node: Node, arrays: Arrays) -> list[Layer]:
    slope = node.option("negative_slope", node.option("alpha", 0.3))
    return [LeakyReLU(slope)]


def _pool(kind: type[Layer]) -> Callable[[Node, Arrays], list[Layer]]:
    def make(node: Node, arrays: Arrays) -> list[Layer]:
        node.refuse("data_format", "channels_last", "expected sequences [B, T, F]")
        node.refuse("keepdims", False, "the time axis goes away")
        return [kind(batch_first=True)]  # type: ignore[call-arg]

    return make


def _nothing(node: Node, arrays: Arrays) -> list[Layer]:
    node.option("mask_value")
    return []


_MAKERS: dict[str, Callable[[Node, Arrays], list[Layer]]] = {
    "Dense": _dense,
    "Embedding": _embedding,
    "LayerNormalization": _layer_norm,
    "Dropout": _dropout,
    "Activation": _activation,
    "Softmax": _softmax,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "GlobalAveragePooling1D": _pool(MeanPool),
    "GlobalMaxPooling1D": _pool(MaxPool),
    "Masking": _nothing,
}


def as_model(layers: list[Layer], single: bool) -> Layer:
    """What the caller gets: a lone layer as it is where he gave one."""
    if not layers:
        raise ValueError("expected a model with a layer that computes something, got none")
    if len(layers) == 1 and (single or isinstance(layers[0], Masked)):
        return layers[0]
    return Sequential(*layers)
