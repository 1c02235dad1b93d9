"""`benchmarks/scan.py`: its short run, and what it counts."""

import numpy as np
import pytest

from fastrnn import bench
from tests.bench.test_scripts import columns, load, printed


def test_a_short_run():
    head, _, *rows = columns(printed("scan", "--quick", "--cell", "minGRU", "--cell", "SRU", "--threads", "1"))
    assert head == ["scan", "threads", "ms", "GB/s", "a + b GB/s", "share"]
    kinds = ("inference", "forward", "backward")
    assert [row[0] for row in rows] == [f"{cell} {kind}" for cell in ("minGRU", "SRU") for kind in kinds]
    for row in rows:
        _, speed, peak, share = map(float, row[2:])
        assert share == pytest.approx(speed / peak, abs=0.02 + 0.1 / peak * share)


@pytest.mark.parametrize("name", ["minGRU", "SRU", "QRNN", "minLSTM", "IndRNN"])
def test_what_is_counted(name):
    """Arrays of T·B·H that a call changes, and those that make a difference to it."""
    script = load("scan")
    calls = script.scans(name, bench.Shape(4, 3, 8, 8))
    call, arrays = calls["backward"]
    held = [cell.cell_contents for cell in call.__closure__]
    sizes = [value.size for value in held if isinstance(value, np.ndarray)]
    z, per = max(sizes), 4 * 3 * 8
    assert z % per == 0
    read = z // per + (name == "SRU")  # z, and the skip
    assert arrays == 2 * read + 2  # each read and its gradient written; dy and the states
    assert calls["inference"][1] == read + 1 and calls["forward"][1] == read + 1 + (name in ("SRU", "QRNN"))
    call()
