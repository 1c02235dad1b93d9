"""Draw attention.png and transformer.png, the figures of those pages: two small models learn to reverse a sequence.

python docs/models/figures.py            # half a minute
python docs/models/figures.py --quick    # some seconds; the models have hardly learned
"""

import argparse
from pathlib import Path

import numpy as np

import fastrnn as fr

SYMBOLS, BEGIN, SIZE = 10, 10, 32  # 0 … 9 are symbols, 10 begins an output


class Reverser(fr.Model):
    """An encoder, a decoder that is fed what it should have said, and attention over the encoder's states."""

    def __init__(self, kind):
        self.source, self.target = fr.Embedding(SYMBOLS, SIZE, seed=0), fr.Embedding(SYMBOLS + 1, SIZE, seed=1)
        self.encoder = fr.GRU(SIZE, SIZE // 2, bidirectional=True, seed=2)
        self.decoder = fr.GRU(SIZE, SIZE, seed=3)
        self.attention = None if kind is None else fr.Attention(SIZE, kind=kind, seed=4)
        self.out = fr.Linear(SIZE if kind is None else 2 * SIZE, SYMBOLS, seed=5)

    def states(self, x, y, lengths):
        states, h = self.encoder(self.source(x), lengths=lengths)
        return states, self.decoder(self.target(y), fr.concat([h[0], h[1]], -1)[None])[0]

    def forward(self, x, y, *, lengths):
        states, h = self.states(x, y, lengths)
        return self.out(h if self.attention is None else fr.concat([h, self.attention(h, states, lengths=lengths)], -1))

    def weights(self, x, y):
        states, h = self.states(x, y, None)
        return self.attention(h, states, return_weights=True)[1]


class Transformer(fr.Model):
    """The same without recurrence: one layer of each kind."""

    def __init__(self):
        self.source, self.target = fr.Embedding(SYMBOLS, SIZE, seed=0), fr.Embedding(SYMBOLS + 1, SIZE, seed=1)
        self.position = fr.PositionalEncoding(SIZE)
        options = {"num_layers": 1, "dim_feedforward": 64, "dropout": 0.0, "norm_first": True}
        self.encoder = fr.TransformerEncoder(SIZE, 2, seed=2, **options)
        self.decoder = fr.TransformerDecoder(SIZE, 2, seed=3, **options)
        self.out = fr.Linear(SIZE, SYMBOLS, seed=4)

    def forward(self, x, y, *, lengths):
        memory = self.encoder(self.position(self.source(x)), lengths=lengths)
        return self.out(self.decoder(self.position(self.target(y)), memory, memory_lengths=lengths))

    def weights(self, x, y):
        """Of each head of the attention over the source, [T, B, N, S]."""
        memory, (layer,) = self.encoder(self.position(self.source(x))), self.decoder.layers
        h = self.position(self.target(y))
        h = h + layer.self_attn(layer.norm1(h), causal=True)
        return layer.multihead_attn(layer.norm2(h), memory, return_weights=True)[1]


def batch(rng, rows=64, least=4, most=12):
    """Sequences, what the decoder is fed, what it should say, and lengths."""
    lengths = rng.integers(least, most + 1, rows)
    x, target = np.zeros((most, rows), int), np.full((most, rows), -1)
    for row, n in enumerate(lengths):
        x[:n, row] = rng.integers(0, SYMBOLS, n)
        target[:n, row] = x[:n, row][::-1]
    fed = np.concatenate([np.full((1, rows), BEGIN), np.maximum(target[:-1], 0)])
    return x, fed, target, lengths


def train(model, steps, lr):
    """The loss of each step."""

    def loss(x, fed, target, lengths):
        return fr.losses.cross_entropy(model(x, fed, lengths=lengths), target, ignore_index=-1)[0]

    rng, step, found = np.random.default_rng(0), fr.value_and_grad(loss, model), []
    optimizer = fr.optim.Adam(model, lr=lr)
    for _ in range(steps):
        found.append(step(*batch(rng))[0])
        fr.optim.clip_grad_norm(model, 1.0)
        optimizer.step()
    return found


def smooth(losses, width=25):
    return np.convolve(losses, np.ones(width) / width, "valid")


def heat_map(axes, weights, x, target, title):
    axes.imshow(weights, aspect="equal", cmap="viridis", vmin=0, vmax=1)
    axes.set_xticks(range(len(x)), x)
    axes.set_yticks(range(len(target)), target)
    axes.set(title=title, xlabel="what is read", ylabel="what is written")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = 30 if args.quick else 1000
    shown = batch(np.random.default_rng(1), 1, 12, 12)
    x, target = (a[:, 0].tolist() for a in (shown[0], shown[2]))

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    models = {"additive": "additive", "general": "general", "dot": "dot", "none": None}
    models = {name: Reverser(kind) for name, kind in models.items()}
    for name, model in models.items():
        losses = train(model, steps, 5e-3)
        right.plot(smooth(losses), label=name)
        print(f"attention {name}: loss {np.mean(losses[-25:]):.3f}")
    heat_map(left, models["additive"].weights(*shown[:2])[:, 0], x, target, "Weights (additive)")
    right.set(title="Learning to reverse", xlabel="step", ylabel="cross entropy, nats a symbol", ylim=(0, None))
    right.legend(title="attention")
    figure.savefig(args.output / "attention.png", dpi=90)

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    model = Transformer()
    losses = train(model, steps, 5e-3)
    print(f"Transformer: loss {np.mean(losses[-25:]):.3f}")
    positions = fr.PositionalEncoding(SIZE)(np.zeros((50, SIZE), np.float32))
    image = axes[0].imshow(positions.T, aspect="auto", cmap="RdBu")
    axes[0].set(title="What is added to steps", xlabel="step", ylabel="value")
    figure.colorbar(image, ax=axes[0])
    for head in range(2):
        weights = model.weights(*shown[:2])[:, 0, head]
        heat_map(axes[1 + head], weights, x, target, f"Reversing: weights of head {head + 1}")
    figure.savefig(args.output / "transformer.png", dpi=90)


if __name__ == "__main__":
    main()
