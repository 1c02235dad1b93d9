"""Handwritten digits as eight symbols: a VQ-VAE
================================================

A VQ-VAE of scikit-learn's digits, and a GRU that writes new ones:

    image (64 pixels) → 8 vectors → the nearest of 32 codes each → image: 8 · 5 bits instead of 64 · 4

Trained first, the autoencoder turns each image into a sequence of codes. A language model, a GRU, then learns which
codes follow which; the sequences that it writes are decoded into new digits. Codes drawn independently make blots: how
far samples lie from the nearest training image says by how much.

    python examples/vqvae_digits.py            # about fifteen seconds; writes vqvae_digits.png
    python examples/vqvae_digits.py --quick    # a few seconds, worse results

Needs scikit-learn for the images (they are inside the package).
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np

import fastrnn as fr

CODES, LATENTS = 32, 8


# %%
# Data and training
# -----------------


def load(seed):
    """(train, test): images [N, 64] from 0 to 1, a fifth of them held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("this example needs scikit-learn, for its images: pip install scikit-learn") from None
    x = (load_digits().data / 16).astype(np.float32)
    x = x[np.random.default_rng(seed).permutation(len(x))]
    return x[len(x) // 5 :], x[: len(x) // 5]


def train_codes(x, epochs, seed):
    """The autoencoder."""
    model = fr.models.VQVAE(
        64, num_codes=CODES, code_size=8, num_latents=LATENTS, hidden_sizes=(256, 128), scale=0.2, decay=0.97, seed=seed
    )
    optimizer, schedule = fr.optim.Adam(model, lr=2e-3), fr.schedules.Cosine(warmup=0.02)
    data = fr.ArrayBatches(x, batch_size=64, seed=seed)
    fr.fit(model, data, None, optimizer, epochs=epochs, schedule=schedule, seed=seed, progress=False)
    return model


def train_prior(codes, epochs, seed):
    """A GRU over sequences of codes; number CODES begins each."""
    begin = np.full((1, len(codes)), CODES)
    windows = np.concatenate([begin, codes.T])  # [T + 1, N]
    prior = fr.models.LanguageModel(CODES + 1, "gru", embedding_dim=32, hidden_size=96, dropout=0.2, seed=seed)
    rng, batches = np.random.default_rng(seed), []
    for columns in np.array_split(rng.permutation(len(codes)), len(codes) // 64):
        batches.append((windows[:-1, columns], windows[1:, columns]))
    fr.fit(prior, batches, None, fr.optim.Adam(prior, lr=3e-3), epochs=epochs, seed=seed, progress=False)
    return prior


# %%
# What is measured, and new digits
# --------------------------------


def nats(prior, codes):
    """−log p of a code under the prior, the mean."""
    windows = np.concatenate([np.full((1, len(codes)), CODES), codes.T])
    return prior.loss((windows[:-1], windows[1:]), train=False)[0]


def write(prior, count, seed):
    """Sequences of codes that the prior draws."""
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < count:
        row = prior.sample([CODES], LATENTS, seed=rng)
        if row.max() < CODES:  # it learns that nothing begins twice
            rows.append(row)
    return np.array(rows)


def away(images, known):
    """Mean distance of images to the nearest known one."""
    return float(np.sqrt(np.square(images[:, None] - known).sum(-1).min(1)).mean())


# %%
# The figure
# ----------


def tiles(images, columns):
    """Images [N, 64] in one picture, N/columns rows of them."""
    rows = images.clip(0, 1).reshape(-1, columns, 8, 8)
    framed = np.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.4)
    return framed.transpose(0, 2, 1, 3).reshape(len(rows) * 9, columns * 9)


def plot(path, model, held_out, samples, blots, found):
    """Reconstructions, usage of the codes, samples, what independent codes make."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 11), layout="constrained")
    pictures = np.stack([held_out, model.reconstruct(held_out)])[:, :50].reshape(2, 5, 10, 64)
    images = (pictures.swapaxes(0, 1).reshape(100, 64), None, samples, blots)
    titles = (
        f"held-out images and what {LATENTS} codes keep of them",
        f"use of the {CODES} codes, perplexity {found['perplexity']}",
        f"codes that the GRU writes: {found['samples_away']} from the nearest image",
        f"independent codes: {found['independent_away']}",
    )
    for axis, picture, title in zip(axes.flat, images, titles):
        axis.set_title(title)
        if picture is not None:
            axis.imshow(tiles(picture, 10), cmap="gray_r")
            axis.set_axis_off()
    codes = model.encode(held_out)
    usage = np.stack([np.bincount(column, minlength=CODES) for column in codes.T]) / len(codes)
    shown = axes[0, 1].imshow(usage, cmap="viridis", aspect="auto")
    axes[0, 1].set(xlabel="code", ylabel="position")
    figure.colorbar(shown, ax=axes[0, 1], fraction=0.04, label="share of held-out images")
    figure.savefig(path, dpi=100)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()

    x, held_out = load(args.seed)
    epochs, start = 20 if args.quick else 250, perf_counter()
    model = train_codes(x, epochs, args.seed)
    seconds = perf_counter() - start
    codes, their_codes = model.encode(x), model.encode(held_out)
    prior = train_prior(codes, 10 if args.quick else 60, args.seed)

    samples = model.decode(write(prior, 100, args.seed))
    rng = np.random.default_rng(args.seed)
    blots = model.decode(np.stack([rng.permutation(column)[:100] for column in codes.T], -1))
    found = {
        "pixel_error": round(float(np.abs(model.reconstruct(held_out) - held_out).mean()), 4),
        "mean_image_error": round(float(np.abs(x.mean(0) - held_out).mean()), 4),
        "perplexity": round(model.perplexity(held_out), 1),
        "bits": LATENTS * int(np.log2(CODES)),
        "prior_bits": round(LATENTS * nats(prior, their_codes) / np.log(2), 1),
        "samples_away": round(away(samples, x), 2),
        "independent_away": round(away(blots, x), 2),
        "held_out_away": round(away(held_out, x), 2),
        "seconds": round(seconds, 2),
        "prior_seconds": round(perf_counter() - start - seconds, 2),
    }
    print(f"{len(x)} images, {len(held_out)} held out; {epochs} epochs")
    print("\n".join(f"{name}: {value}" for name, value in found.items()))
    path = Path(args.output, "vqvae_digits.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plot(path, model, held_out, samples, blots, found)
        print(f"plot: {path}")
    except ImportError:
        print("no plot: pip install matplotlib")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
