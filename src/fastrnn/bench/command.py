"""``fastrnn bench`` and ``python -m fastrnn.bench``: options, progress, tables, files."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from fastrnn.bench import figures, layers, machine, plot, remote, summary, targets
from fastrnn.bench.agree import Disagreement
from fastrnn.bench.cases import CELLS, FLOAT64_SHAPES, MODES, SHAPES, Case, Shape, grid
from fastrnn.bench.peers import PEERS, choose
from fastrnn.bench.table import table
from fastrnn.bench.timing import SideError, one_line
from fastrnn.io import finite, write_json
from fastrnn.train.progress import plural

__all__ = ["WHAT", "add_options", "run"]

WHAT = ("layers", "figures", "published")
DEFAULT_SHAPES = (SHAPES[0], SHAPES[1], SHAPES[4], SHAPES[5])
QUICK_SHAPES = (SHAPES[1], SHAPES[4])
# Turns of a case end after so many seconds, once there were three: the usual run takes some two minutes, a grid
# an hour.
DEFAULT_SECONDS, QUICK_SECONDS, GRID_SECONDS = 2.0, 0.7, 20.0
DTYPES = ("float32", "float64")
MOST_THREADS = 256  # that fastrnn has
NOT_MEASURING = ("run", "command", "saves", "debug", "quiet", "no_progress", "config", "print_completion")
OF_LAYERS = ("cell", "shapes", "mode", "dtype", "peers", "seconds", "plot")  # options that nothing else heeds


def _several(names: Sequence[str]) -> Callable[[str], list[str]]:
    """An argument type: names with commas between them."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in names]:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(names)}, got {', '.join(unknown)}")
        return list(dict.fromkeys(chosen))

    return parse


def _shapes(text: str) -> list[Shape] | str:
    if text in ("all", "grid"):
        return text
    try:
        return [Shape.parse(part) for part in text.split() or [text]]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{error}; or "all", or "grid"') from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


def _threads(text: str) -> list[int]:
    parts = text.split(",")
    if wrong := [part for part in parts if not (part.isdecimal() and part.isascii() and len(part) < 9)]:
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1 to {MOST_THREADS}, got {wrong[0]!r}")
    counts = list(dict.fromkeys(map(int, parts)))
    if far := [count for count in counts if not 1 <= count <= MOST_THREADS]:
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1 to {MOST_THREADS}, got '{far[0]}'")
    return counts


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number of seconds >= 0, got {text!r}")
    return value


