"""The next word, and a word left out
=====================================

Language models of real prose, beside counts of words and of pairs.

The text is the prose that every Python brings along: docstrings and comments of the standard library, paragraphs of
words, numbers and punctuation in lower case, those of one file in twenty held out. A recurrent model reads what comes
before and gives the probability of each next word; perplexity tells among how many words it hesitates. Beside it stand
the shares of words (unigrams), and pairs of words with Kneser and Ney's smoothing (bigrams). A bidirectional model is
trained to find words left out from both sides.

    python examples/predict_word.py            # about a minute; writes a plot
    python examples/predict_word.py --quick    # a few seconds, less text
"""

import argparse
import ast
import json
import re
import time
import warnings
from pathlib import Path

import numpy as np

import fastrnn as fr

COMMENT = re.compile(r"(?:^[ \t]*#.*\n)+", re.MULTILINE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PROSE = re.compile(r"[A-Z][^<>|{}=\[\]\\]{20,}[.?!]")
CONTEXTS = ["return true if the", "raise an error if the file does not", "this method is called", "a list of"]
HIDDEN = [
    "return <mask> if the file exists .",
    "raises an <mask> if the name is not valid .",
    "the <mask> of bytes read .",
]
LONGEST = 80  # words of a paragraph that the bidirectional model reads


# %%
# Text
# ----


def paragraphs(source):
    """Yield the paragraphs of a file's docstrings and comments that look like prose, in lower case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a parser thinks of old code
        try:
            nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
        except SyntaxError:
            nodes = []
    texts = [ast.get_docstring(node) or "" for node in nodes]
    texts += [re.sub(r"^[ \t]*#+ ?", "", comment, flags=re.MULTILINE) for comment in COMMENT.findall(source)]
    for text in texts:
        for part in re.split(r"\n\s*\n", text):
            part = " ".join(part.split())
            if PROSE.fullmatch(part):
                yield part.lower()


def load(quick, seed):
    """Return paragraphs to learn from and held-out ones; none is in both."""
    files = fr.text.standard_library(max_chars=3_000_000 if quick else 64_000_000).texts
    rng, seen = np.random.default_rng(seed), set()
    found = {True: [], False: []}
    for k in rng.permutation(len(files)):
        held_out = len(found[True]) < 0.05 * (len(found[True]) + len(found[False]))
        fresh = [part for part in paragraphs(files[k][1]) if part not in seen]
        found[held_out] += fresh
        seen.update(fresh)
    return found[False], found[True]


# %%
# Counts, to compare with
# -----------------------


def unigrams(tokens, held, size):
    """Perplexity of held-out words by their share, one added to each count."""
    counts = np.bincount(tokens, minlength=size) + 1.0
    return float(np.exp(-np.log(counts[held[1:]] / counts.sum()).mean()))


def bigrams(tokens, held, size):
    """Perplexity of held-out words after the word before (Kneser and Ney 1995, interpolated)."""
    pairs, counts = np.unique(tokens[:-1].astype(np.int64) * size + tokens[1:], return_counts=True)
    first, second = np.divmod(pairs, size)
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    discount = (once + 1) / (once + 2 * twice + 2)
    # What follows many different words is likely after a new one, however often it was seen.
    continuation = np.bincount(second, minlength=size) + 0.1
    continuation /= continuation.sum()
    total, kinds = (np.bincount(first, weights, size) for weights in (counts, None))
    before, after = held[:-1].astype(np.int64), held[1:]
    wanted = before * size + after
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, counts[place] - discount, 0.0)
    known = np.maximum(total[before], 1)
    share = np.where(total[before] > 0, discount * kinds[before] / known, 1.0)
    return float(np.exp(-np.log(seen / known + share * continuation[after]).mean()))


# %%
# The models
# ----------


def train_next(vocabulary, tokens, held, epochs, args):
    """Return the model of next words and its history."""
    model = fr.models.LanguageModel(
        vocabulary, args.cell, embedding_dim=96, hidden_size=args.hidden, dropout=0.2, seed=args.seed
    )
    data = fr.TokenWindows(tokens, batch_size=32, seq_len=24, shuffle=True, seed=args.seed)
    history = fr.fit(
        model,
        data,
        optimizer=fr.optim.Adam(model, lr=5e-3),
        epochs=epochs,
        schedule=fr.schedules.Cosine(warmup=0.05, final=0.02),
        clip_norm=1.0,
        carry_state=True,
        validation=fr.TokenWindows(held, batch_size=16, seq_len=24),
        validate_every=len(data),
        seed=args.seed,
        progress=False,
    )
    return model, history


def train_masked(vocabulary, texts, epochs, args):
    """Return the model of hidden words."""
    model = fr.models.MaskedLanguageModel(
        vocabulary, args.cell, embedding_dim=96, hidden_size=args.hidden, dropout=0.2, seed=args.seed
    )
    sequences = [vocabulary.encode(text)[:LONGEST] for text in texts]
    data = fr.SequenceBatches(sequences, batch_size=64, seed=args.seed)
    adam = fr.optim.Adam(model, lr=5e-3)
    schedule = fr.schedules.Cosine(warmup=0.05, final=0.02)
    fr.fit(model, data, None, adam, epochs=epochs, schedule=schedule, clip_norm=1.0, seed=args.seed, progress=False)
    return model


# %%
# The figure
# ----------


def plot(path, history, figures, next_words, hidden_words):
    """Draw perplexity against training, and the likeliest words of some contexts."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    axes = left.subplots()
    numbers = np.arange(1, 1 + len(history.epochs))
    axes.plot(numbers, [np.exp(e["loss"]) for e in history.epochs], "o-", label="training, with dropout")
    axes.plot(numbers, [np.exp(e["loss"]) for e in history.validations][: len(numbers)], "o-", label="held-out text")
    for name, style in (("unigrams", ":"), ("bigrams", "--")):
        axes.axhline(figures[name], ls=style, color="grey", label=f"{name}, held-out text")
    axes.set(title="Perplexity of the next word", xlabel="epoch", yscale="log", xticks=numbers)
    axes.legend()
    shown = [(f"{context} …", "C0", best) for context, best in next_words[:3]]
    shown += [(text.replace("<mask>", "▁▁▁"), "C1", best) for text, best in hidden_words[:3]]
    for panel, (title, colour, best) in zip(right.subplots(2, 3).flat, shown):
        words, shares = zip(*reversed(best))
        panel.barh(words, shares, color=colour)
        panel.set_title(title, fontsize=8)
        panel.locator_params(axis="x", nbins=4)
    figure.savefig(path, dpi=90)
    print(f"plot: {path}")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less text, smaller models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell", choices=("lstm", "gru", "rnn"), default="lstm")
    parser.add_argument("--hidden", type=int, help="units (default: 128, quick 64)")
    parser.add_argument("--epochs", type=int, help="(default: 5, quick 3)")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument("--output", default=".", help="folder of the plot")
    args = parser.parse_args()
    args.hidden = args.hidden or (64 if args.quick else 128)
    epochs = args.epochs or (3 if args.quick else 5)

    train, held_out = load(args.quick, args.seed)
    options = {"tokenizer": "tokens", "max_size": 2000 if args.quick else 3000}
    vocabulary = fr.text.Vocabulary.from_texts(train, **options)
    tokens, held = (fr.text.token_stream(texts, vocabulary) for texts in (train, held_out))
    unknown = float((held == vocabulary.unk).mean())
    print(f"{len(tokens):,} words in {len(train):,} paragraphs, {len(held):,} held out; {len(vocabulary)} are known,")
    print(f"{100 * unknown:.1f}% of the held-out words are not, and count as one")

    figures = {"words": len(tokens), "vocabulary": len(vocabulary), "unknown": unknown}
    figures["unigrams"] = unigrams(tokens, held, len(vocabulary))
    figures["bigrams"] = bigrams(tokens, held, len(vocabulary))
    start = time.perf_counter()
    model, history = train_next(vocabulary, tokens, held, epochs, args)
    figures["seconds"] = time.perf_counter() - start
    figures["perplexity"] = model.perplexity(held)
    print(f"held-out perplexity: unigrams {figures['unigrams']:.1f}, bigrams {figures['bigrams']:.1f}, ", end="")
    print(f"{args.cell.upper()} {figures['perplexity']:.1f} (trained in {figures['seconds']:.0f} s)")

    next_words = [(context, model.predict_next(context, 5)) for context in CONTEXTS]
    for context, best in next_words:
        print(f"  {context} …  " + ", ".join(f"{word} {p:.2f}" for word, p in best))
    print("a sample:", model.sample("the", 30, temperature=0.7, seed=args.seed))

    masked = train_masked(vocabulary, train, epochs, args)
    figures["masked_perplexity"] = masked.perplexity(held_out)
    print(f"a hidden word, from both sides: held-out perplexity {figures['masked_perplexity']:.1f}")
    hidden_words = [(text, masked.predict(text, 5)) for text in HIDDEN]
    for text, best in hidden_words:
        print(f"  {text}  " + ", ".join(f"{word} {p:.2f}" for word, p in best))
    for word in ("file", "returns", "integer"):
        if word in masked:
            print(f"  nearest to {word}:", *(near for near, _ in masked.most_similar(word, topn=5)))
    Path(args.output).mkdir(parents=True, exist_ok=True)
    plot(Path(args.output) / "predict_word.png", history, figures, next_words, hidden_words)
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
