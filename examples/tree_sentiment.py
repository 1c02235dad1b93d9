"""Sentiment of phrases with a structure
========================================

What a bag of words can't learn, a recursive network does.

Phrases are made by a small grammar. Words are good or bad; `not` turns the phrase behind it round, `A but B` means what
B means, `A and B` is good if both are. So "not (bad but good)" is bad and "(not bad) but good" is good: the
words are the same, the tree decides. Trees are binary, every phrase in them has a label, as in the Stanford Sentiment
Treebank.

    bag of words: mean of the words' vectors → Linear        recursive networks: words' vectors up the tree → Linear

Training phrases have up to 12 words; the test asks for longer ones, too.

    python examples/tree_sentiment.py            # half a minute; writes a plot
    python examples/tree_sentiment.py --quick    # fewer phrases
"""

import argparse
import json
from pathlib import Path

import numpy as np

import fastrnn as fr

GOOD = ["good", "great", "lovely", "clever", "warm", "bright", "funny", "moving", "fresh", "honest"]
BAD = ["bad", "awful", "dull", "clumsy", "cold", "dark", "silly", "boring", "stale", "false"]
WORDS = [*GOOD, *BAD, "very", "not", "and", "but"]
NUMBER = {word: number for number, word in enumerate(WORDS)}
NETS = {"recursive net": "recursive", "Tree-LSTM, child-sum": "child_sum", "Tree-LSTM, binary": "binary"}


# %%
# The grammar
# -----------


def phrase(rng, words):
    """(tree, is it good) with so many words."""
    if words == 1:
        good = bool(rng.random() < 0.5)
        return rng.choice(GOOD if good else BAD), good
    rule = rng.choice(["not", "very", "and", "but"]) if words > 2 else rng.choice(["not", "very"])
    if rule in ("not", "very"):
        inner, good = phrase(rng, words - 1)
        return (rule, inner), good ^ (rule == "not")
    left_words = rng.integers(1, words - 1)
    left, left_good = phrase(rng, left_words)
    right, right_good = phrase(rng, words - 1 - left_words)
    return (left, (rule, right)), (left_good and right_good) if rule == "and" else right_good


def labels_of(tree, found):
    """Labels of all nodes, children first: 1 good, 0 bad, −1 neither (a connective, or "and …", "but …")."""
    if isinstance(tree, str):
        found.append({True: 1, False: 0}[tree in GOOD] if tree in GOOD or tree in BAD else -1)
    elif tree[0] in ("not", "very"):
        found.append(-1)
        good = labels_of(tree[1], found)
        found.append(good if tree[0] == "very" else 1 - good)
    else:
        left, (rule, right) = labels_of(tree[0], found), tree[1]
        found.append(-1)
        good = labels_of(right, found)
        found += [-1, left * good if rule == "and" else good]
    return found[-1]


def make(rng, count, words):
    """Different phrases with words[0] … words[1] words, half of them good: `fr.Trees` with a label for each node."""
    kept = ({}, {})  # as ordered sets
    while min(map(len, kept)) < count // 2:
        tree, good = phrase(rng, rng.integers(words[0], words[1] + 1))
        kept[good][tree] = None
    trees = [tree for trees in kept for tree in list(trees)[: count // 2]]
    trees = [trees[k] for k in rng.permutation(len(trees))]
    found = fr.Trees.from_nested(trees).map(NUMBER.get)
    labels = []
    for tree in trees:
        each = []
        labels_of(tree, each)
        labels += each
    found.labels = np.array(labels)
    return found


# %%
# A model that doesn't see the tree
# ---------------------------------


class BagOfWords(fr.Model):
    """The mean of the words' vectors, and a linear map: it has no way of knowing the tree."""

    def __init__(self, words, size, seed):
        self.embedding = fr.Embedding(words, size, seed=seed)
        self.pool = fr.MeanPool()
        self.hidden = fr.Linear(size, size, seed=seed)
        self.output = fr.Linear(size, 2, seed=seed)

    def forward(self, x, *, lengths=None):
        pooled = self.pool(self.embedding(x), lengths=lengths)
        return self.output(fr.ops.tanh(self.hidden(pooled)))


def words_of(trees, phrases):
    """The words below each of the nodes `phrases`, one array a node."""
    first = np.cumsum(trees.heights == 0) - 1  # the words up to a node; those below it are adjacent and end there
    last = first + 1
    for n in np.argsort(trees.heights, kind="stable"):
        above = trees.parents[n]
        if above >= 0:
            first[above] = min(first[above], first[n])
    return [trees.values[first[n] : last[n]] for n in phrases]


def bag_batches(trees, phrases, batch_size, shuffle):
    words, classes = words_of(trees, phrases), trees.labels[phrases]
    return fr.SequenceBatches(words, classes, batch_size=batch_size, shuffle=shuffle, per_step=False)


# %%
# What is measured, and the figure
# --------------------------------


def accuracy(model, trees):
    """The share of whole phrases that are classified right."""
    if isinstance(model, BagOfWords):
        right = [
            model(b.x, lengths=b.lengths).argmax(-1) == b.target for b in bag_batches(trees, trees.roots, 500, False)
        ]
        return float(np.concatenate(right).mean())
    return float((model(trees)[trees.roots].argmax(-1) == trees.labels[trees.roots]).mean())


def plot(results, lengths, model, example, path):
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), constrained_layout=True)
    middle = [(a + b) / 2 for a, b in lengths]
    for name, shares in results.items():
        left.plot(middle, [100 * share for share in shares], "o-", label=name)
    left.axhline(50, color="grey", lw=0.8, ls=":")
    left.axvspan(1, 12, color="grey", alpha=0.1, lw=0)
    left.text(6.5, 101.5, "lengths seen in training", ha="center", fontsize=8, color="grey")
    left.set(xlabel="words of a phrase", ylabel="phrases classified right, %", ylim=(25, 104), title="Held-out phrases")
    left.legend(loc="lower right", fontsize=8)
    draw_tree(right, model, example)
    right.set_title("What the recursive net thinks of each phrase")
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


