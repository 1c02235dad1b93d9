"""``fastrnn train``: train a language model of characters or words."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

import fastrnn
from fastrnn.cli._config import toml
from fastrnn.cli._output import progress, result
from fastrnn.cli._parse import CliError, Failed, command, count, number, printable, reason
from fastrnn.cli.cells import cell, imported
from fastrnn.cli.distributed import Ranks, spread
from fastrnn.cli.settings import (
    DEFAULT_MINUTES,
    DEFAULT_OUT,
    LEARNING_RATES,
    OTHER_RATE,
    Settings,
    choose_folder,
    digest,
    resolve,
)
from fastrnn.cli.tokens import KINDS, pieces
from fastrnn.io import read_header, save
from fastrnn.models import LanguageModel
from fastrnn.models._cells import CELLS, cell_name
from fastrnn.text import CharVocabulary, Corpus, load_corpus, split_corpus
from fastrnn.train import Adam, Checkpoint, History, Interrupted, TokenWindows, fit
from fastrnn.train.progress import amount, plural
from fastrnn.train.schedules import Cosine

__all__ = ["add", "run"]

# A validation during the run reads about this many characters; the figure at the end reads all held-out text.
VALIDATION_CHARS = 32_768
VALIDATION_STEPS = 500
KIND_DEFAULTS = ("symbols", "seq_len")
BITS = 1.0 / math.log(2.0)
SAMPLE_PROMPT, SAMPLE_LENGTH, SAMPLE_TEMPERATURE = "def ", 400, 0.8
EXAMPLES = """
fastrnn train                                     a minute on the sources of the standard library
fastrnn train --text novel.txt --cell gru --hidden 512 --minutes 10 --out novel
fastrnn train --resume --out novel --minutes 20   go on, to twenty minutes in all
fastrnn train --tokens words --steps 2000         a model of words
fastrnn train --lr 4e-3 --print-config > run.toml
fastrnn train --config run.toml --hidden 128      options from a file; the command line wins
fastrnn train --quiet --json > result.json        for programs
"""


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = command(
        subparsers,
        "train",
        description="Train a language model of characters or words, without arguments on the sources of Python's "
        "standard library. Ctrl-C saves; --resume goes on.",
        examples=EXAMPLES,
        progress=True,
    )
    parser.add_argument("--print-config", action="store_true", help="write what --config reads, and don't train")
    parser.add_argument("--json", action="store_true", help="one object of JSON at the end; words to standard error")
    d = Settings()
    rates = ", ".join([*(f"{name} {rate}" for name, rate in LEARNING_RATES.items()), f"others {OTHER_RATE}"])
    positive: Any = number(0.0, open_low=True)
    text = parser.add_argument_group("text")
    text.add_argument("--text", metavar="PATH", help="a text file, or a folder (default: the standard library)")
    text.add_argument("--tokens", choices=tuple(KINDS), help=f"what the model reads (default: {d.tokens})")
    symbols, lengths = (", ".join(f"{getattr(k, key)} {name}" for name, k in KINDS.items()) for key in KIND_DEFAULTS)
    text.add_argument("--symbols", type=count(2), metavar="N", help=f"most that the model knows (default: {symbols})")
    model = parser.add_argument_group("model")
    cells = f"{', '.join(CELLS)}, or module:name of a cell made by fr.cell"
    model.add_argument("--cell", type=cell, metavar="CELL", help=f"{cells} (default: {d.cell})")
    model.add_argument("--hidden", type=count(), metavar="N", help=f"units of a layer (default: {d.hidden})")
    model.add_argument("--layers", type=count(), metavar="N", help=f"(default: {d.layers})")
    model.add_argument("--embedding", type=count(), metavar="N", help=f"numbers a token (default: {d.embedding})")
    model.add_argument("--dropout", type=number(0.0, 1.0, open_high=True), metavar="P", help=f"(default: {d.dropout})")
    training = parser.add_argument_group("training")
    training.add_argument("--batch", type=count(), metavar="N", help=f"rows of a step (default: {d.batch})")
    training.add_argument("--seq-len", type=count(), metavar="N", help=f"steps of a row (default: {lengths})")
    training.add_argument("--lr", type=positive, metavar="X", help=f"highest learning rate (default: {rates})")
    training.add_argument("--seed", type=count(0), metavar="N", help=f"(default: {d.seed})")
    training.add_argument("--threads", type=count(), metavar="N", help="(default: all that this process may use)")
    training.add_argument(
        "--distributed",
        action="store_true",
        help="train with the processes that mpiexec started: mpiexec -n 2 fastrnn train --distributed",
    )
    limit = training.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=positive, metavar="X", help=f"(default: {DEFAULT_MINUTES:g})")
    limit.add_argument("--epochs", type=count(), metavar="N", help="passes over the text, instead of --minutes")
    limit.add_argument("--steps", type=count(), metavar="N", help="steps, instead of --minutes")
    files = parser.add_argument_group("files")
    files.add_argument("--out", metavar="FOLDER", help=f"(default: {DEFAULT_OUT}, {DEFAULT_OUT}-2, …)")
    files.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out (default: the last); the limit counts from the run's begin",
    )
    parser.set_defaults(run=run, talks=True, saves=True)


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, show a sample, and write the run's folder."""
    return spread(_train, args)


