"""One step of each optimiser after another, against the formulas of PyTorch's documentation in float64."""

import numpy as np
import pytest

from tests.ops.helpers import FORWARD, SIZES, close, one_step, same_for_any_threads

STEPS = 4


def sgd(p, grads, *, lr, momentum, dampening, nesterov, weight_decay):
    buf = None
    for grad in grads:
        g = grad + weight_decay * p
        if momentum:
            buf = g if buf is None else momentum * buf + (1 - dampening) * g
            g = g + momentum * buf if nesterov else buf
        p = p - lr * g
    return p


def rmsprop(p, grads, *, lr, alpha, eps, momentum, weight_decay, centred):
    sq, buf, gavg = np.zeros((3, p.size))
    for grad in grads:
        g = grad + weight_decay * p
        sq = alpha * sq + (1 - alpha) * g**2
        gavg = alpha * gavg + (1 - alpha) * g if centred else gavg
        buf = momentum * buf + g / (np.sqrt(sq - gavg**2) + eps)
        p = p - lr * buf
    return p


def adam(p, grads, *, lr, beta1, beta2, eps, weight_decay, decoupled):
    m, v = np.zeros((2, p.size))
    for t, grad in enumerate(grads, 1):
        g = grad if decoupled else grad + weight_decay * p
        p = p * (1 - lr * weight_decay) if decoupled else p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - lr * m / (1 - beta1**t) / (np.sqrt(v) / np.sqrt(1 - beta2**t) + eps)
    return p


def problem(n, dtype, rng):
    p, *grads = rng.standard_normal((1 + STEPS, n)).astype(dtype)
    return p, grads, p.astype(np.float64), [g.astype(np.float64) for g in grads]


@pytest.mark.parametrize(
    ("momentum", "dampening", "nesterov", "weight_decay"),
    [(0, 0, False, 0), (0.9, 0, False, 0.1), (0.9, 0, True, 0.1), (0.5, 0.3, False, 0)],
)
def test_sgd(momentum, dampening, nesterov, weight_decay, dtype, rng):
    options = {
        "lr": 0.1,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
    }
    for n in SIZES:
        p, grads, p64, grads64 = problem(n, dtype, rng)
        buf = np.full_like(p, 7) if momentum else None
        for t, g in enumerate(grads):
            one_step("sgd", p, g, [buf], (*options.values(), t == 0))
        close(p, sgd(p64, grads64, **options), FORWARD[dtype])


def test_sgd_starts_from_zeros_too(dtype, rng):
    p, grads, *_ = problem(33, dtype, rng)
    q, zeros, any_ = p.copy(), np.zeros_like(p), np.full_like(p, 7)
    one_step("sgd", p, grads[0], [zeros], (0.1, 0.9, 0.0, True, 0.0, False))
    one_step("sgd", q, grads[0], [any_], (0.1, 0.9, 0.0, True, 0.0, True))
    np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(zeros, any_)


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("weight_decay", [0, 0.1])
def test_rmsprop(momentum, centred, weight_decay, dtype, rng):
    options = {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": momentum, "weight_decay": weight_decay}
    for n in SIZES:
        p, grads, p64, grads64 = problem(n, dtype, rng)
        sq, buf = np.zeros((2, n), dtype)
        gavg = np.zeros(n, dtype) if centred else None
        for g in grads:
            one_step("rmsprop", p, g, [sq, buf if momentum else None, gavg], tuple(options.values()))
        close(p, rmsprop(p64, grads64, **options, centred=centred), FORWARD[dtype])


def test_centred_rmsprop_takes_no_root_of_a_negative(dtype, rng):
    """alpha = 0 makes s - a² the square of g minus the square of g."""
    p, grads, *_ = problem(1000, dtype, rng)
    sq, gavg = np.zeros((2, 1000), dtype)
    one_step("rmsprop", p, grads[0], [sq, None, gavg], (1e-3, 0.0, 1e-3, 0.0, 0.0))
    assert np.isfinite(p).all()


@pytest.mark.parametrize(("decoupled", "weight_decay"), [(False, 0), (False, 0.1), (True, 0.1)])
def test_adam(decoupled, weight_decay, dtype, rng):
    options = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": weight_decay}
    for n in SIZES:
        p, grads, p64, grads64 = problem(n, dtype, rng)
        m, v = np.zeros((2, n), dtype)
        for t, g in enumerate(grads, 1):
            one_step("adam", p, g, [m, v], (*options.values(), decoupled, t))
        close(p, adam(p64, grads64, **options, decoupled=decoupled), FORWARD[dtype])


def test_nan_and_zero_gradients(dtype):
    for step in (
        lambda p, g: one_step("sgd", p, g, [None], (0.1, 0.0, 0.0, False, 0.0, False)),
        lambda p, g: one_step("rmsprop", p, g, [np.zeros_like(p), None, None], (0.1, 0.9, 1e-8, 0.0, 0.0)),
        lambda p, g: one_step("rmsprop", p, g, list(np.zeros((3, *p.shape), p.dtype)), (0.1, 0.9, 1e-8, 0.9, 0.0)),
        lambda p, g: one_step(
            "adam", p, g, list(np.zeros((2, *p.shape), p.dtype)), (0.1, 0.9, 0.99, 1e-8, 0.0, False, 1)
        ),
    ):
        p, g = np.ones(17, dtype), np.zeros(17, dtype)
        g[3] = np.nan
        step(p, g)
        assert np.isnan(p[3])
        np.testing.assert_array_equal(np.delete(p, 3), 1)


def test_threads(dtype, rng):
    n = 750_011
    start = rng.standard_normal((5, n)).astype(dtype)
    start[2:4] = abs(start[2:4])  # running means of squares

    def run(step):
        arrays = start.copy()
        step(*arrays)
        return arrays

    same_for_any_threads(
        lambda: run(lambda p, g, s, b, a: one_step("sgd", p, g, [b], (0.1, 0.9, 0.1, True, 0.1, False)))
    )
    same_for_any_threads(
        lambda: run(lambda p, g, s, b, a: one_step("rmsprop", p, g, [s, b, a], (0.1, 0.9, 1e-8, 0.9, 0.1)))
    )
    same_for_any_threads(
        lambda: run(lambda p, g, s, v, m: one_step("adam", p, g, [m, v], (0.1, 0.9, 0.99, 1e-8, 0.1, True, 3)))
    )


def test_bad_arguments():
    p = np.ones(3)
    with pytest.raises(ValueError, match=r"^buf: expected an array for momentum 0\.9, got None$"):
        one_step("sgd", p, p, [None], (0.1, 0.9, 0.0, False, 0.0, False))
    with pytest.raises(ValueError, match=r"^buf: expected an array for momentum 0\.9, got None$"):
        one_step("rmsprop", p, p, [p, None, None], (0.1, 0.9, 1e-8, 0.9, 0.0))
    with pytest.raises(ValueError, match=r"^step: expected at least 1, got 0$"):
        one_step("adam", p, p, [p, p], (0.1, 0.9, 0.99, 1e-8, 0.0, False, 0))
