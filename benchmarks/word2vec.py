"""Word vectors beside gensim: words a second and quality at equal settings. `python benchmarks/word2vec.py`, a minute.

The text is about half a million words of the standard library, sentences of a thousand, as lists of strings for both.
100 dimensions, window 5, 5 negatives, sample 1e-3, min_count 5, both with `--threads` threads. Timed is `train`, which
for fastrnn includes counting and numbering the words; gensim's `build_vocab` stays outside. The sides run in turn,
ratios are medians of those turn by turn. Words a second are raw words of the text times epochs, as gensim counts.

Quality: 200 words are split in two by the toss of a coin, so that each has a twin that means the same; the figure is
the mean of 1/rank of a word's twin among its neighbours. And a text of six classes of eight words, sentences of one
class: the share of each word's seven nearest that are of its class.
"""

import argparse
import json
import re
import statistics
import time

import numpy as np

import fastrnn as fr

SETTINGS = {"vector_size": 100, "window": 5, "negative": 5, "sample": 1e-3, "min_count": 5}


def text(words, rng):
    """Return sentences of a thousand words, and the words that were split."""
    found = [w for _, t in fr.text.standard_library().texts for w in re.findall(r"[a-z]+", t.lower())][:words]
    names, counts = np.unique(found, return_counts=True)
    often = names[(counts >= 60) & (counts <= 1500)]
    twins = set(rng.choice(often, 200, replace=False).tolist())
    coins = rng.random(len(found))
    found = [w.upper() if coin < 0.5 and w in twins else w for w, coin in zip(found, coins)]
    return [found[k : k + 1000] for k in range(0, len(found), 1000)], sorted(twins)


def classes(rng):
    """Return sentences of ten words of one class out of six."""
    kinds = rng.integers(6, size=4000)
    return [[f"{kind}.{word}" for word in rng.integers(8, size=10)] for kind in kinds]


def ours(sentences, sg, epochs, threads, seed, **settings):
    """Train; return seconds, vectors and numbers of words."""
    model = fr.models.Word2Vec(sg=sg, seed=seed, **{**SETTINGS, **settings})
    start = time.perf_counter()
    model.train(sentences, epochs, threads=threads, seed=seed, progress=False)
    return time.perf_counter() - start, model.vectors, model.index


def gensim(sentences, sg, epochs, threads, seed, **settings):
    """The same of gensim."""
    from gensim.models import Word2Vec

    model = Word2Vec(sg=int(sg), workers=threads, seed=seed + 1, **{**SETTINGS, **settings})
    model.build_vocab(sentences)
    start = time.perf_counter()
    model.train(sentences, total_examples=len(sentences), epochs=epochs)
    return time.perf_counter() - start, model.wv.vectors, model.wv.key_to_index


def reciprocal_rank(vectors, index, twins):
    """The mean of 1/rank of each twin among the neighbours of the other."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for word in twins:
        for a, b in ((word, word.upper()), (word.upper(), word)):
            cosines = np.delete(unit @ unit[index[a]], index[a])
            found.append(1 / (1 + (cosines > unit[index[a]] @ unit[index[b]] + 1e-6).sum()))
    return float(np.mean(found))


def share_in_class(vectors, index):
    """Of each word's seven nearest, how many are of its class."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kind = np.array([word[0] for word in index])
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1)[:, :7]
    return float((kind[nearest] == kind[:, None]).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=490_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", choices=("skip-gram", "CBOW"))
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()

    sentences, twins = text(args.words, np.random.default_rng(0))
    small = classes(np.random.default_rng(1))
    total = args.epochs * sum(map(len, sentences))
    sides = {"fastrnn": ours}
    try:
        import gensim as _

        sides["gensim"] = gensim
    except ImportError:
        print("gensim is not installed: fastrnn alone")
    figures = {}
    for name, sg in (("skip-gram", True), ("CBOW", False)):
        if args.only not in (None, name):
            continue
        speed = {side: [] for side in sides}
        rank = {side: [] for side in sides}
        for turn in range(args.turns):
            for side, run in sides.items():
                seconds, vectors, index = run(sentences, sg, args.epochs, args.threads, turn)
                speed[side].append(total / seconds)
                rank[side].append(reciprocal_rank(vectors, index, twins))
        found = {}
        for side, run in sides.items():
            _, vectors, index = run(small, sg, 5, args.threads, 0, vector_size=24, window=4, sample=0)
            found[side] = {
                "words_per_second": statistics.median(speed[side]),
                "reciprocal_rank": statistics.mean(rank[side]),
                "share_in_class": share_in_class(vectors, index),
            }
            print(
                f"{name:9} {side:8} {found[side]['words_per_second'] / 1e6:6.2f} million words/s   twins "
                f"{found[side]['reciprocal_rank']:.3f}   classes {found[side]['share_in_class']:.3f}",
                flush=True,
            )
        if len(sides) == 2:
            ratios = [a / b for a, b in zip(speed["fastrnn"], speed["gensim"])]
            found["ratio"] = statistics.median(ratios)
            print(f"{name:9} {found['ratio']:.2f} times gensim's words/s, turns {min(ratios):.2f} to {max(ratios):.2f}")
        figures[name] = found
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
