"""The command line: ``fastrnn train``, ``sample``, ``train-seq2seq``, ``translate``, ``convert``, ``info``, ``bench``.

`COMMANDS` has them all; the module of one is imported when it is called, so that ``fastrnn --help`` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from fastrnn._info import __version__
from fastrnn.cli._commands import COMMANDS
from fastrnn.cli._completion import SHELLS, script
from fastrnn.cli._output import spoken
from fastrnn.cli._parse import CliError, Parser, closest, reason
from fastrnn.cli._signals import terminable

__all__ = ["build_parser", "main"]

OK, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143

EPILOG = """\
examples:
  fastrnn train --minutes 1 --out novel       a model of characters, on the sources of Python's standard library
  fastrnn sample novel --prompt "def "        what it writes
  fastrnn convert novel novel.onnx            for ONNX Runtime
  fastrnn bench --quick                       how fast layers are here

"fastrnn COMMAND --help" tells more. Exit codes: 0, 1 the work failed, 2 it can't be done as asked, 130 Ctrl-C,
141 the reader of a pipe has gone, 143 SIGTERM. FASTRNN_TRACEBACK=1 or --debug shows where an error comes from."""


def build_parser(only: str | None = None) -> Parser:
    """Return the parser of the whole command line; with `only`, the other commands have no arguments."""
    parser = Parser(prog="fastrnn", description="Fast recurrent networks on the CPU.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    parser.add_argument(
        "--print-completion", metavar="SHELL", choices=SHELLS, help=f"write a script for {', '.join(SHELLS)}"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, entry in COMMANDS.items():
        if only in (None, name):
            entry.add(subparsers)
        else:
            subparsers.add_parser(name, help=entry.summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit code: 0; 1 where the work failed, such as for want of memory or disk; 2 where it can't be done as asked,
        each with one line on standard error; 130 after Ctrl-C, 143 after SIGTERM; 141 where the reader of standard
        output, such as head, has gone.
    """
    _open_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if not word.startswith("-")), "")
    name = f"fastrnn {command}" if command in COMMANDS else "fastrnn"
    debug = "--debug" in argv or os.environ.get("FASTRNN_TRACEBACK", "") not in ("", "0")
    try:
        code = _run(command, argv)
        sys.stdout.flush()  # where it fails, it fails here
        return code
    except (CliError, OSError, MemoryError, ImportError, KeyboardInterrupt) as error:
        if debug and not isinstance(error, (BrokenPipeError, KeyboardInterrupt)):
            raise
        return _explained(name, error)
    except Exception as error:  # unforeseen
        if debug:
            raise
        return _complain(name, f"{type(error).__name__}: {error} (FASTRNN_TRACEBACK=1 shows where)", FAILED)


def _open_streams() -> None:
    """Let there be streams that are closed, and that take any text."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        with contextlib.suppress(AttributeError, ValueError):  # replaced streams needn't be able to
            getattr(sys, name).reconfigure(errors="replace")


def _run(command: str, argv: list[str]) -> int:
    """Parse and run; the exit code."""
    try:
        parser = build_parser(command)
        if argv[:1] == [command] and command not in COMMANDS:
            parser.error(f"expected a command: {', '.join(COMMANDS)}, got {command!r}{closest(command, COMMANDS)}")
        args = parser.parse_args(argv)
        if args.print_completion is not None:
            print(script(build_parser(), args.print_completion), end="")
            return OK
        if args.command is None:
            parser.error(f"expected a command: {', '.join(COMMANDS)}")
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    with terminable(args) as terminated, spoken(args):
        try:
            code = int(args.run(args))
        except KeyboardInterrupt:
            print("\nterminated" if terminated() else "\ninterrupted", file=sys.stderr)
            code = INTERRUPTED
    return TERMINATED if terminated() and code == INTERRUPTED else code


def _explained(name: str, error: BaseException) -> int:
    """Say what is wrong in one line; the exit code."""
    if isinstance(error, CliError):
        return _complain(name, str(error), error.code)
    if isinstance(error, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, MemoryError):
        return _complain(name, f"not enough memory; a smaller model or batch needs less. {error}", FAILED)
    if isinstance(error, ImportError):
        return _complain(name, str(error), USAGE)
    _forget_output()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    return _complain(name, reason(error) if isinstance(error, OSError) else str(error), FAILED)


def _forget_output() -> None:
    """Keep Python from flushing, at its end, into what can't be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(name: str, text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody may be listening
        print(f"{name}: error: {' '.join(text.split())}", file=sys.stderr)
    return code
