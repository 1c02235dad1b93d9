"""``fastrnn train-seq2seq``: train a model that translates, on pairs of texts."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import fastrnn
from fastrnn.cli._config import toml
from fastrnn.cli._output import progress, result
from fastrnn.cli._parse import CliError, Failed, command, count, number, printable
from fastrnn.cli.cells import imported, step_cell
from fastrnn.cli.pairs import DEFAULT_MINUTES, PairSettings, bleu, read_pairs, resolve, split_pairs
from fastrnn.cli.settings import digest
from fastrnn.cli.train import _kept, _own, _resumed, _step, facts
from fastrnn.io import save
from fastrnn.models import Seq2Seq
from fastrnn.models._cells import STEPS, cell_name
from fastrnn.nn.decoder import SCORES
from fastrnn.text import Vocabulary
from fastrnn.text.tokenizers import TOKENIZERS
from fastrnn.train import Adam, History, Interrupted, fit
from fastrnn.train.progress import amount, plural
from fastrnn.train.schedules import Cosine

__all__ = ["add", "run"]

VALIDATION_STEPS = 500
SHOWN = 3
EXAMPLES = """
fastrnn train-seq2seq pairs.tsv --out translator   lines of source, tab, target
fastrnn train-seq2seq pairs.tsv --swap --minutes 20 --hidden 512 --out back
fastrnn train-seq2seq --resume --out translator --minutes 10
fastrnn train-seq2seq --config run.toml --seed 1 --out second
"""
ONE_DIRECTION = ("dot", "scaled_dot")  # they compare states of encoder and decoder, which must have one size


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = command(
        subparsers,
        "train-seq2seq",
        description="Train a sequence-to-sequence model on a file of lines: source, tab, target. Ctrl-C saves; "
        "--resume goes on.",
        examples=EXAMPLES,
        progress=True,
    )
    parser.add_argument("--print-config", action="store_true", help="write what --config reads, and don't train")
    parser.add_argument("--json", action="store_true", help="one object of JSON at the end; words to standard error")
    d = PairSettings()
    positive: Any = number(0.0, open_low=True)
    share: Any = number(0.0, 1.0, open_high=True)
    text = parser.add_argument_group("pairs")
    text.add_argument("pairs", nargs="?", metavar="PAIRS", help="a tab-separated file; with --resume not needed")
    text.add_argument("--swap", action="store_true", help="translate the second column into the first")
    kinds = "how texts are split: into words and punctuation, at white space, into characters"
    text.add_argument("--tokens", choices=tuple(TOKENIZERS), help=f"{kinds} (default: {d.tokens})")
    text.add_argument("--words", type=count(5), metavar="N", help=f"most tokens of a vocabulary (default: {d.words})")
    text.add_argument(
        "--min-count", type=count(), metavar="N", help=f"rarer tokens are unknown (default: {d.min_count})"
    )
    text.add_argument("--longest", type=count(), metavar="N", help=f"longer texts are left out (default: {d.longest})")
    text.add_argument("--held-out", type=count(), metavar="N", help=f"pairs, at most 10%% (default: {d.held_out})")
    model = parser.add_argument_group("model")
    cells = f"{', '.join(STEPS)}, or module:name of a cell made by fr.cell"
    model.add_argument("--cell", type=step_cell, metavar="CELL", help=f"{cells} (default: {d.cell})")
    model.add_argument("--hidden", type=count(), metavar="N", help=f"units of a layer (default: {d.hidden})")
    model.add_argument("--layers", type=count(), metavar="N", help=f"of encoder and decoder (default: {d.layers})")
    model.add_argument("--embedding", type=count(), metavar="N", help=f"numbers a token (default: {d.embedding})")
    model.add_argument(
        "--attention",
        choices=(*SCORES, "none"),
        help=f"of {' and '.join(ONE_DIRECTION)} the encoder reads forwards only (default: {d.attention})",
    )
    model.add_argument("--reverse-source", action="store_true", help="read sources from their ends only")
    model.add_argument("--peeky", action="store_true", help="the decoder sees the thought vector in each step")
    model.add_argument("--dropout", type=share, metavar="P", help=f"(default: {d.dropout})")
    training = parser.add_argument_group("training")
    training.add_argument("--label-smoothing", type=share, metavar="E", help=f"(default: {d.label_smoothing})")
    training.add_argument(
        "--sampling",
        type=number(0.0, 1.0),
        metavar="P",
        help="share of its own tokens that the decoder reads (default: 0)",
    )
    training.add_argument("--batch", type=count(), metavar="N", help=f"pairs of a step (default: {d.batch})")
    training.add_argument("--lr", type=positive, metavar="X", help=f"highest learning rate (default: {d.lr})")
    training.add_argument("--beam", type=count(), metavar="N", help=f"of the held-out translations (default: {d.beam})")
    training.add_argument("--seed", type=count(0), metavar="N", help=f"(default: {d.seed})")
    training.add_argument("--threads", type=count(), metavar="N", help="(default: all that this process may use)")
    limit = training.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=positive, metavar="X", help=f"(default: {DEFAULT_MINUTES:g})")
    limit.add_argument("--epochs", type=count(), metavar="N", help="passes over the pairs, instead of --minutes")
    limit.add_argument("--steps", type=count(), metavar="N", help="steps, instead of --minutes")
    files = parser.add_argument_group("files")
    files.add_argument("--out", required=True, metavar="FOLDER", help="the run's folder")
    files.add_argument(
        "--resume", action="store_true", help="go on with the run there; the limit counts from the run's begin"
    )
    parser.set_defaults(run=run, talks=True, saves=True)


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, show translations, and write the run's folder."""
    folder = Path(args.out)
    settings = resolve(args, folder)
    if args.print_config:
        print(toml("train-seq2seq", args, settings), end="")
        return 0
    if args.threads is not None:
        fastrnn.set_num_threads(args.threads)
    pairs, skipped = read_pairs(settings.pairs, swap=settings.swap)
    learned, held = split_pairs(pairs, settings.held_out, settings.seed)
    fingerprint = digest(*(text for pair in pairs for text in pair))
    if args.resume and settings.digest != fingerprint:
        raise CliError(f"--resume: the pairs are not those that the run in {folder} began with")
    model = _model(settings, learned)
    kept = _short(model, learned, settings.longest)
    try:
        settings = PairSettings(**{**vars(settings), "digest": fingerprint})
        settings.save(folder)
    except OSError as error:
        raise CliError(f"--out: can't write to {folder}: {error.strerror}") from None
    here = fastrnn.info()
    print(f"fastrnn {here['version']}: {here['isa']}, {plural(here['num_threads'], 'thread')}")
    passed = f"{plural(skipped, 'line')}, {len(learned) - len(kept)} long"
    print(f"pairs: {len(kept)}, and {len(held)} held out; passed over: {passed}")
    print(
        f"model: {cell_name(imported(settings.cell))}, attention {settings.attention}, "
        f"{amount(model.num_params)} parameters, {model.source.size} and {model.target.size} tokens",
        flush=True,
    )
    if args.resume:
        print(_resumed(folder), flush=True)
    try:
        return _run(settings, model, kept, held, folder, resume=args.resume)
    except KeyboardInterrupt:
        print(f"\nstopped at once; {_kept(folder)}. To go on:\n  {_go_on(folder, settings)}")
        result(run=str(folder), stopped=True, step=_step(folder), files=[])
        return 130


