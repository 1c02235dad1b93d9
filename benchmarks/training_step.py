"""The parts of whole training steps: ``python benchmarks/training_step.py [--quick]``, a minute.

Embedding, recurrent layers, linear layer, softmax cross entropy (over 96 characters, over 20,000 words), clipping and
Adam, for a dense and for a lazy embedding. Each part is timed inside whole steps, so it finds the caches as the part
before has left them; figures are medians over the steps.

Parts that move memory are compared with what as many threads copy and read by NumPy alone, in arrays of 256 MB. GB/s
count the bytes that a part has to read and to write once. What the caches still hold comes faster than that, and so do
zeroing and Adam: a copy reads the lines it writes first, which isn't counted. Parts that multiply are compared with the
FMA peak.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn import bench

CLIP, ITEM = 1.0, 4  # largest norm of all gradients; bytes of a float32


@dataclass(frozen=True)
class Model:
    """A language model, and how much is fed to it."""

    name: str
    T: int
    B: int
    embedding: int
    hidden: int
    num_layers: int
    classes: int
    lazy: bool = False


CHARACTERS = Model("characters", T=128, B=32, embedding=64, hidden=256, num_layers=2, classes=96)
WORDS = Model("words", T=35, B=32, embedding=256, hidden=256, num_layers=1, classes=20_000)
LAZY = Model("words, lazy embedding", T=35, B=32, embedding=256, hidden=256, num_layers=1, classes=20_000, lazy=True)


@dataclass
class Part:
    """What was seen of one part: seconds and bytes of each step, operations."""

    seconds: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    flops: float = 0.0


class Laps:
    """A stopwatch for the parts of a step."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self._at = 0.0

    def start(self) -> None:
        self._at = time.perf_counter()

    def end(self, name: str, *, moved: float = 0.0, flops: float = 0.0) -> None:
        """The part `name` ends here; it moved so many bytes, or did so many operations."""
        spent = time.perf_counter() - self._at
        part = self.parts.setdefault(name, Part())
        part.seconds.append(spent)
        part.moved.append(moved)
        part.flops = flops
        self.start()


def trainer(case: Model, cell: str) -> Callable[[Laps], float]:
    """A function that trains one step, tells the stopwatch when each part ends, and returns the loss."""
    embedding = fr.Embedding(case.classes, case.embedding, lazy=case.lazy, seed=0)
    kind = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}[cell]
    recurrent = kind(case.embedding, case.hidden, case.num_layers, seed=1)
    output = fr.Linear(case.hidden, case.classes, seed=2)
    model = fr.Sequential(embedding, recurrent, output)
    optimizer = fr.optim.Adam(model, lr=1e-3)
    rng = np.random.default_rng(0)
    # frequent ones more often, as in any language
    words = np.minimum(rng.zipf(1.3, (2, case.T, case.B)), case.classes).astype(np.int64) - 1
    rows = case.T * case.B
    wide, logits_flops = rows * case.embedding * ITEM, 2 * rows * case.hidden * case.classes
    layer = bench.Case(
        cell, bench.Shape(case.T, case.B, case.embedding, case.hidden), "infer", num_layers=case.num_layers
    )

    def in_use() -> int:
        """Numbers that clipping, Adam and zeroing touch."""
        if not case.lazy:
            return model.num_params
        return model.num_params - embedding.num_params + len(model.touched["0.weight"]) * case.embedding

    def step(laps: Laps) -> float:
        count = in_use()
        laps.start()
        model.zero_grads()
        laps.end("zero gradients", moved=ITEM * count)
        x, of_embedding = embedding.vjp(words[0])
        laps.end("embedding, forward", moved=2 * wide)
        (y, _), of_recurrent = recurrent.vjp(x)
        laps.end("recurrent, forward", flops=layer.flops)
        logits, of_output = output.vjp(y)
        laps.end("linear, forward", flops=logits_flops)
        loss, dlogits = fr.losses.cross_entropy(logits, words[1], out=logits)
        laps.end("cross entropy", moved=2 * logits.nbytes)
        dy = of_output(dlogits)
        laps.end("linear, backward", flops=2 * logits_flops)
        dx, _ = of_recurrent(dy)
        laps.end("recurrent, backward", flops=2 * layer.flops)
        of_embedding(dx)
        laps.end("embedding, backward", moved=3 * wide)
        count = in_use()
        laps.start()
        norm = fr.optim.clip_grad_norm(model, CLIP)
        laps.end("clipping", moved=ITEM * count * (3 if norm > CLIP else 1))
        optimizer.step()
        laps.end("Adam", moved=7 * ITEM * count)
        return float(loss)

    return step


