"""The kernels of models touch nothing outside of their arrays: trees, attention, decoders, searches, word vectors."""

import os

import pytest

from tests.core.test_memory import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("side", ["end", "start"])
@pytest.mark.parametrize("script", ["tree_fences", "model_fences"])
def test_kernels_stay_in_their_arrays(script, side):
    """Each array ends (starts) at a page that can't be read or written: touching it ends the process."""
    done = run(f"tests.core.{script}", side)
    if "no mprotect" in done.stdout:
        pytest.skip("no mprotect here")
    last = (done.stdout.splitlines() or ["nothing"])[-1]
    assert done.returncode == 0, f"status {done.returncode} in {last}\n{done.stderr[-2000:]}"
    assert last == "done"
