"""ONNX Runtime on random attributes: the same from `fastrnn.functional` and layers, from the reference, and from a few
lines of NumPy.

The last show that `to_fastrnn` says what a node means, so that what differs is ours or ONNX Runtime's.
"""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import functional as F
from tests.variants.onnx_runtime import NUMBERS, python_with_onnx_runtime, random_case, run, to_fastrnn


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def activation(name, alpha, beta):
    return {
        "Affine": lambda z: alpha * z + beta,
        "Relu": lambda z: np.maximum(z, 0),
        "LeakyRelu": lambda z: np.where(z >= 0, z, alpha * z),
        "ThresholdedRelu": lambda z: np.where(z >= alpha, z, 0),
        "ScaledTanh": lambda z: alpha * np.tanh(beta * z),
        "HardSigmoid": lambda z: np.clip(alpha * z + beta, 0, 1),
        "Elu": lambda z: np.where(z >= 0, z, alpha * (np.exp(np.minimum(z, 0)) - 1)),
        "Softsign": lambda z: z / (1 + abs(z)),
        "Softplus": lambda z: np.logaddexp(0, z),
        "Tanh": np.tanh,
        "Sigmoid": sigmoid,
    }[name]


def step(op, p, settings, x, h, c):
    """One step of one direction: the new h and c. Everything in float64."""
    clip = settings["clip"] or np.inf
    f, *others = [activation(*a) for a in settings["activations"]]

    def gate(act, z):
        return act(np.clip(z, -clip, clip))

    wx, rh = x @ p["weight_ih"].T + p["bias_ih"], h @ p["weight_hh"].T + p["bias_hh"]
    if op == "RNN":
        return gate(f, wx + rh), c
    H = h.shape[1]
    if op == "GRU":
        wr, wz, wn = np.split(wx, 3, 1)
        rr, rz, rn = np.split(rh, 3, 1)
        r, z = gate(f, wr + rr), gate(f, wz + rz)
        if not settings["reset_after"]:
            rn = (r * h) @ p["weight_hh"][2 * H :].T + p["bias_hh"][2 * H :]
        n = gate(others[0], wn + (r * rn if settings["reset_after"] else rn))
        return (1 - z) * n + z * h, c
    gates = np.split(wx + rh, 3 if settings["coupled"] else 4, 1)
    holes = np.split(p["peephole"], len(p["peephole"]) // H) if settings["peephole"] else [0, 0, 0]
    i = gate(f, gates[0] + holes[0] * c)
    forget = 1 - i if settings["coupled"] else gate(f, gates[1] + holes[1] * c)
    c = forget * c + i * gate(others[0], gates[-2])
    return gate(f, gates[-1] + holes[-1] * c) * others[1](c), c  # the clip doesn't limit c


def naive(case):
    """What a node means, row by row."""
    x = case.inputs["X"].astype(np.float64)
    T, B, _ = x.shape
    lengths = case.inputs.get("sequence_lens", np.full(B, T))
    H, D = case.hidden, case.directions
    y, h_n, c_n = np.zeros((T, B, D * H)), np.zeros((D, B, H)), np.zeros((D, B, H))
    for d, one in enumerate(to_fastrnn(case)):
        for b in range(B):
            h, c = (np.zeros((1, H)) if one[s] is None else one[s][b : b + 1].astype(float) for s in ("h_0", "c_0"))
            times = range(lengths[b])
            for t in reversed(times) if one["reverse"] else times:
                h, c = step(case.op, one["parameters"], one["settings"], x[t, b : b + 1], h, c)
                y[t, b, d * H : (d + 1) * H] = h[0]
            h_n[d, b], c_n[d, b] = h[0], c[0]
    return {"Y": y, "Y_h": h_n, "Y_c": c_n}


@pytest.mark.skipif(python_with_onnx_runtime() is None, reason="needs onnx and onnxruntime")
def test_onnx_runtime_computes_what_the_equations_say():
    cases = [random_case(seed) for seed in range(450)]
    used = {name for case in cases for one in case.activations or [] for name, _, _ in one}
    assert used == set(NUMBERS), "every activation has its turn"
    for seed, (case, outputs) in enumerate(zip(cases, run(cases))):
        right = naive(case)
        for name, found in outputs.items():
            scale = max(1, abs(right[name]).max())
            assert abs(found - right[name]).max() <= 1e-5 * scale, f"case {seed}: {name} of {case}"


def by_function(case, functions=F, dtype=np.float32):
    """Y, Y_h and Y_c of `fastrnn.functional` or of the reference, one call a direction."""
    parts = []

    def cast(a):
        return None if a is None else a.astype(dtype)

    for one in to_fastrnn(case):
        settings = dict(one["settings"])
        parameters = {name: cast(a) for name, a in one["parameters"].items()}
        settings.pop("peephole", None)
        state = cast(one["h_0"]) if case.op != "LSTM" else (cast(one["h_0"]), cast(one["c_0"]))
        found = getattr(functions, case.op.lower())(
            cast(case.inputs["X"]), state, **parameters, **settings, reverse=one["reverse"],
            lengths=case.inputs.get("sequence_lens"),
        )  # fmt: skip
        parts.append((found[0], *(found[1] if case.op == "LSTM" else found[1:])))
    y, *ends = zip(*parts, strict=True)
    return dict(zip(("Y", "Y_h", "Y_c"), (np.concatenate(y, -1), *map(np.stack, ends)), strict=False))


def by_layer(case):
    """Y, Y_h and Y_c of a layer; None where a layer can't be so: reverse alone, directions with different functions."""
    directions = to_fastrnn(case)
    if case.direction == "reverse" or any(one["settings"] != directions[0]["settings"] for one in directions):
        return None
    layer = getattr(fr, case.op)(
        case.inputs["X"].shape[2], case.hidden, bidirectional=len(directions) == 2, **directions[0]["settings"]
    )
    layer.load_state_dict(
        {
            f"{name}_l0{suffix}": a
            for suffix, one in zip(("", "_reverse"), directions, strict=False)
            for name, a in one["parameters"].items()
        }
    )
    state = case.inputs.get("initial_h")
    if case.op == "LSTM":
        state = (state, case.inputs.get("initial_c"))
    y, end = layer(case.inputs["X"], state, lengths=case.inputs.get("sequence_lens"))
    return dict(zip(("Y", "Y_h", "Y_c"), (y, *(end if case.op == "LSTM" else (end,))), strict=False))


@pytest.mark.skipif(python_with_onnx_runtime() is None, reason="needs onnx and onnxruntime")
def test_fastrnn_computes_what_onnx_runtime_does():
    """Its Softplus is infinite past 88, which states without a bound reach; then there is nothing to compare with."""
    cases = [random_case(seed) for seed in range(900)]
    layers, infinite = 0, []
    for seed, (case, outputs) in enumerate(zip(cases, run(cases), strict=True)):
        layer = by_layer(case)
        layers += layer is not None
        if not all(np.isfinite(right).all() for right in outputs.values()):
            infinite.append(any(name == "Softplus" for one in case.activations for name, _, _ in one))
            continue
        reference = by_function(case, fr.reference, np.float64)
        for what, ours in (("function", by_function(case)), ("layer", layer), ("reference", reference)):
            for name, right in outputs.items() if ours is not None else ():
                error, scale = abs(ours[name] - right).max(), max(1, abs(right).max())
                assert error <= 1e-5 * scale, f"case {seed}: {name} of the {what}, {case}"
    assert layers > 300
    assert all(infinite) and len(infinite) <= 4


def test_rows_come_in_our_orders():
    case = random_case(0)
    assert case.op == "LSTM"
    case.input_forget = True
    H, rows = case.hidden, case.inputs["W"][0]
    weight = to_fastrnn(case)[0]["parameters"]["weight_ih"]
    np.testing.assert_array_equal(weight, np.concatenate([rows[:H], rows[3 * H :], rows[H : 2 * H]]))  # i g o
