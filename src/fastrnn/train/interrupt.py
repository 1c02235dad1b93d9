"""Ctrl-C during a run: the first one finishes the step, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from fastrnn.train.history import History

__all__ = ["CtrlC", "Interrupted"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed: the step was finished, and a checkpoint saved if the run has a folder for it.

    Attributes
    ----------
    history : History
        Of the run so far.

    Examples
    --------
    >>> import fastrnn as fr
    >>> try:
    ...     raise fr.Interrupted("stopped after 3 steps", fr.History())
    ... except KeyboardInterrupt as stop:
    ...     print(stop)
    stopped after 3 steps
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class CtrlC:
    """While active, the first Ctrl-C sets `pressed`, the second raises. Only where Python's own handler is in
    place."""

    def __init__(self) -> None:
        self.pressed = False
        self._active = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __enter__(self) -> CtrlC:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._active = True
        return self

    def __exit__(self, *exception: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)
