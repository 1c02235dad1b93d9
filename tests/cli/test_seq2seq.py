"""The command line: train-seq2seq and translate."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastrnn as fr
from fastrnn.cli import main
from fastrnn.cli.pairs import read_pairs, split_pairs

NUMBERS = ["one", "two", "three", "four", "five"]
ZAHLEN = ["eins", "zwei", "drei", "vier", "fünf"]
TINY = ["--hidden", "32", "--embedding", "16", "--batch", "16", "--dropout", "0", "--lr", "0.02"]


@pytest.fixture
def pairs(tmp_path):
    def text(words, *order):
        return " ".join(words[k] for k in order)

    lines = [
        f"{text(NUMBERS, a, b, c, a)}\t{text(ZAHLEN, a, c, b, a)}\tignored"
        for a in range(5) for b in range(5) for c in range(5)
    ]  # fmt: skip
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join([*lines, "no tab here", "", "left\t "]) + "\n")
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def ctrl_c_works():
    """A shell starts background jobs with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_train_and_translate(pairs, capsys, monkeypatch):
    pytest.importorskip("sacrebleu")
    assert main(["train-seq2seq", pairs, *TINY, "--steps", "250", "--out", "run"]) == 0
    shown = capsys.readouterr()
    assert "pairs: 113, and 12 held out; passed over: 2 lines, 0 long" in shown.out
    found = re.search(r"held-out pairs: perplexity ([\d.]+) a token", shown.out)
    assert float(found.group(1)) < 2.5  # with label smoothing no model is sure
    assert float(re.search(r"held-out pairs: BLEU ([\d.]+)", shown.out).group(1)) > 90
    assert "250 steps in" in shown.err
    notes = fr.History.load("run/history.json").notes
    assert notes["held_out_exact"] > 0.9
    assert notes["held_out_bleu"] > 90

    with open("lines.txt", "w") as file:
        file.write("one two three one\nfive one one five\n\ntwo two four two\n")
    with open("right.txt", "w") as file:
        file.write("eins drei zwei eins\nfünf eins eins fünf\n\nzwei vier zwei zwei\n")
    assert main(["translate", "run", "lines.txt", "--reference", "right.txt"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.split("\n")
    assert lines == ["eins drei zwei eins", "fünf eins eins fünf", "", "zwei vier zwei zwei", ""]
    assert re.match(r"BLEU \d", shown.err)

    assert main(["translate", "run/model.safetensors", "lines.txt", "--n-best", "2", "--beam", "3"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["1", "1", "2", "2", "3", "4", "4"]
    assert lines[4] == ["3", "0.0000", ""]
    assert lines[0][2] == "eins drei zwei eins"
    assert float(lines[0][1]) > float(lines[1][1])

    assert main(["translate", "run", "lines.txt", "--json", "--coverage-penalty", "0.1"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["source"] == "one two three one"
    assert first["translations"][0]["text"] == "eins drei zwei eins"

    assert main(["translate", "run", "--beam", "3", "lines.txt"]) == 0  # a file behind the options
    assert capsys.readouterr().out.startswith("eins drei zwei eins\n")

    process = [sys.executable, "-m", "fastrnn.cli", "translate", "run", "-"]
    done = subprocess.run(process, input="four five one four\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "vier eins fünf vier\n"), done.stderr

    # Files as editors write them: byte order marks, ends of lines, no end of the last line; and signs of their own
    # that end no line
    with open("marked.txt", "wb") as file:
        file.write(b"\xef\xbb\xbfone two three one\r\n \t \r\nfour  five\x0bone four\xe2\x80\xa8")
    with open("wanted.txt", "wb") as file:
        file.write("\ufeffeins drei zwei eins\r\n\r\nvier\x0beins fünf vier".encode())
    assert main(["translate", "run", "marked.txt", "--reference", "wanted.txt"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "eins drei zwei eins\n\nvier eins fünf vier\n"
    assert re.match(r"BLEU 100", shown.err)
    Path("empty.txt").touch()
    assert main(["translate", "run", "empty.txt", "--reference", "empty.txt"]) == 0
    assert capsys.readouterr() == ("", "BLEU 0.00\n")
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdin", None)
        assert main(["translate", "run"]) == 2
    assert "FILE: standard input is closed" in capsys.readouterr().err

    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert main(["translate", "run", "lines.txt", "--reference", "right.txt"]) == 2
    assert '--reference: BLEU needs sacrebleu: pip install "fastrnn[examples]"' in capsys.readouterr().err
    assert main(["train-seq2seq", "--resume", "--out", "run", "--steps", "251"]) == 0
    assert "exact; BLEU needs sacrebleu" in capsys.readouterr().out


def test_ctrl_c_changes_nothing(pairs):
    """A run stopped by Ctrl-C and resumed equals one that never was."""
    train = ["train-seq2seq", pairs, *TINY, "--hidden", "8", "--sampling", "0.2", "--dropout", "0.2", "--steps", "800"]
    assert main([*train, "--out", "whole"]) == 0
    command = [sys.executable, "-m", "fastrnn.cli", *train, "--out", "part"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("model:"):
        assert process.poll() is None, process.stderr.read()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out.rstrip().endswith("fastrnn train-seq2seq --resume --out part")
    assert 0 < int(re.search(r"stopped after step (\d+)", out).group(1)) < 800
    assert main(["train-seq2seq", "--resume", "--out", "part"]) == 0
    whole, part = (load_file(f"{name}/model.safetensors") for name in ("whole", "part"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, part[name])


def test_pairs_in_the_form_of_tanaka(tmp_path):
    path = tmp_path / "tanaka"
    path.write_text("A: これは本です。\tThis is a book.#ID=1_2\nB: 此れ は 本 です\nA: はい。\tYes.#ID=3_4\n")
    assert read_pairs(str(path)) == ([("これは本です。", "This is a book."), ("はい。", "Yes.")], 0)
    assert read_pairs(str(path), swap=True).pairs[1] == ("Yes.", "はい。")


def test_pairs_that_are_not_text(tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    good, bad = "\ufeffone\teins\r\ntwo\tzwei\r\n", "café\tKaffee\n\0\tnull\n\tnothing\n7\tfünf"
    path.write_bytes(good.encode() + bad.encode("latin-1"))
    assert read_pairs(str(path)) == ([("one", "eins"), ("two", "zwei")], 4)
    path.write_text("one\teins\ntwo\tzwei\n", encoding="utf-16")
    assert main(["train-seq2seq", str(path), "--out", str(tmp_path / "run")]) == 2
    assert re.search(r"holds 0 pairs of texts \(\d lines not UTF-8\); expected lines", capsys.readouterr().err)


@pytest.mark.parametrize("attention", ["dot", "scaled_dot", "additive", "none"])
def test_every_attention(attention, pairs, capsys):
    assert main(["train-seq2seq", pairs, *TINY, "--attention", attention, "--steps", "2", "--out", "run"]) == 0
    assert fr.load("run/model.safetensors").decoder.attention == (None if attention == "none" else attention)


def test_a_model_that_cannot_be(pairs, capsys):
    assert main(["train-seq2seq", pairs, *TINY, "--layers", "99", "--steps", "2", "--out", "run"]) == 2
    assert "num_layers: expected" in capsys.readouterr().err


def test_no_source_is_learned_from_and_held_out():
    pairs = [(f"s{k % 40}", f"t{k}") for k in range(100)]
    learned, held = split_pairs(pairs, 500, 0)
    assert len(learned) + len(held) == 100
    assert len({source for source, _ in held}) == 4
    assert not {source for source, _ in held} & {source for source, _ in learned}
    assert split_pairs(pairs, 500, 0) == (learned, held) != split_pairs(pairs, 500, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-seq2seq"], "fastrnn train-seq2seq: error: the following arguments are required: --out"),
        (["train-seq2seq", "--out", "x"], "fastrnn train-seq2seq: error: PAIRS: expected a tab-separated file"),
        (["train-seq2seq", "no", "--out", "x"], "fastrnn train-seq2seq: error: PAIRS: .*no: No such file"),
        (["train-seq2seq", "short", "--out", "x"], "fastrnn train-seq2seq: error: PAIRS: .* holds 1 pairs of texts"),
        (["train-seq2seq", "pairs.tsv", "--out", "short"], "fastrnn train-seq2seq: error: --out: short is a file"),
        (["train-seq2seq", "--resume", "--out", "x"], "fastrnn train-seq2seq: error: --resume: x holds no run"),
        (
            ["train-seq2seq", "pairs.tsv", "--out", "x", "--longest", "1"],
            "fastrnn train-seq2seq: error: --longest: no",
        ),
        (
            ["train-seq2seq", "p", "--out", "x", "--attention", "loud"],
            "fastrnn train-seq2seq: error: --attention: inv",
        ),
        (["translate"], "fastrnn translate: error: the following arguments are required: MODEL"),
        (["translate", "missing"], "fastrnn translate: error: missing: no such file"),
        (["translate", "layer"], "fastrnn translate: error: layer: holds a Linear, expected a Seq2Seq"),
        (["translate", "x", "--n-best", "6"], "fastrnn translate: error: --n-best: expected at most --beam 5, got 6"),
        (["translate", "m", "missing"], "fastrnn translate: error: FILE: missing: No such file"),
        (["translate", "m", "short", "--reference", "no"], "fastrnn translate: error: --reference: no: No such file"),
        (
            ["translate", "m", "--coverage-penalty", "1"],
            "fastrnn translate: error: --coverage-penalty: this model",
        ),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, pairs, tmp_path, capsys):
    (tmp_path / "short").write_text("one\tword\n")
    fr.save(fr.Linear(2, 3), tmp_path / "layer")
    vocabulary = fr.text.Vocabulary(["a"])
    fr.save(fr.models.Seq2Seq(vocabulary, attention=None, embedding_dim=2, hidden_size=2), tmp_path / "m")
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert re.match(message, shown.err)
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_run_is_not_overwritten_or_changed(pairs, capsys):
    command = ["train-seq2seq", pairs, *TINY, "--steps", "2", "--out", "run"]
    assert main(command) == 0
    for more, message in (
        ([], "--out: run holds a run; go on with --resume, or choose another folder"),
        (["--resume", "--hidden", "9"], "--hidden: the run in run began with 32, not 9"),
        (["--resume", "--seed", "5"], "--seed: the run in run began with 0, not 5"),
    ):
        capsys.readouterr()
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err
    with open(pairs, "a") as file:
        file.write("more\tmehr\n")
    assert main([*command, "--resume"]) == 2
    assert "the pairs are not those that the run in run began with" in capsys.readouterr().err