def _train(args: argparse.Namespace, ranks: Ranks) -> int:
    folder, settings = ranks.from_root(lambda: (found := choose_folder(args), resolve(args, found)))
    if args.print_config:
        print(toml("train", args, settings), end="")
        return 0
    if args.threads is not None:
        fastrnn.set_num_threads(args.threads)
    else:
        ranks.share_cpus()
    corpus, train_text, held_text = _texts(settings, folder)
    fingerprint = digest(train_text, held_text)
    if args.resume and settings.digest != fingerprint:
        raise CliError(f"--resume: the text is not the one that the run in {folder} began with")
    kind = KINDS[settings.tokens]
    vocabulary = kind.vocabulary(train_text, settings.symbols)
    tokens, held = kind.encode(train_text, vocabulary), kind.encode(held_text, vocabulary)
    _enough(settings, corpus, tokens, held)
    model = LanguageModel(
        vocabulary,
        imported(settings.cell),
        embedding_dim=settings.embedding,
        hidden_size=settings.hidden,
        num_layers=settings.layers,
        dropout=settings.dropout,
        seed=settings.seed,
    )
    data, validation = _windows(settings, tokens, held)
    try:
        settings = Settings(**{**vars(settings), "digest": fingerprint})
        if ranks.root:
            settings.save(folder)
    except OSError as error:
        raise CliError(f"--out: can't write to {folder}: {error.strerror}") from None
    _introduce(settings, corpus, tokens, held, model)
    if args.resume:
        print(_resumed(folder), flush=True)
    ranks.ready(fingerprint)
    try:
        return _run(settings, model, data, validation, held, folder, ranks, resume=args.resume)
    except KeyboardInterrupt:
        print(f"\nstopped at once; {_kept(folder)}. To go on:\n  {_go_on(folder, settings)}")
        result(run=str(folder), stopped=True, step=_step(folder), files=[])
        return 130


def _run(
    settings: Settings,
    model: LanguageModel,
    data: TokenWindows,
    validation: TokenWindows,
    held: Any,
    folder: Path,
    ranks: Ranks,
    *,
    resume: bool,
) -> int:
    """Train and evaluate; return the exit code. Raise KeyboardInterrupt where Ctrl-C left no time to save."""
    try:
        history = _fit(settings, model, data, validation, folder, ranks.comm, resume=resume)
        if not ranks.root:
            return 0
    except Interrupted as stop:
        if not ranks.root:
            return 0
        written = _write(folder, model, stop.history, {}, plot=True)
        result(**facts(folder, model, stop.history, written, stopped=True))
        print(f"\n{str(stop).partition(';')[0]}; saved in {folder}. To go on:\n  {_go_on(folder, settings)}")
        return 130
    written = _write(folder, model, history, {})  # the evaluation may take long
    print(f"evaluating on {amount(len(held))} held-out {settings.tokens} …", flush=True)
    try:
        line, figures = KINDS[settings.tokens].held_out(model, held)
    except KeyboardInterrupt:
        print(f"\nstopped in the evaluation; the model is saved in {folder}. To evaluate it:")
        print(f"  {_go_on(folder, settings)}")
        result(**facts(folder, model, history, written, stopped=True))
        return 130
    print(f"held-out text: {line}")
    history.notes.update(figures)
    written = _write(folder, model, history, figures, plot=True)
    result(**facts(folder, model, history, written))
    _show_sample(model, settings.seed)
    print(f"\nsaved in {folder}: {', '.join(written)}")
    prompt = f"--prompt {shlex.quote(SAMPLE_PROMPT)}{_own(settings)}"
    print(f"more text: fastrnn sample {shlex.quote(str(folder))} {prompt}")
    return 0


