"""The figures that fastrnn must show, each with what is wanted, and how it is measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.bench import models
from fastrnn.bench.cases import Case, Shape
from fastrnn.bench.classifier import Classifier
from fastrnn.bench.figures.base import BITS, COUNT, MB, MS, SHARE, TIMES, US, Figure, Outcome, TimedFigure
from fastrnn.bench.figures.grid import GridFigure, MissingFigure, ShareFigure
from fastrnn.bench.figures.layer import (
    LayerFigure,
    ModelFigure,
    OverheadFigure,
    PaddingFigure,
    PullbackFigure,
    StreamFigure,
)
from fastrnn.bench.figures.memory import MemoryFigure
from fastrnn.bench.figures.small import ImportFigure, SizeFigure, TrainFigure

__all__ = ["FIGURES", "PUBLISHED", "USUAL", "Figure", "Outcome", "TimedFigure", "as_dict", "rows"]

_LARGE, _SMALL, _TINY = Shape(128, 32, 256, 256), Shape(100, 1, 32, 32), Shape(1, 1, 16, 16)
_RAGGED = Shape(200, 32, 64, 128)
_LONG = Shape(1000, 64, 512, 512)
_EVERYBODY = ("fastrnn", "torch", "ort", "jax", "keras")


def _lengths(least: int, most: int, rows: int) -> tuple[int, ...]:
    """Uniform lengths, the longest row being of full length."""
    lengths = np.random.default_rng(0).integers(least, most + 1, rows)
    lengths[0] = most
    return tuple(map(int, lengths))


def _ragged(cell: str) -> Case:
    return Case(cell, _RAGGED, bidirectional=True, lengths=_lengths(20, 200, _RAGGED.B))


def _char(cell: str, wanted: float) -> Figure:
    case = models.CharModel(cell, num_layers=2, symbols=96)
    text = f"character model, 2 x 256 {cell.upper()}, whole training step: against PyTorch, default Adam"
    return ModelFigure(f"char-{cell}", text, wanted, TIMES, threads=2, case=case)


def _published(key: str, text: str, case: Case, peers: tuple[str, ...] = _EVERYBODY) -> Figure:
    return LayerFigure(key, f"{text} ({case}): against PyTorch", None, TIMES, threads=2, case=case, peers=peers)


# What was asked of the first version: minutes.
_FIRST: tuple[Figure, ...] = (
    LayerFigure(
        "lstm", f"LSTM training, {_LARGE}: share of FMA peak", 0.65, SHARE, case=Case("lstm", _LARGE), share=True
    ),
    LayerFigure("gru", f"GRU training, {_LARGE}: against PyTorch", 2.0, TIMES, case=Case("gru", _LARGE)),
    LayerFigure("lstm-small", f"LSTM training, {_SMALL}: against PyTorch", 4.0, TIMES, case=Case("lstm", _SMALL)),
    ImportFigure("import", "import fastrnn, beyond import numpy", 30.0, MS, at_least=False),
    SizeFigure("size", "installed package", 6.0, MB, at_least=False),
    TrainFigure("train", "fastrnn train: held-out bits per character", 2.2, BITS, at_least=False, threads=2),
)
_MODELS: tuple[Figure, ...] = (
    _char("lstm", 1.6),
    _char("gru", 3.5),
    ModelFigure(
        "imdb", f"pytorch#94457: {Classifier()}, whole step: against PyTorch, default Adam", 4.0, TIMES,
        threads=2, case=Classifier(),
    ),
)  # fmt: skip
_CALLS: tuple[Figure, ...] = (
    *(
        LayerFigure(
            f"ragged-{cell}", f"{_ragged(cell)}: against PyTorch, packed", 6.0, TIMES, threads=2, case=_ragged(cell)
        )
        for cell in ("lstm", "gru")
    ),
    *(
        PaddingFigure(
            f"ragged-{cell}-cost",
            f"{_ragged(cell)}: a real step's time over a padded batch's",
            1.15,
            TIMES,
            at_least=False,
            threads=2,
            case=_ragged(cell),
        )
        for cell in ("lstm", "gru")
    ),
    *(
        MemoryFigure(
            key, f"LSTM training, {_LONG}{text}: peak memory over PyTorch's", wanted, TIMES,
            at_least=False, shape=_LONG, checkpoint=checkpoint,
        )
        for key, text, wanted, checkpoint in (
            ("memory", "", 0.55, 0), ("memory-checkpoint", ", checkpoint=50", 0.3, 50),
        )
    ),
    OverheadFigure("call", "LSTM, one step of 16 units: a call", 3.0, US, False, case=Case("lstm", _TINY, "infer")),
    PullbackFigure("vjp", "LSTM, one step of 16 units: vjp and pullback", 10.0, US, False, case=Case("lstm", _TINY)),
    OverheadFigure("stream", "LSTM stream, 16 units: a step", 0.5, US, False, case=Case("lstm", _TINY, "step")),
    StreamFigure(
        "stream-ort",
        "LSTM and GRU streams, H=16, 64, 128: geometric mean against ONNX Runtime",
        5.0,
        TIMES,
        cases=tuple(Case(cell, Shape(1, 1, n, n), "step") for cell in ("lstm", "gru") for n in (16, 64, 128)),
    ),
)  # fmt: skip
# Every peer on every shape: an hour.
_GRID: tuple[Figure, ...] = (
    *(
        GridFigure(
            f"grid-train-{cell}",
            f"{cell.upper()} training, the grid, one and two threads: geometric mean against PyTorch",
            wanted,
            TIMES,
            mode="train",
            cells=(cell,),
            peer="torch",
        )
        for cell, wanted in (("lstm", 2.2), ("gru", 8.0), ("rnn", 6.0))
    ),
    MissingFigure(
        "grid-train-lstm-missed",
        "LSTM training, the grid: points neither 1.1 x PyTorch nor at 85% of peak (two threads 78%)",
        0,
        COUNT,
        mode="train",
        cells=("lstm",),
    ),
    *(
        GridFigure(
            f"grid-train-{cell}-lowest",
            f"{cell.upper()} training, the grid: lowest point against PyTorch",
            2.0,
            TIMES,
            mode="train",
            cells=(cell,),
            peer="torch",
            lowest=True,
        )
        for cell in ("gru", "rnn")
    ),
    GridFigure(
        "grid-train-best", "training, the grid: lowest point against the best of all", 1.0, TIMES,
        mode="train", lowest=True,
    ),
    GridFigure(
        "grid-infer", "inference, the grid: geometric mean against the best of all", 1.5, TIMES, mode="infer"
    ),
    GridFigure(
        "grid-infer-lowest", "inference, the grid: lowest point against the best of all", 1.0, TIMES,
        mode="infer", lowest=True,
    ),
    *(
        ShareFigure(
            f"share-{cell}" + ("-2" if threads == 2 else ""),
            f"{cell.upper()} training, B >= 32, H >= 256, {threads} threads: lowest share of FMA peak",
            wanted,
            SHARE,
            threads=threads,
            cell=cell,
        )
        for cell, threads, wanted in (("lstm", 1, 0.85), ("gru", 1, 0.82), ("rnn", 1, 0.80), ("lstm", 2, 0.78))
    ),
)  # fmt: skip
# What others reported, rerun side by side.
_CASES: tuple[Figure, ...] = (
    _published(
        "pytorch-81634", "pytorch#81634", Case("lstm", Shape(2000, 8, 256, 256), "infer", num_layers=2)
    ),
    _published("mxnet-10289", "mxnet#10289", Case("gru", Shape(300, 20, 800, 800))),
    _published("onnxruntime-644", "onnxruntime#644", Case("gru", Shape(30, 8, 512, 512), "infer")),
    _published("onednn-837", "oneDNN#837", Case("lstm", Shape(63, 1, 24, 32), "infer", bidirectional=True)),
    _published(
        "pytorch-149194",
        "pytorch#149194, packed sequences",
        Case("lstm", Shape(4000, 8, 64, 64), lengths=_lengths(2000, 4000, 8)),
        ("fastrnn", "torch"),
    ),
)  # fmt: skip
FIGURES: dict[str, Figure] = {figure.key: figure for figure in (*_FIRST, *_MODELS, *_CALLS, *_GRID, *_CASES)}
PUBLISHED = [*(figure.key for figure in _CASES), "imdb"]
# What is measured unless figures are named.
USUAL = [key for key, figure in FIGURES.items() if not figure.slow and key not in PUBLISHED[:-1]]


def rows(outcomes: dict[str, Outcome]) -> list[list[str]]:
    """Return header and rows of the table of figures."""
    lines = [["figure", "measured", "wanted", "met", "detail"]]
    for key, outcome in outcomes.items():
        figure = FIGURES[key]
        value = "-" if outcome.value is None else figure.form.format(outcome.value)
        wanted = "-"
        if figure.wanted is not None:
            wanted = ("at least " if figure.at_least else "at most ") + figure.form.format(figure.wanted)
        met = {True: "yes", False: "NO", None: "-"}[figure.met(outcome)]
        lines.append([figure.text, value, wanted, met, outcome.detail])
    return lines


def as_dict(key: str, outcome: Outcome) -> dict[str, Any]:
    """Return a figure and what was measured, for a JSON file."""
    figure = FIGURES[key]
    return {
        "text": figure.text,
        "value": outcome.value,
        "wanted": figure.wanted,
        "at_least": figure.at_least,
        "met": figure.met(outcome),
        "detail": outcome.detail,
        **outcome.data,
    }
