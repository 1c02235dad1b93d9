"""A training step of the binary Tree-LSTM beside PyTorch: `python benchmarks/trees.py [--threads N] [--repeat N]`.

PyTorch runs a loop over levels, with one product a level for all trees and the levels found beforehand, and a loop over
nodes. All start from the same weights, and must agree in h and in every gradient. The sides take turns; medians.
"""

import argparse
import time
from itertools import pairwise

import numpy as np

import fastrnn as fr

CASES = [(1, 20, 150), (25, 20, 150), (64, 20, 64), (128, 20, 256)]  # trees, leaves a tree, hidden units


def random_tree(rng, leaves):
    """Parents of a random binary tree, children before parents."""
    parents, top = [-1] * leaves, list(range(leaves))
    while len(top) > 1:
        at = rng.integers(len(top) - 1)
        for child in top[at : at + 2]:
            parents[child] = len(parents)
        top[at : at + 2] = [len(parents)]
        parents.append(-1)
    return parents


class Loops:
    """The two loops in PyTorch."""

    def __init__(self, torch, net, trees):
        self.torch, self.trees, self.H = torch, trees, net.hidden_size
        self.p = {name: torch.tensor(a, requires_grad=True) for name, a in net.params.items()}
        self.children = [np.flatnonzero(trees.parents == n).tolist() for n in range(trees.num_nodes)]
        self.leaf = {n: k for k, n in enumerate(trees.leaves.tolist())}
        self.levels = trees.levels(2)
        self.order = torch.from_numpy(self.levels.order)
        self.slots = torch.from_numpy(self.levels.child).view(-1, 2)

    def cell(self, i, f_l, f_r, g, o, c_l, c_r):
        torch = self.torch
        c = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(f_l) * c_l + torch.sigmoid(f_r) * c_r
        return torch.sigmoid(o) * torch.tanh(c), c

    def nodes(self, x):
        torch, p, states = self.torch, self.p, {}
        zero = torch.zeros(self.H)
        for n in range(self.trees.num_nodes):
            z = p["bias"] + (p["weight_ih"] @ x[self.leaf[n]] if n in self.leaf else 0)
            i, f, g, o = z.split(self.H)
            if n in self.leaf:
                states[n] = self.cell(i, f, f, g, o, zero, zero)
                continue
            (h_l, c_l), (h_r, c_r) = (states[k] for k in self.children[n])
            s = (p["weight_hh"] @ torch.cat([h_l, h_r])).split(self.H)
            states[n] = self.cell(i + s[0], f + s[1], f + s[2], g + s[3], o + s[4], c_l, c_r)
        return torch.stack([states[n][0] for n in range(self.trees.num_nodes)])

    def by_level(self, x):
        torch, p, H = self.torch, self.p, self.H
        linear, level = torch.nn.functional.linear, self.levels.level.tolist()
        i, _, g, o = linear(x, p["weight_ih"], p["bias"]).split(H, 1)
        c = torch.sigmoid(i) * torch.tanh(g)
        h, b = torch.sigmoid(o) * torch.tanh(c), p["bias"].split(H)
        for n0, n1 in pairwise(level[1:]):
            left, right = self.slots[n0 - level[1] : n1 - level[1]].unbind(1)
            s = linear(torch.cat([h[left], h[right]], 1), p["weight_hh"]).split(H, 1)
            h_n, c_n = self.cell(b[0] + s[0], b[1] + s[1], b[1] + s[2], b[2] + s[3], b[3] + s[4], c[left], c[right])
            h, c = torch.cat([h, h_n]), torch.cat([c, c_n])
        out = torch.empty_like(h)
        out[self.order] = h
        return out

    def step(self, forward, x, dh):
        for p in self.p.values():
            p.grad = None
        x = self.torch.tensor(x, requires_grad=True)
        h = forward(x)
        h.backward(self.torch.from_numpy(dh))
        return h.detach().numpy(), x.grad.numpy()


def measure(torch, trees, hidden, repeat):
    """Milliseconds of each side."""
    rng = np.random.default_rng(1)
    net = fr.TreeLSTM(hidden, hidden, "binary", seed=0)
    x = rng.standard_normal((trees.num_leaves, hidden), np.float32)
    dh = rng.standard_normal((trees.num_nodes, hidden), np.float32)
    loops = Loops(torch, net, trees)

    def ours():
        net.zero_grads()
        h, pullback = net.vjp(x, trees[np.arange(len(trees))])  # a new batch: its levels are found anew
        return h, pullback(dh)

    sides = {
        "fastrnn": ours,
        "levels": lambda: loops.step(loops.by_level, x, dh),
        "nodes": lambda: loops.step(loops.nodes, x, dh),
    }
    expected = ours()
    for name in ("levels", "nodes"):
        for ours_, theirs in zip(expected, sides[name]()):
            assert np.abs(ours_ - theirs).max() < 1e-4 * np.abs(theirs).max()
        for parameter, p in loops.p.items():
            assert np.abs(net.grads[parameter] - p.grad.numpy()).max() < 1e-4 * np.abs(p.grad.numpy()).max()
    times = {name: [] for name in sides}
    for turn in range(repeat):
        for name, run in sides.items():
            if name != "nodes" or turn < 3:  # takes seconds
                start = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(t)) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=25)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        raise SystemExit("this benchmark needs PyTorch: pip install torch") from None
    torch.set_num_threads(args.threads)
    fr.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    print(f"{args.threads} threads, ms a training step, float32; in brackets times fastrnn's")
    for count, leaves, hidden in CASES:
        trees = fr.Trees([random_tree(rng, int(n)) for n in rng.integers(leaves // 2, leaves * 3 // 2, count)])
        ms = measure(torch, trees, hidden, args.repeat)
        others = ", ".join(f"{name} {ms[name]:.1f} ({ms[name] / ms['fastrnn']:.1f})" for name in ("levels", "nodes"))
        print(
            f"{count:4} trees, {trees.num_nodes:5} nodes, H={hidden:4}: fastrnn {ms['fastrnn']:.2f}, {others}",
            flush=True,
        )


if __name__ == "__main__":
    main()
