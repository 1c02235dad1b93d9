"""``fastrnn bench``: fastrnn beside its peers."""

from __future__ import annotations

import argparse
from typing import Any

from fastrnn.bench import command
from fastrnn.cli._parse import CliError

__all__ = ["add", "run"]


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "bench",
        help="measure layers beside PyTorch, ONNX Runtime, JAX, Keras and NumPy",
        description="Measure fastrnn beside its installed peers: times, ratios, GFLOP/s and share of the FMA peak. "
        "Sides run in turn, after a check that they compute the same numbers; figures are medians. Keep the machine "
        "quiet; Ctrl-C leaves the table of what was measured.",
    )
    command.add_options(parser, "layers")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    try:
        return command.run(args)
    except (ValueError, ImportError) as error:
        raise CliError(str(error)) from None
