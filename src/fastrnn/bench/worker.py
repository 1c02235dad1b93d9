"""The process that runs a peer in another Python: ``python worker.py FD CPUS``, started by `fastrnn.bench.remote`.

That Python needs NumPy and the peer, but not fastrnn: the compiled core may not fit it. So this file makes
packages named `fastrnn`, `fastrnn.bench` and `fastrnn.bench.peers` that find their modules in the folders beside
it, without running their `__init__`. What a peer prints goes to standard error; the connection has a file of its
own.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["find_peer", "main"]


def _packages_without_core() -> None:
    bench = Path(__file__).resolve().parent
    for name, folder in (
        ("fastrnn", bench.parent),
        ("fastrnn.bench", bench),
        ("fastrnn.bench.peers", bench / "peers"),
    ):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def find_peer(module: str, file: str, name: str) -> Any:
    """Import the peer class `name`: a module of fastrnn by its name, any other from its file."""
    if not module.startswith("fastrnn."):
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None and spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[module] = found
        spec.loader.exec_module(found)
    else:
        found = importlib.import_module(module)
    return getattr(found, name)


def _end_with_parent() -> None:
    """Be killed when the process that started this one is: a stopped worker would never notice."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG, Linux


def _idle_cpus(number: int) -> None:
    """Stay on so many CPUs, the last ones: the first serves the machine's interrupts."""
    if number and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-number:])


class _Server:
    """What the connection may ask for: a method a message."""

    def __init__(self) -> None:
        self.peer: Any = None
        self.prepared: Any = None

    def load(self, module: str, file: str, name: str) -> str | None:
        self.peer = find_peer(module, file, name)()
        return self.peer.version()  # type: ignore[no-any-return]

    def prepare(self, case: Any, weights: Any, data: Any, threads: int) -> dict[str, Any]:
        import numpy as np

        self.prepared = None  # the last case's memory
        self.prepared = self.peer.prepare(case, weights, data, threads)
        arrays = {key: np.array(array) for key, array in self.prepared.results(case).items()}
        gc.collect()
        gc.freeze()  # what a framework has loaded needn't be searched between the turns
        return arrays

    def timed(self, number: int, warm: bool) -> Any:
        from fastrnn.bench import timing

        return self._quietly(lambda: timing.seconds(self.prepared.run, number, warm))

    def latencies(self, number: int) -> Any:
        from fastrnn.bench import timing

        return self._quietly(lambda: timing.latencies(self.prepared.run, number))

    def _quietly(self, measure: Callable[[], Any]) -> Any:
        """Measure without garbage collection, and come back when the threads of this process are idle."""
        from fastrnn.bench import timing

        gc.collect()
        gc.disable()
        try:
            return measure()
        finally:
            gc.enable()
            timing.settle()


def serve(connection: Connection) -> None:
    """Answer until the other side closes: (True, answer), or (False, what went wrong)."""
    server = _Server()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message, *arguments = connection.recv()
            try:
                answer = (True, getattr(server, message)(*arguments))
            except Exception as error:  # whatever a peer raises is the user's to read, over there
                traceback.print_exc()
                answer = (False, f"{type(error).__name__}: {error}")
            connection.send(answer)


def main() -> None:
    """Serve the connection that the arguments name."""
    os.dup2(2, 1)  # whatever is printed, by Python or not
    if sys.platform == "linux":
        _end_with_parent()
    _idle_cpus(int(sys.argv[2]))
    serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [part for part in sys.path if os.path.abspath(part or ".") != folder]  # it hides other modules
    _packages_without_core()
    main()
