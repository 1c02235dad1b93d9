"""Where layers on a tape get their seeds."""

import numpy as np
import pytest

import fastrnn as fr


class Twice(fr.Model):
    def __init__(self):
        self.first, self.second = fr.Dropout(0.5), fr.Dropout(0.5)

    def forward(self, x):
        return self.first(x), self.second(x)


def masks(seed):
    return [np.asarray(y) for y in Twice().vjp(np.ones(200, np.float32), seed=seed)[0]]


@pytest.mark.parametrize("seed", [0, 7, 2**63, np.int64(5)])
def test_an_int_gives_each_layer_its_own_mask_every_time(seed):
    first, second = masks(seed)
    assert (first != second).any()
    np.testing.assert_array_equal([first, second], masks(seed))
    assert (first != masks(int(seed) + 1)[0]).any()


def test_generators_none_and_nonsense():
    rng = np.random.default_rng(0)
    first, second = masks(rng)
    assert (first != second).any() and (first != masks(rng)[0]).any()
    np.testing.assert_array_equal(first, masks(np.random.default_rng(0))[0])
    assert (masks(None)[0] != masks(None)[0]).any()
    with pytest.raises(TypeError, match="seed: expected None, an int ≥ 0 or a numpy Generator, got 'a'"):
        masks("a")
    with pytest.raises(ValueError, match="seed: expected None, an int ≥ 0 or a numpy Generator, got -1"):
        masks(-1)
