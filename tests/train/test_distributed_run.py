"""What ranks agree on, what they refuse, and how a run of several is resumed."""

import time

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.train import Distributed, DistributedError

from . import ranks, runs
from .test_distributed import F8, fitted, windows
from .test_resume import Crash, assert_bitwise, crashing, weights_of


def small(seed=0):
    model = fr.Sequential(fr.Linear(3, 4, seed=seed), fr.Tanh(), fr.Linear(4, 2, seed=seed + 1))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 3), dtype=np.float32)
    return model, fr.ArrayBatches(x, np.stack([x.sum(1), x[:, 0] * x[:, 1]], 1), batch_size=6, seed=1)


def fit_small(comm, model=None, data=None, loss=fr.losses.mse, steps=8, **options):
    usual = small()
    model, data = model or usual[0], data or usual[1]
    optimizer = options.pop("optimizer", None) or fr.optim.Adam(model, lr=0.01)
    return model, fr.fit(model, data, loss, optimizer, steps=steps, progress=False, comm=comm, **options)


# ---- resuming


@pytest.mark.parametrize("make", [runs.language_model, runs.classifier])
def test_a_run_that_was_stopped_has_the_weights_of_one_that_was_not(make, tmp_path):
    def whole(comm):
        model, data, options = make()
        fr.fit(model, data, epochs=3, progress=False, comm=comm, **options)
        return weights_of(model)

    expected = ranks.run(2, whole)[0]

    def part(comm, at):
        model, data, options = make()
        if at and comm.rank == 1:
            model.vjp = crashing(model.vjp, at)
        files = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0.0, "resume": True}
        fr.fit(model, data, epochs=3, progress=False, comm=comm, **files, **options)
        return weights_of(model)

    for at in (5, 4, 7):
        with pytest.raises(Crash):
            ranks.run(2, lambda comm, at=at: part(comm, at))
    for weights in ranks.run(2, lambda comm: part(comm, None)):
        assert_bitwise(weights, expected)


@pytest.mark.parametrize("first, then", [(2, 3), (3, 1), (1, 2), (2, None)])
def test_another_number_of_ranks_goes_on(first, then, tmp_path):
    """With the carried state of all rows; None is a process that knows nothing of others."""
    alone, _ = fitted(windows)

    def part(comm, **limits):
        model, data, options = windows()
        options = {**options, **limits, "checkpoint": tmp_path / "run", "resume": True, "progress": False}
        fr.fit(model, data, optimizer=fr.optim.Adam(model, lr=0.02), comm=comm, **options)
        return model

    ranks.run(first, lambda comm: part(comm, steps=13))
    models = [part(None)] if then is None else ranks.run(then, part)
    for model in models:
        for name, array in alone.params.items():
            np.testing.assert_allclose(model.params[name], array, rtol=0, atol=1e-10, err_msg=name)


def test_shards_of_ones_own_end_cleanly_and_resume(tmp_path):
    """Rank 1 has two batches an epoch, rank 0 three."""

    def data(rank):
        x = np.random.default_rng(rank).standard_normal((6 - 2 * rank, 3), dtype=np.float32)
        return fr.ArrayBatches(x, x[:, :2], batch_size=2, seed=rank)

    def part(comm, steps, folder=None):
        comm = Distributed(comm, sharded=True)
        files = {"checkpoint": tmp_path / folder, "resume": True, "checkpoint_seconds": 0.0} if folder else {}
        return fit_small(comm, data=data(comm.rank), steps=steps, validation=data(comm.rank), **files)

    (model, history), _ = ranks.run(2, lambda comm: part(comm, 9))
    assert [entry["step"] for entry in history.epochs] == [3, 6, 9]
    for steps in (2, 3, 5, 9):  # stopped where rank 1 has nothing more, at an epoch's end, in the middle
        resumed = ranks.run(2, lambda comm, steps=steps: part(comm, steps, "run"))
    assert_bitwise(weights_of(resumed[1][0]), weights_of(model))
    with pytest.raises(ValueError, match="the run had 2 ranks, each with data of its own, now 1"):
        ranks.run(1, lambda comm: part(comm, 10, "run"))
    with pytest.raises(ValueError, match="begun with sharded=True"):
        fit_small(ranks.Comm(ranks.World(1), 0), steps=10, checkpoint=tmp_path / "run", resume=True)


def test_only_rank_0_writes(tmp_path):
    def part(comm):
        fit_small(comm, checkpoint=tmp_path / str(comm.rank))

    ranks.run(2, part)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]

    def again(comm):
        with pytest.raises(FileExistsError, match="holds a checkpoint"):
            fit_small(comm, checkpoint=tmp_path / str(comm.rank))

    ranks.run(2, again)


