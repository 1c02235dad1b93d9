"""LSTM, GRU and RNN with their variants as PyTorch modules: a cell, and a Python loop over time.

Written as a user of PyTorch would who cares about speed: the input's products (and their layer norm) are made for all
steps at once, the gates of a step come from one product, biases are added where that is free. Parameters have
fastrnn's names and layouts. ``forward(x, state, ...)`` takes x [T, B, I] and returns ``(y, state_n, states)``; masks
are given, and draw nothing.
"""

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {  # ONNX's, as functions of z, alpha, beta
    "affine": lambda z, a, b: a * z + b,
    "relu": lambda z, a, b: F.relu(z),
    "leakyrelu": lambda z, a, b: F.leaky_relu(z, a),
    "thresholdedrelu": lambda z, a, b: F.threshold(z, a, 0.0),
    "scaledtanh": lambda z, a, b: a * torch.tanh(b * z),
    "hardsigmoid": lambda z, a, b: torch.clamp(a * z + b, 0, 1),
    "elu": lambda z, a, b: F.elu(z, a),
    "softsign": lambda z, a, b: F.softsign(z),
    "softplus": lambda z, a, b: F.softplus(z),
    "tanh": lambda z, a, b: torch.tanh(z),
    "sigmoid": lambda z, a, b: torch.sigmoid(z),
    "identity": lambda z, a, b: z,
}


def function(spec):
    """The function of an activation: a name, or (name, alpha, beta)."""
    if spec in ("Tanh", "Sigmoid", "Relu"):  # without a call in between
        return {"Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Relu": torch.relu}[spec]
    name, alpha, beta = (*((spec,) if isinstance(spec, str) else spec), None, None)[:3]
    return lambda z: ACTIVATIONS[name.lower()](z, alpha, beta)


class Loop(nn.Module):
    """What the three share: parameters, the input's products, masks between the steps.

    A subclass has ``step(projected, state, seen)``: one step from a slice of what ``project`` returns, the states
    before, and the h that the recurrent weights see; it returns the states after.
    """

    num_states = 1

    def __init__(
        self,
        input_size,
        hidden_size,
        gates,
        activations,
        *,
        layer_norm=False,
        clip=None,
        dtype=None,
        scalars=(),
        biases=("bias_ih", "bias_hh"),
    ):
        super().__init__()
        self.hidden_size, self.clip, self.layer_norm = hidden_size, clip, layer_norm
        self.functions = [function(a) for a in activations]
        rows, bound = gates * hidden_size, hidden_size**-0.5
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size), **dict.fromkeys(biases, (rows,))}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, dtype=dtype).uniform_(-bound, bound)))
        for name, value in dict(scalars).items():
            self.register_parameter(name, nn.Parameter(torch.full((1,), value, dtype=dtype)))
        if layer_norm:
            self.gain_ih = nn.Parameter(torch.ones(rows, dtype=dtype))
            self.gain_hh = nn.Parameter(torch.ones(rows, dtype=dtype))

    def limited(self, z):
        return z if self.clip is None else torch.clamp(z, -self.clip, self.clip)

    def normalised(self, z, gain, bias):
        return F.layer_norm(z, (z.shape[-1],), gain, bias)

    def project(self, x):
        """The part of the pre-activations that comes from the input, for all steps: [T, B, G·H]."""
        if self.layer_norm:
            return self.normalised(F.linear(x, self.weight_ih), self.gain_ih, self.bias_ih)
        return F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def recurrent(self, projected, seen):
        """All pre-activations of one step."""
        if self.layer_norm:
            return projected + self.normalised(F.linear(seen, self.weight_hh), self.gain_hh, self.bias_hh)
        return torch.addmm(projected, seen, self.weight_hh.t())

    def forward(self, x, state=None, *, zoneout=None, recurrent_mask=None, reset_mask=None):
        """
        zoneout: one for each state, [T, B, H] or a number; recurrent_mask: [B, H]; reset_mask: bool [T, B]
        """
        if state is None:
            state = tuple(x.new_zeros(x.shape[1], self.hidden_size) for _ in range(self.num_states))
        keep = None if reset_mask is None else (~reset_mask).to(x.dtype).unsqueeze(-1).unbind(0)
        if zoneout is not None:
            zoneout = [(d,) * len(x) if isinstance(d, float) else d.unbind(0) for d in zoneout]
        states = []
        for t, projected in enumerate(self.project(x).unbind(0)):
            if keep is not None:
                state = tuple(s * keep[t] for s in state)
            h = state[0]
            after = self.step(projected, state, h if recurrent_mask is None else h * recurrent_mask)
            if zoneout is not None:
                after = tuple(torch.lerp(new, old, d[t]) for new, old, d in zip(after, state, zoneout, strict=True))
            state = after
            states.append(state)
        whole = tuple(torch.stack(s) for s in zip(*states, strict=True))
        return whole[0], state, whole


