"""Who said it? Speech in scikit-learn
=====================================

Utterances of unequal lengths: an estimator, a pipeline, a search over settings.

The Japanese Vowels set (Kudo et al. 1999): nine men say /ae/; each utterance is 7 to 29 frames of 12 cepstral
coefficients, 270 to learn from and 370 to test on. `RNNClassifier` takes them as they are, a list of arrays [T, 12].
Beside it stands scikit-learn's `MLPClassifier`, which needs a row of one size for each: the frames filled up with zeros
to 29, or their mean and spread.

Then a search by cross-validation over a pipeline: what is done to the frames (nothing, principal components), which
cell, how large. It runs in two processes, and each of them takes one thread.

    python examples/japanese_vowels_sklearn.py            # under a minute, five runs of each; writes a plot
    python examples/japanese_vowels_sklearn.py --quick    # a few seconds, one run of each, a small search

Needs scikit-learn, and aeon for the data (inside the package, nothing is downloaded).
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np


def load():
    """((train, speakers), (test, speakers)): lists of [T, 12]."""
    try:
        from aeon.datasets import load_japanese_vowels
    except ImportError:
        raise SystemExit("this example needs aeon, for its data: pip install aeon") from None
    sets = [load_japanese_vowels(split=split) for split in ("train", "test")]
    return [([utterance.T for utterance in x], y) for x, y in sets]


def filled(x):
    """[n, 29 · 12]: utterances filled up with zeros."""
    rows = np.zeros((len(x), 29, 12))
    for row, utterance in zip(rows, x, strict=True):
        row[: len(utterance)] = utterance
    return rows.reshape(len(x), -1)


def summarised(x):
    """[n, 24]: mean and spread of each coefficient."""
    return np.array([np.concatenate([utterance.mean(0), utterance.std(0)]) for utterance in x])


def models(seed, quick):
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    from fastrnn.interop.sklearn import RNNClassifier

    def perceptron(rows):
        network = MLPClassifier(64, max_iter=2000, random_state=seed)
        return make_pipeline(FunctionTransformer(rows), StandardScaler(), network)

    return {
        "RNNClassifier": RNNClassifier(max_iter=40, random_state=seed) if quick else RNNClassifier(random_state=seed),
        "MLPClassifier, filled up": perceptron(filled),
        "MLPClassifier, summarised": perceptron(summarised),
    }


def compare(train, test, seeds, quick):
    """What each model reaches: {name: accuracies, seconds}, and the last classifier."""
    found, classifier = {}, None
    for seed in seeds:
        for name, model in models(seed, quick).items():
            start = perf_counter()
            model.fit(*train)
            entry = found.setdefault(name, {"accuracy": [], "seconds": []})
            entry["seconds"].append(round(perf_counter() - start, 2))
            entry["accuracy"].append(round(model.score(*test), 4))
            classifier = model if name == "RNNClassifier" else classifier
    return found, classifier


def search(train, seed, quick):
    """A search over a pipeline, in two processes."""
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline

    from fastrnn.interop.sklearn import PerStep, RNNClassifier

    pipeline = Pipeline(
        [("frames", PerStep()), ("rnn", RNNClassifier(max_iter=20 if quick else 60, random_state=seed))]
    )
    grid = {"rnn__cell": ["gru", "lstm"], "frames__transformer": [None, PCA(8)]}
    if quick:
        grid = {"rnn__cell": ["gru", "rnn"]}
    else:
        grid["rnn__hidden_size"] = [32, 64]
    folds = StratifiedKFold(3 if quick else 5, shuffle=True, random_state=seed)
    return GridSearchCV(pipeline, grid, cv=folds, n_jobs=2).fit(*train)


def plot(path, found, classifier, test):
    """Accuracies, the loss while it learns, and who is taken for whom."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from sklearn.metrics import ConfusionMatrixDisplay

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for position, entry in enumerate(found.values()):
        left.plot(100 * np.array(entry["accuracy"]), [position] * len(entry["accuracy"]), "o", alpha=0.5)
    left.set(
        xlabel="test accuracy, %", yticks=range(len(found)), yticklabels=[name.replace(", ", "\n") for name in found]
    )
    left.margins(y=0.3)
    left.invert_yaxis()
    middle.plot(np.arange(1, classifier.n_iter_ + 1), classifier.loss_curve_)
    middle.set(xlabel="epoch", ylabel="RNNClassifier.loss_curve_, nats", yscale="log")
    ConfusionMatrixDisplay.from_estimator(classifier, *test, ax=right, colorbar=False, cmap="Blues")
    right.set(xlabel="speaker told", ylabel="speaker")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run each, fewer epochs, a small search")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()

    train, test = load()
    found, classifier = compare(train, test, range(args.seed, args.seed + (1 if args.quick else 5)), args.quick)
    for name, entry in found.items():
        accuracy = entry["accuracy"]
        print(f"{name:26} accuracy {np.mean(accuracy):.1%} ({min(accuracy):.1%} to {max(accuracy):.1%}), "
              f"{np.median(entry['seconds']):.2f} s")  # fmt: skip
    start = perf_counter()
    best = search(train, args.seed, args.quick)
    seconds = perf_counter() - start
    runs = len(best.cv_results_["params"]) * best.n_splits_
    settings = {name: str(value) for name, value in best.best_params_.items()}
    print(f"search: {runs} fits in {seconds:.1f} s; best in cross-validation, {best.best_score_:.1%}: {settings}")
    accuracy = best.score(*test)
    print(f"it reaches {accuracy:.1%} of the test set")
    path = Path(args.output, "japanese_vowels_sklearn.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plot(path, found, classifier, test)
        print(f"plot: {path}")
    except ImportError:
        print("no plot: pip install matplotlib")
    if args.json:
        figures = {"best": settings, "cross_validation": round(best.best_score_, 4), "test": round(accuracy, 4)}
        print(json.dumps({**found, "search": {**figures, "seconds": round(seconds, 1)}}))


if __name__ == "__main__":
    main()
