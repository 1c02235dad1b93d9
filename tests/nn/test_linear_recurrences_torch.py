"""The layers of csrc/scan.h against loops in PyTorch, written from the papers' equations, and autograd's gradients."""

import numpy as np
import pytest

from tests.core.scan_cases import LAYERS, case, make, run
from tests.reference.finite_differences import assert_close

torch = pytest.importorskip("torch")
T, B, I, H = 7, 3, 5, 6


def linear(x, p, name="ih"):
    return torch.nn.functional.linear(x, p["weight_" + name], p.get("bias_" + name))


def sru(layer, p, x, c):
    y, (W, b) = [], (p["weight_ih"], p["bias_ih"])
    v_f, v_r = p["weight_c"].chunk(2) if "weight_c" in p else (0.0, 0.0)
    alpha = (1 + 2 * np.exp(layer.highway_bias)) ** 0.5 if layer.rescale else 1.0
    for x_t in x:
        u, wf, wr = (x_t @ w.T for w in W[: 3 * H].chunk(3))
        skip = x_t @ W[3 * H :].T if len(W) > 3 * H else x_t
        f, r = torch.sigmoid(wf + v_f * c + b[:H]), torch.sigmoid(wr + v_r * c + b[H:])
        c = f * c + (1 - f) * u
        y.append(r * (torch.tanh(c) if layer.activation == "tanh" else c) + (1 - r) * skip * alpha)
    return torch.stack(y), c


def qrnn(layer, p, x, c, last=None):
    y, W = [], p["weight_ih"]
    for x_t in x:
        read = x_t if layer.window == 1 else torch.cat([x_t, last], dim=-1)
        z, f, o = torch.nn.functional.linear(read, W, p["bias_ih"]).chunk(3, dim=-1)
        f, last = torch.sigmoid(f), x_t
        c = f * c + (1 - f) * torch.tanh(z)
        y.append(torch.sigmoid(o) * c)
    return (torch.stack(y), c) if layer.window == 1 else (torch.stack(y), c, last)


def g(v):
    return torch.where(v >= 0, v + 0.5, torch.sigmoid(v))


def min_gru(layer, p, x, h):
    y = []
    for x_t in x:
        z, n = linear(x_t, p).chunk(2, dim=-1)
        z, n = torch.sigmoid(z), g(n) if layer.candidate == "g" else n
        h = (1 - z) * h + z * n
        y.append(h)
    return torch.stack(y), h


def min_lstm(layer, p, x, h):
    y = []
    for x_t in x:
        f, i, n = linear(x_t, p).chunk(3, dim=-1)
        f, i, n = torch.sigmoid(f), torch.sigmoid(i), g(n) if layer.candidate == "g" else n
        h = f / (f + i) * h + i / (f + i) * n
        y.append(h)
    return torch.stack(y), h


def lru(layer, p, x, s):
    lam = torch.exp(torch.complex(-torch.exp(p["nu_log"]), torch.exp(p["theta_log"])))
    B_, C = (torch.complex(*p[k].chunk(2, dim=d)) for k, d in (("weight_b", 0), ("weight_c", 1)))
    y, s = [], torch.complex(*s.chunk(2, dim=-1))
    for x_t in x:
        s = lam * s + torch.exp(p["gamma_log"]) * (x_t.to(B_.dtype) @ B_.T)
        y.append((s @ C.T).real + x_t @ p["weight_d"].T + p["bias"])
    return torch.stack(y), torch.cat([s.real, s.imag], dim=-1)


def ind_rnn(layer, p, x, h):
    y, phi = [], torch.relu if layer.nonlinearity == "relu" else torch.tanh
    for x_t in x:
        h = phi(linear(x_t, p) + p["weight_hh"] * h)
        y.append(h)
    return torch.stack(y), h


LOOPS = {"sru": sru, "qrnn": qrnn, "mingru": min_gru, "minlstm": min_lstm, "lru": lru, "indrnn": ind_rnn}


@pytest.mark.parametrize("inputs", [I, H])
@pytest.mark.parametrize("name", LAYERS)
def test_one_layer(name, inputs):
    shape = (T, B, inputs, H)
    x, states, dy, dstates, _ = case(name, *shape)
    layer = make(name, inputs, H)
    leaf = {key: torch.tensor(array, requires_grad=True) for key, array in layer.params.items()}
    tx, ts = torch.tensor(x, requires_grad=True), [torch.tensor(s, requires_grad=True) for s in states]
    p = {key.removesuffix("_l0"): array for key, array in leaf.items()}
    y, *finals = LOOPS[name.partition("_")[0]](layer, p, tx, *(s[0] for s in ts))
    pairs = [(y, dy), *zip(finals, (d[0] for d in dstates), strict=True)]
    sum((a * torch.tensor(d)).sum() for a, d in pairs).backward()
    found = run(name, np.float64, *shape)
    expected = {"y": y, "dx": tx.grad, **{"d" + key: array.grad for key, array in leaf.items()}}
    for k, (final, start) in enumerate(zip(finals, ts, strict=True)):
        expected |= {f"state{k}": final[None], f"dstate{k}": start.grad}
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert_close(found[key], array.detach().numpy(), 1e-11, key)


@pytest.mark.parametrize("name", LAYERS)
def test_both_ways(name):
    """The second direction is the layer on rows that are turned over."""
    layer = make(name, I, H, bidirectional=True)
    one = make(name, I, H)
    for key in one.params:
        one.params[key] = layer.params[key + "_reverse"]
    x = case(name, T, B, I, H)[0]
    y, s_n = layer(x)
    back, b_n = one(x[::-1])
    assert np.array_equal(y[..., H:], back[::-1])
    for both, single in zip(*(s if isinstance(s, tuple) else (s,) for s in (s_n, b_n)), strict=True):
        assert np.array_equal(both[1:], single)
