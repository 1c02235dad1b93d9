"""SequenceClassifier and SequenceRegressor: gradients, lists and lengths, labels, fitting, files."""

import numpy as np
import pytest

import fastrnn as fr
from tests.models.helpers import check_loss, same_after_files
from tests.reference.finite_differences import assert_close

CELLS = ["lstm", "gru", "rnn"]
POOLINGS = ["last", "mean", "max", "both"]


def classifier(classes=3, **options):
    return fr.models.SequenceClassifier(2, classes, 4, **{"dtype": np.float64, "seed": 0, **options})


def regressor(outputs=None, **options):
    return fr.models.SequenceRegressor(2, outputs, 4, **{"dtype": np.float64, "seed": 0, **options})


def ragged(count=5, size=2, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, size)).astype(dtype) for n in rng.integers(1, 9, count)]


def padded(sequences):
    lengths = [len(sequence) for sequence in sequences]
    x = np.full((max(lengths), len(sequences), *sequences[0].shape[1:]), 7.0)
    for row, sequence in enumerate(sequences):
        x[: len(sequence), row] = sequence
    return x, lengths


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("more", [{}, {"bidirectional": True, "num_layers": 2, "dropout": 0.3}])
def test_gradients_by_finite_differences(cell, pooling, more):
    x, lengths = padded(ragged())
    options = {"cell": cell, "pooling": pooling, **more}
    model = classifier(label_smoothing=0.1, **options)
    check_loss(model, fr.Batch(x, np.array([0, 2, 1, 1, 0]), lengths, [1, 2, 0, 0.5, 1]))
    y = np.random.default_rng(1).standard_normal((5, 3))
    check_loss(regressor(3, **options), fr.Batch(x, y, lengths, [1, 2, 0, 0.5, 1]))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_with_an_embedding(cell):
    model = fr.models.SequenceClassifier(6, 2, 4, cell=cell, embedding_dim=3, dtype=np.float64, seed=0)
    x = np.random.default_rng(0).integers(0, 6, (5, 3))
    check_loss(model, fr.Batch(x, np.array([0, 1, 1]), [5, 2, 3]))
    check_loss(regressor(), fr.Batch(padded(ragged(3))[0], np.array([0.1, -1, 2])))


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lists_arrays_and_single_sequences_agree(make, pooling, bidirectional):
    model, sequences = make(pooling=pooling, bidirectional=bidirectional), ragged(9)
    outputs = model.decision_function if make is classifier else model.predict
    whole = outputs(sequences)
    np.testing.assert_array_equal(outputs(sequences, batch_size=2), whole)
    np.testing.assert_array_equal(outputs(*padded(sequences)), whole)
    np.testing.assert_array_equal(outputs(padded(sequences)[0], lengths=padded(sequences)[1]), whole)
    for sequence, row in zip(sequences, whole):
        np.testing.assert_array_equal(outputs(sequence), row)
    assert outputs([sequence.tolist() for sequence in sequences]).shape == whole.shape
    assert outputs([]).shape == (0, *whole.shape[1:])


def test_pooling_is_over_the_steps_that_are_there():
    x, lengths = padded(ragged(4))
    for pooling in POOLINGS:
        model = classifier(pooling=pooling, bidirectional=True, num_layers=2)
        y, (_h, _) = model.rnn(x, lengths=lengths)
        steps = [y[:length, row] for row, length in enumerate(lengths)]
        mean, most = np.stack([s.mean(0) for s in steps]), np.stack([s.max(0) for s in steps])
        last = np.concatenate([[s[-1, :4] for s in steps], y[0, :, 4:]], -1)
        expected = {"last": last, "mean": mean, "max": most, "both": np.concatenate([mean, most], -1)}[pooling]
        assert_close(model(x, lengths=lengths), model.output(expected), 1e-12, pooling)


def test_labels_probabilities_and_score(tmp_path):
    sequences = ragged(20)
    model = classifier(["low", "mid", "high"])
    p = model.predict_proba(sequences)
    assert_close(p.sum(1), np.ones(20), 1e-12)
    labels = model.predict(sequences)
    np.testing.assert_array_equal(labels, np.array(["low", "mid", "high"])[p.argmax(1)])
    y = labels.copy()
    y[:5] = ["low" if label != "low" else "mid" for label in y[:5]]
    assert model.score(sequences, y) == 0.75
    assert model.score(*padded(sequences)[:1], y, padded(sequences)[1]) == 0.75
    assert model.predict(sequences[0]) == labels[0]
    np.testing.assert_array_equal(classifier(2).classes_, [0, 1])
    assert classifier([3, 1]).predict(sequences).dtype.kind == "i"
    again = same_after_files(classifier(np.array(["a", "b"])), tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.classes_, ["a", "b"])


def test_the_regressors_score_is_r_squared():
    model, sequences = regressor(2), ragged(10)
    y = model.predict(sequences) + np.random.default_rng(0).standard_normal((10, 2))
    expected = [1 - ((y - model.predict(sequences)) ** 2)[:, k].sum() / (10 * y[:, k].var()) for k in range(2)]
    assert model.score(sequences, y) == pytest.approx(np.mean(expected))
    assert model.score(sequences, model.predict(sequences)) == 1
    same = np.broadcast_to(y[:1], y.shape)  # no variance to explain: scikit-learn's 0, and 1 where nothing is wrong
    assert model.score(sequences, same) == 0
    assert model.score([sequences[0]] * 3, model.predict([sequences[0]] * 3)) == 1


