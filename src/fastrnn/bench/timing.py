"""Time one side, here or in a worker process: nothing of fastrnn is needed for it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

__all__ = ["SideError", "TimesItself", "errors_of", "failure", "latencies", "one_line", "seconds", "settle", "timed"]

# Note [Turns]: threads of a side that has just returned may still spin, and would take a core from the side
# that comes next. Measured with two threads: PyTorch's (libgomp) for 8 ms, those of NumPy's OpenBLAS for
# 60 ms. So a turn begins when the process has used no CPU for a while, and a worker process answers when it
# has used none. Then a short call finds cold caches, which its users, who call in a loop, never see: one call
# isn't timed. For long calls that doesn't matter.
SETTLE_SECONDS, IDLE_SHARE, MOST_WAITS = 0.003, 0.1, 100


class SideError(RuntimeError):
    """A side can't go on: its process died, doesn't answer, or raised."""


def errors_of(side: str) -> type[Exception]:
    """Return the errors for which a side is left out: all those of a peer, for fastrnn's own are to be seen."""
    return SideError if side == "fastrnn" else Exception


def one_line(error: Exception) -> str:
    """Return an error's class and message in one line of reasonable length.

    Examples
    --------
    >>> one_line(MemoryError()), one_line(ValueError("x: bad\\n  and worse"))
    ('MemoryError', 'ValueError: x: bad and worse')
    """
    return ": ".join(part for part in (type(error).__name__, " ".join(str(error).split())[:300]) if part)


def failure(side: str, error: Exception) -> str:
    """Return one line that says why a side is left out."""
    return " ".join(str(error).split()) if isinstance(error, SideError) else f"{side}: {one_line(error)}"


@runtime_checkable
class TimesItself(Protocol):
    """A side that runs somewhere else, and is timed there."""

    def timed(self, number: int, warm: bool) -> float:
        """Return the seconds of a call, `number` calls in a row; `warm` has one before that isn't timed."""

    def latencies(self, number: int) -> list[float]:
        """Return the seconds of each of `number` calls."""


def settle() -> None:
    """Wait until the threads of this process are idle (0.3 seconds at most)."""
    for _ in range(MOST_WAITS):
        start = time.process_time()
        time.sleep(SETTLE_SECONDS)
        if time.process_time() - start < IDLE_SHARE * SETTLE_SECONDS:
            return


def timed(call: Callable[[], Any], number: int) -> float:
    """Return the seconds of a call, `number` calls in a row."""
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def seconds(call: Callable[[], Any], number: int, warm: bool = False) -> float:
    """Let the machine settle and time a side, wherever it runs.

    Examples
    --------
    >>> seconds(lambda: None, 10) < 1
    True
    """
    settle()
    if isinstance(call, TimesItself):
        return call.timed(number, warm)
    if warm:
        call()
    return timed(call, number)


def latencies(call: Callable[[], Any], number: int) -> list[float]:
    """Return the seconds of each of `number` calls, without what reading the clock takes.

    Examples
    --------
    >>> len(latencies(lambda: None, 5))
    5
    """
    if isinstance(call, TimesItself):
        return call.latencies(number)
    clock = time.perf_counter
    marks = [clock() for _ in range(201)]
    nothing = statistics.median(b - a for a, b in itertools.pairwise(marks))
    spent = []
    for _ in range(number):
        start = clock()
        call()
        spent.append(clock() - start)
    return [max(0.0, each - nothing) for each in spent]
