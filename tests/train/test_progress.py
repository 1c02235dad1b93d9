"""The live line on terminals of any width."""

import os
import re
import sys

import pytest

import fastrnn as fr

pty = pytest.importorskip("pty")


def shown_on_a_terminal(columns, monkeypatch, label="bits/char"):
    """What a long run shows at a step, on a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    monkeypatch.setattr("fastrnn.train.progress.TERMINAL_SECONDS", 0.0)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(child, "w") as stream:
        progress = fr.Progress(label, unit="char", stream=stream)
        progress.start(0.0)
        progress._begin -= 3600.0
        progress._window -= 10.0
        progress.note(2.345)
        progress.update(loss=2.5, items=1_234_567, done=0.1, elapsed=3600.0, epoch=12)
        progress.finish("end")
        stream.flush()
        shown = b""
        while not shown.endswith(b"end\r\n"):  # a terminal hands on its text in pieces
            shown += os.read(parent, 1 << 16)
    os.close(parent)
    return [line for line in re.split(r"[\r\n]+|\x1b\[K|\x1b\[A", shown.decode()) if line.strip()]


@pytest.mark.parametrize("tqdm", [True, False])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_time_left_is_seen(columns, tqdm, monkeypatch):
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    lines = shown_on_a_terminal(columns, monkeypatch)
    assert max(map(len, lines)) <= columns
    (line,) = {line.strip() for line in lines if "left" in line}
    assert "9:00:0" in line
    assert ("bits/char 2.500" in line) == (columns > 40 or not tqdm)
    if columns >= 80:
        assert "validation 2.345" in line
    if columns == 200:
        assert line.endswith("epoch 12, 1:00:00 elapsed")
    assert lines[-1] == "end"


def test_a_plain_line_is_cut_to_the_terminal(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    lines = shown_on_a_terminal(12, monkeypatch)
    assert max(map(len, lines)) == 11


def test_a_file_gets_all_parts(monkeypatch, capsys):
    monkeypatch.setattr("fastrnn.train.progress.PLAIN_SECONDS", 0.0)
    progress = fr.Progress("a name of a loss that is so long that it would not fit on a line of a terminal " * 2)
    progress.start(0.0)
    progress.update(loss=2.5, items=1, done=0.5, elapsed=3600.0, epoch=12)
    assert "epoch 12, 1:00:00 elapsed" in capsys.readouterr().err
