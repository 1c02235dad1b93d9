"""Training by several processes: what a user gives, and how the processes talk.

Each process (rank) has the whole model and takes its rows of every batch; gradients are summed over the ranks, and
every rank takes the same optimiser step. `fr.fit(..., comm=)` documents the rules.

The communicator is mpi4py's, or anything with these of its methods: ``Get_rank``, ``Get_size``, ``bcast``,
``allgather``, ``Bcast``, ``Iallreduce``, with compression also ``Ialltoall`` and ``Iallgather``, and ``Abort``.
"""

from __future__ import annotations

import importlib.util
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from fastrnn import _check, _core

__all__ = ["Distributed", "DistributedError", "Group", "world"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
METHODS = ("Get_rank", "Get_size", "bcast", "allgather", "Bcast", "Iallreduce", "Abort")
# While it waits a rank looks without pause for so long, then lets others have the CPU, then sleeps in between. Two
# ranks on two cores are answered at once then; three on two cores don't stand in each other's way.
SPIN_SECONDS, YIELD_SECONDS, NAP_SECONDS = 0.0005, 0.02, 0.0002
# A rank that fails alone is heard at once, one that fails as rank 0 does leaves the word to it.
GRACE_SECONDS = 0.5


class DistributedError(RuntimeError):
    """The ranks of a run don't fit together. It is raised on all of them.

    Examples
    --------
    >>> import fastrnn as fr
    >>> issubclass(fr.train.DistributedError, RuntimeError)
    True
    """


def world() -> Any:
    """MPI.COMM_WORLD.

    Raises
    ------
    ImportError
        mpi4py is not installed, or it finds no MPI library.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise ImportError("training by several processes needs MPI: pip install 'fastrnn[mpi]'", name="mpi4py")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py finds no MPI library ({error}): pip install 'fastrnn[mpi]' brings one") from error
    return MPI.COMM_WORLD


class Distributed:
    """A communicator with options, for ``fr.fit(..., comm=)``. A communicator alone means the defaults.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        By default ``MPI.COMM_WORLD``.
    sharded : bool
        What `data` (and `validation`) mean. False: every rank iterates the same batches and takes its rows. True: each
        rank iterates batches of its own, whose union is the batch of a step; ranks whose data end earlier wait.
    shard : callable or dict, optional
        For batches whose rows can't be found: ``shard(batch, rank, size)`` returns the rank's part, or None if nothing
        is left for it; or the axes of the rows, such as ``{"x": 1, "target": 0}``.
    compression : "bf16", optional
        Send gradients as bfloat16 (sums are made in float32): half the bytes, 8 bits of mantissa.
    bucket_mb : float
        Gradients travel in buckets of about this size. The first ones leave while backward still runs.
    check_every : int
        Compare the ranks' weights, and the data that they see, each so many steps; also at the begin and the end.
    timeout : float
        Seconds after which a rank that waits for the others gives up.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.train import Distributed
    >>> comm = Distributed(compression="bf16")  # doctest: +SKIP
    >>> fr.fit(model, data, comm=comm, epochs=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        comm: Any = None,
        *,
        sharded: bool = False,
        shard: Callable[..., Any] | Mapping[str, int] | None = None,
        compression: str | None = None,
        bucket_mb: float = 1.0,
        check_every: int = 100,
        timeout: float = 1800.0,
    ) -> None:
        comm = world() if comm is None else comm
        missing = [name for name in METHODS if not callable(getattr(comm, name, None))]
        if isinstance(comm, type) or missing:
            raise TypeError(
                f"comm: expected a communicator such as mpi4py's MPI.COMM_WORLD, got {_check.describe(comm)}, "
                f"which has no {', '.join(missing) or 'instance'}"
            )
        if shard is not None and not callable(shard) and not isinstance(shard, Mapping):
            raise TypeError(f"shard: expected a function or a dict of axes, got {_check.describe(shard)}")
        if shard is not None and sharded:
            raise ValueError("shard: batches that are sharded already are not cut; give one of shard= and sharded=True")
        if isinstance(shard, Mapping) and not set(shard) <= {"x", "target", "lengths", "weight"}:
            raise ValueError(f"shard: expected axes of x, target, lengths, weight, got {sorted(shard)}")
        self.comm = comm
        self.sharded = _check.flag(sharded, "sharded")
        self.shard = shard
        if compression not in (None, "bf16"):
            raise ValueError(f'compression: expected None or "bf16", got {compression!r}')
        self.compression = compression
        self.bucket_bytes = int(_check.above_zero(bucket_mb, "bucket_mb") * 2**20)
        self.check_every = _check.positive_int(check_every, "check_every")
        self.timeout = _check.above_zero(timeout, "timeout")

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return int(self.comm.Get_rank())

    @property
    def size(self) -> int:
        """The number of processes."""
        return int(self.comm.Get_size())


class Group:
    """The ranks of one run: collective calls that keep listening to signals, and words on failures.

    Parameters
    ----------
    options : Distributed
    """

    def __init__(self, options: Distributed) -> None:
        self.options = options
        # A communicator of our own: what the user sends meanwhile doesn't meet what we send.
        self.comm = options.comm.Dup() if hasattr(options.comm, "Dup") else options.comm
        self.rank, self.size = options.rank, options.size
        self.idle: Callable[[], None] = lambda: None  # called while waiting

    @property
    def root(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.rank == 0

    def free(self) -> None:
        """Give the communicator back, on all ranks."""
        if self.comm is not self.options.comm and hasattr(self.comm, "Free"):
            self.comm.Free()

    # ---- talking -----------------------------------------------------------------------------------------

    def wait(self, request: Any) -> None:
        """Wait for a request; signals and `idle` are served meanwhile."""
        if request.Test():
            return
        begin = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - begin
            if waited > SPIN_SECONDS:
                time.sleep(0 if waited < YIELD_SECONDS else NAP_SECONDS)
                self.idle()
            if waited > self.options.timeout:
                raise TimeoutError(
                    f"no answer from the other ranks for {waited:.0f} s (timeout={self.options.timeout:g}); is one of "
                    "them gone, or much slower?"
                )

    def sum(self, numbers: Any) -> np.ndarray:
        """Add arrays of float64 up over the ranks."""
        mine = np.array(numbers, np.float64)
        if self.size == 1:
            return mine
        total = np.empty_like(mine)
        self.wait(self.comm.Iallreduce(mine, total))
        return total

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, on every rank."""
        return list(self.comm.allgather(value))

    def share(self, value: T) -> T:
        """Return rank 0's value."""
        shared: T = self.comm.bcast(value, root=0)
        return shared

    def on_root(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on rank 0 alone; what it returns or raises is so on all ranks."""
        outcome: Any = None
        if self.root:
            try:
                outcome = function(*args), None
            except Exception as error:
                outcome = None, _portable(error)
        result, raised = self.share(outcome)
        if raised is not None:
            raise together(raised)
        return result  # type: ignore[no-any-return]

    def all_do(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on all ranks; if one raises, all do."""
        result: Any = None
        mine: Exception | None = None
        try:
            result = function(*args)
        except Exception as error:
            mine = error
        failed = [r for r, text in enumerate(self.gather(None if mine is None else repr(mine))) if text is not None]
        if mine is not None:
            raise together(mine)
        if failed:
            raise together(
                DistributedError(f"{ranks(failed)} failed; see {'its' if len(failed) == 1 else 'their'} error")
            )
        return result  # type: ignore[no-any-return]

    def same(self, value: Any, message: str) -> None:
        """Raise on all ranks, and name them, if a value is not everywhere what it is on rank 0."""
        values = self.gather(value)
        others = [rank for rank, each in enumerate(values) if each != values[0]]
        if others:
            raise together(
                DistributedError(message.format(ranks=ranks(others), mine=values[0], theirs=values[others[0]]))
            )

    # ---- threads -----------------------------------------------------------------------------------------

    def threads(self) -> int | None:
        """How many threads this rank takes: its share of the CPUs that it may use together with other ranks here.

        None leaves the setting alone: somebody has chosen it, by FASTRNN_NUM_THREADS or in the program.
        """
        usual = _core.get_num_threads() == _core.default_threads()
        mine = _cpus() if usual and not os.environ.get("FASTRNN_NUM_THREADS") else None
        everyone = self.gather((_node(self), mine))
        if mine is None:
            return None
        here = [cpus for node, cpus in everyone if node == everyone[self.rank][0] and cpus is not None]
        share = math.floor(sum(1.0 / sum(cpu in cpus for cpus in here) for cpu in mine) + 1e-9)
        quota = _core.default_threads()  # of CPU time, where it is below the number of CPUs; the node's ranks share it
        return max(1, share if quota >= len(mine) else min(share, quota // len(here)))

    # ---- failing -----------------------------------------------------------------------------------------

    def fail(self, error: BaseException, advice: str = "", *, code: int | None = None) -> NoReturn:
        """End the run on all ranks after an error on this one; the others wait for it and can't be told otherwise.

        The exit code is 1, or 130 where somebody interrupted this rank.
        """
        if self.size > 1:
            import traceback

            if not self.root:
                time.sleep(GRACE_SECONDS)
            stopped = isinstance(error, KeyboardInterrupt)
            text = "" if stopped else "".join(traceback.format_exception(error))
            what = "was interrupted" if stopped else "failed"
            print(
                f"{text}rank {self.rank} of {self.size} {what}, so the run ends.{advice}", file=sys.stderr, flush=True
            )
            self.comm.Abort(code or (130 if stopped else 1))
        raise error


def _portable(error: Exception) -> Exception:
    """The error, or one with its words if it can't be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _node(group: Group) -> str:
    """A name for the machine that this rank runs on."""
    if hasattr(group.comm, "Split_type"):  # who shares memory
        from mpi4py import MPI

        node = group.comm.Split_type(MPI.COMM_TYPE_SHARED)
        first: int = node.bcast(group.rank, root=0)
        node.Free()
        return f"rank {first}'s"
    return "here"


def together(error: E) -> E:
    """Mark an error as one that all ranks raise."""
    error.on_all_ranks = True  # type: ignore[attr-defined]
    return error


def ranks(numbers: list[int]) -> str:
    """Name ranks.

    Examples
    --------
    >>> ranks([2]), ranks([0, 3])
    ('rank 2', 'ranks 0, 3')
    """
    shown = ", ".join(map(str, numbers[:8])) + (" …" if len(numbers) > 8 else "")
    return f"rank{'s' * (len(numbers) > 1)} {shown}"
