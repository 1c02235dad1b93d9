"""Graphs of operators as ONNX has them, run with NumPy and the kernels; no other library takes part.

`fastrnn.interop.onnx.load` makes an `OnnxModel` of a file; written with `fr.save`, it is read by `fr.load` where onnx
isn't installed.
"""

from __future__ import annotations

from fastrnn.interop.graph._model import OnnxModel, Port
from fastrnn.interop.graph._node import OPERATORS

__all__ = ["OPERATORS", "OnnxModel", "Port"]
