"""``fastrnn info``: what runs here."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import numpy as np

import fastrnn
from fastrnn.cli._parse import command

__all__ = ["add", "run"]

EXAMPLES = """
fastrnn info
fastrnn info --json
FASTRNN_ISA=avx2 FASTRNN_NUM_THREADS=1 fastrnn info
"""


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = command(
        subparsers,
        "info",
        description="Show what fastrnn runs on here. FASTRNN_ISA and FASTRNN_NUM_THREADS choose others.",
        examples=EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    facts = fastrnn.info()
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    others = [isa for isa in facts["isas"] if isa != facts["isa"]]
    lines = {
        "fastrnn": facts["version"],
        "instruction set": facts["isa"] + (f" (also here: {', '.join(others)})" if others else ""),
        "threads": facts["num_threads"],
        "caches": ", ".join(f"{name} {_bytes(size)}" for name, size in facts["caches"].items()) or "unknown",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
    }
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        print(f"{name:<{width}}{value}")
    return 0


def _bytes(size: Any) -> str:
    """Return a size in words; what isn't a number is returned as text."""
    if not isinstance(size, int):
        return str(size)
    for unit, value in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= value:
            return f"{size / value:.4g} {unit}"
    return f"{size} B"
