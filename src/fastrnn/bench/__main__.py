"""``python -m fastrnn.bench``: measure the figures, or a grid of layers, and print a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fastrnn.bench import figures, layers, machine
from fastrnn.bench.agree import Disagreement
from fastrnn.bench.cases import CELLS, MODES, SHAPES, Case, Shape
from fastrnn.bench.peers import PEERS, choose
from fastrnn.bench.table import table
from fastrnn.io import write_json

__all__ = ["main"]


def _several(names: Sequence[str]) -> Callable[[str], list[str]]:
    """An argument type: names with commas between them."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in names]:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(names)}, got {', '.join(unknown)}")
        return chosen

    return parse


def _shapes(text: str) -> list[Shape]:
    try:
        return [Shape.parse(part) for part in text.split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastrnn.bench",
        description="Measure fastrnn beside its installed peers. Sides run in turn, after a check that they "
        "compute the same numbers; figures are medians. Keep the machine quiet.",
    )
    parser.add_argument("what", nargs="?", choices=("figures", "layers"), default="figures")
    parser.add_argument("--threads", type=_count, metavar="N", help="of every side (default: each figure's; 1)")
    parser.add_argument("--repeat", type=_count, metavar="N", default=15, help="turns of each side (default: 15)")
    parser.add_argument("--json", metavar="FILE", help="write everything measured")
    parser.add_argument(
        "--only",
        type=_several(tuple(figures.FIGURES)),
        metavar="KEYS",
        help=f"of {','.join(figures.FIGURES)}",
    )
    group = parser.add_argument_group("layers")
    group.add_argument("--cell", type=_several(tuple(CELLS)), default=list(CELLS), help="lstm,gru,rnn")
    group.add_argument("--mode", type=_several(MODES), default=["train"], help="train,infer (default: train)")
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    group.add_argument(
        "--shapes",
        type=_shapes,
        default=list(SHAPES),
        metavar="SHAPES",
        help='such as "128,32,256,256 100,1,32,32"',
    )
    group.add_argument("--peers", type=_several(tuple(PEERS)), help=",".join(PEERS))
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _figures(args: argparse.Namespace) -> dict[str, Any]:
    outcomes = {}
    for key in args.only or figures.FIGURES:
        _say(f"measuring {figures.FIGURES[key].text} …")
        try:
            outcomes[key] = figures.FIGURES[key].measure(args.threads, args.repeat)
        except (Disagreement, RuntimeError) as error:
            outcomes[key] = figures.Outcome(None, f"not measured: {error}", {"failed": True})
    print(table(figures.rows(outcomes)))
    return {
        key: {
            "text": figures.FIGURES[key].text,
            "value": outcome.value,
            "wanted": figures.FIGURES[key].wanted,
            "at_least": figures.FIGURES[key].at_least,
            "met": figures.FIGURES[key].met(outcome),
            "detail": outcome.detail,
            **outcome.data,
        }
        for key, outcome in outcomes.items()
    }


def _layers(args: argparse.Namespace) -> dict[str, Any]:
    names = list(args.peers or PEERS)
    skipped = choose(names)[1]
    for reason in skipped.values():
        _say(f"skipped: {reason}")
    comparisons, failed = [], {}
    for shape in args.shapes:
        for cell in args.cell:
            for mode in args.mode:
                case = Case(cell, shape, mode, args.dtype)
                _say(f"measuring {case} …")
                peers = [name for name in names if name not in skipped]
                try:
                    result = layers.compare(case, peers, threads=args.threads or 1, repeat=args.repeat)
                except Disagreement as error:
                    _say(f"not measured: {error}")
                    failed[str(case)] = {"failed": True, "detail": str(error)}
                else:
                    comparisons.append(result)
    print(table(layers.rows(comparisons)))
    return {str(result.case): result.as_dict() for result in comparisons} | failed


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the machine's facts and a table, and write the JSON file if asked.

    Returns
    -------
    int
        Exit code: 0, or 1 when sides computed different numbers. A figure that isn't as wanted is no error.
    """
    args = _parser().parse_args(argv)
    facts = machine.facts()
    print(*machine.lines(facts), sep="\n", end="\n\n", flush=True)
    measured = _figures(args) if args.what == "figures" else _layers(args)
    if args.json:
        options = {"threads": args.threads, "repeat": args.repeat}
        write_json(args.json, {"machine": facts, "options": options, args.what: measured})
    return int(any(part.get("failed") for part in measured.values()))


if __name__ == "__main__":
    raise SystemExit(main())
