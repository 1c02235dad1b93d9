"""Predicting a sine wave: one step ahead, and running free
===========================================================

A network reads 24 values of a noisy sine and says what comes next at every step. One step ahead that is easy. Run free,
it gets its own prediction as the next input, so that errors add up: it has to have understood the oscillation. A stream
makes a free run cheap: the state stays where it is, a step is one call.

    python examples/predict_sine.py            # a quarter of a minute; writes a plot
    python examples/predict_sine.py --quick    # fewer epochs
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastrnn as fr

CELLS = {"RNN": fr.RNN, "LSTM": fr.LSTM, "GRU": fr.GRU}
STEPS, HIDDEN, BATCH = 24, 10, 16
PERIOD = 20.0  # steps


# %%
# Data
# ----


def wave(count, rng, noise):
    """float32 [count]: a sine of that many steps, from a random phase."""
    t = np.arange(count) + rng.uniform(0, PERIOD)
    return (np.sin(2 * np.pi * t / PERIOD) + noise * rng.standard_normal(count)).astype(np.float32)


def windows(series, rng):
    """Batches of STEPS values [STEPS, BATCH, 1] and of those one step later, in random order."""
    starts = rng.permutation(len(series) - STEPS)
    at = np.arange(STEPS + 1)[:, None]
    cut = (series[at + starts[k : k + BATCH], None] for k in range(0, len(starts) - BATCH + 1, BATCH))
    return [fr.Batch(part[:-1], part[1:]) for part in cut]


# %%
# The model, and a free run
# -------------------------


def make_model(cell, seed):
    """Recurrent layer and a linear map, on every step."""
    return fr.Sequential(CELLS[cell](1, HIDDEN, seed=seed), fr.Linear(HIDDEN, 1, seed=seed + 1))


def run_free(model, start, count):
    """Read `start`, then predict `count` values, each from those predicted before."""
    stream = model.stream()
    value = stream.run(start[:, None, None])[-1]
    out = []
    for _ in range(count):
        out.append(float(value[0, 0]))
        value = stream.step(value)
    return np.array(out)


def rms(a):
    return float(np.sqrt(np.mean(np.square(a))))


# %%
# The figure
# ----------


def plot(histories, clean, free, path):
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), constrained_layout=True, width_ratios=[1, 2, 1])
    for cell, losses in histories.items():
        axes[0].semilogy(losses, label=cell)
    axes[0].set(xlabel="epoch", ylabel="squared error, one step ahead", title="Training")
    axes[0].legend()
    axes[1].plot(clean, color="grey", lw=4, alpha=0.4, label="sine")
    for cell, values in free.items():
        axes[1].plot(np.arange(STEPS, STEPS + len(values)), values, label=cell, lw=1.2)
        axes[2].plot(np.abs(values - clean[STEPS:]), label=cell, lw=1)
    axes[1].axvspan(0, STEPS, color="grey", alpha=0.12, lw=0)
    axes[1].set(xlabel="step (grey: what the network reads)", title="Running free", ylim=(-1.6, 1.6))
    axes[1].legend(loc="lower right", ncols=4, fontsize=8)
    axes[2].set(xlabel="steps since the network is on its own", ylabel="error", title="Error of the free run")
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)

    epochs, runs = (10, 1) if args.quick else (80, 5)
    rng = np.random.default_rng(args.seed)
    series = wave(1_000, rng, noise=0.03)
    phase = np.arange(STEPS + 120)
    clean = np.sin(2 * np.pi * phase / PERIOD).astype(np.float32)
    histories, free, figures = {}, {}, {}
    print(
        f"{epochs} epochs of {len(windows(series, rng))} batches; {HIDDEN} units, {STEPS} steps; medians of {runs} runs"
    )
    for cell in CELLS:
        found = []
        for run in range(runs):
            model = make_model(cell, args.seed + 10 * run)
            optimizer = fr.optim.Adam(model, lr=3e-3)
            start = time.perf_counter()
            history = fr.fit(model, windows(series, np.random.default_rng(run)), fr.losses.mse, optimizer,
                             epochs=epochs, seed=args.seed, progress=False)  # fmt: skip
            seconds = time.perf_counter() - start
            ahead, _ = model(clean[:-1, None, None])
            values = run_free(model, clean[:STEPS], len(clean) - STEPS)
            error = values - clean[STEPS:]
            found.append((rms(ahead[STEPS:, 0, 0] - clean[STEPS + 1 :]), rms(error[:20]), rms(error), seconds))
            if run == 0:
                histories[cell] = [entry["loss"] for entry in history.epochs]
                free[cell] = values
        one, first, whole, seconds = np.median(found, axis=0)
        figures[cell] = {"one_step": one, "free_20": first, "free_120": whole, "seconds": seconds}
        print(f"{cell:5} rms error one step ahead {one:.3f}; free, 20 steps {first:.3f}, 120 steps {whole:.3f}; "
              f"{seconds:.1f} s")  # fmt: skip
    plot(histories, clean, free, output / "predict_sine.png")
    if args.json:
        print(json.dumps({cell: {k: round(float(v), 4) for k, v in f.items()} for cell, f in figures.items()}))


if __name__ == "__main__":
    main()
