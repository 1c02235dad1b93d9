"""Figures of an import, an installation, and ``fastrnn train``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fastrnn.bench import small
from fastrnn.bench.figures.base import Figure, Outcome, TimedFigure
from fastrnn.bench.layers import Sides
from fastrnn.bench.peers import choose

__all__ = ["ImportFigure", "SizeFigure", "TrainFigure"]


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
