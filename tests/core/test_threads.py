"""Threads of Python's, processes that fork, and numbers of threads that change while calls run.

What could hang runs in a process of its own with a time limit: a deadlock is then a failure, not a silence.
"""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core
from tests.core.cases import CELLS, F32, F64, Case, assert_same, cells, ragged, run
from tests.reference.finite_differences import assert_close

LIMIT = 60  # seconds; each script takes about one
LARGE = {"T": 11, "B": 21, "I": 33, "H": 70, "directions": 2, "lengths": ragged(11, 21)}

PREAMBLE = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
import fastrnn as fr
from fastrnn import _core

lstm = fr.LSTM(40, 70, bidirectional=True, seed=0)
x = np.random.default_rng(0).standard_normal((12, 30, 40), dtype=np.float32)

def train():
    lstm.zero_grads()
    (y, state), pullback = lstm.vjp(x)
    dx, dstate = pullback(np.ones_like(y), state)
    return [y.copy(), *state, dx, *dstate, *(g.copy() for g in lstm.grads.values())]

def same(found, right):
    return all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))
"""


def script(body):
    """Run Python code in a process of its own; it must print "done" within the limit."""
    code = PREAMBLE + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr or f"exit status {done.returncode}"
    assert done.stdout.strip().endswith("done"), done.stdout


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@forks
@pytest.mark.parametrize("count", [1, 2, 8])
def test_child_forked_after_use(count):
    script(f"""
        fr.set_num_threads({count})
        right = train()
        for generation in range(3):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                ok = same(train(), right) and same(train(), right)
                grandchild = os.fork()
                if grandchild == 0:
                    signal.alarm(30)
                    os._exit(0 if same(train(), right) else 1)
                ok = ok and os.waitpid(grandchild, 0)[1] == 0
                os._exit(0 if ok else 1)
            assert same(train(), right)
            assert os.waitpid(child, 0)[1] == 0
        assert same(train(), right)
        print("done")
    """)


@forks
def test_child_forked_while_other_threads_compute():
    script("""
        fr.set_num_threads(3)
        right = train()
        stop = threading.Event()
        other = fr.LSTM(40, 70, seed=1)

        def busy():
            while not stop.is_set():
                (y, _), pullback = other.vjp(x)
                pullback(y)

        workers = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
        for worker in workers:
            worker.start()
        for _ in range(12):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                os._exit(0 if same(train(), right) else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for worker in workers:
            worker.join()
        print("done")
    """)


@forks
def test_multiprocessing_fork():
    script("""
        fr.set_num_threads(2)
        right = train()

        def job(k):
            return [a + k for a in train()]

        with multiprocessing.get_context("fork").Pool(3) as pool:
            for k, found in enumerate(pool.map(job, range(6))):
                assert same(found, [a + k for a in right])
        print("done")
    """)


def test_child_spawned():
    script("""
        import subprocess
        code = "import fastrnn as fr, numpy as np; fr.LSTM(3, 4)(np.ones((5, 2, 3), np.float32))"
        train()
        assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
        print("done")
    """)


def test_more_threads_than_cpus():
    """No deadlock, and the same bits."""
    script("""
        fr.set_num_threads(1)
        right = train()
        for count in (2, 3, 5, 16, 61, 250, 256):
            fr.set_num_threads(count)
            assert fr.get_num_threads() >= min(count, 16)
            for _ in range(3):
                assert same(train(), right)
        print("done")
    """)


def test_exit_while_threads_compute():
    """Daemon threads in the middle of a call don't keep the interpreter from ending."""
    script("""
        fr.set_num_threads(3)

        def busy():
            while True:
                lstm(x)

        for _ in range(3):
            threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.2)
        print("done", flush=True)
    """)


# ---- eight threads at once


def together(work, count=8):
    """Run work(0) … work(count - 1) at the same time; a thread that doesn't come back is a failure."""
    start, errors = threading.Barrier(count), []

    def body(index):
        try:
            start.wait()
            work(index)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LIMIT)
        assert not worker.is_alive(), "a thread did not come back"
    if errors:
        raise errors[0]


@cells
@pytest.mark.parametrize("count", [1, 3])
def test_eight_threads_at_once(threads, cell, count):
    threads(count)
    small, large = Case(cell), Case(cell, **LARGE)
    right = {case: run(case, F32) for case in (small, large)}

    def work(index):
        for k in range(4):
            case = (small, large)[(index + k) % 2]
            assert_same(run(case, F32), right[case])

    together(work)


