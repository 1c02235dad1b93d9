"""The fixture `peer_benchmark`, in a suite such as a user's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytest.importorskip("pytest_benchmark")

SUITE = """
import numpy as np
import pytest
from fastrnn import bench, reference
from fastrnn.bench import Case, Shape, peer_benchmark

SHAPE = Shape(3, 2, 4, 5)

@pytest.mark.parametrize("side", ["fastrnn", "numpy"])
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_case(peer_benchmark, side, mode):
    peer_benchmark(side, Case("lstm", SHAPE, mode))

def make(factor):
    def mine(case, weights, data, threads):
        def run():
            y, h_n = reference.stack("gru", data.x, None, weights)
            return factor * y, h_n
        return run
    return mine

def test_own(peer_benchmark):
    peer_benchmark("mine", Case("gru", SHAPE, "infer"), own={"mine": make(1)}, group="own")

def test_own_wrong(peer_benchmark):
    with pytest.raises(bench.Disagreement, match="mine differs from fastrnn in y"):
        peer_benchmark("mine", Case("gru", SHAPE, "infer"), own={"mine": make(2)})
    peer_benchmark.calls("a", {"a": int})

def test_own_nothing(peer_benchmark):
    nothing = lambda *_: lambda: {"z": np.ones(3)}
    with pytest.raises(ValueError, match="own: mine returns none of y, h_n"):
        peer_benchmark("mine", Case("gru", SHAPE, "infer"), own={"mine": nothing})
    peer_benchmark.calls("a", {"a": int})

CALLS = {"a": lambda: {"x": [np.ones(3), 2.0]}, "b": lambda: {"x": [np.ones(3), 2.000001]}}

@pytest.mark.parametrize("side", ["a", "b"])
def test_calls(peer_benchmark, side):
    peer_benchmark.calls(side, CALLS)

def test_calls_wrong(peer_benchmark):
    with pytest.raises(bench.Disagreement, match=r"b differs from a in result\\['x'\\]\\[1\\] \\(5e-07"):
        peer_benchmark.calls("b", CALLS, dtype="float64")
    with pytest.raises(bench.Disagreement, match=r"c differs from a in result \\(only one side has it\\)"):
        peer_benchmark.calls("c", CALLS | {"c": int})
    with pytest.raises(ValueError, match="side: expected one of a, b, got 'c'"):
        peer_benchmark.calls("c", CALLS)
    with pytest.raises(ValueError, match="side: expected one of fastrnn, torch, .*, got 'lasagne'"):
        peer_benchmark("lasagne", Case("gru", SHAPE))
    peer_benchmark.calls("b", CALLS)

def test_declines(peer_benchmark):
    peer_benchmark("keras", Case("gru", SHAPE, "step"))
"""


def run(pytester, suite, *options):
    pytester.makepyfile(suite)
    file = pytester.path / "saved.json"
    quick = ["--benchmark-max-time=0.01", "--benchmark-min-rounds=2", "--benchmark-min-time=1e-6"]
    result = pytester.runpytest_inprocess(*quick, f"--benchmark-json={file}", "-p", "no:cacheprovider", *options)
    return result, json.loads(file.read_text())["benchmarks"] if file.exists() and file.stat().st_size else []


def test_a_users_suite(pytester, monkeypatch):
    monkeypatch.delenv("FASTRNN_BENCH_PYTHON_KERAS", raising=False)
    result, saved = run(pytester, SUITE, "--benchmark-only")
    result.assert_outcomes(passed=10, skipped=1)
    by_name = {each["name"]: each for each in saved}
    one = by_name["test_case[train-numpy]"]
    assert one["group"] == "lstm train T=3 B=2 I=4 H=5, 1 thread" == by_name["test_case[train-fastrnn]"]["group"]
    assert one["extra_info"]["peer"] == "numpy"
    assert one["extra_info"]["flops"] == 3 * 2 * 3 * 2 * 9 * 20
    assert one["extra_info"]["gflops"] > 0
    assert one["extra_info"]["difference"] < 1e-4
    assert by_name["test_own"]["group"] == "own"
    assert by_name["test_calls[a]"]["group"] == by_name["test_calls[b]"]["group"] == "test_calls"


def test_without_timing_results_are_still_compared(pytester, monkeypatch):
    monkeypatch.delenv("FASTRNN_BENCH_PYTHON_KERAS", raising=False)
    result, _ = run(pytester, SUITE, "--benchmark-disable")
    result.assert_outcomes(passed=10, skipped=1)


def test_a_side_in_another_process_is_timed_there(pytester, monkeypatch):
    monkeypatch.setenv("FASTRNN_BENCH_PYTHON_NUMPY", sys.executable)
    suite = """
        from fastrnn.bench import Case, Shape, close_workers, peer_benchmark

        def test_numpy(peer_benchmark):
            peer_benchmark("numpy", Case("lstm", Shape(3, 2, 4, 5)))
            close_workers()
    """
    result, (saved,) = run(pytester, suite)
    result.assert_outcomes(passed=1)
    assert saved["extra_info"]["calls_a_round"] > 1
    # A round is the mean of many calls, as the worker has measured it: in the pipe alone there are more.
    assert 1e-5 < saved["stats"]["median"] < 1e-2


@pytest.mark.parametrize(("option", "value"), [("--threads", "0"), ("--threads", "257"), ("--repeat", "0")])
def test_bad_options_of_the_benchmarks(option, value):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "benchmarks", option, value, "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{option}: expected" in done.stderr
