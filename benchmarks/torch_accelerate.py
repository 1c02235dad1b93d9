"""A PyTorch model before and after `accelerate`: ``python benchmarks/torch_accelerate.py``, a minute.

A language model over characters in PyTorch: Embedding 64, two recurrent layers of 256, Linear to 96, cross entropy,
Adam; 128 steps of 32 rows. A run is a whole step of training. Both sides are the same model with equal weights; first
each does 100 steps from its start, whose losses must agree, then steps are timed in turn. The parts of a step show what
is left to PyTorch. `--overhead` times a call of one small layer (T=1, H=16), beside the layer of NumPy arrays.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench.timing import seconds, settle
from fastrnn.interop.torch import accelerate, report
from fastrnn.text import load_corpus

CLASSES, EMBEDDING, HIDDEN, LAYERS = 96, 64, 256, 2
T, B = 128, 32
WANTED = {"gru": 3.0, "lstm": 1.5}
PARTS = ("embedding", "recurrent", "linear and loss", "backward", "Adam")
LARGEST_DIFFERENCE = 1e-4  # of the losses
OVERHEAD = 30.0  # µs


class LanguageModel(torch.nn.Module):
    """What the next character is."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(CLASSES, EMBEDDING)
        self.rnn = getattr(torch.nn, cell.upper())(EMBEDDING, HIDDEN, LAYERS)
        self.output = torch.nn.Linear(HIDDEN, CLASSES)


class Trainer:
    """Steps of training of one model, and the seconds of their parts."""

    def __init__(self, model: LanguageModel, text: Any) -> None:
        self.model, self.text, self.at = model, text, 0
        self.optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        self.laps: list[list[float]] = []

    def step(self) -> float:
        """One step; returns the loss."""
        model, first = self.model, self.at * T % (self.text.shape[0] - T)
        block = self.text[first : first + T + 1]
        self.at += 1
        marks = [time.perf_counter()]
        self.optimiser.zero_grad()
        x = model.embedding(block[:-1])
        marks.append(time.perf_counter())
        y, _ = model.rnn(x)
        marks.append(time.perf_counter())
        logits = model.output(y).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, block[1:].flatten())
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        self.optimiser.step()
        marks.append(time.perf_counter())
        self.laps.append([b - a for a, b in itertools.pairwise(marks)])
        return loss.item()

    def parts(self) -> dict[str, float]:
        """Milliseconds of the parts of a step."""
        return {
            name: 1e3 * statistics.median(part) for name, part in zip(PARTS, zip(*self.laps, strict=True), strict=True)
        }


def characters(steps: int, rows: int) -> Any:
    """Text [steps, rows]: the sources of Python's standard library, each row from another place."""
    text = "".join(source for _, source in load_corpus().texts)[: steps * rows]
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 31  # 0: line feeds, tabs
    return torch.from_numpy(codes.clip(0, CLASSES - 1).reshape(rows, steps).T.copy())


def measured(cell: str, steps: int, repeat: int) -> dict[str, Any]:
    """One row: losses compared, then milliseconds of both sides and their ratio."""
    torch.manual_seed(0)
    plain = LanguageModel(cell)
    fast = accelerate(copy.deepcopy(plain), unsupported="error")
    assert report(fast) == {"rnn": "fastrnn"}
    text = characters(20 * T, B)
    sides = {"fastrnn": Trainer(fast, text), "torch": Trainer(plain, text)}
    losses = {name: [side.step() for _ in range(steps)] for name, side in sides.items()}
    difference = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    if difference > LARGEST_DIFFERENCE:
        raise AssertionError(f"{cell}: the losses of {steps} steps differ by {difference:.1e}")
    for side in sides.values():
        side.laps.clear()
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            settle()
            side.step()  # which finds cold caches
            start = time.perf_counter()
            side.step()
            spent[name].append(time.perf_counter() - start)
    turns = bench.Turns(spent)
    ratio = turns.speedup("fastrnn", over="torch")
    return {
        "ms": {name: 1e3 * turns.median(name) for name in sides},
        "over_torch": ratio,
        "quartiles": turns.quartiles("fastrnn", over="torch"),
        "wanted": WANTED[cell],
        "met": ratio >= WANTED[cell],
        "steps": steps,
        "losses": [losses["torch"][0], losses["torch"][-1]],
        "largest_difference": difference,
        "parts": {name: side.parts() for name, side in sides.items()},
    }


