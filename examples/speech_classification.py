"""Who said it? Nine speakers by two vowels
===========================================

Recurrent networks on real speech of unequal lengths.

The Japanese Vowels set (Kudo et al. 1999): nine men say /ae/; each utterance is 7 to 29 frames of 12 cepstral
coefficients, 270 to learn from and 370 to test on. Four networks read them:

    frames → simple RNN | GRU | bidirectional LSTM | LSTM, its gradients clipped to ±0.5 → maximum over time → speaker

All have 64 units a direction and the same training, so the table shows what the layers do: reading both ways tells
most. An example of ragged batches, too: sequences go in as a list, and no step of padding is computed.

    python examples/speech_classification.py            # about twenty seconds, five runs of each; writes a plot
    python examples/speech_classification.py --quick    # a few seconds, one short run of each

Needs aeon for the data (inside the package, nothing is downloaded).
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np

import fastrnn as fr

NETWORKS = {
    "simple RNN": ({"cell": "rnn"}, {}),
    "GRU": ({"cell": "gru"}, {}),
    "bidirectional LSTM": ({"cell": "lstm", "bidirectional": True}, {}),
    "LSTM, clipping 0.5": ({"cell": "lstm"}, {"clip_value": 0.5}),
}


# %%
# Data
# ----


def load():
    """((train, speakers), (test, speakers)): lists of [T, 12], scaled by what the training frames have."""
    try:
        from aeon.datasets import load_japanese_vowels
    except ImportError:
        raise SystemExit("this example needs aeon, for its data: pip install aeon") from None
    sets = [load_japanese_vowels(split=split) for split in ("train", "test")]
    frames = np.concatenate([utterance.T for utterance in sets[0][0]])
    mean, spread = frames.mean(0), frames.std(0)
    return [([((u.T - mean) / spread).astype(np.float32) for u in x], y) for x, y in sets]


# %%
# One network
# -----------


def run(name, train, test, epochs, seed):
    """(test accuracy, seconds of training, test loss by epoch) of one network."""
    layers, training = NETWORKS[name]
    model = fr.models.SequenceClassifier(
        12, [str(k) for k in range(1, 10)], 64, pooling="max", dropout=0.3, seed=seed, **layers
    )
    start = perf_counter()
    model.fit(
        *train, epochs=epochs, batch_size=16, lr=3e-3, schedule=fr.schedules.Cosine(), validation=test, seed=seed,
        **training,
    )  # fmt: skip
    return model.score(*test), perf_counter() - start, [entry["loss"] for entry in model.history_.validations]


# %%
# The figure
# ----------


def plot(path, runs):
    """Accuracies of all runs, time, and the loss while they learn."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for position, (name, results) in enumerate(runs.items()):
        accuracies, seconds, losses = (np.array(part) for part in zip(*results))
        left.plot(100 * accuracies, np.full(len(accuracies), position), "o", alpha=0.5)
        left.plot(100 * accuracies.mean(), position, "k|", markersize=24)
        middle.barh(position, np.median(seconds))
        right.plot(np.arange(1, losses.shape[1] + 1), losses.mean(0), label=name)
    left.axvline(97, color="0.8", zorder=0)
    left.set(xlabel="test accuracy, %", yticks=range(len(runs)), yticklabels=runs)
    middle.set(xlabel="seconds of training", yticks=[])
    right.set(xlabel="epoch", ylabel="test loss, nats", yscale="log")
    right.legend()
    for axis in (left, middle):
        axis.invert_yaxis()
    figure.savefig(path, dpi=100)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run each, fewer epochs")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()

    train, test = load()
    lengths = [len(utterance) for utterance in train[0] + test[0]]
    print(
        f"{len(train[0])} utterances to learn from, {len(test[0])} to test on, {min(lengths)} to {max(lengths)} frames"
    )
    epochs, repeats = (12, 1) if args.quick else (40, 5)
    runs = {name: [run(name, train, test, epochs, args.seed + k) for k in range(repeats)] for name in NETWORKS}
    found = {}
    for name, results in runs.items():
        accuracies, seconds, _ = zip(*results)
        found[name] = {
            "accuracy": round(float(np.mean(accuracies)), 4),
            "least": round(min(accuracies), 4),
            "most": round(max(accuracies), 4),
            "seconds": round(float(np.median(seconds)), 2),
        }
        print(f"{name:20} accuracy {np.mean(accuracies):.1%} ({min(accuracies):.1%} to {max(accuracies):.1%}), "
              f"{np.median(seconds):.2f} s")  # fmt: skip
    best = max(found, key=lambda name: found[name]["accuracy"])
    print(f"best: {best}")
    path = Path(args.output, "speech_classification.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plot(path, runs)
        print(f"plot: {path}")
    except ImportError:
        print("no plot: pip install matplotlib")
    if args.json:
        print(json.dumps({**found, "best": best}))


if __name__ == "__main__":
    main()
