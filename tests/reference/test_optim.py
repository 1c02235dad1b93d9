"""Optimisers and clipping, beyond the trajectories compared with PyTorch in `test_torch.py`."""

import numpy as np
import pytest

from fastrnn import reference

STEPS = {
    "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "rmsprop": {"momentum": 0.5, "centered": True, "weight_decay": 0.1},
    "adam": {"weight_decay": 0.1},
    "adamw": {},
}


@pytest.mark.parametrize("name", STEPS)
def test_in_place_and_keeps_float32(name):
    rng = np.random.default_rng(0)
    param, grad = (rng.standard_normal((3, 2)).astype(np.float32) for _ in range(2))
    wide_param, wide_grad = param.astype(np.float64), grad.astype(np.float64)
    view, state, wide_state = param[:], {}, {}
    for _ in range(5):
        assert getattr(reference, name)(param, grad, state, lr=0.01, **STEPS[name]) is None
        getattr(reference, name)(wide_param, wide_grad, wide_state, lr=0.01, **STEPS[name])
    assert {a.dtype for a in state.values() if isinstance(a, np.ndarray)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(view, param)
    np.testing.assert_allclose(param, wide_param, atol=2e-6, rtol=0)  # ten roundings of numbers around 1


@pytest.mark.parametrize("name", STEPS)
def test_minimises_a_quadratic(name):
    param, state = np.array([3.0, -2.0]), {}
    for _ in range(500):
        getattr(reference, name)(param, param - 1, state, lr=0.02)
    np.testing.assert_allclose(param, [1, 1], atol=0.05)


def test_state_does_not_alias_the_gradient():
    param, grad, state = np.zeros(1), np.ones(1), {}
    reference.sgd(param, grad, state, lr=1.0, momentum=0.5)
    grad[:] = 100
    reference.sgd(param, np.zeros(1), state, lr=1.0, momentum=0.5)
    assert param.tolist() == [-1.5]


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov: expected a momentum"):
        reference.sgd(np.zeros(1), np.zeros(1), {}, lr=1.0, nesterov=True)


def test_clip_grad_norm_of_huge_float32():
    """The squares of 1e30 don't fit into float32; the norm does."""
    grads = [np.full(4, 1e30, np.float32)]
    np.testing.assert_allclose(reference.clip_grad_norm(grads, 1.0), 2e30, rtol=1e-6)
    np.testing.assert_allclose(grads[0], 0.5, rtol=1e-6)


def test_clip_grad_norm_shows_nan():
    grads = [np.array([np.nan, 1.0]), np.array([2.0])]
    assert np.isnan(reference.clip_grad_norm(grads, 1.0))
    assert np.isnan(grads[0]).all() and np.isnan(grads[1]).all()


def test_clip_grad_norm_of_nothing():
    assert reference.clip_grad_norm([], 1.0) == 0


def test_clip_grad_value():
    grads = {"a": np.array([-3.0, 0.5, np.nan]), "b": np.array([[7.0]], np.float32)}
    assert reference.clip_grad_value(grads, 2.0) is None
    np.testing.assert_array_equal(grads["a"], [-2.0, 0.5, np.nan])
    assert grads["b"].tolist() == [[2.0]] and grads["b"].dtype == np.float32
