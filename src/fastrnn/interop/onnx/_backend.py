"""ONNX's own interface to whatever runs its models, which its tests use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.backend import base

from fastrnn.interop.graph import OnnxModel
from fastrnn.interop.onnx._read import _graph, load


class BackendRep(base.BackendRep):
    """A model that is ready to run.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> from fastrnn.interop.onnx import Backend
    >>> text = '''<ir_version: 8, opset_import: ["": 17]>
    ... half (float[N] x) => (float[N] y) { c = Constant <value_float = 0.5> ()  y = Mul(x, c) }'''
    >>> Backend.prepare(onnx.parser.parse_model(text)).run([np.ones(2, np.float32)])
    Outputs(y=array([0.5, 0.5], dtype=float32))
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        """The outputs, as a tuple that also knows their names.

        Parameters
        ----------
        inputs : sequence of arrays, an array, or a mapping from names to arrays
        """
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            if len(inputs) > len(self.model.inputs):
                raise ValueError(f"inputs: expected at most {len(self.model.inputs)}, got {len(inputs)}")
            inputs = dict(zip((port.name for port in self.model.inputs), inputs, strict=False))
        names = [port.name for port in self.model.outputs]
        return base.namedtupledict("Outputs", names)(*self.model.run(None, inputs))


class Backend(base.Backend):
    """fastrnn as ONNX's tests and tools see it, after `onnx.backend.base.Backend`; on the CPU alone.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> from fastrnn.interop.onnx import Backend
    >>> node = onnx.helper.make_node("Neg", ["x"], ["y"])
    >>> Backend.run_node(node, [np.ones(2, np.float32)])
    Outputs(y=array([-1., -1.], dtype=float32))
    >>> Backend.supports_device("CPU"), Backend.supports_device("CUDA")
    (True, False)
    """

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every operator and type of the model is known here."""
        try:
            load(model)
        except ValueError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """A model ready to run. A ValueError names an operator that isn't known."""
        cls._check_device(device)
        return BackendRep(load(model))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """The outputs of a model for these inputs."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any) -> Any:
        """The outputs of one node of operator set `opset_version`, by default the newest.

        `inputs` are for the node's inputs that have a name.
        """
        cls._check_device(device)
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        params: dict[str, Any] = {}
        graph = _graph(onnx.helper.make_graph([node], "node", [], []), params)
        names = [name for name in dict.fromkeys(node.input) if name]
        arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        if len(names) != len(arrays):
            raise ValueError(f"inputs: expected {len(names)} ({', '.join(names)}), got {len(arrays)}")
        arrays = [np.asarray(a) for a in arrays]
        graph |= {
            "opsets": {"": version},
            "params": {name: [a.dtype.name, list(a.shape)] for name, a in params.items()},
            "inputs": [
                {"name": name, "type": a.dtype.name, "shape": list(a.shape)}
                for name, a in zip(names, arrays, strict=True)
            ],
            "outputs": [{"name": name, "type": "float32", "shape": None} for name in node.output if name],
        }
        model = OnnxModel(graph=graph)
        model.load_state_dict(params)
        return BackendRep(model).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device.partition(":")[0] == "CPU"

    @classmethod
    def _check_device(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise ValueError(f"device: expected 'CPU', got {device!r}")


prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
