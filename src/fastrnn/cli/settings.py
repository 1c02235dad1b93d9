"""Settings of ``fastrnn train``: the defaults, and what a resumed run takes over from the run's folder."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fastrnn.cli._parse import CliError
from fastrnn.cli.tokens import KINDS
from fastrnn.io import write_json
from fastrnn.text.corpus import RUN_FILE, RUN_KEY

__all__ = ["Settings", "choose_folder", "digest", "resolve"]

NAME = RUN_FILE
DEFAULT_OUT = "fastrnn-run"


@dataclass(frozen=True)
class Settings:
    """What a run does. The defaults are chosen for one minute on two cores."""

    text: str | None = None
    tokens: str = "characters"
    cell: str = "lstm"
    embedding: int = 64
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.0
    seq_len: int = 128
    batch: int = 32
    lr: float = 0.0  # set by `resolve`, from LEARNING_RATES
    warmup: float = 0.02  # share of the run in which the learning rate rises
    final_lr: float = 0.01  # share of `lr` that is left at the end of the cosine
    clip_norm: float = 1.0
    symbols: int = 128  # of the vocabulary; like seq_len set by `resolve` from what KINDS has for `tokens`
    held_out: float = 0.05
    seed: int = 0
    minutes: float | None = None
    epochs: int | None = None
    steps: int | None = None
    digest: str = ""  # of the text

    def limits(self) -> dict[str, Any]:
        """Return the one limit of the run that is set."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}

    def save(self, folder: Path) -> None:
        """Write the settings into the run's folder."""
        write_json(folder / NAME, {RUN_KEY: 1, **asdict(self)})


LIMITS = ("minutes", "epochs", "steps")
# Near the best after two million characters; a plain RNN ends far worse at the rate of the gated cells.
# For words, too: an LSTM after 1,000 steps on the standard library has perplexity 36.3, with 4e-3 41.5, with 2e-3 50.5.
LEARNING_RATES = {"lstm": 8e-3, "gru": 8e-3, "rnn": 3e-3}
# The better of 3e-3 and 8e-3 after 250 steps of 128 units (minGRU: 3.13 and 2.85 bits a character).
LEARNING_RATES |= dict.fromkeys(("sru", "qrnn", "mingru", "minlstm", "lru", "indrnn"), 8e-3)
OTHER_RATE = 3e-3  # of cells that users write: gates or not, it trains
DEFAULT_MINUTES = 1.0


def load(folder: Path) -> Settings:
    """Read the settings of the run in `folder`."""
    path = folder / NAME
    try:
        data = json.loads(path.read_text())
        if data.pop(RUN_KEY) != 1:
            raise ValueError("of another version")
        return Settings(**data)
    except FileNotFoundError:
        raise CliError(f"--resume: {folder} holds no run (no {NAME})") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CliError(f"--resume: {path} can't be read: {error}") from None


def choose_folder(args: Namespace) -> Path:
    """Return the run's folder: --out, or fastrnn-run, fastrnn-run-2, …: the first free one, with --resume the
    last."""
    if args.out is not None:
        folder = Path(args.out)
        if folder.exists() and not folder.is_dir():
            raise CliError(f"--out: {folder} is a file, expected a folder")
        if not args.resume and (folder / NAME).exists():
            raise CliError(f"--out: {folder} holds a run; go on with --resume, or choose another folder")
        return folder
    number, folder = 1, Path(DEFAULT_OUT)
    last = None
    while folder.exists():
        if (folder / NAME).exists():
            last = folder
        number += 1
        folder = Path(f"{DEFAULT_OUT}-{number}")
    if not args.resume:
        return folder
    if last is None:
        raise CliError("--resume: no run here; name its folder with --out")
    return last


def resolve(args: Namespace, folder: Path) -> Settings:
    """Combine what was given with the defaults or, on --resume, with the run's own settings.

    A resumed run may get another limit, and its text may have moved (the digest tells whether it is the same);
    everything else must stay as it was.
    """
    given = {
        field.name: getattr(args, field.name)
        for field in fields(Settings)
        if getattr(args, field.name, None) is not None
    }
    if given.get("text") is not None:
        given["text"] = str(Path(given["text"]).absolute())
    limits: dict[str, Any] = {name: given.pop(name) for name in LIMITS if name in given}
    if args.resume:
        settings = load(folder)
        if ":" in settings.cell and "cell" not in given:  # a file makes nobody import anything
            raise CliError(f"--resume: the run in {folder} is of a cell of yours; name it: --cell {settings.cell}")
        settings = replace(settings, text=given.pop("text", settings.text))
        for name, value in given.items():
            if value != getattr(settings, name):
                flag = "--" + name.replace("_", "-")
                raise CliError(f"{flag}: the run in {folder} began with {getattr(settings, name)!r}, not {value!r}")
    else:
        given.setdefault("lr", LEARNING_RATES.get(given.get("cell", Settings.cell), OTHER_RATE))
        kind = KINDS[given.get("tokens", Settings.tokens)]
        given = {"symbols": kind.symbols, "seq_len": kind.seq_len, **given}
        settings = replace(Settings(), **given)
        limits = limits or {"minutes": DEFAULT_MINUTES}
    if limits:
        whole: dict[str, Any] = {name: limits.get(name) for name in LIMITS}
        settings = replace(settings, **whole)
    return settings


def digest(*texts: str) -> str:
    """Return a fingerprint of texts."""
    total = hashlib.sha256()
    for text in texts:
        total.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return total.hexdigest()
