"""Time several sides in turn, and the FMA peak of the cores beside them."""

from __future__ import annotations

import gc
import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastrnn import _core

__all__ = ["FmaPeak", "Turns", "in_turn", "settle"]

# Note [Turns]: threads of a side that has just returned may still spin, and would take a core from the side
# that comes next. Measured with two threads: PyTorch's (libgomp) for 8 ms, those of NumPy's OpenBLAS for
# 60 ms. So a turn begins when the process has used no CPU for a while. Then a short call finds cold caches,
# which its users, who call in a loop, never see: one call isn't timed. For long calls that doesn't matter.
SETTLE_SECONDS, IDLE_SHARE, MOST_WAITS = 0.003, 0.1, 100
SHORT_CALL = 0.02


def settle() -> None:
    """Wait until the threads of this process are idle (0.3 seconds at most)."""
    for _ in range(MOST_WAITS):
        start = time.process_time()
        time.sleep(SETTLE_SECONDS)
        if time.process_time() - start < IDLE_SHARE * SETTLE_SECONDS:
            return


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
        return {"seconds": self.seconds, "peak_flops": self.peak}


def _timed(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def in_turn(
    sides: Mapping[str, Callable[[], Any]],
    *,
    repeat: int = 15,
    turn_seconds: float = 0.02,
    peak: FmaPeak | None = None,
) -> Turns:
    """Time the sides A B A B …, so that whatever disturbs the machine disturbs all of them.

    Parameters
    ----------
    sides : dict
        Name: function to call.
    repeat : int
        Turns of each side.
    turn_seconds : float
        A turn has as many calls in a row as fit into this time, at least one.
    peak : FmaPeak, optional
        Measured between the turns.

    Returns
    -------
    Turns
    """
    if repeat < 1:
        raise ValueError(f"repeat: expected >= 1, got {repeat!r}")
    number, short = {}, {}
    for name, call in sides.items():
        call()  # compiles, allocates, starts threads
        spent = _timed(call, 1)
        if spent < SHORT_CALL:
            spent = min(spent, _timed(call, 3))
        number[name], short[name] = max(1, int(turn_seconds / spent)), spent < SHORT_CALL
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    best = 0.0
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeat):
            for name, call in sides.items():
                settle()
                if short[name]:
                    call()
                seconds[name].append(_timed(call, number[name]))
            if peak is not None:
                settle()
                best = max(best, peak())
    finally:
        if collecting:
            gc.enable()
    return Turns(seconds, None if peak is None else best)
