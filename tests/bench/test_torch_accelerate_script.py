"""`benchmarks/torch_accelerate.py`: its short runs, and what it refuses to time."""

import json

import pytest

from tests.bench.test_scripts import load, printed

pytest.importorskip("torch")


def test_a_short_run():
    found = json.loads(printed("torch_accelerate", "--quick", "--cell", "gru", "--json").splitlines()[-1])
    row = found["rows"]["gru"]
    assert found["threads"] == 2 and row["wanted"] == 3
    assert row["met"] == (row["over_torch"] >= 3) and row["largest_difference"] < 1e-4
    assert row["losses"][1] < row["losses"][0]
    for side, ms in row["ms"].items():
        assert 0.2 * ms < sum(row["parts"][side].values()) < 5 * ms


def test_overhead():
    found = json.loads(printed("torch_accelerate", "--quick", "--overhead", "--json").splitlines()[-1])["rows"]
    assert set(found) == {"gru", "lstm"}
    for row in found.values():
        assert row["overhead"] == row["module"] - row["layer"]


def test_losses_that_differ_are_noticed(monkeypatch):
    script = load("torch_accelerate")
    monkeypatch.setattr(script, "LARGEST_DIFFERENCE", 0.0)
    monkeypatch.setattr(script, "T", 8)
    with pytest.raises(AssertionError, match="the losses of 30 steps differ by"):
        script.measured("gru", 30, 1)
