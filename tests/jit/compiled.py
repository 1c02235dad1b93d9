"""Users' compiled functions that call streams and layers, and what to call them with."""

import numpy as np
import pytest

import fastrnn as fr

numba = pytest.importorskip("numba")

F32, F64 = np.float32, np.float64
dtypes = pytest.mark.parametrize("dtype", [F32, F64])

LAYERS = {
    "lstm": lambda **o: fr.LSTM(4, 9, 2, seed=0, **o),
    "lstm_projected": lambda **o: fr.LSTM(4, 9, 2, proj_size=5, seed=0, **o),
    "gru": lambda **o: fr.GRU(4, 9, 3, seed=0, **o),
    "gru_before": lambda **o: fr.GRU(4, 9, reset_after=False, seed=0, **o),
    "rnn": lambda **o: fr.RNN(4, 9, 2, bias=False, seed=0, **o),
}
layers = pytest.mark.parametrize("layer", LAYERS)


def model(dtype=F32, **options):
    """Everything that has a step."""
    return fr.Sequential(
        fr.Embedding(11, 6, dtype=dtype, seed=0),
        fr.Sequential(fr.LSTM(6, 8, 2, dtype=dtype, seed=1, **options), fr.Tanh()),
        fr.LayerNorm(8, dtype=dtype),
        fr.GRU(8, 5, dtype=dtype, seed=2, **options),
        fr.Linear(5, 3, dtype=dtype, seed=3),
        fr.Softmax(),
    )


def sequence(*shape, dtype=F32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def arrays(state):
    return [state] if isinstance(state, np.ndarray) else [a for part in state for a in arrays(part)]


def assert_states_equal(state, right):
    assert type(state) is type(right)
    for a, b in zip(arrays(state), arrays(right), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@numba.njit
def steps(s, x, out):
    for t in range(len(x)):
        s.step(x[t], out[t])


@numba.njit
def fresh(s, x):
    return s.step(x)


@numba.njit
def step(s, x, out):
    return s.step(x, out=out)


@numba.njit
def run(s, x, out=None):
    return s.run(x, out)


@numba.njit
def state_of(s):
    return s.state


@numba.njit
def reset(s, state=None, rows=None):
    s.reset(state, rows)


@numba.njit
def call(layer, x, state=None, lengths=None):
    return layer(x, state, lengths=lengths)