def _python(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if name not in PEERS or not path:
        raise argparse.ArgumentTypeError(f"expected PEER=PATH, a peer being one of {', '.join(PEERS)}; got {text!r}")
    return name, path


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options; `what` is measured unless the command line says otherwise."""
    parser.add_argument("what", nargs="?", choices=WHAT, default=what, help=f"(default: {what})")
    parser.add_argument("--published", action="store_const", const="published", help="the same as published")
    parser.add_argument("--cell", type=_several(tuple(CELLS)), metavar="CELLS", help="of lstm,gru,rnn (default: all)")
    parser.add_argument(
        "--shapes",
        type=_shapes,
        nargs="+",
        metavar="T,B,I,H",
        help="such as 128,32,256,256; or all, the grid's; or grid: these, one and two threads, float32 and on five "
        "shapes float64 (default: four shapes, some two minutes)",
    )
    parser.add_argument("--mode", type=_several(MODES), metavar="MODES", help="of train,infer,step (train,infer)")
    parser.add_argument("--dtype", type=_several(DTYPES), metavar="DTYPES", help="of float32,float64 (float32)")
    parser.add_argument("--peers", type=_several(tuple(PEERS)), metavar="PEERS", help=f"of {','.join(PEERS)}")
    parser.add_argument("--threads", type=_threads, metavar="N,M", help="of every side (default: 1, or a figure's)")
    parser.add_argument("--repeat", type=_count, metavar="N", help="turns of each side (default: 15; --quick: 5)")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="no more turns of a case after S seconds")
    parser.add_argument("--quick", action="store_true", help="two shapes, few turns: is everything in place?")
    parser.add_argument(
        "--python",
        type=_python,
        action="append",
        default=[],
        metavar="PEER=PATH",
        help="run a peer in another Python; once for each (also: FASTRNN_BENCH_PYTHON_JAX=PATH, …)",
    )
    parser.add_argument("--only", type=_several(tuple(figures.FIGURES)), metavar="KEYS", help="some of the figures")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write everything measured (alone: to standard output)",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="write a picture of the ratios (needs matplotlib)")


@dataclass
class _Measured:
    """What there is so far, for the table that Ctrl-C leaves."""

    comparisons: list[layers.Comparison]
    outcomes: dict[str, figures.Outcome]
    failed: dict[str, str]
    interrupted: bool = False


def _plan(args: argparse.Namespace) -> list[tuple[Case, int]]:
    """The cases to measure, each with its number of threads."""
    shapes, whole_grid = list(QUICK_SHAPES if args.quick else DEFAULT_SHAPES), False
    if args.shapes is not None:
        shapes = []
        for part in args.shapes:
            whole_grid = whole_grid or part == "grid"
            shapes += SHAPES if isinstance(part, str) else part
    threads = args.threads or ([1, 2] if whole_grid else [1])
    cells, modes = args.cell or tuple(CELLS), args.mode or ("train", "infer")
    cases = grid(shapes, cells, modes, args.dtype or ("float32",))
    if whole_grid and args.dtype is None:
        cases += grid(FLOAT64_SHAPES, cells, modes, ("float64",))
    return [(case, count) for count in threads for case in cases]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Progress:
    """Says what is being measured, unless nobody wants to know: a tqdm bar on a terminal, else a line each."""

    def __init__(self, total: int, args: argparse.Namespace) -> None:
        self.shown = not (getattr(args, "quiet", False) or getattr(args, "no_progress", False))
        self.total, self.done, self._bar = total, 0, None
        if self.shown and sys.stderr.isatty():
            try:
                from tqdm import tqdm  # type: ignore[import-untyped]
            except ImportError:
                return
            self._bar = tqdm(total=total, file=sys.stderr, dynamic_ncols=True, bar_format="{n}/{total} |{bar}| {desc}")

    @contextmanager
    def measuring(self, text: str) -> Iterator[None]:
        if self._bar is None and self.shown:
            _say(f"{self.done + 1}/{self.total} {text} …")
        elif self._bar is not None:
            self._bar.set_description_str(text)
        yield
        self.done += 1
        if self._bar is not None:
            self._bar.update()

    def found(self, text: str) -> None:
        """A result, which the tables will have."""
        if self.shown:
            self.write(text)

    def write(self, text: str) -> None:
        if self._bar is None:
            _say(text)
        else:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.set_description_str("")
            self._bar.close()


def _reason(error: Exception) -> str:
    """An error in one line; those of fastrnn.bench speak for themselves."""
    return " ".join(str(error).split()) if isinstance(error, (Disagreement, SideError)) else one_line(error)


def _told(text: str, error: Exception) -> str:
    """The same with the case, which a disagreement names by itself."""
    return _reason(error) if isinstance(error, Disagreement) else f"{text}: {_reason(error)}"


def _measure_layers(args: argparse.Namespace, names: Sequence[str], into: _Measured) -> None:
    plan = _plan(args)
    usual = DEFAULT_SECONDS if args.shapes is None else GRID_SECONDS
    most = args.seconds if args.seconds is not None else QUICK_SECONDS if args.quick else usual
    repeat = args.repeat or (5 if args.quick else 15)
    progress = _Progress(len(plan), args)
    declined: set[str] = set()
    try:
        for case, threads in plan:
            text = f"{case}, {plural(threads, 'thread')}"
            with progress.measuring(text):
                try:
                    result = layers.compare(case, names, threads=threads, repeat=repeat, most_seconds=most)
                except Exception as error:  # what else was measured is worth more than this case
                    into.failed[text] = _reason(error)
                    progress.write(f"not measured: {_told(text, error)}")
                    continue
                into.comparisons.append(result)
                found = [f"{ratio:.2f} × {peer}" for peer, ratio in summary.ratios(result).items()]
                progress.found(f"  {text}: {', '.join(found[:-1]) or 'nothing to compare with'}")
                for name, reason in result.sides.skipped.items():
                    failed = name in ("fastrnn", *result.turns.failed) or reason.startswith(f"{name}: ")
                    if failed or name not in declined:  # one that declines a kind of case says so once
                        progress.write(f"  left out: {reason}")
                    if not failed:
                        declined.add(name)
    finally:
        progress.close()


def _measure_figures(args: argparse.Namespace, keys: Sequence[str], into: _Measured) -> None:
    progress = _Progress(len(keys), args)
    repeat = args.repeat or (5 if args.quick else 15)
    try:
        for key in keys:
            with progress.measuring(figures.FIGURES[key].text):
                try:
                    into.outcomes[key] = figures.FIGURES[key].measure((args.threads or [None])[0], repeat)
                except Exception as error:  # the other figures are still wanted
                    into.failed[key] = _reason(error)
                    into.outcomes[key] = figures.Outcome(None, f"not measured: {into.failed[key]}")
                    progress.write(f"not measured: {key}: {into.failed[key]}")
    finally:
        progress.close()


def _tables(measured: _Measured) -> str:
    calls = [c for c in measured.comparisons if c.case.mode != "step"]
    steps = [c for c in measured.comparisons if c.case.mode == "step"]
    parts = [table(layers.rows(calls))] if calls else []
    parts += [table(layers.step_rows(steps))] if steps else []
    if summaries := summary.summarise(measured.comparisons):
        parts.append(table(summary.rows(summaries)))
    if measured.outcomes:
        parts.append(table(figures.rows(measured.outcomes)))
    return "\n\n".join(parts)


def _as_dict(measured: _Measured, facts: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {"machine": facts, "options": options, "failed": measured.failed}
    if measured.outcomes:
        known["figures"] = {key: figures.as_dict(key, outcome) for key, outcome in measured.outcomes.items()}
    if measured.comparisons:
        known["layers"] = [c.as_dict() for c in measured.comparisons]
        known["summary"] = [s.as_dict() for s in summary.summarise(measured.comparisons)]
    return known


def _check(args: argparse.Namespace, what: str) -> None:
    """Refuse, before anything is measured, files that can't be written and options that wouldn't be heeded."""
    if what == "layers":
        if args.only:
            raise ValueError("--only: names figures; layers are chosen by --cell, --shapes, --mode, --dtype")
    else:
        for name in OF_LAYERS:
            if getattr(args, name) is not None:
                raise ValueError(f"--{name}: is for layers; figures and published cases have their own, and a table")
        if args.threads and len(args.threads) > 1:
            raise ValueError(f"--threads: expected one number for {what}, got {','.join(map(str, args.threads))}")
    if args.json not in (None, "-"):
        targets.check(args.json, "--json")
    if args.plot is not None:
        plot.check(args.plot)


def _chosen(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those who can run here, and why the others can't."""
    skipped = choose(names)[1]
    if not set(names) - set(skipped):
        raise ValueError(f"--peers: none can be measured: {'; '.join(skipped.values())}")
    return [name for name in names if name not in skipped], skipped


def run(args: argparse.Namespace) -> int:
    """Measure, print the machine's facts and tables, and write the files that are asked for.

    Returns
    -------
    int
        Exit code: 0; 1 when sides computed different numbers or something else couldn't be measured (a figure that
        isn't as wanted is no error); 2 when nothing was measured, because all peers decline or fail; 130 after Ctrl-C,
        with the tables and files of what was measured.

    Raises
    ------
    ValueError
        An option can't be used: `--python` names no program, `--plot` no kind of picture, `--json` no file in a
        folder that is there, `--peers` nobody who is installed; or what is measured doesn't heed it.
    ImportError
        `--plot` without matplotlib.
    """
    if args.json != "-":
        return _run(args)[0]
    with redirect_stdout(io.StringIO() if getattr(args, "quiet", False) else sys.stderr):  # the tables are for people
        code, known = _run(args)
    print(json.dumps(finite(known)))
    return code


def _run(args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """The exit code, and everything measured."""
    what, quiet = args.published or args.what, getattr(args, "quiet", False)
    _check(args, what)
    for name, path in args.python:
        remote.use_python(name, path)
    names, skipped = _chosen(args.peers or list(PEERS)) if what == "layers" else ([], {})
    facts = machine.facts()
    if not quiet:
        print(*machine.lines(facts), sep="\n", end="\n\n", flush=True)
    measured = _Measured([], {}, {})
    try:
        if what == "layers":
            for reason in skipped.values():
                _say(f"skipped: {reason}")
            _measure_layers(args, names, measured)
        else:
            keys = figures.PUBLISHED if what == "published" else figures.USUAL
            _measure_figures(args, args.only or keys, measured)
    except KeyboardInterrupt:
        measured.interrupted = True
        _say("\ninterrupted; this was measured:")
    finally:
        remote.close_workers()
    measured.comparisons = layers.with_best_peaks(measured.comparisons)
    print(_tables(measured))
    options = {name: value for name, value in vars(args).items() if name not in NOT_MEASURING}
    known = _as_dict(measured, facts, {**options, "what": what, "interrupted": measured.interrupted})
    if args.json not in (None, "-"):
        write_json(args.json, known)
        if not quiet:
            _say(f"written: {args.json}")
    if args.plot and measured.comparisons:
        plot.save(measured.comparisons, facts, args.plot)
        if not quiet:
            _say(f"written: {args.plot}")
    if measured.interrupted:
        return 130, known
    if measured.comparisons and not measured.failed and not any(c.turns.seconds for c in measured.comparisons):
        _say("nothing was measured: every side was left out")
        return 2, known
    return int(bool(measured.failed)), known
