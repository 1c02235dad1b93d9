"""A NumPy pipeline, sped up by a few lines
===========================================

Someone predicts the next value of a sensor. Recordings come as lists, become float64 arrays, and a class trains an LSTM
with its own layout: inputs times weights [I + H, 4·H], gates i f o g in one matrix, as many tutorials have it.
`HandLSTM` is that class. `FastLSTM` replaces its two loops over time by `F.lstm_vjp`: views of the same matrix, one
reordering of gates, and nothing else in the pipeline changes. The losses of both runs are the same numbers.

    python examples/numpy_pipeline.py            # some seconds; writes a plot
    python examples/numpy_pipeline.py --quick
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from fastrnn import functional as F

# %%
# Data
# ----


def recordings(rng, count, length):
    """Lists of floats, as a file or a web service gives them."""
    found = []
    for _ in range(count):
        t = np.arange(length)
        wave = np.sin(t * rng.uniform(0.1, 0.3) + rng.uniform(0, 6)) + 0.5 * np.sin(t * rng.uniform(0.4, 0.7))
        found.append((wave + 0.05 * rng.standard_normal(length)).tolist())
    return found


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# %%
# By hand
# -------


class HandLSTM:
    """An LSTM and its gradients, a step at a time. W [I + H, 4·H], gates in the order i f o g; b [4·H]."""

    def __init__(self, inputs, hidden, rng):
        self.hidden = hidden
        self.W = rng.uniform(-1, 1, (inputs + hidden, 4 * hidden)) / np.sqrt(hidden)
        self.b = np.zeros(4 * hidden)

    def forward(self, x):
        """x [T, B, I] → h [T, B, H]."""
        h = c = np.zeros((x.shape[1], self.hidden))
        self.saved, out = [], []
        for x_t in x:
            both = np.concatenate([x_t, h], axis=1)
            i, f, o, g = np.split(both @ self.W + self.b, 4, axis=1)
            i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
            before, c = c, f * c + i * g
            h = o * np.tanh(c)
            self.saved.append((both, before, c, i, f, o, g))
            out.append(h)
        return np.stack(out)

    def backward(self, dh):
        """dh [T, B, H] → the gradients of W and b."""
        dW, db = np.zeros_like(self.W), np.zeros_like(self.b)
        later_h = later_c = 0
        for t in reversed(range(len(dh))):
            both, before, c, i, f, o, g = self.saved[t]
            tanh_c = np.tanh(c)
            d = dh[t] + later_h
            dc = d * o * (1 - tanh_c**2) + later_c
            parts = dc * g * i * (1 - i), dc * before * f * (1 - f), d * tanh_c * o * (1 - o), dc * i * (1 - g**2)
            dz = np.concatenate(parts, axis=1)
            dW += both.T @ dz
            db += dz.sum(axis=0)
            later_h, later_c = (dz @ self.W.T)[:, -self.hidden :], dc * f
        return dW, db


# %%
# The few lines
# -------------


class FastLSTM(HandLSTM):
    """The same class; what differs is this."""

    def forward(self, x):
        weights = F.reorder_gates(self.W.T, "ifog", "ifgo")  # [4·H, I + H]
        (h, _), self.pullback = F.lstm_vjp(
            x, None, weights[:, : -self.hidden], weights[:, -self.hidden :], F.reorder_gates(self.b, "ifog", "ifgo"),
            input_grad=False,
        )  # fmt: skip
        return h

    def backward(self, dh):
        grads = self.pullback(dh)[2]
        dW = np.concatenate([grads.weight_ih, grads.weight_hh], axis=1)
        return F.reorder_gates(dW, "ifgo", "ifog").T, F.reorder_gates(grads.bias_ih, "ifgo", "ifog")


# %%
# Training, with either
# ---------------------


def train(kind, data, hidden, steps, batch, seed):
    """The pipeline: lists → arrays → steps of gradient descent with momentum. Losses, predictions, seconds a step."""
    rng = np.random.default_rng(seed)
    series = np.array(data).T[:, :, None]  # float64 [T, N, 1]
    lstm = kind(1, hidden, rng)
    V, a = rng.standard_normal((hidden, 1)) / np.sqrt(hidden), np.zeros(1)
    arrays = [lstm.W, lstm.b, V, a]
    momentum = [np.zeros_like(p) for p in arrays]
    losses, times = [], []
    for _ in range(steps):
        rows = rng.choice(series.shape[1], batch, replace=False)
        x, target = series[:-1, rows], series[1:, rows]
        start = time.perf_counter()
        h = lstm.forward(x)
        error = h @ V + a - target
        losses.append(float(np.mean(error**2)))
        dy = 2 * error / error.size
        dW, db = lstm.backward(dy @ V.T)
        gradients = dW, db, np.tensordot(h, dy, ([0, 1], [0, 1])), dy.sum(axis=(0, 1))
        for p, m, g in zip(arrays, momentum, gradients):
            m *= 0.9
            m += g
            p -= 0.1 * m
        times.append(time.perf_counter() - start)
    prediction = lstm.forward(series[:-1, :1]) @ V + a
    return np.array(losses), prediction[:, 0, 0], float(np.median(times))


def plot(losses, data, predictions, path):
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), constrained_layout=True)
    for (name, values), style in zip(losses.items(), ("-", ":")):
        left.semilogy(values, style, lw=4 if style == ":" else 1.5, label=name)
    left.set(xlabel="training step", ylabel="squared error", title="Losses: the same numbers")
    left.legend()
    right.plot(data[0][1:], color="grey", lw=2.5, alpha=0.6, label="recording")
    for (name, values), style in zip(predictions.items(), ("-", ":")):
        right.plot(values, style, lw=3 if style == ":" else 1, label=f"one step ahead, {name}")
    right.set(xlabel="time", title="What both predict")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small problem, few steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)

    length, hidden, steps = (40, 24, 20) if args.quick else (100, 64, 150)
    data = recordings(np.random.default_rng(args.seed), 200, length)
    losses, predictions, seconds = {}, {}, {}
    for name, kind in (("by hand", HandLSTM), ("fastrnn", FastLSTM)):
        losses[name], predictions[name], seconds[name] = train(kind, data, hidden, steps, 32, args.seed)
        first, last = losses[name][[0, -1]]
        print(f"{name:8} loss {first:.12f} → {last:.12f}, {1e3 * seconds[name]:.2f} ms a step")
    difference = float(max(abs(losses["fastrnn"] / losses["by hand"] - 1)))
    print(f"largest relative difference of the losses of {steps} steps: {difference:.0e}")
    assert difference < 1e-9
    speedup = seconds["by hand"] / seconds["fastrnn"]
    print(f"{speedup:.1f} times faster (T={length - 1} B=32 H={hidden}, float64, the whole step)")
    plot(losses, data, predictions, output / "numpy_pipeline.png")
    if args.json:
        print(json.dumps({
            "difference": difference, "speedup": round(speedup, 1), "by_hand_ms": round(1e3 * seconds["by hand"], 3),
            "fastrnn_ms": round(1e3 * seconds["fastrnn"], 3), "loss": float(losses["fastrnn"][-1]),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
