"""Ctrl-C during a run: the first one finishes the step, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

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
    place.

    Parameters
    ----------
    *others : signal.Signals
        Further signals that set `pressed`, where nobody else handles them.
    """

    def __init__(self, *others: signal.Signals) -> None:
        self.pressed = False
        self._usual: dict[signal.Signals, Any] = {
            signal.SIGINT: signal.default_int_handler,
            **dict.fromkeys(others, signal.SIG_DFL),
        }
        self._active: list[signal.Signals] = []

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.pressed and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.pressed = True

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            for number, usual in self._usual.items():
                if signal.getsignal(number) == usual:
                    signal.signal(number, self._handle)
                    self._active.append(number)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in self._active:
            signal.signal(number, self._usual[number])
