"""How many threads an estimator's work may use: `n_jobs`, and one in the workers of joblib."""

from __future__ import annotations

import multiprocessing
import operator
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from joblib.parallel import get_active_backend

from fastrnn import _info, _threads

__all__ = ["limited", "threads_of"]

# The number of threads is the process's. Estimators that work at the same time, in joblib's threads say, share the
# least number that one of them asked for, and the last one to end puts back what was there before the first.
_lock = threading.Lock()
_wanted: list[int] = []
_before = 1


@contextmanager
def limited(n_jobs: int | None) -> Iterator[None]:
    """Use as many threads as `n_jobs` says, and those of before again afterwards."""
    global _before
    threads = threads_of(n_jobs)
    if threads is None:
        yield
        return
    with _lock:
        if not _wanted:
            _before = _threads.get_num_threads()
        _threads.set_num_threads(min([threads, *_wanted]))  # before it is noted: the number may be refused
        _wanted.append(threads)
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(threads)
            _threads.set_num_threads(min(_wanted) if _wanted else _before)


def threads_of(n_jobs: Any) -> int | None:
    """The number of threads, or None for those that fastrnn has.

    None is all that fastrnn uses anyway (`fr.get_num_threads()`), but in a worker of joblib its share: joblib tells
    libraries in its processes by OMP_NUM_THREADS how many threads are theirs (CPUs over workers, or what the user set
    as `inner_max_num_threads`); its threads get one.
    """
    if n_jobs is None:
        backend = get_active_backend()[0]
        if not getattr(backend, "nesting_level", 0):
            return None
        share = os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]
        ours = multiprocessing.current_process().name.startswith("LokyProcess") and share.isdigit()
        return max(1, min(int(share) if ours else 1, _threads.get_num_threads()))
    try:
        if isinstance(n_jobs, bool):
            raise TypeError
        number = operator.index(n_jobs)
    except TypeError:
        raise TypeError(f"n_jobs: expected an integer or None, got {n_jobs!r}") from None
    if number == 0:
        raise ValueError("n_jobs: expected 1, 2, …, -1 for all CPUs, or None, got 0")
    cpus: int = _info.info()["cpus"]
    most: int = _threads._MAX_THREADS
    if number > most:
        raise ValueError(f"n_jobs: expected {most} threads at most, got {number}")
    return number if number > 0 else min(max(1, cpus + 1 + number), most)
