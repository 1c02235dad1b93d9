"""Every kind of figure, on tiny shapes, with the reference in PyTorch's place."""

import inspect

import pytest

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench import CharModel, Classifier, figures, peers
from fastrnn.bench.figures import grid, layer, memory
from fastrnn.bench.figures.base import TIMES
from fastrnn.bench.models import FUSED
from fastrnn.bench.peers.pytorch import PyTorch
from fastrnn.bench.peers.reference import NumPy

SHAPES = (bench.Shape(3, 2, 4, 5), bench.Shape(2, 1, 4, 5))


class Torch(NumPy):
    name = "torch"


@pytest.fixture(autouse=True)
def with_a_torch(monkeypatch):
    before = fr.get_num_threads()
    monkeypatch.setattr(grid, "PEERS", ("fastrnn", "torch"))
    monkeypatch.delenv("FASTRNN_BENCH_PYTHON_TORCH", raising=False)
    monkeypatch.setitem(bench.PEERS, "torch", Torch())
    grid.compared.cache_clear()
    yield
    fr.set_num_threads(before)
    grid.compared.cache_clear()


def figure(kind, **options):
    return kind("key", "text", 1.0, TIMES, **options)


def test_grid_figures_share_their_measurements(monkeypatch):
    compared = []
    compare = grid.layers.compare

    def counting(case, *args, **options):
        compared.append(str(case))
        return compare(case, *args, **options)

    monkeypatch.setattr(grid.layers, "compare", counting)
    options = {"mode": "train", "cells": ("lstm", "gru"), "shapes": SHAPES}
    mean = figure(grid.GridFigure, **options).measure(repeat=1)
    lowest = figure(grid.GridFigure, **options, peer="torch", lowest=True).measure(repeat=1)
    missed = figure(grid.MissingFigure, **options, ratio=1e9, shares=(1e9, 1e9)).measure(repeat=1)
    none_missed = figure(grid.MissingFigure, **options, ratio=0).measure(repeat=1)
    assert len(compared) == len(set(compared)) * 2 == 8  # two cells and shapes, one and two threads
    ratios = list(mean.data["ratios"].values())
    assert len(ratios) == 8
    assert min(ratios) <= mean.value <= max(ratios)
    assert lowest.value == min(lowest.data["ratios"].values())
    assert missed.value == len(missed.data["missed"]) == 8
    assert none_missed.value == 0
    assert figure(grid.GridFigure, **options, peer="nobody").measure(repeat=1).value is None


def test_a_grid_with_a_disagreement_has_no_value(monkeypatch):
    def differs(case, *args, **options):
        raise bench.Disagreement(f"{case} differs")

    monkeypatch.setattr(grid.layers, "compare", differs)
    for kind in (grid.GridFigure, grid.MissingFigure):
        outcome = figure(kind, mode="infer", cells=("rnn",), shapes=SHAPES).measure(repeat=1)
        assert outcome.value is None
        assert "rnn infer T=3 B=2 I=4 H=5 differs" in outcome.detail


def test_share_of_the_peak():
    outcome = figure(grid.ShareFigure, cell="gru", shapes=SHAPES).measure(repeat=1)
    assert 0 < outcome.value == min(outcome.data["shares"].values()) < 1


def test_ragged_batches():
    case = bench.Case("lstm", bench.Shape(9, 3, 4, 5), bidirectional=True, lengths=(9, 2, 4))
    against = figure(layer.LayerFigure, case=case).measure(repeat=1)
    assert against.value == against.data["speedup"] > 0
    cost = figure(layer.PaddingFigure, case=case).measure(repeat=1)
    assert (cost.data["real_steps"], cost.data["all_steps"]) == (15, 27)
    (ragged,), (padded,) = cost.data["seconds"].values()
    assert cost.value == pytest.approx((ragged / 15) / (padded / 27))


