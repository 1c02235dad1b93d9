"""What the examples print and draw when they run in full: the site shows it, and its build runs none of them.

    python docs/gallery/collect.py              # all, some ten minutes
    python docs/gallery/collect.py bptt         # one

What an example prints goes to NAME.txt here. Its figure goes to NAME.png, unless a page in `models` or `interop` has it
already.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
PAGES = [HERE.parent / name for name in ("models", "interop")]


def for_people(text: str, folder: str) -> str:
    """What was printed, less a last line for machines and names of files in `folder`."""
    kept = [line for line in text.rstrip().splitlines() if folder not in line]
    try:
        json.loads(kept[-1])
    except (ValueError, IndexError):
        return "\n".join(kept) + "\n"
    return "\n".join(kept[:-1]).rstrip() + "\n"


def collect(script: Path) -> None:
    """Run one example, and keep what it shows."""
    options = re.findall(r'add_argument\("(--output|--plot)"', script.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        where = {"--output": folder, "--plot": f"{folder}/figure.png"}
        command = [sys.executable, str(script), *(part for name in options for part in (name, where[name]))]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{script.name}: {done.stderr}")
        (HERE / f"{script.stem}.txt").write_text(for_people(done.stdout, folder), encoding="utf-8")
        figures = sorted(Path(folder).rglob("*.png"))
        print(script.name, *(figure.name for figure in figures), flush=True)
        if figures and not any((folder / f"{script.stem}.png").exists() for folder in PAGES):
            shutil.copy(figures[0], HERE / f"{script.stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="examples, without .py; all by default")
    names = parser.parse_args().names or sorted(path.stem for path in EXAMPLES.glob("*.py"))
    for name in names:
        collect(EXAMPLES / f"{name}.py")


if __name__ == "__main__":
    main()
