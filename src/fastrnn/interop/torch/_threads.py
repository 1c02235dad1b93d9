"""PyTorch's threads: their number, and the threads themselves.

Note [one pool]: threads of PyTorch's OpenMP library spin for some 8 ms after each of PyTorch's operations, and threads
of our own would have to share their CPUs: a training step of a language model on two CPUs took a fifth longer. So calls
from here run on PyTorch's own threads, where its OpenMP library can be asked for them (by GNU's entry point, which
LLVM's and Intel's have too); elsewhere, and after a fork, which OpenMP's threads don't survive, on ours. The bits are
the same.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType

import torch

from fastrnn import _core

_LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib")


def borrow() -> bool:
    """Run on the threads of PyTorch's OpenMP library from now on; whether that can be had."""
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return False
    found = [path for name in _LIBRARIES if (path := Path(torch.__file__).parent / "lib" / name).exists()]
    try:
        library = ctypes.CDLL(str(found[0]))  # loaded already; looked up in what it depends on, too
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names]
    except (IndexError, OSError, AttributeError):
        return False
    return _core.borrow_threads(*addresses)


class Threads:
    """Within it fastrnn uses as many threads as PyTorch would, in this thread of the program alone."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _core.set_own_threads(torch.get_num_threads())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core.set_own_threads(self._before)
