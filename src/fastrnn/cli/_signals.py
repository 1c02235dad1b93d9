"""SIGTERM, which batch systems and containers send, ends what can be saved as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["terminable"]


@contextmanager
def terminable(args: Namespace) -> Iterator[Callable[[], bool]]:
    """Meanwhile SIGTERM is as Ctrl-C for commands with `saves=True`, in the main thread, and unless someone else
    handles it. Yields what tells whether it came."""
    main = threading.current_thread() is threading.main_thread()
    if not getattr(args, "saves", False) or not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield lambda: False
        return
    from fastrnn.train.interrupt import Termination

    termination = Termination()
    signal.signal(signal.SIGTERM, termination)
    try:
        yield lambda: termination.came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
