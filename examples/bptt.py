"""Backpropagation through time: truncated, vanishing, exploding
================================================================

Two ways to write it, what truncation loses, and how gradients vanish and explode:

1. The gradient of a recurrent weight as textbooks print it, a nested sum over pairs of steps (s, t) in which the error
   of step t goes back to step s, and as it is computed, one pass that accumulates: the same numbers, T² against T.
2. Truncated backpropagation: how far the gradient is from the full one when errors go back k steps only.
3. How much of a gradient at the last step arrives k steps before: RNN, LSTM and GRU.
4. A relu network with a spectral radius over 1: gradients explode, and clipping their norm lets training go on.

    python examples/bptt.py            # some seconds; writes a plot
    python examples/bptt.py --quick
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastrnn as fr
from fastrnn import functional as F


def make_rnn(rng, inputs, hidden, radius):
    """Weights W, R of a tanh network; the spectral radius of R is `radius`."""
    W = rng.standard_normal((hidden, inputs)) / np.sqrt(inputs)
    R = rng.standard_normal((hidden, hidden))
    return W, R * (radius / abs(np.linalg.eigvals(R)).max())


# %%
# Nested and accumulated
# ----------------------


def nested(h, R, dh):
    """∂L/∂R = Σ_t Σ_{s≤t} (∂L_t/∂h_t · ∂h_t/∂h_s · ∂⁺h_s/∂R): for every t, a walk back to every s."""
    dR = np.zeros_like(R)
    for t in range(len(dh)):
        error = dh[t]
        for s in reversed(range(t + 1)):
            dz = error * (1 - h[s + 1] ** 2)
            dR += np.outer(dz, h[s])
            error = dz @ R  # to h of step s - 1
    return dR


def accumulated(h, R, dh):
    """The same sum, the errors of all later steps going back together: one walk."""
    dR, error = np.zeros_like(R), np.zeros(len(R))
    for s in reversed(range(len(dh))):
        dz = (error + dh[s]) * (1 - h[s + 1] ** 2)
        dR += np.outer(dz, h[s])
        error = dz @ R
    return dR


def two_forms(rng, lengths, hidden):
    """Differences of the three gradients, and the time of each, by length."""
    found = []
    for T in lengths:
        W, R = make_rnn(rng, 3, hidden, 0.9)
        x, dh = rng.standard_normal((T, 3)), rng.standard_normal((T, hidden))
        (y, _), pullback = F.rnn_vjp(x, None, W, R)
        h = np.concatenate([np.zeros((1, hidden)), y])
        times, gradients = [], []
        for run in (lambda: nested(h, R, dh), lambda: accumulated(h, R, dh)):  # noqa: B023
            start = time.perf_counter()
            gradients.append(run())
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        gradients.append(pullback(dh)[2].weight_hh)
        times.append(time.perf_counter() - start)
        scale = abs(gradients[0]).max()
        found.append((T, *(abs(g - gradients[0]).max() / scale for g in gradients[1:]), *times))
    return found


# %%
# Truncation
# ----------


def truncation_errors(rng, lengths, T, radii, hidden=32):
    """{radius: relative errors of dR} when the error of each step goes back k steps: the nested sum, cut off.

    The window that ends at t, run from the state before it, gives all that the error of step t may reach.
    """
    errors = {}
    for radius in radii:
        W, R = make_rnn(rng, 3, hidden, radius)
        x, dh = rng.standard_normal((T, 1, 3)), rng.standard_normal((T, 1, hidden))
        (y, _), pullback = F.rnn_vjp(x, None, W, R)
        h = np.concatenate([np.zeros((1, 1, hidden)), y])
        full = pullback(dh)[2].weight_hh
        errors[radius] = []
        for k in lengths:
            # all windows of k steps side by side, as one batch; those that begin before the sequence are cut
            total = np.zeros_like(full)
            ends = np.arange(T)
            for first, group in ((ends >= k - 1, k), *((ends == t, t + 1) for t in range(min(k - 1, T)))):
                rows = ends[first]
                steps = rows - (group - 1) + np.arange(group)[:, None]  # [group, windows]
                (_, _), back = F.rnn_vjp(x[steps, 0], h[rows - (group - 1), 0], W, R)
                total += back(dstate=dh[rows, 0])[2].weight_hh
            errors[radius].append(np.linalg.norm(total - full) / np.linalg.norm(full))
    return errors


# %%
# Vanishing gradients
# -------------------


def gradient_norms(cell, T, hidden, repeats, seed):
    """‖∂L/∂(state k steps before the last)‖ over that at the last, k = 1 … T: the geometric mean of runs."""
    logs, kind = [], cell.split(",")[0]
    for run in range(repeats):
        rng = np.random.default_rng([seed, run])
        layer = {"RNN": fr.RNN, "LSTM": fr.LSTM, "GRU": fr.GRU}[kind](3, hidden, dtype=np.float64, seed=rng)
        if "orthogonal" in cell:
            fr.init.apply(layer, "weight_hh*", fr.init.orthogonal, seed=rng)
        if "forget" in cell:
            fr.init.lstm_forget_bias(layer, 3.0)
        x, norms = rng.standard_normal((T, 1, 3)), []
        direction = rng.standard_normal((1, 1, hidden))
        state, states = None, []
        for t in range(T):
            states.append(state)
            _, state = layer(x[t : t + 1], state)
        given = direction if kind != "LSTM" else (direction, None)
        for t in reversed(range(T)):
            _, pullback = layer.vjp(x[t : t + 1], states[t])
            _, given = pullback(None, given)
            parts = given if isinstance(given, tuple) else (given,)
            norms.append(np.sqrt(sum(np.square(part).sum() for part in parts)))
        logs.append(np.log(np.array(norms) / np.linalg.norm(direction) + 1e-300))
    return np.exp(np.mean(logs, axis=0))  # [k]: k+1 steps back


# %%
# Exploding gradients
# -------------------


def explode(rng, steps, T, clip, radius=1.3, hidden=32):
    """Losses and norms of gradients of a relu network that adds up its inputs, until they are numbers no more."""
    rnn = fr.RNN(1, hidden, nonlinearity="relu", seed=3)
    rnn.params["weight_hh_l0"] = make_rnn(np.random.default_rng(0), 1, hidden, radius)[1]
    model = fr.Sequential(rnn, fr.Last(), fr.Linear(hidden, 1, seed=4))
    sgd = fr.optim.SGD(model, lr=0.01)
    losses, norms = [], []
    for _ in range(steps):
        x = rng.standard_normal((T, 32, 1), np.float32)
        y, pullback = model.vjp(x, input_grad=False)
        y = y[0] if isinstance(y, tuple) else y
        loss, dy = fr.losses.mse(y, x.sum(axis=0) / np.float32(np.sqrt(T)))
        model.zero_grads()
        pullback(dy)
        try:
            norms.append(fr.optim.clip_grad_norm(model, 1.0 if clip else 1e30))
        except FloatingPointError:  # infinite, or NaN
            break
        sgd.step()
        losses.append(loss)
    return np.array(losses), np.array(norms)


# %%
# Everything
# ----------


def plot(forms, errors, ks, norms, runs, path):
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    first, second, third, fourth, fifth, sixth = axes.ravel()
    T = [row[0] for row in forms]
    for column, name in ((3, "nested sum (NumPy)"), (4, "accumulated (NumPy)"), (5, "accumulated (fastrnn)")):
        first.loglog(T, [1e3 * row[column] for row in forms], "o-", label=name)
    first.set(title="One gradient, three ways", xlabel="steps T", ylabel="ms")
    first.legend(fontsize=8)
    for column, name in ((1, "accumulated"), (2, "fastrnn")):
        second.semilogy(T, [max(row[column], 1e-17) for row in forms], "o-", label=f"{name} − nested")
    second.set(
        title="They are the same numbers", xlabel="steps T", ylabel="largest difference / largest", ylim=(1e-17, 1e-10)
    )
    second.legend(fontsize=8)
    for radius, values in errors.items():
        third.semilogy(ks, np.maximum(values, 1e-16), "o-", ms=3, label=f"spectral radius {radius}")
    third.set(title="Truncated BPTT", xlabel="steps k that an error goes back", ylabel="relative error of dR")
    third.legend(fontsize=8)
    for cell, values in norms.items():
        fourth.semilogy(np.arange(1, len(values) + 1), values, label=cell)
    fourth.set(title="What arrives of a gradient", xlabel="steps back", ylabel="norm, relative to the last step")
    fourth.legend(fontsize=8)
    for name, (losses, sizes) in runs.items():
        fifth.semilogy(sizes, lw=0.8, label=name, marker="." if len(sizes) < 20 else None)
        sixth.semilogy(losses, lw=0.8, label=name, marker="." if len(losses) < 20 else None)
    fifth.axhline(1, color="grey", lw=0.8, ls=":")
    fifth.set(title="Norm of the gradient, before clipping", xlabel="training step", ylabel="norm")
    sixth.set(title="Loss", xlabel="training step", ylabel="squared error")
    sixth.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter sequences, fewer runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)

    forms = two_forms(rng, (10, 20, 40) if args.quick else (10, 30, 100, 300), 16)
    for T, error, ours, *times in forms:
        listed = ", ".join(f"{1e3 * t:.2f}" for t in times)
        print(f"T={T:4}: accumulated − nested {error:.0e}, fastrnn − nested {ours:.0e}; ms: {listed}")

    ks = [1, 2, 4, 8, 16, 32] if args.quick else [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    errors = truncation_errors(rng, ks, 60 if args.quick else 200, (0.5, 0.9, 1.1))
    for radius, values in errors.items():
        print(f"truncation, radius {radius}: " + ", ".join(f"k={k} {e:.0e}" for k, e in zip(ks, values)))

    T, repeats = (30, 2) if args.quick else (100, 10)
    cells = ("RNN", "RNN, orthogonal", "GRU", "LSTM", "LSTM, forget bias 3")
    norms = {cell: gradient_norms(cell, T, 32, repeats, args.seed) for cell in cells}
    for cell, values in norms.items():
        print(f"{cell}: of a gradient {values[9]:.1e} arrives after 10 steps, {values[-1]:.1e} after {T}")

    steps = 100 if args.quick else 600
    runs = {}
    for name, clip in (("as it is", False), ("norm clipped to 1", True)):
        with np.errstate(all="ignore"):
            runs[name] = explode(np.random.default_rng(args.seed), steps, 24, clip)
        losses, sizes = runs[name]
        lasted = f"{len(losses)} of {steps} steps"
        print(f"relu, {name}: {lasted}, largest norm {sizes.max():.1e}, loss at the end {losses[-20:].mean():.3g}")
    plot(forms, errors, ks, norms, runs, output / "bptt.png")
    if args.json:
        print(json.dumps({
            "nested_difference": max(row[1] for row in forms), "fastrnn_difference": max(row[2] for row in forms),
            "truncation": {str(radius): [float(e) for e in values] for radius, values in errors.items()}, "k": ks,
            "after_10": {cell: float(values[9]) for cell, values in norms.items()},
            "largest_norm": {name: float(sizes.max()) for name, (_, sizes) in runs.items()},
            "steps": {name: len(losses) for name, (losses, _) in runs.items()},
            "loss": {name: float(losses[-20:].mean()) for name, (losses, _) in runs.items()},
        }))  # fmt: skip


if __name__ == "__main__":
    main()
