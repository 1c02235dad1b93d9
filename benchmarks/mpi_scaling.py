"""Two MPI ranks on two cores against one process with one thread: ``python benchmarks/mpi_scaling.py [--json]``.

A minute. It starts itself under mpiexec. In turn, in the same processes, from the same weights and on the same data:

- rank 0 trains alone with one thread, while rank 1 sleeps;
- each rank trains by itself on half of every batch, at the same time: what the machine gives to two processes that have
  nothing to do with each other, and so the most that two ranks can reach;
- both ranks train together, each with one thread and half of every batch. Their losses are compared with the first's.

Figures are medians over the steps of a turn, ratios medians over the turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn as fr

SETTLE = 3  # steps of a turn that aren't timed: the first one learns the order of the buckets
TOLERANCE = 1e-4  # of float32 losses after a turn's steps, summed in another order


@dataclass(frozen=True)
class Case:
    """A language model: embedding, layers of LSTM, output."""

    name: str
    T: int
    B: int
    embedding: int
    hidden: int
    layers: int
    vocabulary: int

    def model(self) -> Any:
        """The layers one by one, so that gradients of the upper ones leave while the lower ones are at work."""
        sizes = [self.embedding] + [self.hidden] * self.layers
        rnns = [fr.LSTM(i, o, seed=k) for k, (i, o) in enumerate(itertools.pairwise(sizes))]
        return fr.Sequential(
            fr.Embedding(self.vocabulary, self.embedding, seed=10),
            *rnns,
            fr.Linear(self.hidden, self.vocabulary, seed=11),
        )

    def stack(self) -> Any:
        """The layers as one stack, whose gradients come all at once."""
        return fr.models.LanguageModel(
            self.vocabulary,
            "lstm",
            embedding_dim=self.embedding,
            hidden_size=self.hidden,
            num_layers=self.layers,
            seed=0,
        )


CASES = [Case("2 × 256", 128, 32, 64, 256, 2, 96), Case("1 × 512", 64, 64, 128, 512, 1, 96)]
BF16 = {"compression": "bf16"}
RUNS: list[tuple[Case, str, dict[str, Any]]] = [
    (CASES[0], "model", {}), (CASES[1], "model", {}), (CASES[0], "stack", {}), (CASES[0], "model", BF16),
]  # fmt: skip


def turn(case: Case, kind: str, steps: int, comm: Any, **options: Any) -> tuple[float, list[float]]:
    """Train from the beginning; return the seconds of a step and the losses."""
    model = getattr(case, kind)()
    tokens = np.random.default_rng(0).integers(0, case.vocabulary, case.B * case.T * (steps + 1) + 1)
    data = fr.TokenWindows(tokens, batch_size=case.B, seq_len=case.T)
    loss = None if kind == "stack" else fr.losses.cross_entropy
    if comm is not None:
        comm = fr.train.Distributed(comm, **options)
    history = fr.fit(
        model, data, loss, fr.optim.Adam(model), steps=steps, clip_norm=1.0, carry_state=True, progress=False, comm=comm
    )
    return statistics.median(np.diff(history.steps["seconds"])[SETTLE:]), history.steps["loss"]


def quietly(comm: Any) -> None:
    """A barrier that leaves the CPU alone."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.001)


