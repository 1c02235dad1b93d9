"""A graph that is a chain of layers, as those layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn.interop.graph import OnnxModel
from fastrnn.interop.graph._node import Node
from fastrnn.interop.graph._recurrent import layer_of
from fastrnn.interop.onnx._probe import Probe, probes, used

Step = Callable[["Chain", Node, list[Any]], None]
STEPS: dict[str, Step] = {}
SIZES = ("Shape", "Size")  # what comes after these is no longer data
# What a pool is after each of its nodes, when it is aware of lengths → the node that must come next.
HALF: dict[str, str] = {"last": "Where", "sum": "Div", "maximum": "Where", "zeros": "ReduceSum", "lowest": "ReduceMax"}


def to_layers(model: OnnxModel) -> Any:
    """The layers of a graph that is a chain of them, with its weights, so that it can be trained.

    Known are RNN, GRU and LSTM in one direction or two, from a zero state, with or without lengths; Gather as an
    embedding, OneHot; MatMul, Gemm; LayerNormalization; Relu, LeakyRelu, Sigmoid, Tanh, Softmax; of time the last step,
    the mean and the maximum, of rows with lengths as `save` writes them; a last recurrent layer's final state; and the
    transpositions between them, which become `batch_first`.

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
    for node in used(model._program):
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
        self.product: Any = None  # a weight that waits for its bias
        self.pooled = ""  # how far a pool is, see HALF
        self.aware: bool | None = None  # of lengths, as far as is known
        self.directions = 1  # of the last recurrent layer
        self.finals: dict[str, str] = {}  # its final state → all its steps
        size = first.shape[-1] if first.shape else None
        self.width = size if isinstance(size, int) else 1
        self.shapes = {self.now: (self.axes, self.width, 1)}  # of data: axes, features, directions
        self.probes = probes(model, self.known)

    def take(self, node: Node) -> None:
        """One node more."""
        if node.first in self.known:
            return
        if node.op in SIZES or not any(name in self.data for name in node.inputs):
            for probe in self.probes:
                probe.take(node, self.shapes)
            return
        given = [name for name in node.inputs if name in self.data]
        if len(given) == 1 and self.finals.get(given[0]) == self.now:
            self._end(given[0])
        if given != [self.now]:
            raise misfit(node, f"it doesn't go on from {self.now!r} alone")
        if node.op not in STEPS:
            raise misfit(node, f"it is no layer; these are: {', '.join(sorted(STEPS))}")
        if self.pooled and node.op != HALF[self.pooled]:
            raise misfit(node, f"expected {HALF[self.pooled]}, the rest of a pool over time")
        self.data.update(filter(None, node.outputs))
        try:
            if self.product is not None and node.op != "Add":
                self.linear(None)
            STEPS[node.op](self, node, [self.known.get(name) for name in node.inputs])
        except (LookupError, TypeError, AttributeError) as error:  # of attributes and inputs that no such node has
            raise misfit(node, f"it is not whole ({error})") from error
        self.now = node.first
        self.shapes[self.now] = (self.axes, self._width(), self.directions)

    def _width(self) -> int:
        """How many features there are."""
        if self.product is not None:
            return len(self.product)
        for layer in self.layers[::-1]:
            if hidden := getattr(layer, "hidden_size", 0):
                return int(hidden) * (1 if "d" in self.axes else self.directions)
            for name in ("out_features", "embedding_dim", "num_classes"):
                if size := getattr(layer, name, 0):
                    return int(size)
        return self.width

    def _end(self, final: str) -> None:
        """The final state [D, B, H] goes on, which is the last step, or the ends of both directions."""
        kind: Any = fr.Last if self.directions == 1 else fr.nn.Ends
        self.add(kind(batch_first=self.time == "b"))
        self.now, self.axes = final, "d" + self.axes.replace("d", "").replace(self.time, "")

    def says(self, name: str, what: Callable[[Probe], Any]) -> bool:
        """Whether a value beside the data is what `what` computes, in every probe."""
        return bool(self.probes) and all(probe.says(name, what(probe)) for probe in self.probes)

    def is_zero(self, name: str) -> bool:
        return self.says(name, lambda probe: None)

    def heed(self, node: Node, aware: bool) -> None:
        """All layers are aware of lengths, or none of them is."""
        if self.aware not in (None, aware):
            words = ("it is not aware of lengths", "it is aware of lengths")
            raise misfit(node, f"{words[aware]}, and layers before it are otherwise")
        self.aware = aware

    def finish(self) -> Any:
        if self.product is not None:
            self.linear(None)
        if self.finals.get(self.output) == self.now:
            self._end(self.output)
        expected = "".join(letter for letter in "abf" if letter in self.axes)
        if self.now != self.output or self.axes != expected or self.pooled:
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

    def pool(self, node: Node, axis: int, kind: Any, aware: bool = False) -> None:
        if not self.time and len(self.axes) == 3 and self.axes[axis] in "ab":
            self.time = self.axes[axis]
        if not self.time or self.axes[axis] != self.time:
            raise misfit(node, "expected over time")
        self.heed(node, aware)
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
    aware = chain.says(names[4], lambda probe: probe.lengths) if names[4] else False
    if names[4] and not aware and not chain.says(names[4], lambda probe: probe.full(chain.axes)):
        raise misfit(node, f"expected lengths as an input of the graph, not {names[4]!r}")
    layer = layer_of(node, W, R, B, P, batch_first=chain.axes[0] == "b")
    if layer is None:
        raise misfit(node, "there is no layer of the reverse direction alone, or of different activations")
    chain.heed(node, aware)
    chain.add(layer)
    chain.time, chain.directions = chain.axes[0], 1 + layer.bidirectional
    chain.axes = chain.time + "d" + chain.axes[1:]
    steps, final = [*node.outputs, ""][:2]
    chain.finals = {final: node.first if steps else ""} if final else {}
    if not steps:
        chain.now = ""
        chain.finals = {}
        chain._end(final)


