"""Prose or code? A classifier of lines of unequal lengths
==========================================================

The data are on every machine: lines of Python's standard library. A line that is a comment counts as prose, any
other as code. Each line is a sequence of bytes, some of 10 and some of 80, so a batch is padded; `lengths` makes
every layer ignore the padding, and the time that a batch takes follows the bytes that are there:

    bytes → Embedding → bidirectional GRU → mean over the line → Linear → prose or code

    python examples/ragged_classification.py            # about ten seconds; writes a plot of the loss
    python examples/ragged_classification.py --quick    # a second or two, worse results
"""

import argparse
import io
import sysconfig
import tokenize
from pathlib import Path

import numpy as np

import fastrnn as fr

LABELS = ("code", "prose")


# %%
# Data
# ----


def lines_of(path):
    """Yield (text, is it prose) for the lines of a file of Python."""
    try:
        source = path.read_text(encoding="utf-8")
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (UnicodeDecodeError, SyntaxError, tokenize.TokenError):
        return
    strings = {n for t in tokens if t.end[0] > t.start[0] for n in range(t.start[0], t.end[0] + 1)}
    comments = {t.start[0]: t for t in tokens if t.type == tokenize.COMMENT}
    for number, line in enumerate(source.splitlines(), 1):
        comment, text = comments.get(number), line.strip()
        if number in strings or not text.isascii():
            continue  # inside a docstring it could be either
        if comment is None:
            yield text, False
        elif text == comment.string:
            yield text.lstrip("#!: "), True


def load(count, rng):
    """Return up to `count` different lines, half of them prose, in random order, with their labels."""
    found = ({}, {})  # as ordered sets
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for k in rng.permutation(len(files)):
        for text, is_prose in lines_of(files[k]):
            if 10 <= len(text) <= 80:
                found[is_prose][text] = None
        if min(map(len, found)) >= count // 2:
            break
    half = min(count // 2, *map(len, found))
    texts = [text for lines in found for text in rng.permutation(list(lines))[:half].tolist()]
    order = rng.permutation(2 * half)
    return [texts[k] for k in order], (order >= half).astype(np.int64)


def as_bytes(text):
    """The sequence that the model reads."""
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64)


def accuracy(model, batches):
    """The share of lines whose more probable label is right."""
    right = [model(b.x, lengths=b.lengths)[0].argmax(-1) == b.target for b in batches]
    return np.concatenate(right).mean()


# %%
# The model, its training and its test
# ------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer lines, a smaller model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="ragged_classification.png", help="where to write the plot")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    texts, labels = load(2_000 if args.quick else 20_000, rng)
    x, held_out = [as_bytes(text) for text in texts], len(texts) // 5
    train = fr.SequenceBatches(x[held_out:], labels[held_out:], batch_size=32, seed=args.seed)
    test = fr.SequenceBatches(x[:held_out], labels[:held_out], batch_size=256, shuffle=False)
    print(f"{len(texts)} lines, {min(map(len, x))} to {max(map(len, x))} bytes long; {held_out} held out")

    hidden = 32 if args.quick else 64
    model = fr.Sequential(
        fr.Embedding(128, 32, seed=args.seed),
        fr.GRU(32, hidden, bidirectional=True, seed=args.seed),
        fr.MeanPool(),
        fr.Linear(2 * hidden, len(LABELS), seed=args.seed),
    )
    optimizer = fr.optim.Adam(model, lr=3e-3)
    history = fr.fit(
        model, train, fr.losses.cross_entropy, optimizer,
        epochs=3 if args.quick else 5, validation=test, clip_norm=1.0, seed=args.seed,
    )  # fmt: skip
    print(f"accuracy on held-out lines: {accuracy(model, test):.1%}")

    for text in ("return self._items[key]", "This should never happen, but it does.", "x = y if y else None"):
        logits, _ = model(as_bytes(text)[:, None])
        share = fr.activations.softmax(logits)[0]
        print(f"  {LABELS[share.argmax()]:5} ({share.max():.1%})  {text}")

    try:
        history.plot(args.plot, label="cross entropy (nats)")
        print(f"loss: {args.plot}")
    except ImportError as error:
        print(error)


if __name__ == "__main__":
    main()
