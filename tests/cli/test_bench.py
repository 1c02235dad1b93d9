"""``fastrnn bench``: tables, files, Ctrl-C, and one clear line for every bad argument."""

import json
import os
import re
import sys
from dataclasses import replace

import pytest

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench import command, figures, layers
from fastrnn.bench.peers import reference
from fastrnn.cli import main

TINY = ["--shapes", "2,1,3,4", "--peers", "fastrnn,numpy", "--repeat", "1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = fr.get_num_threads()
    yield
    fr.set_num_threads(before)


def test_tables_and_files(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    options = ["--cell", "gru", "--mode", "train,infer", "--threads", "1,2", "--dtype", "float32,float64"]
    assert main(["bench", *TINY, *options, "--json", "all.json", "--plot", "all.png"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("gru infer T=2 B=1 I=3 H=4 float64") == 4
    assert re.search(r"^gru train +2 +best of all +1 ", shown.out, re.MULTILINE)
    assert "8/8 gru infer T=2 B=1 I=3 H=4 float64, 2 threads …" in shown.err
    assert "\r" not in shown.err
    known = json.loads((tmp_path / "all.json").read_text())
    assert known["machine"]["isa"] == fr.info()["isa"]
    assert [case["threads"] for case in known["layers"]] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert known["layers"][0]["shape"] == [2, 1, 3, 4]
    assert len(known["layers"][0]["seconds"]["numpy"]) == 1
    assert known["options"]["threads"] == [1, 2]
    assert not known["options"]["interrupted"]
    assert {s["against"] for s in known["summary"]} == {"numpy", "best of all"}
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_single_steps_have_percentiles(capsys):
    assert main(["bench", *TINY, "--cell", "lstm", "--mode", "step", "--json", "step.json"]) == 0
    assert re.search(r"case +threads +side +µs +p50 +p99 +p99.9", capsys.readouterr().out)
    with open("step.json") as file:
        (case,) = json.load(file)["layers"]
    assert case["percentiles"]["of"] == [50, 99, 99.9]
    low, middle, high = case["percentiles"]["seconds"]["numpy"]
    assert 0 < low <= middle <= high


def test_what_ctrl_c_leaves(capsys, monkeypatch, tmp_path):
    compare, calls = layers.compare, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compare(*args, **options)

    monkeypatch.setattr(layers, "compare", interrupted)
    assert main(["bench", *TINY, "--json", "part.json"]) == 130
    shown = capsys.readouterr()
    assert "interrupted; this was measured:" in shown.err
    assert "lstm train T=2 B=1 I=3 H=4" in shown.out
    known = json.loads((tmp_path / "part.json").read_text())
    assert len(known["layers"]) == 1
    assert known["options"]["interrupted"]


def test_sides_that_disagree_are_an_error(capsys, monkeypatch):
    def differs(case, *args, **options):
        raise fr.bench.Disagreement(f"{case}: numpy differs")

    monkeypatch.setattr(layers, "compare", differs)
    assert main(["bench", *TINY, "--cell", "rnn", "--mode", "infer"]) == 1
    assert "not measured: rnn infer T=2 B=1 I=3 H=4: numpy differs" in capsys.readouterr().err


def test_figures_and_published_cases(capsys, monkeypatch):
    assert main(["bench", "figures", "--only", "size", "--repeat", "1"]) == 0
    assert "installed package" in capsys.readouterr().out
    measured = []

    def measure(args, keys, into):
        measured.append(list(keys))

    monkeypatch.setattr(command, "_measure_figures", measure)
    for arguments in (["published"], ["--published"], ["figures"]):
        assert main(["bench", *arguments]) == 0
    assert measured[0] == measured[1] == figures.PUBLISHED
    assert measured[2] == figures.USUAL
    assert not set(figures.USUAL) & {key for key, figure in figures.FIGURES.items() if figure.slow}


def plan(*arguments):
    parser = fr.cli.build_parser()
    return command._plan(parser.parse_args(["bench", *arguments]))


def test_what_is_measured():
    assert len(plan()) == 4 * 3 * 2
    assert len(plan("--quick")) == 2 * 3 * 2
    assert len(plan("--shapes", "all")) == 11 * 3 * 2
    assert len(plan("--shapes", "grid")) == (11 + 5) * 3 * 2 * 2
    assert len(plan("--shapes", "grid", "--threads", "2", "--dtype", "float32", "--cell", "lstm")) == 11 * 2
    assert len(plan("--shapes", "1,2,3,4", "5,6,7,8 1,1,1,1", "--mode", "infer")) == 3 * 3
    assert {threads for _, threads in plan("--threads", "3,1")} == {1, 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cell", "tcn"], "--cell: expected some of lstm, gru, rnn, got tcn"),
        (["--mode", "fly"], "--mode: expected some of train, infer, step, got fly"),
        (["--dtype", "int8"], "--dtype: expected some of float32, float64, got int8"),
        (["--shapes", "1,2"], "--shapes: shape: expected T,B,I,H, four whole numbers >= 1, got '1,2'"),
        (["--shapes", ""], "--shapes: shape: expected T,B,I,H, four whole numbers >= 1, got ''"),
        (["--threads", "1,0"], "--threads: expected whole numbers from 1 to 256, got '0'"),
        (["--threads", "257"], "--threads: expected whole numbers from 1 to 256, got '257'"),
        (["--threads", "1,x"], "--threads: expected whole numbers from 1 to 256, got 'x'"),
        (["--seconds", "-1"], "--seconds: expected a number of seconds >= 0, got '-1'"),
        (["--repeat", "0"], "--repeat: expected a whole number >= 1, got '0'"),
        (["--peers", "lasagne"], "--peers: expected some of fastrnn, torch, ort, jax, keras, numpy, got lasagne"),
        (["--python", "jax"], "--python: expected PEER=PATH, a peer being one of fastrnn"),
        (["--python", "jax=/no/python"], "python: of jax: expected a Python interpreter, got '/no/python'"),
        (["--plot", "a.jpg"], "--plot: expected a name that ends in .png, .svg, .pdf, got 'a.jpg'"),
        (["figures", "--plot", "a.png"], "--plot: is for layers"),
        (["figures", "--cell", "lstm"], "--cell: is for layers"),
        (["figures", "--shapes", "1,1,1,1"], "--shapes: is for layers"),
        (["published", "--mode", "infer"], "--mode: is for layers"),
        (["--published", "--dtype", "float64"], "--dtype: is for layers"),
        (["figures", "--peers", "torch"], "--peers: is for layers"),
        (["figures", "--seconds", "0"], "--seconds: is for layers"),
        (["figures", "--threads", "1,2"], "--threads: expected one number for figures, got 1,2"),
        (["layers", "--only", "size"], "--only: names figures"),
        (["--json", "none/a.json"], "--json: none: no such folder"),
        (["--json", "."], "--json: expected a file, got '.'"),
        (["--json", ""], "--json: expected a file, got ''"),
        (["--plot", "none/a.png"], "--plot: none: no such folder"),
        (["--peers", "jax", "--python", "jax=true"], "--peers: none can be measured: jax: "),
        (["--only", "speed"], "--only: expected some of lstm, gru"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    pytest.importorskip("matplotlib")
    assert main(["bench", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fastrnn bench: error: {message}")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not os.path.exists("none")


@pytest.mark.parametrize("when", ["prepare", "run"])
def test_a_peer_that_raises_is_left_out(capsys, monkeypatch, when):
    calls = []

    class Raises(type(bench.PEERS["numpy"])):
        def prepare(self, *args):
            if when == "prepare":
                raise MemoryError("no\nroom")
            prepared = super().prepare(*args)

            def run():
                calls.append(0)
                if len(calls) > 1:
                    raise MemoryError("no\nroom")
                return prepared.run()

            return bench.Prepared(run, prepared.arrays)

    monkeypatch.setitem(bench.PEERS, "numpy", Raises())
    assert main(["bench", *TINY, "--cell", "rnn", "--mode", "infer", "--json", "a.json"]) == 0
    shown = capsys.readouterr()
    assert "  left out: numpy: MemoryError: no room\n" in shown.err
    assert re.search(r"rnn infer T=2 B=1 I=3 H=4 +1 +fastrnn", shown.out)
    with open("a.json") as file:
        assert list(json.load(file)["layers"][0]["seconds"]) == ["fastrnn"]


def test_a_case_that_fails_leaves_the_others(capsys, monkeypatch):
    compare = layers.compare

    def fails(case, *args, **options):
        if case.mode == "infer":
            raise MemoryError("no room")
        return compare(case, *args, **options)

    monkeypatch.setattr(layers, "compare", fails)
    assert main(["bench", *TINY, "--cell", "rnn", "--mode", "infer,train", "--json", "a.json"]) == 1
    shown = capsys.readouterr()
    assert "not measured: rnn infer T=2 B=1 I=3 H=4, 1 thread: MemoryError: no room" in shown.err
    assert "rnn train T=2 B=1 I=3 H=4" in shown.out
    with open("a.json") as file:
        assert json.load(file)["failed"] == {"rnn infer T=2 B=1 I=3 H=4, 1 thread": "MemoryError: no room"}


def test_a_figure_that_fails_leaves_the_others(capsys, monkeypatch):
    def fails(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(type(figures.FIGURES["import"]), "measure", fails)
    assert main(["bench", "figures", "--only", "import,size", "--repeat", "1"]) == 1
    shown = capsys.readouterr()
    assert "not measured: import: MemoryError: no room" in shown.err
    assert re.search(r"installed package +\d", shown.out)


def test_who_declines_says_so_once(capsys, monkeypatch):
    monkeypatch.setattr(reference, "MOST_FLOPS", 1000)
    options = ["--shapes", "9,9,9,9", "2,1,3,4", "--peers", "fastrnn,numpy", "--repeat", "1"]
    assert main(["bench", *options, "--cell", "rnn", "--mode", "train,infer", "--seconds", "0"]) == 0
    assert capsys.readouterr().err.count("left out: the NumPy reference is too slow for this shape") == 1


def test_nothing_measured_is_an_error(capsys, monkeypatch):
    monkeypatch.setattr(reference, "MOST_FLOPS", 1000)
    options = ["--shapes", "9,9,9,9", "--peers", "numpy", "--cell", "lstm", "--mode", "train"]
    assert main(["bench", *options]) == 2
    assert capsys.readouterr().err.endswith("nothing was measured: every side was left out\n")


def test_shares_are_of_the_best_peak_of_the_run(capsys, monkeypatch):
    compare, peaks = layers.compare, iter([1e9, 4e9, 2e9])

    def compared(*args, **options):
        found = compare(*args, **options)
        return replace(found, turns=replace(found.turns, peak=next(peaks)))

    monkeypatch.setattr(layers, "compare", compared)
    assert main(["bench", *TINY, "--mode", "infer", "--json", "a.json"]) == 0
    with open("a.json") as file:
        assert [case["peak_flops"] for case in json.load(file)["layers"]] == [4e9] * 3


def test_a_plot_needs_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["bench", *TINY, "--plot", "a.png"]) == 2
    assert capsys.readouterr().err == "fastrnn bench: error: a plot needs matplotlib: pip install 'fastrnn[cli]'\n"


def test_help(capsys):
    assert main(["bench", "--help"]) == 0
    assert "usage: fastrnn bench" in capsys.readouterr().out
