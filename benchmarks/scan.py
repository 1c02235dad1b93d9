"""Scans through time against the memory's bandwidth: ``python benchmarks/scan.py``, half a minute.

The bandwidth is that of a + b → c over arrays as large as a scan's, in the same process, in turn with the scans. A scan
is counted with what it must read and write: forward z and y (and c, where backward needs it), backward z, dy, the
states before and dz; h_0 and the like are too small to count. No product is in these times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn import _core, bench

# name: (cell, blocks of z, a saved state beside y)
CELLS = {
    "minGRU": (_core.SCAN_MIN_GRU, 2, False),
    "SRU": (_core.SCAN_SRU, 3, True),
    "QRNN": (_core.SCAN_QRNN, 3, True),
    "minLSTM": (_core.SCAN_MIN_LSTM, 3, False),
    "IndRNN": (_core.SCAN_IND_RNN, 1, False),
}


def filled(rng: Any, *shape: int) -> Any:
    """Normal numbers on the memory that layers use."""
    array = _core.empty(shape, np.float32)
    rng.standard_normal(dtype=np.float32, out=array)
    return array


def scans(name: str, shape: bench.Shape) -> dict[str, tuple[Callable[[], Any], int]]:
    """Forward for inference, forward and backward of training: (call, arrays of T·B·H that it moves)."""
    cell, blocks, saves = CELLS[name]
    T, B, H = shape.T, shape.B, shape.H
    rng = np.random.default_rng(0)
    z, y, dy = filled(rng, T * B, blocks * H), filled(rng, T, B, H), filled(rng, T, B, H)
    skip = filled(rng, T * B, H) if name == "SRU" else None
    s = filled(rng, T * B, H) if saves else None
    p = np.full(2 * H if name == "SRU" else H, 0.5, np.float32) if name in ("SRU", "IndRNN") else None
    dp = None if p is None else np.zeros_like(p)
    state = np.zeros((B, H), np.float32)
    order = (T, None, np.arange(B), B, False)
    dskip = None if skip is None else np.ones_like(skip)

    def forward(saved: Any) -> None:
        _core.scan_forward(cell, False, *order, z, skip, p, 1.0, None, state, y, saved)

    def backward() -> None:  # dz over z, as layers do
        _core.scan_backward(
            cell, False, *order, z, skip, p, 1.0, None, y, s, dy, None, state, z, dskip, dp
        )  # dz over z

    read = blocks + (skip is not None)
    return {
        "inference": (partial(forward, None), read + 1),
        "forward": (partial(forward, s), read + 1 + saves),
        "backward": (backward, 2 * read + 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=tuple(CELLS), action="append")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--shape", default="1000,32,512", help="T,B,H")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a small shape, three turns: no figures that count")
    args = parser.parse_args()
    T, B, H = (50, 8, 64) if args.quick else map(int, args.shape.split(","))
    repeat = 3 if args.quick else args.repeat
    shape = bench.Shape(T, B, H, H)
    lines = [["scan", "threads", "ms", "GB/s", "a + b GB/s", "share"]]
    for threads in args.threads or (1, 2):
        fr.set_num_threads(threads)
        for name in args.cell or ("minGRU", "SRU", "QRNN"):
            calls = scans(name, shape)
            size = T * B * H
            a, b, c = (np.ones_like(filled(np.random.default_rng(0), size)) for _ in range(3))
            sides: dict[str, Callable[[], Any]] = {kind: call for kind, (call, _) in calls.items()}
            turns = bench.in_turn({**sides, "add": partial(_core.add, a, b, c)}, repeat=repeat)
            peak = 3 * size * 4 / turns.median("add")
            for kind, (_, arrays) in calls.items():
                speed = arrays * size * 4 / turns.median(kind)
                times = [f"{1e3 * turns.median(kind):.3g}", f"{speed / 1e9:.1f}", f"{peak / 1e9:.1f}"]
                lines.append([f"{name} {kind}", str(threads), *times, f"{speed / peak:.2f}"])
    print(bench.table(lines))


if __name__ == "__main__":
    main()
