"""How long streams and layers live that compiled code holds; threads without the GIL; Numba's cache."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import fastrnn as fr
from tests.jit.compiled import F32, call, fresh, numba, sequence, state_of

# ---- lifetime


@numba.njit
def hand_back(s):
    return s


def test_the_same_object_comes_back():
    s, layer = fr.GRU(4, 9, seed=0).stream(), fr.GRU(4, 9)
    count = sys.getrefcount(s)
    assert hand_back(s) is s and hand_back(layer) is layer
    for _ in range(100):
        hand_back(s)
        fresh(s, np.zeros(4, F32))
    assert sys.getrefcount(s) == count


def test_compiled_code_keeps_what_it_holds():
    @numba.experimental.jitclass([("s", numba.typeof(fr.GRU(4, 9).stream()))])
    class Simulator:
        def __init__(self, s):
            self.s = s

        def step(self, x):
            return self.s.step(x)

    layer, x = fr.GRU(4, 9, seed=0), sequence(4)
    s = layer.stream()
    gone = weakref.ref(s)
    simulator = Simulator(s)
    del s
    gc.collect()
    assert gone() is not None
    np.testing.assert_array_equal(simulator.step(x), layer(x[None])[0][0])
    del simulator
    gc.collect()
    assert gone() is None


def test_lists_and_tuples():
    @numba.njit
    def all_of(streams, x):
        found = np.empty((len(streams), 9), np.float32)
        for k in range(len(streams)):
            streams[k].step(x, found[k])
        return found

    built = [fr.GRU(4, 9, seed=k) for k in range(3)]
    x = sequence(4)
    right = np.stack([layer(x[None])[0][0] for layer in built])
    for kind in (tuple, numba.typed.List):
        held = kind([layer.stream() for layer in built])
        gone = weakref.ref(held[0])
        np.testing.assert_array_equal(all_of(held, x), right)
        del held
        gc.collect()
        assert gone() is None


def test_a_layer_lives_as_long_as_it_is_held():
    @numba.njit
    def keep(layer):
        return (layer, 1)

    layer = fr.GRU(4, 9, seed=0)
    x = sequence(5, 4)
    y, _ = layer(x)
    held = keep(layer)
    gone = weakref.ref(layer)
    del layer
    np.testing.assert_array_equal(call(held[0], x)[0], y)
    del held
    gc.collect()
    assert gone() is None


def captured():
    s, layer = fr.GRU(4, 9, seed=0).stream(), fr.LSTM(4, 9, seed=0)

    @numba.njit
    def use(x):
        s.reset()
        y, _ = layer(x)
        return s.step(x[0]), y, s

    return use, weakref.ref(s), weakref.ref(layer)


def test_captured_objects():
    """A closure's (or a global) stream lives as long as the compiled function."""
    use, s, layer = captured()
    x = sequence(5, 4)
    first, y, same = use(x)
    assert same is s()
    np.testing.assert_array_equal(first, fr.GRU(4, 9, seed=0)(x)[0][0])
    np.testing.assert_array_equal(y, fr.LSTM(4, 9, seed=0)(x)[0])
    del same
    gc.collect()
    np.testing.assert_array_equal(use(x)[1], y)
    del use
    gc.collect()
    assert s() is None and layer() is None


def test_a_stream_that_was_not_initialised():
    s = fr.Stream.__new__(fr.Stream)
    with pytest.raises(numba.TypingError):
        fresh(s, np.zeros(4, F32))


# ---- threads


def test_threads_without_the_gil():
    """Each thread its own stream, all inside compiled code at once."""

    @numba.njit(nogil=True)
    def go(s, x, rounds):
        y = np.empty(64, np.float32)
        for _ in range(rounds):
            s.reset()
            for t in range(len(x)):
                s.step(x[t], y)
        return y

    layer, x = fr.LSTM(8, 64, seed=0), sequence(50, 8)
    right = layer(x)[0][-1]
    go(layer.stream(), x, 1)
    found = [None] * 4

    def work(k):
        found[k] = go(layer.stream(), x, 40)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in found:
        np.testing.assert_array_equal(y, right)


