"""Estimators for scikit-learn: what they learn, what they take and give, what they refuse."""

import copy
import pickle
import re
import signal
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastrnn as fr
from fastrnn.interop.sklearn import PerStep, RNNClassifier, RNNForecaster, RNNRegressor, SequenceTagger

RNG = np.random.default_rng(0)


def ragged(n=60, features=2, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, features)) for length in rng.integers(3, 12, n)]


def signs(X):
    return np.array(["up" if x[:, 0].sum() > 0 else "down" for x in X])


def cumulated(X):
    return [np.where(np.cumsum(x[:, 0]) > 0, "over", "under") for x in X]


def waves(n=8, steps=40, seed=0):
    phases = np.random.default_rng(seed).uniform(0, 6, n)
    return np.sin(0.4 * np.arange(steps) + phases[:, None])


X = ragged()
Y = signs(X)
QUICK = {"hidden_size": 12, "random_state": 0}

# ---- learning


def test_a_classifier():
    classifier = RNNClassifier(16, random_state=0).fit(X, Y)
    test = ragged(seed=1)
    assert classifier.score(test, signs(test)) > 0.85
    assert classifier.classes_.tolist() == ["down", "up"]
    proba = classifier.predict_proba(test)
    assert proba.shape == (60, 2) and np.allclose(proba.sum(1), 1)
    assert np.allclose(np.log(proba), classifier.predict_log_proba(test))
    assert np.array_equal(classifier.decision_function(test) > 0, classifier.predict(test) == "up")
    assert classifier.n_iter_ == len(classifier.loss_curve_) <= 100
    assert classifier.best_loss_ == min(classifier.loss_curve_) < 0.3


def test_a_regressor():
    y = np.array([x[:, 0].mean() for x in X])
    regressor = RNNRegressor(16, random_state=0).fit(X, 1000 + 50 * y)
    assert regressor.score(X, 1000 + 50 * y) > 0.9
    both = RNNRegressor(16, random_state=0).fit(X, np.stack([y, 9 - 3 * y], 1))
    assert both.predict(X).shape == (60, 2)
    assert both.score(X, np.stack([y, 9 - 3 * y], 1)) > 0.9


def test_a_tagger():
    tagger = SequenceTagger(16, random_state=0).fit(X, cumulated(X))
    test = ragged(seed=1)
    found = tagger.predict(test)
    assert isinstance(found, list) and all(len(a) == len(b) for a, b in zip(found, test, strict=True))
    steps = np.concatenate(found) == np.concatenate(cumulated(test))
    assert tagger.score(test, cumulated(test)) == pytest.approx(steps.mean()) and steps.mean() > 0.85
    proba = tagger.predict_proba(test)
    assert proba[3].shape == (len(test[3]), 2) and np.allclose(proba[3].sum(1), 1)


@pytest.mark.parametrize("residual", [True, False])
def test_a_forecaster(residual):
    series = waves() * 20 + 300
    forecaster = RNNForecaster(5, window=16, hidden_size=16, residual=residual, random_state=0).fit(series[:, :-5])
    assert np.abs(forecaster.predict(series[:, :-5]) - series[:, -5:]).max() < 4
    assert forecaster.score(series[:, :-5], series[:, -5:]) > 0.97
    assert forecaster.score([one[:-3] for one in series]) > 0.97  # holds back the last steps itself


def test_a_forecaster_of_several_features_and_lengths():
    series = [np.stack([one[:length], -one[:length]], 1) for one, length in zip(waves(), range(40, 8, -4), strict=True)]
    forecaster = RNNForecaster(3, window=16, hidden_size=16, random_state=0).fit(series)
    found = forecaster.predict(series)
    assert found.shape == (8, 3, 2) and np.abs(found[..., 0] + found[..., 1]).max() < 0.4
    alone = [forecaster.predict([one])[0] for one in series]
    assert np.allclose(found, alone)


# ---- weights


def test_weights_are_repetitions():
    weight = np.tile([0, 1, 2], 20)
    rows = np.repeat(np.arange(60), weight)
    options = {"max_iter": 20, "batch_size": 200, **QUICK}
    cases = [
        (RNNClassifier, Y, "predict_proba"),
        (RNNRegressor, np.array([x.sum() for x in X]), "predict"),
        (SequenceTagger, cumulated(X), "predict_proba"),
        (RNNForecaster, None, "predict"),
    ]
    for kind, y, method in cases:
        repeated = kind(**options).fit([X[k] for k in rows], None if y is None else [y[k] for k in rows])
        weighted = kind(**options).fit(X, y, sample_weight=weight)
        for a, b in zip(getattr(repeated, method)(X), getattr(weighted, method)(X), strict=True):
            assert np.allclose(a, b, rtol=1e-6, atol=1e-8)
        plain = kind(**options).fit(X, y)
        assert not np.allclose(getattr(plain, method)(X)[-1], b)


