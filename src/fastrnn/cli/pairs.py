"""Pairs of texts from tab-separated files, and the settings of ``fastrnn train-seq2seq``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn.cli._parse import CliError, reason
from fastrnn.cli.settings import LIMITS, NAME
from fastrnn.io import write_json
from fastrnn.text.corpus import RUN_KEY
from fastrnn.train.progress import plural

__all__ = ["PairSettings", "Pairs", "bleu", "read_pairs", "resolve", "split_pairs"]

DEFAULT_MINUTES = 5.0


@dataclass(frozen=True)
class PairSettings:
    """What a run does."""

    pairs: str = ""
    swap: bool = False
    tokens: str = "tokens"
    words: int = 20_000  # most tokens of each vocabulary
    min_count: int = 1
    longest: int = 100  # tokens of a text
    cell: str = "lstm"
    embedding: int = 256
    hidden: int = 256
    layers: int = 1
    attention: str = "general"
    reverse_source: bool = False
    peeky: bool = False
    dropout: float = 0.2
    label_smoothing: float = 0.1
    sampling: float = 0.0
    batch: int = 64
    lr: float = 2e-3
    warmup: float = 0.02  # share of the run in which the learning rate rises
    final_lr: float = 0.01  # share of `lr` that is left at the end of the cosine
    clip_norm: float = 1.0
    held_out: int = 500  # pairs, at most a tenth
    beam: int = 5
    seed: int = 0
    minutes: float | None = None
    epochs: int | None = None
    steps: int | None = None
    digest: str = ""  # of the pairs

    def limits(self) -> dict[str, Any]:
        """Return the one limit of the run that is set."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}

    def save(self, folder: Path) -> None:
        """Write the settings into the run's folder."""
        write_json(folder / NAME, {RUN_KEY: 1, "kind": "seq2seq", **asdict(self)})


def load(folder: Path) -> PairSettings:
    """Read the settings of the run in `folder`."""
    path = folder / NAME
    try:
        data = json.loads(path.read_text())
        if data.pop(RUN_KEY) != 1 or data.pop("kind", None) != "seq2seq":
            raise ValueError("not of a run of train-seq2seq")
        return PairSettings(**data)
    except FileNotFoundError:
        raise CliError(f"--resume: {folder} holds no run (no {NAME})") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CliError(f"--resume: {path} can't be read: {error}") from None


def resolve(args: Namespace, folder: Path) -> PairSettings:
    """Combine what was given with the defaults or, on --resume, with the run's own settings.

    A resumed run may get another limit, and its pairs may have moved; everything else must stay as it was.
    """
    if folder.exists() and not folder.is_dir():
        raise CliError(f"--out: {folder} is a file, expected a folder")
    if not args.resume and (folder / NAME).exists():
        raise CliError(f"--out: {folder} holds a run; go on with --resume, or choose another folder")
    names = [field.name for field in fields(PairSettings)]
    given = {name: value for name in names if (value := getattr(args, name, None)) is not None and value is not False}
    if "pairs" in given:
        given["pairs"] = str(Path(given["pairs"]).absolute())
    limits: dict[str, Any] = {name: given.pop(name) for name in LIMITS if name in given}
    if args.resume:
        settings = load(folder)
        if ":" in settings.cell and "cell" not in given:  # a file makes nobody import anything
            raise CliError(f"--resume: the run in {folder} is of a cell of yours; name it: --cell {settings.cell}")
        settings = replace(settings, pairs=given.pop("pairs", settings.pairs))
        for name, value in given.items():
            if value != getattr(settings, name):
                flag = "--" + name.replace("_", "-")
                raise CliError(f"{flag}: the run in {folder} began with {getattr(settings, name)!r}, not {value!r}")
    else:
        if "pairs" not in given:
            raise CliError("PAIRS: expected a tab-separated file")
        settings = PairSettings(**given)
        limits = limits or {"minutes": DEFAULT_MINUTES}
    if limits:
        whole: dict[str, Any] = {name: limits.get(name) for name in LIMITS}
        settings = replace(settings, **whole)
    return settings


class Pairs(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    pairs : list of (source, target)
    skipped : int
        Lines without two texts, or not UTF-8.
    """

    pairs: list[tuple[str, str]]
    skipped: int


def read_pairs(path: str, *, swap: bool = False) -> Pairs:
    """Read a file of lines ``source TAB target``; further columns are passed over.

    In the Tanaka corpus's own form, ``A: source TAB target#ID=…`` with ``B:`` lines between, marks and numbers are cut
    off. Lines that aren't UTF-8 are passed over.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise CliError(f"PAIRS: {reason(error)}") from None
    found, skipped, broken = [], 0, 0
    for line in text.split("\n"):
        if "\ufffd" in line or "\0" in line:  # such as UTF-16
            broken += 1
            continue
        columns = line.rstrip("\r").split("\t")
        if columns[0].startswith("B: ") and len(columns) == 1:
            continue
        if columns[0].startswith("A: ") and "#ID=" in line:
            columns = [columns[0][3:], *(column.partition("#ID=")[0] for column in columns[1:])]
        pair = tuple(" ".join(column.split()) for column in columns[:2])
        if len(pair) == 2 and all(pair):
            found.append((pair[1], pair[0]) if swap else (pair[0], pair[1]))
        elif line.strip():
            skipped += 1
    if len(found) < 2:
        not_text = f" ({plural(broken, 'line')} not UTF-8)" if broken else ""
        raise CliError(
            f"PAIRS: {path} holds {len(found)} pairs of texts{not_text}; expected lines of source, tab, target"
        )
    return Pairs(found, skipped + broken)


def split_pairs(pairs: Sequence[tuple[str, str]], held_out: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Return pairs to learn from, and held-out ones: about as many as asked for, at most a tenth, at least one. No
    source is among both."""
    sources = list(dict.fromkeys(source for source, _ in pairs))
    if len(sources) < 2:
        raise CliError("PAIRS: expected at least two different sources")
    count = min(max(min(held_out, len(sources) // 10), 1), len(sources) - 1)
    chosen = {sources[k] for k in np.random.default_rng(seed).permutation(len(sources))[:count]}
    return [pair for pair in pairs if pair[0] not in chosen], [pair for pair in pairs if pair[0] in chosen]


def bleu(texts: Sequence[str], references: Sequence[str]) -> float:
    """BLEU in percent, by sacrebleu; 0 of no texts.

    Raises
    ------
    ImportError
        It isn't installed.
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError('BLEU needs sacrebleu: pip install "fastrnn[examples]"') from error
    return 0.0 if not texts else float(sacrebleu.corpus_bleu(list(texts), [list(references)]).score)
