"""The figures that fastrnn must show, with the peers beside them.

Each `fastrnn` case also measures its ratio or share with the sides in turn, and stores it in `extra_info`
with what is wanted.
"""

import pytest

from fastrnn.bench.figures import FIGURES, PUBLISHED, USUAL, TimedFigure
from fastrnn.bench.figures.layer import ModelFigure
from fastrnn.bench.models import FUSED

KEYS = list(dict.fromkeys([*USUAL, *PUBLISHED]))  # those of the grid are test_layers'
TIMED = [key for key in KEYS if isinstance(FIGURES[key], TimedFigure)]
SIDES = [(key, side) for key in TIMED for side in ("fastrnn", "torch")]
SIDES += [(key, FUSED) for key in TIMED if isinstance(FIGURES[key], ModelFigure)]


def describe(figure, outcome):
    return {"value": outcome.value, "met": figure.met(outcome), "detail": outcome.detail, **outcome.data}


def wanted(figure, threads):
    return {"wanted": figure.wanted, "at_least": figure.at_least, "threads": threads or figure.threads}


@pytest.mark.parametrize(("key", "side"), SIDES)
def test_time(benchmark, key, side, threads, repeat):
    figure = FIGURES[key]
    sides = figure.prepare(threads)
    if side not in sides.runs:
        pytest.skip(sides.skipped.get(side, "this side isn't part of the figure"))
    benchmark.group = figure.text
    benchmark.extra_info.update(wanted(figure, threads))
    if side == "fastrnn":
        benchmark.extra_info.update(describe(figure, figure.measure(threads, repeat)))
    benchmark(sides.runs[side])


@pytest.mark.parametrize("key", [key for key in KEYS if key not in TIMED])
def test_number(benchmark, key, threads, repeat):
    """Figures that aren't times: the number is in `extra_info`, the time is that of finding it."""
    figure = FIGURES[key]
    benchmark.group = figure.text
    outcome = benchmark.pedantic(figure.measure, args=(threads, repeat), rounds=1)
    benchmark.extra_info.update({**wanted(figure, threads), **describe(figure, outcome)})
