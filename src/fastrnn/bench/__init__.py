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

The fixture `peer_benchmark` does that in your own pytest-benchmark suite; `PeerBenchmark` shows how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn.bench.agree import Disagreement, check
from fastrnn.bench.cases import CELLS, MODES, SHAPES, Case, Data, Shape, grid
from fastrnn.bench.classifier import Classifier
from fastrnn.bench.layers import Comparison, Sides, compare, prepare
from fastrnn.bench.machine import facts
from fastrnn.bench.measure import FmaPeak, Turns, in_turn
from fastrnn.bench.models import CharModel
from fastrnn.bench.peers import PEERS, Peer, Prepared
from fastrnn.bench.remote import close_workers, use_python
from fastrnn.bench.summary import Summary, summarise
from fastrnn.bench.table import table
from fastrnn.bench.timing import SideError

if TYPE_CHECKING:
    from fastrnn.bench.plugin import PeerBenchmark, peer_benchmark

__all__ = [
    "CELLS",
    "MODES",
    "PEERS",
    "SHAPES",
    "Case",
    "CharModel",
    "Classifier",
    "Comparison",
    "Data",
    "Disagreement",
    "FmaPeak",
    "Peer",
    "PeerBenchmark",
    "Prepared",
    "Shape",
    "SideError",
    "Sides",
    "Summary",
    "Turns",
    "check",
    "close_workers",
    "compare",
    "facts",
    "grid",
    "in_turn",
    "peer_benchmark",
    "prepare",
    "summarise",
    "table",
    "use_python",
]


def __getattr__(name: str) -> Any:
    """Load what needs pytest when it is asked for."""
    if name in ("PeerBenchmark", "peer_benchmark"):
        from fastrnn.bench import plugin

        return getattr(plugin, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
