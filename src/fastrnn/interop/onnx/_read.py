"""ONNX's messages as the description of a graph."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, inliner, numpy_helper

from fastrnn.interop.graph import OPERATORS, OnnxModel
from fastrnn.interop.graph._arrays import DTYPES, encode
from fastrnn.interop.graph._node import STANDARD

FLOATS = (np.float32, np.float64)
DEEPEST = 8  # operators defined by operators defined by …
SMALL = 16  # numbers: constants in the graph, such as an epsilon, that are no parameters


def load(file: Any, *, layers: bool = False) -> Any:
    """Read an ONNX model.

    Parameters
    ----------
    file : path, bytes, or onnx.ModelProto
        Weights in further files are found beside a path, and nowhere else.
    layers : bool
        Make layers of it, which can be trained: see `fastrnn.interop.onnx.to_layers`.

    Returns
    -------
    OnnxModel
        It is called with arrays; or, with `layers`, a `fr.Sequential` or a layer.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no ONNX model, or is broken; an operator isn't known here, and the message names it, its domain and its
        node; with `layers`, the graph is no chain of layers.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import parser
    >>> from fastrnn.interop import onnx
    >>> text = '''<ir_version: 8, opset_import: ["": 17]>
    ... double (float[N] x) => (float[N] y) { y = Add(x, x) }'''
    >>> model = onnx.load(parser.parse_model(text))
    >>> model(np.ones(2, np.float32))
    array([2., 2.], dtype=float32)
    >>> model.run(None, {"x": np.ones(2, np.float32)})
    [array([2., 2.], dtype=float32)]
    """
    model = from_proto(_message(file))
    if not layers:
        return model
    from fastrnn.interop.onnx._chain import to_layers

    return to_layers(model)


def _message(file: Any) -> Any:
    """The message, with its functions as nodes. Its graph is checked where it becomes a program.

    Not by onnx's checker, which wants shapes of outputs that runtimes do without.
    """
    try:
        if isinstance(file, onnx.ModelProto):
            message = file
        elif isinstance(file, bytes | bytearray | memoryview):
            message = onnx.load_model_from_string(bytes(file))
        elif isinstance(file, str | os.PathLike):
            if not os.path.isfile(file):
                raise FileNotFoundError(f"{os.fspath(file)}: no such file")
            message = onnx.load(os.fspath(file))
        else:
            raise TypeError(f"file: expected a path, bytes or an onnx.ModelProto, got {type(file).__name__}")
        if not (message.HasField("graph") and message.opset_import):
            raise ValueError("it has no graph, or doesn't say of which operator set")
        return _inlined(message)
    except (OSError, TypeError):
        raise
    except Exception as error:  # protobuf's and onnx's errors have no class in common but this one
        raise ValueError(f"{_named(file)}: not a whole ONNX model: {_first_line(error)}") from error


def _inlined(message: Any) -> Any:
    """Functions as nodes: the file's own, and operators that ONNX defines by others, where there is none here."""
    if message.functions:
        message = inliner.inline_local_functions(message)
    known = {(domain, op) for domain in STANDARD for op in (*OPERATORS, "Constant")}
    for _ in range(DEEPEST):
        versions = {one.domain: one.version for one in message.opset_import}
        given, chosen = [], set()
        for node in message.graph.node:
            schema = None if (node.domain, node.op_type) in known else _schema(node, versions)
            if schema is not None and (schema.has_function or schema.has_context_dependent_function):
                chosen.add((node.domain, node.op_type))
                node = _with_defaults(node, schema)
            given.append(node)
        if not chosen:
            break
        whole = onnx.ModelProto()
        whole.CopyFrom(message)
        del whole.graph.node[:]
        whole.graph.node.extend(given)
        try:
            message = inliner.inline_selected_functions(whole, sorted(chosen), inline_schema_functions=True)
        except RuntimeError:  # it can't do all of them; what is left over is named as unknown
            break
    return message


def _schema(node: Any, versions: dict[str, int]) -> Any:
    try:
        return onnx.defs.get_schema(node.op_type, versions.get(node.domain, 0), node.domain)
    except onnx.defs.SchemaError:
        return None


def _with_defaults(node: Any, schema: Any) -> Any:
    """The node with all its attributes: inlining takes those that aren't given for absent."""
    whole = onnx.NodeProto()
    whole.CopyFrom(node)
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            whole.attribute.append(attribute.default_value)
    return whole


