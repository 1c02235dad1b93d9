"""Small figures: what an import costs, what an installation weighs, what ``fastrnn train`` reaches."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["import_seconds", "imported_once", "installed_bytes", "train_bits"]

# What a wheel leaves out, but a source tree holds.
NOT_INSTALLED = {".pyx", ".pxi", ".cpp"}


def imported_once(package: str, after: str = "numpy") -> float:
    """Return the seconds that ``import package`` takes in a fresh interpreter that has imported `after`."""
    code = f"import time, {after}; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
    # An installed package has its compiled Python files; let a source tree keep them too.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return float(done.stdout)


def import_seconds(package: str, repeat: int = 15) -> float:
    """Return the median of `imported_once`, after one import that fills the disk cache."""
    imported_once(package)
    return statistics.median(imported_once(package) for _ in range(repeat))


def installed_bytes(package: str) -> int:
    """Return the size of an installed package, compiled Python files included.

    These are the files that its installer listed; for a source tree on the path they are those of the
    package's folder without what a wheel leaves out.

    Examples
    --------
    >>> installed_bytes("fastrnn") > 10_000
    True
    """
    try:
        listed = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        listed = []
    paths = [Path(str(file.locate())) for file in listed]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"package: {package} is not installed")
    origin = Path(spec.origin).resolve()
    if origin not in {path.resolve() for path in paths}:  # an editable installation, or none
        root = origin.parent
        paths = [
            path
            for path in root.rglob("*")
            if path.suffix not in NOT_INSTALLED
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
    return sum(path.stat().st_size for path in paths if path.is_file())


def train_bits(threads: int = 2, minutes: float = 1.0) -> float:
    """Run ``fastrnn train`` and return its bits per character on held-out text."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        options = ["--out", str(out), "--threads", str(threads), "--minutes", str(minutes)]
        command = [sys.executable, "-m", "fastrnn.cli", "train", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"fastrnn train failed: {done.stderr.strip()[-500:]}")
        notes = json.loads((out / "history.json").read_text())["notes"]
        return float(notes["held_out_bits_per_char"])
