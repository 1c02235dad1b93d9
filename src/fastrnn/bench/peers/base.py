"""What a peer is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["Peer", "Prepared", "states"]

STEPS_CHECKED = 8


class Prepared(NamedTuple):
    """A case that is ready to be timed.

    Attributes
    ----------
    run : callable
        One training step, one inference, or one time step whose state is carried on to the next call: from the
        arguments to finished results, gradients fresh each time. Returns whatever the peer's users would have
        in their hands.
    arrays : callable
        Takes what `run` returned and gives NumPy arrays: `y`, `h_n`, for the LSTM `c_n`, and in training `dx`
        and the gradients under the names of the weights; for a time step `y` [B, H] alone. States are
        [num_layers·D, B, H]. Never timed.
    """

    run: Callable[[], Any]
    arrays: Callable[[Any], dict[str, NDArray[Any]]]

    def results(self, case: Case) -> dict[str, NDArray[Any]]:
        """Return what `run` computes, to be compared: for a time step, those of the first calls."""
        if case.mode != "step":
            return self.arrays(self.run())
        return {"y": np.stack([np.array(self.arrays(self.run())["y"]) for _ in range(STEPS_CHECKED)])}


class Peer(ABC):
    """Someone who can compute cases; a subclass sets `name` and `package` and says how.

    Nothing is imported before `prepare`. A peer's module needs NumPy and nothing of fastrnn but
    `fastrnn.bench.peers.base` and what is plain Python, for it may be loaded by another Python.
    """

    name: str
    title: str  # as its users write it
    package: str  # what to import; its distribution has the same name unless `distribution` says otherwise
    requires: tuple[str, ...] = ()  # to be imported besides
    distribution: str | None = None
    install: str | None = None  # what pip is told, unless it is the distribution
    modes: tuple[str, ...] = ("train", "infer", "step")
    ragged = False
    own_process = False  # its number of threads is fixed when its process begins

    def missing(self) -> str | None:
        """Return None, or one line that says why this peer can't be used here."""
        if all(importlib.util.find_spec(package) is not None for package in (self.package, *self.requires)):
            return None
        return f"{self.name} is not installed (pip install {self.install or self.distribution or self.package})"

    def version(self) -> str | None:
        """Return the installed version without importing anything, None if there is none."""
        try:
            return importlib.metadata.version(self.distribution or self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def declines(self, case: Case) -> str | None:
        """Return None, or one line that says why this peer doesn't run `case`."""
        if case.mode not in self.modes:
            return f"{self.name} is not measured in mode {case.mode}"
        if case.lengths is not None and not self.ragged:
            return f"{self.name} is not measured with lengths"
        return None

    def environment(self, threads: int) -> dict[str, str]:
        """Return environment variables for a process of its own."""
        return {}

    @abstractmethod
    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        """Copy the weights, use `threads` threads from now on, and return what to time."""


def states(state_n: Any) -> dict[str, Any]:
    """The final state under its names."""
    return dict(zip(("h_n", "c_n"), state_n if isinstance(state_n, (tuple, list)) else (state_n,), strict=False))
