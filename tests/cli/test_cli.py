"""The command line: train, go on, sample, info, and one clear line for every bad argument."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastrnn as fr
from fastrnn.cli import main

TINY = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--seq-len", "10", "--cell", "gru"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 60)
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


def test_train_sample_and_info(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "--text", text, *TINY, "--steps", "60", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    bits = float(re.search(r"held-out text: ([\d.]+) bits per character", shown.out).group(1))
    assert 0 < bits < 5
    assert "a sample at temperature 0.8" in shown.out
    assert "60 steps in" in shown.err
    assert "\r" not in shown.err
    written = {path.name for path in out.iterdir()}
    assert written == {*["settings.json", "checkpoint.safetensors", "model.safetensors", "history.json", "loss.png"]}
    history = fr.History.load(out / "history.json")
    assert history.steps["step"][-1] == 60
    assert history.notes["held_out_bits_per_char"] == pytest.approx(bits, abs=1e-3)

    assert main(["sample", str(out), "--prompt", "the ", "--length", "20", "--seed", "1"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("the ")
    assert len(first) == 4 + 20 + 1
    assert main(["sample", str(out / "model.safetensors"), "--prompt", "the ", "--length", "20", "--seed", "1"]) == 0
    assert capsys.readouterr().out == first
    assert main(["sample", str(out), "--prompt", "ü", "--length", "0", "--top-k", "1", "--top-p", "0.5"]) == 0
    assert "not in the model's vocabulary: 'ü'" in capsys.readouterr().err

    assert main(["info"]) == 0
    assert fr.info()["version"] in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_threads"] == fr.info()["num_threads"]


def test_resume_goes_on_and_folders_are_numbered(text, capsys):
    command = ["train", "--text", text, *TINY]
    assert main([*command, "--steps", "20"]) == 0
    assert main([*command, "--steps", "30"]) == 0
    assert main(["train", "--resume", "--steps", "40"]) == 0
    assert fr.History.load("fastrnn-run/history.json").steps["step"][-1] == 20
    assert fr.History.load("fastrnn-run-2/history.json").steps["step"][-1] == 40
    capsys.readouterr()
    assert main(["train", "--resume", "--out", "fastrnn-run-2"]) == 0
    assert "40 steps" in capsys.readouterr().err


def test_epochs_and_minutes(text, capsys):
    assert main(["train", "--text", text, *TINY, "--epochs", "1", "--out", "a"]) == 0
    assert len(fr.History.load("a/history.json").epochs) == 1
    assert main(["train", "--text", text, *TINY, "--minutes", "0.003", "--out", "b", "--threads", "1"]) == 0
    history = fr.History.load("b/history.json")
    assert history.steps["lr"][-1] < 0.003
    assert 0.1 < history.steps["seconds"][-1] < 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "fastrnn: error: expected a command: train, sample"),
        (["fly"], "fastrnn: error: expected a command: train, .*, got 'fly' "),
        (["train", "--hidden", "0"], "fastrnn train: error: --hidden: expected a whole number >= 1, got '0'"),
        (["train", "--hidden", "many"], "fastrnn train: error: --hidden: expected a whole number >= 1, got 'many'"),
        (["train", "--lr", "-1"], "fastrnn train: error: --lr: expected a number > 0, got '-1'"),
        (["train", "--lr", "nan"], "fastrnn train: error: --lr: expected a number > 0, got 'nan'"),
        (["train", "--dropout", "1"], "fastrnn train: error: --dropout: expected a number >= 0 and < 1, got '1'"),
        (["train", "--cell", "tcn"], "fastrnn train: error: --cell: expected one of lstm, .*fastgrnn, or module:name"),
        (["train", "--minutes", "1", "--epochs", "1"], "fastrnn train: error: --epochs: not allowed with"),
        (["train", "--threads", "0"], "fastrnn train: error: --threads: expected a whole number >= 1, got '0'"),
        (["train", "--seed", "-1"], "fastrnn train: error: --seed: expected a whole number >= 0, got '-1'"),
        (["train", "--hiden", "5"], "fastrnn train: error: unrecognized arguments: --hiden 5; did you mean --hidden?"),
        (["train", "--text", "missing"], "fastrnn train: error: --text: .*missing: no such file or folder"),
        (["train", "--text", "empty"], "fastrnn train: error: --text: .*empty: holds no text"),
        (["train", "--text", "short"], "fastrnn train: error: --text: 5 characters are too few for --batch 32"),
        (["train", "--resume"], "fastrnn train: error: --resume: no run here; name its folder with --out"),
        (["train", "--resume", "--out", "none"], "fastrnn train: error: --resume: none holds no run"),
        (["train", "--out", "short"], "fastrnn train: error: --out: short is a file, expected a folder"),
        (["sample"], "fastrnn sample: error: the following arguments are required: MODEL"),
        (["sample", "missing"], "fastrnn sample: error: missing: no such file"),
        (["sample", "short"], "fastrnn sample: error: short: not a complete safetensors file"),
        (["sample", "layer"], "fastrnn sample: error: layer: holds a Linear, expected a language model"),
        (["sample", "x", "--temperature", "-1"], "fastrnn sample: error: --temperature: expected a number >= 0"),
        (["sample", "x", "--top-p", "1.5"], "fastrnn sample: error: --top-p: expected a number > 0 and <= 1"),
        (["info", "extra"], "fastrnn info: error: unrecognized arguments: extra"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, tmp_path, capsys):
    (tmp_path / "short").write_text("words")
    (tmp_path / "empty").write_text("")
    fr.save(fr.Linear(2, 3), tmp_path / "layer")
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert re.match(message, shown.err)
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_run_is_not_overwritten_or_changed(text, capsys):
    command = ["train", "--text", text, *TINY, "--steps", "3", "--out", "run"]
    assert main(command) == 0
    for more, message in (
        ([], "--out: run holds a run; go on with --resume, or choose another folder"),
        (["--resume", "--hidden", "9"], "--hidden: the run in run began with 8, not 9"),
    ):
        capsys.readouterr()
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err
    with open(text, "a") as file:
        file.write("more")
    assert main([*command, "--resume"]) == 2
    assert "the text is not the one that the run in run began with" in capsys.readouterr().err
    with open("run/settings.json", "w") as file:
        file.write("{}")
    assert main([*command, "--resume"]) == 2
    assert "settings.json can't be read" in capsys.readouterr().err


def test_help(capsys):
    for command in ("train", "sample", "info"):
        assert main([command, "--help"]) == 0
        assert f"usage: fastrnn {command}" in capsys.readouterr().out


def test_generated_control_characters_are_not_printed(tmp_path, capsys):
    vocabulary = fr.text.CharVocabulary("\x1b\x07\x9b")
    fr.save(fr.models.LanguageModel(vocabulary, "rnn", hidden_size=4, seed=0), tmp_path / "m")
    assert main(["sample", str(tmp_path / "m"), "--length", "30"]) == 0
    assert set(capsys.readouterr().out) == {"\ufffd", "\n"}


def command(*arguments):
    return [sys.executable, "-m", "fastrnn.cli", *arguments]


def test_ctrl_c_saves_and_says_how_to_go_on(text, tmp_path):
    train = ["train", "--text", text, *TINY, "--out", "my run"]
    process = subprocess.Popen(
        command(*train, "--steps", "1000000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not process.stdout.readline().startswith("model:"):
        assert process.poll() is None, process.stderr.read()
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out.rstrip().endswith("fastrnn train --resume --out 'my run'")
    stopped = int(re.search(r"stopped after step (\d+)", out).group(1))
    assert stopped > 0
    assert len(load_file("my run/model.safetensors")) == 7
    done = subprocess.run(
        command("train", "--resume", "--out", "my run", "--steps", str(stopped + 5)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"{stopped + 5} steps" in done.stderr


def test_ctrl_c_changes_nothing(text, tmp_path):
    """A run stopped by Ctrl-C and resumed equals one that never was."""
    train = ["train", "--text", text, *TINY, "--dropout", "0.2", "--steps", "4000"]
    assert main([*train, "--out", "whole"]) == 0
    process = subprocess.Popen(command(*train, "--out", "part"), stdout=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("model:"):
        pass
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert main(["train", "--resume", "--out", "part"]) == 0
    whole, part = (load_file(f"{name}/model.safetensors") for name in ("whole", "part"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, part[name])


def test_the_reader_may_leave(tmp_path):
    vocabulary = fr.text.CharVocabulary("ab\n")
    fr.save(fr.models.LanguageModel(vocabulary, "rnn", hidden_size=4, seed=0), tmp_path / "m")
    process = subprocess.Popen(
        command("sample", "m", "--length", "100000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_without_matplotlib_there_is_no_plot(text, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", "--text", text, *TINY, "--steps", "3", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "no plot: History.plot needs matplotlib" in out
    assert "saved in run: model.safetensors, history.json\n" in out


@pytest.mark.parametrize("module", ["fastrnn", "fastrnn.cli"])
def test_the_package_runs_the_command_line(module):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=60)

    assert run("--version").stdout == f"fastrnn {fr.__version__}\n"
    refused = run("train", "--hidden", "0")
    assert refused.returncode == 2
    assert refused.stderr.startswith("fastrnn train: error: ") and "Traceback" not in refused.stderr
