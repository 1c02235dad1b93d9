"""What a peer is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["Peer", "Prepared"]


class Prepared(NamedTuple):
    """A case that is ready to be timed.

    Attributes
    ----------
    run : callable
        One training step or one inference, from the arguments to finished results; gradients fresh each time.
        Returns whatever the peer's users would have in their hands.
    arrays : callable
        Takes what `run` returned and gives NumPy arrays: `y`, `h_n`, for the LSTM `c_n`, and in training `dx`
        and the gradients under the names of the weights. States are [num_layers·D, B, H]. Never timed.
    """

    run: Callable[[], Any]
    arrays: Callable[[Any], dict[str, NDArray[Any]]]


class Peer(ABC):
    """Someone who can compute cases; a subclass sets `name` and `package` and says how.

    Nothing is imported before `prepare`.
    """

    name: str
    package: str  # what to import; its distribution has the same name unless `distribution` says otherwise
    distribution: str | None = None

    def missing(self) -> str | None:
        """Return None, or one line that says why this peer can't be used here."""
        if importlib.util.find_spec(self.package) is not None:
            return None
        return f"{self.name} is not installed (pip install {self.distribution or self.package})"

    def version(self) -> str | None:
        """Return the installed version without importing anything, None if there is none."""
        try:
            return importlib.metadata.version(self.distribution or self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def declines(self, case: Case) -> str | None:
        """Return None, or one line that says why this peer doesn't run `case`."""
        return None

    @abstractmethod
    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        """Copy the weights, use `threads` threads from now on, and return what to time."""
