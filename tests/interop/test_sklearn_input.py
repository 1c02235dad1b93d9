"""What estimators for scikit-learn take, and what they refuse."""

import copy

import numpy as np
import pytest

pytest.importorskip("sklearn")

from fastrnn.interop.sklearn import PerStep, RNNClassifier, RNNForecaster, RNNRegressor, SequenceTagger

RNG = np.random.default_rng(0)
X = [RNG.standard_normal((length, 2)) for length in [11, 8, *RNG.integers(3, 12, 58)]]
Y = np.array(["up" if x[:, 0].sum() > 0 else "down" for x in X])
LABELS = [np.where(np.cumsum(x[:, 0]) > 0, "over", "under") for x in X]


@pytest.mark.parametrize("what", [(x for x in X), {1, 2}, 3])
def test_no_sequences_at_all(what):
    with pytest.raises(TypeError, match=r"^X: expected an array \[n, T\]"):
        RNNClassifier(4).fit(what, Y)


def test_weights_that_are_none():
    with pytest.raises(ValueError, match=r"^sample_weight: .* got inf among them"):
        RNNClassifier(4).fit(X, Y, sample_weight=np.r_[np.inf, np.ones(len(X) - 1)])
    with pytest.raises(TypeError, match=r"^y: expected labels of each step"):
        SequenceTagger(4).fit(X, 3)


def test_names_of_one_type_are_the_same_network():
    classifier = RNNClassifier(4, max_iter=1, warm_start=True, dtype="float32").fit(X, Y)
    assert classifier.set_params(dtype=np.float32).fit(X, Y).n_iter_ == 2


# ---- forms of input


