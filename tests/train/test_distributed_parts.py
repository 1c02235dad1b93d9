"""Rows of ranks, gradients on their way, bfloat16."""

import threading

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.train import Distributed, distributed
from fastrnn.train.distributed import Group
from fastrnn.train.distributed_reduce import narrowed, widened
from fastrnn.train.distributed_shards import Shards, split

from . import ranks
from .test_resume import assert_bitwise, weights_of

# ---- rows


def test_split_is_even():
    for count in range(10):
        for size in (1, 2, 3, 7):
            parts = [range(count)[split(count, rank, size)] for rank in range(size)]
            assert [k for part in parts for k in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ragged_rows_are_dealt_out_by_steps():
    lengths = np.array([9, 9, 8, 7, 5, 4, 4, 3, 2, 1, 1, 1])
    batch = fr.Batch(np.zeros((9, 12, 3)), np.arange(12), lengths)
    parts = [Shards(fr.LSTM(3, 2), None, rank=r, size=3, carried=False).part(batch) for r in range(3)]
    assert sorted(np.concatenate([part.target for part in parts])) == list(range(12))
    steps = [part.lengths.sum() for part in parts]
    assert max(steps) <= 1.1 * min(steps)


@pytest.mark.parametrize("model, batch, message", [
    (fr.LSTM(3, 2), fr.Batch(np.zeros((7, 3)), None), "one sequence, .7, 3., has no rows"),
    (fr.LSTM(3, 2), fr.Batch(np.zeros((7, 5, 3)), np.zeros((5, 5))), "target: which axis of .5, 5. has the rows"),
    (fr.LSTM(3, 2), fr.Batch(np.zeros((7, 5, 3)), np.zeros(4)), "target: which axis"),
    (fr.LSTM(3, 2), fr.Batch(np.zeros((7, 5, 3)), None, np.zeros(4)), "x: which axis"),
])  # fmt: skip
def test_rows_that_cannot_be_found(model, batch, message):
    with pytest.raises(ValueError, match=message):
        Shards(model, None, rank=0, size=2, carried=False).part(batch)


# ---- gradients on their way


def test_buckets_leave_while_backward_runs():
    """In the second step those of layers 3, 2 and 1 (weight and bias each) have left before layer 0 pulls."""

    class Logging(ranks.Comm):
        def Iallreduce(self, sent, received):
            if sent.dtype == np.float32:
                self.log.append("sent")
            return super().Iallreduce(sent, received)

    def part(comm):
        comm.__class__, comm.log = Logging, []
        model = fr.Sequential(*(fr.Linear(8, 8, seed=k) for k in range(4)))
        original = model[0].vjp

        def vjp(x, **options):
            y, pullback = original(x, **options)
            return y, lambda dy: (comm.log.append("pull"), pullback(dy))[1]

        model[0].vjp = vjp
        data = [(np.ones((4, 8), "f"), np.ones((4, 8), "f"))]
        fr.fit(model, data, fr.losses.mse, epochs=2, progress=False, comm=Distributed(comm, bucket_mb=1e-4))
        return comm.log

    for log in ranks.run(2, part):
        assert log == ["pull", *8 * ["sent"], *6 * ["sent"], "pull", *2 * ["sent"]]


def test_bfloat16_is_rounded_to_nearest_even():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    values = np.concatenate([values, np.float32([0, -0.0, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38])])
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).to(torch.float32).numpy()
    found = widened(narrowed(values))
    assert np.array_equal(np.isnan(found), np.isnan(values))
    there = ~np.isnan(values)
    assert np.array_equal(found[there].view(np.uint32), expected[there].view(np.uint32))


def test_compressed_gradients_train_as_well():
    """Half the bytes; the loss of a small language model after 150 steps is that of whole gradients to a hundredth."""
    tokens = np.cumsum(np.random.default_rng(0).integers(0, 3, 6000)) % 11

    def part(comm, **options):
        model = fr.models.LanguageModel(11, "gru", embedding_dim=8, hidden_size=24, seed=0)
        data = fr.TokenWindows(tokens, batch_size=8, seq_len=16, seed=0)
        distributed = Distributed(comm, **options)
        history = fr.fit(
            model, data, optimizer=fr.optim.Adam(model, lr=0.01), steps=150, carry_state=True, progress=False,
            comm=distributed, validation=data,
        )  # fmt: skip
        return history.validations[-1]["loss"], weights_of(model), comm.sent

    (whole, _, bytes_whole), _ = ranks.run(2, part)
    (loss, weights, sent), (_, others, _) = ranks.run(2, lambda comm: part(comm, compression="bf16"))
    first = np.log(11)
    assert loss < 0.6 * first
    assert abs(loss - whole) < 0.01 * whole
    assert_bitwise(weights, others)
    assert sent < 0.6 * bytes_whole


# ---- threads


@pytest.mark.parametrize("cpus, usual, expected", [
    ([range(8), range(8)], 8, [4, 4]),  # not bound: they share
    ([range(4), range(4, 8)], 4, [4, 4]),  # bound to halves
    ([range(1), range(1, 2)], 1, [1, 1]),
    ([range(4), range(4), range(4)], 4, [1, 1, 1]),
    ([range(8), range(4)], 8, [6, 2]),
    ([range(8), range(8)], 3, [1, 1]),  # a quota of three CPUs' time
])  # fmt: skip
def test_ranks_share_the_cpus_of_a_machine(cpus, usual, expected, monkeypatch):
    monkeypatch.delenv("FASTRNN_NUM_THREADS", raising=False)
    here = threading.local()
    monkeypatch.setattr(distributed, "_cpus", lambda: frozenset(here.cpus))
    monkeypatch.setattr(distributed._core, "default_threads", lambda: usual)
    monkeypatch.setattr(distributed._core, "get_num_threads", lambda: usual)

    def part(comm):
        here.cpus = cpus[comm.rank]
        return Group(Distributed(comm)).threads()

    assert ranks.run(len(cpus), part) == expected
    monkeypatch.setenv("FASTRNN_NUM_THREADS", "5")
    assert ranks.run(len(cpus), part) == [None] * len(cpus)
    monkeypatch.delenv("FASTRNN_NUM_THREADS")
    monkeypatch.setattr(distributed._core, "get_num_threads", lambda: usual + 1)  # somebody has chosen
    assert ranks.run(len(cpus), part) == [None] * len(cpus)


def test_without_mpi4py(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[mpi\]'"):
        Distributed()


def test_the_command_without_mpi4py(monkeypatch, capsys):
    from fastrnn.cli import main

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", "--distributed"]) == 2
    assert (
        "--distributed: training by several processes needs MPI: pip install 'fastrnn[mpi]'" in capsys.readouterr().err
    )
