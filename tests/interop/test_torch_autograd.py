"""What autograd is asked for beyond one backward pass, and which threads do it."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrnn as fr  # noqa: E402
import fastrnn.interop.torch as fast  # noqa: E402
from fastrnn import _core  # noqa: E402
from fastrnn.interop.torch import _run, _threads  # noqa: E402

CELLS = ("RNN", "LSTM", "GRU")


def module(cell, *sizes, unsupported="error", **options):
    torch.manual_seed(0)
    made = getattr(fast, cell)(*sizes, **options)
    made._fastrnn_unsupported = unsupported
    return made


def gradients(module):
    return [p.grad.clone() for p in module.parameters()]


@pytest.fixture
def forwards(monkeypatch):
    """How often the kernels ran forward."""
    ran = []
    real = _run.forward
    monkeypatch.setattr(_run, "forward", lambda *args: ran.append(args) or real(*args))
    return ran


# ---- derivatives


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True, "num_layers": 2}], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_by_finite_differences(cell, options):
    made = module(cell, 2, 3, dtype=torch.float64, **options)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(x, *_):
        y, state = made(x)
        return (y, *state) if isinstance(state, tuple) else (y, state)

    assert torch.autograd.gradcheck(run, (x, *made.parameters()))


OPTIONS = [{}, {"num_layers": 2, "dropout": 0.5}, {"bidirectional": True, "batch_first": True, "bias": False}]


@pytest.mark.parametrize("kind", ["batch", "unbatched", "packed"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_gradients_are_pytorchs(cell, options, kind):
    """They come from PyTorch's operations, which is said, with the masks that the forward pass had."""
    made = module(cell, 2, 3, dtype=torch.float64, unsupported="warn", **options)
    x = torch.randn(*((4, 2) if kind == "unbatched" else (4, 4, 2)), dtype=torch.float64, requires_grad=True)

    def run(x, *_):
        torch.manual_seed(1)
        if kind == "packed":
            x = torch.nn.utils.rnn.pack_padded_sequence(x, [2, 4, 1, 3], made.batch_first, enforce_sorted=False)
        y, state = made(x)
        y = y.data if kind == "packed" else y
        return (y, *state) if isinstance(state, tuple) else (y, state)

    inputs = (x, *made.parameters())
    plain = torch.autograd.grad(run(*inputs)[0].square().sum(), inputs)
    y = run(*inputs)[0].square().sum()
    with pytest.warns(UserWarning, match=r"backward pass of this \w+ runs on PyTorch's own kernels: a gradient of its"):
        again = torch.autograd.grad(y, inputs, create_graph=True)
    for once, twice in zip(plain, again, strict=True):
        torch.testing.assert_close(once, twice.detach(), rtol=1e-9, atol=1e-9)
    made._fastrnn_unsupported = "ignore"
    assert torch.autograd.gradgradcheck(run, inputs[:3])


