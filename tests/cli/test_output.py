"""What commands write where: JSON for programs, silence, pipes, terminals, encodings; and how they end."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

import fastrnn as fr
from fastrnn.cli import COMMANDS, build_parser, main
from fastrnn.cli import train as train_command

TINY = ["--text", "text.txt", "--hidden", "8", "--embedding", "4", "--batch", "4", "--seq-len", "10", "--cell", "gru"]
PAIRS = ["pairs.tsv", "--hidden", "8", "--embedding", "4", "--batch", "4"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dög\n" * 60)
    (tmp_path / "pairs.tsv").write_text("".join(f"one {k}\teins {k}\n" for k in range(20)))
    (tmp_path / "run.toml").write_text("[train]\n[train-seq2seq]\n")


@pytest.fixture
def models():
    letters = fr.text.CharVocabulary("abcdefgé\n")
    words = fr.text.Vocabulary.from_texts(["eins zwei drei é"])
    fr.save(fr.models.LanguageModel(letters, "rnn", hidden_size=4, seed=0), "lm.safetensors")
    fr.save(fr.models.Seq2Seq(words, None, "gru", embedding_dim=4, hidden_size=8, seed=0), "s2s.safetensors")


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastrnn", *arguments], capture_output=True, timeout=120, **{"text": True, **options}
    )


# ---- help


def examples():
    for name, command in commands().items():
        for line in command.epilog.splitlines()[1:]:
            yield pytest.param(name, re.split(r"\s{2,}", line.strip())[0], id=line.strip()[:60])


def commands():
    parser = build_parser()
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices


@pytest.mark.parametrize(("name", "line"), examples())
def test_examples_of_help_are_commands(name, line):
    words = shlex.split(line.partition(" < ")[0].partition(" > ")[0])
    while "=" in words[0]:
        words.pop(0)
    assert words[:2] == ["fastrnn", name]
    args = build_parser().parse_args(words[1:])
    assert callable(args.run)


def test_every_command_has_examples_and_the_common_options():
    assert list(commands()) == list(COMMANDS)
    for command in commands().values():
        assert len(command.epilog.splitlines()) >= 3
        assert {"--help", "--quiet", "--debug"} <= set(command._option_string_actions)
        assert ("--config" in command._option_string_actions) == COMMANDS[command.prog.split()[1]].config
        assert "--json" in command._option_string_actions
        assert command.format_help().count("\n\n  fastrnn") == 0


def test_help_shows_all_commands_and_imports_none():
    code = "import sys; from fastrnn.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name, entry in COMMANDS.items():
        assert re.search(rf"^ +{name}\s+{entry.summary.split()[0]}", run.stdout, re.MULTILINE)
    assert "examples:" in run.stdout
    heavy = {"fastrnn.train", "fastrnn.models", "fastrnn.bench", "fastrnn.cli.train", "tqdm", "matplotlib", "shtab"}
    assert not heavy & set(run.stderr.split())


def test_info_imports_little():
    code = "import sys; from fastrnn.cli import main; main(['info']); print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"fastrnn.train", "fastrnn.models", "fastrnn.bench", "fastrnn.text", "fastrnn.jit", "tqdm", "safetensors"}
    assert not heavy & set(run.stderr.split())


# ---- JSON


def test_json_of_training(capsys):
    assert main(["train", *TINY, "--steps", "5", "--out", "run", "--json"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert shown.out.count("\n") == 1
    assert (facts["run"], facts["stopped"], facts["step"]) == ("run", False, 5)
    assert facts["parameters"] == fr.load("run/model.safetensors").num_params
    assert facts["loss"] == fr.History.load("run/history.json").steps["loss"][-1]
    assert 0 < facts["figures"]["held_out_bits_per_char"] < 9
    assert all(os.path.exists(name) for name in facts["files"]) and len(facts["files"]) >= 2
    assert "held-out text: " in shown.err  # words are for people

    assert main(["train-seq2seq", *PAIRS, "--steps", "3", "--out", "run2", "--json", "--no-progress"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert (facts["run"], facts["step"]) == ("run2", 3)
    assert facts["figures"]["held_out_perplexity"] > 1
    assert "3 steps in" not in shown.err


def test_json_of_the_others(models, capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == fr.__version__
    sample = ["sample", "lm.safetensors", "--length", "9", "--seed", "1", "--prompt", "aé%"]
    assert main([*sample, "--json"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert (facts["prompt"], facts["unknown"], facts["seed"], len(facts["tokens"])) == ("aé%", ["%"], 1, 9)
    assert "warning: not in the model's vocabulary: '%'" in shown.err
    assert main(sample) == 0
    assert capsys.readouterr().out == facts["prompt"] + facts["text"] + "\n"
    with open("lines.txt", "w", encoding="utf-8") as file:
        file.write("eins é\n\nzwei\n")
    assert main(["translate", "s2s.safetensors", "lines.txt", "--json", "--max-length", "4"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["source"] for line in lines] == ["eins é", "", "zwei"]
    tiny = ["--shapes", "2,1,3,4", "--cell", "gru", "--mode", "infer", "--peers", "fastrnn,numpy", "--repeat", "1"]
    assert main(["bench", *tiny, "--seconds", "0", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["layers"][0]["shape"] == [2, 1, 3, 4]
    assert "gru infer T=2" in shown.err


def test_json_is_ascii_where_the_stream_is(models):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = process("sample", "lm.safetensors", "--prompt", "é", "--length", "0", "--json", env=environment)
    assert run.stdout == '{"prompt": "\\u00e9", "text": "", "tokens": [], "unknown": [], "seed": null}\n'
    assert process("sample", "lm.safetensors", "--prompt", "é", "--length", "0", env=environment).stdout == "?\n"
    run = process("train", *TINY, "--steps", "2", "--out", "run", env=environment)
    assert (run.returncode, "Traceback" in run.stderr) == (0, False)
    assert "evaluating on 132 held-out characters ?" in run.stdout
    for name in COMMANDS:
        assert process(name, "--help", env=environment).returncode == 0


# ---- silence


def test_quiet_and_without_progress(models, capsys):
    assert main(["train", *TINY, "--steps", "3", "--out", "a", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["train-seq2seq", *PAIRS, "--steps", "3", "--out", "b", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["train", *TINY, "--steps", "3", "--out", "c", "--quiet", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["step"] == 3 and shown.err == ""
    assert main(["train", *TINY, "--steps", "3", "--out", "d", "--no-progress"]) == 0
    shown = capsys.readouterr()
    assert "saved in d" in shown.out and shown.err == ""
    assert main(["sample", "lm.safetensors", "--prompt", "%", "--length", "0", "--quiet"]) == 0
    assert capsys.readouterr() == ("%\n", "")
    tiny = ["--shapes", "2,1,3,4", "--cell", "gru", "--mode", "infer", "--peers", "fastrnn,numpy", "--repeat", "1"]
    assert main(["bench", *tiny, "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("case ") and shown.err == ""
    assert main(["train", *TINY, "--steps", "3", "--out", "a", "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1  # errors are said


def test_a_terminal_sees_no_colours(models):
    """Neither with NO_COLOR nor without; the bar of progress moves the cursor, which isn't colour."""
    pty = pytest.importorskip("pty")
    for extra in ({}, {"NO_COLOR": "1"}):
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "fastrnn", "train", *TINY, "--steps", "300", "--out", f"run{len(extra)}"]
        running = subprocess.Popen(command, stdout=child, stderr=child, env={**os.environ, **extra})
        os.close(child)
        seen = b""
        while True:
            try:
                piece = os.read(parent, 1 << 16)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        os.close(parent)
        assert running.wait() == 0, seen
        assert b"saved in run" in seen
        assert not re.search(rb"\x1b\[[\d;]*m", seen)


