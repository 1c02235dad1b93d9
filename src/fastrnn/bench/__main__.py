"""``python -m fastrnn.bench``: what ``fastrnn bench`` does, with the figures as what is measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fastrnn.bench import command

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the files that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fastrnn.bench",
        description="Measure fastrnn beside its installed peers. Sides run in turn, after a check that they "
        "compute the same numbers; figures are medians. Keep the machine quiet.",
    )
    command.add_options(parser, "figures")
    args = parser.parse_args(argv)
    try:
        return command.run(args)
    except (ValueError, ImportError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    raise SystemExit(main())
