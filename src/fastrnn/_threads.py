"""How many threads calls use: the setting, where it begins, and workers of pools of processes.

Many processes side by side, each with threads for all CPUs, are slower than with one thread each. So a process that
others run beside begins with what it was told: `OMP_NUM_THREADS`, which batch systems and joblib's workers set, or one
thread in a worker of `multiprocessing.Pool` or `concurrent.futures.ProcessPoolExecutor`. Results are bitwise the same.
"""

from __future__ import annotations

import importlib
import operator
import os
import sys
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from fastrnn import _core

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_MAX_THREADS = 256  # kMaxThreads of csrc/pool.cpp, which would take a greater number for this one in silence


def set_num_threads(n: int) -> None:
    """Set how many threads every call may use; a call takes fewer when it has too little to do.

    Parameters
    ----------
    n : int
        1 to 256, the most that the pool has. An explicit number is taken as it is, even above the number of CPUs.

    Raises
    ------
    TypeError, ValueError
        `n` is no integer, or not one from 1 to 256.

    Examples
    --------
    >>> import fastrnn as fr
    >>> before = fr.get_num_threads()
    >>> fr.set_num_threads(1)
    >>> fr.get_num_threads()
    1
    >>> fr.set_num_threads(before)
    """
    try:
        if isinstance(n, bool):
            raise TypeError
        threads = operator.index(n)
    except TypeError:
        raise TypeError(f"n: expected an integer, got {n!r}") from None
    if not 1 <= threads <= _MAX_THREADS:
        raise ValueError(f"n: expected 1 to {_MAX_THREADS} threads, got {threads}")
    global _told
    _told = True
    _core.set_num_threads(threads)


def get_num_threads() -> int:
    """Return how many threads every call may use.

    At first that is `FASTRNN_NUM_THREADS`; or as many as this process has CPUs, but no more than `OMP_NUM_THREADS`; or
    one in a worker of a pool of processes. See `docs/interop/threads.md`.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


_told = False  # whether this process or the one that it was forked from was told a number


def _positive(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _begin() -> None:
    """Set the number that this process begins with."""
    global _told
    cpus = _core.default_threads()
    ours = os.environ.get("FASTRNN_NUM_THREADS")
    if ours:
        number = _positive(ours)
        if number is None:
            raise ValueError(f"FASTRNN_NUM_THREADS: expected an integer of at least 1, got {ours!r}")
        _told = True
        _core.set_num_threads(min(number, _MAX_THREADS))
        return
    # OpenMP's variable has a number for each level of nesting. What is wrong with it is OpenMP's to say.
    openmp = _positive(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip())
    _told = openmp is not None
    _core.set_num_threads(min(openmp or cpus, cpus))


# ---- workers of pools of processes

_process: weakref.ref[Any] | None = None  # multiprocessing's object of this process


def _in_process(*_: object) -> None:
    """Begin with one thread in a worker, unless a number was told; and again in a child of this process.

    However a child is started, it knows what it is when its own object takes the place of the one that stood there
    before, which is gone then.
    """
    global _process
    module = sys.modules.get("multiprocessing.process")
    current = module.current_process() if module is not None else None
    if current is None:  # nobody has imported it, or Python is ending
        return
    _process = weakref.ref(current, _in_process)
    # ProcessPoolExecutor's workers are no daemons
    target = getattr(current, "_target", None)
    if not _told and (current.daemon or getattr(target, "__module__", None) == "concurrent.futures.process"):
        _core.set_num_threads(1)


# ---- threadpoolctl


class _Loader:
    """threadpoolctl's loader, followed by what makes fastrnn known to it."""

    def __init__(self, loader: Any):
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the loader makes."""
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then register fastrnn's controller."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        _register()


class _Finder:
    """On the import system's list until threadpoolctl is imported, for which it waits; finds nothing itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, with a loader that goes on to register the controller."""
        if name != "threadpoolctl":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


_finder = _Finder()


def _register() -> None:
    try:
        importlib.import_module("fastrnn.interop.threads")
    except ImportError as error:  # one that is too old
        warnings.warn(str(error), ImportWarning, stacklevel=2)


def _meet_threadpoolctl() -> None:
    """Register fastrnn's controller, now or when threadpoolctl is imported."""
    sys.meta_path.insert(0, _finder)
    runs = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)  # python -m threadpoolctl
    if "threadpoolctl" in (*sys.modules, runs):
        sys.meta_path.remove(_finder)
        _register()


_begin()
_in_process()
if hasattr(os, "register_at_fork"):  # multiprocessing may be imported later, but before it forks
    os.register_at_fork(after_in_child=_in_process)
