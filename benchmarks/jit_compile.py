"""How long cells that users write take until they run: ``python benchmarks/jit_compile.py``.

Each figure is that of a new process, the median of several: importing fastrnn, importing Numba, and the first
`cell.spec` after that, which compiles forward and backward into an empty cache, or takes them from a full one. The
targets are 10 s for the first compilation and 0.5 s from the cache, beyond importing Numba.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

FIRST, CACHED = 10.0, 0.5  # seconds at most

CELLS = {
    "gru": """
@fr.cell(gates=("r", "z", "n"))
def cell(wx, rh, s):
    r, z = sigmoid(wx.r + rh.r), sigmoid(wx.z + rh.z)
    return (1 - z) * tanh(wx.n + r * rh.n) + z * s.h
""",
    "peephole lstm": """
@fr.cell(gates=("i", "f", "g", "o"), states=("h", "c"), vectors=("p_i", "p_f", "p_o"))
def cell(wx, rh, s, v):
    i, f = sigmoid(wx.i + rh.i + v.p_i * s.c), sigmoid(wx.f + rh.f + v.p_f * s.c)
    c = f * s.c + i * tanh(wx.g + rh.g)
    return sigmoid(wx.o + rh.o + v.p_o * c) * tanh(c), c
""",
    "eight gates": """
@fr.cell(gates=tuple("abcdefgh"), states=("h", "c"))
def cell(wx, rh, s):
    sums = [sigmoid(getattr(wx, g) * getattr(rh, g)) + softplus(getattr(wx, g)) for g in "abcdefgh"]
    c = s.c
    for one in sums:
        c = tanh(c * one) + log(1 + one**2)
    return tanh(c), c / 8
""",
}
SCRIPT = """
import json, time
begin = time.perf_counter()
import numpy as np, fastrnn as fr
from fastrnn.jit import log, sigmoid, softplus, tanh
times = {"fastrnn": time.perf_counter() - begin}
%s
begin = time.perf_counter()
import numba
times["numba"] = time.perf_counter() - begin
begin = time.perf_counter()
cell.spec(np.%s)
times["cell"] = time.perf_counter() - begin
print(json.dumps(times))
"""


def measure(source: str, dtype: str, folder: str) -> dict[str, float]:
    """Seconds in a new process."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT % (source, dtype)],
        env={**os.environ, "FASTRNN_CACHE_DIR": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    times: dict[str, float] = json.loads(found.stdout)
    return times


def main() -> int:
    """Print a row for each cell and type; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one cell, once")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = parser.parse_args()
    repeats, cells = (1, {"gru": CELLS["gru"]}) if args.quick else (args.repeats, CELLS)
    rows, numba = {}, []
    print(f"{'cell':16}{'type':10}{'first':>10}{'cached':>10}   seconds beyond importing Numba")
    for name, source in cells.items():
        for dtype in ("float32", "float64"):
            first, cached = [], []
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as folder:
                    times = [measure(source, dtype, folder) for _ in range(2)]
                first.append(times[0]["cell"])
                cached.append(times[1]["cell"])
                numba += [one["numba"] for one in times]
            rows[f"{name}, {dtype}"] = {"first": statistics.median(first), "cached": statistics.median(cached)}
            print(f"{name:16}{dtype:10}{statistics.median(first):10.2f}{statistics.median(cached):10.2f}")
    print(f"importing Numba: {statistics.median(numba):.2f} s")
    good = all(row["first"] <= FIRST and row["cached"] <= CACHED for row in rows.values())
    print(f"targets, {FIRST:g} s and {CACHED:g} s: {'reached' if good else 'missed'}")
    if args.json:
        print(json.dumps({"rows": rows, "numba": statistics.median(numba), "reached": good}))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