def forms(x):
    """[n, T, 1] in all its forms."""
    flat = x[..., 0]
    objects = np.empty(len(x), object)
    objects[:] = list(x)
    return {
        "2d": flat, "3d": x, "list": list(x), "list of [T]": list(flat), "lists": flat.tolist(), "objects": objects,
        "tuple": tuple(x), "integers": (1000 * flat).astype(np.int64), "float32": x.astype(np.float32),
        "nested": x.tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", forms(np.ones((2, 3, 1))))
def test_forms_of_input_are_the_same(kind):
    x = RNG.standard_normal((12, 5, 1))
    y = (x.sum((1, 2)) > 0).astype(int)
    expected = RNNClassifier(8, max_iter=5, random_state=0).fit(x, y).predict_proba(x)
    given = forms(x)[kind]
    found = RNNClassifier(8, max_iter=5, random_state=0).fit(given, y).predict_proba(given)
    assert np.allclose(expected, found, atol=1e-2 if kind == "integers" else 1e-4)


@pytest.mark.parametrize("kind", ["2d", "3d", "list", "objects"])
def test_a_tagger_returns_the_form_that_it_got(kind):
    x = RNG.standard_normal((12, 5, 1))
    y = (x[..., 0] > 0).astype(int)
    given = forms(x)[kind]
    found = SequenceTagger(8, max_iter=5).fit(given, list(y) if kind == "list" else y).predict(given)
    if kind in ("2d", "3d"):
        assert found.shape == (12, 5)
    else:
        assert type(found) is type(given) and len(found) == 12 and found[0].shape == (5,)


def test_other_lengths_after_a_table():
    """A table's columns are its features for scikit-learn; lists of series have lengths of their own."""
    x = RNG.standard_normal((12, 5))
    classifier = RNNClassifier(8, max_iter=2).fit(x, x[:, 0] > 0)
    assert classifier.n_features_in_ == 5
    with pytest.raises(ValueError, match="X has 4 features, but RNNClassifier is expecting 5"):
        classifier.predict(x[:, :4])
    with pytest.raises(
        ValueError, match=r"here steps; series of other lengths go in as a list of arrays: list\(np.asarray\(X\)\)"
    ):
        classifier.predict(x[:, :4])
    assert classifier.predict([x[0], x[0, :3]]).shape == (2,)
    assert classifier.predict(x[:, :4, None]).shape == (12,)
    classifier.fit([x[0], x[1, :3]], [0, 1])
    assert classifier.n_features_in_ == 1
    assert classifier.predict(x[:, :4]).shape == (12,)


def test_names_of_columns():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(RNG.standard_normal((12, 3)), columns=["a", "b", "c"])
    classifier = RNNClassifier(8, max_iter=2).fit(frame, frame["a"] > 0)
    assert classifier.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(frame[["b", "a", "c"]])
    classifier.fit(X, Y)
    assert not hasattr(classifier, "feature_names_in_") and classifier.n_features_in_ == 2


def test_a_column_of_sequences():
    pd = pytest.importorskip("pandas")
    column = pd.Series(X)
    classifier = RNNClassifier(8, max_iter=2, random_state=0).fit(column, pd.Series(Y))
    assert np.array_equal(classifier.predict_proba(column), classifier.predict_proba(X))


def test_large_offsets_cost_no_digits():
    """Features are scaled in float64, then cast."""
    far = [x + 1e9 for x in X]
    found = [RNNClassifier(8, max_iter=3, dtype="float32", random_state=0).fit(x, Y).predict_proba(x) for x in (X, far)]
    assert np.allclose(*found, atol=1e-4)


BAD = [
    ([x.T for x in X], ValueError, r"shape \(2, 11\), X\[1\] \(2, 8\)\. Are they transposed\? Expected \[T_i, F\]"),
    ([np.ones((4, 2)), np.ones((5, 3))], ValueError, r"of one F, got others: X\[0\] has shape \(4, 2\)"),
    ([np.ones((4, 2)), np.ones((0, 2))], ValueError, r"sequence 1 \(X\[1\]\) has no steps, shape \(0, 2\)"),
    ([np.ones((4, 2)), np.ones(5)], ValueError, r"expected a list of sequences .* X\[0\] \(4, 2\), X\[1\] \(5,\)"),
    ([np.ones((4, 0)), np.ones((5, 0))], ValueError, r"F of at least 1, got shape \(4, 0\)"),
    (np.ones((4, 0, 2)), ValueError, r"expected \[n, T, F\] with T and F of at least 1, got shape \(4, 0, 2\)"),
    (np.ones((2, 3, 4, 5)), ValueError, "dim 4"),
    ([np.ones((4, 2)), np.full((3, 2), "a")], TypeError, r"X\[1\]: expected numbers, got <U1"),
    ([np.ones((4, 2)), np.ones((3, 2)) * 1j], ValueError, r"X\[1\]: Complex data not supported"),
    ([np.ones((4, 2)), [[1, 2], [3]]], ValueError, r"X\[1\]: expected numbers \[T, F\], got lists of diff"),
    ([], ValueError, "X: expected at least one sequence, got an empty list"),
    (np.ones(5), ValueError, r"got 1D array instead, of shape \(5,\): one series alone is \[x\]"),
    ([1.0, 2.0], ValueError, r"got 1D array instead, of shape \(2,\): one series alone is \[x\]"),
    ({"a": 1}, TypeError, r"X: expected an array \[n, T\] or .* a list of sequences \[T_i, F\] or \[T_i\], got"),
]  # fmt: skip


@pytest.mark.parametrize("given, error, message", BAD)
def test_what_is_refused(given, error, message):
    for estimator in RNNClassifier(), RNNForecaster(), PerStep():
        if error is TypeError and isinstance(estimator, PerStep) and isinstance(given, list):
            error, message = ValueError, "could not convert string"  # its transformer's own words
        with pytest.raises(error, match=message):
            estimator.fit(given, np.arange(len(given)))


def test_what_is_not_finite_is_named():
    for bad, what in ((np.nan, "NaN"), (np.inf, "infinity")):
        given = copy.deepcopy(X)
        given[5][2, 1] = bad
        for estimator in RNNClassifier(), RNNRegressor(), SequenceTagger():
            with pytest.raises(ValueError, match=rf"Input X contains {what}.*: sequence 5, step 2, feature 1\. "):
                estimator.fit(given, Y)
    with pytest.raises(ValueError, match=r"too large for float32: sequence 1, step 2\. "):
        RNNRegressor(dtype="float32", standardize=False).fit([[0.0, 1.0], [0.0, 1.0, 1e300]], [1.0, 2.0])
    table = np.ones((4, 3))
    table[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN: sequence 2, step 1\. "):
        RNNClassifier().fit(table, [0, 1, 0, 1])


def test_other_features_than_before():
    classifier = RNNClassifier(8, max_iter=1).fit(X, Y)
    with pytest.raises(
        ValueError, match=r"X has 3 features, but RNNClassifier is expecting 2 features as input, a step"
    ):
        classifier.predict([np.ones((4, 3))])
    with pytest.raises(ValueError, match=r"X\[0\] has shape \(2, 7\), expected \[T, 2\]\. Are sequences transposed\?"):
        classifier.predict([np.ones((2, 7))])
    with pytest.raises(ValueError, match=r"X has 1 features.* rows of a 2-D array are series of one feature"):
        classifier.predict(np.ones((4, 7)))


def test_targets_that_are_refused():
    cases = [
        (RNNClassifier(), Y[:-1], "expected 60 labels, one for each sequence, got 59"),
        (RNNClassifier(), None, "requires y to be passed, but the target y is None"),
        (RNNRegressor(), np.ones((60, 2, 2)), "dim 3"),
        (RNNRegressor(), np.ones(59), "expected 60 rows"),
        (
            SequenceTagger(),
            Y,
            r"expected labels of each step, \[T_i\], got one of a sequence, y\[0\] = .*RNNClassifier",
        ),
        (SequenceTagger(), LABELS[:-1], "expected labels of 60 sequences, got 59"),
        (SequenceTagger(), [["a"]] * 60, r"expected 11 labels for the 11 steps of sequence 0, got shape \(1,\)"),
        (SequenceTagger(), None, "requires y"),
    ]
    for estimator, y, message in cases:
        with pytest.raises(ValueError, match=message):
            estimator.fit(X, y)
    with pytest.raises(ValueError, match=r"series of 6 steps at least, one and the horizon=5 .* got 4 in series 1"):
        RNNForecaster(5).fit([np.ones(8), np.ones(4)])


PARAMETERS = [
    ({"hidden_size": 0}, ValueError), ({"max_iter": 0}, ValueError), ({"max_iter": 2.5}, TypeError),
    ({"cell": "lstn"}, ValueError), ({"pooling": "first"}, ValueError), ({"dropout": 1.0}, ValueError),
    ({"learning_rate": "adaptive"}, ValueError), ({"learning_rate_init": 0}, ValueError), ({"alpha": -1}, ValueError),
    ({"batch_size": 0}, ValueError), ({"batch_size": "all"}, ValueError), ({"dtype": "float16"}, TypeError),
    ({"n_jobs": 0}, ValueError), ({"n_jobs": "all"}, TypeError), ({"clip_norm": 0}, ValueError),
    ({"n_iter_no_change": 0}, ValueError), ({"label_smoothing": 1}, ValueError), ({"num_layers": 0}, ValueError),
    ({"early_stopping": True, "validation_fraction": 0}, ValueError), ({"warm_start": "yes"}, TypeError),
]  # fmt: skip


@pytest.mark.parametrize("given, error", PARAMETERS, ids=str)
def test_parameters_are_checked_in_fit(given, error):
    estimator = RNNClassifier(**given)
    with pytest.raises(error, match=f"^{next(reversed(given))}"):
        estimator.fit(X, Y)