def test_threads_that_share_a_layer():
    @numba.njit(nogil=True)
    def go(layer, x, rounds):
        for _ in range(rounds):
            y, _ = layer(x)
        return y

    layer, x = fr.LSTM(8, 24, 2, seed=0), sequence(60, 3, 8)
    right, _ = layer(x)
    go(layer, x, 1)
    found = [None] * 4

    def work(k):
        found[k] = go(layer, x, 50)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in found:
        np.testing.assert_array_equal(y, right)


def test_threads_that_share_a_stream():
    """Whoever finds another inside gets an error; the other goes on undisturbed. No GIL keeps them apart."""

    @numba.njit(nogil=True)
    def go(s, x):
        return s.run(x)

    layer, x = fr.LSTM(64, 128, seed=0), sequence(4000, 64)
    y, _ = layer(x)
    s = layer.stream()
    go(layer.stream(), x[:2])
    fresh(layer.stream(), x[0])
    state_of(layer.stream())
    found, refused = [], 0
    thread = threading.Thread(target=lambda: found.append(go(s, x)))
    thread.start()
    calls = (lambda: fresh(s, x[0]), lambda: go(s, x[:2]), lambda: state_of(s), lambda: s.step(x[0]), s.refresh)
    while thread.is_alive():
        for function in calls:
            if s.busy:  # it may have left when we call
                try:
                    function()
                except RuntimeError as error:
                    assert "another thread is inside" in str(error)  # noqa: PT017 - it needn't come
                    refused += 1
    thread.join()
    np.testing.assert_array_equal(found[0], y)
    assert refused


def test_prange():
    @numba.njit(parallel=True)
    def many(streams, x):
        found = np.empty((len(streams), 9), np.float32)
        for k in numba.prange(len(streams)):
            for t in range(x.shape[1]):
                streams[k].step(x[k, t], found[k])
        return found

    layer, x = fr.GRU(4, 9, seed=0), sequence(5, 20, 4)
    right = np.stack([layer(row)[0][-1] for row in x])
    np.testing.assert_array_equal(many(tuple(layer.stream() for _ in x), x), right)


# ---- Numba's cache

MODULE = """
import numba, numpy as np, fastrnn as fr

@numba.njit(cache=True)
def simulate(s, layer, x):
    s.reset()
    y = np.empty(9, np.float32)
    for t in range(len(x)):
        s.step(x[t], y)
    return y, layer(x)[0]

stream = fr.GRU(4, 9, seed=3).stream()

@numba.njit(cache=True)
def captures(x):
    return stream.step(x)
"""

USE = """
import sys, warnings
import numpy as np, fastrnn as fr, module
layer = fr.GRU(4, 9, 2, seed=int(sys.argv[1]))
padding = [bytes(1000 * int(sys.argv[1])) for _ in range(100)]  # so that addresses are others
x = np.ones((6, 4), np.float32)
y, all_y = module.simulate(layer.stream(), layer, x)
right = layer(x)[0]
assert np.array_equal(y, right[-1]) and np.array_equal(all_y, right)
print(sum(module.simulate.stats.cache_hits.values()))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    module.captures(x[0])
print(sum(module.captures.stats.cache_hits.values()), any("Cannot cache" in str(w.message) for w in caught))
"""


def test_cached_on_disk(tmp_path, monkeypatch):
    """Compiled code holds no address: another process, with other objects, uses it. Captured objects hold one."""
    (tmp_path / "module.py").write_text(MODULE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    outputs = []
    for seed in ("0", "1"):
        command = [sys.executable, "-c", USE, seed]
        outputs.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True))
        assert outputs[-1].returncode == 0, outputs[-1].stderr
    assert [o.stdout.split() for o in outputs] == [["0", "0", "True"], ["1", "0", "True"]]


# ---- without Numba


def test_without_numba():
    code = "import sys, fastrnn as fr; sys.modules['numba'] = None; fr.GRU(2, 3).stream(); import fastrnn.jit.native"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1].startswith("ImportError: ")
    assert 'pip install "fastrnn[jit]"' in result.stderr


def test_numba_is_not_imported_before_it_asks():
    code = "import sys, fastrnn as fr; s = fr.GRU(2, 3).stream(); s.step([1, 2]); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
