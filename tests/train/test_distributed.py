"""Several processes (here: threads) take the steps of one, whatever the loss is a mean over."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.train import Distributed

from . import ranks

F8 = {"dtype": np.float64}
ROUNDING = 1e-10  # of float64 sums in another order, through up to twenty steps


def ragged(n=23, seed=0, per_step=False):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, n)
    x = [rng.standard_normal((length, 3)) for length in lengths]
    targets = [rng.integers(0, 4, length) for length in lengths] if per_step else list(rng.integers(0, 4, n))
    return x, targets, rng.uniform(0.1, 3, n)


def tagger():
    """Targets along time, ragged, some of them ignored, rows weighted."""
    x, targets, weight = ragged(per_step=True)
    model = fr.Sequential(fr.GRU(3, 6, seed=0, **F8), fr.Linear(6, 4, seed=1, **F8))
    data = fr.SequenceBatches(x, targets, batch_size=5, weight=weight, seed=1)

    def loss(outputs, target, **options):
        return fr.losses.cross_entropy(outputs, target, ignore_index=2, **options)

    loss.__signature__ = __import__("inspect").signature(fr.losses.cross_entropy)
    return model, data, {"loss": loss, "steps": 12, "validation": fr.SequenceBatches(x, targets, batch_size=4)}


def classifier():
    """One target a row, in the model's own loss, on the tape."""
    x, targets, weight = ragged()
    model = fr.models.SequenceClassifier(3, 4, hidden_size=5, seed=0, **F8)
    data = fr.SequenceBatches(x, targets, batch_size=6, weight=weight, seed=1)
    return model, data, {"epochs": 3, "clip_norm": 0.1, "schedule": fr.schedules.Cosine(warmup=0.2)}


def windows():
    """A carried state, and a layer that comes twice."""
    tokens = np.random.default_rng(0).integers(0, 11, 700)
    layer = fr.LSTM(8, 8, seed=2, **F8)
    model = fr.Sequential(fr.Embedding(11, 8, seed=1, **F8), layer, layer, fr.Linear(8, 11, seed=4, **F8))
    data = fr.TokenWindows(tokens, batch_size=7, seq_len=9, shuffle=True, seed=3)
    validation = fr.TokenWindows(tokens[:200], batch_size=5, seq_len=7)
    options = {"loss": fr.losses.cross_entropy, "carry_state": True, "clip_norm": 0.5, "steps": 20}
    return model, data, {**options, "validation": validation, "validate_every": 7, "early_stopping": 3}


def lazy():
    """Rows of an embedding that only some ranks use."""
    rng = np.random.default_rng(0)
    embedding = fr.Embedding(50, 4, lazy=True, seed=0, **F8)
    model = fr.Sequential(embedding, fr.MeanPool(), fr.Linear(4, 1, seed=1, **F8))
    x = [rng.integers(0, 50, n) for n in rng.integers(1, 6, 20)]
    data = fr.SequenceBatches(x, rng.standard_normal((20, 1)), batch_size=4, seed=0)
    return model, data, {"loss": fr.losses.mse, "steps": 14}


def rows():
    """No time at all, batches smaller than the number of ranks, batch_first layers of another model's kind."""
    rng = np.random.default_rng(0)
    model = fr.Sequential(fr.Linear(6, 5, seed=0, **F8), fr.Tanh(), fr.Linear(5, 2, seed=1, **F8))
    x = rng.standard_normal((9, 6))
    data = fr.ArrayBatches(x, rng.standard_normal((9, 2)), batch_size=4, seed=0, weight=rng.uniform(0, 1, 9))
    return model, data, {"loss": fr.losses.mse, "steps": 11, "clip_value": 0.05}


def batch_first():
    rng = np.random.default_rng(0)
    rnn = fr.RNN(3, 5, num_layers=2, bidirectional=True, batch_first=True, seed=0, **F8)
    model = fr.Sequential(rnn, fr.Linear(10, 2, seed=1, **F8))
    data = [
        fr.Batch(
            rng.standard_normal((4, 6, 3)), rng.standard_normal((4, 6, 2)), rng.integers(0, 7, 4), rng.uniform(0, 1, 4)
        )
        for _ in range(4)
    ]
    weighted = [b._replace(weight=b.weight[:, None, None]) for b in data]
    return model, weighted, {"loss": fr.losses.mse, "epochs": 3}


