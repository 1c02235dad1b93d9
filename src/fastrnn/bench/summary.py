"""What a grid of comparisons comes to: geometric means and lowest points."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastrnn.bench.layers import Comparison

__all__ = ["BEST", "Summary", "ratios", "rows", "summarise"]

FIRST = "fastrnn"
BEST = "best of all"


class Summary(NamedTuple):
    """fastrnn against one peer, or the best of all at each point, over the shapes of a cell, mode, type, threads."""

    cell: str
    mode: str
    dtype: str
    threads: int
    against: str
    points: int
    mean: float  # geometric
    lowest: float
    lowest_at: str  # shape

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        return self._asdict()


def ratios(comparison: Comparison) -> dict[str, float]:
    """Return how many times faster fastrnn is than each peer, and than the best of them."""
    turns = comparison.turns
    if FIRST not in turns.seconds:
        return {}
    found = {side: turns.speedup(FIRST, over=side) for side in turns.seconds if side != FIRST}
    return {**found, BEST: min(found.values())} if found else {}


def summarise(comparisons: Iterable[Comparison]) -> list[Summary]:
    """Return a summary for each cell, mode, type, number of threads and peer, in order of appearance.

    Examples
    --------
    >>> from fastrnn.bench import Case, Shape, Sides, Turns
    >>> def point(T, seconds):
    ...     case = Case("gru", Shape(T, 1, 2, 3))
    ...     return Comparison(case, 1, Sides({}), Turns({"fastrnn": [1.0], "torch": [seconds]}))
    >>> one, best = summarise([point(1, 2.0), point(2, 8.0)])
    >>> one.mean, one.lowest, one.lowest_at, best.against
    (4.0, 2.0, 'T=1 B=1 I=2 H=3', 'best of all')
    """
    points: dict[tuple[str, str, str, int], list[Comparison]] = {}
    for c in comparisons:
        points.setdefault((c.case.cell, c.case.mode, c.case.dtype, c.threads), []).append(c)
    summaries = []
    for key, group in points.items():
        by_peer: dict[str, list[tuple[float, str]]] = {}
        for c in group:
            for against, ratio in ratios(c).items():
                by_peer.setdefault(against, []).append((ratio, str(c.case.shape)))
        for against in sorted(by_peer, key=lambda name: name == BEST):
            found = by_peer[against]
            mean = statistics.geometric_mean([ratio for ratio, _ in found])
            summaries.append(Summary(*key, against, len(found), mean, *min(found)))
    return summaries


def rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """Return header and rows of a table."""
    lines = [["fastrnn", "threads", "against", "shapes", "geometric mean", "lowest", "at"]]
    for s in summaries:
        what = f"{s.cell} {s.mode}" + ("" if s.dtype == "float32" else f" {s.dtype}")
        numbers = [str(s.points), f"{s.mean:.2f}", f"{s.lowest:.2f}"]
        lines.append([what, str(s.threads), s.against, *numbers, s.lowest_at])
    return lines
