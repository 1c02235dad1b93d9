"""Turns, the FMA peak, the table, figures and the command."""

import json
import subprocess

import pytest

import fastrnn as fr
from fastrnn.bench import (
    CharModel,
    Classifier,
    FmaPeak,
    Turns,
    classifier,
    figures,
    in_turn,
    machine,
    models,
    small,
    table,
)
from fastrnn.bench.__main__ import main


@pytest.fixture(autouse=True)
def keep_threads():
    before = fr.get_num_threads()
    yield
    fr.set_num_threads(before)


def test_sides_run_in_turn():
    calls = []
    turns = in_turn({side: lambda side=side: calls.append(side) for side in "ab"}, repeat=2, turn_seconds=0)
    # One call to warm up, some to see how long they take; then turns of an untimed call and a timed one.
    assert calls == ["a"] * 5 + ["b"] * 5 + ["a", "a", "b", "b"] * 2
    assert [len(turns.seconds[side]) for side in "ab"] == [2, 2]
    assert turns.peak is None


def test_long_turns_have_many_calls():
    calls = []
    in_turn({"a": lambda: calls.append(0)}, repeat=1, turn_seconds=1e-3)
    assert len(calls) > 20


def test_ratios_are_those_of_each_turn():
    turns = Turns({"a": [1.0, 10.0, 2.0], "b": [2.0, 20.0, 8.0]})
    assert turns.speedup("a", over="b") == 2
    assert turns.speedup("b", over="a") == 0.5
    with pytest.raises(ValueError, match="peak: was not measured"):
        turns.share("a", 1)
    assert Turns({"a": [1.0], "b": [3.0]}).quartiles("a", over="b") == (3, 3)


def test_no_turns():
    with pytest.raises(ValueError, match="repeat: expected >= 1, got 0"):
        in_turn({}, repeat=0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peak_is_measured(dtype, threads):
    assert 1e8 < FmaPeak(dtype, threads, seconds=5e-4)() < 1e14


def test_table():
    lines = table([["name", "x", "y"], ["a", "1.5", ""], ["long name", "10.5", "2"]]).splitlines()
    assert lines == [
        "name          x  y",
        "---------  ----  -",
        "a           1.5",
        "long name  10.5  2",
    ]
    with pytest.raises(ValueError, match="rows: expected a header"):
        table([["a", "b"], ["1"]])
    assert table([["only", "header"]]).splitlines()[0] == "only  header"


def test_met_or_not():
    times, size = figures.FIGURES["gru"], figures.FIGURES["size"]
    assert figures.FIGURES["onednn-837"].met(figures.Outcome(2.0, "")) is None
    assert times.met(figures.Outcome(2.0, "")) is True
    assert times.met(figures.Outcome(1.9, "")) is False
    assert times.met(figures.Outcome(None, "torch is not installed")) is None
    assert size.met(figures.Outcome(5.0, "")) is True
    assert size.met(figures.Outcome(7.0, "")) is False
    rows = figures.rows({"gru": figures.Outcome(None, "skipped"), "lstm": figures.Outcome(0.7, "why")})
    assert [row[1:] for row in rows[1:]] == [
        ["-", "at least 2.00 x", "-", "skipped"],
        ["70.0%", "at least 65.0%", "yes", "why"],
    ]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_char_model_learns_and_times(cell):
    sides = models.prepare(CharModel(cell, embedding=4, hidden=8, T=5, B=2), ["fastrnn", "numpy"], threads=1)
    assert sides.skipped == {"numpy": "numpy has no character model here"}
    assert sides.runs["fastrnn"]() > 0


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_classifier_learns_and_times(cell):
    case = Classifier(cell, words=30, embedding=4, hidden=3, T=5, B=2)
    sides = classifier.prepare(case, ["fastrnn", "numpy"], threads=1)
    assert sides.skipped == {"numpy": "numpy has no classifier here"}
    losses = [sides.runs["fastrnn"]() for _ in range(400)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(words.min() >= 0 and words.max() < 30 for words, _ in case.batches())


def test_windows_are_text_and_the_text_that_follows():
    symbols, windows = CharModel(T=5, B=2).windows()
    assert len(windows) == models.WINDOWS
    for k, (x, target) in enumerate(windows):
        assert x.shape == target.shape == (5, 2)
        assert 0 <= x.min() <= x.max() < symbols
        assert (x[1:] == target[:-1]).all()
        if k:
            assert (x[0] == windows[k - 1][1][-1]).all()


def test_installed_files():
    assert small.installed_bytes("fastrnn") > 100_000
    assert small.installed_bytes("numpy") > 1_000_000
    with pytest.raises(ValueError, match="package: no_such_package is not installed"):
        small.installed_bytes("no_such_package")


def test_facts_fit_into_json():
    facts = machine.facts()
    assert json.loads(json.dumps(facts))["isa"] in facts["isas"]
    assert len(machine.lines(facts)) == 2


def test_command_measures_layers(tmp_path, capsys):
    file = tmp_path / "layers.json"
    options = ["--shapes", "2,1,3,4", "--peers", "fastrnn,numpy", "--repeat", "1", "--json", str(file)]
    assert main(["layers", "--cell", "rnn", "--mode", "train", *options]) == 0
    out = capsys.readouterr().out
    assert "rnn train T=2 B=1 I=3 H=4" in out
    result = json.loads(file.read_text())
    assert result["machine"]["isa"] == fr.info()["isa"]
    (case,) = result["layers"]
    assert case["case"] == "rnn train T=2 B=1 I=3 H=4"
    assert set(case["milliseconds"]) == {"fastrnn", "numpy"}
    assert case["flops"] == 3 * 2 * 2 * 7 * 4


def test_command_measures_figures(capsys):
    assert main(["--only", "size", "--repeat", "1"]) == 0
    assert "installed package" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "speed"], "expected some of lstm, gru"),
        (["--threads", "0"], "argument --threads: expected whole numbers from 1 to 256, got '0'"),
        (["layers", "--shapes", "1,2"], "expected T,B,I,H"),
        (["layers", "--peers", "lasagne"], "expected some of fastrnn, torch, ort, jax, keras, numpy, got lasagne"),
    ],
)
def test_command_explains_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_import_time_is_that_of_a_fresh_interpreter():
    assert 0 < small.imported_once("decimal") < 10
    with pytest.raises(subprocess.CalledProcessError):
        small.imported_once("no_such_package")