def trees():
    trees = fr.Trees.from_nested([(1, 2), (3, (1, 2)), (4, (5, 6)), ((1, 2), (3, 4)), (1, (2, (3, 4)))])
    model = fr.models.TreeClassifier(8, 3, embedding_dim=4, hidden_size=5, seed=0, **F8)
    return model, fr.TreeBatches(trees, [0, 1, 2, 1, 0], batch_size=4, seed=0), {"steps": 8}


def pairs():
    rng = np.random.default_rng(0)
    sources, targets = ([rng.integers(4, 12, n) for n in rng.integers(1, 7, 13)] for _ in range(2))
    model = fr.models.Seq2Seq(12, 12, embedding_dim=5, hidden_size=6, attention="dot", seed=0, **F8)
    data = fr.PairBatches(sources, targets, batch_size=5, weight=rng.uniform(0.5, 2, 13), seed=0)
    return model, data, {"steps": 7}


def dialogues():
    rng = np.random.default_rng(0)
    talks = [[rng.integers(4, 12, n) for n in rng.integers(1, 5, turns)] for turns in rng.integers(2, 5, 9)]
    model = fr.models.HRED(12, embedding_dim=5, hidden_size=6, context_size=7, seed=0, **F8)
    return model, fr.DialogueBatches(talks, batch_size=4, seed=0), {"steps": 7}


class Loop(fr.Model):
    """Uses a layer as often as its input asks for: what was learned of the first step doesn't hold for others."""

    def __init__(self):
        super().__init__()
        self.start = fr.Parameter(np.zeros((1, 4)))
        self.first, self.step, self.last = (fr.Linear(4, 4, seed=k, **F8) for k in range(3))

    def forward(self, x):
        h = self.start() + self.first(x[0])
        for each in x[1:]:
            h = fr.ops.tanh(self.step(h) + each)
        return self.last(h)

    def loss(self, batch, *, seed=None, train=True):
        return (
            fr.losses.mse(self.forward(batch[0]), batch[1])[0] + 0.1 * fr.losses.mse(self.start(), np.ones((1, 4)))[0]
        )


def loop():
    rng = np.random.default_rng(0)
    data = [(rng.standard_normal((T, 6, 4)), rng.standard_normal((6, 4))) for T in (3, 2, 5, 1, 4)]
    return Loop(), data, {"epochs": 2, "sharding": {"x": 1, "target": 0}}


def own():
    """A loss of one's own, which says what it divides by."""
    rng = np.random.default_rng(0)
    model = fr.Linear(3, 2, seed=0, **F8)
    data = [(rng.standard_normal((5, 3)), rng.integers(-2, 3, (5, 2)).astype(float)) for _ in range(6)]

    def loss(outputs, target):
        there = target >= 0
        fr.losses.divided_by(there.sum())
        difference, count = np.where(there, outputs - target, 0), max(there.sum(), 1)
        return float((difference**2).sum() / count), 2 * difference / count

    return model, data, {"loss": loss, "epochs": 2}


def fitted(make, comm=None, **more):
    model, data, options = make()
    sharding = options.pop("sharding", None)
    if comm is not None:
        comm = Distributed(comm, shard=sharding, **more)
    history = fr.fit(model, data, optimizer=fr.optim.Adam(model, lr=0.02), progress=False, comm=comm, **options)
    return model, history


CASES = [tagger, classifier, windows, lazy, rows, batch_first, trees, pairs, dialogues, loop, own]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
@pytest.mark.filterwarnings("ignore:loss. it adds means:RuntimeWarning")
def test_several_take_the_steps_of_one(make, size):
    alone, expected = fitted(make)
    results = ranks.run(size, lambda comm: fitted(make, comm, bucket_mb=1e-4))
    for model, history in results:
        for name, array in alone.params.items():
            np.testing.assert_allclose(
                model.params[name], array, rtol=0, atol=ROUNDING * abs(array).max(), err_msg=name
            )
        for one, other in ((expected.validations, history.validations), (expected.epochs, history.epochs)):
            assert [entry["step"] for entry in one] == [entry["step"] for entry in other]
            np.testing.assert_allclose([e["loss"] for e in other], [e["loss"] for e in one], rtol=ROUNDING)
        for column in ("step", "loss", "grad_norm", "lr"):
            np.testing.assert_allclose(history.steps[column], expected.steps[column], rtol=1e-8, atol=1e-12)
    for model, history in results[1:]:  # among themselves bit for bit, the clock too
        assert history.state_dict()["notes"] == results[0][1].state_dict()["notes"]
        assert history.steps == results[0][1].steps
        for name, array in results[0][0].params.items():
            assert np.array_equal(array, model.params[name])
