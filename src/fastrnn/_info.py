"""What runs: version, instruction set, threads, caches."""

from __future__ import annotations

import operator
from typing import Any

from fastrnn import _core

__version__ = "0.1.0.dev0"

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
    _core.set_num_threads(threads)


def get_num_threads() -> int:
    """Return how many threads every call may use: at first `FASTRNN_NUM_THREADS`, or the CPUs of this process.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def info() -> dict[str, Any]:
    """Return what runs on this machine.

    Returns
    -------
    dict
        `version`; `isa`, the instruction set in use, and `isas`, those that this CPU can run; `num_threads`, and
        `cpus` that this process may use; `caches`, bytes of workspace kept for the next calls.

    Examples
    --------
    >>> import fastrnn as fr
    >>> sorted(fr.info())
    ['caches', 'cpus', 'isa', 'isas', 'num_threads', 'version']
    """
    return {
        "version": __version__,
        "isa": _core.isa(),
        "isas": _core.isas(),
        "num_threads": _core.get_num_threads(),
        "cpus": _core.default_threads(),
        "caches": {"workspace": _core.cached_bytes()},
    }
