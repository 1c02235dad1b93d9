"""One call instead of an LSTM written as a loop in NumPy
=========================================================

`loop` is what many projects have: a step at a time forward, saving everything, and a step at a time backward.
`fastrnn.functional.lstm_vjp` takes the same arrays (gates in the order i, f, g, o), gives the same numbers, and
needs no layers or parameters of its own.

    python examples/numpy_loop.py            # some seconds
    python examples/numpy_loop.py --quick
"""

import argparse
import statistics
import time

import numpy as np

from fastrnn import functional as F


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# %%
# The loop
# --------


def loop(x, W, R, b, dy):
    """Return y and the gradients (dx, dW, dR, db) of an LSTM over x [T, B, I], given dy [T, B, H]."""
    T, B, _ = x.shape
    h = c = np.zeros((B, R.shape[1]), x.dtype)
    y, saved = [], []
    for t in range(T):
        i, f, g, o = np.split(x[t] @ W.T + h @ R.T + b, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before, c = c, f * c + i * g
        saved.append((h, before, i, f, g, o, np.tanh(c)))
        h = o * saved[-1][-1]
        y.append(h)

    dx, dW, dR, db = np.empty_like(x), np.zeros_like(W), np.zeros_like(R), np.zeros_like(b)
    dh, dc = np.zeros_like(h), np.zeros_like(c)
    for t in reversed(range(T)):
        h, before, i, f, g, o, tanh_c = saved[t]
        dh = dh + dy[t]
        dc = dc + dh * o * (1 - tanh_c**2)
        parts = (dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o))
        dz = np.concatenate(parts, axis=1)
        dx[t], dh, dc = dz @ W, dz @ R, dc * f
        dW += dz.T @ x[t]
        dR += dz.T @ h
        db += dz.sum(axis=0)
    return np.stack(y), (dx, dW, dR, db)


# %%
# The call
# --------


def one_call(x, W, R, b, dy):
    """The same."""
    (y, _), pullback = F.lstm_vjp(x, None, W, R, b)
    dx, _, grads = pullback(dy)
    return y, (dx, grads.weight_ih, grads.weight_hh, grads.bias_ih)


# %%
# Compare them
# ------------


def seconds(function, arguments, repeats):
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small problem, few repetitions")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    T, B, I, H = (20, 8, 16, 16) if args.quick else (100, 32, 64, 128)
    rng = np.random.default_rng(args.seed)
    shapes = {"x": (T, B, I), "W": (4 * H, I), "R": (4 * H, H), "b": (4 * H,), "dy": (T, B, H)}
    scale = {"x": 1, "dy": 1}
    arrays = [rng.standard_normal(s, np.float32) * np.float32(scale.get(n, H**-0.5)) for n, s in shapes.items()]

    y, grads = loop(*arrays)
    found, found_grads = one_call(*arrays)
    for name, right, ours in zip(("y", "dx", "dW", "dR", "db"), (y, *grads), (found, *found_grads), strict=True):
        error = abs(ours - right).max() / abs(right).max()
        print(f"{name:2} {right.shape!s:15} largest difference / largest value: {error:.1e}")
        assert error < 1e-4, name

    repeats = 3 if args.quick else 15
    slow, fast = (seconds(f, arrays, repeats) for f in (loop, one_call))
    print(f"T={T} B={B} I={I} H={H}, forward and backward: loop {1e3 * slow:.2f} ms, one call {1e3 * fast:.2f} ms")
    print(f"{slow / fast:.1f} times faster")


if __name__ == "__main__":
    main()
