"""The figures that fastrnn must show, each with what is wanted, and how it is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastrnn.bench import layers, models, small
from fastrnn.bench.cases import Case, Shape
from fastrnn.bench.layers import Sides
from fastrnn.bench.measure import in_turn
from fastrnn.bench.peers import choose

__all__ = ["FIGURES", "Figure", "Outcome", "TimedFigure", "rows"]


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
    wanted : float
    form : str
        How to print a value, such as "{:.2f} x".
    at_least : bool
        Whether more is better.
    threads : int
        Threads of every side, unless told otherwise.
    """

    key: str
    text: str
    wanted: float
    form: str
    at_least: bool = True
    threads: int = 1

    def met(self, outcome: Outcome) -> bool | None:
        """Return whether the figure is as wanted, None if it wasn't measured."""
        if outcome.value is None:
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


@dataclass(frozen=True, kw_only=True)
class LayerFigure(TimedFigure):
    """A layer: its share of the FMA peak, or how many times faster than PyTorch it is."""

    case: Case
    share: bool = False

    def prepare(self, threads: int | None = None) -> Sides:
        return layers.prepare(self.case, ["fastrnn", "torch"], threads or self.threads)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        c = layers.compare(self.case, ["fastrnn", "torch"], threads=threads or self.threads, repeat=repeat)
        parts = [f"{s} {1e3 * c.turns.median(s):.3g} ms = {c.gflops(s):.0f} GFLOP/s" for s in c.turns.seconds]
        parts += [f"peak {(c.turns.peak or 0) / 1e9:.0f} GFLOP/s", *c.sides.skipped.values()]
        value, data = None, c.as_dict()
        data["share_of_peak"] = {s: c.turns.share(s, self.case.flops) for s in c.turns.seconds}
        if "torch" in c.turns.seconds:
            data["speedup"] = c.turns.speedup("fastrnn", over="torch")
            data["speedup_quartiles"] = c.turns.quartiles("fastrnn", over="torch")
        value = data["share_of_peak"]["fastrnn"] if self.share else data.get("speedup")
        return Outcome(value, ", ".join(parts), data)


@dataclass(frozen=True, kw_only=True)
class CharFigure(TimedFigure):
    """Whole training steps of the character model: how many times faster than PyTorch."""

    case: models.CharModel

    def prepare(self, threads: int | None = None) -> Sides:
        return models.prepare(self.case, threads=threads or self.threads)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        sides = self.prepare(threads)
        turns = in_turn(sides.runs, repeat=repeat, turn_seconds=0.2)
        rates = {side: self.case.chars / turns.median(side) for side in turns.seconds}
        parts = [f"{side} {rate:,.0f} chars/s" for side, rate in rates.items()] + list(sides.skipped.values())
        data = {"chars_per_second": rates, "threads": threads or self.threads, **turns.as_dict()}
        if "torch" in rates:
            data["speedup"] = turns.speedup("fastrnn", over="torch")
            data["speedup_quartiles"] = turns.quartiles("fastrnn", over="torch")
        return Outcome(data.get("speedup"), ", ".join(parts), data)


@dataclass(frozen=True)
class ImportFigure(TimedFigure):
    """Milliseconds of the import, beyond NumPy's."""

    def prepare(self, threads: int | None = None) -> Sides:
        peers, skipped = choose(["fastrnn", "torch"])
        return Sides({peer.name: partial(small.imported_once, peer.package) for peer in peers}, skipped)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        peers, skipped = choose(["fastrnn", "torch"])
        ms = {}
        for peer in peers:  # a peer that takes seconds needs few repetitions
            few = repeat if peer.name == "fastrnn" else min(repeat, 3)
            ms[peer.name] = 1e3 * small.import_seconds(peer.package, few)
        parts = [f"{name} {value:.1f} ms" for name, value in ms.items()] + list(skipped.values())
        return Outcome(ms["fastrnn"], ", ".join(parts), {"milliseconds": ms})


@dataclass(frozen=True)
class SizeFigure(Figure):
    """Megabytes (10⁶ bytes) of the installed package."""

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        peers, skipped = choose(["fastrnn", "torch"])
        mb = {peer.name: small.installed_bytes(peer.package) / 1e6 for peer in peers}
        parts = [f"{name} {value:.1f} MB" for name, value in mb.items()] + list(skipped.values())
        return Outcome(mb["fastrnn"], ", ".join(parts), {"megabytes": mb})


@dataclass(frozen=True)
class TrainFigure(Figure):
    """Held-out bits per character of ``fastrnn train`` after `minutes`."""

    minutes: float = 1.0

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        bits = small.train_bits(threads or self.threads, self.minutes)
        return Outcome(bits, f"{self.minutes:g} minutes, {threads or self.threads} threads", {"bits": bits})


_LARGE, _SMALL = Shape(128, 32, 256, 256), Shape(100, 1, 32, 32)
_SHARE, _TIMES, _MS, _MB, _BITS = "{:.1%}", "{:.2f} x", "{:.1f} ms", "{:.1f} MB", "{:.3f}"
_CHARS = "character model, {}: chars/s against PyTorch"
_ALL: tuple[Figure, ...] = (
    LayerFigure(
        "lstm",
        f"LSTM training, {_LARGE}: share of FMA peak",
        0.65,
        _SHARE,
        case=Case("lstm", _LARGE),
        share=True,
    ),
    LayerFigure("gru", f"GRU training, {_LARGE}: against PyTorch", 2.0, _TIMES, case=Case("gru", _LARGE)),
    LayerFigure("lstm-small", f"LSTM training, {_SMALL}: against PyTorch", 4.0, _TIMES, case=Case("lstm", _SMALL)),
    ImportFigure("import", "import fastrnn, beyond import numpy", 30.0, _MS, at_least=False),
    SizeFigure("size", "installed package", 6.0, _MB, at_least=False),
    TrainFigure("train", "fastrnn train: held-out bits per character", 2.2, _BITS, at_least=False, threads=2),
    CharFigure("char-lstm", _CHARS.format("LSTM"), 1.4, _TIMES, threads=2, case=models.CharModel("lstm")),
    CharFigure("char-gru", _CHARS.format("GRU"), 3.0, _TIMES, threads=2, case=models.CharModel("gru")),
)
FIGURES: dict[str, Figure] = {figure.key: figure for figure in _ALL}


def rows(outcomes: dict[str, Outcome]) -> list[list[str]]:
    """Return header and rows of the table of figures."""
    lines = [["figure", "measured", "wanted", "met", "detail"]]
    for key, outcome in outcomes.items():
        figure = FIGURES[key]
        value = "-" if outcome.value is None else figure.form.format(outcome.value)
        wanted = ("at least " if figure.at_least else "at most ") + figure.form.format(figure.wanted)
        met = {True: "yes", False: "NO", None: "-"}[figure.met(outcome)]
        lines.append([figure.text, value, wanted, met, outcome.detail])
    return lines