@pytest.mark.parametrize("bad", [np.ones(59), -np.ones(60), np.zeros(60), np.full(60, np.nan), np.ones((60, 1))])
def test_weights_that_are_refused(bad):
    with pytest.raises(ValueError, match=r"^sample_weight: expected"):
        RNNClassifier().fit(X, Y, sample_weight=bad)


def test_weights_of_classes():
    rare = np.array(["up"] * 6 + ["down"] * 54)
    for kind, y in ((RNNClassifier, rare), (SequenceTagger, [np.full(len(x), label) for x, label in zip(X, rare)])):
        found = {}
        for weights in (None, "balanced", {"up": 50.0, "down": 1.0}):
            estimator = kind(class_weight=weights, max_iter=4, **QUICK).fit(X, y)
            found[str(weights)] = np.mean([np.mean(p[..., 1]) for p in estimator.predict_proba(X)])
        plain, balanced, heavy = found.values()
        assert plain < balanced < heavy
    with pytest.raises(ValueError, match="class_weight"):
        RNNClassifier(class_weight="balanced").partial_fit(X, Y, classes=["up", "down"])


def test_class_weights_of_labels_that_are_not_there():
    """What `class_weight` names may be missing in a part of the data, or have weight 0."""
    numbers = np.arange(len(X)) % 3
    rest = numbers != 1
    parts = RNNClassifier(class_weight={1: 5.0}, **QUICK).partial_fit(X, numbers, classes=[0, 1, 2])
    parts.partial_fit([x for x, some in zip(X, rest) if some], numbers[rest])
    RNNClassifier(class_weight={1: 5.0}, max_iter=2, **QUICK).fit(X, numbers, sample_weight=rest.astype(float))
    tagger = SequenceTagger(class_weight={1: 5.0}, max_iter=2, **QUICK)
    tagger.partial_fit(X, [np.full(len(x), number) for x, number in zip(X, numbers)])
    tagger.partial_fit(X[:1], [np.zeros(len(X[0]), int)])
    with pytest.raises(ValueError, match="class_weight"):
        RNNClassifier(class_weight={7: 5.0}, **QUICK).fit(X, numbers)


# ---- what can't be learned


def test_early_stopping_without_a_score():
    """R² of one number isn't defined."""
    with pytest.raises(ValueError, match=r"^early_stopping: validation_fraction=0.1 holds back one example"):
        RNNRegressor(early_stopping=True, **QUICK).fit(X[:8], np.arange(8.0))
    series = [np.sin(np.arange(9.0))]
    with pytest.raises(ValueError, match=r"^early_stopping: .* holds back one example"):
        RNNForecaster(early_stopping=True, **QUICK).fit(series)
    forecaster = RNNForecaster(2, early_stopping=True, max_iter=2, **QUICK).fit(series)
    assert np.isfinite(forecaster.validation_scores_).all()


@pytest.mark.filterwarnings("ignore:step 1 was skipped", "ignore:overflow", "ignore:invalid")
def test_a_training_that_diverges_is_an_error():
    with pytest.raises(FloatingPointError, match="not finite in any step of epoch"):
        RNNRegressor(learning_rate_init=1e60, max_iter=30, **QUICK).fit(X, np.arange(60.0))


def test_numbers_whose_variance_overflows():
    with pytest.raises(ValueError, match=r"^X: numbers up to .* are too large for their variance"):
        RNNClassifier(**QUICK).fit([x * 1e200 for x in X], Y)
    with pytest.raises(ValueError, match=r"^y: numbers up to"):
        RNNRegressor(**QUICK).fit(X, np.arange(60.0) * 1e200)


# ---- training in parts


def test_partial_fit():
    parts = RNNClassifier(max_iter=1, learning_rate="constant", **QUICK)
    with pytest.raises(ValueError, match=r"^classes: the first call"):
        parts.partial_fit(X, Y)
    for _ in range(30):
        parts.partial_fit(X, Y, classes=["up", "down", "neither"])
    assert parts.n_iter_ == len(parts.loss_curve_) == 30 and parts.loss_curve_[-1] < parts.loss_curve_[0]
    assert parts.predict_proba(X).shape == (60, 3)
    with pytest.raises(ValueError, match=r"^y: expected labels of 'down', 'neither', 'up', got 'sideways'"):
        parts.partial_fit(X, ["sideways"] * 60)
    with pytest.raises(ValueError, match=r"^classes: expected those of the first call"):
        parts.partial_fit(X, Y, classes=["up", "down"])
    with pytest.raises(ValueError, match=r"^early_stopping"):
        clone(parts).set_params(early_stopping=True).partial_fit(X, Y, classes=["up", "down"])


