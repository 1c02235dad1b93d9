"""Threads that share a layer: gradients add up under its lock, and a pullback runs for one of them only."""

import threading

import numpy as np
import pytest

from fastrnn import nn
from fastrnn._pullback import Pullback

THREADS, ROUNDS = 8, 40


def together(work):
    start, errors = threading.Barrier(THREADS), []

    def run(index):
        start.wait()
        try:
            work(index)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(16, 8, dtype=np.float64), np.ones((32, 16))),
        (nn.LayerNorm(16, dtype=np.float64), np.arange(512.0).reshape(32, 16)),
        (nn.Embedding(10, 8, lazy=True, dtype=np.float64), np.arange(10)),
        (
            nn.Sequential(nn.Embedding(10, 8, dtype=np.float64), nn.Linear(8, 4, dtype=np.float64)),
            np.arange(10),
        ),
    ],
    ids=["linear", "layer_norm", "embedding", "sequential"],
)
def test_gradients_add_up(layer, x):
    layer.zero_grads()
    y, pullback = layer.vjp(x)
    pullback(np.ones_like(y))
    once = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grads()

    def work(index):
        for _ in range(ROUNDS):
            out, pull = layer.vjp(x)
            np.testing.assert_array_equal(out, y)
            pull(np.ones_like(out))

    together(work)
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, THREADS * ROUNDS * once[name], rtol=1e-12, atol=1e-9)
    for rows in layer.touched.values():
        assert rows.tolist() == list(range(10))


def test_one_pullback_many_threads():
    runs, refused = [], []
    pullback = Pullback(lambda: runs.append(1), "test")

    def work(index):
        try:
            pullback()
        except RuntimeError:
            refused.append(1)

    together(work)
    assert len(runs) == 1
    assert len(refused) == THREADS - 1
