"""``fastrnn translate``: translate lines with a model that ``fastrnn train-seq2seq`` has trained."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import fastrnn
from fastrnn.cli._output import as_json, progress
from fastrnn.cli._parse import CliError, command, count, number, printable, reason
from fastrnn.cli.cells import imported, own_cell
from fastrnn.cli.pairs import bleu
from fastrnn.io import load
from fastrnn.models import Seq2Seq
from fastrnn.models._seq2seq_text import Hypothesis
from fastrnn.train.progress import Progress, amount, duration, plural

__all__ = ["add", "run"]

EXAMPLES = """
fastrnn translate translator sentences.txt
fastrnn translate translator --beam 1 < sentences.txt > translations.txt
fastrnn translate translator sentences.txt --n-best 3
fastrnn translate translator sentences.txt --reference right.txt   and BLEU
fastrnn translate translator sentences.txt --json   a line of JSON for each line
"""
BATCHES = 16  # that are read before any is translated, so that lines of one length come together


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = command(
        subparsers,
        "translate",
        description="Translate each line of a file, or of standard input, with a trained model.",
        examples=EXAMPLES,
        progress=True,
    )
    parser.add_argument("model", metavar="MODEL", help="a file model.safetensors, or the folder of a run")
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="- is standard input (default)")
    parser.add_argument("--cell", type=own_cell, metavar="MODULE:NAME", help="the cell made by fr.cell that it is of")
    parser.add_argument("--beam", type=count(), default=5, metavar="N", help="1 is greedy (default: 5)")
    parser.add_argument("--n-best", type=count(), metavar="N", help="print so many: number of the line, score, text")
    parser.add_argument("--max-length", type=count(), default=200, metavar="N", help="tokens (default: 200)")
    parser.add_argument("--length-penalty", type=number(0.0), default=0.6, metavar="A", help="(default: 0.6)")
    parser.add_argument("--coverage-penalty", type=number(0.0), default=0.0, metavar="B", help="(default: 0)")
    parser.add_argument("--unknown", action="store_true", help="translations may hold the unknown token")
    parser.add_argument("--batch", type=count(), default=64, metavar="N", help="lines of a search (default: 64)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each line of text")
    parser.add_argument("--reference", metavar="FILE", help="the right translations: print BLEU on standard error")
    parser.add_argument("--threads", type=count(), metavar="N", help="(default: all that this process may use)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print translations as they are found."""
    if args.n_best is not None and args.n_best > args.beam:
        raise CliError(f"--n-best: expected at most --beam {args.beam}, got {args.n_best}")
    if args.threads is not None:
        fastrnn.set_num_threads(args.threads)
    model = _load(Path(args.model), args.cell)
    if args.coverage_penalty and model.decoder.attention is None:
        raise CliError("--coverage-penalty: this model has no attention")
    references = None if args.reference is None else _lines(args.reference)
    options = {
        "beam_size": args.beam, "n_best": args.n_best or 1, "max_length": args.max_length,
        "length_penalty": args.length_penalty, "coverage_penalty": args.coverage_penalty, "unknown": args.unknown,
        "batch_size": args.batch,
    }  # fmt: skip
    best: list[str] = []
    with _opened(args.file) as file, _Done(file) as done:
        for lines in _chunks(file, args.batch * BATCHES):
            translated = _translated(model, lines, options | {"progress": done.part(lines)})
            for line, found in zip(lines, translated, strict=True):
                best.append(str(found[0].text))
                _print(args, len(best), line, found)
            sys.stdout.flush()
    if references is None:
        return 0
    if len(references) != len(best):
        raise CliError(f"--reference: expected {len(best)} lines, as many as were translated, got {len(references)}")
    try:
        print(f"BLEU {bleu(best, references):.2f}", file=sys.stderr)
    except ImportError as error:
        raise CliError(f"--reference: {error}") from None
    return 0


def _translated(model: Seq2Seq, lines: list[str], options: dict[str, Any]) -> list[list[Hypothesis]]:
    """Translations of each line; that of an empty one is empty. White space is that of the pairs learned from."""
    texts = [" ".join(line.split()) for line in lines]
    found = iter(model.translate([text for text in texts if text], **options))
    return [next(found) if text else [Hypothesis("", np.zeros(0, np.int64), 0.0)] for text in texts]


