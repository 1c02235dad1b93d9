"""One training run: its state, its loop, its checkpoints."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from fastrnn.train.checkpoint import Checkpoint
from fastrnn.train.clipping import clip_grad_norm, clip_grad_value, nonfinite_gradients
from fastrnn.train.data import Batch
from fastrnn.train.history import History
from fastrnn.train.interrupt import CtrlC, Interrupted
from fastrnn.train.objective import Objective, Result, as_batch
from fastrnn.train.optim import Optimizer
from fastrnn.train.progress import Progress, duration, plural
from fastrnn.train.schedules import Schedule

__all__ = ["END", "Limits", "Run", "state_of"]

MAX_SKIPPED = 10
FORMAT = 1
END = object()


class Limits(NamedTuple):
    """How long a run may be; None is no limit."""

    epochs: int | None
    steps: int | None
    minutes: float | None

    def done(self, epochs: float, steps: int, seconds: float) -> float:
        """Return the share of the run that is over, 0 … 1: the largest over the limits."""
        pairs = ((epochs, self.epochs), (steps, self.steps), (seconds / 60.0, self.minutes))
        return min(1.0, max(now / limit for now, limit in pairs if limit is not None))


class Run:
    """The state of a run and its loop. `fit` documents the parameters."""

    def __init__(
        self,
        model: Any,
        data: Any,
        objective: Objective,
        optimizer: Optimizer,
        *,
        limits: Limits,
        validation: Any,
        validate_every: int | None,
        schedule: Schedule | None,
        clip_norm: float | None,
        clip_value: float | None,
        patience: int | None,
        checkpoint: Checkpoint | None,
        checkpoint_seconds: float,
        seed: int | None,
        progress: Progress | None,
    ) -> None:
        self.model, self.data, self.objective, self.optimizer = model, data, objective, optimizer
        self.limits, self.validation, self.validate_every = limits, validation, validate_every
        self.schedule, self.clip_norm, self.clip_value = schedule, clip_norm, clip_value
        self.patience, self.checkpoint, self.checkpoint_seconds = patience, checkpoint, checkpoint_seconds
        self.progress = progress
        self.rng = np.random.default_rng(seed)
        self.history = History()
        self.epoch = self.step = self.position = 0
        self.state: Any = None
        self.epoch_loss = self.epoch_weight = 0.0
        self.skipped = 0
        self.best: dict[str, Any] | None = None
        self.bad = 0
        self.seconds_before = 0.0
        self._start = self._saved_at = time.monotonic()
        self._dirty = False  # something happened since the last checkpoint
        try:
            self.batches: int | None = len(data)
        except TypeError:
            self.batches = None

    # ---- state -------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds_before + time.monotonic() - self._start

    def save(self) -> None:
        """Write a checkpoint, if the run has a folder."""
        if self.checkpoint is None:
            return
        self.checkpoint.save(self._tree())
        self._saved_at, self._dirty = time.monotonic(), False

    def _tree(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds."""
        return {
            "format": FORMAT,
            "model": dict(self.model.params),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "generator": self.rng.bit_generator.state,
            "data": state_of(self.data),
            "validation": state_of(self.validation),
            "state": self.state,
            "history": self.history.state_dict(),
            "best": self.best,
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
            "seconds": self.seconds,
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            It doesn't fit the model, the optimiser, the schedule or the data. They are as before then.
        """
        tree = self._read(checkpoint)
        if tree.get("format") != FORMAT:
            raise ValueError(f"{checkpoint.path}: a checkpoint of format {tree.get('format')!r}, expected {FORMAT}")
        history = History()
        parts: dict[str, Any] = {"optimizer": self.optimizer}
        for name, part in (("schedule", self.schedule), ("data", self.data), ("validation", self.validation)):
            saved = tree.get(name)
            if (saved is None) != (state_of(part) is None):
                began = "without" if saved is None else "with"
                raise ValueError(f"{checkpoint.path} doesn't fit this run: {name}: the run was started {began} one")
            if saved is not None:
                parts[name] = part
        before = {name: state_of(part) for name, part in parts.items()}
        try:
            history.load_state_dict(tree["history"])
            numbers = {name: tree["numbers"][name] for name in _NUMBERS}
            seconds, best, state = float(tree["seconds"]), tree["best"], _tuples(tree["state"])
            rng = np.random.default_rng()
            rng.bit_generator.state = tree["generator"]
            for name, part in parts.items():
                part.load_state_dict(tree[name])
            self.model.load_state_dict(tree["model"])  # last: it changes nothing where it raises
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{checkpoint.path} doesn't fit this run: {what}") from None
        self.history, self.best, self.state = history, best, state
        self.rng.bit_generator.state = rng.bit_generator.state
        for name, value in numbers.items():
            setattr(self, name, value)
        self.seconds_before, self._start = seconds, time.monotonic()
        self._saved_at = time.monotonic()

    def _read(self, checkpoint: Checkpoint) -> dict[str, Any]:
        return checkpoint.load()

    # ---- loop --------------------------------------------------------------------------------------------

    def done(self) -> float:
        """Return the share of the run that is over."""
        part = self.position / self.batches if self.batches else 0.0
        return self.limits.done(self.epoch + min(part, 1.0), self.step, self.seconds)

    def over(self) -> bool:
        """Tell whether a limit is reached. An epoch is over only after its last batch."""
        limits = self.limits
        return (
            (limits.epochs is not None and self.epoch >= limits.epochs)
            or (limits.steps is not None and self.step >= limits.steps)
            or (limits.minutes is not None and self.seconds >= 60.0 * limits.minutes)
            or (self.patience is not None and self.bad >= self.patience)
        )

    def run(self) -> History:
        """Train until a limit is reached."""
        if self.progress is not None:
            self.progress.start(self.done())
        try:
            with self._signals() as ctrl_c:
                self._loop(ctrl_c)
                if self._stopped(ctrl_c):
                    raise self._interrupted()
                if self.validation is not None and not self._validated_now():
                    self._validate()
                    if self._stopped(ctrl_c):
                        raise self._interrupted()
                self.history.notes["stopped"] = "early" if self._stopped_early() else "limit"
                if self._dirty:
                    self.save()
        finally:
            if self.progress is not None:
                self.progress.finish(self._summary(), self.done())
        if self.patience is not None and self.best is not None:
            self.model.load_state_dict(self.best["model"])
        return self.history

    def _signals(self) -> CtrlC:
        return CtrlC()

    def _stopped(self, ctrl_c: CtrlC) -> bool:
        """Tell whether to end the run here, and save."""
        return ctrl_c.pressed

    def _loop(self, ctrl_c: CtrlC) -> None:
        batches = None
        while not self.over() and not self._stopped(ctrl_c):
            if batches is None:
                batches = self._open()
            item = self._next(batches)
            if item is END:
                self._end_epoch()
                batches = None
                continue
            self._train(as_batch(item))
            if self.validate_every and self.step % self.validate_every == 0:
                self._validate()
            if self._due():
                self.save()
        # An epoch that a limit ends at its last batch is a whole one. One more `next` lets the data know.
        if self.position and self.position == self.batches and not self._stopped(ctrl_c):
            rest = self._open() if batches is None else batches
            if self._next(rest) is END:
                self._end_epoch()

    def _next(self, batches: Iterator[Any]) -> Any:
        """Return the next item of the data, or END."""
        return next(batches, END)

    def _due(self) -> bool:
        """Tell whether it is time for a checkpoint."""
        return time.monotonic() - self._saved_at >= self.checkpoint_seconds

    def _open(self) -> Iterator[Any]:
        """Return the rest of the epoch's batches."""
        if self.position == 0 or state_of(self.data) is not None:
            return iter(self.data)
        if isinstance(self.data, Sequence):
            return (self.data[i] for i in range(self.position, len(self.data)))
        return islice(iter(self.data), self.position, None)

    def _train(self, batch: Batch) -> None:
        """Take one optimiser step."""
        seed = int(self.rng.integers(1 << 63))
        self.model.zero_grads()
        loss, self.state, items, weight = self._gradients(batch, seed)
        if self.clip_value is not None:
            clip_grad_value(self.model, self.clip_value)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norm = clip_grad_norm(self.model, limit, error_if_nonfinite=False)
        done = self.done()
        if self.schedule is not None:
            self.optimizer.lr_factor = self.schedule(self.step, done)
        self.step += 1
        self.position += 1
        self._dirty = True
        if math.isfinite(norm) and math.isfinite(loss):
            self.optimizer.step()
            self.skipped = 0
            self.epoch_loss += weight * loss
            self.epoch_weight += weight
        else:
            self._skip(loss)
        lr = self.optimizer.lr * self.optimizer.lr_factor
        seconds = self.seconds
        self.history.add_step(self.step, loss=loss, lr=lr, grad_norm=norm, seconds=seconds)
        if self.progress is not None:
            self.progress.update(loss=loss, items=items, done=done, elapsed=seconds, epoch=self.epoch + 1)

    def _gradients(self, batch: Batch, seed: int) -> Result:
        """Compute the loss of a batch, and its gradients."""
        return self.objective(batch, self.state, seed, train=True)

    def _skip(self, loss: float) -> None:
        """Leave the weights alone after a gradient that isn't finite; give up if that goes on."""
        self.skipped += 1
        self.state = None  # it may hold the NaN
        self.history.notes["skipped_steps"] = self.history.notes.get("skipped_steps", 0) + 1
        where = ", ".join(nonfinite_gradients(self.model)) or "none of the gradients"
        what = f"loss {loss}, not finite in {where}"
        if self.skipped >= MAX_SKIPPED:
            raise FloatingPointError(
                f"the gradient was not finite in {MAX_SKIPPED} steps in a row, the last one step {self.step} "
                f"({what}); the weights are those before. A lower learning rate or clip_norm= may help."
            )
        if self.skipped == 1:
            message = f"step {self.step} was skipped, its gradient is not finite ({what}); the weights are kept"
            warnings.warn(message, RuntimeWarning, stacklevel=5)

    def _end_epoch(self) -> None:
        if self.position == 0:
            raise ValueError(f"data: gave no batches in epoch {self.epoch + 1}; can it be read more than once?")
        mean = self.epoch_loss / self.epoch_weight if self.epoch_weight else math.nan
        self.epoch += 1
        self._dirty = True
        self.history.epochs.append({"epoch": self.epoch, "step": self.step, "loss": mean, "seconds": self.seconds})
        self.position, self.state = 0, None
        self.epoch_loss = self.epoch_weight = 0.0
        if self.validation is not None and not self._validated_now():
            self._validate()

    # ---- validation --------------------------------------------------------------------------------------

    def _validated_now(self) -> bool:
        entries = self.history.validations
        return bool(entries) and entries[-1]["step"] == self.step

    def _validation_loss(self) -> float:
        total = weights = 0.0
        state = None
        for item in self.validation:
            loss, state, _, weight = self.objective(as_batch(item), state, None, train=False)
            total += weight * loss
            weights += weight
        if not weights:
            raise ValueError("validation: gave no batches")
        return total / weights

    def _validate(self) -> None:
        loss = self._validation_loss()
        self._dirty = True
        self.history.validations.append({"epoch": self.epoch, "step": self.step, "loss": loss, "seconds": self.seconds})
        if self.progress is not None:
            self.progress.note(loss)
        if self.schedule is not None:
            self.schedule.update(loss)
        if self.patience is None:
            return
        if self.best is None or loss < self.best["loss"]:
            self.best, self.bad = {"loss": loss, "step": self.step, "model": self.model.state_dict()}, 0
        else:
            self.bad += 1

    def _stopped_early(self) -> bool:
        return self.patience is not None and self.bad >= self.patience

    # ---- words -------------------------------------------------------------------------------------------

    def _interrupted(self) -> Interrupted:
        self.save()
        text = f"stopped after step {self.step}; "
        if self.checkpoint is not None:
            text += f"saved in {self.checkpoint.folder}, the same call with resume=True goes on"
        else:
            text += "not saved (checkpoint= would), but the model keeps its weights"
        return Interrupted(text, self.history)

    def _summary(self) -> str:
        text = f"{plural(self.step, 'step')} in {duration(self.seconds)}"
        if self.history.epochs:
            text += f", {plural(len(self.history.epochs), 'epoch')}"
        if self.history.validations and self.progress is not None:
            last = self.history.validations[-1]["loss"]
            text += f", validation {self.progress.label} {self.progress.scale * last:.3f}"
        return text


_NUMBERS = ("epoch", "step", "position", "epoch_loss", "epoch_weight", "skipped", "bad")


def state_of(part: Any) -> Any:
    """Return the state of a resumable part of the run, or None."""
    return part.state_dict() if hasattr(part, "state_dict") and hasattr(part, "load_state_dict") else None


def _tuples(state: Any) -> Any:
    """Return a carried state as models know it; files turn tuples into lists."""
    return tuple(_tuples(part) for part in state) if isinstance(state, list) else state
