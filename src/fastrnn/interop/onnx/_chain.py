"""A graph that is a chain of layers, as those layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn.interop.graph import OnnxModel
from fastrnn.interop.graph._node import Node
from fastrnn.interop.graph._recurrent import layer_of

Step = Callable[["Chain", Node, list[Any]], None]
STEPS: dict[str, Step] = {}
SIZES = ("Shape", "Size")  # what comes after these is no longer data
SPREAD = ("Expand", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Unsqueeze")


def to_layers(model: OnnxModel) -> Any:
    """The layers of a graph that is a chain of them, with its weights, so that it can be trained.

    Known are RNN, GRU and LSTM in one direction or two, from a zero state, with or without lengths; Gather as an
    embedding; MatMul, Gemm; LayerNormalization; Relu, LeakyRelu, Sigmoid, Tanh, Softmax; of time the last step, the
    mean and the maximum; and the transpositions between them, which become `batch_first`.

    Returns
    -------
    Sequential, or a layer if there is one alone
        It takes what the graph takes as its first input. `lengths`, which the graph may have as a second one, are
        an argument of its call.

    Raises
    ------
    ValueError
        The graph is no such chain; the message names the first node that doesn't fit.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.interop import onnx
    >>> model = onnx.load(onnx.to_proto(fr.Sequential(fr.GRU(3, 4), fr.Linear(4, 2)), lengths=False))
    >>> [type(layer).__name__ for layer in onnx.to_layers(model)]
    ['GRU', 'Linear']
    """
    chain = Chain(model)
    for node in model._program.nodes:
        chain.take(node)
    return chain.finish()


class Chain:
    """What was found so far: layers, and how the axes of the value after them lie.

    `axes` has a letter for each axis: "a" and "b" are the first two of the input, "d" is that of directions, "f" holds
    the features.
    """

    def __init__(self, model: OnnxModel) -> None:
        with np.errstate(all="ignore"):
            self.known = {**model._params, **model._program.constants, **model._program.fold(model._params)}
        self.known = {name: a for name, a in self.known.items() if name not in model._program.inputs}
        if len(model.outputs) != 1 or not model.inputs:
            raise ValueError(f"expected an input and one output, the graph has {model!r}")
        first = model.inputs[0]
        known = {(2, "f"): "bf", (3, "f"): "abf", (2, "i"): "ab"}
        self.axes = known.get((len(first.shape or ()), first.dtype.kind), "")
        if not self.axes:
            raise ValueError(f"{first}: expected numbers [T, B, F] or [B, F], or whole numbers [T, B]")
        self.now, self.output = first.name, model.outputs[0].name
        self.data = {self.now}
        self.time = ""  # its letter
        self.layers: list[Any] = []
        self.zeros: set[str] = set()  # names
        self.product: Any = None  # a weight that waits for its bias

    def take(self, node: Node) -> None:
        """One node more."""
        if node.first in self.known or node.op in SIZES:
            return
        if not any(name in self.data for name in node.inputs):
            self._beside(node)
            return
        if [name for name in node.inputs if name in self.data] != [self.now]:
            raise misfit(node, f"it doesn't go on from {self.now!r} alone")
        if node.op not in STEPS:
            raise misfit(node, f"it is no layer; these are: {', '.join(sorted(STEPS))}")
        if self.product is not None and node.op != "Add":
            self.linear(None)
        self.data.update(filter(None, node.outputs))
        try:
            STEPS[node.op](self, node, [self.known.get(name) for name in node.inputs])
        except (LookupError, TypeError, AttributeError) as error:  # of attributes and inputs that no such node has
            raise misfit(node, f"it is not whole ({error})") from error
        self.now = node.first

    def _beside(self, node: Node) -> None:
        """Zeros in the size that the input gives."""
        value = node.get("value")
        empty = node.op == "ConstantOfShape" and (value is None or not value.any())
        if empty or (node.op in SPREAD and self.is_zero(node.inputs[0])):
            self.zeros.add(node.first)

    def is_zero(self, name: str) -> bool:
        return name in self.zeros or (name in self.known and not self.known[name].any())

    def finish(self) -> Any:
        if self.product is not None:
            self.linear(None)
        expected = "".join(letter for letter in "abf" if letter in self.axes)
        if self.now != self.output or self.axes != expected:
            raise ValueError(f"{self.output}: this output is not made by a chain of layers in the layout of the input")
        if not self.layers:
            raise ValueError("expected at least one layer in the graph")
        return self.layers[0] if len(self.layers) == 1 else fr.Sequential(*self.layers)

    # ---- what nodes become

    def add(self, layer: Any, **state: Any) -> None:
        if state:
            layer.load_state_dict({name: a for name, a in state.items() if a is not None})
        self.layers.append(layer)

    def last_axis(self, node: Node, axis: int) -> None:
        if self.axes[axis] != "f":
            raise misfit(node, "expected along the features")

    def constant(self, node: Node, array: Any, axes: int) -> Any:
        if array is None or array.ndim != axes:
            raise misfit(node, f"expected a constant of {axes} axes")
        return array

    def linear(self, bias: Any) -> None:
        weight, self.product = self.product, None
        layer = fr.Linear(*weight.shape[::-1], bias=bias is not None, dtype=weight.dtype)
        self.add(layer, weight=weight, bias=bias)

    def pool(self, node: Node, axis: int, kind: Any) -> None:
        if not self.time or self.axes[axis] != self.time:
            raise misfit(node, "expected over time, after a recurrent layer")
        self.add(kind(batch_first=self.time == "b"))
        self.axes = self.axes.replace(self.time, "")


def misfit(node: Node, why: str) -> ValueError:
    return ValueError(f"{node}: {why}; call load without layers=True to run the graph as it is")


def step(*names: str) -> Callable[[Step], Step]:
    def enter(function: Step) -> Step:
        STEPS.update(dict.fromkeys(names, function))
        return function

    return enter


@step("RNN", "GRU", "LSTM")
def _recurrent(chain: Chain, node: Node, given: list[Any]) -> None:
    given = [*given, *[None] * (8 - len(given))]
    names = [*node.inputs, *[""] * (8 - len(node.inputs))]
    if len(chain.axes) != 3 or chain.axes[2] != "f" or node.get("layout", 0):
        raise misfit(node, "expected [T, B, F]")
    if chain.time not in ("", chain.axes[0]):
        raise misfit(node, "expected the same axis as time as in the layer before")
    for name in filter(None, names[5:7]):
        if not chain.is_zero(name):
            raise misfit(node, f"expected to start from zeros, not from {name!r}")
    W, R, B, P = (given[k] for k in (1, 2, 3, 7))
    if any(name and array is None for name, array in zip((names[k] for k in (1, 2, 3, 7)), (W, R, B, P), strict=True)):
        raise misfit(node, "expected constant weights")
    if given[4] is not None:
        raise misfit(node, "expected lengths as an input of the graph, not as a constant")
    layer = layer_of(node, W, R, B, P, batch_first=chain.axes[0] == "b")
    if layer is None:
        raise misfit(node, "there is no layer of the reverse direction alone, or of different activations")
    chain.add(layer)
    chain.time = chain.axes[0]
    chain.axes = chain.time + "d" + chain.axes[1:]


@step("Squeeze")
def _squeeze(chain: Chain, node: Node, given: list[Any]) -> None:
    axes = node.get("axes") if node.version < 13 else given[1]
    if axes is None or [chain.axes[int(k)] for k in np.ravel(axes)] != ["d"] or chain.layers[-1].bidirectional:
        raise misfit(node, "expected the axis of one direction")
    chain.axes = chain.axes.replace("d", "")


@step("Reshape")
def _reshape(chain: Chain, node: Node, given: list[Any]) -> None:
    """[T, B, D, H] → [T, B, D·H]"""
    sizes = [] if given[1] is None else given[1].tolist()
    if chain.axes[2:] != "df" or len(sizes) != 3 or (sizes[:2] != [0, 0] and min(sizes[:2]) < 1):
        raise misfit(node, "expected two directions put side by side")
    chain.axes = chain.axes.replace("d", "")


@step("Identity", "Dropout")
def _same(chain: Chain, node: Node, given: list[Any]) -> None:
    """Nothing is done."""


@step("Gather")
def _gather(chain: Chain, node: Node, given: list[Any]) -> None:
    """Rows of a table, or the last step."""
    axis = node.get("axis", 0)
    if node.inputs[1] == chain.now:
        table = chain.constant(node, given[0], 2)
        if "f" in chain.axes or axis != 0:
            raise misfit(node, "expected rows of a table for integers")
        chain.add(fr.Embedding(*table.shape, dtype=table.dtype), weight=table)
        chain.axes += "f"
    elif given[1] is not None and given[1].shape == () and given[1] == -1:
        chain.pool(node, axis, fr.Last)
    else:
        raise misfit(node, "expected the last step")


@step("ReduceMean", "ReduceMax")
def _pool(chain: Chain, node: Node, given: list[Any]) -> None:
    axes = given[1] if len(given) > 1 else node.get("axes")
    if axes is None or len(axes) != 1 or node.get("keepdims", 1):
        raise misfit(node, "expected one axis, which is removed")
    chain.pool(node, int(axes[0]), fr.MeanPool if node.op == "ReduceMean" else fr.MaxPool)


@step("MatMul", "Gemm")
def _product(chain: Chain, node: Node, given: list[Any]) -> None:
    """x·W; Gemm has a bias, and may have W turned over."""
    plain = all(node.get(name, 1.0) == 1 for name in ("alpha", "beta")) and not node.get("transA", 0)
    if node.inputs[0] != chain.now or chain.axes[-1] != "f" or not plain:
        raise misfit(node, "expected x times a constant")
    weight = chain.constant(node, given[1], 2)
    chain.product = weight if node.get("transB", 0) else weight.T
    if node.op == "Gemm":
        bias = given[2] if len(given) > 2 else None
        if bias is None and len(node.inputs) > 2 and node.inputs[2]:
            raise misfit(node, "expected a constant bias")
        chain.linear(bias)


@step("Add")
def _add(chain: Chain, node: Node, given: list[Any]) -> None:
    bias = next((a for a in given if a is not None), None)
    if chain.product is None or bias is None:
        raise misfit(node, "expected the bias of a MatMul before it")
    chain.linear(bias)


@step("LayerNormalization")
def _layer_norm(chain: Chain, node: Node, given: list[Any]) -> None:
    chain.last_axis(node, node.get("axis", -1))
    scale = chain.constant(node, given[1], 1)
    bias = np.zeros_like(scale) if len(given) < 3 else chain.constant(node, given[2], 1)
    layer = fr.LayerNorm(len(scale), node.get("epsilon", 1e-5), dtype=scale.dtype)
    chain.add(layer, weight=scale, bias=bias)


@step("Softmax")
def _softmax(chain: Chain, node: Node, given: list[Any]) -> None:
    chain.last_axis(node, node.get("axis", -1 if node.version >= 13 else 1))
    chain.add(fr.Softmax())


@step("Relu", "Sigmoid", "Tanh")
def _function(chain: Chain, node: Node, given: list[Any]) -> None:
    functions: dict[str, Any] = {"Relu": fr.ReLU, "Sigmoid": fr.Sigmoid, "Tanh": fr.Tanh}
    chain.add(functions[node.op]())


@step("LeakyRelu")
def _leaky_relu(chain: Chain, node: Node, given: list[Any]) -> None:
    chain.add(fr.LeakyReLU(node.get("alpha", 0.01)))


@step("Transpose")
def _transpose(chain: Chain, node: Node, given: list[Any]) -> None:
    chain.axes = "".join(chain.axes[k] for k in node.get("perm") or range(len(chain.axes))[::-1])
