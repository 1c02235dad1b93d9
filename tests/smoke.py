"""The least that an installed fastrnn must do; run with nothing but its own dependencies on every wheel."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastrnn as fr


def train_and_keep() -> None:
    """Train for a few steps on two threads, save and load the result, and stream through it."""
    fr.set_num_threads(2)
    x = np.linspace(-1, 1, 6 * 4 * 3, dtype=np.float32).reshape(6, 4, 3)
    model = fr.Sequential(fr.LSTM(3, 17, seed=0), fr.GRU(17, 5, seed=1), fr.Linear(5, 2, seed=2))
    optimizer = fr.optim.Adam(model, lr=1e-2)
    losses = []
    for _ in range(20):
        (y, _state), pullback = model.vjp(x)
        loss, dy = fr.losses.mse(y, np.ones_like(y))
        model.zero_grads()
        pullback(dy)
        optimizer.step()
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0], losses
    y, _state = model(x)
    with tempfile.TemporaryDirectory() as folder:
        fr.save(model, Path(folder) / "model.safetensors")
        kept = fr.load(Path(folder) / "model.safetensors")
    assert np.array_equal(kept(x)[0], y)
    assert np.allclose(kept.stream(batch_size=4).run(x), y, atol=1e-6)


def main() -> None:
    """All of it on every instruction set of this machine, each in a process of its own."""
    if os.environ.get("FASTRNN_ISA"):
        train_and_keep()
        return
    for isa in fr.info()["isas"]:
        subprocess.run([sys.executable, __file__], env={**os.environ, "FASTRNN_ISA": isa}, check=True)
        print(f"fastrnn {fr.__version__} {isa}: ok")


if __name__ == "__main__":
    main()