class LSTMLoop(Loop):
    """LSTM: peepholes [3H] for i, f, o ([2H] for i, o when coupled), f = 1 − i when coupled."""

    num_states = 2

    def __init__(
        self,
        input_size,
        hidden_size,
        *,
        peephole=False,
        coupled=False,
        layer_norm=False,
        activations=("Sigmoid", "Tanh", "Tanh"),
        clip=None,
        dtype=None,
    ):
        gates = 3 if coupled else 4
        super().__init__(input_size, hidden_size, gates, activations, layer_norm=layer_norm, clip=clip, dtype=dtype)
        self.coupled, self.gates = coupled, gates
        self.peephole = nn.Parameter(torch.zeros((gates - 1) * hidden_size, dtype=dtype)) if peephole else None
        if layer_norm:
            self.gain_c = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
            self.bias_c = nn.Parameter(torch.zeros(hidden_size, dtype=dtype))

    def step(self, projected, state, seen):
        gate, candidate, output = self.functions
        c = state[1]
        z = self.recurrent(projected, seen)
        if self.peephole is None:
            z = self.limited(z)  # all at once
        z_i, *z_f, z_g, z_o = z.chunk(self.gates, 1)
        if self.peephole is not None:
            p_i, *p_f, p_o = self.peephole.chunk(self.gates - 1)
            z_i, z_g = self.limited(torch.addcmul(z_i, p_i, c)), self.limited(z_g)
            z_f = [self.limited(torch.addcmul(z, p, c)) for z, p in zip(z_f, p_f, strict=True)]
        i, g = gate(z_i), candidate(z_g)
        c = torch.lerp(c, g, i) if self.coupled else torch.addcmul(gate(z_f[0]) * c, i, g)
        if self.peephole is not None:
            z_o = self.limited(torch.addcmul(z_o, p_o, c))
        v = self.normalised(c, self.gain_c, self.bias_c) if self.layer_norm else c
        return gate(z_o) * output(v), c


class GRULoop(Loop):
    """GRU with the reset gate behind the recurrent product of n, or before it (reset_after=False)."""

    def __init__(
        self,
        input_size,
        hidden_size,
        *,
        reset_after=True,
        layer_norm=False,
        activations=("Sigmoid", "Tanh"),
        clip=None,
        dtype=None,
    ):
        super().__init__(input_size, hidden_size, 3, activations, layer_norm=layer_norm, clip=clip, dtype=dtype)
        self.reset_after = reset_after

    def project(self, x):
        """One layer norm over r and z, one over n."""
        if not self.layer_norm:
            return F.linear(x, self.weight_ih, self.bias_ih)
        H = self.hidden_size
        rz, n = F.linear(x, self.weight_ih).split((2 * H, H), -1)
        (gain_rz, gain_n), (b_rz, b_n) = self.gain_ih.split((2 * H, H)), self.bias_ih.split((2 * H, H))
        return torch.cat([self.normalised(rz, gain_rz, b_rz), self.normalised(n, gain_n, b_n)], -1)

    def step(self, projected, state, seen):
        gate, candidate = self.functions
        (h,) = state
        H = self.hidden_size
        a_rz, a_n = projected.split((2 * H, H), 1)

        def product(rows, seen):
            z = F.linear(seen, self.weight_hh[rows], None if self.layer_norm else self.bias_hh[rows])
            return self.normalised(z, self.gain_hh[rows], self.bias_hh[rows]) if self.layer_norm else z

        if self.reset_after and not self.layer_norm:  # all in one product
            u_rz, u_n = F.linear(seen, self.weight_hh, self.bias_hh).split((2 * H, H), 1)
        elif self.reset_after:
            u_rz, u_n = F.linear(seen, self.weight_hh).split((2 * H, H), 1)
            u_rz = self.normalised(u_rz, self.gain_hh[: 2 * H], self.bias_hh[: 2 * H])
            u_n = self.normalised(u_n, self.gain_hh[2 * H :], self.bias_hh[2 * H :])
        else:
            u_rz = product(slice(2 * H), seen)
        r, z = gate(self.limited(a_rz + u_rz)).chunk(2, 1)
        v_n = torch.addcmul(a_n, r, u_n) if self.reset_after else a_n + product(slice(2 * H, 3 * H), r * seen)
        return (torch.lerp(candidate(self.limited(v_n)), h, z),)


class RNNLoop(Loop):
    """The simple recurrent network."""

    def __init__(self, input_size, hidden_size, *, layer_norm=False, activations=("Tanh",), clip=None, dtype=None):
        super().__init__(input_size, hidden_size, 1, activations, layer_norm=layer_norm, clip=clip, dtype=dtype)

    def step(self, projected, state, seen):
        return (self.functions[0](self.limited(self.recurrent(projected, seen))),)


class FastRNNLoop(Loop):
    """FastRNN: alpha and beta before their sigmoid start where the paper's code has them."""

    def __init__(self, input_size, hidden_size, *, activations=("Tanh",), clip=None, dtype=None):
        own = {"scalars": {"alpha": -3.0, "beta": 3.0}, "biases": ("bias",)}
        super().__init__(input_size, hidden_size, 1, activations, clip=clip, dtype=dtype, **own)

    def project(self, x):
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected, state, seen):
        n = self.functions[0](self.limited(self.recurrent(projected, seen)))
        return (torch.sigmoid(self.alpha) * n + torch.sigmoid(self.beta) * state[0],)


class FastGRNNLoop(Loop):
    """FastGRNN: gate and candidate share their weights."""

    def __init__(self, input_size, hidden_size, *, activations=("Sigmoid", "Tanh"), clip=None, dtype=None):
        own = {"scalars": {"zeta": 1.0, "nu": -4.0}, "biases": ("bias_z", "bias_h")}
        super().__init__(input_size, hidden_size, 1, activations, clip=clip, dtype=dtype, **own)

    def project(self, x):
        return F.linear(x, self.weight_ih)

    def step(self, projected, state, seen):
        gate, candidate = self.functions
        u = self.recurrent(projected, seen)
        z, n = gate(self.limited(u + self.bias_z)), candidate(self.limited(u + self.bias_h))
        return ((torch.sigmoid(self.zeta) * (1 - z) + torch.sigmoid(self.nu)) * n + z * state[0],)