# ---- ends


def test_closed_and_full_streams(models):
    shell = f'{shlex.quote(sys.executable)} -m fastrnn "$@"'
    for redirection, arguments, expected in (
        (">&-", ["info"], (0, "")),
        (">&-", ["sample", "lm.safetensors", "--length", "5"], (0, "")),
        (">&-", ["train", *TINY, "--steps", "2", "--out", "a"], (0, None)),
        ("2>&-", ["train", *TINY, "--steps", "2", "--out", "b"], (0, "")),
        ("2>&-", ["train", "--hidden", "0"], (2, "")),
    ):
        run = subprocess.run(["bash", "-c", f"{shell} {redirection}", "x", *arguments], capture_output=True, text=True)
        assert (run.returncode, run.stderr if expected[1] is not None else None) == expected, arguments
        assert "Traceback" not in run.stderr
    if os.path.exists("/dev/full"):
        run = subprocess.run(["bash", "-c", f"{shell} > /dev/full", "x", "info"], capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (1, "fastrnn info: error: No space left on device\n")


@pytest.mark.parametrize("arguments", [["--help"], ["info"], ["train", *TINY, "--steps", "5"]])
def test_a_reader_that_has_gone_before_anything_is_written(arguments):
    parent, child = os.pipe()
    os.close(parent)
    run = subprocess.Popen([sys.executable, "-m", "fastrnn", *arguments], stdout=child, stderr=subprocess.PIPE)
    os.close(child)
    err = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 141 or (arguments == ["--help"] and run.returncode == 0)  # argparse says nothing of it
    assert "Traceback" not in err and "Exception ignored" not in err


@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.default_int_handler])
def test_sigterm_saves(ignored):
    """Also in a job that a script started in the background, where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, ignored)
    command = [sys.executable, "-m", "fastrnn", "train", *TINY, "--steps", "10000000", "--out", "run"]
    try:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    while not running.stdout.readline().startswith("model:"):
        assert running.poll() is None, running.stderr.read()
    time.sleep(0.7)
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 143, err
    assert "Traceback" not in err
    stopped = int(re.search(r"stopped after step (\d+); saved in run", out).group(1))
    assert fr.History.load("run/history.json").steps["step"][-1] == stopped > 0


def test_sigterm_handlers_are_put_back(capsys):
    def mine(*args):
        pass

    assert main(["train", *TINY, "--steps", "2", "--out", "a", "--quiet"]) == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    before = signal.signal(signal.SIGTERM, mine)
    try:
        assert main(["train", *TINY, "--steps", "2", "--out", "b", "--quiet"]) == 0
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FloatingPointError("the loss is nan"), 1, "the loss is nan"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines (FASTRNN_TRACEBACK=1 shows where)"),
        (ImportError("needs what: pip install what"), 2, "needs what: pip install what"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_errors_in_the_work(error, code, message, monkeypatch, capsys):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(train_command, "fit", fail)
    assert main(["train", *TINY, "--steps", "3", "--out", "run"]) == code
    err = capsys.readouterr().err
    assert err == ("" if message is None else f"fastrnn train: error: {message}\n")
    if message is not None:
        for debug, environment in ((["--debug"], "0"), ([], "1")):
            monkeypatch.setenv("FASTRNN_TRACEBACK", environment)
            with pytest.raises(Exception, match=re.escape(str(error).split("\n")[0])):
                main(["train", "--resume", "--out", "run", *debug])
