"""Variants of the cells: the loops in PyTorch that they are compared with, and the scripts that compare them."""

import json
import math

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench import variants
from fastrnn.bench.peers.torch_loops import TorchLoop, Variation
from tests.bench.test_scripts import printed

torch = pytest.importorskip("torch")
T, B, I, H = 6, 3, 4, 5
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def keep_threads():
    before = fr.get_num_threads(), torch.get_num_threads()
    yield
    fr.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def weights_of(cell, variation):
    gates = bench.CELLS[cell] - variation.coupled
    shapes = {"weight_ih": (gates * H, I), "weight_hh": (gates * H, H), "bias_ih": gates * H, "bias_hh": gates * H}
    if variation.peephole:
        shapes["peephole"] = (gates - 1) * H
    if variation.layer_norm:
        shapes |= {"gain_ih": gates * H, "gain_hh": gates * H}
        if cell == "lstm":
            shapes |= {"gain_c": H, "bias_c": H}
    return {f"{name}_l0": RNG.standard_normal(shape) for name, shape in shapes.items()}


def sigma(z):
    return 1 / (1 + np.exp(-z))


def norm(v):
    return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)


def by_hand(cell, w, v, x, reset_mask):
    """y of inference, step by step."""
    w = {name.removesuffix("_l0"): array for name, array in w.items()}
    limited = (lambda z: z) if v.clip is None else (lambda z: np.clip(z, -v.clip, v.clip))
    parts = {"lstm": [slice(None)], "gru": [slice(0, 2 * H), slice(2 * H, None)], "rnn": [slice(None)]}[cell]

    def product(a, side):
        z = a @ w[f"weight_{side}"].T
        if v.layer_norm:
            z = w[f"gain_{side}"] * np.concatenate([norm(z[:, part]) for part in parts], 1)
        return z + w[f"bias_{side}"]

    h, c, y = np.zeros((B, H)), np.zeros((B, H)), []
    for t in range(T):
        keep = 1.0 - reset_mask[t][:, None]
        h, c = keep * h, keep * c
        zx, zh = product(x[t], "ih"), product(h, "hh")
        if cell == "rnn":
            new = np.tanh(limited(zx + zh))
        elif cell == "gru":
            r, z = (sigma(limited((zx + zh)[:, k * H : (k + 1) * H])) for k in range(2))
            new = z * h + (1 - z) * np.tanh(limited(zx[:, 2 * H :] + r * zh[:, 2 * H :]))
        else:
            gates = np.split(zx + zh, 3 if v.coupled else 4, axis=1)
            p = np.split(w["peephole"], len(gates) - 1) if v.peephole else np.zeros((len(gates) - 1, 1))
            i = sigma(limited(gates[0] + p[0] * c))
            f = 1 - i if v.coupled else sigma(limited(gates[1] + p[1] * c))
            c_new = f * c + i * np.tanh(limited(gates[-2]))
            o = sigma(limited(gates[-1] + p[-1] * c_new))
            new = o * np.tanh(w["gain_c"] * norm(c_new) + w["bias_c"] if v.layer_norm else c_new)
            c = v.zoneout * c + (1 - v.zoneout) * c_new
        h = v.zoneout * h + (1 - v.zoneout) * new
        y.append(h)
    return np.stack(y)


ALL = {"layer_norm": True, "clip": 0.7, "zoneout": 0.2}
EVERYWHERE = [*({name: value} for name, value in ALL.items()), {"recurrent_dropout": 0.4}, ALL, {}]
OF_LSTM = [{"peephole": True}, {"coupled": True}, {**ALL, "peephole": True, "coupled": True}]
CASES = [(cell, options) for cell in bench.CELLS for options in EVERYWHERE + OF_LSTM * (cell == "lstm")]


@pytest.mark.parametrize("cell, options", CASES, ids=str)
def test_loops_compute_their_equations(cell, options):
    variation = Variation(**options)
    weights, x = weights_of(cell, variation), RNG.standard_normal((T, B, I))
    mask = RNG.random((T, B)) < 0.3
    with torch.no_grad():
        y, state, _ = TorchLoop(cell, weights, variation)(torch.tensor(x), torch.tensor(mask), training=False)
    expected = by_hand(cell, weights, variation, x, mask)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(state[0], y[-1])


@pytest.mark.parametrize("cell", bench.CELLS)
def test_plain_loops_are_pytorchs_layers(cell):
    case = bench.Case(cell, bench.Shape(T, B, I, H), dtype="float64")
    weights, (x, dy) = case.weights(), map(torch.tensor, case.data())
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](I, H, dtype=torch.float64)
    layer.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    loop, grads = TorchLoop(cell, weights), {}
    for name, run in (("layer", layer), ("loop", loop)):
        x.grad = None
        y = run(x.requires_grad_())[0]
        y.backward(dy)
        grads[name] = {"y": y.detach().numpy(), "dx": x.grad.numpy()}
    grads["layer"] |= {name: p.grad.numpy() for name, p in layer.named_parameters()}
    bench.check({"layer": grads["layer"], "loop": grads["loop"] | loop.grads()}, "float64")
    loop.zero_grad()
    assert all(p.grad is None for p in loop.p.values())


