"""Over MPI itself, with mpiexec: equal results, lost ranks, errors, signals, the command line."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

pytest.importorskip("mpi4py")

BESIDE = Path(sysconfig.get_path("scripts")) / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
SCRIPT = Path(__file__).with_name("mpi_script.py")
SECONDS = 60  # for a run of a second or two; a hang is what it is for

pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec")


def environment():
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**os.environ, **root, "FASTRNN_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def start(size, *command):
    """Processes under mpiexec, as many as asked for on however few cores."""
    full = [
        MPIEXEC,
        "--map-by",
        ":OVERSUBSCRIBE",
        "--bind-to",
        "none",
        "-n",
        str(size),
        sys.executable,
        *map(str, command),
    ]
    return subprocess.Popen(
        full, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def mpi(size, *command):
    process = start(size, *command)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, SCRIPT, "alone", folder], env=environment(), check=True, timeout=SECONDS)
    return np.load(folder / "alone.npz")


def assert_close(first, second):
    for name in second:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-10, err_msg=name)


def script(what, folder, size=2):
    return mpi(size, SCRIPT, what, folder)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_several_take_the_steps_of_one(size, alone, tmp_path):
    code, _, err = script("equal", tmp_path, size)
    assert code == 0, err
    ranks = [np.load(tmp_path / f"equal-{rank}.npz") for rank in range(size)]
    for found in ranks:
        assert_close(found, alone)
        for name in found:
            assert np.array_equal(found[name], ranks[0][name]), name


def test_compressed(alone, tmp_path):
    code, _, err = script("bf16", tmp_path)
    assert code == 0, err
    found = [np.load(tmp_path / f"bf16-{rank}.npz") for rank in range(2)]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in alone)
    assert 0 < abs(float(found[0]["loss"]) - float(alone["loss"])) < 1e-2


@pytest.mark.parametrize("what", ["kill", "raise", "kill rows"])
def test_a_lost_rank_ends_the_run_and_it_can_go_on(what, alone, tmp_path):
    """Rank 1 is killed, or raises, in step 26. With `rows` nothing was saved before: rank 0 saves, told to end."""
    begin = time.monotonic()
    code, _, err = script(what, tmp_path)
    assert code != 0
    assert time.monotonic() - begin < 20
    assert fr.train.Checkpoint(tmp_path / "run").load()["numbers"]["step"] == 25
    if what == "raise":
        assert "ValueError: rank 1 has seen enough" in err and "rank 1 of 2 failed, so the run ends." in err
        assert "The checkpoint of step 25 is in" in err and "resume=True" in err
    else:
        assert "rank 0: told to end, and the other ranks don't answer. The checkpoint of step 25 is in" in err
    rest = "rest rows" if what == "kill rows" else "rest"
    code, _, err = script(rest, tmp_path)
    assert code == 0, err
    whole = np.load(tmp_path / f"{rest}-1.npz")
    if what == "kill rows":
        other = tmp_path / "other"
        other.mkdir()
        assert script(rest, other)[0] == 0
        never = np.load(other / f"{rest}-0.npz")
        assert all(np.array_equal(whole[name], never[name]) for name in never)
    else:
        assert_close(whole, alone)


def test_one_rank_is_told_to_stop(alone, tmp_path):
    code, out, err = script("stop", tmp_path)
    assert code == 0, err
    assert sorted(line.partition(";")[0] for line in out.splitlines()) == [
        f"rank {rank}: stopped after step 26" for rank in range(2)
    ]
    assert script("rest", tmp_path)[0] == 0
    assert_close(np.load(tmp_path / "rest-0.npz"), alone)


def test_one_rank_is_told_to_stop_before_the_run_begins(tmp_path):
    """It ends then; the others would wait for it for ever."""
    code, _, err = script("early", tmp_path)
    assert code == 128 + signal.SIGTERM, err
    assert "rank 1 of 2 was interrupted, so the run ends." in err


def test_mpiexec_hands_on_a_wish_to_stop(tmp_path):
    """SIGUSR1, as batch systems send it before the time is up."""
    process = start(2, SCRIPT, "wait", tmp_path)
    begin = time.monotonic()
    while not (tmp_path / "pid0").exists() and time.monotonic() - begin < SECONDS:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert "rank 0: stopped after step" in out and "rank 1: stopped after step" in out
    assert fr.train.Checkpoint(tmp_path / "run").exists()


def test_ctrl_c_on_mpiexec_leaves_a_checkpoint(tmp_path):
    """mpiexec gives the ranks half a second; checkpoint_seconds=0 saved every step before."""
    process = start(2, SCRIPT, "wait", tmp_path)
    begin = time.monotonic()
    while not (tmp_path / "run" / "checkpoint.safetensors").exists() and time.monotonic() - begin < SECONDS:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert fr.train.Checkpoint(tmp_path / "run").load()["numbers"]["step"] >= 1


def test_command_line(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a text that is said again and again, by many. " * 400)
    run = tmp_path / "run"
    options = ["-m", "fastrnn", "train", "--distributed", "--text", text, "--hidden", 8, "--batch", 4, "--seq-len", 16]
    code, out, err = mpi(2, *options, "--steps", 12, "--out", run)
    assert code == 0, err
    assert out.count("distributed: 2 processes, 2 threads in all") == 1 and out.count("saved in") == 1
    assert {"model.safetensors", "history.json", "settings.json"} <= {path.name for path in run.iterdir()}
    code, out, err = mpi(2, "-m", "fastrnn", "train", "--distributed", "--resume", "--steps", 20, "--out", run)
    assert code == 0, err
    assert "going on after step 12" in out
    assert fr.train.History.load(run / "history.json").steps["step"][-1] == 20
    code, out, err = mpi(2, *options, "--steps", 12, "--out", run)  # it holds a run
    assert code == 2
    assert err.count("holds a run; go on with --resume") == 1
