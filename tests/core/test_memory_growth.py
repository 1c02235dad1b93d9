"""Memory stays what it is over many calls, and long sequences fit with `checkpoint`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def measured(*arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_calls_leave_nothing_behind(kind):
    """1000 rounds: one leaked block of the workspace a round is a page at least, 4 MB; one y is 110 kB on average."""
    assert measured("--growth", kind, 1000) < 3e6


def test_the_measurement_sees_a_leak():
    """Outputs that somebody keeps are seen: 100 of them are far more than the bound above."""
    assert measured("--growth", "RNN", 100, "--leak") > 3e6


def test_a_long_sequence_needs_little_with_checkpoints():
    """300 MB for a million steps; 50,000 steps get a twentieth of it, which 130 MB of gates and states would exceed."""
    assert measured("--sequence", 50_000, 1000) <= 300e6 / 20
    assert measured("--sequence", 50_000, 0) > 100e6


def test_workspace_is_used_again():
    """A call that was made before finds its blocks; what is kept neither grows nor is left out."""
    layer, x = fr.LSTM(32, 64, seed=0), np.ones((50, 16, 32), np.float32)

    def step():
        (y, _), pullback = layer.vjp(x)
        pullback(np.ones_like(y))

    for _ in range(3):
        step()
    kept = _core.cached_bytes()
    assert kept > 0
    for _ in range(200):
        step()
        assert _core.cached_bytes() == kept


def test_what_is_kept_has_a_cap():
    """Blocks of ever other sizes push out the oldest: at most 1 GiB stays."""
    for k in range(1, 14):
        _core.empty((k * 2**23 + 5_000_000,), np.float32)
    assert _core.cached_bytes() <= 2**30