def _named(file: Any) -> str:
    return os.fspath(file) if isinstance(file, str | os.PathLike) else "file"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def from_proto(message: Any) -> OnnxModel:
    """An `onnx.ModelProto` as a model, with its weights."""
    params: dict[str, Any] = {}
    opsets = {"" if one.domain in STANDARD else one.domain: one.version for one in message.opset_import}
    graph = _graph(message.graph, params)
    graph |= {
        "opsets": opsets,
        "ir_version": message.ir_version,
        "name": message.graph.name,
        "params": {name: [array.dtype.name, list(array.shape)] for name, array in params.items()},
    }
    model = OnnxModel(graph=graph)
    model.load_state_dict(params)
    return model


def _graph(graph: Any, params: dict[str, Any] | None) -> dict[str, Any]:
    """A graph, or one inside a node: float arrays go to `params`, all others, and those of graphs inside, stay here."""
    if graph.sparse_initializer:
        raise ValueError(f"{graph.sparse_initializer[0].values.name}: sparse arrays are not supported")
    constants: dict[str, Any] = {}
    nodes = []

    def keep(name: str, array: Any, least: int) -> None:
        if params is not None and array.dtype in FLOATS and array.size >= least:
            params[name] = array
        else:
            constants[name] = encode(array)

    for tensor in graph.initializer:
        keep(tensor.name, _array(tensor), 0)
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD:
            keep(node.output[0], _constant(node), SMALL + 1)
        else:
            nodes.append(_node(node))
    return {
        "inputs": [_port(one) for one in graph.input],
        "outputs": [_port(one) for one in graph.output],
        "nodes": nodes,
        "constants": constants,
    }


def _array(tensor: Any) -> Any:
    if tensor.data_type not in DTYPES:
        raise ValueError(f"{tensor.name or 'a constant'}: {_type_name(tensor.data_type)} arrays are not supported")
    try:
        return numpy_helper.to_array(tensor).astype(DTYPES[tensor.data_type])
    except Exception as error:  # of several kinds, for lengths that don't fit, files that aren't there
        raise ValueError(f"{tensor.name or 'a constant'}: an array that can't be read: {_first_line(error)}") from error


def _type_name(code: int) -> str:
    known: dict[str, int] = dict(TensorProto.DataType.items())
    return next((name.lower() for name, number in known.items() if number == code), str(code))


def _constant(node: Any) -> Any:
    """The value of a Constant, which may be written in several ways."""
    if len(node.attribute) != 1:
        raise ValueError(f"Constant node {node.name!r}: expected one attribute, got {len(node.attribute)}")
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return _array(value)
    if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise ValueError(f"{node.output[0]}: Constant with {attribute.name} is not supported")
    return np.array(value, np.float32 if "float" in attribute.name else np.int64)


def _port(info: Any) -> dict[str, Any]:
    kind = info.type.WhichOneof("value")
    if kind is None:  # of graphs inside, outputs may have none
        return {"name": info.name, "type": "float32", "shape": None}
    if kind != "tensor_type" or info.type.tensor_type.elem_type not in (*DTYPES, 0):
        what = kind.removesuffix("_type") if kind != "tensor_type" else _type_name(info.type.tensor_type.elem_type)
        raise ValueError(f"{info.name}: expected arrays of numbers or bools as inputs and outputs, this is a {what}")
    tensor = info.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = [
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or None
            for dim in tensor.shape.dim
        ]
    return {"name": info.name, "type": DTYPES.get(tensor.elem_type, np.dtype(np.float32)).name, "shape": shape}


_KINDS = {
    AttributeProto.FLOAT: "float",
    AttributeProto.INT: "int",
    AttributeProto.STRING: "string",
    AttributeProto.TENSOR: "tensor",
    AttributeProto.GRAPH: "graph",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
}


def _node(node: Any) -> dict[str, Any]:
    attributes = {}
    for attribute in node.attribute:
        if attribute.type not in _KINDS:
            raise ValueError(f"{node.op_type} node {node.name!r}: its attribute {attribute.name} is not supported")
        kind = _KINDS[attribute.type]
        value = onnx.helper.get_attribute_value(attribute)
        if kind == "tensor":
            value = encode(_array(value))
        elif kind == "graph":
            value = _graph(value, None)
        elif kind == "string":
            value = value.decode()
        elif kind == "strings":
            value = [part.decode() for part in value]
        elif kind.endswith("s"):
            value = list(value)
        attributes[attribute.name] = [kind, value]
    return {
        "op": node.op_type,
        "domain": node.domain,
        "name": node.name,
        "inputs": list(node.input),
        "outputs": list(node.output),
        "attributes": attributes,
    }
