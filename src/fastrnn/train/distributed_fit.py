"""`fit` on all ranks of a communicator."""

from __future__ import annotations

from typing import Any

from fastrnn import _core
from fastrnn.train.distributed import Distributed, Group
from fastrnn.train.distributed_run import DistributedRun
from fastrnn.train.history import History

__all__ = ["fit_together"]


def fit_together(comm: Any, checked: Any, made: Any, resume: bool) -> History:
    """`fit` on all ranks, from its two parts: the checks, and the run that is made after them."""
    group = Group(comm if isinstance(comm, Distributed) else Distributed(comm))
    try:
        run = _agreed(group, checked, made, resume)
        before, threads = _core.get_num_threads(), group.threads()
    except BaseException as error:
        if group.size > 1 and not getattr(error, "on_all_ranks", False):  # Ctrl-C, say: the others wait for this one
            group.fail(error)
        group.free()
        raise
    if threads is not None:
        _core.set_num_threads(threads)
    try:
        return run.run()
    finally:
        _core.set_num_threads(before)
        group.free()


def _agreed(group: Group, checked: Any, made: Any, resume: bool) -> DistributedRun:
    """The run, the same on all ranks."""
    limits, keeper = group.all_do(checked)
    there = keeper is not None
    group.same(there, "checkpoint: given on some ranks only; {ranks} and rank 0 differ")
    found = group.on_root(keeper.found, resume) if there else False
    run: DistributedRun = group.all_do(lambda: made(DistributedRun, limits, keeper, group=group))
    if found:
        run.load(keeper)
    run.agree(bool(found))
    return run
