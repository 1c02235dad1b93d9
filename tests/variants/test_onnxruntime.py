"""The reference against ONNX Runtime, with random attributes: activations, clips, coupled gates, peepholes, lengths.

ONNX Runtime computes these operators in float32, with approximations of its own for σ and tanh: 1e-5.
"""

import numpy as np
import pytest

from fastrnn import reference

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

T, B, I, H = 5, 3, 4, 6
TOLERANCE = 1e-5
WITH_NUMBERS = {"Affine": 2, "LeakyRelu": 1, "ThresholdedRelu": 1, "ScaledTanh": 2, "HardSigmoid": 2, "Elu": 1}
ACTIVATIONS = ["Relu", "Softsign", "Softplus", "Tanh", "Sigmoid", *WITH_NUMBERS]
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
ORDERS = {"LSTM": ("ifgo", "iofg"), "GRU": ("rzn", "zrn"), "RNN": ("h", "h")}  # ours, ONNX's


class Problem:
    """One operator with random attributes and arrays."""

    def __init__(self, kind, seed):
        self.rng = rng = np.random.default_rng([seed, *kind.encode()])
        self.kind, self.directions = kind, 1 + rng.integers(2)
        self.direction = "bidirectional" if self.directions == 2 else str(rng.choice(["forward", "reverse"]))
        self.activations = [[self.activation() for _ in range(FUNCTIONS[kind])] for _ in range(self.directions)]
        if rng.random() < 0.3:  # the usual ones
            usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[kind]
            self.activations = [[(name,) for name in usual]] * self.directions
        self.clip = float(rng.uniform(0.2, 1)) if rng.random() < 0.5 else None
        self.coupled = kind == "LSTM" and rng.random() < 0.4
        self.reset_after = kind == "GRU" and rng.random() < 0.5
        self.lengths = rng.integers(1, T + 1, B) if rng.random() < 0.6 else None
        gates = len(ORDERS[kind][0])
        self.x = self.random(T, B, I)
        self.W, self.R = self.random(self.directions, gates * H, I), self.random(self.directions, gates * H, H)
        self.b = self.random(self.directions, 2, gates * H) if rng.random() < 0.7 else None
        self.h, self.c = self.random(self.directions, B, H), self.random(self.directions, B, H)
        self.P = self.random(self.directions, 3 * H) if kind == "LSTM" and rng.random() < 0.5 else None

    def random(self, *shape):
        return self.rng.uniform(-0.7, 0.7, shape).astype(np.float32)

    def activation(self):
        name = str(self.rng.choice(ACTIVATIONS))
        return (name, *(float(n) for n in self.rng.uniform(0.2, 0.9, WITH_NUMBERS.get(name, 0))))

    def theirs(self):
        """(Y [T, D, B, H], Y_h, Y_c [D, B, H]) of ONNX Runtime."""
        ours, order = ORDERS[self.kind]

        def put(a):
            return np.stack([reference.reorder_gates(part, ours, order) for part in a])

        arrays = {"X": self.x, "W": put(self.W), "R": put(self.R)}
        if self.b is not None:
            arrays["B"] = np.concatenate([put(self.b[:, 0]), put(self.b[:, 1])], axis=1)
        if self.lengths is not None:
            arrays["sequence_lens"] = self.lengths.astype(np.int32)
        arrays["initial_h"] = self.h
        if self.kind == "LSTM":
            arrays["initial_c"] = self.c
            if self.P is not None:
                arrays["P"] = np.stack([reference.reorder_gates(p, "ifo", "iof") for p in self.P])
        flat = [a for direction in self.activations for a in direction]
        attributes = {
            "hidden_size": H,
            "direction": self.direction,
            "activations": [a[0] for a in flat],
            "activation_alpha": [a[1] for a in flat if len(a) > 1] or None,
            "activation_beta": [a[2] for a in flat if len(a) > 2] or None,
            "clip": self.clip,
            "input_forget": 1 if self.coupled else None,
            "linear_before_reset": 1 if self.reset_after else None,
        }
        order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        names = [name if name in arrays else "" for name in order[: 8 if self.kind == "LSTM" else 6]]
        outputs = ["Y", "Y_h", "Y_c"][: 3 if self.kind == "LSTM" else 2]
        given = {name: value for name, value in attributes.items() if value is not None}
        node = onnx.helper.make_node(self.kind, names, outputs, **given)
        types = {
            name: onnx.TensorProto.INT32 if a.dtype == np.int32 else onnx.TensorProto.FLOAT
            for name, a in arrays.items()
        }
        graph = onnx.helper.make_graph(
            [node],
            "one",
            [onnx.helper.make_tensor_value_info(n, types[n], a.shape) for n, a in arrays.items()],
            [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(outputs, arrays)

    def ours(self):
        found = []
        for d in range(self.directions):
            options = {"lengths": self.lengths, "clip": self.clip, "activations": self.activations[d]}
            options["reverse"] = self.direction == "reverse" or d == 1
            W, R, b = self.W[d], self.R[d], (None, None) if self.b is None else self.b[d]
            state = self.h[d]
            if self.kind == "LSTM":
                state = (self.h[d], self.c[d])
                P = None if self.P is None else self.P[d]
                if self.coupled:
                    keep = np.r_[0:H, 2 * H : 4 * H]
                    W, R, b = W[keep], R[keep], [None if part is None else part[keep] for part in b]
                    P = None if P is None else P[np.r_[0:H, 2 * H : 3 * H]]
                options |= {"coupled": self.coupled, "peephole": P}
            elif self.kind == "GRU":
                options["reset_after"] = self.reset_after
            arrays = [a if a is None else a.astype(np.float64) for a in (W, R, *b)]
            state = tuple(s.astype(np.float64) for s in state) if self.kind == "LSTM" else state.astype(np.float64)
            if options.get("peephole") is not None:
                options["peephole"] = options["peephole"].astype(np.float64)
            y, end = getattr(reference, self.kind.lower())(self.x.astype(np.float64), state, *arrays, **options)
            found.append((y, *(end if self.kind == "LSTM" else (end,))))
        y, *end = zip(*found)
        return np.stack(y, axis=1), *(np.stack(s) for s in end)


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("seed", range(40))
def test_random_attributes(kind, seed):
    problem = Problem(kind, seed)
    for name, actual, expected in zip(("Y", "Y_h", "Y_c"), problem.ours(), problem.theirs()):
        error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)
        assert error <= TOLERANCE, (name, error, vars(problem)["activations"], problem.clip, problem.coupled)
