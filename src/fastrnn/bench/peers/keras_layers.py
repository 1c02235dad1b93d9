"""Keras, on TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.bench.peers.base import Peer, Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["Keras"]

# Keras's gates, by their place in PyTorch's order: i f c o, z r h; the latter is its own inverse.
GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}


class Keras(Peer):
    """`keras.layers.LSTM`, `GRU` (with `reset_after`) and `SimpleRNN` inside a `tf.function`, data [B, T, F] as
    they want it; gradients by a `GradientTape`. TensorFlow's threads are fixed when it begins."""

    name = package = "keras"
    title = "Keras"
    requires = ("tensorflow",)
    install = "keras tensorflow-cpu"
    modes = ("train", "infer")
    own_process = True

    def environment(self, threads: int) -> dict[str, str]:
        return {
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": "1",
            "OMP_NUM_THREADS": str(threads),
        }

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        tf: Any = importlib.import_module("tensorflow")
        keras: Any = importlib.import_module("keras")
        layers = _layers(keras, case, weights)
        x, dy = (tf.constant(np.ascontiguousarray(a.transpose(1, 0, 2))) for a in data)
        variables = {suffix: layer.trainable_variables for suffix, layer in layers.items()}

        def forward(x: Any) -> Any:
            finals = []
            for number in range(case.num_layers):
                parts = []
                for suffix in (s for s in layers if s.partition("_reverse")[0] == f"_l{number}"):
                    y, *final = layers[suffix](x)
                    parts.append(tf.reverse(y, [1]) if suffix.endswith("_reverse") else y)
                    finals.append(final)
                x = tf.concat(parts, -1) if len(parts) > 1 else parts[0]
            return x, [tf.stack(each) for each in zip(*finals, strict=True)]

        @tf.function  # type: ignore[untyped-decorator]
        def infer() -> Any:
            return forward(x)

        @tf.function  # type: ignore[untyped-decorator]
        def train() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = forward(x)
            return outputs, tape.gradient(outputs[0], [x, variables], output_gradients=dy)

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            (y, state), gradients = result if case.training else (result, None)
            named = {"y": y.numpy().transpose(1, 0, 2)}
            named |= {name: s.numpy() for name, s in zip(("h_n", "c_n"), state, strict=False)}
            if gradients is not None:
                named["dx"] = gradients[0].numpy().transpose(1, 0, 2)
                for suffix, parts in gradients[1].items():
                    named |= _gradients(case.cell, suffix, [part.numpy() for part in parts])
            return named

        return Prepared(train if case.training else infer, arrays)


def _reordered(array: NDArray[Any], cell: str) -> NDArray[Any]:
    """The gates in the other order, along the last axis."""
    parts = np.split(array, len(GATES[cell]), axis=-1)
    return np.concatenate([parts[gate] for gate in GATES[cell]], axis=-1)


def _layers(keras: Any, case: Case, weights: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """A layer for each layer-direction, under the suffix of its weights."""
    kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[case.cell]
    options: dict[str, Any] = {"return_sequences": True, "return_state": True, "dtype": case.dtype}
    if case.cell == "gru":
        options["reset_after"] = True
    layers = {}
    for name in weights:
        if not name.startswith("weight_ih"):
            continue
        suffix = name.removeprefix("weight_ih")
        layer = kind(case.shape.H, go_backwards=suffix.endswith("_reverse"), **options)
        layer.build((case.shape.B, case.shape.T, weights[name].shape[1]))
        W, R = (_reordered(weights[f"weight_{part}{suffix}"].T, case.cell) for part in ("ih", "hh"))
        biases = [_reordered(weights[f"bias_{part}{suffix}"], case.cell) for part in ("ih", "hh")]
        layer.set_weights([W, R, np.stack(biases) if case.cell == "gru" else biases[0] + biases[1]])
        layers[suffix] = layer
    return layers


def _gradients(cell: str, suffix: str, parts: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The gradients under PyTorch's names and in its layout; both biases of a sum have the sum's."""
    dW, dR, db = (_reordered(part, cell) for part in parts)
    db_w, db_r = db if cell == "gru" else (db, db)
    return {
        f"weight_ih{suffix}": dW.T,
        f"weight_hh{suffix}": dR.T,
        f"bias_ih{suffix}": db_w,
        f"bias_hh{suffix}": db_r,
    }