# ---- the same everywhere


def test_all_begin_with_the_weights_of_rank_0():
    def part(comm):
        return fit_small(comm, model=small(seed=5 * comm.rank)[0])[0]

    first, second = ranks.run(2, part)
    assert_bitwise(first.params, second.params)
    assert_bitwise(first.params, ranks.run(2, fit_small)[0][0].params)


def test_dropout_differs_between_ranks():
    masks = {}

    def part(comm):
        dropout = fr.Dropout(0.5)
        model = fr.Sequential(dropout, fr.Linear(64, 1, seed=0))
        original = dropout.vjp

        def vjp(x, **options):
            y, pullback = original(x, **options)
            masks.setdefault(comm.rank, []).append(y != 0)
            return y, pullback

        dropout.vjp = vjp
        fr.fit(model, [(np.ones((4, 64), np.float32), np.ones((4, 1), np.float32))], fr.losses.mse, steps=3, epochs=3,
               comm=comm, progress=False)  # fmt: skip

    ranks.run(2, part)
    for first, second in zip(masks[0], masks[1], strict=True):
        assert 0.2 < (first == second).mean() < 0.8


def test_what_models_keep_beside_weights():
    """A table of codes that follows its vectors, and a weight that rises by the step."""
    rng = np.random.default_rng(0)
    x = rng.random((30, 12)).astype(np.float32)
    texts = [rng.integers(4, 12, n) for n in rng.integers(1, 6, 20)]

    def part(comm):
        codes = fr.models.VQVAE(12, num_latents=2, code_size=3, num_codes=6, hidden_sizes=(8,), seed=0)
        fr.fit(codes, fr.ArrayBatches(x, batch_size=7, seed=0), steps=12, progress=False, comm=comm)
        texts_model = fr.models.SequenceVAE(12, embedding_dim=4, hidden_size=5, latent_size=3, annealing=6, seed=0)
        data = fr.SequenceBatches(texts, batch_size=5, seed=0)
        fr.fit(texts_model, data, steps=9, progress=False, comm=comm)
        return {**weights_of(codes), **weights_of(texts_model)}

    first, *others = ranks.run(3, part)
    for weights in others:
        assert_bitwise(first, weights)
    (step,) = (array for name, array in first.items() if name.endswith(".step"))
    assert step == 9


def test_weights_that_drift_apart_are_named():
    def part(comm):
        def loss(model, batch):
            if comm.rank in (1, 2) and comm.calls > 60:
                model.params["0.bias"] += 1e-3
            y, pullback = model.vjp(batch.x)
            value, dy = fr.losses.mse(y, batch.target)
            pullback(dy)
            return value

        with pytest.raises(DistributedError, match=r"after step \d+ the weights of ranks 1, 2 differ from rank 0's"):
            fit_small(Distributed(comm, check_every=4), loss=loss, steps=50)

    ranks.run(4, part)


@pytest.mark.parametrize("change, message", [
    ({"clip_norm": 1.0}, "rank 1 got other arguments than rank 0"),
    ({"optimizer": lambda model: fr.optim.SGD(model)}, "rank 1 got other arguments"),
    ({"model": lambda: fr.Linear(3, 2)}, "the model of rank 1 has other parameters"),
    ({"data": lambda: fr.ArrayBatches(np.ones((9, 3), "f"), np.ones((9, 2), "f"), batch_size=6)},
     "data: 2 batches on rank 1, 4 on rank 0"),
    ({"data": lambda: fr.ArrayBatches(np.ones((24, 3), "f"), np.ones((24, 2), "f"), batch_size=6)},
     "rank 1 got another batch than rank 0"),
    ({"data": lambda: list(small()[1])[:2] + list(small()[1])[:2]}, "rank 1 got another batch than rank 0"),
    ({"checkpoint": "somewhere"}, "checkpoint: given on some ranks only"),
])  # fmt: skip
def test_ranks_that_were_told_different_things(change, message):
    def part(comm):
        mine = {name: value() if name in ("model", "data") else value for name, value in change.items()}
        if "optimizer" in mine:
            mine["model"] = small()[0]
            mine["optimizer"] = mine["optimizer"](mine["model"])
        with pytest.raises(DistributedError, match=message):
            fit_small(Distributed(comm, check_every=2), **(mine if comm.rank else {}))

    ranks.run(2, part)


def test_data_of_unknown_length_that_end_early_on_a_rank():
    class Some:
        def __init__(self, count):
            self.count = count

        def __iter__(self):
            return iter([(np.ones((4, 3), "f"), np.ones((4, 2), "f"))] * self.count)

    def part(comm):
        with pytest.raises(DistributedError, match="data: ended after 3 batches on rank 1 and not on the others"):
            fit_small(comm, data=Some(5 - 2 * comm.rank), epochs=2, steps=None)

    ranks.run(3 - 1, part)


