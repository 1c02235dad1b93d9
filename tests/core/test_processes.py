"""Pools of processes, event loops and signals: how many threads run, that nothing hangs, that results are right."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

import fastrnn as fr

LIMIT = 120  # seconds; each script takes about two

PREAMBLE = """
import asyncio, concurrent.futures, multiprocessing, os, signal, sys, threading, time
import numpy as np
import fastrnn as fr
from fastrnn import _core

x = np.random.default_rng(0).standard_normal((12, 30, 40), dtype=np.float32)

def train(k=0):
    lstm = fr.LSTM(40, 70, bidirectional=True, seed=k)
    (y, state), pullback = lstm.vjp(x)
    dx, dstate = pullback(np.ones_like(y), state)
    return [y.copy(), *state, dx, *dstate, *(g.copy() for g in lstm.grads.values())]

def same(found, right):
    return all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))

def many(k):
    return fr.get_num_threads(), train(k)
"""


def script(tmp_path, body, **environment):
    """Run Python code from a file, as spawned children want it, and return what it prints."""
    path = tmp_path / "script.py"
    path.write_text(PREAMBLE + textwrap.dedent(body))
    environ = {k: v for k, v in os.environ.items() if k not in {"FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"}}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        env=environ | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr or f"exit status {done.returncode}"
    assert not done.stderr  # nor anything at the end of the interpreter
    return done.stdout


def first(value=None, name="OMP_NUM_THREADS", **others):
    """The number of threads that a process begins with."""
    environ = {k: v for k, v in os.environ.items() if k not in {"FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"}}
    environ |= others if value is None else {name: value, **others}
    code = "import fastrnn as fr; print(fr.get_num_threads())"
    return int(subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True).stdout)


# ---- the number that a process begins with


def test_what_is_said_to_openmp():
    """At most that many; ours says it more exactly; what can't be read is nobody's number."""
    cpus = fr.info()["cpus"]
    assert first() == cpus
    assert first("1") == 1
    assert first(" 1 , 4") == 1  # a number for each level
    assert first("500") == cpus
    for text in ("", "0", "-1", "many", "1.5", "²", ",2"):
        assert first(text) == cpus, text
    assert first("1", FASTRNN_NUM_THREADS="3") == 3
    assert first("9", "FASTRNN_NUM_THREADS", OMP_NUM_THREADS="1") == 9


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import fastrnn as fr; print(fr.info())"
    environ = {k: v for k, v in os.environ.items() if k not in {"FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"}}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert "'num_threads': 1, 'cpus': 1" in done.stdout


# ---- pools of processes

METHODS = [m for m in ("fork", "spawn", "forkserver") if m == "spawn" or hasattr(os, "fork")]
methods = pytest.mark.parametrize("method", METHODS)
POOLS = {
    "pool": "context.Pool(2)",
    "executor": "concurrent.futures.ProcessPoolExecutor(2, mp_context=context)",
}


@methods
@pytest.mark.parametrize("pool", POOLS)
def test_workers(tmp_path, method, pool):
    """One thread each, though the parent has more and has used them, and the parent's bits."""
    body = f"""
        if __name__ == "__main__":
            _core.set_num_threads(3)  # as if there were three CPUs
            right = [train(k) for k in range(4)]
            context = multiprocessing.get_context({method!r})
            with {POOLS[pool]} as pool:
                for (threads, found), expected in zip(pool.map(many, range(4)), right):
                    assert threads == 1, threads
                    assert same(found, expected)
            assert fr.get_num_threads() == 3 and same(train(), right[0])
            print("done")
    """
    assert script(tmp_path, body) == "done\n"


@methods
def test_workers_that_were_told(tmp_path, method):
    """An explicit number is taken as it is: of an initializer, of the environment, and of a parent that forks."""
    body = f"""
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            with context.Pool(2, fr.set_num_threads, (2,)) as pool:
                print({{threads for threads, _ in pool.map(many, range(2))}})
            os.environ["FASTRNN_NUM_THREADS"] = "3"
            fr.set_num_threads(3)
            with context.Pool(1) as pool:
                print({{threads for threads, _ in pool.map(many, range(2))}})
    """
    # a fork server has started by then, and keeps its environment
    assert script(tmp_path, body) == ("{2}\n{1}\n" if method == "forkserver" else "{2}\n{3}\n")


@methods
def test_a_child_of_its_own_has_all_threads(tmp_path, method):
    body = f"""
        def child(expected):
            assert fr.get_num_threads() == expected, fr.get_num_threads()
            train()

        if __name__ == "__main__":
            expected = _core.default_threads()
            train()
            process = multiprocessing.get_context({method!r}).Process(target=child, args=(expected,))
            process.start()
            process.join(60)
            assert process.exitcode == 0, process.exitcode
            print("done")
    """
    assert script(tmp_path, body) == "done\n"


