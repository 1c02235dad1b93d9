"""What a Model remembers of its constructor, and what `load` makes of it."""

import numpy as np
import pytest

import fastrnn as fr


class Wrapped(fr.Model):
    def __init__(self, inner, size=2, *, dtype=np.float32, seed=None):
        self.inner = inner
        self.out = fr.Linear(4, size, dtype=dtype, seed=seed)

    def forward(self, x):
        return self.out(self.inner(x))


def test_layers_types_and_numpy_numbers_are_described(tmp_path):
    inner = fr.Sequential(fr.Linear(3, 4, dtype=np.float64, seed=0), fr.Tanh())
    model = Wrapped(inner, np.int64(5), dtype=np.float64, seed=np.random.default_rng(0))
    fr.save(model, tmp_path / "m.safetensors")
    again = fr.load(tmp_path / "m.safetensors")
    x = np.random.default_rng(1).standard_normal((2, 3))
    assert again.dtype == np.float64
    np.testing.assert_array_equal(again(x), model(x))
    assert model.config()["size"] == 5


def test_what_json_cannot_hold_is_named():
    with pytest.raises(TypeError, match=r"Wrapped: size=\{1\} can't be written to a file; write a method `config`"):
        Wrapped.config(_with_size({1}))


def _with_size(size):
    model = Wrapped(fr.Linear(3, 4))
    model._arguments = ((model.inner, size), {})
    return model
