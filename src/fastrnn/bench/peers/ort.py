"""ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.bench.peers.base import Peer, Prepared
from fastrnn.bench.timing import timed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["ONNXRuntime"]

# ONNX's gates, by their place in PyTorch's order: i o f c, z r h.
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


class ONNXRuntime(Peer):
    """A graph of one LSTM, GRU or RNN node a layer, inference; the faster of `run` and bound inputs and outputs.
    Its recurrent kernels are float32's."""

    name = "ort"
    title = "ONNX Runtime"
    package = "onnxruntime"
    requires = ("onnx",)
    install = "onnxruntime onnx"
    modes = ("infer", "step")

    def declines(self, case: Case) -> str | None:
        return "ort has no float64 layers" if case.dtype == "float64" else super().declines(case)

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        ort: Any = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = ort.InferenceSession(_graph(case, weights), options, providers=["CPUExecutionProvider"])
        return _step(ort, session, case, data.x) if case.mode == "step" else _infer(ort, session, data.x)


def _reordered(array: NDArray[Any], cell: str) -> NDArray[Any]:
    """PyTorch's gates in ONNX's order, along the first axis."""
    parts = np.split(array, len(GATES[cell]))
    return np.concatenate([parts[gate] for gate in GATES[cell]])


def _graph(case: Case, weights: Mapping[str, NDArray[Any]]) -> bytes:
    """The model: input x, outputs y, h_n (and c_n); for a time step inputs h_0 (and c_0) too."""
    onnx: Any = importlib.import_module("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    directions = ("", "_reverse") if case.bidirectional else ("",)
    T, B, I, H = case.shape
    L, D = case.num_layers, len(directions)
    carried = case.mode == "step"
    kept = ("h", "c") if case.cell == "lstm" else ("h",)
    finals: dict[str, list[str]] = {name: [] for name in kept}
    nodes, values = [], {}
    values["shape"] = np.array([T, B, D * H])

    def stacked(name: str, layer: int) -> NDArray[Any]:
        return np.stack([_reordered(weights[f"{name}_l{layer}{d}"], case.cell) for d in directions])

    if carried:
        for name in kept:
            parts = [f"{name}_0_{layer}" for layer in range(L)]
            nodes.append(helper.make_node("Split", [f"{name}_0"], parts, axis=0, num_outputs=L))
    source = "x"
    for layer in range(L):
        values[f"W{layer}"] = stacked("weight_ih", layer)
        values[f"R{layer}"] = stacked("weight_hh", layer)
        values[f"b{layer}"] = np.concatenate([stacked("bias_ih", layer), stacked("bias_hh", layer)], axis=1)
        inputs = [source, f"W{layer}", f"R{layer}", f"b{layer}", ""]
        inputs += [f"{name}_0_{layer}" for name in kept] if carried else []
        outputs = [f"Y{layer}", *(f"{name}_n_{layer}" for name in kept)]
        for name in kept:
            finals[name].append(f"{name}_n_{layer}")
        options: dict[str, Any] = {"hidden_size": H, "direction": "bidirectional" if D == 2 else "forward"}
        if case.cell == "gru":
            options["linear_before_reset"] = 1
        nodes.append(helper.make_node(case.cell.upper(), inputs, outputs, **options))
        source = f"y{layer}" if layer < L - 1 else "y"
        if D == 2:
            nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"Z{layer}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"{'Z' if D == 2 else 'Y'}{layer}", "shape"], [source]))
    nodes += [helper.make_node("Concat", parts, [f"{name}_n"], axis=0) for name, parts in finals.items()]

    def info(name: str, *sizes: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(sizes))

    graph = helper.make_graph(
        nodes,
        "layer",
        [info("x", T, B, I), *(info(f"{name}_0", L * D, B, H) for name in kept if carried)],
        [info("y", T, B, D * H), *(info(f"{name}_n", L * D, B, H) for name in kept)],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in values.items()],
    )
    # The newest operators that ONNX Runtime of the same age knows, whatever onnx can write.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _faster(runs: list[Callable[[], Any]]) -> Callable[[], Any]:
    for run in runs:
        timed(run, 3)
    number = max(1, int(0.01 / timed(runs[0], 1)))
    return min(runs, key=lambda run: min(timed(run, number) for _ in range(3)))


def _infer(ort: Any, session: Any, x: NDArray[Any]) -> Prepared:
    names = [output.name for output in session.get_outputs()]
    held = {output.name: ort.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32, "cpu")
            for output in session.get_outputs()}  # fmt: skip
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    for name, value in held.items():
        binding.bind_ortvalue_output(name, value)

    def plain() -> Any:
        return session.run(None, {"x": x})

    def bound() -> Any:
        session.run_with_iobinding(binding)
        return [value.numpy() for value in held.values()]

    return Prepared(_faster([plain, bound]), lambda result: dict(zip(names, result, strict=True)))


def _step(ort: Any, session: Any, case: Case, x: NDArray[Any]) -> Prepared:
    """State in, state out: two bindings take turns, the outputs of one being the inputs of the other."""
    kept = [output.name for output in session.get_outputs() if output.name != "y"]
    shape = {output.name: output.shape for output in session.get_outputs()}

    def fresh(name: str) -> Any:
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape[name], np.float32))

    def of_arrays() -> Callable[[], Any]:
        feed = {"x": x, **{name.replace("_n", "_0"): np.zeros(shape[name], np.float32) for name in kept}}

        def step() -> Any:
            y, *state = session.run(None, feed)
            for name, array in zip(kept, state, strict=True):
                feed[name.replace("_n", "_0")] = array
            return y

        return step

    def of_bindings() -> Callable[[], Any]:
        value, y = ort.OrtValue.ortvalue_from_numpy(x), fresh("y")
        held = [{name: fresh(name) for name in kept} for _ in range(2)]
        bindings = [session.io_binding() for _ in range(2)]
        for k, binding in enumerate(bindings):
            binding.bind_ortvalue_input("x", value)
            binding.bind_ortvalue_output("y", y)
            for name in kept:
                binding.bind_ortvalue_input(name.replace("_n", "_0"), held[k][name])
                binding.bind_ortvalue_output(name, held[1 - k][name])

        def step() -> Any:
            session.run_with_iobinding(bindings[0])
            bindings.reverse()
            return y

        return step

    best = min((of_arrays, of_bindings), key=lambda choice: min(timed(choice(), 200) for _ in range(3)))
    return Prepared(best(), lambda y: {"y": np.array(y if isinstance(y, np.ndarray) else y.numpy())[0]})
