"""How much of a long translation is done: seen on a terminal, where it was asked for, and nowhere else."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastrnn as fr

pty = pytest.importorskip("pty")


@pytest.fixture(scope="module")
def model():
    vocabulary = fr.text.Vocabulary.from_texts(["one two three"])
    return fr.models.Seq2Seq(vocabulary, None, "gru", embedding_dim=4, hidden_size=8, seed=0)


TEXTS = ["one two", "three", "two one two", "one", "three three"]


def test_a_library_call_says_nothing_unless_asked(model, capsys):
    model.translate(TEXTS, max_length=5)
    model.score([(text, text) for text in TEXTS])
    assert capsys.readouterr() == ("", "")
    model.translate(TEXTS, max_length=5, progress=True)
    assert re.fullmatch(r"5 texts in \d:\d\d\n", capsys.readouterr().err)
    model.score([(text, text) for text in TEXTS], progress=True)
    assert re.fullmatch(r"5 pairs in \d:\d\d\n", capsys.readouterr().err)


@pytest.mark.parametrize("how", ["translate", "greedy", "sample", "score"])
def test_progress_is_told_of_every_batch(model, how, monkeypatch):
    monkeypatch.setattr("fastrnn.train.progress.PLAIN_SECONDS", 0.0)
    given = [(text, text) for text in TEXTS] if how == "score" else TEXTS
    options = {"seed": 0} if how == "sample" else {}
    stream = io.StringIO()
    shown = getattr(model, how)(given, batch_size=2, progress=fr.Progress(unit="text", stream=stream), **options)
    plain = getattr(model, how)(given, batch_size=2, **options)
    np.testing.assert_array_equal(shown, plain)
    *lines, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"5 texts in \d:\d\d", last)
    shares = [int(re.match(r" *(\d+)% \d+:\d\d left(?:, .* text/s)?, \d:\d\d elapsed$", line)[1]) for line in lines]
    # the shortest come first: of 10 tokens and 5 ends that is 2 + 2, then 3 + 3 and at last 4
    assert shares == ([40, 80, 100] if how == "score" else [29, 71, 100])


def test_a_progress_that_is_none(model):
    with pytest.raises(TypeError, match=r"^progress: expected True, False or fr.Progress, got str$"):
        model.translate(TEXTS, progress="yes")


def on_a_terminal(*arguments, columns=80, given=None):
    """What `fastrnn translate` writes to its standard output, a pipe, and to its standard error, a terminal."""
    parent, child = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "fastrnn", "translate", *arguments]
    with open(given, "rb") if given else open(os.devnull, "rb") as source:
        cat = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.PIPE)
    process = subprocess.Popen(command, stdin=cat.stdout, stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    cat.stdout.close()
    out, err = process.stdout.read().decode(), b""
    while True:
        try:
            piece = os.read(parent, 1 << 16)
        except OSError:  # Linux says so of a terminal that nobody writes to any more
            break
        if not piece:
            break
        err += piece
    os.close(parent)
    process.stdout.close()
    cat.wait()
    return process.wait(), out, err.decode()


def test_the_command_line_shows_it_on_a_terminal(model, tmp_path):
    fr.save(model, tmp_path / "model.safetensors")
    (tmp_path / "lines.txt").write_text("\n".join([*TEXTS, "", *TEXTS]) + "\n")
    options = [str(tmp_path), "--max-length", "5", "--batch", "2"]
    code, out, err = on_a_terminal(*options, str(tmp_path / "lines.txt"))
    assert code == 0
    assert len(out.splitlines()) == 11
    assert "100%" in err
    assert re.search(r"11 lines in \d:\d\d\s*$", err)
    code, again, err = on_a_terminal(*options, "-", given=tmp_path / "lines.txt")  # nobody knows how long a pipe is
    assert (code, again) == (0, out)
    counts = [int(count) for count in re.findall(r"\r(\d+) lines, ", err)]
    assert counts == [3, 5, 7, 9, 11]
    assert "%" not in err
