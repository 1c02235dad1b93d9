"""Figures of the whole grid: every shape and cell, one and two threads, every peer that is installed."""

from __future__ import annotations

import functools
import statistics
from dataclasses import dataclass
from typing import Any

from fastrnn.bench import layers, summary
from fastrnn.bench.agree import Disagreement
from fastrnn.bench.cases import CELLS, SHAPES, Case, Shape
from fastrnn.bench.figures.base import Figure, Outcome
from fastrnn.bench.layers import Comparison
from fastrnn.bench.peers import PEERS, choose

__all__ = ["GridFigure", "MissingFigure", "ShareFigure", "compared"]

MOST_SECONDS = 20.0  # of turns for one point


@functools.cache
def compared(case: Case, threads: int, repeat: int) -> Comparison:
    """Compare all peers on one point of the grid, once for all figures that need it."""
    peers = [peer.name for peer in choose(list(PEERS))[0] if peer.name != "numpy"]
    return layers.compare(case, peers, threads=threads, repeat=repeat, most_seconds=MOST_SECONDS)


@dataclass(frozen=True, kw_only=True)
class GridFigure(Figure):
    """fastrnn against one peer, or the best of all at each point: the geometric mean of the ratios, or the lowest."""

    mode: str
    cells: tuple[str, ...] = tuple(CELLS)
    peer: str = summary.BEST
    lowest: bool = False
    shapes: tuple[Shape, ...] = SHAPES
    slow: bool = True

    def points(self, threads: int | None, repeat: int) -> tuple[list[tuple[str, Comparison]], list[str]]:
        """Return the comparisons under their names, and what couldn't be compared."""
        found, wrong = [], []
        for count in (threads,) if threads else (1, 2):
            for cell in self.cells:
                for shape in self.shapes:
                    case = Case(cell, shape, self.mode)
                    try:
                        found.append((f"{case}, {count} threads", compared(case, count, repeat)))
                    except Disagreement as error:
                        wrong.append(str(error))
        return found, wrong

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        points, wrong = self.points(threads, repeat)
        ratios = {name: summary.ratios(c).get(self.peer) for name, c in points}
        known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
        sides = sorted({side for _, c in points for side in c.turns.seconds if side != "fastrnn"})
        parts = [f"{len(known)} points, beside {', '.join(sides) or 'nobody'}", *wrong]
        value = None
        if known and not wrong:
            worst = min(known, key=lambda name: known[name])
            parts.append(f"lowest {known[worst]:.2f} ({worst})")
            value = known[worst] if self.lowest else statistics.geometric_mean(known.values())
        return Outcome(value, ", ".join(parts), {"ratios": known, "comparisons": [c.as_dict() for _, c in points]})


@dataclass(frozen=True, kw_only=True)
class MissingFigure(GridFigure):
    """How many points are neither so many times faster than PyTorch nor at so much of the FMA peak."""

    at_least: bool = False
    ratio: float = 1.1
    shares: tuple[float, float] = (0.85, 0.78)  # of the peak, with one thread and with more

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        points, wrong = self.points(threads, repeat)
        missed, compared_points = [], 0
        for name, c in points:
            ratio = summary.ratios(c).get("torch")
            if ratio is None:
                continue
            compared_points += 1
            share = c.turns.share("fastrnn", c.case.flops)
            if ratio < self.ratio and share < self.shares[c.threads > 1]:
                missed.append(f"{name}: {ratio:.2f} x, {share:.0%} of the peak")
        value = float(len(missed)) if compared_points and not wrong else None
        return Outcome(value, "; ".join([f"of {compared_points} points", *missed, *wrong]), {"missed": missed})


@dataclass(frozen=True, kw_only=True)
class ShareFigure(Figure):
    """The lowest share of the FMA peak in training, over the shapes that are large enough for one."""

    cell: str
    shapes: tuple[Shape, ...] = tuple(shape for shape in SHAPES if shape.B >= 32 and shape.H >= 256)
    slow: bool = True

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        shares: dict[str, float] = {}
        count = threads or self.threads
        for shape in self.shapes:
            case = Case(self.cell, shape)
            c = layers.compare(case, ["fastrnn"], threads=count, repeat=repeat, most_seconds=MOST_SECONDS)
            shares[str(shape)] = c.turns.share("fastrnn", case.flops)
        detail = ", ".join(f"{shape}: {share:.1%}" for shape, share in shares.items())
        data: dict[str, Any] = {"shares": shares, "threads": count}
        return Outcome(min(shares.values()), detail, data)
