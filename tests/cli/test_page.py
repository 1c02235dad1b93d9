"""What docs/command-line.md shows works, and says what it does."""

import argparse
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastrnn.cli import COMMANDS, build_parser

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\$ (.+)\n((?:(?!\$ |```).*\n)*)", PAGE, re.MULTILINE)
WORDS = ["the", "old", "captain", "looked", "at", "a", "sea", "and", "said", "nothing", "then", "he", "went", "below"]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_its_commands_run(tmp_path):
    """One after the other, as a reader would type them; lines that are the same on every machine are as shown."""
    draw = random.Random(1)
    lines = (" ".join(draw.choice(WORDS) for _ in range(9)).capitalize() + "." for _ in range(600))
    (tmp_path / "novel.txt").write_text("\n".join(lines))
    one, two = (
        ["one", "two", "three", "four", "five", "six", "seven"],
        ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben"],
    )
    pairs = [(a, b, c) for a in range(7) for b in range(7) for c in range(7)]
    text = "".join(f"{one[a]} {one[b]} {one[c]}\t{two[a]} {two[b]} {two[c]}\n" for a, b, c in pairs)
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    (tmp_path / "sentences.txt").write_text("one two three\nseven four one\n")
    (tmp_path / "run.toml").write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    (tmp_path / "wrong.toml").write_text("[train]\nhiden = 5\n")
    assert len(SHOWN) >= 15
    for command, output in SHOWN:
        if "novel.pt" in command and not _has("torch"):
            continue
        script = f'fastrnn() {{ "{sys.executable}" -m fastrnn "$@"; }}; {command}'
        run = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        wanted = 2 if "wrong.toml" in command else 0
        assert run.returncode == wanted, f"{command}: {run.stderr}"
        if wanted or "--print-config" in command:
            assert run.stdout + run.stderr == output, command
        words = re.findall(r"^(?:[a-z][\w -]*?:|case|\w+(?=  ))", output, re.MULTILINE)
        for word in words:  # what lines begin with
            assert re.search(rf"^{re.escape(word)}", run.stdout + run.stderr, re.MULTILINE), f"{command}: {word}"


def _has(library):
    try:
        __import__(library)
    except ImportError:
        return False
    return True


def test_it_names_every_command_and_only_options_that_are():
    for name in COMMANDS:
        assert re.search(rf"^\| \[`{name}`\]\(#", PAGE, re.MULTILINE), name
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    known = {option for command in (parser, *commands.values()) for option in command._option_string_actions}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE)) <= known | {"--no-"}
