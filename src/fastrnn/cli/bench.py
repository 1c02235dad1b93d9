"""``fastrnn bench``: fastrnn beside its peers."""

from __future__ import annotations

import argparse
from typing import Any

from fastrnn.bench import command
from fastrnn.cli import _parse
from fastrnn.cli._parse import CliError

__all__ = ["add", "run"]

EXAMPLES = """
fastrnn bench                                     lstm, gru and rnn on four shapes, some two minutes
fastrnn bench --quick                             is everything in place?
fastrnn bench --shapes 128,32,256,256 --cell lstm,gru --mode train --threads 1,2
fastrnn bench --peers fastrnn,torch --plot speed.png
fastrnn bench figures --only import,size          some of the project's figures
fastrnn bench --quick --json > figures.json       everything measured, for programs
"""


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = _parse.command(
        subparsers,
        "bench",
        description="Measure fastrnn beside its installed peers: times, ratios, GFLOP/s and share of the FMA peak. "
        "Sides run in turn, after a check that they compute the same numbers; figures are medians. Keep the machine "
        "quiet; Ctrl-C leaves the table of what was measured.",
        examples=EXAMPLES,
        progress=True,
    )
    command.add_options(parser, "layers")
    parser.set_defaults(run=run, saves=True)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    try:
        return command.run(args)
    except (ValueError, ImportError) as error:
        raise CliError(str(error)) from None
