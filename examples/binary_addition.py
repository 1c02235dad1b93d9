"""Binary addition: a recurrent network learns to carry
=======================================================

Two numbers of seven bits come in, the lowest bits first, two bits a step; the eight bits of their sum come out. To
know a bit of the sum, the network has to remember the carry. It sees one pair at a step, half of all 16,384 pairs,
and is asked for every pair of the other half: a sum counts only if all its bits are right.

    bits of a and b [8, 1, 2] → RNN → Linear → logits of the sum's bits [8, 1, 1]

The sweeps ask how many units, which initialisation and which activation it takes. `numpy_loop` is the same training
as it is written by hand, backpropagation through time a step after the other; it makes the same steps on the same
pairs and ends with the same weights. `fr.train.online` makes them in one call.

    python examples/binary_addition.py            # half a minute; writes plots
    python examples/binary_addition.py --quick    # fewer steps and settings
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastrnn as fr

BITS = 8
INITS = {"normal": fr.init.normal, "Xavier": fr.init.xavier_normal, "He": fr.init.he_normal}
# rates of learning that suit 16 units with Xavier's initialisation, of 0.03, 0.1, 0.3, 1, 3
RATES = {"sigmoid": 1.0, "tanh": 0.1, "relu": 0.1}


# %%
# Data
# ----


def bits(numbers):
    """[..., BITS], the lowest bit first."""
    return (np.asarray(numbers)[..., None] >> np.arange(BITS) & 1).astype(np.float32)


def as_steps(a, b):
    """Inputs [BITS, B, 2] and targets [BITS, B, 1]."""
    x = np.stack([bits(a), bits(b)], -1)
    return x.swapaxes(0, 1), bits(a + b).T[..., None]


class Pairs:
    """All pairs of numbers of BITS - 1 bits, one half for training."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        most = 2 ** (BITS - 1)
        order = self.rng.permutation(most**2)
        self.train, self.held_out = ((part // most, part % most) for part in np.split(order, 2))

    def draw(self, steps):
        """One pair a step: x [steps, BITS, 1, 2], target [steps, BITS, 1, 1]."""
        rows = self.rng.integers(len(self.train[0]), size=steps)
        a, b = (part[rows] for part in self.train)
        return np.stack([bits(a), bits(b)], -1)[:, :, None], bits(a + b)[:, :, None, None]


# %%
# The model, and what counts
# --------------------------


def make_model(hidden, init, activation, seed):
    model = fr.Sequential(fr.RNN(2, hidden, nonlinearity=activation, seed=seed), fr.Linear(hidden, 1, seed=seed))
    rng = np.random.default_rng(seed)
    for name in model.params:
        fr.init.apply(model, name, INITS[init] if "weight" in name else fr.init.zeros, seed=rng)
    return model


def exact(model, pairs):
    """The share of held-out sums of which every bit is right."""
    x, target = as_steps(*pairs.held_out)
    logits, _ = model(x)
    return float(((logits > 0) == (target > 0.5)).all(axis=(0, 2)).mean())


# %%
# The same training by hand, in NumPy
# -----------------------------------


def numpy_loop(params, x, target, rate):
    """Train one pair a step, all by hand, for the sigmoid; the arrays of `params` are changed in place."""
    W, R, b, c = (params[f"0.{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    V, d = params["1.weight"], params["1.bias"]
    losses = []
    for pair, bits_of_sum in zip(x[:, :, 0], target[:, :, 0, 0]):
        h, p, loss = [np.zeros(len(R), x.dtype)], [], 0.0
        for t in range(BITS):
            h.append(1 / (1 + np.exp(-(W @ pair[t] + b + R @ h[t] + c))))
            p.append(1 / (1 + np.exp(-(V @ h[t + 1] + d))))
            loss -= float(np.log(p[t][0] if bits_of_sum[t] else 1 - p[t][0])) / BITS
        dW, dR, db, dV, dd = np.zeros_like(W), np.zeros_like(R), np.zeros_like(b), np.zeros_like(V), np.zeros_like(d)
        dh = np.zeros_like(h[0])
        for t in reversed(range(BITS)):
            dlogit = (p[t] - bits_of_sum[t]) / BITS
            dz = (dh + dlogit @ V) * h[t + 1] * (1 - h[t + 1])
            dV += np.outer(dlogit, h[t + 1])
            dd += dlogit
            dW += np.outer(dz, pair[t])
            dR += np.outer(dz, h[t])
            db += dz
            dh = dz @ R
        for parameter, gradient in ((W, dW), (R, dR), (b, db), (c, db), (V, dV), (d, dd)):
            parameter -= rate * gradient
        losses.append(loss)
    return np.array(losses)


def compare_speed(pairs, steps, repeats, seed):
    """Both trainings in turn; seconds a step of each, and the largest difference of the weights they end with."""
    times, differences = {"loop": [], "ours": []}, []
    for _ in range(repeats):
        x, target = pairs.draw(steps)
        ours, loop = (make_model(16, "Xavier", "sigmoid", seed) for _ in range(2))
        start = time.perf_counter()
        loop_losses = numpy_loop(loop.params, x, target, np.float32(RATES["sigmoid"]))
        middle = time.perf_counter()
        losses = fr.train.online(ours, x, target, lr=RATES["sigmoid"])
        end = time.perf_counter()
        times["loop"].append((middle - start) / steps)
        times["ours"].append((end - middle) / steps)
        differences.append(max(abs(ours.params[n] - p).max() / abs(p).max() for n, p in loop.params.items()))
        assert np.allclose(losses[:100], loop_losses[:100], rtol=1e-3)
    return *(float(np.median(times[k])) for k in ("loop", "ours")), float(np.median(differences))


# %%
# Sweeps, and the figure
# ----------------------


def sweep(pairs, hidden_sizes, steps, seeds):
    """{(hidden, init, activation): (median share of exact sums, losses of the first seed)} for every setting."""
    found = {}
    for activation in RATES:
        for init in INITS:
            for hidden in hidden_sizes:
                shares, first = [], None
                for seed in seeds:
                    model = make_model(hidden, init, activation, seed)
                    losses = fr.train.online(model, *pairs.draw(steps), lr=RATES[activation])
                    shares.append(exact(model, pairs))
                    first = losses if first is None else first
                found[hidden, init, activation] = float(np.median(shares)), first
    return found


def plot(found, hidden_sizes, path):
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), constrained_layout=True, sharey="row")
    for column, activation in enumerate(RATES):
        above, below = axes[:, column]
        for number, init in enumerate(INITS):
            shares = [100 * found[hidden, init, activation][0] for hidden in hidden_sizes]
            at = np.arange(len(hidden_sizes)) + (number - 1) * 0.27
            bars = above.bar(at, shares, 0.25, label=init, color=f"C{number}")
            above.bar_label(bars, fmt="%.0f", fontsize=7)
            losses = found[hidden_sizes[0], init, activation][1]
            window = max(len(losses) // 100, 1)
            smooth = losses[: len(losses) // window * window].reshape(-1, window).mean(1)
            below.plot(np.arange(1, len(smooth) + 1) * window, smooth, color=f"C{number}", label=init)
        above.set(title=f"{activation}, rate {RATES[activation]:g}", xlabel="hidden units", ylim=(0, 112))
        above.set_xticks(range(len(hidden_sizes)), hidden_sizes)
        below.set(xlabel=f"steps ({hidden_sizes[0]} units)", ylim=(0, 0.9))
        below.axhline(np.log(2), color="grey", lw=0.8, ls=":")
    axes[0, 0].set_ylabel("exact sums of held-out pairs, %")
    axes[1, 0].set_ylabel("loss, nats a bit")
    axes[1, 0].legend(title="initialisation", loc="upper right", fontsize=8)
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps and settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)

    pairs = Pairs(args.seed)
    hidden_sizes = (16, 32) if args.quick else (16, 32, 64, 128)
    steps = 3_000 if args.quick else 10_000
    seeds = [args.seed] if args.quick else [args.seed + k for k in range(3)]
    print(f"{len(pairs.train[0])} pairs for training, {len(pairs.held_out[0])} held out; {steps} steps of one pair")

    found = sweep(pairs, hidden_sizes, steps, seeds)
    print(f"exact sums of held-out pairs, median of {len(seeds)} runs; columns: units")
    print(f"{'':18}" + "".join(f"{hidden:>9}" for hidden in hidden_sizes))
    for activation in RATES:
        for init in INITS:
            shares = [found[hidden, init, activation][0] for hidden in hidden_sizes]
            print(f"{activation:9}{init:9}" + "".join(f"{share:9.1%}" for share in shares))
    smallest = {key[1:]: share for key, (share, _) in found.items() if key[0] == 16}
    best = max(smallest, key=smallest.get)
    print(f"16 units, best setting: {best[1]}, {best[0]}: {smallest[best]:.1%}")

    loop, ours, difference = compare_speed(pairs, 500 if args.quick else 2_000, 3 if args.quick else 7, args.seed)
    print(f"a step of one pair, 16 units, sigmoid: NumPy loop {1e6 * loop:.0f} µs, fastrnn {1e6 * ours:.1f} µs")
    print(f"{loop / ours:.1f} times faster; the weights at the end differ by {difference:.0e}, relative")
    plot(found, hidden_sizes, output / "binary_addition.png")
    if args.json:
        settings = {"/".join(map(str, key)): round(share, 4) for key, (share, _) in found.items()}
        print(json.dumps({
            "exact": settings, "best": list(best), "best_exact": smallest[best], "steps": steps,
            "loop_us": round(1e6 * loop, 1), "fastrnn_us": round(1e6 * ours, 2), "speedup": round(loop / ours, 1),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
