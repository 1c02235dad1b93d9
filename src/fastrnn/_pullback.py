"""The function that `vjp` returns beside its outputs: it owns what was saved, and runs once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrnn import _check


class Pullback:
    """Run `run` once, then drop it together with everything that it holds.

    Parameters
    ----------
    run : callable
        Takes the gradients of the outputs, returns the gradients of the inputs. It may destroy what it
        saved, unless `retain` is true.
    owner : str
        Named in the error of a second call.
    retain : bool or None
        Allow more calls; `run` must then leave what it saved as it was. None: no, and the owner can't be asked to.

    Notes
    -----
    An argument that `run` refuses (`TypeError`, `ValueError`) does not use the pullback up: arguments are
    checked before anything is written, so the caller can correct them and call again.
    """

    __slots__ = ("_owner", "_retain", "_saved")

    def __init__(self, run: Callable[..., Any], owner: str, retain: bool | None = False) -> None:
        self._saved = [run]
        self._owner = owner
        self._retain = retain

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            # list.pop is atomic, so of two threads that call at once exactly one runs.
            run = self._saved[0] if self._retain else self._saved.pop()
        except IndexError:
            raise RuntimeError(_check.pullback_spent(self._owner, self._retain is not None)) from None
        try:
            return run(*args, **kwargs)
        except (TypeError, ValueError):
            if not self._retain:
                self._saved.append(run)
            raise

    def __repr__(self) -> str:
        left = "ready" if self._saved else "spent"
        return f"<pullback of {self._owner}, {left}>"
