"""Latency of a stream's step: percentiles over a million steps. ``python benchmarks/latency.py [--quick]``, a minute.

Each step is timed by itself, so its time has one reading of the clock in it. What a reading costs by itself is
measured the same way, in turn with the steps, and stands beside them; nothing is subtracted. "In a row" is the time
of a step without a clock between the steps. The garbage collector is off.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastrnn as fr
from fastrnn import bench

STEPS, QUICK_STEPS, BLOCK = 1_000_000, 10_000, 5_000
PERCENTILES = (50.0, 99.0, 99.9)


class Latency(NamedTuple):
    """Seconds: of each step, of each reading of the clock, and of a step in a row of them."""

    steps: np.ndarray
    clock: np.ndarray
    in_a_row: float


def each(call: Callable[[], Any], times: np.ndarray) -> None:
    """Time calls one by one."""
    clock = time.perf_counter
    for k in range(len(times)):
        start = clock()
        call()
        times[k] = clock() - start


def readings(times: np.ndarray) -> None:
    """The same without a call."""
    clock = time.perf_counter
    for k in range(len(times)):
        start = clock()
        times[k] = clock() - start


def measure(call: Callable[[], Any], steps: int) -> Latency:
    """Time `steps` calls one by one, in blocks in turn with readings of the clock and calls in a row."""
    taken, clock = np.empty(steps), np.empty(steps)
    rows = []
    each(call, np.empty(min(steps, 1000)))
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for first in range(0, steps, BLOCK):
            readings(clock[first : first + BLOCK])
            each(call, taken[first : first + BLOCK])
            count = len(taken[first : first + BLOCK])
            start = time.perf_counter()
            for _ in range(count):
                call()
            rows.append((time.perf_counter() - start) / count)
    finally:
        if collecting:
            gc.enable()
    return Latency(taken, clock, float(np.median(rows)))


def stream_step(cell: str, size: int, rows: int = 1) -> Callable[[], Any]:
    """One step of a stream as a control loop takes it: into an array that is there."""
    layer = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}[cell](size, size, seed=0)
    stream = layer.stream(rows)
    x = np.random.default_rng(0).standard_normal((rows, size), dtype=np.float32)
    out = np.empty((rows, size), np.float32)
    return partial(stream.step, x, out)


def row(name: str, found: Latency) -> list[str]:
    """A row of the table, in µs."""
    steps, clock = (np.percentile(times, PERCENTILES) for times in (found.steps, found.clock))
    numbers = [*steps, found.steps.max(), *clock, found.in_a_row]
    return [name, f"{len(found.steps):,}", *(f"{1e6 * number:.3f}" for number in numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=tuple(bench.CELLS), nargs="+", default=["lstm", "gru"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 128], help="units, and as many inputs")
    parser.add_argument("--rows", type=int, default=1, help="batch size")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the steps")
    args = parser.parse_args()
    if min(*args.sizes, args.rows) < 1:
        parser.error("--sizes, --rows: expected whole numbers >= 1")
    times = [*(f"p{p:g}" for p in PERCENTILES), "worst", *(f"clock p{p:g}" for p in PERCENTILES), "in a row"]
    lines = [["stream, µs", "steps", *times]]
    for cell in args.cell:
        for size in args.sizes:
            found = measure(stream_step(cell, size, args.rows), QUICK_STEPS if args.quick else STEPS)
            lines.append(row(f"{cell} B={args.rows} H={size}", found))
    print(bench.table(lines))


if __name__ == "__main__":
    main()