def bandwidth(threads: int, size: int, repeat: int = 5) -> tuple[float, float]:
    """Bytes a second that NumPy copies (read and written bytes both count) and reads, the best of `repeat`."""
    a, b = (np.ones((threads, size // ITEM // threads), np.float32) for _ in range(2))

    def best(work: Callable[[int], Any], moved: float) -> float:
        with ThreadPoolExecutor(threads) as pool:
            found = []
            for _ in range(repeat):
                start = time.perf_counter()
                list(pool.map(work, range(threads)))
                found.append(time.perf_counter() - start)
        return moved / min(found)

    return best(lambda k: np.copyto(b[k], a[k]), 2 * a.nbytes), best(lambda k: a[k].max(), a.nbytes)


def rows(case: Model, laps: Laps, copied: float, read: float, peak: float) -> list[list[str]]:
    """The rows of one model's table, and their sum."""
    total = statistics.median(map(sum, zip(*(part.seconds for part in laps.parts.values()), strict=True)))
    lines = []
    for name, part in laps.parts.items():
        seconds = statistics.median(part.seconds)
        line = [case.name, name, f"{1e3 * seconds:.3f}", f"{100 * seconds / total:.1f} %"]
        if part.flops:
            rate = part.flops / seconds
            line += ["", "", "", f"{rate / 1e9:.0f}", f"{100 * rate / peak:.0f} %"]
        else:
            rate = statistics.median(part.moved) / seconds
            line += [f"{rate / 1e9:.1f}", f"{100 * rate / copied:.0f} %", f"{100 * rate / read:.0f} %", "", ""]
        lines.append(line)
    return [*lines, [case.name, "whole step", f"{1e3 * total:.3f}", "100 %", *[""] * 5]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=tuple(bench.CELLS), default="lstm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=15, help="steps of each model")
    parser.add_argument("--quick", action="store_true", help="three steps, smaller arrays for the bandwidth")
    args = parser.parse_args()
    if min(args.threads, args.repeat) < 1:
        parser.error("--threads, --repeat: expected whole numbers >= 1")
    fr.set_num_threads(args.threads)
    copied, read = bandwidth(args.threads, 2**24 if args.quick else 2**28)
    peak = bench.FmaPeak("float32", args.threads)
    best = max(peak() for _ in range(5))
    lines = [["model", "part", "ms", "share", "GB/s", "of copy", "of read", "GFLOP/s", "of peak"]]
    for case in (CHARACTERS, WORDS, LAZY):
        step, laps = trainer(case, args.cell), Laps()
        losses = [step(Laps())] + [step(laps) for _ in range(3 if args.quick else args.repeat)]
        if not all(map(math.isfinite, losses)):
            raise FloatingPointError(f"{case.name}: the loss is not finite: {losses}")
        best = max(best, peak())
        lines += rows(case, laps, copied, read, best)
    threads = f"{args.threads} thread{'s' * (args.threads > 1)}"
    print(f"{threads}: copy {copied / 1e9:.1f} GB/s, read {read / 1e9:.1f} GB/s, FMA peak {best / 1e9:.0f} GFLOP/s")
    print(bench.table(lines))


if __name__ == "__main__":
    main()