def test_fastrnn_imported_by_the_worker(tmp_path):
    path = tmp_path / "late.py"
    path.write_text(
        textwrap.dedent("""
        import multiprocessing
        def threads(_):
            import fastrnn as fr
            return fr.get_num_threads()
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(threads, [0]))
        """)
    )
    environ = {k: v for k, v in os.environ.items() if k not in {"FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"}}
    done = subprocess.run([sys.executable, str(path)], env=environ, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout == "[1]\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_pool_forked_while_threads_compute(tmp_path):
    body = """
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                train(1)

        if __name__ == "__main__":
            fr.set_num_threads(3)
            right = train(0)
            others = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
            for other in others:
                other.start()
            for _ in range(4):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    assert all(same(found, right) for _, found in pool.map(many, [0] * 4))
            stop.set()
            print("done")
    """
    assert script(tmp_path, body) == "done\n"


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_joblib(tmp_path, backend):
    pytest.importorskip("joblib")
    body = f"""
        from joblib import Parallel, delayed, parallel_config, cpu_count

        if __name__ == "__main__":
            right = [train(k) for k in range(4)]
            found = Parallel(n_jobs=2, backend={backend!r})(delayed(many)(k) for k in range(4))
            assert all(same(f, r) for (_, f), r in zip(found, right, strict=True))
            expected = max(cpu_count() // 2, 1) if {backend!r} == "loky" else 1
            assert {{n for n, _ in found}} == {{min(expected, _core.default_threads())}}
            if {backend!r} == "loky":
                with parallel_config(backend="loky", inner_max_num_threads=1):
                    assert {{n for n, _ in Parallel(n_jobs=2)(delayed(many)(k) for k in range(2))}} == {{1}}
            print("done")
    """
    assert script(tmp_path, body) == "done\n"


# ---- event loops and Python's threads


def test_asyncio(tmp_path):
    """Calls in threads leave the loop free, run side by side, and are right."""
    body = """
        lstm = fr.LSTM(64, 256, num_layers=2, seed=0)
        long = np.random.default_rng(1).standard_normal((600, 32, 64), dtype=np.float32)

        async def ticks(stop):
            worst, last = 0.0, time.perf_counter()
            while not stop.is_set():
                await asyncio.sleep(0.001)
                worst, last = max(worst, time.perf_counter() - last), time.perf_counter()
            return worst

        async def main():
            started = time.perf_counter()
            right = (await asyncio.to_thread(lstm, long))[0]
            took = time.perf_counter() - started
            stop = asyncio.Event()
            watch = asyncio.create_task(ticks(stop))
            loop = asyncio.get_running_loop()
            calls = [asyncio.to_thread(lstm, long), *(loop.run_in_executor(None, lstm, long) for _ in range(3))]
            for y, _ in await asyncio.gather(*calls):
                assert np.array_equal(y, right)
            stop.set()
            return took, await watch

        took, worst = asyncio.run(main())
        assert worst < 0.5 * took, (worst, took)  # a call that kept the GIL would take all of it
        print("done")
    """
    assert script(tmp_path, body, FASTRNN_NUM_THREADS="1") == "done\n"


def test_thread_pool(tmp_path):
    body = """
        right = [train(k) for k in range(6)]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert all(same(f, r) for f, r in zip(pool.map(train, range(6)), right, strict=True))
        print("done")
    """
    assert script(tmp_path, body, FASTRNN_NUM_THREADS="2") == "done\n"


# ---- signals

LONG = """
    import os, signal, threading, time
    lstm = fr.LSTM(64, 256, seed=0)
    long = np.zeros((1500, 32, 64), np.float32)
    started = time.perf_counter()
    lstm(long)
    took = time.perf_counter() - started
    threading.Timer(0.2 * took, os.kill, (os.getpid(), signal.{signal})).start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no kill")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_interrupted(tmp_path, threads):
    """Ctrl-C waits for the call to end, then is raised; what comes after works."""
    body = textwrap.dedent(LONG.format(signal="SIGINT")) + textwrap.dedent("""
        ended = False
        try:
            found = lstm(long)
            ended = True
            time.sleep(10)
        except KeyboardInterrupt:
            pass
        else:
            raise SystemExit("nothing was raised")
        assert np.array_equal(lstm(long)[0], lstm(long)[0])
        print("done")
    """)
    assert script(tmp_path, body, FASTRNN_NUM_THREADS=threads) == "done\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_leave_signals_to_python(tmp_path):
    """The core's threads have a name, and block what the program's own threads wait for."""
    body = """
        import signal
        fr.set_num_threads(3)
        train()
        found = []
        for task in os.listdir("/proc/self/task"):
            status = dict(line.split(":", 1) for line in open(f"/proc/self/task/{task}/status"))
            if status["Name"].strip() == "fastrnn":
                found.append(int(status["SigBlk"], 16))
        assert len(found) == 2, found
        for mask in found:
            for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1):
                assert mask >> ours - 1 & 1, ours
            for its in (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGPROF):
                assert not mask >> its - 1 & 1, its
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])  # the caller's are as they were
        print("done")
    """
    assert script(tmp_path, body) == "done\n"


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or not hasattr(os, "fork"), reason="this system has no kill")
def test_terminated(tmp_path):
    """SIGTERM ends the process in the middle of a call."""
    with pytest.raises(AssertionError, match=f"exit status {-signal.SIGTERM}"):
        script(tmp_path, textwrap.dedent(LONG.format(signal="SIGTERM")) + "\nwhile True: lstm(long)\n")


# ---- more than one interpreter


def test_subinterpreters_refuse_it(tmp_path):
    """NumPy's or the core's own import error, not a crash."""
    body = """
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        one = _interpreters.create()
        code = "try:\\n    import fastrnn\\nexcept ImportError as error:\\n    print('refused', flush=True)\\n"
        try:
            _interpreters.run_string(one, code)
        finally:
            _interpreters.destroy(one)
        train()
        print("done")
    """
    assert script(tmp_path, body).split() == ["refused", "done"]
