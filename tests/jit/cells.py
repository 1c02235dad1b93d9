"""Cells that the tests share. Each is written once, over the functions of `fastrnn.jit` or those of PyTorch."""

from types import SimpleNamespace

import fastrnn as fr
from fastrnn import jit


def gru(f):
    def my_gru(wx, rh, s):
        r = f.sigmoid(wx.r + rh.r)
        z = f.sigmoid(wx.z + rh.z)
        n = f.tanh(wx.n + r * rh.n)
        return (1 - z) * n + z * s.h

    return my_gru


def lstm(f):
    def my_lstm(wx, rh, s):
        i, g = f.sigmoid(wx.i + rh.i), f.tanh(wx.g + rh.g)
        c = f.sigmoid(wx.f + rh.f) * s.c + i * g
        return f.sigmoid(wx.o + rh.o) * f.tanh(c), c

    return my_lstm


def peephole(f):
    def gate(a, b, p, c):
        return f.sigmoid(a + p * c + b)  # the products with something between them

    def my_peephole(wx, rh, s, v):
        i, forget = gate(wx.i, rh.i, v.p_i, s.c), gate(wx.f, rh.f, v.p_f, s.c)
        c = forget * s.c + i * f.tanh(wx.g + rh.g)
        return gate(wx.o, rh.o, v.p_o, c) * f.tanh(c), c

    return my_peephole


def fast_grnn(f):
    def my_fast_grnn(wx, rh, s, v):
        z = f.sigmoid(wx.n + rh.n)
        return (f.sigmoid(v.zeta) * (1 - z) + f.sigmoid(v.nu)) * f.tanh(wx.n + rh.n) + z * s.h

    return my_fast_grnn


def several_states(f):
    def my_states(wx, rh, s, v):
        slow = 0.9 * s.slow + 0.1 * f.tanh(wx.a + rh.a)
        fast = f.sigmoid(v.rate) * s.fast + wx.b - rh.b / 2
        return f.tanh(slow + 0.5 * fast * s.h), slow, fast - 0.1 * fast * s.slow

    return my_states


def everything(f):
    def my_everything(wx, rh, s):
        a = f.where((wx.a > rh.a) & ~(s.m < 0.3), f.softplus(wx.a * rh.a), f.abs(s.m) ** 1.5 - 0.2)
        b = f.minimum(f.maximum(wx.b + rh.b, -1.0), 1.0)
        q = f.log(1 + s.q**2) + f.sqrt(f.abs(rh.c) + 0.1) + f.relu(s.h) / (1 + f.exp(-wx.c))
        q = q + (1 + f.abs(s.m)) ** f.tanh(s.q) + f.power(1 + f.abs(s.h), -2) - 1 / (2 + wx.a**2)
        return f.tanh(a * b) + 0.1 * q, f.tanh(a - s.m**3), f.tanh(q / 2) + 0.1 * s.q

    return my_everything


def many_gates(f):
    def my_gates(wx, rh, s):
        a, b = f.tanh(wx.a + rh.a), f.sigmoid(wx.b + rh.b)
        return b * a + (1 - b) * s.h + 0.3 * f.tanh(wx.c + rh.c) * f.sigmoid(wx.d + rh.d) * wx.e * f.tanh(rh.e)

    return my_gates


ARGUMENTS = {
    gru: {"gates": ("r", "z", "n")},
    lstm: {"gates": ("i", "f", "g", "o"), "states": ("h", "c"), "initial": {"f": 1.0}},
    peephole: {"gates": ("i", "f", "g", "o"), "states": ("h", "c"), "vectors": ("p_i", "p_f", "p_o")},
    fast_grnn: {"gates": ("n",), "vectors": ("zeta", "nu"), "initial": {"zeta": 1.0, "nu": -4.0}},
    several_states: {"gates": ("a", "b"), "states": ("h", "slow", "fast"), "vectors": ("rate",)},
    many_gates: {"gates": ("a", "b", "c", "d", "e")},
    everything: {"gates": ("a", "b", "c"), "states": ("h", "m", "q")},
}
CELLS = {make.__name__: fr.cell(**arguments)(make(jit)) for make, arguments in ARGUMENTS.items()}


def in_torch(name):
    """The cell's equations on tensors."""
    import torch

    def lift(x, like):
        return x if isinstance(x, torch.Tensor) else torch.full_like(like, x)

    def pair(function):
        return lambda a, b: function(lift(a, b), lift(b, a))

    f = SimpleNamespace(
        **{op: getattr(torch, op) for op in ("sigmoid", "tanh", "exp", "log", "sqrt", "relu", "abs", "where")},
        softplus=torch.nn.Softplus(threshold=1000),
        minimum=pair(torch.minimum),
        maximum=pair(torch.maximum),
        power=torch.pow,
    )
    return next(make for make in ARGUMENTS if make.__name__ == name)(f)


@fr.cell(gates=("n",))
def importable(wx, rh, s):
    """A cell that can be found by name."""
    return jit.tanh(wx.n + rh.n)
