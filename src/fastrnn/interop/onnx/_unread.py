"""A loaded graph as ONNX's messages again."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

import fastrnn as fr
from fastrnn.interop.graph import OnnxModel
from fastrnn.interop.graph._arrays import decode


def unread(model: OnnxModel) -> Any:
    """The `onnx.ModelProto` of a model that `load` has made."""
    given = model.config()["graph"]
    sets = [helper.make_opsetid(domain, version) for domain, version in given["opsets"].items()]
    graph = _graph(given, given.get("name") or "graph", dict(model.params))
    return helper.make_model(
        graph,
        opset_imports=sets,
        ir_version=given.get("ir_version", 8),
        producer_name="fastrnn",
        producer_version=fr.__version__,
    )


def _graph(given: Any, name: str, params: dict[str, Any]) -> Any:
    arrays = params | {key: decode(array) for key, array in given["constants"].items()}
    return helper.make_graph(
        [_node(one) for one in given["nodes"]],
        name,
        [_port(one) for one in given["inputs"]],
        [_port(one) for one in given["outputs"]],
        [numpy_helper.from_array(array, key) for key, array in sorted(arrays.items())],
    )


def _port(given: Any) -> Any:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(given["type"]))
    return helper.make_tensor_value_info(given["name"], code, given["shape"])


def _node(given: Any) -> Any:
    node = helper.make_node(
        given["op"], given["inputs"], given["outputs"], name=given.get("name", ""), domain=given.get("domain", "")
    )
    for name, (kind, value) in sorted(given["attributes"].items()):
        if kind == "tensor":
            value = numpy_helper.from_array(decode(value))
        elif kind == "graph":
            value = _graph(value, name, {})
        code = getattr(helper.AttributeProto, kind.upper())
        node.attribute.append(helper.make_attribute(name, value, attr_type=code))
    return node
