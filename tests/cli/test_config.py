"""``--config`` and ``--print-config``: what a file may say, what it may not, and that the command line wins."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn as fr
from fastrnn.cli import build_parser, main
from fastrnn.cli._config import toml

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)


def write(text, name="run.toml"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)


def parsed(*arguments):
    return build_parser().parse_args(arguments)


def test_options_come_from_the_file_and_the_command_line_wins():
    write(
        """
        [train]
        text = "novel é.txt"
        cell = "gru"
        hidden = 32
        dropout = 0        # a whole number is a number, too
        seq-len = 12
        minutes = 2.5
        resume = true
        [sample]
        prompt = "--It was "
        temperature = 0.5
        top_k = 3
        """
    )
    args = parsed("train", "--config", "run.toml", "--hidden", "64")
    assert (args.text, args.cell, args.hidden, args.dropout) == ("novel é.txt", "gru", 64, 0.0)
    assert (args.seq_len, args.minutes, args.resume, args.layers) == (12, 2.5, True, None)
    assert not parsed("train", "--config=run.toml", "--no-resume").resume
    # of options that exclude each other, that of the command line
    args = parsed("train", "--steps", "7", "--config", "run.toml")
    assert (args.steps, args.minutes) == (7, None)
    args = parsed("sample", "novel", "--config", "run.toml", "--top-k", "5")
    assert (args.model, args.prompt, args.temperature, args.top_k) == ("novel", "--It was ", 0.5, 5)


def test_optional_arguments_and_lists():
    write(
        """
        [bench]
        what = "layers"
        shapes = ["2,1,3,4", "3,1,2,2"]
        cell = ["gru", "rnn"]
        mode = "infer"
        threads = [1, 2]
        python = ["jax=/a/b", "keras=/c"]
        [train-seq2seq]
        pairs = "pairs.tsv"
        out = "translator"
        swap = true
        """
    )
    args = parsed("bench", "--config", "run.toml")
    assert [str(shape) for part in args.shapes for shape in part] == ["T=2 B=1 I=3 H=4", "T=3 B=1 I=2 H=2"]
    assert (args.what, args.cell, args.mode, args.threads) == ("layers", ["gru", "rnn"], ["infer"], [1, 2])
    assert args.python == [("jax", "/a/b"), ("keras", "/c")]
    assert parsed("bench", "figures", "--config", "run.toml").what == "figures"
    args = parsed("train-seq2seq", "--config", "run.toml")
    assert (args.pairs, args.out, args.swap) == ("pairs.tsv", "translator", True)
    args = parsed("train-seq2seq", "others.tsv", "--config", "run.toml", "--no-swap", "--out", "x")
    assert (args.pairs, args.out, args.swap) == ("others.tsv", "x", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nhiden = 5", "[train] hiden: no such option; did you mean hidden?"),
        ("[train]\nzzz = 5", "[train] zzz: no such option"),
        ("[train]\nconfig = 'a'", "[train] config: no such option"),
        ("[trian]\nhidden = 5", "[trian]: expected one of [train], [sample], [train-seq2seq], [translate], [bench];"),
        ("[sample]\nlength = 5", "has no table [train]"),
        ("hidden = 5", "hidden: expected options in the table of a command, such as [train]"),
        ("[train]\nhidden = '5'", "[train] hidden: expected a whole number, got the string '5'"),
        ("[train]\nhidden = 5.0", "[train] hidden: expected a whole number, got 5.0"),
        ("[train]\nhidden = true", "[train] hidden: expected a whole number, got true"),
        ("[train]\nhidden = [5]", "[train] hidden: expected a whole number, got [5]"),
        ("[train]\nhidden = 0", "[train] hidden: expected a whole number >= 1, got '0'"),
        ("[train]\nlr = 'fast'", "[train] lr: expected a number, got the string 'fast'"),
        ("[train]\nlr = nan", "[train] lr: expected a number > 0, got 'nan'"),
        ("[train]\ntext = 5", "[train] text: expected a string, got 5"),
        ("[train]\ntext.a = 5", "[train] text: expected a string, got a table"),
        ("[train]\nresume = 1", "[train] resume: expected true or false, got 1"),
        (
            "[train]\ntokens = 'word'",
            "[train] tokens: expected one of characters, words, got 'word'; did you mean words?",
        ),
        ("[train]\ncell = 'tcn'", "[train] cell: expected one of lstm, "),
        ("[train]\nsteps = 1\nminutes = 1", "[train] steps: not allowed with minutes"),
        ("[train", "Expected ']' at the end of a table declaration (at line 1, column 7)"),
        ("[train]\nhidden = 1\nhidden = 2", "Cannot overwrite a value (at line 3, column"),
    ],
)
def test_what_a_file_may_not_say(text, message, capsys):
    write(text + "\n")
    assert main(["train", "--config", "run.toml"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fastrnn train: error: --config: run.toml: {message}")
    assert (shown.err.count("\n"), shown.out) == (1, "")


def test_other_trouble(capsys):
    write("[sample]\nmodel = 'm'\n[translate]\n[info]")
    assert main(["train", "--config", "missing.toml"]) == 2
    assert "error: --config: missing.toml: No such file or directory" in capsys.readouterr().err
    assert main(["train", "--config"]) == 2
    assert "error: --config: expected one argument" in capsys.readouterr().err
    assert main(["translate", "m", "--config", "run.toml"]) == 2
    assert "run.toml: [info]: expected one of [train], " in capsys.readouterr().err
    write("[sample]\nmodel = 'm'")
    assert main(["sample", "m", "--config", "run.toml"]) == 2
    assert "run.toml: [sample] model: MODEL is named on the command line" in capsys.readouterr().err
    with open("latin.toml", "wb") as file:
        file.write("[train]\ntext = 'é'".encode("latin-1"))
    assert main(["train", "--config", "latin.toml"]) == 2
    assert "latin.toml: 'utf-8' codec can't decode" in capsys.readouterr().err


def test_python_3_10_is_told_what_to_install(monkeypatch, capsys):
    write("[train]")
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    assert main(["train", "--config", "run.toml"]) == 2
    assert 'Python 3.10 reads TOML with tomli: pip install "fastrnn[cli]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--cell", "rnn", "--dropout", "0.1", "--steps", "9", "--threads", "1", "--out", "a b"],
        ["--tokens", "words", "--lr", "1e-5", "--minutes", "0.25", "--seed", "4"],
    ],
)
def test_what_is_printed_can_be_read(options, capsys):
    command = ["train", "--text", "text.txt", *options, "--print-config"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert not os.path.exists("fastrnn-run")
    table = tomllib.loads(first)["train"]
    assert {"hidden", "lr", "seq-len", "symbols"} < set(table)
    assert set(table) <= {"text", *table}
    write(first)
    assert main(["train", "--config", "run.toml", "--print-config", "--quiet"]) == 0
    assert capsys.readouterr().out == first
    assert main(["train", "--config", "run.toml", "--hidden", "3", "--print-config"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["train"] == {**table, "hidden": 3}


def test_a_run_by_file_is_the_run_by_options(capsys):
    options = ["--text", "text.txt", "--hidden", "8", "--embedding", "4", "--batch", "4", "--seq-len", "10"]
    assert main(["train", *options, "--steps", "5", "--out", "a"]) == 0
    capsys.readouterr()
    assert main(["train", *options, "--steps", "5", "--print-config"]) == 0
    write(capsys.readouterr().out)
    assert main(["train", "--config", "run.toml", "--out", "b"]) == 0
    settings = [json.loads(Path(name, "settings.json").read_text()) for name in "ab"]
    assert settings[0] == settings[1]
    first, second = (fr.load(f"{name}/model.safetensors").state_dict() for name in "ab")
    assert all((first[name] == second[name]).all() for name in first)


def test_pairs_print_theirs(capsys):
    assert main(["train-seq2seq", "pairs.tsv", "--swap", "--out", "t", "--print-config"]) == 0
    table = tomllib.loads(capsys.readouterr().out)["train-seq2seq"]
    assert (table["pairs"], table["swap"], table["out"], table["minutes"]) == ("pairs.tsv", True, "t", 5.0)
    assert "resume" not in table


def test_strings_of_every_kind():
    text = 'a "b" \\ \t\n\r\x00\x1b\x7f é 😀 \u2028 \ufeff'
    written = toml("train", argparse.Namespace(text=text, lr=1e-300, hidden=-0.0, seed=2**62), None)
    assert tomllib.loads(written)["train"] == {"text": text, "lr": 1e-300, "seed": 2**62, "hidden": 0.0}


def test_a_name_that_is_not_unicode():
    run = subprocess.run(
        [sys.executable, "-m", "fastrnn", "train", "--text", b"caf\xe9", "--print-config"],
        capture_output=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.startswith(b"fastrnn train: error: --print-config: TOML is UTF-8, which 'caf")