def test_eight_different_calls_at_once(threads):
    threads(2)
    cases = [Case(cell, **LARGE) for cell in CELLS] + [Case("lstm", B=60, T=20, H=40)]
    right = [run(case, F64) for case in cases]
    together(lambda index: [assert_same(run(cases[index], F64), right[index]) for _ in range(3)])


def test_products_and_functions_at_once(threads):
    threads(3)
    rng = np.random.default_rng(0)
    a, b, x = rng.standard_normal((300, 200)), rng.standard_normal((200, 150)), rng.standard_normal(100_000)
    product, tanh = _core.gemm(a, b, np.empty((300, 150))), _core.activation("tanh", x, np.empty_like(x))

    def work(index):
        for _ in range(5):
            if index % 2:
                np.testing.assert_array_equal(_core.gemm(a, b, np.empty((300, 150))), product)
            else:
                np.testing.assert_array_equal(_core.activation("tanh", x, np.empty_like(x)), tanh)

    together(work)


@pytest.mark.parametrize("make", [fr.LSTM, fr.GRU, fr.RNN])
def test_one_layer_in_eight_threads(threads, make):
    """Results are right, and the gradients of all pullbacks add up under the layer's lock."""
    threads(2)
    layer = make(9, 33, num_layers=2, bidirectional=True, dtype=F64, seed=0)
    x = np.random.default_rng(0).standard_normal((7, 12, 9))
    (y, _), pullback = layer.vjp(x)
    dx, _ = pullback(np.ones_like(y))
    once = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grads()

    def work(index):
        for _ in range(5):
            (found, _), pull = layer.vjp(x)
            np.testing.assert_array_equal(found, y)
            np.testing.assert_array_equal(layer(x)[0], y)
            np.testing.assert_array_equal(pull(np.ones_like(found))[0], dx)

    together(work)
    for name, grad in layer.grads.items():
        assert_close(grad, 40 * once[name], 1e-12, name)


def test_number_of_threads_changes_during_use(threads):
    case = Case("lstm", **LARGE)
    right = run(case, F32)

    def work(index):
        for k in range(12):
            if index < 2:
                _core.set_num_threads(1 + (5 * k + index) % 9)
            assert_same(run(case, F32), right)

    together(work, 5)


def test_setting_the_number_of_threads(threads):
    fr.set_num_threads(5)
    assert fr.get_num_threads() == 5 == fr.info()["num_threads"]
    for bad in (0, -1, 257):
        with pytest.raises(ValueError, match="n: expected 1 to 256 threads"):
            fr.set_num_threads(bad)
    for bad in (2.0, "2", None, True):
        with pytest.raises(TypeError, match="n: expected an integer"):
            fr.set_num_threads(bad)
    assert fr.get_num_threads() == 5


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FASTRNN_NUM_THREADS", "0", "FASTRNN_NUM_THREADS"),
        ("FASTRNN_NUM_THREADS", "many", "FASTRNN_NUM_THREADS"),
        ("FASTRNN_NUM_THREADS", "²", "FASTRNN_NUM_THREADS"),
        ("FASTRNN_ISA", "sse9", "FASTRNN_ISA"),
        ("FASTRNN_NUM_THREADS", "3", None),
        ("FASTRNN_ISA", _core.isas()[-1], None),
    ],
)
def test_environment(monkeypatch, name, value, message):
    monkeypatch.setenv("PYTHONUTF8", "1")
    monkeypatch.setenv(name, value)
    code = "from fastrnn import _core; print(_core.get_num_threads(), _core.isa())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=LIMIT, check=False
    )
    if message is None:
        assert done.returncode == 0, done.stderr
        assert value in done.stdout.split()
    else:
        assert done.returncode != 0
        assert message in done.stderr.splitlines()[-1]
        assert value in done.stderr.splitlines()[-1]


def test_isa_by_name():
    before = _core.isa()
    with pytest.raises(ValueError, match="sse9"):
        _core.select_isa("sse9")
    assert _core.isa() == before
    for name in _core.isas():
        _core.select_isa(name)
        assert _core.isa() == name
    _core.select_isa()
    assert _core.isa() == _core.isas()[0]
    _core.select_isa(before)
