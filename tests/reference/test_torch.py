"""The reference against outputs and gradients that PyTorch computed, stored by `tests/data/make_torch_data.py`.

Both sides work in float64 and differ by rounding only: 1e-12 leaves room for sums of some dozen terms.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from fastrnn import reference

from .finite_differences import assert_close

TOLERANCE = 1e-12


def load():
    """The stored arrays as {case: {array name: array}}."""
    cases = {}
    with np.load(Path(__file__).parents[1] / "data" / "torch_reference.npz") as data:
        for key in data.files:
            case, _, name = key.partition("/")
            cases.setdefault(case, {})[name] = data[key]
    return cases


DATA = load()
RECURRENT = [case for case, arrays in DATA.items() if "h_0" in arrays]
OPTIMISERS = [case for case in DATA if case.startswith("optimiser_")]
CROSS_ENTROPY = [case for case in DATA if case.startswith("cross_entropy_")]


def close(actual, expected, what):
    assert_close(actual, expected, TOLERANCE, what)


def under(arrays, folder):
    return {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith(folder + "/")}


def test_all_cases_are_there():
    assert (len(RECURRENT), len(OPTIMISERS), len(CROSS_ENTROPY)) == (11, 9, 4)
    assert DATA["torch_version"][""] == "2.13.0"
    assert all(a.dtype == np.float64 for case in RECURRENT for name, a in DATA[case].items() if name != "config")


@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent(case):
    d = DATA[case]
    config, lstm = json.loads(str(d["config"])), "c_0" in d
    state = (d["h_0"], d["c_0"]) if lstm else d["h_0"]
    dstate = (d["dh_n"], d["dc_n"]) if lstm else d["dh_n"]
    cell = config.pop("cell")
    (y, state_n), pullback = reference.stack_vjp(cell, d["x"], state, under(d, "param"), **config)
    dx, dstate_0, grads = pullback(d["dy"], dstate)
    close(y, d["y"], "y")
    close(dx, d["dx"], "dx")
    for k, s in enumerate("hc" if lstm else "h"):
        close(state_n[k] if lstm else state_n, d[f"{s}_n"], f"{s}_n")
        close(dstate_0[k] if lstm else dstate_0, d[f"d{s}_0"], f"d{s}_0")
    expected = under(d, "grad")
    assert set(grads) == set(expected)
    for name in expected:
        close(grads[name], expected[name], name)


@pytest.mark.parametrize("case", ["lstm", "lstm_no_bias", "lstm_projected", "gru", "gru_no_bias"])
def test_recurrent_single_layer(case):
    """The function itself, by the names of its arguments, beside the stack that is built on it."""
    d = DATA[case]
    weights = {name.removesuffix("_l0"): a for name, a in under(d, "param").items()}
    f_vjp, lstm = (reference.lstm_vjp, True) if "c_0" in d else (reference.gru_vjp, False)
    state = (d["h_0"][0], d["c_0"][0]) if lstm else d["h_0"][0]
    dstate = (d["dh_n"][0], d["dc_n"][0]) if lstm else d["dh_n"][0]
    (y, state_n), pullback = f_vjp(d["x"], state, **weights)
    dx, dstate_0, grads = pullback(d["dy"], dstate)
    close(y, d["y"], "y")
    close(dx, d["dx"], "dx")
    for k, s in enumerate("hc" if lstm else "h"):
        close(state_n[k] if lstm else state_n, d[f"{s}_n"][0], f"{s}_n")
        close(dstate_0[k] if lstm else dstate_0, d[f"d{s}_0"][0], f"d{s}_0")
    for name in weights:
        close(getattr(grads, name), d[f"grad/{name}_l0"], name)


def test_layer_norm():
    d = DATA["layer_norm"]
    y, pullback = reference.layer_norm_vjp(d["x"], d["weight"], d["bias"])
    dx, grads = pullback(d["dy"])
    for name, actual in {"y": y, "dx": dx, "dweight": grads.weight, "dbias": grads.bias}.items():
        close(actual, d[name], name)


@pytest.mark.parametrize("case", CROSS_ENTROPY)
def test_cross_entropy(case):
    d = DATA[case]
    loss, dlogits = reference.cross_entropy(d["logits"], d["targets"], **json.loads(str(d["config"])))
    close(loss, d["loss"], "loss")
    close(dlogits, d["dlogits"], "dlogits")


@pytest.mark.parametrize("case", ["bce_plain", "bce_weight"])
def test_bce_with_logits(case):
    d = DATA[case]
    loss, dlogits = reference.bce_with_logits(d["logits"], d["target"], weight=d.get("weight"))
    close(loss, d["loss"], "loss")
    close(dlogits, d["dlogits"], "dlogits")


def test_mse():
    d = DATA["mse"]
    loss, dpred = reference.mse(d["pred"], d["target"])
    close(loss, d["loss"], "loss")
    close(dpred, d["dpred"], "dpred")


@pytest.mark.parametrize("case", OPTIMISERS)
def test_optimiser(case):
    d = DATA[case]
    config = json.loads(str(d["config"]))
    param, state = d["params"][0].copy(), {}
    for k, grad in enumerate(d["grads"]):
        before = grad.copy()
        getattr(reference, config["function"])(param, grad, state, **config["options"])
        close(param, d["params"][k + 1], f"parameter after step {k + 1}")
        np.testing.assert_array_equal(grad, before)


@pytest.mark.parametrize("case", ["clip_small", "clip_large"])
@pytest.mark.parametrize("kind", [dict, lambda grads: list(grads.values()), lambda grads: iter(grads.values())])
def test_clip_grad_norm(case, kind):
    d = DATA[case]
    grads = {name: g.copy() for name, g in under(d, "grad").items()}
    close(reference.clip_grad_norm(kind(grads), float(d["max_norm"])), d["norm"], "norm")
    for name, expected in under(d, "clipped").items():
        close(grads[name], expected, name)
