"""Benchmark cases, peers and measurements, shared by ``benchmarks/`` and the command line.

A case says what is computed, a peer prepares it as its own users would, and every comparison checks first
that all computed the same numbers. Then the sides run in turn, and figures are medians. `import fastrnn`
doesn't load this.

Examples
--------
>>> from fastrnn import bench
>>> case = bench.Case("lstm", bench.Shape(T=4, B=2, I=3, H=5))
>>> sides = bench.prepare(case, ["fastrnn", "numpy"])
>>> turns = bench.in_turn(sides.runs, repeat=1, turn_seconds=0)
>>> turns.speedup("fastrnn", over="numpy") > 0
True
"""

from fastrnn.bench.agree import Disagreement, check
from fastrnn.bench.cases import CELLS, MODES, SHAPES, Case, Data, Shape
from fastrnn.bench.layers import Comparison, Sides, compare, prepare
from fastrnn.bench.machine import facts
from fastrnn.bench.measure import FmaPeak, Turns, in_turn
from fastrnn.bench.models import CharModel
from fastrnn.bench.peers import PEERS, Peer, Prepared
from fastrnn.bench.table import table

__all__ = [
    "CELLS",
    "MODES",
    "PEERS",
    "SHAPES",
    "Case",
    "CharModel",
    "Comparison",
    "Data",
    "Disagreement",
    "FmaPeak",
    "Peer",
    "Prepared",
    "Shape",
    "Sides",
    "Turns",
    "check",
    "compare",
    "facts",
    "in_turn",
    "prepare",
    "table",
]
