"""Compare the peers on one case: prepare, check that they agree, time in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastrnn.bench.agree import check
from fastrnn.bench.cases import Case
from fastrnn.bench.measure import FmaPeak, Turns, in_turn
from fastrnn.bench.peers import choose
from fastrnn.bench.timing import errors_of, failure

__all__ = ["Comparison", "Sides", "compare", "prepare", "rows", "step_rows", "with_best_peaks"]

SINGLE_CALLS = 1000  # of a time step, in each turn: 15,000 for its slowest thousandth


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
        try:
            reason = peer.declines(case)
            if reason is not None:
                skipped[peer.name] = reason
                continue
            prepared = peer.prepare(case, weights, data, threads)
            results[peer.name] = prepared.results(case)
        except errors_of(peer.name) as error:
            skipped[peer.name] = failure(peer.name, error)
        else:
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
            "cell": self.case.cell,
            "shape": list(self.case.shape),
            "mode": self.case.mode,
            "dtype": self.case.dtype,
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
    most_seconds: float = math.inf,
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
    turns = in_turn(
        sides.runs,
        repeat=repeat,
        turn_seconds=turn_seconds,
        most_seconds=most_seconds,
        peak=FmaPeak(case.dtype, threads),
        single_calls=SINGLE_CALLS if case.mode == "step" else 0,
    )
    sides.skipped.update(turns.failed)
    return Comparison(case, threads, sides, turns)


def with_best_peaks(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with the best FMA peak of all those with the same type and number of threads: what
    the cores can do doesn't depend on the case, but each case's measurements may have been disturbed.

    Examples
    --------
    >>> from fastrnn.bench.cases import Shape
    >>> case = Case("gru", Shape(1, 1, 2, 3))
    >>> two = [Comparison(case, 1, Sides({}), Turns({}, peak)) for peak in (3.0, 4.0)]
    >>> [c.turns.peak for c in with_best_peaks(two)]
    [4.0, 4.0]
    """
    best: dict[tuple[str, int], float] = {}
    for c in comparisons:
        key = c.case.dtype, c.threads
        best[key] = max(best.get(key, 0.0), c.turns.peak or 0.0)
    return [replace(c, turns=replace(c.turns, peak=best[c.case.dtype, c.threads] or None)) for c in comparisons]


def rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return header and rows of a table, one row a side, with how many times longer than fastrnn it takes."""
    lines = [["case", "threads", "side", "ms", "GFLOP/s", "of peak", "÷ fastrnn"]]
    for c in comparisons:
        for side in c.turns.seconds:
            numbers = [f"{1e3 * c.turns.median(side):.4g}", f"{c.gflops(side):.1f}"]
            share = f"{100 * c.turns.share(side, c.case.flops):.1f} %"
            lines.append([str(c.case), str(c.threads), side, *numbers, share, _speedup(c, side)])
    return lines


def step_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return header and rows of a table of single steps: the median of many in a row, and percentiles of single
    calls."""
    lines = [["case", "threads", "side", "µs", "p50", "p99", "p99.9", "GFLOP/s", "÷ fastrnn"]]
    for c in comparisons:
        for side in c.turns.seconds:
            times = [c.turns.median(side), *c.turns.percentiles[side]]
            numbers = [*(f"{1e6 * t:.3g}" for t in times), f"{c.gflops(side):.1f}"]
            lines.append([str(c.case), str(c.threads), side, *numbers, _speedup(c, side)])
    return lines


def _speedup(c: Comparison, side: str) -> str:
    compared = side != "fastrnn" and "fastrnn" in c.turns.seconds
    return f"{c.turns.speedup('fastrnn', over=side):.2f}" if compared else ""
