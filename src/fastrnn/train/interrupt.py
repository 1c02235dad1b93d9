"""Ctrl-C during a run: the first one finishes the step, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from fastrnn.train.history import History

__all__ = ["CtrlC", "Interrupted", "Termination"]


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


class Termination:
    """A handler that makes SIGTERM, which batch systems and containers send, as Ctrl-C: `CtrlC` takes it over, too.

    Attributes
    ----------
    came : bool
        Whether there was one.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


class CtrlC:
    """While active, the first Ctrl-C sets `pressed`, the second raises. Only where Python's own handler is in
    place; and so with SIGTERM, where that has a `Termination`.

    Parameters
    ----------
    *others : signal.Signals
        Further signals that set `pressed`, where nobody else handles them, and never raise.
    """

    def __init__(self, *others: signal.Signals) -> None:
        self.pressed = False
        self._others = others
        self._before: dict[int, Any] = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if isinstance(before := self._before[signum], Termination):
            before.came = True
        if self.pressed and signum not in self._others:
            raise KeyboardInterrupt
        self.pressed = True

    def _takes(self, number: int, before: Any) -> bool:
        """Whether a signal that has this handler is ours for now."""
        if isinstance(before, Termination):
            return True
        return bool(before == (signal.SIG_DFL if number in self._others else signal.default_int_handler))

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            for number in {signal.SIGINT, signal.SIGTERM, *self._others}:
                before = signal.getsignal(number)
                if self._takes(number, before):
                    self._before[number] = before
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
