"""The kernels for trees touch nothing outside of their arrays."""

import os

import pytest

from tests.core.test_memory import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("side", ["end", "start"])
def test_trees_stay_in_their_arrays(side):
    """Each array ends (starts) at a page that can't be read or written: touching it ends the process."""
    done = run("tests.core.tree_fences", side)
    if "no mprotect" in done.stdout:
        pytest.skip("no mprotect here")
    last = (done.stdout.splitlines() or ["nothing"])[-1]
    assert done.returncode == 0, f"status {done.returncode} in {last}\n{done.stderr[-2000:]}"
    assert last == "done"
