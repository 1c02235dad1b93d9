"""Learning-rate schedules: factors on the optimiser's learning rates.

A schedule is called with the number of steps taken and, where a run knows it, the share of the run that is
over, and returns a factor; ``fr.fit`` stores it in ``optimizer.lr_factor`` before each step. Without
``fit``::

    opt.lr_factor = schedule(step)

`progress` is what makes a schedule well defined when a run is limited by time: under ``fit(minutes=...)`` it
is elapsed time over the budget (time before a resume counts), under ``steps=`` and ``epochs=`` it is exact
counting, and with several limits the largest share.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["Constant", "Cosine", "Exponential", "Plateau", "Schedule", "Step"]


def _check(name: str, value: float, ok: bool, expected: str) -> None:
    if not ok:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


class Schedule:
    """Base of the schedules. Most have no state; `Plateau` has."""

    def __call__(self, step: int, progress: float | None = None) -> float:
        """Return the factor for the step after `step` steps, at `progress` in [0, 1] of the run."""
        raise NotImplementedError

    def update(self, loss: float) -> None:
        """Take note of a validation loss."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"type": type(self).__name__}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        if state.get("type") != type(self).__name__:
            raise ValueError(f"state: is of {state.get('type')!r}, expected {type(self).__name__!r}")


class Constant(Schedule):
    """The same factor always.

    Parameters
    ----------
    factor : float

    Examples
    --------
    >>> from fastrnn.train import schedules
    >>> schedules.Constant()(100)
    1.0
    """

    def __init__(self, factor: float = 1.0) -> None:
        _check("factor", factor, factor >= 0, "a number >= 0")
        self.factor = float(factor)

    def __call__(self, step: int, progress: float | None = None) -> float:
        return self.factor


class Step(Schedule):
    """Multiply by `gamma` each `every` steps.

    Parameters
    ----------
    every : int
    gamma : float

    Examples
    --------
    >>> from fastrnn.train import schedules
    >>> schedule = schedules.Step(every=10, gamma=0.5)
    >>> [schedule(step) for step in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, every: int, gamma: float = 0.1) -> None:
        _check("every", every, every >= 1, "a number of steps >= 1")
        _check("gamma", gamma, gamma > 0, "a number > 0")
        self.every, self.gamma = int(every), float(gamma)

    def __call__(self, step: int, progress: float | None = None) -> float:
        return float(self.gamma ** (step // self.every))


class Exponential(Schedule):
    """Multiply by `gamma` each step, or smoothly by `gamma` over `every` steps.

    Parameters
    ----------
    gamma : float
    every : int

    Examples
    --------
    >>> from fastrnn.train import schedules
    >>> schedules.Exponential(0.5, every=100)(200)
    0.25
    """

    def __init__(self, gamma: float, every: int = 1) -> None:
        _check("gamma", gamma, gamma > 0, "a number > 0")
        _check("every", every, every >= 1, "a number of steps >= 1")
        self.gamma, self.every = float(gamma), int(every)

    def __call__(self, step: int, progress: float | None = None) -> float:
        return float(self.gamma ** (step / self.every))


class Cosine(Schedule):
    """Rise linearly from 0 to 1, then fall to `final` along half a cosine (Loshchilov and Hutter, 2017).

    Parameters
    ----------
    total : int, optional
        Steps of the whole run. Without it the share of the run that ``fit`` reports is used.
    warmup : float or int
        Length of the rise: a share of the run if below 1, else a number of steps.
    final : float
        Factor at the end.

    Examples
    --------
    >>> from fastrnn.train import schedules
    >>> schedule = schedules.Cosine(total=100, warmup=10, final=0.1)
    >>> [round(schedule(step), 3) for step in (0, 4, 9, 55, 100)]
    [0.1, 0.5, 1.0, 0.55, 0.1]
    """

    def __init__(self, total: int | None = None, *, warmup: float = 0.0, final: float = 0.0) -> None:
        _check("total", total or 1, total is None or total >= 1, "a number of steps >= 1")
        _check("warmup", warmup, warmup >= 0, "a share of the run or a number of steps, >= 0")
        _check("final", final, final >= 0, "a number >= 0")
        if total is not None and warmup >= total and warmup >= 1:
            raise ValueError(f"warmup: expected fewer steps than total={total}, got {warmup!r}")
        self.total, self.warmup, self.final = total, warmup, float(final)

    def __call__(self, step: int, progress: float | None = None) -> float:
        if self.total is not None:
            progress = step / self.total
        elif progress is None:
            raise ValueError("progress: needed by Cosine() without total; pass Cosine(total=number_of_steps)")
        progress = min(max(progress, 0.0), 1.0)
        rise, start = 1.0, 0.0
        if self.warmup >= 1:  # in steps; the first step already moves
            rise = min(1.0, (step + 1) / self.warmup)
            # without `total`, what share of the run the warm-up took follows from what the steps so far took
            start = min(self.warmup * progress / step, 1.0) if step else 0.0
        elif self.warmup > 0:
            rise = min(1.0, progress / self.warmup)
            start = self.warmup
        fall = min(max((progress - start) / (1.0 - start), 0.0), 1.0) if start < 1 else 0.0
        return rise * (self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * fall)))


class Plateau(Schedule):
    """Multiply by `factor` when the validation loss hasn't improved for `patience` validations.

    Parameters
    ----------
    factor : float
        Multiplier, below 1.
    patience : int
        Validations without improvement that are tolerated.
    threshold : float
        An improvement is a loss below ``best - threshold·|best|``.
    minimum : float
        The factor never falls below this.

    Examples
    --------
    >>> from fastrnn.train import schedules
    >>> schedule = schedules.Plateau(factor=0.5, patience=1)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     schedule.update(loss)
    >>> schedule(step=0)
    0.5
    """

    def __init__(
        self, factor: float = 0.1, *, patience: int = 5, threshold: float = 1e-4, minimum: float = 0.0
    ) -> None:
        _check("factor", factor, 0 < factor < 1, "a number in (0, 1)")
        _check("patience", patience, patience >= 0, "a number >= 0")
        _check("threshold", threshold, threshold >= 0, "a number >= 0")
        self.factor, self.patience = float(factor), int(patience)
        self.threshold, self.minimum = float(threshold), float(minimum)
        self._current, self._best, self._bad = 1.0, math.inf, 0

    def __call__(self, step: int, progress: float | None = None) -> float:
        return self._current

    def update(self, loss: float) -> None:
        improved = self._best == math.inf or loss < self._best - self.threshold * abs(self._best)
        if improved and loss == loss:
            self._best, self._bad = float(loss), 0
            return
        self._bad += 1
        if self._bad > self.patience:
            self._current, self._bad = max(self._current * self.factor, self.minimum), 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "current": self._current, "best": self._best, "bad": self._bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._current, self._best = float(state["current"]), float(state["best"])
        self._bad = int(state["bad"])
