"""``fastrnn sample``: let a trained model write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fastrnn.cli._output import as_json, warn
from fastrnn.cli._parse import CliError, command, count, number, printable
from fastrnn.cli.cells import imported, own_cell
from fastrnn.cli.tokens import pieces, unknown_tokens
from fastrnn.io import load
from fastrnn.models import LanguageModel

__all__ = ["add", "run"]

EXAMPLES = """
fastrnn sample novel                              the folder of a run
fastrnn sample novel/model.safetensors --prompt "It was " --length 200 --seed 1
fastrnn sample novel --temperature 0.5 --top-k 10   safer
fastrnn sample novel --temperature 0 --json       the likeliest text, for programs
"""


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = command(
        subparsers,
        "sample",
        description="Let a trained language model continue a prompt.",
        examples=EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a file model.safetensors, or the folder of a run")
    parser.add_argument("--cell", type=own_cell, metavar="MODULE:NAME", help="the cell made by fr.cell that it is of")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what comes before")
    parser.add_argument("--length", type=count(0), default=500, metavar="N", help="characters, or words (default: 500)")
    parser.add_argument(
        "--temperature",
        type=number(0.0),
        default=0.8,
        metavar="X",
        help="lower is safer, 0 takes the likeliest (default: 0.8)",
    )
    parser.add_argument("--top-k", type=count(), metavar="K", help="choose among the K likeliest")
    parser.add_argument(
        "--top-p",
        type=number(0.0, 1.0, open_low=True),
        metavar="P",
        help="… among those with probability P together",
    )
    parser.add_argument("--seed", type=count(0), metavar="N", help="the same seed, the same text")
    parser.add_argument("--json", action="store_true", help="one object: prompt, text, tokens")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the prompt and its continuation as it is generated."""
    model = _load(Path(args.model), args.cell)
    unknown = unknown_tokens(model.vocabulary, args.prompt)
    if unknown:
        warn(f"not in the model's vocabulary: {' '.join(map(repr, unknown))}")
    options: dict[str, Any] = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
    tokens = model.generate(args.prompt, args.length, seed=args.seed, **options)
    if args.json:
        numbers = [int(token) for token in tokens]
        text = "".join(pieces(model.vocabulary, args.prompt, numbers))
        facts = {"prompt": args.prompt, "text": text, "tokens": numbers, "unknown": unknown, "seed": args.seed}
        print(as_json(facts, sys.stdout))
        return 0
    sys.stdout.write(printable(args.prompt))
    for piece in pieces(model.vocabulary, args.prompt, tokens):
        sys.stdout.write(printable(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    return 0


def _load(path: Path, cell: str | None) -> LanguageModel:
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        model = load(path, cells={} if cell is None else {cell: imported(cell)})
    except (OSError, ValueError, ImportError) as error:
        hint = "; name its cell: --cell module:name" if cell is None and "fr.load(path, cells=" in str(error) else ""
        raise CliError(f"{error}{hint}") from None
    if not isinstance(model, LanguageModel) or model.vocabulary is None:
        raise CliError(f"{path}: holds a {type(model).__name__}, expected a language model with its vocabulary")
    return model