def draw_tree(axes, model, trees):
    """One tree, words below, each phrase with its probability of being good."""
    share = fr.activations.softmax(model(trees))[:, 1]
    at = np.zeros(trees.num_nodes)
    at[trees.leaves] = np.arange(trees.num_leaves)
    for n in np.argsort(trees.heights, kind="stable"):
        below = np.flatnonzero(trees.parents == n)
        if below.size:
            at[n] = at[below].mean()
        for k in below:
            axes.plot([at[n], at[k]], [trees.heights[n], trees.heights[k]], color="grey", lw=1, zorder=1)
    real = trees.labels >= 0
    kind = {"cmap": "RdYlGn", "vmin": 0, "vmax": 1, "edgecolors": "k", "linewidths": 0.6, "zorder": 2}
    shown = axes.scatter(at[real], trees.heights[real], c=share[real], s=330, **kind)
    axes.scatter(at[~real], trees.heights[~real], c="white", s=30, edgecolors="grey", zorder=2)
    for n in np.flatnonzero(real):
        axes.text(at[n], trees.heights[n], f"{share[n]:.2f}", ha="center", va="center", fontsize=6.5, zorder=3,
                  color="w" if abs(share[n] - 0.5) > 0.35 else "k")  # fmt: skip
    for n, word in zip(trees.leaves, trees.values):
        axes.text(at[n], -0.75, WORDS[word], ha="center", va="top", rotation=35, fontsize=9)
    axes.set_ylim(-2.2, trees.heights.max() + 0.7)
    axes.axis("off")
    axes.figure.colorbar(shown, ax=axes, shrink=0.6, label="probability of good")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer phrases, fewer epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(args.seed)
    count, epochs, hidden = (800, 8, 24) if args.quick else (6_000, 15, 32)
    trees = make(rng, count, (3, 12))
    lengths = [(3, 5), (6, 8), (9, 12), (13, 16), (17, 22), (23, 30)]
    tests = [make(np.random.default_rng([args.seed, k]), 200 if args.quick else 1_000, span)
             for k, span in enumerate(lengths)]  # fmt: skip
    known = {tuple(words) for words in words_of(trees, trees.roots)}
    seen = [tuple(words) in known for test in tests[1:] for words in words_of(test, test.roots)]
    print(f"{trees}; {np.mean(seen):.1%} of the test's word sequences are in training")

    results, seconds = {}, {}
    bag = BagOfWords(len(WORDS), hidden, args.seed)
    labelled = np.flatnonzero(trees.labels >= 0)  # every phrase in a tree, as the networks over trees get them
    phrases = bag_batches(trees, labelled, 50 * len(labelled) // len(trees), True)
    history = fr.fit(bag, phrases, fr.losses.cross_entropy, fr.optim.Adam(bag, lr=3e-3),
                     epochs=epochs, seed=args.seed, progress=False)  # fmt: skip
    results["bag of words"] = [accuracy(bag, test) for test in tests]
    seconds["bag of words"] = history.epochs[-1]["seconds"]
    models = {}
    for name, kind in NETS.items():
        model = models[name] = fr.models.TreeClassifier(
            len(WORDS), 2, kind, hidden_size=hidden, nodes="all", seed=args.seed
        )
        data = fr.TreeBatches(trees, batch_size=50, seed=args.seed)  # the trees' labels are the targets
        history = fr.fit(model, data, optimizer=fr.optim.Adam(model, lr=3e-3), epochs=epochs, clip_norm=1.0,
                         seed=args.seed, progress=False)  # fmt: skip
        results[name] = [accuracy(model, test) for test in tests]
        seconds[name] = history.epochs[-1]["seconds"]

    print(f"{'phrases right; words:':24}" + "".join(f"{f'{a}-{b}':>8}" for a, b in lengths) + f"{'seconds':>9}")
    for name, shares in results.items():
        print(f"{name:24}" + "".join(f"{share:8.1%}" for share in shares) + f"{seconds[name]:9.1f}")
    pair = fr.Trees.from_nested([("not", ("bad", ("but", "good"))), (("not", "bad"), ("but", "good"))]).map(NUMBER.get)
    said = fr.activations.softmax(models["recursive net"](pair)[pair.roots])[:, 1]
    print(f"probability of good: not (bad but good) {said[0]:.2f}, (not bad) but good {said[1]:.2f}")

    tree = ((("not", ("very", "dull")), ("and", "warm")), ("but", ("not", ("good", ("and", "bad")))))
    example, labels = fr.Trees.from_nested([tree]).map(NUMBER.get), []
    labels_of(tree, labels)
    example.labels = np.array(labels)
    plot(results, lengths, models["recursive net"], example, output / "tree_sentiment.png")
    if args.json:
        seen = {name: float(np.mean(shares[:3])) for name, shares in results.items()}
        longer = {name: float(np.mean(shares[3:])) for name, shares in results.items()}
        print(json.dumps({"accuracy": seen, "accuracy_longer": longer, "seconds": seconds, "trees": len(trees)}))


if __name__ == "__main__":
    main()