def test_gradients_of_gradients_can_be_refused():
    made = module("GRU", 2, 3)
    y = made(torch.randn(4, 2, 2))[0].sum()
    with pytest.raises(NotImplementedError, match="can't run on fastrnn's kernels: a gradient of its gradient"):
        torch.autograd.grad(y, list(made.parameters()), create_graph=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vectorised_jacobian():
    made = module("GRU", 2, 3, unsupported="warn")
    x = torch.randn(4, 2)

    def run(x):
        return made(x)[1].flatten()

    loop = torch.autograd.functional.jacobian(run, x)
    with pytest.warns(UserWarning, match="it is vectorised"):
        at_once = torch.autograd.functional.jacobian(run, x, vectorize=True)
    torch.testing.assert_close(at_once, loop)


# ---- the graph


@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_that_is_kept(cell, forwards):
    """What is saved serves once; a second time it is computed again."""
    made = module(cell, 4, 5, num_layers=2, dropout=0.5)
    loss = made(torch.randn(6, 3, 4))[0].square().sum()
    loss.backward(retain_graph=True)
    assert len(forwards) == 1
    once = gradients(made)
    made.zero_grad()
    loss.backward()
    assert len(forwards) == 2
    for first, second in zip(once, gradients(made), strict=True):
        assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_outputs_may_be_changed_in_place(forwards):
    """PyTorch's GRU allows it, so that models do it."""
    made, x = module("GRU", 4, 5), torch.randn(6, 3, 4)
    (made(x)[0] * 2).square().sum().backward()
    expected = gradients(made)
    made.zero_grad()
    y = made(x)[0]
    y *= 2
    y.square().sum().backward()
    assert len(forwards) == 3
    for found, wanted in zip(gradients(made), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("what", ["x", "weight"])
def test_changes_in_place_are_noticed(what):
    made = module("LSTM", 4, 5)
    x = torch.randn(6, 3, 4)
    loss = made(x)[0].sum()
    with torch.no_grad():
        (x if what == "x" else made.weight_hh_l0).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(reentrant):
    made = module("GRU", 4, 5, num_layers=2, dropout=0.3)
    x = torch.randn(6, 3, 4, requires_grad=True)
    found = []
    for again in (False, True):
        made.zero_grad()
        torch.manual_seed(3)
        run = lambda x: made(x)[0]  # noqa: E731
        y = torch.utils.checkpoint.checkpoint(run, x, use_reentrant=reentrant) if again else run(x)
        y.square().sum().backward()
        found.append(gradients(made))
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


SAVED_MEMORY = """
import torch
from fastrnn import _core
from fastrnn.interop.torch import GRU

made, x = GRU(32, 64), torch.randn(100, 32, 32)
loss = made(x)[0].sum()
before = _core.cached_bytes()
loss.backward()
with_graph = _core.cached_bytes()
assert with_graph > before, "the gates go back at once"
del loss
held = made(x)[0]
del held
assert _core.cached_bytes() >= with_graph
"""


def test_saved_memory_goes_with_the_graph():
    """In a process of its own, where the store of memory to use again isn't full."""
    subprocess.run([sys.executable, "-c", SAVED_MEMORY], check=True, timeout=120)


def test_accumulated_gradients():
    made, x = module("LSTM", 4, 5), torch.randn(6, 3, 4)
    made(x)[0].sum().backward()
    once = gradients(made)
    made(x)[0].sum().backward()
    for first, second in zip(once, gradients(made), strict=True):
        torch.testing.assert_close(2 * first, second)


# ---- threads


@pytest.fixture
def threads():
    """The numbers of threads are as they were, afterwards."""
    before = torch.get_num_threads(), fr.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    fr.set_num_threads(before[1])


@pytest.fixture
def seen(monkeypatch):
    """The number of threads in force in calls of the core."""
    numbers = []
    for name in ("forward_layers", "backward_layers"):
        real = getattr(_core, name)
        monkeypatch.setattr(
            _core, name, lambda *args, real=real: numbers.append(_core.get_num_threads()) or real(*args)
        )
    return numbers


def test_as_many_threads_as_pytorch(threads, seen):
    made, x = module("GRU", 4, 5), torch.randn(6, 3, 4)
    fr.set_num_threads(5)
    for n in (1, 3):
        torch.set_num_threads(n)
        made(x)[0].sum().backward()
        assert seen[-2:] == [n, n] and fr.get_num_threads() == 5
    with pytest.raises(ValueError, match="weight_hh"):  # and it is undone after an error
        _run.forward(_run.Spec("GRU", 1, True, False, False, False, 0.0, 0), x, None, None, None, [x] * 4, False)
    assert fr.get_num_threads() == 5


def test_other_threads_of_the_program_keep_theirs(threads):
    fr.set_num_threads(4)
    inside, outside = threading.Event(), []

    def look():
        inside.wait(10)
        outside.append(fr.get_num_threads())

    other = threading.Thread(target=look)
    other.start()
    torch.set_num_threads(2)
    with _threads.Threads():
        assert fr.get_num_threads() == 2
        inside.set()
        other.join()
    assert outside == [4] and fr.get_num_threads() == 4


def test_borrowed_threads_give_the_same_bits(threads):
    made, x = module("LSTM", 40, 70, num_layers=2, bidirectional=True), torch.randn(50, 9, 40)
    found = []
    try:
        for borrowed in (True, False):
            if borrowed and not _threads.borrow():
                pytest.skip("PyTorch's threads can't be borrowed here")
            if not borrowed:
                _core.borrow_threads(0, 0, 0)
            for n in (1, 2, 3):
                torch.set_num_threads(n)
                made.zero_grad()
                y = made(x)[0]
                y.square().sum().backward()
                found.append([y.detach(), *gradients(made)])
    finally:
        _threads.borrow()
    for other in found[1:]:
        for first, second in zip(found[0], other, strict=True):
            assert torch.equal(first, second)


def test_threads_are_lent_while_others_run(threads):
    if not _threads.borrow():
        pytest.skip("PyTorch's threads can't be borrowed here")
    layer, x, done = fr.GRU(64, 128), np.zeros((400, 8, 64), np.float32), threading.Event()
    fr.set_num_threads(2)
    expected, wrong = layer(x)[0], []

    def run():
        while not done.is_set():
            wrong.extend([] if np.array_equal(layer(x)[0], expected) else [1])

    other = threading.Thread(target=run)
    other.start()
    refused = 0
    for _ in range(20):
        time.sleep(0.002)
        refused += not _threads.borrow()
    done.set()
    other.join()
    assert not refused and not wrong


def test_many_threads_of_the_program_at_once(threads):
    torch.set_num_threads(2)
    made, x = module("GRU", 16, 33, num_layers=2), torch.randn(30, 5, 16)
    expected = torch.autograd.grad(made(x)[0].square().sum(), list(made.parameters()))
    wrong = []

    def run():
        for _ in range(5):
            found = torch.autograd.grad(made(x)[0].square().sum(), list(made.parameters()))
            wrong.extend(1 for a, b in zip(found, expected, strict=True) if not torch.equal(a, b))

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_after_a_fork(threads):
    """OpenMP's threads don't survive one; ours start anew."""
    torch.set_num_threads(2)
    made, x = module("GRU", 16, 33), torch.randn(30, 5, 16)
    with torch.no_grad():
        expected = made(x)[0].numpy()
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(made(x)[0].numpy(), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


LATE = """
import os, signal, sys, torch
if sys.argv[1] == "core":
    import fastrnn
torch.set_num_threads(2)
torch.ones(500, 500).exp().sum()
assert torch.get_num_threads() == 2
child = os.fork()
if child == 0:
    signal.alarm(60)
    from fastrnn.interop import torch as fast
    with torch.no_grad():
        y = fast.GRU(64, 128)(torch.ones(30, 8, 64))[0]
    os._exit(0 if not fast._threads.borrow() and abs(y.numpy()).max() < 1 else 1)
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a fork before the core is loaded is known on Linux")
@pytest.mark.parametrize("loaded", ["core", "nothing"])
def test_imported_after_a_fork(loaded):
    """What is left of PyTorch's threads there would be waited for without end."""
    result = subprocess.run([sys.executable, "-c", LATE, loaded], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