def measure(case: Case, kind: str, turns: int, steps: int, comm: Any, **options: Any) -> dict[str, Any]:
    """Figures of one case, on rank 0."""
    alone, apart, both = [], [], []
    half = dataclasses.replace(case, B=case.B // comm.size)
    for _ in range(turns):
        quietly(comm)
        if comm.rank == 0:
            seconds, losses = turn(case, kind, steps, None)
            alone.append(seconds)
        quietly(comm)
        apart.append(max(comm.allgather(turn(half, kind, steps, None)[0])))
        quietly(comm)
        seconds, shared = turn(case, kind, steps, comm, **options)
        both.append(seconds)
        if comm.rank == 0 and not options.get("compression"):
            np.testing.assert_allclose(shared, losses, rtol=TOLERANCE)
    if comm.rank:
        return {}
    ratios = [a / b for a, b in zip(alone, both, strict=True)]
    most = [a / b for a, b in zip(alone, apart, strict=True)]
    return {
        "case": case.name,
        "model": kind,
        **options,
        "alone_ms": 1e3 * statistics.median(alone),
        "apart_ms": 1e3 * statistics.median(apart),
        "two_ranks_ms": 1e3 * statistics.median(both),
        "ratio": statistics.median(ratios),
        "ratios": [round(min(ratios), 2), round(max(ratios), 2)],
        "ratio_apart": statistics.median(most),
        "share_of_apart": statistics.median(a / b for a, b in zip(apart, both, strict=True)),
    }


def progress(comm: Any, repetitions: int = 40) -> dict[str, float]:
    """Milliseconds of computing beside an all-reduce of 3.4 MB, by who makes MPI go on meanwhile."""
    layer, x = fr.LSTM(256, 256, seed=0), np.zeros((16, 16, 256), np.float32)
    mine = np.ones(860_000, np.float32)
    total = np.empty_like(mine)

    def compute(request: Any = None) -> None:
        for _ in range(6):
            layer(x)
            if request is not None:
                request.Test()

    def beside(look: bool) -> None:
        request = comm.Iallreduce(mine, total)
        compute(request if look else None)
        wait(request)

    def wait(request: Any) -> None:
        while not request.Test():
            pass

    def with_thread() -> None:
        request = comm.Iallreduce(mine, total)

        def look() -> None:
            while not request.Test():
                time.sleep(2e-4)

        thread = threading.Thread(target=look)
        thread.start()
        compute()
        thread.join()

    ways: dict[str, Callable[[], None]] = {
        "compute": compute,
        "all-reduce": lambda: wait(comm.Iallreduce(mine, total)),
        "at once, nobody looks": lambda: beside(False),
        "at once, looked at six times": lambda: beside(True),
        "at once, looked at by a thread": with_thread,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            comm.Barrier()
            begin = time.perf_counter()
            way()
            found[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(times) for name, times in found.items()}


def ranks_main(arguments: argparse.Namespace) -> None:
    """What runs under mpiexec."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    fr.set_num_threads(1)
    if arguments.progress:
        times = progress(comm)
        if comm.rank == 0:
            print(
                json.dumps(times) if arguments.json else "\n".join(f"{t:6.2f} ms  {name}" for name, t in times.items())
            )
        return
    turns, steps = (2, 8) if arguments.quick else (5, 10)
    rows = []
    for case, kind, options in RUNS[:1] if arguments.first else RUNS:
        row = measure(case, kind, turns, steps, comm, **options)
        rows.append(row)
        if comm.rank == 0 and not arguments.json:
            print(
                f"{row['case']:8} {row['model']:6} {row.get('compression', ''):5} alone {row['alone_ms']:6.1f} ms, "
                f"apart {row['apart_ms']:6.1f} ms ({row['ratio_apart']:.2f}×), "
                f"two ranks {row['two_ranks_ms']:6.1f} ms: {row['ratio']:.2f}× "
                f"({row['ratios'][0]} to {row['ratios'][1]}), {100 * row['share_of_apart']:.0f}% of apart",
                flush=True,
            )
    if comm.rank == 0 and arguments.json:
        print(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--first", action="store_true", help="the first run alone")
    parser.add_argument("--progress", action="store_true", help="what makes a non-blocking all-reduce go on")
    arguments = parser.parse_args()
    if "OMPI_COMM_WORLD_RANK" in os.environ or "PMI_RANK" in os.environ:
        ranks_main(arguments)
        return
    beside = Path(sysconfig.get_path("scripts")) / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        sys.exit("no mpiexec: pip install 'fastrnn[mpi]'")
    root = ["--allow-run-as-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    sys.exit(subprocess.run([mpiexec, *root, "-n", "2", sys.executable, __file__, *sys.argv[1:]]).returncode)


if __name__ == "__main__":
    main()
