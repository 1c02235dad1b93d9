"""A live line on a training run, or on other long work: loss, throughput, time left."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, TextIO

from fastrnn import _check

__all__ = ["Counted", "Progress", "progress_of"]

# Seconds between updates: often enough to look alive; on a stream that isn't a terminal, few enough to read
# later.
TERMINAL_SECONDS = 0.1
PLAIN_SECONDS = 10.0
# Characters of "100% ", and of the shortest bar that tqdm is left with: "|##########| ".
PERCENT, SHORT_BAR = 5, 13
# A loss on display is a running mean: weights fall by this factor a step.
MEMORY = 0.98


def duration(seconds: float) -> str:
    """Return a short text such as 0:07, 12:34 or 3:25:45."""
    whole = int(max(seconds, 0.0) + 0.5)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def amount(value: float) -> str:
    """Return a number with three digits and a prefix, such as 12.3k.

    Examples
    --------
    >>> amount(12345.0), amount(7.0), amount(2.5e6)
    ('12.3k', '7', '2.5M')
    """
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            return f"{value / limit:.3g}{prefix}"
    return f"{value:.3g}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "epoch"), plural(2, "epoch")
    ('1 epoch', '2 epochs')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


class Progress:
    """Show a run: a tqdm bar on a terminal (a plain line without tqdm), else one line every ten seconds.

    Parameters
    ----------
    label : str
        Name of the loss on display.
    scale : float
        Factor on the loss, such as ``1 / math.log(2)`` for bits.
    unit : str
        What the throughput counts: items of a batch are its valid time steps.
    stream : file, optional
        Standard error by default. Control characters go to a terminal only.

    Examples
    --------
    >>> import sys
    >>> progress = Progress(stream=sys.stdout)
    >>> progress.start(0.0)
    >>> progress.update(loss=1.5, items=1000, done=0.5, elapsed=2.0, epoch=1)
    >>> progress.finish("stopped after 1 step")
    stopped after 1 step
    """

    def __init__(
        self, label: str = "loss", *, scale: float = 1.0, unit: str = "step", stream: TextIO | None = None
    ) -> None:
        self.label, self.scale, self.unit = label, scale, unit
        self._stream = stream
        self._bar: Any = None
        self._loss: float | None = None
        self._has_loss = False
        self._extra = ""
        self._weight = 0.0

    def start(self, done: float) -> None:
        """Begin at the share `done` of the run; a resumed run starts above 0."""
        self._out = self._stream or sys.stderr
        self._terminal = bool(getattr(self._out, "isatty", lambda: False)())
        self._begin = self._shown = self._window = time.monotonic()
        self._items = 0.0
        self._rate = 0.0
        self._line_open = False
        self._first_done = done
        if self._terminal:
            try:
                from tqdm import tqdm  # type: ignore[import-untyped]
            except ImportError:
                return
            self._bar = tqdm(
                total=1.0,
                initial=done,
                file=self._out,
                bar_format="{percentage:3.0f}% |{bar}| {desc}",
                dynamic_ncols=True,
                leave=True,
            )

    def update(
        self, *, items: float, done: float, elapsed: float, loss: float | None = None, epoch: int | None = None
    ) -> None:
        """Take note of a step, and show the state if it is time.

        Parameters
        ----------
        items : float
            Time steps in the batch.
        done : float
            Share of the run that is over.
        elapsed : float
            Seconds of training, those before a resume included.
        loss : float, optional
        epoch : int, optional
            Number of the epoch, from 1.
        """
        self._has_loss |= loss is not None
        if loss is not None and loss == loss:
            self._weight = MEMORY * self._weight + 1.0
            previous = 0.0 if self._loss is None else self._loss
            self._loss = previous + (loss - previous) / self._weight
        self._items += items
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS):
            return
        self._shown = now
        if now - self._window >= 0.5:
            current = self._items / (now - self._window)
            self._rate = current if not self._rate else 0.7 * self._rate + 0.3 * current
            self._items, self._window = 0.0, now
        self._show(self._text(done, elapsed, epoch), done)

    def _text(self, done: float, elapsed: float, epoch: int | None) -> str:
        """Return the parts that fit on the line, the most important ones first."""
        parts = []
        fresh = done - self._first_done
        if fresh > 0:
            left = (time.monotonic() - self._begin) * (1.0 - done) / fresh
            parts.append(f"{duration(left)} left")
        if self._has_loss:
            loss = "nan" if self._loss is None else f"{self.scale * self._loss:.3f}"
            parts.append(f"{self.label} {loss}")
        if self._extra:
            parts.append(self._extra)
        if self._rate:
            parts.append(f"{amount(self._rate)} {self.unit}/s")
        if epoch is not None:
            parts.append(f"epoch {epoch}")
        parts.append(f"{duration(elapsed)} elapsed")
        while len(parts) > 1 and self._terminal and len(", ".join(parts)) > self._room():
            parts.pop()
        return ", ".join(parts)

    def _room(self) -> int:
        """Return how many characters fit behind the percentage and, with tqdm, a bar."""
        return self._columns() - (PERCENT if self._bar is None else PERCENT + SHORT_BAR)

    def _columns(self) -> int:
        """Return the width that a line may have without the terminal breaking it."""
        try:
            columns = os.get_terminal_size(self._out.fileno()).columns
        except (OSError, ValueError, AttributeError):  # not a real terminal
            columns = 0
        return (columns or shutil.get_terminal_size().columns) - 1

    def _show(self, text: str, done: float) -> None:
        if self._bar is not None:
            self._bar.n = min(done, 1.0)
            self._bar.set_description_str(text, refresh=True)
        elif self._terminal:
            line = f"{100 * done:3.0f}% {text}"[: self._columns()]
            print(f"\r\x1b[K{line}", end="", file=self._out, flush=True)
            self._line_open = True
        else:
            print(f"{100 * done:3.0f}% {text}", file=self._out, flush=True)

    def note(self, loss: float) -> None:
        """Take note of a validation loss, shown from now on."""
        self._extra = f"validation {self.scale * loss:.3f}"

    def write(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._out)
            return
        if self._line_open:
            print(file=self._out)
            self._line_open = False
        print(text, file=self._out, flush=True)

    def finish(self, text: str = "", done: float | None = None) -> None:
        """End the display, with a last line."""
        if self._bar is not None:
            if done is not None:
                self._bar.n = min(done, 1.0)
                self._bar.refresh()
            self._bar.close()
            self._bar = None
        if self._line_open:
            print(file=self._out)
            self._line_open = False
        if text:
            print(text, file=self._out, flush=True)


def progress_of(given: Any, **options: Any) -> Progress | None:
    """What an argument `progress` stands for; True is a `Progress` of these options."""
    found = Progress(**options) if given is True else None if given is False else given
    if not isinstance(found, Progress | None):
        raise TypeError(f"progress: expected True, False or fr.Progress, got {_check.describe(given)}")
    return found


class Counted:
    """Work on items of known sizes, whose sum is `total`, with a `Progress` or without.

    Examples
    --------
    >>> import sys
    >>> with Counted(Progress(unit="text", stream=sys.stdout), 3) as work:
    ...     work.add(2, size=2)
    ...     work.add(1, size=1)
    3 texts in 0:00
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total = progress, total
        self.count = self.done = 0

    def __enter__(self) -> Counted:
        self._begin = time.monotonic()
        if self.progress is not None:
            self.progress.start(0.0)
        return self

    def add(self, count: int, size: int) -> None:
        """So many more items are done, together of that size."""
        self.count += count
        self.done += size
        if self.progress is not None:
            elapsed = time.monotonic() - self._begin
            self.progress.update(items=count, done=self._share(), elapsed=elapsed)

    def _share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def __exit__(self, *exception: object) -> None:
        if self.progress is not None:
            seconds = time.monotonic() - self._begin
            self.progress.finish(f"{plural(self.count, self.progress.unit)} in {duration(seconds)}", self._share())
