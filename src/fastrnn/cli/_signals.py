"""SIGTERM, which batch systems and containers send, ends a command as Ctrl-C does: training saves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Signals", "Terminated", "terminable"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, where nobody waits for Ctrl-C."""


class Signals:
    """What has come so far."""

    terminated = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Do what Ctrl-C would do."""
        self.terminated = True
        ctrl_c = signal.getsignal(signal.SIGINT)
        if ctrl_c is signal.default_int_handler or not callable(ctrl_c):
            raise Terminated
        ctrl_c(signum, frame)


@contextmanager
def terminable() -> Iterator[Signals]:
    """Meanwhile SIGTERM is as Ctrl-C; only where it would end the process at once, and in the main thread."""
    signals = Signals()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield signals
        return
    signal.signal(signal.SIGTERM, signals.handle)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
