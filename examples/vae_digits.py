"""Handwritten digits from two numbers: a VAE
=============================================

A variational autoencoder of scikit-learn's digits:

    image (64 pixels) → q(z | x) = N(μ, σ²) → z → p(x | z) = N(g(z), 0.2²)

A latent space of two dimensions can be drawn: the map shows where the encoder puts the images it has never seen,
without having been told what they show, and the grid what the decoder makes of each point. A model with more
dimensions reconstructs better; both are compared by their bound on log p(x), and by how well the nearest training
images in latent space tell a digit's class.

    python examples/vae_digits.py            # about fifteen seconds; writes vae_digits.png
    python examples/vae_digits.py --quick    # a few seconds, worse results

Needs scikit-learn for the images (they are inside the package).
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np

import fastrnn as fr

# %%
# Data and training
# -----------------


def load(seed):
    """(train, test, their classes): images [N, 64] from 0 to 1, a fifth of them held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("this example needs scikit-learn, for its images: pip install scikit-learn") from None
    x, y = load_digits(return_X_y=True)
    x, order = (x / 16).astype(np.float32), np.random.default_rng(seed).permutation(len(x))
    test, train = order[: len(x) // 5], order[len(x) // 5 :]
    return x[train], x[test], y[train], y[test]


def train(x, latent_size, epochs, seed):
    """A trained model and the seconds that took."""
    model = fr.models.VAE(64, latent_size, (256, 128), likelihood="gaussian", scale=0.2, seed=seed)
    optimizer, start = fr.optim.Adam(model, lr=2e-3), perf_counter()
    data, schedule = fr.ArrayBatches(x, batch_size=64, seed=seed), fr.schedules.Cosine(warmup=0.02)
    fr.fit(model, data, None, optimizer, epochs=epochs, schedule=schedule, seed=seed, progress=False)
    return model, perf_counter() - start


# %%
# What is measured
# ----------------


def nearest_class(points, known, classes, k=5):
    """The commonest class among the k nearest known points, for each point."""
    distance = np.square(points[:, None] - known).sum(-1)
    votes = classes[np.argsort(distance, axis=1)[:, :k]]
    return np.array([np.bincount(row).argmax() for row in votes])


def figures(model, seconds, x, held_out, y, their_y):
    """What the model reached."""
    bound = model.elbo(held_out, samples=20, seed=0)
    guesses = nearest_class(model.encode(held_out)[0], model.encode(x)[0], y)
    return {
        "bound_nats": round(bound.elbo, 2),
        "reconstruction_nats": round(-bound.reconstruction, 2),
        "kl_nats": round(bound.kl, 2),
        "pixel_error": round(float(np.abs(model.reconstruct(held_out) - held_out).mean()), 4),
        "nearest_neighbour_accuracy": round(float((guesses == their_y).mean()), 4),
        "seconds": round(seconds, 2),
    }


# %%
# The figure
# ----------


def tiles(images, columns):
    """Images [N, 64] in one picture, N/columns rows of them."""
    rows = images.clip(0, 1).reshape(-1, columns, 8, 8)
    framed = np.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.4)
    return framed.transpose(0, 2, 1, 3).reshape(len(rows) * 9, columns * 9)


def plot(path, flat, deep, held_out, classes, seed):
    """Reconstructions, the map, the grid, samples."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 11), layout="constrained")
    pictures = np.stack([held_out, flat.reconstruct(held_out), deep.reconstruct(held_out)])[:, :30]
    pictures = pictures.reshape(3, 3, 10, 64).swapaxes(0, 1).reshape(90, 64)
    titles = (
        f"held-out images; from 2 numbers; from {deep.latent_size}",
        f"samples of the model with {deep.latent_size}",
    )
    axes[0, 0].imshow(tiles(pictures, 10), cmap="gray_r")
    axes[0, 0].set_title(titles[0])
    axes[0, 1].imshow(tiles(deep.sample(100, seed=seed), 10), cmap="gray_r")
    axes[0, 1].set_title(titles[1])
    mean, _ = flat.encode(held_out)
    points = axes[1, 0].scatter(*mean.T, c=classes, cmap="tab10", s=12)
    figure.colorbar(points, ax=axes[1, 0], ticks=range(10), fraction=0.04)
    axes[1, 0].set_title("map: μ of held-out images, colours are their classes")
    ticks = np.linspace(-2.2, 2.2, 15, dtype=np.float32)
    grid = np.stack(np.meshgrid(ticks, ticks[::-1]), -1).reshape(-1, 2)
    axes[1, 1].imshow(tiles(flat.decode(grid), 15), cmap="gray_r", extent=(-2.35, 2.35, -2.35, 2.35))
    axes[1, 1].set_title("what the decoder makes of each point of the map")
    for axis in axes[0]:
        axis.set_axis_off()
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

    x, held_out, y, their_y = load(args.seed)
    epochs, found, models = 15 if args.quick else 200, {}, {}
    print(f"{len(x)} images, {len(held_out)} held out; {epochs} epochs")
    for size in (2, 16):
        models[size], seconds = train(x, size, epochs, args.seed)
        found[f"latent_{size}"] = figures(models[size], seconds, x, held_out, y, their_y)
        print(f"latent space of {size}: " + ", ".join(f"{k} {v}" for k, v in found[f"latent_{size}"].items()))
    pixels = nearest_class(held_out, x, y)
    print(f"nearest neighbours by pixels: {(pixels == their_y).mean():.1%}")
    path = Path(args.output, "vae_digits.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plot(path, models[2], models[16], held_out, their_y, args.seed)
        print(f"plot: {path}")
    except ImportError:
        print("no plot: pip install matplotlib")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