def facts(folder: Path, model: Any, history: History, files: list[str], *, stopped: bool = False) -> dict[str, Any]:
    """What ``--json`` tells of a run."""
    steps = history.steps
    return {
        "run": str(folder),
        "stopped": stopped,
        "step": int(steps["step"][-1]) if steps["step"] else 0,
        "seconds": steps["seconds"][-1] if steps["seconds"] else 0.0,
        "loss": steps["loss"][-1] if steps["loss"] else None,
        "parameters": model.num_params,
        "figures": {name: value for name, value in history.notes.items() if isinstance(value, float)},
        "files": [str(folder / name) for name in files],
    }


def _texts(settings: Settings, folder: Path) -> tuple[Corpus, str, str]:
    """Return the corpus, its training part and its held-out part."""
    if settings.text is not None and folder.resolve() == Path(settings.text).resolve():
        raise CliError(f"--out: expected another folder than that of the text, got {folder}")
    try:
        corpus = load_corpus(settings.text, exclude=[folder])
    except (OSError, ValueError) as error:
        raise CliError(f"--text: {reason(error)}") from None
    train_text, held_text = split_corpus(corpus, settings.held_out)
    return corpus, train_text, held_text


def _enough(settings: Settings, corpus: Corpus, tokens: Any, held: Any) -> None:
    # Rows are cut at a random offset below seq_len, and each has at least one step.
    needed = settings.batch + settings.seq_len
    if len(tokens) < needed or len(held) < 2:
        there = corpus.size if settings.tokens == "characters" else len(tokens) + len(held) - 4  # ends of texts
        raise CliError(
            f"--text: {there} {settings.tokens} are too few for --batch {settings.batch} and --seq-len "
            f"{settings.seq_len}; at least {math.ceil((needed + 1) / (1 - settings.held_out))} are needed"
        )


