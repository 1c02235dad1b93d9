"""Time several sides in turn, and the FMA peak of the cores beside them."""

from __future__ import annotations

import gc
import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn.bench.timing import errors_of, failure, latencies, seconds, settle

__all__ = ["FmaPeak", "Turns", "in_turn"]

SHORT_CALL = 0.02
PERCENTILES = (50.0, 99.0, 99.9)
LEAST_TURNS = 3


class FmaPeak:
    """Floating-point operations a second that `threads` cores can do, by fused multiply-adds in registers.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    threads : int
        So many cores run at the same time.
    seconds : float
        About how long one measurement takes.

    Examples
    --------
    >>> FmaPeak("float32", seconds=1e-4)() > 1e8
    True
    """

    def __init__(self, dtype: str, threads: int = 1, seconds: float = 0.004) -> None:
        self.dtype, self.threads = dtype, threads
        self._rounds, spent = 1000, 0.0
        while spent < seconds / 4:
            self._rounds *= 2
            start = time.perf_counter()
            _core.fma_peak(dtype, self._rounds)
            spent = time.perf_counter() - start
        self._rounds = math.ceil(self._rounds * seconds / spent)

    def __call__(self) -> float:
        """Measure once; the best of many is the peak."""
        barrier = threading.Barrier(self.threads)

        def work(_: int) -> tuple[float, float, float]:
            barrier.wait()
            start = time.perf_counter()
            done = _core.fma_peak(self.dtype, self._rounds)
            return start, time.perf_counter(), done

        if self.threads == 1:
            parts = [work(0)]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                parts = list(pool.map(work, range(self.threads)))
        # From the first start to the last end: threads that share one core don't count as two.
        return sum(done for _, _, done in parts) / (max(p[1] for p in parts) - min(p[0] for p in parts))


@dataclass(frozen=True)
class Turns:
    """Times of several sides that ran in turn.

    Attributes
    ----------
    seconds : dict
        Side: seconds a call, one number a turn.
    peak : float or None
        Operations a second, the best of those measured between the turns.
    percentiles : dict
        Side: seconds of a single call that 50%, 99% and 99.9% of the calls don't exceed, where they were measured.
    failed : dict
        Side: why it didn't come to the end; it isn't in `seconds`.

    Examples
    --------
    >>> turns = Turns({"a": [1.0, 2.0, 1.0], "b": [3.0, 4.0, 5.0]}, peak=10.0)
    >>> turns.median("a"), turns.speedup("a", over="b"), turns.quartiles("a", over="b")
    (1.0, 3.0, (2.5, 4.0))
    >>> turns.share("a", flops=5)
    0.5
    """

    seconds: dict[str, list[float]]
    peak: float | None = None
    percentiles: dict[str, tuple[float, ...]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """Return the median of the seconds a call."""
        return statistics.median(self.seconds[side])

    def _ratios(self, side: str, over: str) -> list[float]:
        return [b / a for a, b in zip(self.seconds[side], self.seconds[over], strict=True)]

    def speedup(self, side: str, over: str) -> float:
        """Return how many times faster `side` is: the median of the ratios turn by turn."""
        return statistics.median(self._ratios(side, over))

    def quartiles(self, side: str, over: str) -> tuple[float, float]:
        """Return the lower and upper quartile of the ratios turn by turn."""
        ratios = self._ratios(side, over)
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high

    def share(self, side: str, flops: float) -> float:
        """Return the share of the peak that calls of `flops` operations reach."""
        if self.peak is None:
            raise ValueError("peak: was not measured")
        return flops / self.median(side) / self.peak

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        known: dict[str, Any] = {"seconds": self.seconds, "peak_flops": self.peak}
        if self.percentiles:
            known["percentiles"] = {"of": PERCENTILES, "seconds": self.percentiles}
        return known


def in_turn(
    sides: Mapping[str, Callable[[], Any]],
    *,
    repeat: int = 15,
    turn_seconds: float = 0.02,
    most_seconds: float = math.inf,
    peak: FmaPeak | None = None,
    single_calls: int = 0,
) -> Turns:
    """Time the sides A B A B …, so that whatever disturbs the machine disturbs all of them.

    Parameters
    ----------
    sides : dict
        Name: function to call. A side that is `TimesItself`, such as one in a worker process, is asked to.
    repeat : int
        Turns of each side.
    turn_seconds : float
        A turn has as many calls in a row as fit into this time, at least one.
    most_seconds : float
        After this time there are no more turns, once there were three.
    peak : FmaPeak, optional
        Measured between the turns.
    single_calls : int
        So many more calls of each turn are timed one by one, for percentiles.

    Returns
    -------
    Turns
        A side that fails is left out, and named in `failed`.
    """
    if repeat < 1:
        raise ValueError(f"repeat: expected >= 1, got {repeat!r}")
    failed: dict[str, str] = {}
    number = {}
    for name, call in sides.items():
        try:
            number[name] = _calls_a_turn(call, turn_seconds)
        except errors_of(name) as error:
            failed[name] = failure(name, error)
    spent: dict[str, list[float]] = {name: [] for name in number}
    single: dict[str, list[float]] = {name: [] for name in number if single_calls}
    best, begin = 0.0, time.monotonic()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeat):
            if turn >= LEAST_TURNS and time.monotonic() - begin > most_seconds:
                break
            for name in list(spent):
                calls, short = number[name]
                try:
                    spent[name].append(seconds(sides[name], calls, warm=short))
                    if single_calls:
                        single[name] += latencies(sides[name], single_calls)
                except errors_of(name) as error:
                    failed[name] = failure(name, error)
                    del spent[name]
                    single.pop(name, None)
            if peak is not None:
                settle()
                best = max(best, peak())
    finally:
        if collecting:
            gc.enable()
    percentiles = {name: tuple(map(float, np.percentile(each, PERCENTILES))) for name, each in single.items()}
    return Turns(spent, None if peak is None else best, percentiles, failed)


def _calls_a_turn(call: Callable[[], Any], turn_seconds: float) -> tuple[int, bool]:
    """How many calls fit into a turn, and whether a call is short."""
    call()  # compiles, allocates, starts threads
    spent = seconds(call, 1)
    if spent < SHORT_CALL:
        spent = min(spent, seconds(call, 3))
    return max(1, int(turn_seconds / spent)), spent < SHORT_CALL
