"""Number words from English to German
======================================

Seq2seq with attention, and what becomes of it without.

German turns tens and ones round (four-and-twenty) and writes a number as one word, which is taken apart here:
twenty-four thousand → vier und zwanzig tausend. Pairs come from the package num2words, for numbers of up to nine
digits; the test's numbers were never seen. Five models of one size learn from the same pairs:

    bidirectional LSTM → decoder with attention        LSTM → thought vector → LSTM: plain, reversed source, peeky, both

    python examples/translate_numbers.py            # a minute and a half; writes two plots
    python examples/translate_numbers.py --quick    # fewer pairs, shorter numbers, two models
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np

import fastrnn as fr

TEENS = "zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn"
TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
PARTS = f"null eine eins ein zwei drei vier fünf sechs sieben acht neun {TEENS} {TENS} und hundert tausend"
PART = re.compile("|".join([*sorted(PARTS.split(), key=len, reverse=True), "Millionen", "Million"]))
MODELS = {
    "attention": {"bidirectional": True},
    "no attention": {"attention": None},
    "… reversed source": {"attention": None, "reverse_source": True},
    "… peeky": {"attention": None, "peeky": True},
    "… reversed, peeky": {"attention": None, "reverse_source": True, "peeky": True},
}


# %%
# Pairs
# -----


def pair(number):
    """("twenty-four thousand", "vier und zwanzig tausend")"""
    try:
        from num2words import num2words
    except ImportError:
        raise SystemExit('this example needs num2words: pip install "fastrnn[examples]"') from None
    german = num2words(number, lang="de")
    parts = PART.findall(german)
    assert "".join(parts) == german.replace(" ", ""), german
    return num2words(number, lang="en"), " ".join(parts)


def make(rng, count, digits):
    """Different numbers, with as many of each number of digits as there are."""
    numbers = {}
    while len(numbers) < count:
        size = int(rng.integers(1, digits + 1))
        numbers[int(rng.integers(10 ** (size - 1), 10**size))] = None
    return [pair(number) for number in numbers]


# %%
# Quality
# -------


def bleu(texts, references):
    try:
        import sacrebleu
    except ImportError:
        return None
    return sacrebleu.corpus_bleu(texts, [references]).score


def by_length(lengths, right, edges):
    """Share of right ones for each range of lengths; NaN for an empty one."""
    inside = [(lengths >= a) & (lengths <= b) for a, b in edges]
    return [float(right[each].mean()) if each.any() else float("nan") for each in inside]


# %%
# The figures
# -----------


def plot_lengths(results, edges, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    for name, one in results.items():
        axes.plot([100 * share for share in one["by_length"]], "o-", label=name)
    axes.set_xticks(range(len(edges)), [f"{a}–{b}" for a, b in edges])
    axes.set(xlabel="tokens of the English number", ylabel="unseen numbers translated exactly, %")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def plot_weights(found, path):
    import matplotlib.pyplot as plt

    width, height = 0.42 * len(found.source) + 1.6, 0.36 * len(found.target) + 1.2
    figure, axes = plt.subplots(figsize=(width, height), constrained_layout=True)
    shown = axes.imshow(found.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(found.source)), found.source, rotation=50, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(found.target)), found.target)
    axes.xaxis.tick_top()
    figure.colorbar(shown, ax=axes, shrink=0.7, label="attention weight")
    figure.savefig(path, dpi=110)


def plots(results, edges, found, folder):
    try:
        import matplotlib
    except ImportError:
        print("no plots: pip install matplotlib")
        return
    matplotlib.use("Agg")
    lengths, weights = folder / "translate_numbers.png", folder / "translate_numbers_attention.png"
    plot_lengths(results, edges, lengths)
    plot_weights(found, weights)
    print(f"plots: {lengths}, {weights}")


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer pairs, shorter numbers, two models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    parser.add_argument("--output", default=".", help="folder for the plots")
    args = parser.parse_args()
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)

    train, test, digits, epochs, hidden = (700, 200, 3, 12, 48) if args.quick else (8_000, 1_000, 9, 7, 96)
    models = {name: MODELS[name] for name in list(MODELS)[: 2 if args.quick else None]}
    pairs = make(np.random.default_rng(args.seed), train + test, digits)
    pairs = [pairs[k] for k in np.random.default_rng(args.seed).permutation(len(pairs))]
    held, learned = pairs[:test], pairs[test:]
    source, target = (fr.text.Vocabulary.from_texts(texts, tokenizer="tokens") for texts in zip(*learned))
    print(f"{len(learned)} pairs, {len(held)} unseen ones; {len(source)} English tokens, {len(target)} German ones")

    texts, references = [one[0] for one in held], [one[1] for one in held]
    lengths = np.array([len(source.encode(text)) for text in texts])
    edges = [(a, a + 3) for a in range(1, lengths.max() + 1, 4)]
    results, first = {}, None
    print(f"{'':20} {'BLEU':>6} {'exact':>7} {'perplexity':>11} {'seconds':>8}")
    for name, options in models.items():
        model = fr.models.Seq2Seq(source, target, embedding_dim=64, hidden_size=hidden, seed=args.seed, **options)
        first = first or model
        start = time.perf_counter()
        data = model.batches(learned, 32, seed=args.seed)
        best = fr.optim.Adam(model, lr=5e-3)
        schedule = fr.schedules.Cosine(warmup=0.02, final=0.02)
        model.fit(data, epochs=epochs, optimizer=best, schedule=schedule, clip_norm=1.0, seed=args.seed, progress=False)
        seconds = time.perf_counter() - start
        said = model.translate(texts)
        right = np.array([a == b for a, b in zip(said, references)])
        one = results[name] = {
            "bleu": bleu(said, references), "exact": float(right.mean()), "perplexity": model.perplexity(held),
            "seconds": seconds, "by_length": by_length(lengths, right, edges),
        }  # fmt: skip
        score = "  none" if one["bleu"] is None else f"{one['bleu']:6.2f}"
        print(f"{name:20} {score} {one['exact']:7.1%} {one['perplexity']:11.4f} {seconds:8.1f}", flush=True)

    number = 765 if args.quick else 86_745_023
    english, german = pair(number)
    found = first.attention_map(english)
    print(f"{english}: {first.translate(english).replace(' ', '')} ({german.replace(' ', '')})")
    plots(results, edges, found, folder)
    if args.json:
        print(json.dumps({"models": results, "lengths": edges, "pairs": len(learned), "unseen": len(held)}))


if __name__ == "__main__":
    main()