class _Done:
    """A bar for a file, a count for a pipe: on a terminal's standard error while standard output goes elsewhere."""

    def __init__(self, file: TextIO) -> None:
        shown = sys.stderr is not None and sys.stderr.isatty() and not sys.stdout.isatty()
        status = os.fstat(file.fileno())
        self._size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        self._bar: Any = (progress(unit="line") or None) if shown else None
        self._lines = self._read = 0

    def __enter__(self) -> _Done:
        self._begin = time.monotonic()
        if self._bar is not None and self._size:
            self._bar.start(0.0)
        return self

    def part(self, lines: list[str]) -> Progress | bool:
        """The `progress` of the next lines."""
        size = sum(len(line.encode(errors="replace")) + 1 for line in lines)
        self._read, before = self._read + size, self._read
        self._lines += sum(not line.strip() for line in lines)  # nobody translates these
        return False if self._bar is None else _Part(self, before, size)

    def update(self, lines: int, read: float) -> None:
        """So many more lines are done; this much of the file is read."""
        self._lines += lines
        elapsed = time.monotonic() - self._begin
        if self._bar is not None and self._size:
            self._bar.update(items=lines, done=min(read / self._size, 1.0), elapsed=elapsed)
        elif self._bar is not None:
            rate = self._lines / max(elapsed, 1e-9)
            print(f"\r{self._lines} lines, {amount(rate)} a second ", end="", file=sys.stderr, flush=True)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None and self._size:
            took = duration(time.monotonic() - self._begin)
            self._bar.finish(f"{plural(self._lines, 'line')} in {took}", None if kind else 1.0)
        elif self._bar is not None:
            print(file=sys.stderr)


class _Part(Progress):
    """Hands what a model reports of some lines on to the whole."""

    def __init__(self, whole: _Done, before: int, size: int) -> None:
        super().__init__(unit="line")
        self._whole, self._before, self._size = whole, before, size

    def start(self, done: float) -> None:
        pass

    def update(self, *, items: float, done: float, **_: Any) -> None:
        self._whole.update(int(items), self._before + done * self._size)

    def finish(self, text: str = "", done: float | None = None) -> None:
        pass


def _print(args: argparse.Namespace, place: int, line: str, found: list[Any]) -> None:
    if args.json:
        texts = [{"text": each.text, "score": each.score} for each in found]
        print(as_json({"source": line, "translations": texts}, sys.stdout))
    elif args.n_best is None:
        print(printable(found[0].text))
    else:
        for each in found:
            print(f"{place}\t{each.score:.4f}\t{printable(each.text)}")


def _opened(name: str) -> TextIO:
    """A file, or standard input, which stays open; a byte order mark is no part of the text."""
    if name == "-" and sys.stdin is None:
        raise CliError("FILE: standard input is closed")
    try:
        source: Any = sys.stdin.fileno() if name == "-" else name
        return open(source, encoding="utf-8-sig", errors="replace", closefd=name != "-")
    except OSError as error:
        raise CliError(f"FILE: {reason(error)}") from None


def _lines(name: str) -> list[str]:
    try:
        with open(name, encoding="utf-8-sig", errors="replace") as file:  # split as FILE is
            return [line.rstrip("\r\n") for line in file]
    except OSError as error:
        raise CliError(f"--reference: {reason(error)}") from None


def _chunks(file: TextIO, size: int) -> Iterator[list[str]]:
    """So many lines at a time; of a terminal one by one, because someone waits."""
    size = 1 if file.isatty() else size
    while lines := [line.rstrip("\r\n") for line in islice(file, size)]:
        yield lines


def _load(path: Path, cell: str | None) -> Seq2Seq:
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        model = load(path, cells={} if cell is None else {cell: imported(cell)})
    except (OSError, ValueError, ImportError) as error:
        raise CliError(str(error)) from None
    if not isinstance(model, Seq2Seq) or model.source.vocabulary is None or model.target.vocabulary is None:
        raise CliError(f"{path}: holds a {type(model).__name__}, expected a Seq2Seq with its vocabularies")
    return model
