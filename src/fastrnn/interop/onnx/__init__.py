"""ONNX: models that others have exported run here, and fastrnn's models are written for others.

Examples
--------
>>> import numpy as np, fastrnn as fr
>>> from fastrnn.interop import onnx
>>> import os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), "model.onnx")
>>> layer = fr.GRU(3, 4, seed=0)
>>> onnx.save(layer, path)
>>> model = onnx.load(path)
>>> print(*model.inputs)
x float32[T, B, 3] lengths int64[B] (optional)
>>> x = np.ones((5, 2, 3), np.float32)
>>> bool(abs(model(x) - layer(x)[0]).max() < 1e-6)
True
"""

from __future__ import annotations

from fastrnn.interop import needed

needed("onnx", "ONNX", "onnx")

from fastrnn.interop.graph import OnnxModel, Port  # noqa: E402
from fastrnn.interop.onnx._backend import Backend, BackendRep, prepare, run_model, run_node, supports_device  # noqa: E402
from fastrnn.interop.onnx._chain import to_layers  # noqa: E402
from fastrnn.interop.onnx._read import load  # noqa: E402
from fastrnn.interop.onnx._save import save, to_proto  # noqa: E402

__all__ = [
    "Backend",
    "BackendRep",
    "OnnxModel",
    "Port",
    "load",
    "prepare",
    "run_model",
    "run_node",
    "save",
    "supports_device",
    "to_layers",
    "to_proto",
]