# ---- errors and limits


def test_an_argument_that_is_wrong_on_one_rank_is_an_error_on_all():
    def part(comm):
        error = TypeError if comm.rank else DistributedError
        with pytest.raises(error, match="rank 1 failed" if not comm.rank else "steps: expected a whole number"):
            fit_small(comm, steps="many" if comm.rank else 3)

    ranks.run(2, part)


def test_ctrl_c_on_one_rank_before_the_run_ends_all(capsys):
    class Interrupting(list):
        def __bool__(self):
            return True

        def __len__(self):
            raise KeyboardInterrupt

    def part(comm):
        model, data = small()
        begin = time.monotonic()
        try:
            fit_small(comm, model, Interrupting(data) if comm.rank == 1 else data)
        finally:
            assert time.monotonic() - begin < 10

    with pytest.raises(KeyboardInterrupt):
        ranks.run(2, part)
    text = capsys.readouterr().err
    assert text.startswith("rank 1 of 2 was interrupted, so the run ends.")


def test_an_error_on_one_rank_ends_all(capsys, tmp_path):
    def part(comm):
        model, data = small()
        if comm.rank == 1:
            model.vjp = crashing(model.vjp, 4)
        begin = time.monotonic()
        try:
            fit_small(comm, model, data, steps=1000, checkpoint=tmp_path, checkpoint_seconds=0)
        finally:
            assert time.monotonic() - begin < 10

    with pytest.raises(Crash):
        ranks.run(3, part)
    text = capsys.readouterr().err
    assert "rank 1 of 3 failed, so the run ends. The checkpoint of step 3 is in" in text and "Crash" in text
    assert fr.train.Checkpoint(tmp_path).exists()


def test_a_gradient_that_is_not_finite_is_an_error_on_all_ranks():
    def part(comm):
        x = np.ones((4, 3), np.float32)
        x[3] = np.nan  # rank 1's
        with pytest.raises(FloatingPointError, match="not finite in 10 steps in a row"):
            fit_small(comm, data=[(x, np.ones((4, 2), np.float32))], steps=50, epochs=50)

    with pytest.warns(RuntimeWarning, match="was skipped"):
        ranks.run(2, part)


def test_minutes_are_those_of_rank_0():
    def part(comm):
        return fit_small(comm, steps=None, minutes=0.003, schedule=fr.schedules.Cosine())[1]

    first, second = ranks.run(2, part)
    assert first.steps == second.steps and len(first.steps["step"]) > 1


def test_no_answer():
    def part(comm):
        def loss(outputs, target):
            if comm.rank:
                time.sleep(1.5)
            return fr.losses.mse(outputs, target)

        fit_small(Distributed(comm, timeout=0.3), loss=loss)

    with pytest.raises(TimeoutError, match="no answer from the other ranks"):
        ranks.run(2, part)


def test_terms_in_other_proportions_are_warned_of():
    class Two(fr.Model):
        def __init__(self):
            super().__init__()
            self.layer = fr.Linear(3, 2, seed=0, **F8)

        def forward(self, x):
            return self.layer(x)

        def loss(self, batch, *, seed=None, train=True):
            y = self.layer(batch[0])
            return fr.losses.mse(y, batch[1])[0] + fr.losses.mse(y, batch[1], weight=batch[3][:, None])[0]

    data = [fr.Batch(np.ones((4, 3)), np.ones((4, 2)), None, np.array([1.0, 2, 3, 4]))]
    with pytest.warns(RuntimeWarning, match="adds means over different numbers"):
        ranks.run(2, lambda comm: fit_small(comm, model=Two(), data=data, loss=None, steps=1))


@pytest.mark.parametrize("given, error, message", [
    (lambda c: "MPI", TypeError, "comm: expected a communicator such as mpi4py's MPI.COMM_WORLD"),
    (lambda c: Distributed(c, compression="zip"), ValueError, 'compression: expected None or "bf16"'),
    (lambda c: Distributed(c, sharded=True, shard={"x": 0}), ValueError, "give one of shard= and sharded=True"),
    (lambda c: Distributed(c, shard={"y": 0}), ValueError, "shard: expected axes of x, target"),
    (lambda c: Distributed(c, bucket_mb=0), ValueError, "bucket_mb"),
])  # fmt: skip
def test_options(given, error, message):
    with pytest.raises(error, match=message):
        fit_small(given(ranks.Comm(ranks.World(1), 0)))