def microseconds(call: Callable[[], Any], repeat: int) -> float:
    """Of a call, in the best of some turns."""
    return 1e6 * min(seconds(call, 500, warm=True) for _ in range(repeat))


def overhead(cell: str, repeat: int) -> dict[str, float]:
    """Microseconds of one call of a module, of PyTorch's, and of the layer, T=1, B=1, H=16."""
    size = 16
    layer = getattr(fr, cell.upper())(size, size)
    plain = getattr(torch.nn, cell.upper())(size, size)
    module = accelerate(copy.deepcopy(plain), unsupported="error")
    x, dy = torch.randn(1, 1, size), torch.ones(1, 1, size)
    with torch.inference_mode():
        found = {
            "module": microseconds(lambda: module(x), repeat),
            "torch": microseconds(lambda: plain(x), repeat),
            "layer": microseconds(lambda: layer(x.numpy()), repeat),
        }
    found["overhead"] = found["module"] - found["layer"]
    found["training module"] = microseconds(lambda: module(x)[0].backward(dy), repeat)
    found["training torch"] = microseconds(lambda: plain(x)[0].backward(dy), repeat)
    array, gradient = x.numpy(), dy.numpy()
    found["training layer"] = microseconds(lambda: layer.vjp(array, input_grad=False)[1](gradient), repeat)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cell", nargs="+", choices=tuple(WANTED), default=list(WANTED))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100, help="steps whose losses are compared (default: 100)")
    parser.add_argument("--repeat", type=int, default=31, help="turns of each side (default: 31)")
    parser.add_argument("--overhead", action="store_true", help="of one call of one small layer, on one thread")
    parser.add_argument("--quick", action="store_true", help="three turns, to see that all of it works")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    if min(args.threads, args.steps, args.repeat) < 1:
        parser.error("--threads, --steps, --repeat: expected whole numbers >= 1")
    steps, repeat = (3, 3) if args.quick else (args.steps, args.repeat)
    threads = 1 if args.overhead else args.threads
    torch.set_num_threads(threads)
    fr.set_num_threads(threads)
    if args.overhead:
        found = {cell: overhead(cell, repeat) for cell in args.cell}
        print("microseconds of a call, T=1, B=1, I=H=16, float32, one thread")
        head = ["", "module", "PyTorch", "layer", f"overhead (≤ {OVERHEAD:g})", "training", "PyTorch", "layer"]
        print(bench.table([head, *([cell, *(f"{v:.1f}" for v in row.values())] for cell, row in found.items())]))
    else:
        found = {cell: measured(cell, steps, repeat) for cell in args.cell}
        print(f"a step of training, T={T}, B={B}, {threads} threads, float32")
        head = [
            "",
            "accelerated ms",
            "PyTorch ms",
            "PyTorch ÷ accelerated (quartiles)",
            "wanted",
            "met",
            "losses differ",
        ]
        rows = []
        for cell, row in found.items():
            low, high = row["quartiles"]
            ratio = f"{row['over_torch']:.2f} ({low:.2f} … {high:.2f})"
            ms = [f"{row['ms'][side]:.1f}" for side in ("fastrnn", "torch")]
            rows.append(
                [
                    cell,
                    *ms,
                    ratio,
                    f"{row['wanted']:g}",
                    "yes" if row["met"] else "NO",
                    f"{row['largest_difference']:.0e}",
                ]
            )
        print(bench.table([head, *rows]))
        parts = [
            [f"{cell} {side}", *(f"{ms:.1f}" for ms in row["parts"][side].values())]
            for cell, row in found.items()
            for side in ("fastrnn", "torch")
        ]
        print(bench.table([["ms of the parts", *PARTS], *parts]))
    if args.json:
        print(json.dumps({"threads": threads, "rows": found}))


if __name__ == "__main__":
    main()
