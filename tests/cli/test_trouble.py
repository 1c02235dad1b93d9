"""The command line where something is in the way: Ctrl-C, full disks, odd texts, runs beside their text."""

import contextlib
import json
import os
import re
import shutil
import threading

import pytest

import fastrnn as fr
from fastrnn import text as texts
from fastrnn.cli import main
from fastrnn.cli import train as command
from fastrnn.cli.train import Corpus

TINY = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--seq-len", "10", "--cell", "gru"]
SENTENCE = "the quick brown fox jumps over the lazy dog\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 60)
    return str(path)


def train(*arguments):
    return main(["train", *TINY, *arguments])


def test_a_run_beside_its_text(text, tmp_path, capsys):
    """Neither the run's own files nor those of other runs become text."""
    os.mkfifo("pipe")
    os.symlink("nowhere", "dangling")
    assert train("--text", ".", "--steps", "3", "--out", "a") == 0
    shutil.copy(text, tmp_path / "b.json")
    os.mkdir("sub")
    os.rename("b.json", "sub/text.txt")
    assert train("--text", ".", "--steps", "3", "--out", "sub/run") == 0
    assert "in 2 files" in capsys.readouterr().out
    assert main(["train", "--resume", "--out", "sub/run", "--steps", "4"]) == 0
    assert "in 2 files" in capsys.readouterr().out
    corpus = texts.load_corpus(".", exclude=["sub"])
    assert [name for name, _ in corpus.texts] == ["text.txt"]
    assert train("--text", "sub", "--steps", "3", "--out", "sub") == 2
    assert "--out: expected another folder than that of the text" in capsys.readouterr().err


