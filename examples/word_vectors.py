"""Word vectors of real text: skip-gram and CBOW
================================================

Their neighbours, their speed and their quality.

The text is Python's standard library, as words of letters. To know which words ought to be neighbours, some words are
split in two before training: each occurrence of "width" becomes "width" or "WIDTH", by the toss of a coin. The two
mean the same by construction, and good vectors put them beside each other. The figure is the mean reciprocal rank of
the one among the neighbours of the other: 1 where it always comes first.

    python examples/word_vectors.py            # half a minute; with gensim installed, beside it
    python examples/word_vectors.py --quick    # a few seconds, less text
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np

import fastrnn as fr

KINDS = {"skip-gram": True, "CBOW": False}
SHOWN = ["width", "month", "server", "thread", "bytes", "tuple", "true", "read"]
SIZE, WINDOW, NEGATIVE = 100, 5, 5
LINE = {"arrowstyle": "-", "color": "lightgrey", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}  # from label to point


# %%
# Text, and words split in two
# ----------------------------


def load(quick, rng):
    """Return sentences (one a file), and the words that have twins."""
    texts = fr.text.standard_library(max_chars=1_500_000 if quick else 64_000_000).texts
    sentences = [re.findall(r"[a-z]+", text.lower()) for _, text in texts]
    words, counts = np.unique(np.concatenate(sentences), return_counts=True)
    often = words[(counts >= 100) & (counts <= 2000)]
    twins = set(rng.choice(often, min(200, len(often)), replace=False).tolist())
    for sentence in sentences:
        coins = rng.random(len(sentence))
        sentence[:] = [word.upper() if coin < 0.5 and word in twins else word for word, coin in zip(sentence, coins)]
    return sentences, sorted(twins)


def reciprocal_rank(vectors, index, twins):
    """The mean of 1/rank of each twin among the neighbours of the other."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ranks = []
    for word in twins:
        for a, b in ((index[word], index[word.upper()]), (index[word.upper()], index[word])):
            cosines = unit @ unit[a]
            ranks.append(int((np.delete(cosines, a) > cosines[b]).sum()) + 1)
    return float(np.mean(1 / np.array(ranks)))


# %%
# Training
# --------


def train(sentences, skip_gram, args):
    """Return a model and what it took."""
    model = fr.models.Word2Vec(vector_size=SIZE, window=WINDOW, negative=NEGATIVE, sg=skip_gram, seed=args.seed)
    history = model.train(sentences, args.epochs, threads=args.threads, seed=args.seed)
    return model, history


def gensim(sentences, skip_gram, args):
    """Return the same of gensim: vectors, numbers of words, words a second; None without it."""
    try:
        from gensim.models import Word2Vec
    except ImportError:
        return None
    sentences = [s[k : k + 10_000] for s in sentences for k in range(0, len(s), 10_000)]
    settings = {
        "vector_size": SIZE,
        "window": WINDOW,
        "negative": NEGATIVE,
        "sg": int(skip_gram),
        "workers": args.threads,
    }
    model = Word2Vec(**settings, min_count=5, seed=args.seed + 1)
    model.build_vocab(sentences)
    start = time.perf_counter()
    model.train(sentences, total_examples=len(sentences), epochs=args.epochs)
    speed = args.epochs * sum(map(len, sentences)) / (time.perf_counter() - start)
    return model.wv.vectors, model.wv.key_to_index, speed


# %%
# The figure
# ----------


def labels(points, words):
    """Where each label begins: beside its point, or as near above or below as no other label is."""
    taken, found = [], []
    for (x, y), word in zip(points, words):
        x, width, height = x + 0.012, 0.017 * len(word) + 0.01, 0.034  # of a letter, of a line
        for step in sorted(range(-20, 21), key=abs):
            at = y + step * height / 2
            if all(x > r or x + width < l or abs(at - other) >= height for l, r, other in taken):
                break
        taken.append((x, x + width, at))
        found.append((x, at))
    return found


def plot(path, model, history):
    """Draw the map of some words and their neighbours, and the loss."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.5), width_ratios=(3, 2), layout="constrained")
    groups = {word: [word, *(near for near, _ in model.most_similar(word, topn=5))] for word in SHOWN if word in model}
    vectors = model[[word for group in groups.values() for word in group]]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    points = vectors @ axes[:2].T
    points = (points - points.min(0)) / np.ptp(points, axis=0)
    colours = [f"C{number}" for number, group in enumerate(groups.values()) for _ in group]
    words = [word for group in groups.values() for word in group]
    left.scatter(*points.T, s=12, color=colours)
    for word, colour, (x, y), label in zip(words, colours, points, labels(points, words)):
        left.annotate(word, (x, y), xytext=label, color=colour, fontsize=8, va="center", arrowprops=LINE)
    left.set(title="Words and their five nearest (skip-gram, two principal axes)", xticks=[], yticks=[])
    left.set(xlim=(-0.03, 1.18), ylim=(-0.06, 1.06))
    for name, one in history.items():
        right.plot([e["epoch"] for e in one.epochs], [e["loss"] for e in one.epochs], "o-", label=name)
    right.set(title="Mean loss of a prediction, before its own update", xlabel="epoch", ylabel="nats")
    right.set_xticks(range(1, 1 + len(one.epochs)))
    right.legend()
    figure.savefig(path, dpi=90)
    print(f"plot: {path}")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, fr.get_num_threads()))
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument("--output", default=".", help="folder of the plot")
    args = parser.parse_args()

    sentences, twins = load(args.quick, np.random.default_rng(args.seed))
    figures = {"words": sum(map(len, sentences)), "threads": args.threads}
    print(f"{figures['words']} words in {len(sentences)} files; {len(twins)} different ones are split in two")
    models, histories = {}, {}
    for name, skip_gram in KINDS.items():
        model, history = train(sentences, skip_gram, args)
        models[name], histories[name] = model, history
        found = {
            "vocabulary": len(model),
            "loss": history.epochs[-1]["loss"],
            "words_per_second": round(history.notes["words"] / history.notes["seconds"]),
            "reciprocal_rank": reciprocal_rank(model.vectors, model.index, twins),
        }
        line = f"{name}: {found['words_per_second']:,} words/s, twins' reciprocal rank {found['reciprocal_rank']:.3f}"
        if theirs := gensim(sentences, skip_gram, args):
            vectors, index, found["gensim_words_per_second"] = theirs
            found["gensim_reciprocal_rank"] = reciprocal_rank(vectors, index, twins)
            line += f" (gensim {theirs[2]:,.0f}, {found['gensim_reciprocal_rank']:.3f})"
        print(line)
        figures[name] = found
    model = models["skip-gram"]
    for word in SHOWN:
        if word in model:
            print(f"  {word:8}", *(near for near, _ in model.most_similar(word, topn=6)))
    Path(args.output).mkdir(parents=True, exist_ok=True)
    plot(Path(args.output) / "word_vectors.png", model, histories)
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
