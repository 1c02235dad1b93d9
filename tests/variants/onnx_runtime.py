"""Random LSTM, GRU and RNN nodes with every attribute of ONNX, what ONNX Runtime makes of them, our names for them.

    cases = [random_case(seed) for seed in range(100)]
    outputs = run(cases)                # in this Python, or in that of FASTRNN_BENCH_PYTHON_ORT
    settings = to_fastrnn(cases[0])     # one for each direction

Where ONNX Runtime 1.31 has its own mind: its Softplus is infinite past 88 (times 0 that is NaN), Relu(NaN) is 0,
ThresholdedRelu(alpha) is 0, a clip of 0 limits everything to 0; unless given, alpha and beta of Affine and ScaledTanh
and alpha of ThresholdedRelu are 0. Its clip doesn't limit c in h = o ⊙ h(c).

This file is also the program which that other Python runs, so that it needs nothing but NumPy, onnx and onnxruntime.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
INPUTS = {op: ("X", "W", "R", "B", "sequence_lens", "initial_h") for op in GATES}
INPUTS["LSTM"] += ("initial_c", "P")

# which of alpha and beta an activation takes: a node's lists hold those numbers alone, in the order of its activations
NUMBERS = {
    "Relu": "",
    "Tanh": "",
    "Sigmoid": "",
    "Softsign": "",
    "Softplus": "",
    "LeakyRelu": "a",
    "ThresholdedRelu": "a",
    "Elu": "a",
    "Affine": "ab",
    "ScaledTanh": "ab",
    "HardSigmoid": "ab",
}


@dataclass
class Case:
    """One node: its operator, attributes and inputs; `activations` are (name, alpha, beta), one list a direction."""

    op: str
    hidden: int
    direction: str
    inputs: dict[str, np.ndarray]
    activations: list[list[tuple[str, float, float]]] | None
    clip: float | None = None
    input_forget: bool = False
    linear_before_reset: bool = False

    @property
    def directions(self):
        return 2 if self.direction == "bidirectional" else 1

    def each_activation(self, d):
        """The activations of direction `d`, the usual ones if the node has none."""
        return self.activations[d] if self.activations else [(name, 0.0, 0.0) for name in ACTIVATIONS[self.op]]

    def attributes(self):
        """The attributes of the node as ONNX spells them."""
        found = {"hidden_size": self.hidden, "direction": self.direction}
        if self.activations:
            every = [f for one in self.activations for f in one]
            found["activations"] = [name for name, _, _ in every]
            for key, letter, at in (("activation_alpha", "a", 1), ("activation_beta", "b", 2)):
                numbers = [f[at] for f in every if letter in NUMBERS[f[0]]]
                if numbers:
                    found[key] = numbers
        if self.clip is not None:
            found["clip"] = self.clip
        if self.op == "LSTM":
            found["input_forget"] = int(self.input_forget)
        if self.op == "GRU":
            found["linear_before_reset"] = int(self.linear_before_reset)
        return found


def random_case(seed):
    """Any combination of operator, direction, optional inputs and attributes."""
    rng = np.random.default_rng(seed)
    op = ("LSTM", "GRU", "RNN")[seed % 3]
    T, B, I, H = (int(rng.integers(1, most)) for most in (7, 4, 5, 19))
    direction = ("forward", "reverse", "bidirectional")[rng.integers(3)]
    D, G = 2 if direction == "bidirectional" else 1, GATES[op]

    def numbers(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    scale = H**-0.5
    inputs = {"X": numbers(T, B, I), "W": numbers(D, G * H, I, scale=0.7), "R": numbers(D, G * H, H, scale=0.7 * scale)}
    if rng.random() < 0.8:
        inputs["B"] = numbers(D, 2 * G * H, scale=0.5)
    if rng.random() < 0.5:
        inputs["sequence_lens"] = rng.integers(1, T + 1, B).astype(np.int32)
    if rng.random() < 0.6:
        inputs["initial_h"] = numbers(D, B, H, scale=0.7)
    if op == "LSTM" and rng.random() < 0.6:
        inputs["initial_c"] = numbers(D, B, H, scale=0.7)
    if op == "LSTM" and rng.random() < 0.5:
        inputs["P"] = numbers(D, 3 * H, scale=0.7)
    activations = None
    if rng.random() < 0.7:
        names = sorted(NUMBERS)

        def activation():
            return (names[rng.integers(len(names))], *(round(float(v), 3) for v in rng.uniform(0.1, 0.9, 2)))

        activations = [[activation() for _ in ACTIVATIONS[op]] for _ in range(D)]
    return Case(
        op,
        H,
        direction,
        inputs,
        activations,
        clip=round(float(rng.uniform(0.2, 2)), 3) if rng.random() < 0.4 else None,
        input_forget=op == "LSTM" and rng.random() < 0.4,
        linear_before_reset=op == "GRU" and rng.random() < 0.5,
    )


# ---- ONNX Runtime


def python_with_onnx_runtime():
    """The Python that has onnx and onnxruntime: this one, the one that the environment names, or None."""
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        return sys.executable
    return os.environ.get("FASTRNN_BENCH_PYTHON_ORT")


def run_here(case):
    """Y, Y_h and Y_c (LSTM) of the node, with Y as [T, B, D·H]."""
    import onnxruntime
    from onnx import TensorProto, helper

    slots = [name if name in case.inputs else "" for name in INPUTS[case.op]]
    while not slots[-1]:
        slots.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 3 if case.op == "LSTM" else 2]
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
    node = helper.make_node(case.op, slots, outputs, **case.attributes())
    graph = helper.make_graph(
        [node],
        case.op,
        [helper.make_tensor_value_info(name, kinds[a.dtype], a.shape) for name, a in case.inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(outputs, session.run(None, case.inputs), strict=True))
    T, D, B, H = found["Y"].shape
    found["Y"] = found["Y"].transpose(0, 2, 1, 3).reshape(T, B, D * H)
    return found


def run(cases):
    """The outputs of all cases, from a Python that has ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "cases.npz"), Path(folder, "outputs.npz")
        save(given, cases)
        subprocess.run([python_with_onnx_runtime(), __file__, given, found], check=True, timeout=300)
        with np.load(found) as file:
            outputs = [{} for _ in cases]
            for key in file.files:
                number, name = key.split("/")
                outputs[int(number)][name] = file[key]
    return outputs


