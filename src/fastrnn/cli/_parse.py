"""What all commands share: a parser whose errors are one line, types of arguments, and output that is safe to
print."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from fastrnn.cli._commands import COMMANDS

__all__ = ["CliError", "Failed", "Parser", "closest", "command", "count", "number", "printable", "reason"]


class CliError(Exception):
    """Something the user can put right; shown as one line, exit code 2."""

    code = 2


class Failed(CliError):
    """The work failed; shown as one line, exit code 1."""

    code = 1


class _Formatter(argparse.HelpFormatter):
    """Descriptions are wrapped; examples stay as they are written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that explains a bad argument in one line, without the usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Formatter, **options})
        self._intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Let a command's files stand behind its options, too, where argparse would take an optional one for absent;
        before them comes what the file of ``--config`` says."""
        if self._subparsers is not None or self._intermixed:
            return super().parse_known_args(args, namespace)
        if "--config" in self._option_string_actions:
            from fastrnn.cli._config import with_config

            args = with_config(self, args)
        self._intermixed = True
        try:
            found, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False
        if unknown:
            near = closest(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def closest(word: str, words: Iterable[str]) -> str:
    """What may have been meant.

    Examples
    --------
    >>> closest("hiden", ["hidden", "layers"])
    '; did you mean hidden?'
    >>> closest("x", ["hidden"])
    ''
    """
    found = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def command(subparsers: Any, name: str, *, description: str, examples: str, progress: bool = False) -> Parser:
    """Return the parser of a command, with the options that all have.

    Parameters
    ----------
    examples : str
        Lines of "command line   what it does"; two spaces or more between them.
    progress : bool
        Whether it shows progress.
    """
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parser: Parser = subparsers.add_parser(
        name, help=COMMANDS[name].summary, description=description, epilog=f"examples:\n{lines}"
    )
    if COMMANDS[name].config:
        parser.add_argument("--config", metavar="FILE", help=f"a TOML file with options in its table [{name}]")
    if progress:
        parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument("--quiet", action="store_true", help="say nothing but results and errors")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


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