def test_gradients_of_a_loop_are_in_the_order_of_the_gates():
    variation = Variation(coupled=True, peephole=True)
    weights, x = weights_of("lstm", variation), torch.tensor(RNG.standard_normal((T, B, I)))

    def loss(given):
        loop = TorchLoop("lstm", given, variation)
        return loop, loop(x)[0].square().sum()

    loop, value = loss(weights)
    value.backward()
    for name, grad in loop.grads().items():
        step = RNG.standard_normal(grad.shape)
        up, down = (loss({**weights, name: weights[name] + e * step})[1].item() for e in (1e-5, -1e-5))
        assert (up - down) / 2e-5 == pytest.approx(float((grad * step).sum()), rel=1e-6)


@pytest.mark.parametrize("name", ["zoneout", "recurrent_dropout", "input_dropout", "weight_dropout"])
@pytest.mark.parametrize("cell", bench.CELLS)
def test_loops_draw_masks_in_training(cell, name):
    variation = Variation(**{name: 0.5})
    loop = TorchLoop(cell, weights_of(cell, variation), variation)
    x = torch.tensor(RNG.standard_normal((T, B, I)))
    one, other = loop(x)[0], loop(x)[0]
    assert not torch.equal(one, other)
    kept = (one[1:] == one[:-1]).float().mean().item()
    assert (kept > 0.2) == (name == "zoneout")  # only there h stays as it was, in half of the places


# ---- the rows


def test_every_variant_has_its_row_once():
    assert len({str(v) for v in variants.VARIANTS}) == len(variants.VARIANTS)
    assert {v.name for v in variants.VARIANTS if v.of_plain is not None} >= {
        "layer_norm", "peephole", "coupled", "clip", "zoneout", "recurrent_dropout", "reset_mask"
    }  # fmt: skip


def test_a_side_that_computes_something_else_is_noticed(monkeypatch):
    monkeypatch.setattr(TorchLoop, "_limited", lambda self: lambda z: z * 1.01)
    with pytest.raises(bench.Disagreement, match=r"^rnn plain: torch differs from fastrnn in y "):
        variants.prepare(variants.Variant("plain", "rnn"), bench.Shape(T, B, I, H))


def test_what_fastrnn_does_not_have_is_said():
    class Odd(variants.Variant):
        def options(self):
            return {"no_such_argument": 1}

    with pytest.raises(variants.NotHere, match=r"^lstm odd: .*no_such_argument"):
        variants.prepare(Odd("odd"), bench.Shape(T, B, I, H))


def test_the_variants_script():
    options = ["--quick", "--json", "--threads", "1", "--cell", "lstm", "gru", "rnn"]
    *_, line = printed("variants", *options).splitlines()
    found = json.loads(line)
    assert found["threads"] == 1 and found["shape"] == [20, 4, 8, 16]
    assert set(found["rows"]) | set(found["missing"]) == set(map(str, variants.VARIANTS))
    assert {"lstm plain", "gru plain", "rnn plain"} <= set(found["rows"])
    for name, row in found["rows"].items():
        assert set(row["ms"]) == {"fastrnn", "plain", "torch"}, name
        assert min(row["ms"].values()) > 0 and row["of_plain"] > 0 and row["over_torch"] > 0
        assert row["differences"]["torch"] <= 1e-4
        if row["wanted_of_plain"] is not None:
            fast = row["wanted_over_torch"] is None or row["over_torch"] >= row["wanted_over_torch"]
            assert row["met"] == (row["of_plain"] <= row["wanted_of_plain"] and fast)


def test_the_script_of_cells_that_users_write():
    *_, line = printed("custom_cells", "--quick", "--json", "--threads", "1", "--rows", "2").splitlines()
    found = json.loads(line)
    assert set(found["rows"]) == {f"{cell} H={n} B=2" for cell in ("lstm", "gru") for n in (5, 17)}
    sides = {"fastrnn", "torch"} | (set() if found["missing"] else {"custom"})
    assert all(set(row["ms"]) == sides and min(row["ms"].values()) > 0 for row in found["rows"].values())
    for name, mean in found["geometric_means"].items():
        logs = [math.log(row[name]) for row in found["rows"].values()]
        assert math.log(mean) == pytest.approx(sum(logs) / 4)
    assert (found["met"] is None) == bool(found["missing"])
