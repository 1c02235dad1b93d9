"""What the tests run under mpiexec: ``mpi_script.py WHAT FOLDER``."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import fastrnn as fr


def make(carry):
    tokens = np.random.default_rng(0).integers(0, 11, 900)
    model = fr.Sequential(
        fr.Embedding(11, 8, dtype=np.float64, seed=1),
        fr.LSTM(8, 16, dtype=np.float64, seed=2),
        fr.LSTM(16, 16, dtype=np.float64, seed=3),
        fr.Linear(16, 11, dtype=np.float64, seed=4),
    )
    data = fr.TokenWindows(tokens, batch_size=7, seq_len=9, shuffle=True, seed=3)
    options = {"optimizer": fr.optim.Adam(model, lr=1e-2), "clip_norm": 0.5, "carry_state": carry, "progress": False}
    return model, data, {**options, "validation": fr.TokenWindows(np.arange(300) % 11, batch_size=5, seq_len=7)}


def save(folder, name, model, history):
    np.savez(folder / name, loss=history.validations[-1]["loss"], **model.params)


def told_early(folder, rank):
    """`fastrnn train`, of which rank 1 gets SIGTERM before the ranks are together."""
    from fastrnn.cli import main, train

    read = train._texts

    def texts(*args):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(*args)

    train._texts = texts
    (folder / "text.txt").write_text("a text that is said again and again, by many. " * 400)
    return main(["train", "--distributed", "--text", str(folder / "text.txt"), "--out", str(folder / "run")])


def main(what, folder):
    if what == "alone":
        model, data, options = make(carry=True)
        save(folder, "alone.npz", model, fr.fit(model, data, fr.losses.cross_entropy, steps=40, **options))
        return
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if what == "early":
        sys.exit(told_early(folder, comm.rank))
    model, data, options = make(carry="rows" not in what)
    if what.startswith("bf16"):
        comm = fr.train.Distributed(comm, compression="bf16")

    def loss(outputs, target):
        step = options["optimizer"].steps
        if step == 25 and what.startswith("kill") and comm.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 25 and what == "raise" and comm.rank == 1:
            raise ValueError("rank 1 has seen enough")
        if step == 25 and what == "stop" and comm.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if what == "wait":
            Path(folder, f"pid{comm.rank}").write_text(str(os.getpid()))
            time.sleep(0.02)
        return fr.losses.cross_entropy(outputs, target)

    seconds = 1000.0 if what == "kill rows" else 0.0
    limit = {"steps": 1000} if what == "wait" else {"steps": 40}
    files = {"checkpoint": folder / "run", "checkpoint_seconds": seconds, "resume": True} if what != "equal" else {}
    try:
        history = fr.fit(model, data, loss, comm=comm, **limit, **files, **options)
    except fr.Interrupted as stop:
        print(f"rank {comm.rank}: {stop}", flush=True)
        return
    save(folder, f"{what}-{comm.rank}.npz", model, history)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