@step("Squeeze")
def _squeeze(chain: Chain, node: Node, given: list[Any]) -> None:
    axes = node.get("axes") if node.version < 13 else given[1]
    if axes is None or [chain.axes[int(k)] for k in np.ravel(axes)] != ["d"] or chain.directions > 1:
        raise misfit(node, "expected the axis of one direction")
    chain.axes = chain.axes.replace("d", "")


@step("Reshape")
def _reshape(chain: Chain, node: Node, given: list[Any]) -> None:
    """[T, B, D, H] → [T, B, D·H], where the sizes may be computed from those of the input."""
    fixed = [] if given[1] is None else given[1].tolist()
    kept = chain.axes[:-2]
    plain = len(fixed) == len(kept) + 1 and (not any(fixed[:-1]) or min(fixed[:-1]) >= 1)
    whole = chain.directions * chain._width()
    computed = any(chain.says(node.inputs[1], partial(Probe.joined, kept=kept, last=n)) for n in (-1, whole))
    if chain.axes[-2:] != "df" or not (plain or computed):
        raise misfit(node, "expected two directions put side by side")
    chain.axes = kept + "f"


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
    elif chain.axes[axis] == "d" and chain.directions == 1 and given[1] is not None and given[1].shape == ():
        chain.axes = chain.axes.replace("d", "")
    elif given[1] is not None and given[1].shape == () and given[1] == -1:
        chain.pool(node, axis, fr.Last)
    else:
        raise misfit(node, "expected the last step")


@step("OneHot")
def _one_hot(chain: Chain, node: Node, given: list[Any]) -> None:
    depth, ends = given[1], given[2]
    usual = depth is not None and ends is not None and ends.tolist() == [0, 1] and ends.dtype.kind == "f"
    if "f" in chain.axes or not usual or node.get("axis", -1) not in (-1, len(chain.axes)):
        raise misfit(node, "expected rows of 0 and 1 for integers")
    chain.add(fr.OneHot(int(np.ravel(depth)[0])))
    chain.axes += "f"


@step("ReduceMean", "ReduceMax", "ReduceSum")
def _pool(chain: Chain, node: Node, given: list[Any]) -> None:
    axes = given[1] if len(given) > 1 else node.get("axes")
    if axes is None or len(axes) != 1 or node.get("keepdims", 1):
        raise misfit(node, "expected one axis, which is removed")
    axis = int(axes[0])
    if chain.pooled:
        if chain.axes[axis] != chain.time:
            raise misfit(node, "expected over time")
        chain.pooled = "sum" if node.op == "ReduceSum" else "maximum"
    elif node.op == "ReduceSum":
        raise misfit(node, "expected a mean or a maximum")
    else:
        chain.pool(node, axis, fr.MeanPool if node.op == "ReduceMean" else fr.MaxPool)


# ---- pools that are aware of lengths: several nodes, as `save` writes them


@step("GatherND")
def _last(chain: Chain, node: Node, given: list[Any]) -> None:
    for time in filter(lambda letter: chain.axes == "abf" and chain.time in ("", letter), "ab"):
        if not node.get("batch_dims", 0) and chain.says(node.inputs[1], partial(Probe.ends, time=time)):
            chain.time, chain.pooled = time, "last"
            return
    raise misfit(node, "expected the last step of each row")


@step("Where")
def _where(chain: Chain, node: Node, given: list[Any]) -> None:
    """What lies past a row's end as zeros or −∞; or rows without steps as zeros, which ends a pool."""
    condition, other = node.inputs[0], given[2]
    if node.inputs[1] != chain.now or other is None or other.size != 1:
        raise misfit(node, "expected steps past a row's end replaced")
    value = float(np.ravel(other)[0])
    if chain.pooled:
        if value or not chain.says(condition, lambda probe: (probe.lengths > 0)[:, None]):
            raise misfit(node, "expected zeros for rows without steps")
        kind, chain.pooled = fr.Last if chain.pooled == "last" else fr.MaxPool, ""
        chain.pool(node, chain.axes.index(chain.time), kind, True)
        return
    for time in filter(lambda letter: chain.axes == "abf" and chain.time in ("", letter), "ab"):
        if value in (0, -np.inf) and chain.says(condition, partial(Probe.before_end, time=time)):
            chain.time, chain.pooled = time, "lowest" if value else "zeros"
            return
    raise misfit(node, "expected steps past a row's end replaced by 0 or -inf")


@step("Div")
def _div(chain: Chain, node: Node, given: list[Any]) -> None:
    counted = chain.says(node.inputs[1], lambda probe: np.maximum(probe.lengths, 1)[:, None])
    if chain.pooled != "sum" or node.inputs[0] != chain.now or not counted:
        raise misfit(node, "expected the number of each row's steps below a sum over them")
    chain.pooled = ""
    chain.pool(node, chain.axes.index(chain.time), fr.MeanPool, True)


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
