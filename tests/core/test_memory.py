"""The core never leaves its arrays: misfits are refused, and nothing beside an array is read or written."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from tests.core import misfits

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *arguments],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@lru_cache
def outcomes():
    done = run("tests.core.misfits")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", misfits.calls())
def test_misfits_are_refused(name):
    assert outcomes()[name] == "refused"


@pytest.mark.parametrize("side", ["end", "start"])
def test_nothing_outside_of_the_arrays_is_touched(side):
    """Each array ends (starts) at a page that can't be read or written: touching it ends the process."""
    done = run("tests.core.fences", side)
    if "no mprotect" in done.stdout:
        pytest.skip("no mprotect here")
    last = (done.stdout.splitlines() or ["nothing"])[-1]
    assert done.returncode == 0, f"status {done.returncode} in {last}\n{done.stderr[-2000:]}"
    assert last == "done"


def test_random_arguments_never_crash():
    done = run("tests.core.fuzz", "400")
    last = (done.stdout.splitlines() or ["nothing"])[-1]
    assert done.returncode == 0, f"status {done.returncode} in {last}\n{done.stderr[-2000:]}"
    assert last == "done"
