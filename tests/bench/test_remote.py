"""Peers in worker processes: the same Python stands for another one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench import layers, peers, remote
from tests.bench import toys

CASE = bench.Case("gru", bench.Shape(T=4, B=2, I=3, H=5))


@pytest.fixture(autouse=True)
def clean():
    before = fr.get_num_threads()
    yield
    fr.set_num_threads(before)
    bench.close_workers()


@pytest.fixture
def toy(monkeypatch):
    def use(kind):
        monkeypatch.setitem(bench.PEERS, kind.name, kind())
        return kind.name

    return use


@pytest.mark.parametrize("mode", bench.MODES)
@pytest.mark.parametrize("kind", [toys.Toy, toys.Junk])
def test_a_worker_computes_and_is_timed(toy, kind, mode):
    case = bench.Case("lstm", CASE.shape, mode, "float64")
    result = bench.compare(case, ["numpy", toy(kind)], repeat=2, turn_seconds=0)
    assert result.sides.differences == {kind.name: 0.0}
    assert len(result.turns.seconds[kind.name]) == 2
    assert all(0 < seconds < 1 for seconds in result.turns.seconds[kind.name])
    if mode == "step":
        assert all(0 < seconds < 1 for seconds in result.turns.percentiles[kind.name])


def test_a_worker_is_kept_for_the_next_case(toy):
    name = toy(toys.Toy)
    first = bench.prepare(CASE, [name]).runs[name]._worker
    assert bench.prepare(CASE, [name]).runs[name]._worker is first
    assert bench.prepare(CASE, [name], threads=2).runs[name]._worker is not first
    bench.close_workers()
    assert not first.alive
    with pytest.raises(bench.SideError, match="toy: its process has ended"):
        first.ask("timed", 1, False)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_a_worker_has_its_cpus_and_variables_and_no_core(toy):
    peer = peers.here(toy(toys.Tells))
    cpus, threads, core = peer.prepare(CASE, {}, CASE.data(), 1).results(CASE)["y"]
    assert (cpus, threads, core) == (1, 1, 0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (toys.Raises, "raises: RuntimeError: no such thing with 1 threads"),
        (toys.Dies, "dies: its process died with exit code 3: out of luck"),
    ],
)
def test_a_side_that_fails_is_skipped_with_a_line(toy, kind, message):
    name = toy(kind)
    for _ in range(2):  # the next case starts another process
        sides = bench.prepare(CASE, ["fastrnn", name])
        assert list(sides.runs) == ["fastrnn"]
        assert sides.skipped == {name: message}


def test_a_side_that_dies_between_the_turns_leaves_the_others(toy):
    name = toy(toys.DiesLater)
    result = bench.compare(CASE, ["fastrnn", name], repeat=9, turn_seconds=0)
    assert list(result.turns.seconds) == ["fastrnn"]
    assert len(result.turns.seconds["fastrnn"]) == 9
    assert result.sides.skipped == {name: f"{name}: its process died with signal 9"}
    assert name in result.as_dict()["skipped"]
    assert len(layers.rows([result])) == 2


def test_a_side_that_dies_before_the_turns_leaves_the_others():
    def fails():
        raise bench.SideError("gone")

    turns = bench.in_turn({"a": lambda: None, "b": fails}, repeat=2, turn_seconds=0)
    assert list(turns.seconds) == ["a"]
    assert turns.failed == {"b": "gone"}


def test_nobody_waits_for_ever(toy, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT", 3.0)
    name = toy(toys.Hangs)
    begin = time.monotonic()
    sides = bench.prepare(CASE, ["fastrnn", name])
    assert sides.skipped == {name: "hangs: no answer within 3 seconds"}
    assert time.monotonic() - begin < 30


def test_wrong_results_are_not_timed(toy):
    with pytest.raises(bench.Disagreement, match="wrong differs from fastrnn in y"):
        bench.prepare(CASE, ["fastrnn", toy(toys.Wrong)])


def test_a_worker_that_is_not_asked_is_stopped():
    worker = remote.Worker(toys.Toy(), sys.executable, 1)
    status = Path(f"/proc/{worker._process.pid}/stat")
    if status.exists():
        until = time.monotonic() + 10  # a busy machine takes its time to deliver a signal
        while (state := status.read_text().rpartition(")")[2].split()[0]) != "T" and time.monotonic() < until:
            time.sleep(0.01)
        assert state == "T"
    worker.ask("prepare", CASE, CASE.weights(), CASE.data(), 1)  # and goes on when it is
    worker.close()
    assert worker._process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell a child")
def test_a_worker_ends_when_its_parent_is_killed():
    code = (
        "import sys, time\nfrom fastrnn.bench import remote\nfrom tests.bench import toys\n"
        "print(remote.Worker(toys.Toy(), sys.executable, 1)._process.pid, flush=True)\ntime.sleep(60)"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        time.sleep(0.05)
    raise AssertionError(f"worker {pid} lives on")


def test_ctrl_c_is_not_for_workers():
    worker = remote.Worker(toys.Toy(), sys.executable, 1)
    assert os.getpgid(worker._process.pid) != os.getpgid(0)
    worker.ask("prepare", CASE, CASE.weights(), CASE.data(), 1)
    worker.close()
    assert worker._process.returncode in (0, -signal.SIGKILL)


def test_another_python_is_chosen(monkeypatch):
    bench.use_python("numpy", sys.executable)
    assert isinstance(peers.here("numpy"), remote.RemotePeer)
    assert peers.here("numpy").version() == np.__version__
    result = bench.compare(CASE, ["fastrnn", "numpy"], repeat=1, turn_seconds=0)
    assert sorted(result.turns.seconds) == ["fastrnn", "numpy"]
    bench.use_python("numpy", None)
    assert not isinstance(peers.here("numpy"), remote.RemotePeer)
    monkeypatch.setenv("FASTRNN_BENCH_PYTHON_NUMPY", sys.executable)
    assert peers.here("numpy").python == sys.executable


def test_pythons_that_are_none(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="python: of jax: expected a Python interpreter, got '/no/such/python'"):
        bench.use_python("jax", "/no/such/python")
    monkeypatch.setenv("FASTRNN_BENCH_PYTHON_JAX", "/no/such/python")
    with pytest.raises(ValueError, match="FASTRNN_BENCH_PYTHON_JAX: expected a Python interpreter"):
        peers.here("jax")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("FASTRNN_BENCH_PYTHON_JAX", str(program))
    assert "can't be used: no" in peers.here("jax").missing()
    assert peers.here("jax").version() is None


@pytest.mark.parametrize(
    "script",
    ["exit 0", "echo hello", "echo; echo 3", "cat", "echo '[1, 2, 3]'", "sleep 60"],
    ids=lambda s: s.split()[-1],
)
def test_programs_that_are_no_python(monkeypatch, tmp_path, script):
    monkeypatch.setattr(remote, "PROBE_TIMEOUT", 1.0)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexec {script}\n" if script in ("cat", "sleep 60") else f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    bench.use_python("jax", str(program))
    try:
        assert peers.here("jax").missing() == f"jax: {program} is no Python"
        assert peers.here("jax").version() is None
        assert peers.choose(["jax"]) == ([], {"jax": f"jax: {program} is no Python"})
    finally:
        bench.use_python("jax", None)


def test_a_side_does_not_time_another_case(toy):
    name = toy(toys.Toy)
    first = bench.prepare(CASE, [name]).runs[name]
    assert first.timed(1, False) > 0
    second = bench.prepare(bench.Case("lstm", CASE.shape), [name]).runs[name]
    message = "toy: another case has been prepared since"
    for ask in (first, lambda: first.timed(1, True), lambda: first.latencies(1)):
        with pytest.raises(bench.SideError, match=message):
            ask()
    assert second.timed(1, False) > 0
    turns = bench.in_turn({"first": first, "second": second}, repeat=1, turn_seconds=0)
    assert list(turns.seconds) == ["second"]
    assert turns.failed == {"first": message}


def test_a_peer_that_the_other_python_lacks(monkeypatch):
    class Absent(toys.Toy):
        package, requires = "fastrnn_has_no_such_peer", ("numpy",)

    reason = remote.RemotePeer(Absent()).missing()
    assert reason == f"toy is not installed in {sys.executable} (it has no fastrnn_has_no_such_peer)"
