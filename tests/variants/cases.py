"""LSTM, GRU and RNN with any of their variants on random arrays, for the tests of every part that has them."""

import numpy as np

from fastrnn import reference
from tests.reference.finite_differences import assert_close, check_gradients

T, B, I, H, P = 4, 3, 2, 3, 2
RAGGED = [2, 0, 4]
CELLS = {"lstm": (4, 3), "gru": (3, 2), "rnn": (1, 1)}  # gates, functions
FAST = {"fast_rnn": (1, 1), "fast_grnn": (1, 2)}
FUNCTIONS = (("HardSigmoid", 0.3, 0.4), ("Elu", 0.5), ("ScaledTanh", 0.7, 1.3))


class Case:
    """Random arrays for a cell with some variants, as arguments of its functions."""

    def __init__(self, cell, variants=(), *, seed=0, lengths=None, reverse=False, batch_first=False):
        self.rng = np.random.default_rng([seed, *cell.encode()])
        self.cell, self.variants, self.batch_first = cell, set(variants), batch_first
        self.vjp_function = getattr(reference, cell + "_vjp")
        coupled, projected = (name in self.variants for name in ("coupled", "projection"))
        gates, self.num_functions = (CELLS | FAST)[cell]
        gates -= coupled
        self.sizes = {"lstm": (P if projected else H, H)}.get(cell, (H,))
        self.x, self.dy = self.sequence(I), self.sequence(self.sizes[0])
        self.states, self.dstate_n = ([self.random(B, n) for n in self.sizes] for _ in range(2))
        self.dstates = [self.sequence(n) for n in self.sizes]
        self.weights = {
            "weight_ih": self.random(gates * H, I),
            "weight_hh": self.random(gates * H, self.sizes[0]),
        }
        if cell in CELLS:
            self.weights |= {"bias_ih": self.random(gates * H), "bias_hh": self.random(gates * H)}
        elif cell == "fast_rnn":
            self.weights |= {"bias": self.random(H), "alpha": self.random(1), "beta": self.random(1)}
        else:
            self.weights |= {"bias_z": self.random(H), "bias_h": self.random(H)}
            self.weights |= {"zeta": self.random(1), "nu": self.random(1)}
        if projected:
            self.weights["weight_hr"] = self.random(P, H)
        if "peephole" in self.variants:
            self.weights["peephole"] = self.random((gates - 1) * H)
        self.gains = {}
        if "norm" in self.variants:
            self.gains = {"gain_ih": self.random(gates * H), "gain_hh": self.random(gates * H)}
            if cell == "lstm":
                self.gains |= {"gain_c": self.random(H), "bias_c": self.random(H)}
        self.options = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first}
        for name in sorted(self.variants - {"projection", "peephole", "norm"}):
            self.options |= self.option(name)

    def random(self, *shape):
        return self.rng.standard_normal(shape)

    def sequence(self, *features):
        return self.random(*((B, T) if self.batch_first else (T, B)), *features)

    def option(self, name):
        """The arguments that turn a variant on."""
        coin = self.sequence(H) < 0.3
        return {
            "coupled": lambda: {"coupled": True},
            "reset_before": lambda: {"reset_after": False},
            "clip": lambda: {"clip": 0.6},
            "activations": lambda: {"activations": FUNCTIONS[-self.num_functions :]},
            "zoneout_masks": lambda: {
                "zoneout": self.packed([(coin[..., :1] ^ (self.sequence(n) < 0)).astype(float) for n in self.sizes])
            },
            "zoneout_share": lambda: {"zoneout": (0.2, 0.4) if self.cell == "lstm" else 0.3},
            "recurrent_mask": lambda: {"recurrent_mask": 2.0 * (self.random(B, self.sizes[0]) < 0.5)},
            "resets": lambda: {"reset_mask": coin[..., 0] | (self.sequence() < -0.5)},
            "reset_state": lambda: {
                "reset_mask": self.sequence() < 0,
                "reset_state": self.packed([self.random(B, n) for n in self.sizes]),
            },
        }[name]()

    def packed(self, states):
        return tuple(states) if self.cell == "lstm" else states[0]

    def vjp(self, **changes):
        """(y, state_n, states) and the pullback; `changes` replace options."""
        norm = {"norm": reference.Norm(**self.gains)} if self.gains else {}
        arguments = {**self.weights, **norm, **self.options, "all_states": True, **changes}
        return self.vjp_function(self.x, self.packed(self.states), **arguments)

    def cotangents(self):
        return self.dy, self.packed(self.dstate_n), self.packed(self.dstates)

    def check(self):
        """Compare every gradient with finite differences."""
        dx, dstate_0, grads = self.vjp()[1](*self.cotangents())
        states = {f"state {k}": s for k, s in enumerate(self.states)}
        check_gradients(
            lambda: self.vjp()[0],
            {"x": self.x, **states, **self.weights, **self.gains},
            self.cotangents(),
            {
                "x": dx,
                **dict(zip(states, dstate_0 if self.cell == "lstm" else (dstate_0,))),
                **{n: g for n, g in grads._asdict().items() if g is not None},
            },
        )


def arrays(nest):
    """All arrays in a nest of tuples."""
    if isinstance(nest, tuple):
        return [a for part in nest for a in arrays(part)]
    return [] if nest is None else [nest]


def everything(case, **changes):
    outputs, pullback = case.vjp(**changes)
    return arrays((outputs, pullback(*case.cotangents())))


def assert_same(actual, expected, tolerance=1e-13):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected):
        assert_close(a, e, tolerance)


OF_ALL = ["norm", "clip", "activations", "zoneout_masks", "zoneout_share", "recurrent_mask", "resets", "reset_state"]
VARIANTS = {
    "lstm": [*OF_ALL, "peephole", "coupled", "projection"],
    "gru": [*OF_ALL, "reset_before"],
    "rnn": OF_ALL,
    "fast_rnn": OF_ALL[1:],
    "fast_grnn": OF_ALL[1:],
}
