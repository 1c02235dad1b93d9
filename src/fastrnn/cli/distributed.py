"""``--distributed``: a command that several processes run together, started by mpiexec."""

from __future__ import annotations

import contextlib
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from typing import TypeVar

import fastrnn
from fastrnn.cli._output import silent
from fastrnn.cli._parse import CliError
from fastrnn.train.distributed import Distributed, Group, world
from fastrnn.train.interrupt import Termination
from fastrnn.train.progress import plural

__all__ = ["Ranks", "spread"]

T = TypeVar("T")


class Ranks:
    """The processes that run a command; without ``--distributed`` this one alone.

    Attributes
    ----------
    comm : Distributed or None
        For `fr.fit`.
    root : bool
        Whether this is the process that writes and prints.
    """

    def __init__(self, comm: Distributed | None = None) -> None:
        self.comm = comm
        self._group = None if comm is None else Group(comm)
        self.root = self._group is None or self._group.root
        self.is_ready = self.bound = False

    def from_root(self, function: Callable[[], T]) -> T:
        """What a function returns on rank 0, or raises there, on all ranks."""
        return function() if self._group is None else self._group.on_root(function)

    def share_cpus(self) -> None:
        """Take this process's share of the CPUs, unless somebody chose a number of threads."""
        if self._group is not None and (threads := self._group.threads()) is not None:
            fastrnn.set_num_threads(threads)
            self.bound = True

    def ready(self, fingerprint: str) -> None:
        """Go on when all ranks are here, and read the same text."""
        if self._group is None:
            return
        self.is_ready = True
        for rank, (error, theirs) in enumerate(found := self._group.gather((None, fingerprint))):
            if error is not None:
                raise CliError(f"rank {rank}: {error}")
            if theirs != found[0][1]:
                raise CliError(f"--text: rank {rank} reads another text than rank 0")
        each = self._group.gather(fastrnn.get_num_threads())
        processes = "1 process" if len(each) == 1 else f"{len(each)} processes"
        print(f"distributed: {processes}, {plural(sum(each), 'thread')} in all", flush=True)
        if len(each) == 1:
            print("  more of them: mpiexec -n 2 fastrnn train --distributed", flush=True)
        cpus = os.cpu_count() or 1  # of which mpiexec gives one to each of two processes, by default
        if 1 < len(each) <= sum(each) <= cpus // 2 and self.bound:
            print(f"  this machine has {cpus} CPUs; mpiexec --bind-to none lets the processes share all of them")

    def failed(self, error: Exception) -> None:
        """Tell the other ranks, which may be ready already, that this one can't go on."""
        if self._group is not None and not self.is_ready:
            self.is_ready = True
            self._group.gather((str(error), ""))

    def end(self, error: BaseException) -> None:
        """End the other ranks after Ctrl-C or an error that nobody expected, unless `fr.fit` has done so."""
        if self._group is not None and not self.is_ready:
            told = signal.getsignal(signal.SIGTERM)
            self._group.fail(error, code=128 + signal.SIGTERM if isinstance(told, Termination) and told.came else None)


def spread(run: Callable[[Namespace, Ranks], int], args: Namespace) -> int:
    """Run a command here, or on all ranks. Rank 0 alone prints, and its exit code counts."""
    if not args.distributed:
        return run(args, Ranks())
    try:
        ranks = Ranks(Distributed(world()))
    except ImportError as error:
        raise CliError(f"--distributed: {error}") from None
    with contextlib.ExitStack() as stack:
        if not ranks.root:
            stack.enter_context(silent())
        try:
            return run(args, ranks)
        except CliError as error:
            ranks.failed(error)
            if ranks.root:
                raise
            return 0  # mpiexec would end rank 0, which has something to say, for any other code
        except KeyboardInterrupt as error:
            ranks.end(error)
            raise
        except Exception as error:
            if not getattr(error, "on_all_ranks", False):
                ranks.end(error)
            if ranks.root:
                raise
            return 0
