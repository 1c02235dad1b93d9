"""Memory: growth over many calls, and a long sequence in little room. `python benchmarks/memory.py [--quick]`.

With `checkpoint=k` a layer keeps, beside y, one cell state for every k steps (rounded up to a chunk, some hundred
rows), in the pullback the gates of k steps, and 20 bytes a step for the schedule. So k up to about √T is best; a larger
one only adds k rows of gates. A million steps of 128 units: 38 MB with k = 100, 39 with 1000, 62 with 10,000, 115 with
30,000; forward and backward took 12 to 15 s with each.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastrnn as fr

WARM_UP, CALLS, STEPS = 500, 10_000, 1_000_000


def resident(name="VmRSS"):
    """Bytes of this process in memory; VmHWM: the most so far. Linux alone tells."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def calls(kind, leak=None):
    """Yield for ever, once a round of call, vjp, pullback and stream step, with shapes that change."""
    rng = np.random.default_rng(0)
    layer = kind(24, 40, num_layers=2, bidirectional=True, seed=0)
    stream = kind(24, 40, seed=0).stream()
    while True:
        T, B = int(rng.integers(1, 60)), int(rng.integers(1, 24))
        x = rng.standard_normal((T, B, 24), dtype=np.float32)
        lengths = rng.integers(0, T + 1, B) if rng.random() < 0.5 else None
        y, _ = layer(x, lengths=lengths)
        (y, _), pullback = layer.vjp(x, lengths=lengths, checkpoint=4 if rng.random() < 0.5 else None)
        pullback(np.ones_like(y))
        stream.step(x[0, :1])
        if leak is not None:
            leak.append(y)
        yield


def growth(kind, rounds, leak=None):
    """Bytes by which `rounds` calls raise the memory in use, after some that fill the caches."""
    step = calls(kind, leak)
    for _ in range(WARM_UP):
        next(step)
    before = resident()
    for _ in range(rounds):
        next(step)
    return resident() - before


def long_sequence(steps, checkpoint):
    """Train an LSTM of 128 units on one sequence; bytes of the peak beyond x, y, dx, dy and the weights."""
    layer = fr.LSTM(128, 128, seed=0)
    few = np.ones((600, 1, 128), np.float32)  # loads and allocates what any call needs
    layer.vjp(few, checkpoint=100)[1](few)
    x, dy = np.ones((steps, 1, 128), np.float32), np.ones((steps, 1, 128), np.float32)
    before = resident()
    (y, _), pullback = layer.vjp(x, checkpoint=checkpoint or None)
    dx, _ = pullback(dy)
    return resident("VmHWM") - before - y.nbytes - dx.nbytes


def fresh(*arguments):
    """The number that this script prints with `arguments`, in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    return int(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, a twentieth of the steps")
    parser.add_argument("--growth", nargs=2, metavar=("LAYER", "ROUNDS"))
    parser.add_argument("--leak", action="store_true", help="keep every y, for a test of the measurement")
    parser.add_argument("--sequence", nargs=2, type=int, metavar=("STEPS", "CHECKPOINT"))
    options = parser.parse_args()
    if options.growth:
        print(growth(getattr(fr, options.growth[0]), int(options.growth[1]), [] if options.leak else None))
        return
    if options.sequence:
        print(long_sequence(*options.sequence))
        return
    rounds, steps = (CALLS // 10, STEPS // 20) if options.quick else (CALLS, STEPS)
    for kind in ("LSTM", "GRU", "RNN"):
        more = fresh("--growth", kind, rounds) / 1e6
        print(f"{kind:5} {rounds:,} rounds of call, vjp, pullback, step: {more:+.1f} MB", flush=True)
    for checkpoint in (100, 1000, 10_000):
        beyond = fresh("--sequence", steps, checkpoint) / 1e6
        print(
            f"LSTM  {steps:,} steps, checkpoint={checkpoint}: {beyond:.1f} MB beyond x, y, dx, dy and weights",
            flush=True,
        )


if __name__ == "__main__":
    main()
