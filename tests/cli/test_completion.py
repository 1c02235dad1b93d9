"""Completion in shells: the scripts are what shells take, and bash's completes."""

import argparse
import shutil
import subprocess
import sys

import pytest

from fastrnn.cli import build_parser, main
from fastrnn.cli._completion import FILES, FOLDERS, script

shtab = pytest.importorskip("shtab")
BASH = shutil.which("bash")
TRY = """
source completion.bash
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
function=$(complete -p fastrnn); function=${function##*-F }
"${function%% *}" fastrnn "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def completed(tmp_path, monkeypatch, capsys):
    """What bash offers at the end of a line."""
    monkeypatch.chdir(tmp_path)
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)

    def complete(*words):
        run = subprocess.run([BASH, "--norc", "-c", TRY, "bash", "fastrnn", *words], capture_output=True, text=True)
        assert run.stderr == ""
        return run.stdout.split()

    return complete


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash(completed, tmp_path):
    subprocess.run([BASH, "-n", "completion.bash"], check=True, cwd=tmp_path)
    (tmp_path / "novel").mkdir()
    (tmp_path / "novel.txt").touch()
    assert completed("tr") == ["train", "train-seq2seq", "translate"]
    assert completed("") == ["train", "sample", "train-seq2seq", "translate", "convert", "info", "bench"]
    assert completed("train", "--re") == ["--resume"]
    assert completed("train", "--tokens", "") == ["characters", "words"]
    assert sorted(completed("train", "--text", "nov")) == ["novel", "novel.txt"]
    assert completed("train", "--out", "nov") == ["novel"]
    assert sorted(completed("convert", "nov")) == ["novel", "novel.txt"]
    assert completed("bench", "fig") == ["figures"]
    assert completed("--print-completion", "b") == ["bash"]


def test_every_option_that_takes_a_file_completes_one():
    parser = build_parser()
    script(parser, "bash")
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    files = ["text", "out", "config", "model", "file", "pairs", "source", "target", "like", "reference", "plot"]
    found = {
        (name, action.dest): getattr(action, "complete", None)
        for name, command in commands.items()
        for action in command._actions
        if action.dest in files
    }
    assert len(found) == 17
    assert all(value in (shtab.FILE, shtab.DIRECTORY) for value in found.values()), found
    assert found["train", "out"] == shtab.DIRECTORY
    assert not set(FILES) & set(FOLDERS)


@pytest.mark.parametrize(("shell", "check"), [("zsh", ["-n"]), ("fish", ["--no-execute"]), ("tcsh", None)])
def test_other_shells(shell, check, tmp_path, capsys):
    assert main(["--print-completion", shell]) == 0
    text = capsys.readouterr().out
    for word in ("train-seq2seq", "convert", "seq-len", "beam"):
        assert word in text
    if check and shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, *check, str(tmp_path / "script")], check=True)


def test_trouble(monkeypatch, capsys):
    assert main(["--print-completion", "cmd"]) == 2
    assert "--print-completion: invalid choice: 'cmd'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    shown = capsys.readouterr()
    assert shown == ("", 'fastrnn: error: --print-completion: needs shtab: pip install "fastrnn[cli]"\n')