@pytest.mark.parametrize("how", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy], ids=["pickle", "copy"])
def test_partial_fit_goes_on_after_pickling(how):
    one = RNNRegressor(**QUICK)
    y = np.array([x.sum() for x in X])
    for _ in range(3):
        one.partial_fit(X, y)
    other = how(one)
    for estimator in (one, other):
        estimator.partial_fit(X, y).partial_fit(X, y)
    assert np.array_equal(one.predict(X), other.predict(X)) and one.loss_curve_ == other.loss_curve_


def test_joblib(tmp_path):
    tagger = SequenceTagger(max_iter=2, **QUICK).fit(X, cumulated(X))
    joblib.dump(tagger, tmp_path / "tagger")
    for mode in (None, "r"):
        loaded = joblib.load(tmp_path / "tagger", mmap_mode=mode)
        assert all(map(np.array_equal, loaded.predict_proba(X), tagger.predict_proba(X)))


def test_warm_start():
    warm = RNNClassifier(max_iter=5, warm_start=True, **QUICK).fit(X, Y)
    warm.fit(X, Y)
    assert warm.n_iter_ == len(warm.loss_curve_) == 10 and warm.loss_curve_[9] < warm.loss_curve_[4]
    cold = RNNClassifier(max_iter=5, **QUICK).fit(X, Y).fit(X, Y)
    assert cold.n_iter_ == 5 and cold.loss_curve_ == warm.loss_curve_[:5]
    with pytest.raises(ValueError, match=r"^hidden_size: the network to go on with has 12, got 8"):
        warm.set_params(hidden_size=8).fit(X, Y)
    warm.set_params(warm_start=False).fit(X, Y)
    assert warm.n_iter_ == 5


# ---- when it ends


def test_early_stopping():
    options = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 3, "max_iter": 200, **QUICK}
    y = np.array([x[:, 0].mean() for x in X])
    cases = [
        (RNNClassifier, X, Y),
        (RNNRegressor, X, y),
        (SequenceTagger, X, cumulated(X)),
        (RNNForecaster, waves(), None),
    ]
    for kind, given, target in cases:
        found = kind(**options).fit(given, target)
        assert 5 <= found.n_iter_ == len(found.validation_scores_) < 200
        assert found.best_validation_score_ == max(found.validation_scores_) <= 1 and found.best_loss_ is None
        best = int(np.argmax(found.validation_scores_))
        shorter = kind(**options).set_params(max_iter=best + 1, learning_rate="constant")
        constant = kind(**options).set_params(learning_rate="constant").fit(given, target)
        best = int(np.argmax(constant.validation_scores_))
        with pytest.warns(ConvergenceWarning):
            shorter.set_params(max_iter=best + 1).fit(given, target)
        for a, b in zip(shorter.predict(given), constant.predict(given), strict=True):
            assert np.array_equal(a, b)  # the weights of the best epoch are kept


def test_too_few_to_stop_early():
    with pytest.raises(ValueError, match=r"^early_stopping: can't hold back validation_fraction=0\.1 of 6 sequences: "):
        RNNClassifier(early_stopping=True).fit(X[:6], [0, 1, 2] * 2)
    with pytest.raises(ValueError, match=r"^early_stopping: series are too short"):
        RNNForecaster(early_stopping=True, window=3).fit([np.arange(4.0)])


def test_the_end_of_training():
    with pytest.warns(ConvergenceWarning, match="max_iter=3 epochs are over and training hasn't converged"):
        RNNClassifier(max_iter=3, learning_rate="constant", **QUICK).fit(X, Y)
    quiet = RNNClassifier(max_iter=300, learning_rate="constant", tol=0.05, **QUICK).fit(X, Y)
    assert 10 < quiet.n_iter_ < 300  # it stops by itself, and doesn't warn