def test_fit_learns_repeats_itself_and_goes_on(tmp_path):
    x = ragged(120, dtype=np.float32)
    y = np.array(["down", "up"])[[int(sequence[:, 0].sum() > 0) for sequence in x]]
    options = {"epochs": 15, "lr": 0.01, "dropout": 0.1, "validation": (x[:20], y[:20]), "clip_norm": 1.0}
    dropout = options.pop("dropout")
    models = [classifier(["down", "up"], dtype=np.float32, dropout=dropout).fit(x, y, **options) for _ in range(2)]
    model = models[0]
    np.testing.assert_array_equal(model.predict_proba(x), models[1].predict_proba(x))
    assert model.score(x, y) > 0.95
    losses = [entry["loss"] for entry in model.history_.validations]
    assert len(losses) == 15 and losses[-1] < losses[0]
    before = model.score(x, y)
    assert model.fit(x, y, epochs=3) is model and model.score(x, y) >= before - 0.02
    again = same_after_files(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_fit_of_a_regressor_and_of_tokens(tmp_path):
    x = ragged(120, dtype=np.float32)
    y = np.array([[sequence[:, 0].mean(), sequence[:, 1].max()] for sequence in x])
    model = regressor(2, cell="gru", pooling="both", dtype=np.float32).fit(x, y, epochs=30, lr=0.02, validation=(x, y))
    assert model.score(x, y) > 0.8
    again = same_after_files(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 5, n) for n in rng.integers(1, 9, 200)]
    has = np.array([3 in row for row in tokens])
    model = fr.models.SequenceClassifier(5, [False, True], 8, embedding_dim=4, pooling="max", seed=0)
    assert model.fit(tokens, has, epochs=15, lr=0.02).score(tokens, has) > 0.95
    assert model.predict(tokens[0]) == has[0]


def test_weights_of_samples():
    x, y = ragged(40, dtype=np.float32), np.arange(40) % 2  # noise, but half of it counts
    counts = (np.arange(40) < 20).astype(float)
    model = classifier(2, dtype=np.float32).fit(x, y, epochs=100, lr=0.02, sample_weight=counts)
    assert model.score(x[:20], y[:20]) > model.score(x[20:], y[20:])
    same = classifier(2, dtype=np.float32)
    batch = fr.Batch(*padded(x[:4]), None)
    batch = fr.Batch(batch.x.astype(np.float32), y[:4], batch.target, [1, 1, 0, 0])
    half = fr.Batch(batch.x[:, :2], y[:2], batch.lengths[:2])
    assert same.loss(batch) == pytest.approx(same.loss(half), rel=1e-6)


def test_fr_fit_does_it_too():
    x = ragged(60, dtype=np.float32)
    y = np.array([int(sequence[:, 0].sum() > 0) for sequence in x])
    data = fr.SequenceBatches(x, y, batch_size=10, seed=1)
    own, outside = classifier(2, dtype=np.float32), classifier(2, dtype=np.float32)
    fr.fit(own, data, optimizer=fr.optim.Adam(own), epochs=2, progress=False, seed=3)
    data = fr.SequenceBatches(x, y, batch_size=10, seed=1)
    fr.fit(outside, data, fr.losses.cross_entropy, fr.optim.Adam(outside), epochs=2, progress=False, seed=3)
    np.testing.assert_array_equal(own.predict_proba(x), outside.predict_proba(x))


@pytest.mark.parametrize(
    "use, error, message",
    [
        (lambda: classifier(cell="tcn"), ValueError, "cell: expected one of lstm, gru, rnn, .*, got 'tcn'"),
        (lambda: classifier(pooling="min"), ValueError, "pooling: expected one of 'last', 'mean', 'max', 'both', got"),
        (lambda: classifier(0), ValueError, "classes: expected a positive integer, got 0"),
        (
            lambda: classifier(["a", "a"]),
            ValueError,
            "classes: expected their number, or labels that are all different",
        ),
        (lambda: classifier(["a", 1]), ValueError, r"classes: expected labels of one kind, .* got \['a', 1\]"),
        (lambda: regressor(0), ValueError, "num_outputs: expected a positive integer, got 0"),
        (lambda: classifier().predict(ragged(), [1] * 5), ValueError, "lengths: expected None with a list"),
        (lambda: classifier().predict(ragged(), batch_size=0), ValueError, "batch_size: expected a positive integer"),
        (
            lambda: classifier().predict(ragged(3, 4)),
            ValueError,
            r"x: expected sequences \[T, 2\], got shape \(\d, 4\) at 0",
        ),
        (lambda: classifier().predict(ragged(dtype=np.float32)), TypeError, "x: expected float64, got float32"),
        (lambda: classifier().fit(ragged(), [0, 1]), ValueError, "y: expected 5, one for each sequence, got 2"),
        (
            lambda: classifier(["a", "b"]).fit(ragged(2), ["a", "c"]),
            ValueError,
            "y: expected labels of this model's classes 'a', 'b', got 'c'",
        ),
        (
            lambda: classifier().fit(padded(ragged())[0], [0] * 5),
            TypeError,
            r"x: expected a list of sequences, got an array of shape",
        ),
        (lambda: classifier().score(ragged(), [0]), ValueError, r"y: expected shape \(5,\), that of the labels"),
        (lambda: regressor().fit(ragged(2), [[1.0], [2.0]]), ValueError, r"y: expected shape \(2,\), that of"),
        (lambda: regressor().fit(ragged(2), ["a", "b"]), TypeError, "y: expected numbers, got <U1"),
    ],
)
def test_bad_arguments_are_named(use, error, message):
    with pytest.raises(error, match=message):
        use()
