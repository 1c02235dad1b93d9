"""A training run of several processes that decide everything alike.

Before each step the ranks tell each other whether they have a batch, whether anybody asked them to stop, and rank 0's
clock, so that limits, schedules, checkpoints and stops come at the same step everywhere.
"""

from __future__ import annotations

import hashlib
import math
import signal
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np

from fastrnn.nn.losses import divisions
from fastrnn.train.arrays import named_arrays
from fastrnn.train.checkpoint import Checkpoint
from fastrnn.train.data import Batch
from fastrnn.train.distributed import DistributedError, Group, ranks, together
from fastrnn.train.distributed_reduce import Reducer
from fastrnn.train.distributed_shards import Shards, fingerprint, joined, parted
from fastrnn.train.history import History
from fastrnn.train.interrupt import CtrlC, Interrupted
from fastrnn.train.objective import Result, as_batch, sizes
from fastrnn.train.run import END, Run, state_of

__all__ = ["DistributedRun"]

# What an item of the data is on a rank that has none, while others have.
NOTHING = Batch(None)
# Seconds that rank 0 waits for the others after SIGTERM before it saves alone; after 0.25 mpiexec kills.
LAST_SECONDS = 0.1
RELATIVE = 1e-9  # of numbers that are equal but for rounding


class _Signals(CtrlC):
    """SIGTERM ends a run as Ctrl-C does, and SIGUSR1, which mpiexec hands on. When it kills, SIGCONT comes first."""

    def __init__(self) -> None:
        super().__init__(
            *(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGCONT") if hasattr(signal, name))
        )
        self.killed_at: float | None = None
        self._announced = -math.inf

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if signum == getattr(signal, "SIGCONT", None):
            self._announced = now
            return
        super()._handle(signum, frame)
        if signum == signal.SIGTERM and now - self._announced < 1.0:
            self.killed_at = now


class DistributedRun(Run):
    """A `Run` on each rank of a group; `fit` documents the parameters."""

    def __init__(self, *args: Any, group: Group, **options: Any) -> None:
        super().__init__(*args, **options)
        self.group, self.options = group, group.options
        if not group.root:
            self.progress = None
        self.shards = Shards(
            self.model, self.options.shard, rank=group.rank, size=group.size, carried=self.objective.carry_state
        )
        self.reducer = Reducer(self.model, group)
        self._now = 0.0
        self._stop = self._save_now = self._exhausted = self._warned = False
        self._told: _Signals | None = None
        self._saved_step: int | None = None
        self._stable: dict[str, Any] | None = None  # what rank 0 needs to save the state before the step, alone

    # ---- the same on all ranks -----------------------------------------------------------------------------

    def agree(self, loaded: bool) -> None:
        """Begin with rank 0's weights, optimiser and random numbers; raise where ranks were told different things."""
        group = self.group
        arrays = named_arrays(self.model)
        shapes = [(name, param.shape, param.dtype.str) for name, (param, _) in arrays.items()]
        group.same(_digest(repr(shapes)), "the model of {ranks} has other parameters than rank 0's")
        if self.options.sharded:  # the longest counts
            lengths = group.gather(self.batches)
            self.batches = None if None in lengths else max(n for n in lengths if n is not None)
        group.same(self.batches, "data: {theirs} batches on {ranks}, {mine} on rank 0")
        told = repr((self.optimizer, self.limits, self.validate_every, self.clip_norm, self.clip_value, self.patience))
        told += repr((type(self.schedule).__name__, self.objective.carry_state, self.validation is None))
        options = [(name, value) for name, value in vars(self.options).items() if name not in ("comm", "shard")]
        group.same(told, "{ranks} got other arguments than rank 0: {theirs} instead of {mine}")
        group.same(repr(options), "{ranks} got other options in comm= than rank 0: {theirs} instead of {mine}")
        if not loaded:
            for param, _ in arrays.values():
                group.comm.Bcast(param, root=0)
            if group.share(self.optimizer.steps):
                self.optimizer.load_state_dict(group.share(self.optimizer.state_dict()))
            self.rng.bit_generator.state = group.share(self.rng.bit_generator.state)
        self._now = group.share(self.seconds_before)
        self.verify()

    def verify(self) -> None:
        """Raise on all ranks if the weights aren't bit for bit the same."""
        total = hashlib.blake2b(digest_size=16)
        for param, _ in named_arrays(self.model).values():
            total.update(np.ascontiguousarray(param).data.cast("B") if param.size else b"")
        self.group.same(
            total.digest(),
            f"after step {self.step} the weights of {{ranks}} differ from rank 0's: something changed them, or "
            "computes otherwise there",
        )

    @property
    def seconds(self) -> float:
        """Seconds of training by rank 0's clock, when the ranks last spoke."""
        return self._now

    def _clock(self) -> float:
        return self.seconds_before + time.monotonic() - self._start

    def _pressed(self) -> bool:
        return self._told is not None and self._told.pressed

    def _control(self, have: bool, shape: int = 0) -> tuple[int, bool]:
        """Tell and hear what there is to decide: return how many ranks have a batch, and whether of the same shape."""
        root = self.group.root
        due = root and time.monotonic() - self._saved_at >= self.checkpoint_seconds
        mine = [have, self._pressed(), due, self._clock() if root else 0.0, shape, shape * shape, self.step * root]
        count, stop, due, now, total, squares, step = self.group.sum(mine)
        if step != self.step:
            raise DistributedError(f"rank {self.group.rank} is at step {self.step}, rank 0 at step {step:.0f}")
        self._stop, self._save_now, self._now = stop > 0, due > 0, float(now)
        return int(count), total * total == squares * self.group.size

    # ---- the loop ------------------------------------------------------------------------------------------

    def run(self) -> History:
        self._start = time.monotonic()
        try:
            with self.reducer:
                history = super().run()
            self.verify()
            return history
        except BaseException as error:
            if getattr(error, "on_all_ranks", False) or self.group.size == 1:
                raise
            self.group.fail(error, self._advice())
        finally:
            self.group.idle = lambda: None

    def _signals(self) -> CtrlC:
        self._told = _Signals()
        self.group.idle = self._while_waiting
        return self._told

    def _stopped(self, ctrl_c: CtrlC) -> bool:
        return self._stop

    def _due(self) -> bool:
        return self._save_now

    def _open(self) -> Iterator[Any]:
        return iter(()) if self._exhausted else super()._open()

    def _next(self, batches: Iterator[Any]) -> Any:
        self._remember()
        item = super()._next(batches)
        if item is not END:
            item = as_batch(item)
        sharded = self.options.sharded
        count, same = self._control(item is not END, 0 if item is END or sharded else _shape_number(item))
        if count == 0:
            self._exhausted = False
            return END
        if count < self.group.size and not sharded:
            raise self._uneven(item is not END)
        if item is END:
            self._exhausted = True
            return NOTHING
        if not sharded and (not same or self.step % self.options.check_every == 0):
            self.group.same(
                fingerprint(item),
                "data: {ranks} got another batch than rank 0. Each rank must iterate the same batches (with a fixed "
                "seed, if they are shuffled), of which it takes its rows; data that differ by rank need "
                "comm=fr.train.Distributed(comm, sharded=True)",
            )
        if self.step and self.step % self.options.check_every == 0:
            self.verify()
        return item

    def _uneven(self, have: bool) -> Exception:
        ended = [rank for rank, more in enumerate(self.group.gather(have)) if not more]
        return together(
            DistributedError(
                f"data: ended after {self.position} batches on {ranks(ended)} and not on the others; each rank must "
                "iterate the same batches, or, with comm=fr.train.Distributed(comm, sharded=True), its own"
            )
        )

    def _gradients(self, batch: Batch, seed: int) -> Result:
        part = self._part(batch)
        known = 0.0 if part is None else sizes(part)[1]
        with divisions() as found:
            self.reducer.begin(lambda: found[0] if found else known)
            result = Result(0.0, self.state, 0.0, 0.0)
            if part is not None:
                result = self.objective(part, self.state, _seed_of(seed, self.group.rank), train=True)
        weight = 0.0 if part is None else found[0] if found else known
        ratio = _ratio(found) if weight else 0.0
        loss = weight * result.loss if weight else 0.0
        there = float(weight > 0)
        sums = self.reducer.finish(
            [weight, loss, result.items, result.weight, there, ratio, ratio * ratio, self._pressed()]
        )
        self._stop |= bool(sums[7])
        self.reducer.average(part is not None)
        self._compare(*sums[4:7])
        mean = sums[1] / sums[0] if sums[0] else 0.0
        return Result(float(mean), result.state, float(sums[2]), float(sums[3]))

    def _part(self, batch: Batch) -> Batch | None:
        """This rank's part of a step's batch."""
        if batch is NOTHING:
            return None
        return batch if self.options.sharded else self.shards.part(batch)

    def _compare(self, count: float, total: float, squares: float) -> None:
        if self._warned or not self.group.root or total * total >= squares * count * (1 - RELATIVE):
            return
        self._warned = True
        warnings.warn(
            "loss: it adds means over different numbers of targets, in other proportions on each rank; the ranks are "
            "weighed by the first one, so that the others are not quite the means over the whole batch",
            RuntimeWarning,
            stacklevel=6,
        )

    def _skip(self, loss: float) -> None:
        try:
            with warnings.catch_warnings():
                if not self.group.root:
                    warnings.simplefilter("ignore")
                super()._skip(loss)
        except FloatingPointError as error:
            raise together(error) from None

    def _end_epoch(self) -> None:
        if self.position == 0:
            self.group.all_do(super()._end_epoch)  # which raises
        super()._end_epoch()

    # ---- validation ----------------------------------------------------------------------------------------

    def _validation_loss(self) -> float:
        """The mean over batches of the means over ranks, spoken of once at the end."""
        state = None
        batches: list[tuple[float, float, float]] = []
        self._remember()
        for item in self.validation:
            part = self._part(as_batch(item))
            if part is None:
                batches.append((0.0, 0.0, 0.0))
                continue
            with divisions() as found:
                loss, state, _, weight = self.objective(part, state, None, train=False)
            mine = found[0] if found else sizes(part)[1]
            batches.append((mine, mine * loss if mine else 0.0, weight))
        counts = self.group.gather(len(batches))
        if not self.options.sharded and len(set(counts)) > 1:
            raise together(
                DistributedError(f"validation: the ranks got {counts} batches, expected the same ones everywhere")
            )
        if not max(counts):
            raise together(ValueError("validation: gave no batches"))
        mine_padded = np.zeros((max(counts), 3))
        mine_padded[: len(batches)] = np.reshape(batches, (-1, 3))
        weight, loss, size = self.group.sum(mine_padded).T
        self._control(True)
        means = np.divide(loss, weight, out=np.zeros_like(loss), where=weight != 0)
        return float((size * means).sum() / size.sum())

    # ---- checkpoints ---------------------------------------------------------------------------------------

    def save(self) -> None:
        if self.checkpoint is None:
            return
        of_all = self._of_all_ranks()
        if self.group.root:
            self.checkpoint.save({**self._tree(), **of_all})
        self._saved_at, self._saved_step, self._dirty = time.monotonic(), self.step, False

    def _of_all_ranks(self) -> dict[str, Any]:
        """What a checkpoint holds that rank 0 doesn't have alone."""
        if self.options.sharded:
            mine = {"data": state_of(self.data), "validation": state_of(self.validation), "state": self.state}
            return {"ranks": self.group.gather({**mine, "exhausted": self._exhausted})}
        return {"state": joined(self.group.gather(self.state))} if self.objective.carry_state else {}

    def _read(self, checkpoint: Checkpoint) -> dict[str, Any]:
        tree: dict[str, Any] = self.group.on_root(super()._read, checkpoint)
        own = tree.pop("ranks", None)
        group, sharded = self.group, self.options.sharded
        if (own is not None) != sharded:
            raise together(ValueError(f"{checkpoint.path}: the run was begun with sharded={not sharded}"))
        if own is not None and len(own) != group.size:
            raise together(
                ValueError(
                    f"{checkpoint.path}: the run had {len(own)} ranks, each with data of its own, now {group.size}"
                )
            )
        if own is not None:
            mine = dict(own[group.rank])
            self._exhausted = bool(mine.pop("exhausted"))
            tree.update(mine)
        elif tree.get("state") is not None:
            tree["state"] = parted(tree["state"], group.rank, group.size)
        return tree

    def load(self, checkpoint: Checkpoint) -> None:
        self.group.all_do(super().load, checkpoint)
        self._saved_step = self.step

    # ---- when something goes wrong -------------------------------------------------------------------------

    def _remember(self) -> None:
        """Note what a step changes before it changes the weights."""
        if self.group.root and self.checkpoint is not None:
            self._stable = {"generator": self.rng.bit_generator.state, "data": state_of(self.data)}

    def _while_waiting(self) -> None:
        """Where a rank is gone, mpiexec kills the others, too: SIGCONT, SIGTERM, a quarter of a second, SIGKILL.

        So rank 0, if it has been told to end and the others don't answer, saves alone.
        """
        killed_at = None if self._told is None else self._told.killed_at
        if killed_at is None or not self.group.root or time.monotonic() - killed_at < LAST_SECONDS:
            return
        self.group.idle = lambda: None
        # With a carried state the other ranks' rows of it would be missing.
        alone = not (self.options.sharded or self.objective.carry_state)
        if alone and self.checkpoint is not None and self._stable is not None and self._dirty:
            self.checkpoint.save({**self._tree(), **self._stable})
            self._saved_step = self.step
        print(f"rank 0: told to end, and the other ranks don't answer.{self._advice()}", file=sys.stderr, flush=True)
        self.group.comm.Abort(128 + signal.SIGTERM)

    def _advice(self) -> str:
        if self.checkpoint is None:
            return " There is no checkpoint (checkpoint= would make one)."
        if self._saved_step is None:
            return " No checkpoint has been written yet."
        return (
            f" The checkpoint of step {self._saved_step} is in {self.checkpoint.folder}: the same call with "
            "resume=True goes on from it."
        )

    def _interrupted(self) -> Interrupted:
        return together(super()._interrupted())


def _shape_number(batch: Batch) -> int:
    """A number for the shapes of a batch, small enough for sums of squares of it to be exact."""
    return zlib.crc32(repr([np.shape(batch.x), np.shape(batch.target)]).encode()) & 0xFFFFF


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _seed_of(seed: int, rank: int) -> int:
    """A seed of its own for each rank; the step's on rank 0."""
    return seed if rank == 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)[0] >> 1)


def _ratio(found: list[float]) -> float:
    """One number for the proportions of the terms of a loss."""
    return 1.0 + sum(math.sqrt(k) * part / found[0] for k, part in enumerate(found[1:], 2)) if found else 1.0
