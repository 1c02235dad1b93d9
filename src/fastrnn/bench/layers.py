"""Compare the peers on one case: prepare, check that they agree, time in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastrnn.bench.agree import check
from fastrnn.bench.cases import Case
from fastrnn.bench.measure import FmaPeak, Turns, in_turn
from fastrnn.bench.peers import choose

__all__ = ["Comparison", "Sides", "compare", "prepare", "rows"]


@dataclass(frozen=True)
class Sides:
    """What can be timed, after it was found to agree.

    Attributes
    ----------
    runs : dict
        Peer: function to time.
    skipped : dict
        Peer: why it isn't there.
    differences : dict
        Peer: largest relative difference from the first.
    """

    runs: dict[str, Callable[[], Any]]
    skipped: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)


def prepare(case: Case, peers: Sequence[str] | None = None, threads: int = 1) -> Sides:
    """Prepare a case on each installed peer (None for all), with equal weights and data, and compare results.

    Raises
    ------
    Disagreement
        A peer computes something else than the first.
    """
    chosen, skipped = choose(peers)
    weights, data = case.weights(), case.data()
    runs, results = {}, {}
    for peer in chosen:
        reason = peer.declines(case)
        if reason is not None:
            skipped[peer.name] = reason
            continue
        prepared = peer.prepare(case, weights, data, threads)
        results[peer.name] = prepared.arrays(prepared.run())
        runs[peer.name] = prepared.run
    differences = check(results, case.dtype, str(case)) if results else {}
    return Sides(runs, skipped, differences)


@dataclass(frozen=True)
class Comparison:
    """Times of one case.

    Attributes
    ----------
    case : Case
    threads : int
    sides : Sides
    turns : Turns
    """

    case: Case
    threads: int
    sides: Sides
    turns: Turns

    def gflops(self, side: str) -> float:
        """Return the rate of a side in GFLOP/s."""
        return self.case.flops / self.turns.median(side) / 1e9

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        return {
            "case": str(self.case),
            "threads": self.threads,
            "flops": self.case.flops,
            "milliseconds": {side: 1e3 * self.turns.median(side) for side in self.turns.seconds},
            "skipped": self.sides.skipped,
            "differences": self.sides.differences,
            **self.turns.as_dict(),
        }


def compare(
    case: Case,
    peers: Sequence[str] | None = None,
    *,
    threads: int = 1,
    repeat: int = 15,
    turn_seconds: float = 0.02,
) -> Comparison:
    """Time one case on each installed peer, and the FMA peak of as many cores beside them.

    Examples
    --------
    >>> from fastrnn.bench.cases import Shape
    >>> tiny = Case("gru", Shape(2, 1, 3, 4), "infer")
    >>> result = compare(tiny, ["fastrnn", "numpy"], repeat=1, turn_seconds=0)
    >>> sorted(result.turns.seconds)
    ['fastrnn', 'numpy']
    """
    sides = prepare(case, peers, threads)
    peak = FmaPeak(case.dtype, threads)
    return Comparison(case, threads, sides, in_turn(sides.runs, repeat=repeat, turn_seconds=turn_seconds, peak=peak))


def rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return header and rows of a table, one row a side; ratios are to the first side."""
    lines = [["case", "threads", "side", "ms", "GFLOP/s", "of peak", "speed-up of first"]]
    for c in comparisons:
        first = next(iter(c.turns.seconds), "")
        for side in c.turns.seconds:
            speedup = "" if side == first else f"{c.turns.speedup(first, over=side):.2f}"
            numbers = [f"{1e3 * c.turns.median(side):.4g}", f"{c.gflops(side):.1f}"]
            share = f"{100 * c.turns.share(side, c.case.flops):.1f} %"
            lines.append([str(c.case), str(c.threads), side, *numbers, share, speedup])
    return lines
