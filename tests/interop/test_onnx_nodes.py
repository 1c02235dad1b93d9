"""RNN, GRU and LSTM nodes with random attributes: the same from a loaded graph and from ONNX Runtime.

ONNX Runtime computes in float32, with approximations of its own for σ and tanh: 1e-5.
"""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from fastrnn.interop import onnx
from tests.variants.onnx_runtime import INPUTS, random_case, run_here

WEIGHTS = ("W", "R", "B", "P")


def proto(case, constant, layout=0):
    """The node as a model, its weights as inputs or as initialisers."""
    slots = [name if name in case.inputs else "" for name in INPUTS[case.op]]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if case.op == "LSTM" else 2]
    kinds = {np.dtype(np.int32): TensorProto.INT32}
    inside = [name for name in case.inputs if constant and name in WEIGHTS]
    graph = helper.make_graph(
        [helper.make_node(case.op, slots, outputs, name="cell", layout=layout, **case.attributes())],
        case.op,
        [
            helper.make_tensor_value_info(name, kinds.get(a.dtype, TensorProto.FLOAT), a.shape)
            for name, a in case.inputs.items()
            if name not in inside
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(case.inputs[name], name) for name in inside],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def outputs_of(model, case):
    feeds = {port.name: case.inputs[port.name] for port in model.inputs}
    return dict(zip((port.name for port in model.outputs), model.run(None, feeds)))


def batch_first(case):
    """The same case with layout=1."""
    turned = {
        name: a.swapaxes(0, 1).copy() if name in ("X", "initial_h", "initial_c") else a
        for name, a in case.inputs.items()
    }
    return dataclasses.replace(case, inputs=turned)


def test_random_attributes():
    """Weights given or constant, at the first call and the second, in both layouts."""
    apart = 0
    for seed in range(450):
        case = random_case(seed)
        right = run_here(case)
        if not all(np.isfinite(value).all() for value in right.values()):
            continue  # its Softplus is infinite past 88
        models = [onnx.load(proto(case, constant)) for constant in (False, True)]
        apart += case.directions == 2 and case.each_activation(0) != case.each_activation(1)
        found = [outputs_of(model, case) for model in (*models, models[1])]
        first = batch_first(case)
        turned = outputs_of(onnx.load(proto(first, True, layout=1)), first)
        found.append({"Y": turned.pop("Y").transpose(1, 2, 0, 3)} | {k: a.swapaxes(0, 1) for k, a in turned.items()})
        T, B, _ = case.inputs["X"].shape
        for one in found:
            one["Y"] = one["Y"].transpose(0, 2, 1, 3).reshape(T, B, -1)
            for name, value in right.items():
                error = np.abs(one[name] - value).max() / max(1, np.abs(value).max())
                assert error <= 1e-5, f"case {seed}: {name} of {case}"
    assert apart > 50


def test_float64_and_float16():
    case = random_case(0)
    wide = dataclasses.replace(
        case, inputs={n: a.astype(float) if a.dtype == np.float32 else a for n, a in case.inputs.items()}
    )
    names, attributes = INPUTS["LSTM"], case.attributes()
    slots = [name if name in case.inputs else "" for name in names]
    node = helper.make_node("LSTM", slots, ["Y", "Y_h", "Y_c"], **attributes)
    results = {}
    for dtype in (np.float16, np.float32, np.float64):
        inputs = [
            wide.inputs[n].astype(dtype) if wide.inputs[n].dtype == float else wide.inputs[n]
            for n in filter(None, slots)
        ]
        results[dtype] = onnx.run_node(node, inputs)
        assert all(a.dtype == dtype for a in results[dtype])
    for one, two, three in zip(*results.values()):
        assert np.abs(two - three).max() <= 1e-6
        assert np.abs(one.astype(float) - three).max() <= 0.01  # inputs of 11 bits


def node(op="GRU", **attributes):
    inputs = ["X", "W", "R", "", "", ""]
    arrays = [np.ones((3, 2, 4), np.float32), np.ones((1, 15, 4), np.float32), np.ones((1, 15, 5), np.float32)]
    return helper.make_node(op, inputs, ["Y", "Y_h"], name="cell", **attributes), arrays


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"direction": "backward"}, "direction: expected one of forward, reverse, bidirectional, got 'backward'"),
        ({"hidden_size": 6}, r"W: expected shape \(1, 18, 4\), got \(1, 15, 4\)"),
        ({"activations": ["Tanh"]}, "activations: expected 2 of them, got 1"),
        ({"activations": ["Tanh", "Sine"]}, "activations: expected one of .*, got"),
        ({"clip": 0.0}, "clip: expected a number > 0, got 0.0"),
        ({"direction": "bidirectional"}, r"W: expected shape \(2, 15, 4\)"),
    ],
)
def test_nodes_that_do_not_fit(attributes, message):
    one, arrays = node(**attributes)
    with pytest.raises(
        ValueError, match=f"^GRU .domain ai.onnx. of node 'cell', inputs float32.3, 2, 4., .*: {message}"
    ):
        onnx.run_node(one, arrays)


def test_numbers_of_activations():
    """Lists with a number for those that take one, for all of them, or for some; usual ones for the others."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 2, 4), (1, 15, 4), (1, 15, 5))]

    def run(alphas, betas=None, names=("Sigmoid", "Elu")):
        more = {} if betas is None else {"activation_beta": betas}
        more |= {} if alphas is None else {"activation_alpha": alphas}
        one = helper.make_node("GRU", ["X", "W", "R"], ["Y"], activations=list(names), **more)
        return onnx.run_node(one, arrays)[0]

    own = run([0.5])
    assert np.array_equal(own, run([0.25, 0.5]))
    assert not np.array_equal(own, run(None)) and np.array_equal(run(None), run([1.0]))
    both = run([0.2, 0.7], [0.5, 0.1], ("HardSigmoid", "Affine"))
    assert np.array_equal(both, run([0.2, 0.7], [0.5, 0.1], ("hardsigmoid", "affine")))
    assert np.array_equal(run([0.2], [0.5], ("HardSigmoid", "Tanh")), run(None, [0.5], ("HardSigmoid", "Tanh")))


def test_rows_without_steps_and_no_steps_at_all():
    """They keep their initial state."""
    one = helper.make_node("GRU", ["X", "W", "R", "", "lengths", "h"], ["Y", "Y_h"], direction="bidirectional")
    rng = np.random.default_rng(0)
    x, W, R, h = (rng.standard_normal(s).astype(np.float32) for s in ((3, 2, 4), (2, 15, 4), (2, 15, 5), (2, 2, 5)))
    y, h_n = onnx.run_node(one, [x, W, R, np.array([0, 3], np.int32), h])
    assert np.array_equal(h_n[:, 0], h[:, 0]) and not y[:, :, 0].any() and y[:, :, 1].all()
    y, h_n = onnx.run_node(one, [x[:0], W, R, np.array([0, 0], np.int32), h])
    assert y.shape == (0, 2, 2, 5) and np.array_equal(h_n, h)
