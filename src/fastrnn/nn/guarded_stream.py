"""Streams of users' cells that run uncompiled (``FASTRNN_JIT=numpy``)."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastrnn.nn._recurrent import Recurrent
from fastrnn.nn.stream import Stream


class GuardedStream(Stream):
    """A stream whose steps call Python's functions: what they raise comes out of `step` and `run`."""

    def _guarded(self, function: Any, *args: Any) -> Any:
        for member in self._members:
            if isinstance(member, Recurrent) and member._in_python:
                function = partial(member._guarded, function)
        return function(*args)

    def step(self, x: Any, out: Any = None) -> Any:
        """Move on by one time step; see `Stream.step`."""
        return self._guarded(super().step, x, out)

    def run(self, x: Any, out: Any = None) -> Any:
        """Move on by a block of time steps; see `Stream.run`."""
        return self._guarded(super().run, x, out)
