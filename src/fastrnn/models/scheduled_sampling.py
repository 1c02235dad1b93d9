"""ScheduledSampling: how often a decoder reads its own tokens in training, step by step more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.models._parts import Buffers

SHAPES = {"linear": "linear", "exponential": "exponential", "inverse_sigmoid": "inverse_sigmoid"}


class ScheduledSampling(Buffers):
    """The probability of reading the decoder's own token, which rises from 0 in the course of the training.

    Bengio et al. 2015 give 1 − p, the probability of the true token, at training step i as

        linear:           1 − i/k
        exponential:      kⁱ
        inverse sigmoid:  k/(k + exp(i/k))

    The step counter is saved with the model, so that a run that is resumed goes on where it was. It counts `vjp`s.

    Parameters
    ----------
    shape : {"linear", "exponential", "inverse_sigmoid"}
    k : float
        For "linear" steps ≥ 1, for "exponential" 0 < k < 1, for "inverse_sigmoid" k ≥ 1.
    most : float
        p never rises above this.

    References
    ----------
    Bengio, Vinyals, Jaitly & Shazeer 2015, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
    section 2.4.

    Examples
    --------
    >>> import fastrnn as fr
    >>> sampling = fr.models.ScheduledSampling("linear", k=4, most=0.5)
    >>> for _ in range(4):
    ...     value, _ = sampling.vjp()
    ...     print(value)
    0.0
    0.25
    0.5
    0.5
    """

    def __init__(self, shape: str = "inverse_sigmoid", k: float = 1000.0, most: float = 1.0) -> None:
        super().__init__()
        self.shape = _check.choice(shape, SHAPES, "shape")
        self.k = _check.above_zero(k, "k")
        if (self.k >= 1) == (shape == "exponential"):
            raise ValueError(f"k: expected {'0 < k < 1' if shape == 'exponential' else 'k ≥ 1'}, got {k!r}")
        self.most = _check.fraction_or_one(most, "most")
        self._add_buffer("step", np.zeros(1))

    def __call__(self) -> float:
        """The probability at this step."""
        i = float(self._params["step"][0])
        if self.shape == "linear":
            true = max(1 - i / self.k, 0.0)
        elif self.shape == "exponential":
            true = self.k**i
        else:  # written so that no exponential is too large
            true = self.k * math.exp(-i / self.k) / (self.k * math.exp(-i / self.k) + 1)
        return min(1 - true, self.most)

    def vjp(self, *, input_grad: bool = True, retain: bool = False) -> tuple[float, Pullback]:
        """The probability at this step, which is counted, and a pullback that does nothing."""
        value = self()
        with self._lock:
            self._params["step"] += 1
        return value, Pullback(lambda *_: None, "ScheduledSampling", retain)

    def config(self) -> dict[str, Any]:
        return {"shape": self.shape, "k": self.k, "most": self.most}


def sampling_of(sampling: Any) -> float | ScheduledSampling:
    """A probability or a schedule, as models take it."""
    return sampling if isinstance(sampling, ScheduledSampling) else _check.fraction_or_one(sampling, "sampling")