def save(path, cases):
    arrays, fields = {}, []
    for number, case in enumerate(cases):
        arrays |= {f"{number}/{name}": a for name, a in case.inputs.items()}
        fields.append({key: value for key, value in vars(case).items() if key != "inputs"})
    np.savez(path, cases=json.dumps(fields), **arrays)


def load(path):
    with np.load(path) as file:
        cases = [Case(inputs={}, **fields) for fields in json.loads(str(file["cases"]))]
        for key in file.files:
            if key != "cases":
                number, name = key.split("/")
                cases[int(number)].inputs[name] = file[key]
    return cases


# ---- as fastrnn has it


def reordered(array, op, hidden):
    """Rows of gates in ONNX's order (LSTM i o f c, GRU z r h) in ours (i f g o, r z n)."""
    order = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}[op]
    return np.concatenate([array[g * hidden : (g + 1) * hidden] for g in order])


def to_fastrnn(case):
    """Each direction's weights and settings in fastrnn's names and orders.

    Returns
    -------
    list of dict
        ``parameters``: weight_ih, weight_hh, bias_ih, bias_hh (zeros where the node has no B), peephole (with P);
        ``settings``: what the layer's constructor takes: activations, clip, and for the LSTM peephole and coupled,
        for the GRU reset_after; ``reverse``; ``h_0`` and ``c_0`` [B, H] or None.
    """
    op, H, found = case.op, case.hidden, []
    for d in range(case.directions):
        weights = {"weight_ih": case.inputs["W"][d], "weight_hh": case.inputs["R"][d]}
        half = GATES[op] * H
        bias = case.inputs["B"][d] if "B" in case.inputs else np.zeros(2 * half, np.float32)
        weights |= {"bias_ih": bias[:half], "bias_hh": bias[half:]}
        parameters = {name: reordered(a, op, H) for name, a in weights.items()}
        settings = {"activations": case.each_activation(d), "clip": case.clip}
        if op == "LSTM":
            settings |= {"coupled": case.input_forget, "peephole": "P" in case.inputs}
            if "P" in case.inputs:
                i, o, f = np.split(case.inputs["P"][d], 3)
                parameters["peephole"] = np.concatenate([i, o] if case.input_forget else [i, f, o])
            if case.input_forget:
                forget = slice(H, 2 * H)
                for name in weights:
                    parameters[name] = np.delete(parameters[name], forget, axis=0)
        if op == "GRU":
            settings["reset_after"] = case.linear_before_reset
        found.append(
            {
                "parameters": parameters,
                "settings": settings,
                "reverse": case.direction == "reverse" or d == 1,
                "h_0": case.inputs["initial_h"][d] if "initial_h" in case.inputs else None,
                "c_0": case.inputs["initial_c"][d] if "initial_c" in case.inputs else None,
            }
        )
    return found


if __name__ == "__main__":
    given, target = sys.argv[1:]
    results = {}
    for number, case in enumerate(load(given)):
        results |= {f"{number}/{name}": a for name, a in run_here(case).items()}
    np.savez(target, **results)