@pytest.mark.parametrize(("kind", "mode"), [(layer.OverheadFigure, "infer"), (layer.PullbackFigure, "train")])
def test_overheads(kind, mode):
    outcome = figure(kind, case=bench.Case("lstm", bench.Shape(1, 1, 4, 5), mode)).measure(repeat=1)
    assert outcome.value == outcome.data["microseconds"]["fastrnn"] > 0


def test_single_steps():
    cases = (bench.Case("gru", bench.Shape(1, 1, 4, 5), "step"),)
    outcome = figure(layer.StreamFigure, cases=cases, peer="torch").measure(repeat=1)
    if hasattr(fr.LSTM, "stream"):
        assert outcome.value == pytest.approx(outcome.data["speedups"][str(cases[0])])  # by way of logarithms
    else:
        assert outcome.value is None
        assert "no streams" in outcome.detail


@pytest.mark.parametrize("case", [CharModel(embedding=4, hidden=8, T=5, B=2), Classifier("gru", 30, 4, 3, T=5, B=2)])
def test_models_are_compared_with_the_usual_adam_and_the_fused_one(case):
    pytest.importorskip("torch")
    bench.PEERS["torch"] = PyTorch()  # the fixture puts it back
    chosen = figure(layer.ModelFigure, case=case)
    outcome = chosen.measure(repeat=1)
    usual, fused = (outcome.data["seconds"][side][0] for side in ("torch", FUSED))
    (ours,) = outcome.data["seconds"]["fastrnn"]
    assert outcome.value == outcome.data["speedup"] == usual / ours
    assert outcome.data["fused"]["speedup"] == fused / ours
    assert f"against torch, fused Adam: {fused / ours:.2f} x" in outcome.detail
    optimizers = {
        name: inspect.getclosurevars(run).nonlocals["optimizer"].defaults
        for name, run in chosen.prepare().runs.items()
        if name != "fastrnn"
    }
    assert {name: bool(options["fused"]) for name, options in optimizers.items()} == {"torch": False, FUSED: True}


def test_a_model_without_pytorch_has_no_value(monkeypatch):
    monkeypatch.setattr(layer.models, "choose", lambda names: peers.choose(["fastrnn"]))
    outcome = figure(layer.ModelFigure, case=CharModel(embedding=4, hidden=8, T=5, B=2)).measure(repeat=1)
    assert (outcome.value, outcome.data["fused"]) == (None, {})
    assert list(outcome.data["rates"]) == ["fastrnn"]


def test_memory_of_a_training_step(monkeypatch):
    small = memory.peak_bytes("fastrnn", bench.Shape(4, 2, 8, 8))
    large = memory.peak_bytes("fastrnn", bench.Shape(800, 16, 64, 128))
    saved = 4 * 800 * 16 * 4 * 128  # bytes of the gates
    assert small < saved < large
    assert memory.peak_bytes("fastrnn", bench.Shape(800, 16, 64, 128), checkpoint=20) < large
    peaks = {"fastrnn": 3, "torch": 4}
    monkeypatch.setattr(memory, "peak_bytes", lambda side, *rest: peaks[side])
    assert figure(memory.MemoryFigure, shape=SHAPES[0]).measure().value == 0.75


def test_memory_of_a_side_that_fails(monkeypatch):
    monkeypatch.setattr(memory, "_OURS", "raise SystemExit('no memory')")
    with pytest.raises(RuntimeError, match="fastrnn failed: no memory"):
        memory.peak_bytes("fastrnn", SHAPES[0])


def test_what_is_wanted_is_listed():
    wanted = {key: (each.wanted, each.at_least) for key, each in figures.FIGURES.items()}
    assert wanted["ragged-lstm"] == (6, True)
    assert wanted["ragged-gru-cost"] == (1.15, False)
    assert wanted["memory-checkpoint"] == (0.3, False)
    assert wanted["stream-ort"] == (5, True)
    assert wanted["grid-train-gru"] == (8, True)
    assert set(figures.PUBLISHED) <= set(figures.FIGURES)
    lengths = figures.FIGURES["ragged-lstm"].case.lengths
    assert (len(lengths), max(lengths)) == (32, 200) and min(lengths) >= 20
