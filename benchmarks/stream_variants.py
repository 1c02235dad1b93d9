"""A step of a variant's stream beside one of the plain cell's: one row, weights packed once.

Steps are taken in turn in one process, blocks of them a round; medians of the rounds.

    python benchmarks/stream_variants.py [--rounds 60]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

import fastrnn as fr

VARIANTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "LSTM": (fr.LSTM, {}),
    "LSTM peephole": (fr.LSTM, {"peephole": True}),
    "LSTM coupled": (fr.LSTM, {"coupled": True}),
    "LSTM clip": (fr.LSTM, {"clip": 3.0}),
    "LSTM zoneout": (fr.LSTM, {"zoneout": 0.1}),
    "LSTM layer norm": (fr.LSTM, {"layer_norm": True}),
    "GRU": (fr.GRU, {}),
    "GRU clip": (fr.GRU, {"clip": 3.0}),
    "GRU layer norm": (fr.GRU, {"layer_norm": True}),
    "GRU reset before": (fr.GRU, {"reset_after": False}),
    "GRU reset before, clip": (fr.GRU, {"reset_after": False, "clip": 3.0}),
    "RNN": (fr.RNN, {}),
    "RNN clip": (fr.RNN, {"clip": 3.0}),
}


def nanoseconds(stream: fr.Stream, size: int, steps: int, block: bool) -> float:
    """Of a step, taken alone or in a block."""
    x = np.random.default_rng(0).standard_normal((steps, 1, size), dtype=np.float32)
    if block:
        out = np.empty((steps, 1, size), np.float32)
        begin = time.perf_counter_ns()
        stream.run(x, out=out)
        return (time.perf_counter_ns() - begin) / steps
    x_t, out, step = x[0], np.empty((1, size), np.float32), stream.step
    begin = time.perf_counter_ns()
    for _ in range(steps):
        step(x_t, out=out)
    return (time.perf_counter_ns() - begin) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    print("| cell | H | step, ns | of plain | in a block, ns | of plain |\n|---|---|---|---|---|---|")
    for H in (32, 128):
        streams = {name: make(H, H, seed=0, **options).stream() for name, (make, options) in VARIANTS.items()}
        times: dict[tuple[str, bool], list[float]] = {(name, block): [] for name in streams for block in (False, True)}
        for _ in range(rounds):
            for (name, block), found in times.items():
                found.append(nanoseconds(streams[name], H, 200 if H == 32 else 60, block))
        medians = {key: statistics.median(found) for key, found in times.items()}
        for name in streams:
            row = [medians[name, block] for block in (False, True)]
            ratios = [medians[name, block] / medians[name.split()[0], block] for block in (False, True)]
            print(f"| {name} | {H} | {row[0]:.0f} | {ratios[0]:.2f} | {row[1]:.0f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
