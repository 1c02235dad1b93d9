"""`benchmarks/latency.py` and `benchmarks/training_step.py`: their short runs, and what they count."""

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def printed(name, *options, code=0):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def columns(text):
    """Rows of a table, by the first cells; cells are two blanks apart."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


# ---- latency


@pytest.fixture(scope="module")
def latency():
    return load("latency")


def test_latency_in_a_short_run():
    head, _, *rows = columns(printed("latency", "--quick", "--sizes", "16", "5", "--cell", "lstm", "rnn"))
    assert head[2:6] == ["p50", "p99", "p99.9", "worst"]
    assert [row[0] for row in rows] == ["lstm B=1 H=16", "lstm B=1 H=5", "rnn B=1 H=16", "rnn B=1 H=5"]
    for row in rows:
        assert row[1] == "10,000"
        p50, p99, p999, worst, clock50, clock99, clock999, in_a_row = map(float, row[2:])
        assert 0 < p50 <= p99 <= p999 <= worst
        assert 0 < clock50 <= clock99 <= clock999
        assert clock50 < p50  # a reading and a step
        assert in_a_row > 0


def test_latency_of_slow_calls_is_seen(latency):
    """One call in 200 sleeps: beyond p99, within p99.9."""
    calls = 0

    def call():
        nonlocal calls
        calls += 1
        if calls % 200 == 0:
            time.sleep(0.002)

    found = latency.measure(call, 2000)
    assert len(found.steps) == len(found.clock) == 2000
    assert (found.steps >= 0.002).sum() >= 10  # the machine may add some
    assert np.median(found.steps) < 0.0005
    assert np.percentile(found.steps, 99.9) >= 0.002
    assert found.in_a_row >= 0.002 / 200


def test_latency_counts_every_block(latency, monkeypatch):
    monkeypatch.setattr(latency, "BLOCK", 7)
    calls = []
    found = latency.measure(lambda: calls.append(1), 17)
    assert len(calls) == 3 * 17  # to begin with, one by one, in a row
    assert (found.steps > 0).all()


def test_latency_of_a_stream_moves_the_stream_on(latency):
    layer = fr.GRU(3, 3, seed=0)
    step = latency.stream_step("gru", 3, rows=2)
    x = np.random.default_rng(0).standard_normal((2, 3), dtype=np.float32)
    expected = layer(np.stack([x, x]))[0]
    for t in range(2):
        np.testing.assert_array_equal(step(), expected[t])


def test_latency_refuses_no_units():
    assert "--sizes, --rows: expected whole numbers >= 1" in printed("latency", "--sizes", "0", code=2)


# ---- parts of a training step


@pytest.fixture(scope="module")
def training_step():
    return load("training_step")


def test_training_step_in_a_short_run():
    first, head, _, *rows = columns(printed("training_step", "--quick", "--cell", "gru"))
    assert first[0].startswith("1 thread: copy ")
    assert head == ["model", "part", "ms", "share", "GB/s", "of copy", "of read", "GFLOP/s", "of peak"]
    models = ["characters", "words", "words, lazy embedding"]
    assert list(dict.fromkeys(row[0] for row in rows)) == models
    for model in models:
        *parts, whole = [row for row in rows if row[0] == model]
        assert len(parts) == 10
        # medians of parts, over the median of sums
        assert sum(float(row[2]) for row in parts) == pytest.approx(float(whole[2]), rel=0.5)


@pytest.mark.parametrize("lazy", [False, True])
def test_training_step_counts_what_is_moved(training_step, lazy):
    case = training_step.Model("tiny", T=5, B=2, embedding=3, hidden=4, num_layers=2, classes=500, lazy=lazy)
    step = training_step.trainer(case, "lstm")
    laps = training_step.Laps()
    losses = [step(laps) for _ in range(60)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1  # it trains
    rng = np.random.default_rng(0)
    used = len(np.unique(np.minimum(rng.zipf(1.3, (2, 5, 2)), 500)[0]))
    recurrent, linear = fr.LSTM(3, 4, 2).num_params, fr.Linear(4, 500).num_params
    count = (used if lazy else 500) * 3 + recurrent + linear
    assert set(laps.parts["Adam"].moved) == {28 * count}
    assert laps.parts["zero gradients"].moved[1:] == [4 * count] * 59
    assert set(laps.parts["clipping"].moved) <= {4 * count, 12 * count}
    assert set(laps.parts["cross entropy"].moved) == {2 * 4 * 10 * 500}
    assert laps.parts["linear, backward"].flops == 2 * laps.parts["linear, forward"].flops == 2 * 2 * 10 * 4 * 500
    assert laps.parts["recurrent, forward"].flops == 2 * 10 * (3 + 4 + 4 + 4) * 16
    assert all(len(part.seconds) == 60 and min(part.seconds) > 0 for part in laps.parts.values())


def test_training_step_table(training_step):
    laps = training_step.Laps()
    laps.parts["copies"] = training_step.Part([0.5, 1.0, 1.0], [4e9] * 3)
    laps.parts["multiplies"] = training_step.Part([3.0, 3.0, 9.0], [0] * 3, flops=6e9)
    rows = training_step.rows(training_step.CHARACTERS, laps, copied=8e9, read=16e9, peak=4e9)
    assert [row[1:] for row in rows] == [
        ["copies", "1000.000", "25.0 %", "4.0", "50 %", "25 %", "", ""],
        ["multiplies", "3000.000", "75.0 %", "", "", "", "2", "50 %"],
        ["whole step", "4000.000", "100 %", "", "", "", "", ""],
    ]


def test_bandwidth_is_that_of_memory(training_step):
    """Somewhere between a disk's and a cache's."""
    for found in training_step.bandwidth(2, 2**22, repeat=2):
        assert 1e8 < found < 1e13
