"""Sequence to sequence with numbers: from a noisy sine to its cosine
=====================================================================

A network with 10 hidden units (RNN, LSTM, GRU, LSTM with attention) reads 24 noisy values of a sine whose period and
phase it doesn't know, and writes 24 values running free, each from those that it wrote before: the cosine of the same
steps, or the sine of the next 24. The second part asks how to train it: with true values to read (teacher forcing),
with its own, or with ever more of its own.

    python examples/seq2seq_sine_cosine.py            # about a minute; writes a plot
    python examples/seq2seq_sine_cosine.py --quick    # fewer epochs
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastrnn as fr

NETWORKS = {
    "RNN": {"cell": "rnn"},
    "LSTM": {"cell": "lstm"},
    "GRU": {"cell": "gru"},
    "LSTM with attention": {"cell": "lstm", "attention": "additive"},
}
TRAINING = {"teacher forcing": 0.0, "scheduled sampling": "rising", "free running": 1.0}
STEPS, HIDDEN, BATCH, NOISE = 24, 10, 16, 0.1


# %%
# Data
# ----


def windows(count, rng):
    """float32 [count, STEPS, 1] each: noisy sines, and, without noise, their cosines and the sines that follow."""
    period, phase = rng.uniform(16, 32, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
    angle = phase + 2 * np.pi * np.arange(2 * STEPS) / period
    x = np.sin(angle[:, :STEPS]) + NOISE * rng.standard_normal((count, STEPS))
    found = x, np.cos(angle[:, :STEPS]), np.sin(angle[:, STEPS:])
    return [a.astype(np.float32)[..., None] for a in found]


def rms(a, axis=None):
    return np.sqrt(np.mean(np.square(a), axis))


# %%
# Training
# --------


def train(options, x, y, epochs, seed):
    """A trained model, its losses, and seconds."""
    batches = epochs * -(-len(x) // BATCH)
    if options["sampling"] == "rising":
        options = {**options, "sampling": fr.models.ScheduledSampling("linear", k=batches // 2)}
    model = fr.models.Seq2SeqRegressor(1, 1, HIDDEN, seed=seed, **options)
    start = time.perf_counter()
    model.fit(x, y, epochs=epochs, batch_size=BATCH, lr=1e-2, clip_norm=1.0, seed=seed,
              schedule=fr.schedules.Cosine())  # fmt: skip
    return model, [entry["loss"] for entry in model.history_.epochs], time.perf_counter() - start


# %%
# The figure
# ----------


def plot(losses, test, predictions, errors, path):
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 7), constrained_layout=True)
    for name, values in losses.items():
        axes[0, 0].semilogy(values, label=name)
    axes[0, 0].set(xlabel="epoch", ylabel="squared error", title="Training on the cosine, running free")
    axes[0, 0].legend()
    for axis, task, first in ((axes[0, 1], "cosine", 0), (axes[1, 0], "next", STEPS)):
        at = np.arange(first, first + STEPS)
        axis.plot(test["x"][0, :, 0], ".", color="grey", label="what the network reads")
        axis.plot(at, test[task][0, :, 0], color="grey", lw=4, alpha=0.4, label="truth")
        for name in NETWORKS:
            axis.plot(at, predictions[name, task][0, :, 0], lw=1.2, label=name)
        axis.set(xlabel="step", title="Cosine of the same steps" if task == "cosine" else "What comes next")
    axes[1, 0].set_ylim(-1.35, 2.1)
    axes[1, 0].legend(fontsize=7, loc="upper left", ncols=3)
    for name, values in errors.items():
        axes[1, 1].plot(np.arange(1, STEPS + 1), values, label=name)
    axes[1, 1].set(xlabel="step that is predicted", ylabel="rms error", title="LSTM, what comes next: ways of training")
    axes[1, 1].legend()
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

    epochs, runs = (20, 1) if args.quick else (80, 3)
    rng = np.random.default_rng(args.seed)
    x, *targets = windows(240, rng)
    test = dict(zip(("x", "cosine", "next"), windows(500, rng), strict=True))
    learn = dict(zip(("cosine", "next"), targets, strict=True))
    losses, predictions, errors, figures = {}, {}, {}, {"networks": {}, "training": {}}
    print(f"{epochs} epochs of {len(x) // BATCH} batches; {HIDDEN} units, {STEPS} steps; medians of {runs} runs")
    print("rms errors, running free:")
    for name, options in NETWORKS.items():
        found = []
        for run in range(runs):
            row, seconds = [], 0.0
            for task, y in learn.items():
                model, history, took = train({**options, "sampling": 1.0}, x, y, epochs, args.seed + run)
                guess = model.predict(test["x"], STEPS)
                row.append(rms(guess - test[task]))
                seconds += took
                if run == 0:
                    predictions[name, task] = guess
                    losses.setdefault(name, history)
            found.append((*row, seconds / 2))
        cosine, after, seconds = map(float, np.median(found, axis=0))
        figures["networks"][name] = {"cosine": cosine, "next": after, "seconds": seconds}
        print(f"{name:20} cosine {cosine:.3f}  next window {after:.3f}  {seconds:.1f} s")
    for name, sampling in TRAINING.items():
        found = []
        for run in range(runs):
            model, *_ = train({"cell": "lstm", "sampling": sampling}, x, learn["next"], epochs, args.seed + run)
            found.append(rms(model.predict(test["x"], STEPS) - test["next"], (0, 2)))
        errors[name] = np.median(found, axis=0)
        figures["training"][name] = {"first_step": float(errors[name][0]), "all_steps": float(rms(errors[name]))}
        print(f"{name:20} first step {errors[name][0]:.3f}  all steps {rms(errors[name]):.3f}")
    plot(losses, test, predictions, errors, output / "seq2seq_sine_cosine.png")
    if args.json:
        print(json.dumps({part: {name: {k: round(v, 4) for k, v in f.items()} for name, f in table.items()}
                          for part, table in figures.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
