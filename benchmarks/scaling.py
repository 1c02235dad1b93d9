"""How a training step's cost grows: ``python benchmarks/scaling.py``, some two minutes.

One size is doubled at a time, all others stay. The slope is that of log time over log size between the last two
sizes: 1 is proportional, 2 quadratic.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from fastrnn import bench

BASE = bench.Case("lstm", bench.Shape(T=64, B=32, I=256, H=256))
SIZES = {
    "T": (16, 32, 64, 128, 256),
    "B": (1, 2, 4, 8, 16, 32, 64, 128),
    "H": (32, 64, 128, 256, 512, 1024),
    "layers": (1, 2, 3, 4),
}


def case(name: str, size: int, cell: str) -> bench.Case:
    """The base case with one size changed; I follows H."""
    if name == "layers":
        return replace(BASE, cell=cell, num_layers=size)
    shape = BASE.shape._replace(**({"H": size, "I": size} if name == "H" else {name: size}))
    return replace(BASE, cell=cell, shape=shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=tuple(bench.CELLS), default="lstm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    lines = [["", "size", "ms", "of peak", "slope"]]
    for name, sizes in SIZES.items():
        before, last = 0.0, 1
        for size in sizes:
            result = bench.compare(case(name, size, args.cell), ["fastrnn"], threads=args.threads, repeat=args.repeat)
            seconds = result.turns.median("fastrnn")
            share = 100 * result.turns.share("fastrnn", result.case.flops)
            slope = f"{math.log(seconds / before) / math.log(size / last):.2f}" if before else ""
            lines.append([name, str(size), f"{1e3 * seconds:.3g}", f"{share:.0f} %", slope])
            before, last = seconds, size
    print(bench.table(lines))


if __name__ == "__main__":
    main()