def _model(settings: PairSettings, pairs: list[Any]) -> Seq2Seq:
    source, target = (
        Vocabulary.from_texts(texts, tokenizer=settings.tokens, max_size=settings.words, min_count=settings.min_count)
        for texts in ([pair[k] for pair in pairs] for k in range(2))
    )
    attention = None if settings.attention == "none" else settings.attention
    try:
        return Seq2Seq(
            source, target, imported(settings.cell), embedding_dim=settings.embedding, hidden_size=settings.hidden,
            num_layers=settings.layers, bidirectional=not settings.reverse_source and attention not in ONE_DIRECTION,
            attention=attention, reverse_source=settings.reverse_source, peeky=settings.peeky,
            dropout=settings.dropout, label_smoothing=settings.label_smoothing, sampling=settings.sampling,
            seed=settings.seed,
        )  # fmt: skip
    except ValueError as error:
        raise CliError(str(error)) from None


def _short(model: Seq2Seq, pairs: list[Any], longest: int) -> list[Any]:
    """Pairs whose texts have at most so many tokens."""
    found = [p for p in pairs if max(len(model.source.encode(p[0])), len(model.target.encode(p[1]))) <= longest]
    if not found:
        raise CliError(f"--longest: no pair has at most {longest} tokens on each side")
    return found