def _windows(settings: Settings, tokens: Any, held: Any) -> tuple[TokenWindows, TokenWindows]:
    """Return the training data, and the part of the held-out text that validations read."""
    rows = min(settings.batch, len(held) - 1)
    data = TokenWindows(tokens, batch_size=settings.batch, seq_len=settings.seq_len, shuffle=True, seed=settings.seed)
    return data, TokenWindows(
        held,
        batch_size=rows,
        seq_len=settings.seq_len,
        max_windows=max(1, VALIDATION_CHARS // (rows * settings.seq_len)),
    )


def _fit(
    settings: Settings,
    model: LanguageModel,
    data: TokenWindows,
    validation: TokenWindows,
    folder: Path,
    comm: Any,
    *,
    resume: bool,
) -> History:
    kind = KINDS[settings.tokens]
    try:
        return fit(
            model,
            data,
            optimizer=Adam(model, lr=settings.lr),
            **settings.limits(),
            validation=validation,
            validate_every=VALIDATION_STEPS,
            schedule=Cosine(warmup=settings.warmup, final=settings.final_lr),
            clip_norm=settings.clip_norm,
            carry_state=True,
            checkpoint=folder,
            resume=resume,
            seed=settings.seed,
            progress=progress(f"bits/{kind.short}", scale=BITS, unit=kind.short),
            comm=comm,
        )
    except FloatingPointError as error:
        raise Failed(str(error)) from None
    except ValueError as error:
        if not resume:
            raise
        raise CliError(f"--resume: {error}") from None


def _introduce(settings: Settings, corpus: Corpus, tokens: Any, held: Any, model: LanguageModel) -> None:
    here = fastrnn.info()
    print(f"fastrnn {here['version']}: {here['isa']}, {plural(here['num_threads'], 'thread')}")
    share = 100.0 * len(held) / (len(tokens) + len(held))
    files = f" in {len(corpus.texts)} files" if len(corpus.texts) > 1 else ""
    cut = ", cut there" if corpus.cut else ""
    print(f"text: {corpus.name}, {amount(corpus.size)} characters{files}{cut}, {share:.1f}% held out")
    if corpus.undecodable:
        print(f"  not UTF-8, read as U+FFFD: {plural(corpus.undecodable, 'place')}")
    unk = getattr(model.vocabulary, "unk", 0)
    unknown = [float((part == unk).mean()) for part in (tokens, held)]
    if max(unknown) > 0:
        print(
            f"  unknown to the {model.vocab_size} {settings.tokens} of the model: {100 * unknown[0]:.2g}% of the "
            f"training text, {100 * unknown[1]:.2g}% of the held-out text; --symbols sets how many it may know"
        )
    if len(held) > 2 * VALIDATION_CHARS:
        print(
            f"  validations read about {amount(VALIDATION_CHARS)} of the held-out {settings.tokens}, the end reads all"
        )
    layers = f"{plural(settings.layers, 'layer')} of {settings.hidden} units"
    print(
        f"model: {cell_name(model.cell)}, {layers}, {amount(model.num_params)} parameters, "
        f"{model.vocab_size} {settings.tokens}",
        flush=True,
    )


def _step(folder: Path) -> int | None:
    """Return the step of the folder's checkpoint, or None where there is none."""
    checkpoint = Checkpoint(folder)
    if not checkpoint.exists():
        return None
    try:
        return int(read_header(checkpoint.path)["tree"]["numbers"]["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"--resume: {checkpoint.path} can't be read: {error}") from None


def _resumed(folder: Path) -> str:
    step = _step(folder)
    return f"no checkpoint in {folder} yet: from the beginning" if step is None else f"going on after step {step}"


def _kept(folder: Path) -> str:
    step = _step(folder)
    return "nothing was saved yet" if step is None else f"the last checkpoint, of step {step}, is in {folder}"


def _show_sample(model: LanguageModel, seed: int) -> None:
    length = SAMPLE_LENGTH if isinstance(model.vocabulary, CharVocabulary) else SAMPLE_LENGTH // 4
    tokens = model.generate(SAMPLE_PROMPT, length, temperature=SAMPLE_TEMPERATURE, seed=seed)
    text = "".join(pieces(model.vocabulary, SAMPLE_PROMPT, tokens))
    print(f"a sample at temperature {SAMPLE_TEMPERATURE}:\n")
    print("\n".join("    " + line for line in printable(SAMPLE_PROMPT + text).splitlines()))


def _write(
    folder: Path, model: LanguageModel, history: History, metadata: dict[str, Any], *, plot: bool = False
) -> list[str]:
    """Write model and history, and the plot if wanted; return the names."""
    save(model, folder / "model.safetensors", metadata=metadata)
    history.save(folder / "history.json")
    written = ["model.safetensors", "history.json"]
    if plot:
        try:
            noun = "character" if isinstance(model.vocabulary, CharVocabulary) else "word"
            history.plot(folder / "loss.png", label=f"bits per {noun}", scale=BITS)
            written.append("loss.png")
        except ImportError as error:
            print(f"no plot: {error}")
    return written


def _go_on(folder: Path, settings: Settings) -> str:
    return f"fastrnn train --resume --out {shlex.quote(str(folder))}{_own(settings)}"


def _own(settings: Any) -> str:
    """What a command has to name: a cell that is none of ours."""
    return f" --cell {settings.cell}" if ":" in settings.cell else ""
