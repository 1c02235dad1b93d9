"""What the tests of layers share: gradients of a whole layer, and a tiny recurrent layer."""

import numpy as np

from fastrnn._pullback import Pullback
from fastrnn.nn import Layer
from tests.reference.finite_differences import check_gradients


def check_layer(layer, x, *, rng=None, call=None, **options):
    """Compare all gradients of a float64 layer without state with finite differences.

    `options` go to `vjp`, and `call` to the call (by default the same). Integers in `x` have no gradient.
    """
    rng = rng or np.random.default_rng(0)
    layer.zero_grads()
    y, pullback = layer.vjp(x, **options)
    np.testing.assert_array_equal(y, layer(x, **(options if call is None else call)))
    dy = rng.standard_normal(y.shape)
    dx = pullback(dy)
    inputs, gradients = dict(layer.params), {name: grad.copy() for name, grad in layer.grads.items()}
    if x.dtype.kind == "f":
        inputs["x"], gradients["x"] = x, dx
    else:
        assert dx is None
    check_gradients(lambda: layer(x, **(options if call is None else call)), inputs, dy, gradients)


class Leaky(Layer):
    """h_t = a ⊙ h_{t−1} + x_t with one parameter a [F], which lengths freeze: recurrent, in ten lines."""

    is_recurrent = True
    takes_lengths = True
    takes_dropout = True

    def __init__(self, size, seed=0):
        super().__init__(np.float64)
        self._add_param("a", np.random.default_rng(seed).uniform(0.3, 0.9, size))
        self.seen = {}

    def __call__(self, x, state=None, *, lengths=None, dropout=False):
        y, state, _ = self._run(x, state, lengths)
        return y, state

    def vjp(
        self,
        x,
        state=None,
        *,
        lengths=None,
        dropout=True,
        seed=None,
        checkpoint=None,
        input_grad=True,
        retain=False,
    ):
        self.seen = {"dropout": dropout, "seed": seed, "checkpoint": checkpoint, "input_grad": input_grad}
        y, final, (before, active) = self._run(x, state, lengths)
        a = self.params["a"]

        def run(dy=None, dstate=None):
            dh = np.zeros_like(before[0]) if dstate is None else dstate
            dx = np.zeros_like(y)
            for t in reversed(range(len(y))):
                dz = np.where(active[t], dh + (0 if dy is None else dy[t]), 0)
                dx[t] = dz
                self.grads["a"] += (dz * before[t]).sum(0)
                dh = np.where(active[t], dz * a, dh)
            return dx if input_grad else None, dh

        return (y, final), Pullback(run, "Leaky", retain)

    def _run(self, x, state, lengths):
        h = np.zeros(x.shape[1:]) if state is None else state
        active = (
            np.arange(len(x))[:, None, None]
            < (np.full(x.shape[1], len(x)) if lengths is None else np.asarray(lengths))[:, None]
        )
        y, before = np.zeros(x.shape), []
        for t in range(len(x)):
            before.append(h)
            h = np.where(active[t], self.params["a"] * h + x[t], h)
            y[t] = np.where(active[t], h, 0)
        return y, h, (before, active)
