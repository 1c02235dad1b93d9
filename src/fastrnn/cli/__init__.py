"""The command line: ``fastrnn train``, ``sample``, ``train-seq2seq``, ``translate``, ``info``, ``bench``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from fastrnn._info import __version__
from fastrnn.cli import bench, info, sample, train, train_seq2seq, translate
from fastrnn.cli._parse import CliError, Parser, reason

__all__ = ["main"]

# Each module has `add(subparsers)`, which sets `run=` to a function from parsed arguments to an exit code.
COMMANDS = (train, sample, train_seq2seq, translate, info, bench)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="fastrnn", description="Fast recurrent networks on the CPU.")
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
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
        Exit code: 0; 2 for a bad argument, 1 where memory or the disk gave out, each with one line on standard
        error; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # replaced streams needn't be able to
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        return int(args.run(args))
    except CliError as error:
        return _complain(args.command, str(error), 2)
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has gone; keep Python from flushing into it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(args.command, reason(error), 1)
    except MemoryError as error:
        return _complain(args.command, f"not enough memory; a smaller model or batch needs less. {error}", 1)


def _complain(command: str, text: str, code: int) -> int:
    print(f"fastrnn {command}: {' '.join(text.split())}", file=sys.stderr)
    return code