def test_a_text_may_move(text, capsys):
    assert train("--text", text, "--steps", "3", "--out", "run") == 0
    os.rename(text, "moved.txt")
    assert main(["train", "--resume", "--out", "run", "--steps", "4"]) == 2
    assert "--text: " in capsys.readouterr().err
    assert main(["train", "--resume", "--out", "run", "--steps", "4", "--text", "moved.txt"]) == 0
    assert main(["train", "--resume", "--out", "run", "--steps", "5"]) == 0
    with open("moved.txt", "a") as file:
        file.write("more")
    capsys.readouterr()
    assert main(["train", "--resume", "--out", "run", "--text", "moved.txt"]) == 2
    assert "the text is not the one" in capsys.readouterr().err


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_ctrl_c_in_the_evaluation(text, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(fr.models.LanguageModel, "bits_per_token", stop)
        assert train("--text", text, "--steps", "3", "--out", "run") == 130
    out = capsys.readouterr().out
    assert "evaluating on" in out
    assert out.endswith(
        "stopped in the evaluation; the model is saved in run. To evaluate it:\n  fastrnn train --resume --out run\n"
    )
    assert fr.load("run/model.safetensors").vocab_size > 2
    assert fr.History.load("run/history.json").steps["step"] == [1, 2, 3]
    assert main(["train", "--resume", "--out", "run"]) == 0
    assert "held-out text" in capsys.readouterr().out


def test_two_ctrl_c_say_what_there_is(text, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(command, "fit", stop)
        assert train("--text", text, "--steps", "3", "--out", "run") == 130
    out = capsys.readouterr().out
    assert "stopped at once; nothing was saved yet. To go on:\n  fastrnn train --resume --out run\n" in out
    assert main(["train", "--resume", "--out", "run"]) == 0
    assert "no checkpoint in run yet: from the beginning\n" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(command, "fit", stop)
        assert main(["train", "--resume", "--out", "run", "--steps", "5"]) == 130
    out = capsys.readouterr().out
    assert "going on after step 3\n" in out
    assert "stopped at once; the last checkpoint, of step 3, is in run. To go on:\n" in out


def test_what_the_model_does_not_see_is_said(tmp_path, capsys):
    (tmp_path / "text").write_bytes(SENTENCE.encode() * 60 + b"\xff\xfe zz" + SENTENCE.encode() * 60)
    assert train("--text", "text", "--steps", "1", "--out", "a", "--symbols", "6") == 0
    out = capsys.readouterr().out
    assert "not UTF-8, read as U+FFFD: 2 places" in out
    assert re.search(r"unknown to the 6 characters of the model: \d+% of the training text, \d+% of the held", out)
    assert fr.load("a/model.safetensors").vocab_size == 6
    (tmp_path / "clean").write_text(SENTENCE * 60)
    assert train("--text", "clean", "--steps", "1", "--out", "b") == 0
    out = capsys.readouterr().out
    assert "unknown" not in out
    assert "UTF-8" not in out
    assert "cut" not in out


def test_a_cut_text_and_a_partial_validation_are_said(monkeypatch, capsys):
    corpus = Corpus("something", [("a", SENTENCE * 40_000)], cut=True)
    monkeypatch.setattr(command, "load_corpus", lambda path, exclude: corpus)
    assert train("--steps", "1", "--out", "a") == 0
    out = capsys.readouterr().out
    assert "text: something, 1.76M characters, cut there, 5.0% held out" in out
    assert "validations read about 32.8k of the held-out characters, the end reads all" in out


def test_a_corpus_knows_whether_it_was_cut(text):
    size = len(SENTENCE) * 60
    assert not texts.load_corpus(text, max_chars=size).cut
    assert texts.load_corpus(text, max_chars=size - 1).cut
    os.mkdir("folder")
    for name in "ab":
        shutil.copy(text, f"folder/{name}")
    assert texts.load_corpus("folder", max_chars=size).cut
    assert not texts.load_corpus("folder", max_chars=2 * size).cut


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "run/x"), "fastrnn train: error: run/x: No space left on device\n"),
        (
            MemoryError("9 TiB"),
            "fastrnn train: error: not enough memory; .* 9 TiB\n",
        ),
    ],
)
def test_a_full_disk_or_memory_is_one_line(error, message, text, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(command, "fit", fail)
    assert train("--text", text, "--steps", "3", "--out", "run") == 1
    assert re.fullmatch(message, capsys.readouterr().err)


@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_a_loss_beyond_any_perplexity(text, tokens, capsys):
    """2 to the bits per token is more than a float holds; the run still ends with its model and figures."""
    assert train("--text", text, "--tokens", tokens, "--lr", "1e30", "--steps", "5", "--out", "run", "--json") == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures["held_out_perplexity"] == 2.0**1000


def test_texts_without_an_end(tmp_path):
    """No more is read than is wanted: of a device, or of a file larger than memory."""
    os.mkfifo("endless")
    written = []

    def write():
        with contextlib.suppress(BrokenPipeError), open("endless", "wb", buffering=0) as pipe:
            while sum(written) < 10_000_000:
                written.append(pipe.write("söme text\r\n".encode() * 1000))

    writer = threading.Thread(target=write)
    writer.start()
    corpus = texts.load_corpus("endless", max_chars=20_000)
    writer.join()
    assert sum(written) < 1_000_000
    ((_, text),) = corpus.texts
    assert text == ("söme text\n" * 2000) and corpus.cut and corpus.undecodable == 0


@pytest.mark.parametrize("extra", range(9))
def test_texts_are_cut_between_characters(tmp_path, extra):
    (tmp_path / "t").write_text("x" * extra + "€𝄞" * 5000)
    corpus = texts.load_corpus("t", max_chars=2000 + extra)
    assert corpus.texts[0][1] == "x" * extra + "€𝄞" * 1000 and corpus.cut and corpus.undecodable == 0
    assert texts.load_corpus("t").texts[0][1] == (tmp_path / "t").read_text()


def test_words(text, capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastrnn {fr.__version__}\n"
    assert train("--text", text, "--lr", "inf") == 2
    assert "--lr: expected a finite number > 0, got 'inf'" in capsys.readouterr().err
    assert train("--text", text, "--epochs", "1", "--out", "run") == 0
    assert re.search(r", 1 epoch,", capsys.readouterr().err)
    assert main(["train", "--resume", "--out", "run", "--symbols", "9"]) == 2
    assert "--symbols: the run in run began with 128, not 9" in capsys.readouterr().err
