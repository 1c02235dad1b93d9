"""What a figure is, and what was measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from fastrnn.bench.layers import Sides
from fastrnn.bench.measure import Turns

__all__ = ["BITS", "COUNT", "MB", "MS", "SHARE", "TIMES", "US", "Figure", "Outcome", "TimedFigure", "against"]

# How values are printed.
SHARE, TIMES, MS, US, MB, BITS, COUNT = "{:.1%}", "{:.2f} x", "{:.1f} ms", "{:.2f} µs", "{:.1f} MB", "{:.3f}", "{:.0f}"


@dataclass(frozen=True)
class Outcome:
    """What was measured: a number (None if it couldn't be), a line about it, all of it for a JSON file."""

    value: float | None
    detail: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure(ABC):
    """One figure.

    Attributes
    ----------
    key : str
        Short name.
    text : str
        What is measured.
    wanted : float or None
    form : str
        How to print a value, such as "{:.2f} x".
    at_least : bool
        Whether more is better.
    threads : int
        Threads of every side, unless told otherwise.
    slow : bool
        Whether it takes so long that it is measured only when it is named.
    """

    key: str
    text: str
    wanted: float | None
    form: str
    at_least: bool = True
    threads: int = 1
    slow: bool = False

    def met(self, outcome: Outcome) -> bool | None:
        """Return whether the figure is as wanted, None if it wasn't measured or nothing is wanted."""
        if outcome.value is None or self.wanted is None:
            return None
        return outcome.value >= self.wanted if self.at_least else outcome.value <= self.wanted

    @abstractmethod
    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        """Measure, the sides in turn."""


class TimedFigure(Figure):
    """A figure made of times."""

    @abstractmethod
    def prepare(self, threads: int | None = None) -> Sides:
        """Return what can be timed by itself, each side checked against the first."""


def against(turns: Turns, peer: str) -> dict[str, Any]:
    """Return how many times faster fastrnn is than `peer`, if both were timed, for an outcome's data.

    Examples
    --------
    >>> against(Turns({"fastrnn": [1.0], "torch": [3.0]}), "torch")
    {'speedup': 3.0, 'speedup_quartiles': (3.0, 3.0)}
    """
    if not {"fastrnn", peer} <= set(turns.seconds):
        return {}
    quartiles = turns.quartiles("fastrnn", over=peer)
    return {"speedup": turns.speedup("fastrnn", over=peer), "speedup_quartiles": quartiles}
