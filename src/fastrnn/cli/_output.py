"""What commands write, and where: words for people, progress, results for programs.

Commands that talk (`talks=True`) print words to standard output as they go. With ``--json`` these go to standard error,
and one object, `result`, to standard output; with ``--quiet`` they go nowhere.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from fastrnn.io import finite

if TYPE_CHECKING:
    from fastrnn.train.progress import Progress

__all__ = ["as_json", "progress", "result", "silent", "spoken", "warn"]


class _Output:
    """How the command was called."""

    json: TextIO | None = None  # where the result goes
    quiet = False
    progress = True
    name = "fastrnn"


_now = _Output()


@contextmanager
def spoken(args: Namespace) -> Iterator[None]:
    """Meanwhile words, progress and results go where the arguments say."""
    global _now
    before, _now = _now, _Output()
    _now.name = f"fastrnn {args.command}"
    _now.quiet = getattr(args, "quiet", False)
    _now.progress = not (_now.quiet or getattr(args, "no_progress", False))
    try:
        with ExitStack() as stack:
            if getattr(args, "talks", False) and not getattr(args, "print_config", False):
                if getattr(args, "json", False):
                    _now.json = sys.stdout
                    stack.enter_context(redirect_stdout(sys.stderr))
                if _now.quiet:
                    nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                    stack.enter_context(redirect_stdout(nowhere))
            yield
    finally:
        _now = before


@contextmanager
def silent() -> Iterator[None]:
    """Meanwhile nothing is written: by processes that run a command with another, which speaks for them."""
    global _now
    before, _now = _now, _Output()
    _now.quiet, _now.progress, _now.name = True, False, before.name
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        _now = before


def progress(label: str = "loss", **options: Any) -> Progress | bool:
    """A `fr.Progress`, or False where none is wanted."""
    from fastrnn.train.progress import Progress

    return Progress(label, **options) if _now.progress else False


def result(**facts: Any) -> None:
    """What the command made, for ``--json``."""
    if _now.json is not None:
        print(as_json(facts, _now.json), file=_now.json, flush=True)


def warn(text: str) -> None:
    """Say something on standard error that is no failure."""
    if not _now.quiet:
        print(f"{_now.name}: warning: {text}", file=sys.stderr)


def as_json(value: Any, stream: TextIO | None = None) -> str:
    """JSON in one line, of ASCII alone where the stream isn't UTF-8; numbers that JSON doesn't have are null.

    Examples
    --------
    >>> as_json({"loss": float("nan"), "text": "é"})
    '{"loss": null, "text": "é"}'
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    plain = encoding.lower().replace("-", "").replace("_", "") != "utf8"
    return json.dumps(finite(value), ensure_ascii=plain, allow_nan=False)
