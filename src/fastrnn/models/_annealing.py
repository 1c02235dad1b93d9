"""The weight of a KL term, which rises while a model learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.models._parts import Buffers

SHAPES = {"linear": "linear", "sigmoid": "sigmoid"}


class Annealing(Buffers):
    """A number that rises from 0 to 1 in `steps` training steps, and stays there.

    The step counter is saved with the model, so that a run that is resumed goes on where it was. It counts pullbacks.

    Parameters
    ----------
    steps : int
        0 means 1 from the beginning.
    shape : {"linear", "sigmoid"}
        t/steps; or the logistic curve of Bowman et al. 2016, scaled so that it goes from 0 to 1.

    Examples
    --------
    >>> weight = Annealing(2)
    >>> for _ in range(4):
    ...     value, pullback = weight.vjp()
    ...     pullback()
    ...     print(value)
    0.0
    0.5
    1.0
    1.0
    """

    def __init__(self, steps: int, shape: str = "linear") -> None:
        super().__init__()
        self.steps = _check.integer(steps, "annealing")
        if self.steps < 0:
            raise ValueError(f"annealing: expected a number of steps ≥ 0, got {self.steps}")
        self.shape = _check.choice(shape, SHAPES, "annealing_shape")
        self._add_buffer("step", np.zeros(1))

    def __call__(self) -> Any:
        """The weight at this step, an array without axes."""
        t = min(float(self._params["step"][0]) / self.steps, 1.0) if self.steps else 1.0
        if self.shape == "sigmoid" and 0 < t < 1:
            low, high, here = (1 / (1 + math.exp(-10 * (u - 0.5))) for u in (0.0, 1.0, t))
            t = (here - low) / (high - low)
        return np.asarray(t)

    def vjp(self, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """The weight, and a pullback that counts a step."""

        def run(_: Any = None) -> None:
            with self._lock:
                self._params["step"] += 1

        return self(), Pullback(run, "Annealing", retain)

    def config(self) -> dict[str, Any]:
        return {"steps": self.steps, "shape": self.shape}