def _run(settings: PairSettings, model: Seq2Seq, pairs: Any, held: Any, folder: Path, *, resume: bool) -> int:
    """Train and evaluate; return the exit code. Raise KeyboardInterrupt where Ctrl-C left no time to save."""
    try:
        history = _fit(settings, model, pairs, held, folder, resume=resume)
    except Interrupted as stop:
        written = _write(folder, model, stop.history, {})
        result(**facts(folder, model, stop.history, written, stopped=True))
        print(f"\n{str(stop).partition(';')[0]}; saved in {folder}. To go on:\n  {_go_on(folder, settings)}")
        return 130
    written = _write(folder, model, history, {})  # the evaluation may take long
    try:
        figures = _evaluate(settings, model, held)
    except KeyboardInterrupt:
        print(f"\nstopped in the evaluation; the model is saved in {folder}. To evaluate it:")
        print(f"  {_go_on(folder, settings)}")
        result(**facts(folder, model, history, written, stopped=True))
        return 130
    history.notes.update(figures)
    written = _write(folder, model, history, figures)
    result(**facts(folder, model, history, written))
    print(f"\nsaved in {folder}: {', '.join(written)}")
    print(f"more: fastrnn translate {shlex.quote(str(folder))}{_own(settings)}")
    return 0


def _fit(settings: PairSettings, model: Seq2Seq, pairs: Any, held: Any, folder: Path, *, resume: bool) -> History:
    try:
        return fit(
            model,
            model.batches(pairs, settings.batch, seed=settings.seed),
            optimizer=Adam(model, lr=settings.lr),
            **settings.limits(),
            validation=model.batches(held, settings.batch, shuffle=False),
            validate_every=VALIDATION_STEPS,
            schedule=Cosine(warmup=settings.warmup, final=settings.final_lr),
            clip_norm=settings.clip_norm,
            checkpoint=folder,
            resume=resume,
            seed=settings.seed,
            progress=progress("nats/token", unit="token"),
        )
    except FloatingPointError as error:
        raise Failed(str(error)) from None
    except ValueError as error:
        if not resume:
            raise
        raise CliError(f"--resume: {error}") from None


def _evaluate(settings: PairSettings, model: Seq2Seq, held: list[Any]) -> dict[str, float]:
    """Perplexity, BLEU and the share of exact translations of held-out pairs, printed."""
    sources, references = [pair[0] for pair in held], [pair[1] for pair in held]
    figures = {"held_out_perplexity": model.perplexity(held)}
    print(f"held-out pairs: perplexity {figures['held_out_perplexity']:.3f} a token", flush=True)
    longest = max(len(model.target.encode(text)) for text in references)
    shown = _shown() and progress(unit="text")
    texts = model.translate(sources, beam_size=settings.beam, max_length=2 * longest + 10, progress=shown)
    for source, text, reference in list(zip(sources, texts, references, strict=True))[:SHOWN]:
        print("\n".join(f"  {printable(line)}" for line in (source, f"→ {text}", f"  ({reference})")))
    exact = sum(a == b for a, b in zip(texts, references, strict=True)) / len(texts)
    figures["held_out_exact"] = exact
    try:
        figures["held_out_bleu"] = bleu(texts, references)
        print(f"held-out pairs: BLEU {figures['held_out_bleu']:.2f}, {100 * exact:.1f}% exact")
    except ImportError as error:
        print(f"held-out pairs: {100 * exact:.1f}% exact; {error}")
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _shown() -> bool:
    """Whether someone looks."""
    return sys.stderr is not None and sys.stderr.isatty()


def _write(folder: Path, model: Seq2Seq, history: History, metadata: dict[str, Any]) -> list[str]:
    """Write model, history and plot; return the names."""
    save(model, folder / "model.safetensors", metadata=metadata)
    history.save(folder / "history.json")
    written = ["model.safetensors", "history.json"]
    try:
        history.plot(folder / "loss.png", label="nats per token")
        written.append("loss.png")
    except ImportError as error:
        print(f"no plot: {error}")
    return written


def _go_on(folder: Path, settings: PairSettings) -> str:
    return f"fastrnn train-seq2seq --resume --out {shlex.quote(str(folder))}{_own(settings)}"
