"""What runs: version, instruction set, threads, caches."""

from __future__ import annotations

from typing import Any

from fastrnn import _core

__version__ = "0.1.0"


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
