"""Variants of the cells in training, beside the plain cell and a loop in PyTorch: ``python benchmarks/variants.py``.

A row is one variant: layer normalisation, peepholes, coupled gates, clip, zoneout, dropout, resets, all states. A run
is forward and backward, with the gradients of the input and of every weight. Both sides start from equal weights,
results are compared before anything is timed (of variants that draw masks the inference is), and the three run in turn:
the variant, fastrnn's plain cell, and a loop over time steps in PyTorch (`fastrnn/bench/peers/torch_loops.py`). Ratios
are medians of the ratios turn by turn. On a machine that isn't quiet they stray by a tenth: look at the quartiles.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from fastrnn import bench
from fastrnn.bench import variants
from fastrnn.bench.variants import VARIANTS, NotHere, Variant

QUICK = bench.Shape(20, 4, 8, 16)


def measured(variant: Variant, shape: bench.Shape, threads: int, repeat: int, turn_seconds: float) -> dict[str, Any]:
    """One row: milliseconds, the ratios, and whether they are as wanted."""
    sides = variants.prepare(variant, shape, threads)
    turns = variants.timed(sides.runs, repeat, turn_seconds)
    found: dict[str, Any] = {
        "ms": {side: 1e3 * turns.median(side) for side in turns.seconds},
        "of_plain": turns.speedup("plain", over="fastrnn"),
        "of_plain_quartiles": turns.quartiles("plain", over="fastrnn"),
        "wanted_of_plain": variant.of_plain,
        "differences": sides.differences,
        "skipped": sides.skipped,
    }
    if "torch" in turns.seconds:
        found["over_torch"] = turns.speedup("fastrnn", over="torch")
        found["over_torch_quartiles"] = turns.quartiles("fastrnn", over="torch")
        found["wanted_over_torch"] = variant.over_torch
    met = [variant.of_plain is None or found["of_plain"] <= variant.of_plain]
    if variant.over_torch is not None:
        met.append(found.get("over_torch", math.inf) >= variant.over_torch)
    found["met"] = all(met) if variant.of_plain is not None or variant.over_torch is not None else None
    return found


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    ms = [f"{row['ms'][side]:.2f}" if side in row["ms"] else "" for side in ("fastrnn", "plain", "torch")]
    wanted = [] if row["wanted_of_plain"] is None else [f"≤ {row['wanted_of_plain']:g} of plain"]
    if row.get("wanted_over_torch") is not None:
        wanted.append(f"≥ {row['wanted_over_torch']:g} × PyTorch")
    low, high = row["of_plain_quartiles"]
    ratios = [
        f"{row['of_plain']:.2f} ({low:.2f} … {high:.2f})",
        f"{row['over_torch']:.1f}" if "over_torch" in row else "",
    ]
    return [name, *ms, *ratios, ", ".join(wanted), {True: "yes", False: "NO", None: ""}[row["met"]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=31, help="turns of each side (default: 31)")
    parser.add_argument("--cell", nargs="+", choices=tuple(bench.CELLS), default=["lstm"])
    parser.add_argument("--only", nargs="+", choices=list(dict.fromkeys(v.name for v in VARIANTS)), metavar="VARIANT")
    parser.add_argument("--shape", type=bench.Shape.parse, default=variants.SHAPE, metavar="T,B,I,H")
    parser.add_argument("--quick", action="store_true", help=f"three turns of {QUICK}, to see that all of it works")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    if min(args.threads, args.repeat) < 1:
        parser.error("--threads, --repeat: expected whole numbers >= 1")
    shape, repeat, turn = (QUICK, 3, 0.0) if args.quick else (args.shape, args.repeat, 0.02)
    rows, missing = {}, {}
    for variant in VARIANTS:
        if variant.cell not in args.cell or (args.only and variant.name not in args.only):
            continue
        try:
            rows[str(variant)] = measured(variant, shape, args.threads, repeat, turn)
        except NotHere as error:
            missing[str(variant)] = str(error)
    head = [
        "training",
        "fastrnn ms",
        "plain ms",
        "PyTorch ms",
        "÷ plain (quartiles)",
        "PyTorch ÷ fastrnn",
        "wanted",
        "met",
    ]
    print(f"{shape}, {args.threads} thread{'s' * (args.threads > 1)}, float32")
    print(bench.table([head, *(cells(name, row) for name, row in rows.items())]))
    if missing:
        print(f"not in this fastrnn: {', '.join(missing)}")
    for reason in dict.fromkeys(reason for row in rows.values() for reason in row["skipped"].values()):
        print(reason)
    if args.json:
        print(json.dumps({"threads": args.threads, "shape": list(shape), "rows": rows, "missing": missing}))


if __name__ == "__main__":
    main()
