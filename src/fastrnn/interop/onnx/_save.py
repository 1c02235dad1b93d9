"""Models as ONNX files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from onnx import helper

import fastrnn as fr
from fastrnn import _check, io
from fastrnn.interop.graph import OnnxModel
from fastrnn.interop.onnx import _models  # noqa: F401  # enters what is made of layers
from fastrnn.interop.onnx._layers import refused, write
from fastrnn.interop.onnx._unread import unread
from fastrnn.interop.onnx._writer import Writer
from fastrnn.nn._layer import Layer
from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.pooling import _Pool

OPSETS = range(13, onnx.defs.onnx_opset_version() + 1)
MOST = (1 << 31) - 1  # bytes of a message


def save(
    model: Layer,
    file: str | os.PathLike[str],
    *,
    lengths: bool = True,
    states: bool = False,
    optional: bool = True,
    opset: int = 17,
    dtype: Any = None,
) -> None:
    """Write a model as ONNX, atomically.

    Parameters
    ----------
    model : layer or model
        RNN, GRU and LSTM of every kind that ONNX has, Linear, Embedding, OneHot, LayerNorm, Dropout (left out), Last,
        MeanPool, MaxPool, activations; Sequential, Residual and Parallel of them; SequenceClassifier,
        SequenceRegressor, LanguageModel; or an `OnnxModel`.
    file : path
    lengths : bool
        The graph has an input `lengths` [B]: the steps of each row that count, int64; T where it is more.
    states : bool
        The graph has inputs `h_0` (and `c_0`) for initial states, outputs `h_n` (and `c_n`) for final ones, after the
        place of their layer if there are several ("1.h_0").
    optional : bool
        Lengths and states may be left out: initialisers stand in for them. False for runtimes that take those for
        constants.
    opset : int
        13 or later.
    dtype : dtype, optional
        Of floats in the graph, by default the model's. ONNX Runtime's recurrent nodes take float32 alone.

    Raises
    ------
    ValueError
        A layer can't be written; the message names it and its place.

    Examples
    --------
    >>> import os, tempfile, fastrnn as fr
    >>> from fastrnn.interop import onnx
    >>> path = os.path.join(tempfile.mkdtemp(), "m.onnx")
    >>> onnx.save(fr.Sequential(fr.GRU(3, 4), fr.Last(), fr.Linear(4, 2)), path)
    >>> onnx.load(path)
    OnnxModel(x float32[T, B, 3], lengths int64[B] (optional) → y float32[B, 2])
    """
    message = to_proto(model, lengths=lengths, states=states, optional=optional, opset=opset, dtype=dtype)
    io.write_atomic(file, message.SerializeToString(deterministic=True))


def to_proto(
    model: Layer,
    *,
    lengths: bool = True,
    states: bool = False,
    optional: bool = True,
    opset: int = 17,
    dtype: Any = None,
) -> Any:
    """What `save` writes, as an `onnx.ModelProto`; arguments as there.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.interop import onnx
    >>> [node.op_type for node in onnx.to_proto(fr.LSTM(3, 4), lengths=False).graph.node]
    ['LSTM', 'Squeeze', 'Identity']
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or model, got {type(model).__name__}")
    if isinstance(model, OnnxModel):
        message = unread(model)
    else:
        if opset not in OPSETS:
            raise ValueError(f"opset: expected {OPSETS[0]} to {OPSETS[-1]}, got {opset!r}")
        message = _written(model, lengths, states, optional, opset, dtype)
    if message.ByteSize() > MOST:
        raise ValueError(f"model: {message.ByteSize()} bytes are more than the {MOST} of an ONNX file")
    onnx.checker.check_model(message, full_check=True)
    return message


def _written(model: Layer, lengths: bool, states: bool, optional: bool, opset: int, dtype: Any) -> Any:
    below = [layer for _, layer in model._walk()]
    timed = [layer for layer in below if isinstance(layer, Recurrent | _Pool)]
    chosen = model.dtype if dtype is None else _check.float_dtype(dtype)
    chosen = np.dtype(np.float32) if chosen is None else chosen
    batch_first = bool(timed) and timed[0].batch_first
    w = Writer(opset, chosen, batch_first, bool(lengths), bool(states), bool(optional))
    w.finish(write(w, model, w.start(bool(timed), _width(model)), ""))
    if states and not any(isinstance(layer, Recurrent) for layer in below):
        raise refused(model, "", "states=True: it has no recurrent layer")
    graph = helper.make_graph(w.nodes, type(model).__name__, w.inputs, w.outputs, w.initializers)
    sets = [helper.make_opsetid("", opset)]
    ir_version = max(8, helper.find_min_ir_version_for(sets))
    return helper.make_model(
        graph, opset_imports=sets, ir_version=ir_version, producer_name="fastrnn", producer_version=fr.__version__
    )


def _width(model: Layer) -> int | None:
    """The size of x's last axis; None where integers come in."""
    for _, layer in model._walk():
        if isinstance(layer, fr.Embedding | fr.OneHot):
            return None
        for name in ("input_size", "in_features", "normalized_shape"):
            if not layer.children and isinstance(size := getattr(layer, name, None), int):
                return size
    raise refused(model, "", "expected a layer that says how many values x has (none of these does)")
