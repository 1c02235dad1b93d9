"""What all commands share: a parser whose errors are one line, types of arguments, and output that is safe to
print."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["CliError", "Parser", "count", "number", "printable", "reason"]


class CliError(Exception):
    """Something the user can put right; shown as one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that explains a bad argument in one line, without the usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Let a command's files stand behind its options, too, where argparse would take an optional one for absent."""
        if self._subparsers is not None or self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def count(minimum: int = 1) -> Callable[[str], int]:
    """Return an argument type: a whole number of at least `minimum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number >= {minimum}, got {text!r}")
        return value

    return parse


def number(
    low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> Callable[[str], float]:
    """Return an argument type: a finite number from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        fits = low < value if open_low else low <= value
        fits = fits and (value < high if open_high else value <= high) and math.isfinite(value)
        if not fits:
            limits = f"{'>' if open_low else '>='} {low:g}"
            if high != math.inf:
                limits += f" and {'<' if open_high else '<='} {high:g}"
            kind = "finite number" if math.isinf(value) else "number"
            raise argparse.ArgumentTypeError(f"expected a {kind} {limits}, got {text!r}")
        return value

    return parse


def reason(error: Exception) -> str:
    """Return what went wrong, without the error's number.

    Examples
    --------
    >>> reason(OSError(28, "No space left on device", "run/model.safetensors"))
    'run/model.safetensors: No space left on device'
    """
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def printable(text: str) -> str:
    """Replace control characters, which generated text may hold and a terminal would obey.

    Examples
    --------
    >>> printable("a\\x1b[2J\\tb")
    'a\\ufffd[2J\\tb'
    """
    return "".join(c if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160) else "\ufffd" for c in text)
