"""Peers in a Python of their own: a worker process prepares the case, runs it, and measures itself.

JAX, ONNX Runtime and TensorFlow don't all fit into one environment with PyTorch, and some of them fix their number
of threads when the process begins. ``use_python("jax", "/path/to/python")`` or the environment variable
``FASTRNN_BENCH_PYTHON_JAX`` says where a peer is installed. Times are taken in the worker, so the pipe costs
nothing; a worker that isn't asked is idle.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrnn.bench.peers.base import Peer, Prepared
from fastrnn.bench.timing import SideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["RemotePeer", "Worker", "close_workers", "python_of", "use_python"]

# The longest that compiling a case or a turn may take. A grid goes on without a peer that needs more.
TIMEOUT = 300.0
PROBE_TIMEOUT = 60.0  # to say what is installed
WORKER = Path(__file__).with_name("worker.py")
_PYTHONS: dict[str, str] = {}
_WORKERS: dict[tuple[str, str, int], Worker] = {}


def use_python(name: str, python: str | None) -> None:
    """Say which Python runs a peer; None for the environment variable's, or this one.

    Raises
    ------
    ValueError
        There is no such program.

    Examples
    --------
    >>> use_python("jax", sys.executable)
    >>> python_of("jax") == sys.executable
    True
    >>> use_python("jax", None)
    """
    _PYTHONS.pop(name, None)
    if python is not None:
        _PYTHONS[name] = _program(python, f"python: of {name}")


def python_of(name: str) -> str | None:
    """Return the Python that was chosen for a peer, None for this one."""
    variable = f"FASTRNN_BENCH_PYTHON_{name.upper()}"
    if name not in _PYTHONS and (chosen := os.environ.get(variable)):
        return _program(chosen, variable)
    return _PYTHONS.get(name)


def _program(path: str, what: str) -> str:
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        raise ValueError(f"{what}: expected a Python interpreter, got {path!r}")
    return os.path.abspath(found)


@functools.cache
def _probe(python: str, packages: tuple[str, ...], distribution: str) -> tuple[list[str], str | None] | str:
    """Packages that a Python can't import, and the version of a distribution there; or why it can't be used."""
    code = (
        "import importlib.util as u, importlib.metadata as m, json, sys\n"
        "packages, name = json.loads(sys.argv[1])\n"
        "try: version = m.version(name)\n"
        "except m.PackageNotFoundError: version = None\n"
        "print('\\n' + json.dumps([[p for p in packages if u.find_spec(p) is None], version]))"
    )
    command = [python, "-c", code, json.dumps([packages, distribution])]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            check=False,
            env=_environment(python),
        )
        if done.returncode:
            return f"{python} can't be used: {' '.join(done.stderr.split())[-300:]}"
        missing, version = json.loads(done.stdout.splitlines()[-1])
        return [str(package) for package in missing], version
    except (IndexError, TypeError, ValueError, subprocess.TimeoutExpired, OSError):
        return f"{python} is no Python"


def _environment(python: str) -> dict[str, str]:
    """This process's variables; another Python finds its packages by itself."""
    own = {} if python == sys.executable else {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"}
    return {name: value for name, value in os.environ.items() if name not in own}


class Worker:
    """A process that runs one peer with a number of threads.

    Parameters
    ----------
    peer : Peer
    python : str
        The interpreter.
    threads : int
        A peer whose threads are fixed is confined to so many CPUs from its beginning.

    Raises
    ------
    SideError
        From any method: the process has died, didn't answer in time, or its peer raised.
    """

    def __init__(self, peer: Peer, python: str, threads: int) -> None:
        self.name = peer.name
        self.preparation = 0  # number of the case that is prepared over there
        self._output = tempfile.TemporaryFile()  # not a pipe, which could fill up  # noqa: SIM115
        self._connection, theirs = Pipe()
        cpus = threads if peer.own_process else 0
        with theirs:
            self._process = subprocess.Popen(
                [python, str(WORKER), str(theirs.fileno()), str(cpus)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
                env={**_environment(python), **peer.environment(threads)},
                start_new_session=True,  # Ctrl-C is for the process that was started by hand
            )
        kind = type(peer)
        try:
            self.version = self.ask("load", kind.__module__, inspect.getfile(kind), kind.__qualname__)
        except SideError:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._connection.closed

    def ask(self, message: str, *arguments: Any) -> Any:
        """Send a message and wait for the answer."""
        if not self.alive:
            raise SideError(f"{self.name}: its process has ended")
        self.preparation += message == "prepare"
        try:
            self._signal("SIGCONT")
            self._connection.send((message, *arguments))
            if not self._connection.poll(TIMEOUT):
                raise SideError(f"{self.name}: no answer within {TIMEOUT:g} seconds")
            fine, answer = self._connection.recv()
            self._signal("SIGSTOP")
        except (EOFError, OSError):
            raise self._died() from None
        except BaseException:  # interrupted too: an answer that comes later would be taken for another's
            self.close()
            raise
        if not fine:
            raise SideError(f"{self.name}: {answer}")
        return answer

    def _signal(self, name: str) -> None:
        """Let the process run, or stop it, where the system can."""
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _died(self) -> SideError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        self._output.seek(0)
        last = self._output.read().decode(errors="replace").strip().splitlines()[-1:]
        self.close()
        how = "" if code is None else f" with signal {-code}" if code < 0 else f" with exit code {code}"
        return SideError(": ".join([f"{self.name}: its process died{how}", *last]))

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._signal("SIGCONT")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # it ends by itself, unless it is computing
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.close()


def close_workers() -> None:
    """End all worker processes; the next case starts its own."""
    while _WORKERS:
        _WORKERS.popitem()[1].close()


atexit.register(close_workers)


class RemoteRun:
    """What a worker has prepared last, timed there; it keeps one case only."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._preparation = worker, worker.preparation

    def _ask(self, message: str, *arguments: Any) -> Any:
        if self._worker.preparation != self._preparation:
            raise SideError(f"{self._worker.name}: another case has been prepared since")
        return self._worker.ask(message, *arguments)

    def __call__(self) -> None:
        self._ask("timed", 1, False)

    def timed(self, number: int, warm: bool) -> float:
        return float(self._ask("timed", number, warm))

    def latencies(self, number: int) -> list[float]:
        return list(self._ask("latencies", number))


class RemotePrepared(Prepared):
    """A case prepared in a worker, and the results that it sent."""

    def results(self, case: Case) -> dict[str, NDArray[Any]]:
        return self.arrays(None)


class RemotePeer(Peer):
    """A peer that runs in a worker process.

    Parameters
    ----------
    peer : Peer
        It is imported again over there.
    python : str, optional
        The interpreter; this one by default.
    """

    def __init__(self, peer: Peer, python: str | None = None) -> None:
        self.peer, self.python = peer, python or sys.executable
        self.name, self.title, self.package = peer.name, peer.title, peer.package

    def _probed(self) -> tuple[list[str], str | None]:
        peer = self.peer
        probed = _probe(self.python, (peer.package, *peer.requires), peer.distribution or peer.package)
        if isinstance(probed, str):
            raise SideError(probed)
        return probed

    def missing(self) -> str | None:
        try:
            missing, _ = self._probed()
        except SideError as error:
            return f"{self.name}: {error}"
        return f"{self.name} is not installed in {self.python} (it has no {', '.join(missing)})" if missing else None

    def version(self) -> str | None:
        try:
            return self._probed()[1]
        except SideError:
            return None

    def declines(self, case: Case) -> str | None:
        return self.peer.declines(case)

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        key = (self.name, self.python, threads)
        worker = _WORKERS.get(key)
        if worker is None or not worker.alive:
            worker = _WORKERS[key] = Worker(self.peer, self.python, threads)
        results = worker.ask("prepare", case, dict(weights), data, threads)
        return RemotePrepared(RemoteRun(worker), lambda _: results)