def test_an_interrupt_keeps_what_was_learned():
    class Interrupted(list):
        """Batches; the fifth epoch's is followed by Ctrl-C."""

        epochs = 0

        def __iter__(self):
            Interrupted.epochs += 1
            if Interrupted.epochs == 5:
                signal.raise_signal(signal.SIGINT)
            return super().__iter__()

    class Watched(RNNClassifier):
        def _batches(self, examples):
            return Interrupted(super()._batches(examples))

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        found = Watched(max_iter=40, **QUICK).fit(X, Y)
    assert 4 <= found.n_iter_ <= 5 == Interrupted.epochs and found.predict(X).shape == (60,)


def test_a_progress_bar(capsys):
    RNNClassifier(max_iter=4, verbose=True, **QUICK).fit(X, Y)
    error = capsys.readouterr().err
    assert re.fullmatch(r"4 epochs in 0:0\d, loss 0\.\d+\n", error)
    RNNClassifier(max_iter=4, **QUICK).fit(X, Y)
    assert capsys.readouterr().err == ""


def test_nothing_is_there_before_fit():
    for estimator in RNNClassifier(), RNNRegressor(), SequenceTagger(), RNNForecaster(), PerStep():
        with pytest.raises(NotFittedError):
            getattr(estimator, "predict", getattr(estimator, "transform", None))(X)


# ---- one seed, one result


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_seeds_and_types(dtype):
    a, b, c = (
        RNNClassifier(8, dtype=dtype, max_iter=3, random_state=seed).fit(X, Y).predict_proba(X) for seed in (0, 0, 1)
    )
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert a.dtype == dtype
    assert RNNClassifier(8, dtype=np.dtype(dtype), max_iter=3).fit(X, Y).predict_proba(X).dtype == dtype


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "sru", "qrnn", "mingru", "minlstm", "lru", "indrnn"])
def test_cells(cell):
    assert RNNClassifier(8, cell=cell, max_iter=2).fit(X, Y).predict(X).shape == (60,)


# ---- in scikit-learn's company


class Small(RNNClassifier):
    """A user's own, with parameters of its own."""

    def __init__(self, size=4):
        super().__init__(size, max_iter=2)
        self.size = size


def test_subclasses_with_parameters_of_their_own():
    assert clone(Small(5)).fit(X, Y).model_.rnn.hidden_size == 5


def test_pipelines_and_searches_of_ragged_lists():
    y = Y
    pipeline = make_pipeline(PerStep(StandardScaler()), RNNClassifier(max_iter=3, **QUICK))
    search = GridSearchCV(pipeline, {"rnnclassifier__hidden_size": [4, 8]}, cv=2).fit(X, y)
    assert search.best_params_["rnnclassifier__hidden_size"] in (4, 8)
    labels = [found.tolist() for found in cumulated(X)]
    for target in (labels, cumulated(X)):  # lists of lists, which look like another thing to scikit-learn, and arrays
        assert len(cross_val_score(SequenceTagger(max_iter=2, **QUICK), X, target, cv=3)) == 3
    assert len(cross_val_score(RNNForecaster(max_iter=2, hidden_size=8), waves(), cv=2)) == 2


def test_one_label_a_row_is_said():
    with pytest.warns(UserWarning, match="each row is a sequence of one step"):
        tagger = SequenceTagger(8, max_iter=2).fit(np.ones((6, 3)), [0, 1, 0, 1, 0, 1])
    assert tagger.predict(np.ones((6, 3))).shape == (6,)


# ---- threads


def test_threads_are_put_back():
    before, seen = fr.get_num_threads(), []

    class Watched(RNNClassifier):
        def _batches(self, examples):
            seen.append(fr.get_num_threads())
            return super()._batches(examples)

    for n_jobs, expected in ((3, 3), (1, 1), (None, before), (-1, fr.info()["cpus"])):
        Watched(8, max_iter=1, n_jobs=n_jobs).fit(X, Y)
        assert seen.pop() == expected and fr.get_num_threads() == before
    with pytest.raises(ValueError, match=r"needs all labels|requires y"):
        Watched(8, n_jobs=3).fit(X, None)
    assert fr.get_num_threads() == before


def test_threads_of_several_fits_at_once():
    from fastrnn.interop.sklearn._threads import limited

    before = fr.get_num_threads()
    inside, outside, seen = threading.Event(), threading.Event(), []

    def work():
        with limited(1):
            inside.set()
            outside.wait(10)
            seen.append(fr.get_num_threads())

    thread = threading.Thread(target=work)
    with limited(3):
        thread.start()
        inside.wait(10)
        assert fr.get_num_threads() == 1  # the least that one of them asked for
    outside.set()
    thread.join()
    assert seen == [1] and fr.get_num_threads() == before
