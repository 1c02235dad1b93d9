"""Batches: padding, buckets, windows, and going on in the middle of an epoch."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn as fr


def ragged(count=23, seed=0):
    rng = np.random.default_rng(seed)
    return [np.arange(n) + 1000 * i for i, n in enumerate(rng.integers(1, 12, count))]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sequence_comes_once(bucket, shuffle):
    sequences = ragged()
    data = fr.SequenceBatches(sequences, batch_size=4, bucket=bucket, shuffle=shuffle, pad_value=-1)
    batches = list(data)
    assert len(batches) == len(data) == 6
    seen = {}
    for x, target, lengths, weight in batches:
        assert target is None
        assert weight is None
        assert x.shape == (lengths.max(), len(lengths))
        for b, n in enumerate(lengths):
            seen[int(x[0, b])] = x[:n, b]
            assert (x[n:, b] == -1).all()
    assert len(seen) == len(sequences)
    for sequence in sequences:
        np.testing.assert_array_equal(seen[int(sequence[0])], sequence)


def test_buckets_save_padding_and_epochs_differ():
    sequences = ragged(200)

    def padded(data):
        return sum(batch.x.size for batch in data)

    assert padded(fr.SequenceBatches(sequences, batch_size=8)) < 0.8 * padded(
        fr.SequenceBatches(sequences, batch_size=8, bucket=False)
    )
    data = fr.SequenceBatches(sequences, batch_size=8, seed=3)
    first, second = list(data), list(data)
    assert any(a.x.shape != b.x.shape or (a.x != b.x).any() for a, b in zip(first, second, strict=True))
    assert_same(first, list(fr.SequenceBatches(sequences, batch_size=8, seed=3)))


def test_targets_along_time_and_one_a_sequence():
    sequences = [np.ones((n, 3), np.float32) for n in (2, 4)]
    along = fr.SequenceBatches(sequences, [[1, 2], [3, 4, 5, 6]], batch_size=2, shuffle=False, target_pad=9)
    (batch,) = along
    assert batch.x.shape == (4, 2, 3)
    assert batch.x.dtype == np.float32
    np.testing.assert_array_equal(batch.target.T, [[1, 2, 9, 9], [3, 4, 5, 6]])
    single = fr.SequenceBatches(sequences, [0.5, 1.5], batch_size=2, shuffle=False, weight=[1.0, 2.0])
    (batch,) = single
    np.testing.assert_array_equal(batch.target, [0.5, 1.5])
    np.testing.assert_array_equal(batch.weight, [1.0, 2.0])


def test_targets_that_could_be_either():
    sequences = [np.zeros(2), np.zeros(2)]
    targets = [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="per_step: every sequence and every target has length 2"):
        fr.SequenceBatches(sequences, targets, batch_size=2)
    (batch,) = fr.SequenceBatches(sequences, targets, batch_size=2, shuffle=False, per_step=True)
    np.testing.assert_array_equal(batch.target, [[1, 3], [2, 4]])
    (batch,) = fr.SequenceBatches(sequences, targets, batch_size=2, shuffle=False, per_step=False)
    np.testing.assert_array_equal(batch.target, targets)


def test_lists_of_numbers_make_float32():
    (batch,) = fr.SequenceBatches([[0.5], [1, 2]], [0.5, 1], batch_size=2)
    assert batch.x.dtype == batch.target.dtype == np.float32
    (batch,) = fr.SequenceBatches([np.zeros(1), [1.5]], list(np.zeros(2)), batch_size=2)
    assert batch.x.dtype == batch.target.dtype == np.float64
    (batch,) = fr.SequenceBatches([[1], [2]], [[0.5, 1.5, 2.5]] * 2, batch_size=2, dtype=np.float64)
    assert batch.x.dtype == np.float64
    assert batch.target.dtype == np.float32
    (batch,) = fr.SequenceBatches([[1], [2]], [1, 2], batch_size=2)
    assert batch.x.dtype == batch.target.dtype == np.int64


def test_empty_sequences_and_a_smaller_last_batch():
    data = fr.SequenceBatches([[], [1.0], []], batch_size=2, shuffle=False)
    assert [batch.lengths.tolist() for batch in data] == [[0, 0], [1]]
    assert len(list(fr.SequenceBatches([[1], [2], [3]], batch_size=2, drop_last=True))) == 1


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 6])
def test_sequences_go_on_in_the_middle(stop):
    sequences = ragged()
    whole = fr.SequenceBatches(sequences, batch_size=4, seed=1)
    list(whole)
    batches = []
    for i, batch in enumerate(whole):
        if i == stop:
            break
        batches.append(batch)
    state = copy.deepcopy(whole.state_dict())
    expected = list(fr_resumed(whole, state)) + list(whole)
    other = fr.SequenceBatches(sequences, batch_size=4, seed=99)
    assert_same(list(fr_resumed(other, state)) + list(other), expected)
    if stop == 6:  # the loop has ended: what follows is an epoch of its own
        assert len(expected) == 12


def fr_resumed(data, state):
    data.load_state_dict(state)
    return data


def test_windows_cover_the_stream_and_hand_it_on():
    tokens = np.arange(101)
    data = fr.TokenWindows(tokens, batch_size=4, seq_len=7)
    batches = list(data)
    assert len(batches) == len(data) == 4
    x = np.concatenate([batch.x for batch in batches])
    target = np.concatenate([batch.target for batch in batches])
    np.testing.assert_array_equal(target, x + 1)
    np.testing.assert_array_equal(target.T.ravel(), np.arange(1, 101))
    assert batches[-1].x.shape == (4, 4)
    assert len(list(fr.TokenWindows(tokens, batch_size=4, seq_len=7, max_windows=2))) == 2


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 300), st.integers(1, 9), st.integers(1, 40), st.booleans())
def test_windows_of_any_size(count, batch_size, seq_len, shuffle):
    if (count - (seq_len if shuffle else 1)) // batch_size < 1:
        with pytest.raises(ValueError, match="are too few"):
            fr.TokenWindows(np.arange(count), batch_size=batch_size, seq_len=seq_len, shuffle=shuffle)
        return
    data = fr.TokenWindows(np.arange(count), batch_size=batch_size, seq_len=seq_len, shuffle=shuffle)
    batches = list(data)
    assert len(batches) == len(data)
    targets = np.concatenate([batch.target for batch in batches])
    assert len(np.unique(targets)) == targets.size
    for batch in batches:
        np.testing.assert_array_equal(batch.target, batch.x + 1)
        assert batch.x.shape[1] == batch_size
        assert 1 <= len(batch.x) <= seq_len
    for before, after in itertools.pairwise(batches):
        np.testing.assert_array_equal(before.target[-1], after.x[0])


@pytest.mark.parametrize("stop", [0, 1, 2, 4])
def test_windows_go_on_in_the_middle(stop):
    whole = fr.TokenWindows(np.arange(200), batch_size=3, seq_len=15, shuffle=True, seed=5)
    for i, _ in enumerate(whole):
        if i == stop:
            break
    state = copy.deepcopy(whole.state_dict())
    expected = list(fr_resumed(whole, state)) + list(whole)
    other = fr.TokenWindows(np.arange(200), batch_size=3, seq_len=15, shuffle=True, seed=6)
    assert_same(list(fr_resumed(other, state)) + list(other), expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fr.SequenceBatches([], batch_size=1), ValueError, "sequences: expected at least one"),
        (lambda: fr.SequenceBatches([[1]], batch_size=0), ValueError, "batch_size: expected >= 1"),
        (lambda: fr.SequenceBatches([[1]], [1, 2], batch_size=1), ValueError, "targets: expected 1"),
        (
            lambda: fr.SequenceBatches([[1]], batch_size=1, weight=[1, 2]),
            ValueError,
            "weight: expected shape",
        ),
        (
            lambda: fr.SequenceBatches([[1, 2]], [1], batch_size=1, per_step=True),
            ValueError,
            "per_step: needs",
        ),
        (lambda: fr.SequenceBatches([[[1]], [[1, 2]]], batch_size=1), ValueError, "differ in the first axis"),
        (lambda: fr.TokenWindows([0.5], batch_size=1, seq_len=1), ValueError, "tokens: expected integers"),
        (lambda: fr.TokenWindows([1, 2], batch_size=1, seq_len=0), ValueError, "seq_len: expected >= 1"),
        (lambda: fr.TokenWindows([1, 2], batch_size=5, seq_len=1), ValueError, "2 are too few for 5 rows"),
        (
            lambda: fr.TokenWindows([1, 2], batch_size=1, seq_len=1).load_state_dict({}),
            ValueError,
            "state: expected the keys",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda **options: fr.SequenceBatches([[1], [2, 3], [4]], **options), "sequences"),
        (lambda **options: fr.PairBatches([[1], [2, 3], [4]], [[5], [6], []], **options), "pairs"),
        (lambda **options: fr.ArrayBatches(np.ones((3, 2)), **options), "rows"),
        (lambda **options: fr.DialogueBatches([[[4], [5]]] * 3, **options), "dialogues"),
    ],
)
def test_drop_last_leaves_a_batch(make, what):
    assert len(list(make(batch_size=3, drop_last=True))) == 1
    assert len(list(make(batch_size=4))) == 1
    expected = f"^batch_size: expected at most 3, the number of {what}, because drop_last=True .* got 4$"
    with pytest.raises(ValueError, match=expected):
        make(batch_size=4, drop_last=True)
