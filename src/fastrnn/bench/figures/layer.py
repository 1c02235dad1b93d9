"""Figures of layers and of whole models, beside PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import fastrnn
from fastrnn.bench import classifier, layers, models
from fastrnn.bench.cases import Case
from fastrnn.bench.figures.base import Figure, Outcome, TimedFigure, against
from fastrnn.bench.layers import Sides
from fastrnn.bench.measure import in_turn

__all__ = ["LayerFigure", "ModelFigure", "OverheadFigure", "PaddingFigure", "PullbackFigure", "StreamFigure"]


@dataclass(frozen=True, kw_only=True)
class LayerFigure(TimedFigure):
    """A layer: its share of the FMA peak, or how many times faster than PyTorch it is."""

    case: Case
    share: bool = False
    peers: tuple[str, ...] = ("fastrnn", "torch")

    def prepare(self, threads: int | None = None) -> Sides:
        return layers.prepare(self.case, self.peers, threads or self.threads)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        c = layers.compare(self.case, self.peers, threads=threads or self.threads, repeat=repeat, most_seconds=30.0)
        parts = [f"{s} {1e3 * c.turns.median(s):.3g} ms = {c.gflops(s):.0f} GFLOP/s" for s in c.turns.seconds]
        parts += [f"peak {(c.turns.peak or 0) / 1e9:.0f} GFLOP/s", *c.sides.skipped.values()]
        data = {**c.as_dict(), **against(c.turns, "torch")}
        data["share_of_peak"] = {s: c.turns.share(s, self.case.flops) for s in c.turns.seconds}
        value = data["share_of_peak"].get("fastrnn") if self.share else data.get("speedup")
        return Outcome(value, ", ".join(parts), data)


@dataclass(frozen=True, kw_only=True)
class ModelFigure(TimedFigure):
    """Whole training steps of a model: how many times faster than PyTorch with Adam as people write it, and, beside
    it, with the fused one."""

    case: models.CharModel | classifier.Classifier

    def prepare(self, threads: int | None = None) -> Sides:
        if isinstance(self.case, models.CharModel):
            return models.prepare(self.case, threads=threads or self.threads)
        return classifier.prepare(self.case, threads=threads or self.threads)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        sides = self.prepare(threads)
        turns = in_turn(sides.runs, repeat=repeat, turn_seconds=0.2)
        rates = {side: self.case.items / turns.median(side) for side in turns.seconds}
        parts = [f"{s} {1e3 * turns.median(s):.1f} ms, {r:,.0f} {self.case.unit}/s" for s, r in rates.items()]
        fused = against(turns, models.FUSED)
        if fused:
            parts.append(f"against {models.FUSED}: {fused['speedup']:.2f} x")
        parts += list(sides.skipped.values())
        data = {"rates": rates, "threads": threads or self.threads, **turns.as_dict(), **against(turns, "torch")}
        data["fused"] = fused
        return Outcome(data.get("speedup"), ", ".join(parts), data)


@dataclass(frozen=True, kw_only=True)
class PaddingFigure(TimedFigure):
    """What a real step of a ragged batch costs, over what a step of the same batch without lengths costs."""

    case: Case

    def prepare(self, threads: int | None = None) -> Sides:
        whole = replace(self.case, lengths=None)
        runs: dict[str, Callable[[], Any]] = {}
        for name, case in (("fastrnn", self.case), ("padded", whole)):
            runs[name] = layers.prepare(case, ["fastrnn"], threads or self.threads).runs["fastrnn"]
        return Sides(runs)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        sides = self.prepare(threads)
        turns = in_turn(sides.runs, repeat=repeat, turn_seconds=0.2)
        real, all_steps = sum(self.case.lengths or ()), self.case.shape.T * self.case.shape.B
        value = all_steps / real / turns.speedup("fastrnn", over="padded")
        ragged, padded = (1e3 * turns.median(side) for side in ("fastrnn", "padded"))
        detail = f"{real} steps in {ragged:.1f} ms, {all_steps} steps without lengths in {padded:.1f} ms"
        return Outcome(value, detail, {"real_steps": real, "all_steps": all_steps, **turns.as_dict()})


@dataclass(frozen=True, kw_only=True)
class OverheadFigure(TimedFigure):
    """Microseconds of a call that computes next to nothing."""

    case: Case

    def prepare(self, threads: int | None = None) -> Sides:
        return layers.prepare(self.case, ["fastrnn", "torch"], threads or self.threads)

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        single = 1000 if self.case.mode == "step" else 0
        sides = self.prepare(threads)
        turns = in_turn(sides.runs, repeat=repeat, single_calls=single)
        medians = {side: 1e6 * turns.median(side) for side in turns.seconds}
        parts = [f"{side} {value:.2f} µs" for side, value in medians.items()]
        for side, times in turns.percentiles.items():
            parts.append(f"{side} p50, p99, p99.9: " + ", ".join(f"{1e6 * t:.2f}" for t in times))
        parts += list(sides.skipped.values())
        return Outcome(medians.get("fastrnn"), ", ".join(parts), {"microseconds": medians, **turns.as_dict()})


class PullbackFigure(OverheadFigure):
    """The same for `vjp` and its pullback alone: gradients add up, nobody zeroes them."""

    def prepare(self, threads: int | None = None) -> Sides:
        layers.prepare(self.case, ["fastrnn", "torch"], threads or self.threads)  # right before it is fast
        kind: Any = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}[self.case.cell]
        layer = kind(*self.case.shape[2:], dtype=self.case.dtype, seed=0)
        x, dy = self.case.data()

        def run() -> Any:
            _, pullback = layer.vjp(x)
            return pullback(dy)

        return Sides({"fastrnn": run})


@dataclass(frozen=True, kw_only=True)
class StreamFigure(Figure):
    """Single time steps: the geometric mean of how many times faster than a peer fastrnn is."""

    cases: tuple[Case, ...]
    peer: str = "ort"

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        ratios, skipped = {}, {}
        for case in self.cases:
            c = layers.compare(case, ["fastrnn", self.peer], threads=threads or self.threads, repeat=repeat)
            skipped.update(c.sides.skipped)
            if found := against(c.turns, self.peer):
                ratios[str(case)] = found["speedup"]
        parts = [f"{case}: {ratio:.2f}" for case, ratio in ratios.items()] + list(skipped.values())
        value = statistics.geometric_mean(ratios.values()) if len(ratios) == len(self.cases) else None
        return Outcome(value, ", ".join(parts), {"speedups": ratios})
