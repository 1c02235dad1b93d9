"""PairBatches: every pair once an epoch, bucketed by both lengths, resumable, and errors by name."""

import numpy as np
import pytest

import fastrnn as fr


def pairs(count=300, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 30, (2, count))
    return [[rng.integers(4, 99, n) for n in side] for side in lengths]


def test_every_pair_comes_once_with_its_partner():
    sources, targets = pairs()
    sources = [np.append(s, k) for k, s in enumerate(sources)]
    weight = np.arange(300.0)
    data = fr.PairBatches(sources, targets, batch_size=16, weight=weight, pad_value=-1, target_pad=-2)
    assert len(data) == 19
    seen = []
    for x, target, lengths, w in data:
        assert x.shape[1] == target.shape[1] == lengths.shape[1] == len(w)
        for b, (s, t) in enumerate(lengths.T):
            number = x[s - 1, b]
            np.testing.assert_array_equal(x[:s, b], sources[number])
            np.testing.assert_array_equal(target[:t, b], targets[number])
            assert (x[s:, b] == -1).all()
            assert (target[t:, b] == -2).all()
            assert w[b] == number
            seen.append(number)
    assert sorted(seen) == list(range(300))
    assert len(fr.PairBatches(sources, targets, batch_size=16, drop_last=True)) == 18


def test_buckets_save_padding():
    sources, targets = pairs(2000)
    padding = {}
    for bucket in (False, True):
        batches = list(fr.PairBatches(sources, targets, batch_size=16, bucket=bucket))
        real = sum(b.lengths.sum() for b in batches)
        padding[bucket] = sum(b.x.size + b.target.size for b in batches) / real
    assert padding[False] > 1.8
    assert padding[True] < 0.75 * padding[False]


def test_an_epoch_goes_on_where_it_was():
    make = lambda: fr.PairBatches(*pairs(), batch_size=16, seed=3)  # noqa: E731
    whole, part = make(), make()
    expected = [list(whole), list(whole)]
    it = iter(part)
    for _ in range(5):
        next(it)
    again = make()
    again.load_state_dict(part.state_dict())
    for epoch, first in ((0, 5), (1, 0)):
        for batch, other in zip(again, expected[epoch][first:], strict=True):
            np.testing.assert_array_equal(batch.x, other.x)
            np.testing.assert_array_equal(batch.target, other.target)
    assert not np.array_equal(expected[0][0].x, expected[1][0].x)


def test_means_over_batches_count_target_steps():
    """What `fit` reports for an epoch is the mean over target tokens."""
    model = fr.Linear(1, 1, seed=0)
    data = fr.PairBatches([[1.0], [1.0]], [[1.0], [1.0, 1.0, 1.0]], batch_size=1, shuffle=False)

    def loss(model, batch):
        return float(batch.lengths[1, 0])

    history = fr.fit(model, data, loss, epochs=1, progress=False)
    assert history.epochs[0]["loss"] == pytest.approx((1 * 1 + 3 * 3) / 4)


def test_errors():
    with pytest.raises(ValueError, match="targets: expected as many as sources, at least one, got 1 and 2 sources"):
        fr.PairBatches([[1], [2]], [[1]], batch_size=2)
    with pytest.raises(ValueError, match="targets: expected sequences with a time axis, got numbers"):
        fr.PairBatches([[1]], [1], batch_size=2)
    with pytest.raises(ValueError, match=r"weight: expected shape \(1,\), got \(2,\)"):
        fr.PairBatches([[1]], [[1]], batch_size=2, weight=[1, 2])
    with pytest.raises(ValueError, match="batch_size: expected"):
        fr.PairBatches([[1]], [[1]], batch_size=0)
