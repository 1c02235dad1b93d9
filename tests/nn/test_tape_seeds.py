"""Layers that draw, on a tape: each gets a seed of its own, the same ones for the same seed."""

import numpy as np
import pytest

import fastrnn as fr


class Twice(fr.Model):
    def __init__(self):
        self.first, self.second, self.scale = fr.Dropout(0.5), fr.Dropout(0.5), fr.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        return fr.stack([self.first(x) * self.scale(), self.second(x) * self.scale()])


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), 2**70])
def test_integers(seed):
    x = np.ones(1000, np.float32)
    y, again, other = (Twice().vjp(x, seed=s)[0] for s in (seed, seed, 12345))
    np.testing.assert_array_equal(y, again)
    assert (y != other).any() and (y[0] != y[1]).any()


def test_generators_and_none():
    x = np.ones(1000, np.float32)
    for a, b in ((None, None), (np.random.default_rng(1), np.random.default_rng(2))):
        assert (Twice().vjp(x, seed=a)[0] != Twice().vjp(x, seed=b)[0]).any()
    with pytest.raises(TypeError, match=r"^seed: expected None, an int ≥ 0 or a numpy Generator, got 'x'"):
        Twice().vjp(x, seed="x")
