"""PerStep, sequences and make_windows."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler

from fastrnn.interop.sklearn import PerStep, RNNClassifier, RNNRegressor, make_windows, sequences

RNG = np.random.default_rng(0)
X = [RNG.standard_normal((n, 3)) * [1, 10, 100] + [0, 5, 7] for n in (4, 9, 1, 6)]

# ---- PerStep


def test_it_is_what_the_transformer_makes_of_all_steps():
    steps = np.concatenate(X)
    expected = StandardScaler().fit_transform(steps)
    for found in (PerStep().fit_transform(X), PerStep(StandardScaler()).fit_transform(tuple(X))):
        assert [len(x) for x in found] == [4, 9, 1, 6] and np.allclose(np.concatenate(found), expected)
    cube = RNG.standard_normal((5, 4, 3))
    found = PerStep(PCA(2, random_state=0)).fit_transform(cube)
    assert np.allclose(found.reshape(20, 2), PCA(2, random_state=0).fit_transform(cube.reshape(20, 3)))


def test_forms():
    flat = RNG.standard_normal((5, 4))
    scaled = PerStep().fit_transform(flat)
    assert scaled.shape == (5, 4) and abs(scaled.mean()) < 1e-12 and scaled.std() == pytest.approx(1)
    assert PerStep(PolynomialFeatures(2, include_bias=False)).fit_transform(flat).shape == (5, 4, 2)
    found = PerStep().fit_transform([flat[0], flat[1, :2]])
    assert [x.shape for x in found] == [(4,), (2,)]
    objects = np.empty(4, object)
    objects[:] = X
    found = PerStep().fit_transform(objects)
    assert found.dtype == object and found[1].shape == (9, 3)


GIVEN = {"list": X, "2d": RNG.standard_normal((5, 4)), "3d": RNG.standard_normal((5, 4, 3))}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("transformer", [MinMaxScaler(), None, PCA(whiten=True)], ids=str)
def test_inverse(given, transformer):
    steps = PerStep(transformer).fit(given)
    for back, x in zip(steps.inverse_transform(steps.transform(given)), given, strict=True):
        assert back.shape == x.shape and np.allclose(back, x)
    assert not hasattr(PerStep(PolynomialFeatures()), "inverse_transform")


def test_missing_steps_are_filled():
    given = [x.copy() for x in X]
    given[1][3, 2] = np.nan
    filled = PerStep(SimpleImputer()).fit_transform(given)
    assert filled[1][3, 2] == pytest.approx(np.nanmean(np.concatenate(given)[:, 2]))
    with pytest.raises(ValueError, match=r"Input X contains NaN: sequence 1, step 3, feature 2\. PerStep"):
        PerStep(PCA()).fit(given)
    pipeline = make_pipeline(PerStep(SimpleImputer()), RNNClassifier(4, max_iter=1))
    assert pipeline.fit(given, [0, 1, 0, 1]).predict(given).shape == (4,)


def test_words_become_numbers_and_sparse_becomes_dense():
    words = [[["a"], ["b"]], [["c"], ["a"], ["b"]]]
    found = PerStep(OneHotEncoder()).fit_transform(words)
    assert found[1].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_targets_and_weights_are_those_of_steps():
    y = [0, 1, 0, 1]
    of_steps = [np.full(len(x), label) for x, label in zip(X, y, strict=True)]
    best = PerStep(SelectKBest(k=1)).fit(X, y)
    assert np.array_equal(best.transformer_.scores_, PerStep(SelectKBest(k=1)).fit(X, of_steps).transformer_.scores_)
    expected = SelectKBest(k=1).fit(np.concatenate(X), np.concatenate(of_steps))
    assert np.allclose(best.transformer_.scores_, expected.scores_)
    with pytest.raises(ValueError, match="y: expected 4, one for each sequence, got 3"):
        PerStep(SelectKBest(k=1)).fit(X, y[:3])
    weighted = PerStep().fit(X, sample_weight=[1, 0, 0, 0])
    assert np.allclose(weighted.transformer_.mean_, X[0].mean(0))
    with pytest.raises(TypeError, match="sample_weight"):
        PerStep(PCA()).fit(X, sample_weight=np.ones(4))


def test_names():
    assert PerStep().fit(X).get_feature_names_out().tolist() == ["x0", "x1", "x2"]
    assert PerStep().fit(X).get_feature_names_out(["a", "b", "c"]).tolist() == ["a", "b", "c"]
    assert PerStep(PCA(2)).fit(X).get_feature_names_out().tolist() == ["pca0", "pca1"]
    table = PerStep().fit(np.ones((3, 4)))
    assert table.get_feature_names_out().tolist() == ["x0", "x1", "x2", "x3"]
    with pytest.raises(ValueError, match="input_features: expected 4 names, got 2"):
        table.get_feature_names_out(["a", "b"])


def test_frames_out_of_the_transformer():
    pytest.importorskip("pandas")
    with config_context(transform_output="pandas"):
        assert isinstance(PerStep().fit_transform(X)[0], np.ndarray)


def test_what_is_no_transformer():
    for given in ("standard", RNNClassifier()):
        with pytest.raises(TypeError, match=r"^transformer: expected one such as StandardScaler\(\), got"):
            PerStep(given).fit(X)


def test_another_number_of_features():
    with pytest.raises(ValueError, match="X has 2 features, but PerStep is expecting 3"):
        PerStep().fit(X).transform([x[:, :2] for x in X])


# ---- sequences


def frame():
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(
        {
            "patient": ["b", "a", "b", "c", "a", "b"],
            "day": [3, 1, 1, 1, 2, 2],
            "pulse": [63.0, 70, 61, 80, 71, 62],
            "fever": [True, False, True, False, True, False],
            "state": ["x", "y", "x", "z", "y", "w"],
        }
    )


def test_sequences_of_a_frame():
    found = sequences(frame(), by="patient", sort="day", columns=["pulse", "day"])
    assert [x.tolist() for x in found] == [[[70, 1], [71, 2]], [[61, 1], [62, 2], [63, 3]], [[80, 1]]]
    labels, keys = sequences(frame(), by="patient", sort="day", columns="state", return_keys=True)
    assert [x.tolist() for x in labels] == [["y", "y"], ["x", "w", "x"], ["z"]] and keys.tolist() == ["a", "b", "c"]
    unsorted = sequences(frame(), by="patient", columns="pulse")
    assert [x.tolist() for x in unsorted] == [[70, 71], [63, 61, 62], [80]]
    rest = sequences(frame().drop(columns="state"), by="patient", sort="day")
    assert rest[0].tolist() == [[70, 0], [71, 1]]
    assert keys.tolist() == frame().groupby("patient")["state"].first().index.tolist()


def test_sequences_by_several_columns():
    found, keys = sequences(frame(), by=["patient", "fever"], sort=["day"], columns=["pulse"], return_keys=True)
    assert keys.tolist() == [("a", False), ("a", True), ("b", False), ("b", True), ("c", False)]
    assert [len(x) for x in found] == [1, 1, 1, 2, 1]


def test_sequences_of_categories_of_which_some_are_not_there():
    df = frame()
    df["patient"] = df["patient"].astype("category").cat.set_categories(["c", "b", "a", "z"], ordered=True)
    found, keys = sequences(df, by="patient", sort="day", columns="pulse", return_keys=True)
    assert keys.tolist() == ["c", "b", "a"] and [len(x) for x in found] == [1, 3, 2]


def test_sequences_that_are_refused():
    df = frame()
    with pytest.raises(KeyError, match="by: no column 'id'; there are 'patient', 'day'"):
        sequences(df, by="id")
    with pytest.raises(KeyError, match="sort: no column 'hour'"):
        sequences(df, by="patient", sort="hour")
    with pytest.raises(TypeError, match=r"columns: expected numbers, 'state' has .*; name the columns that you want"):
        sequences(df, by="patient", sort="day")
    with pytest.raises(TypeError, match="df: expected a pandas DataFrame, got"):
        sequences(np.ones((3, 3)), by="patient")
    with pytest.raises(ValueError, match="columns: expected one at least"):
        sequences(df[["patient", "day"]], by="patient", sort="day")
    df.loc[2, "patient"] = None
    with pytest.raises(ValueError, match="by: column 'patient' is missing in row 2"):
        sequences(df, by="patient", columns="pulse")
    assert sequences(frame().iloc[:0], by="patient", columns="pulse") == []


# ---- make_windows


def test_windows():
    x, y = make_windows(np.arange(6), 3, 2)
    assert x.tolist() == [[0, 1, 2], [1, 2, 3]] and y.tolist() == [[3, 4], [4, 5]]
    x, y = make_windows(np.arange(10), 3, stride=4)
    assert x.tolist() == [[0, 1, 2], [4, 5, 6]] and y.tolist() == [[3], [7]]


def test_windows_of_several_features_and_series():
    series = [np.arange(12).reshape(6, 2), np.arange(4).reshape(2, 2), 100 + np.arange(10).reshape(5, 2)]
    x, y = make_windows(series, 3, 1)
    assert x.shape == (5, 3, 2) and y.shape == (5, 1, 2)
    assert x[3].tolist() == [[100, 101], [102, 103], [104, 105]] and y[3].tolist() == [[106, 107]]
    assert np.array_equal(make_windows(series, 3, 1, target=1)[1], y[..., 1])
    assert np.array_equal(make_windows(series, 3, 1, target=-1 + 2)[0], x)


def test_windows_for_any_regressor():
    x, y = make_windows(np.sin(0.3 * np.arange(100)), 8, 3)
    assert LinearRegression().fit(x, y).score(x, y) > 0.999
    assert RNNRegressor(8, max_iter=30, random_state=0).fit(x, y).predict(x).shape == (90, 3)


def test_windows_that_are_refused():
    with pytest.raises(ValueError, match=r"series: expected window \+ horizon = 9 steps at least, the longest has 8"):
        make_windows(np.arange(8), 8)
    with pytest.raises(ValueError, match="target: is a feature of series"):
        make_windows(np.arange(8), 2, target=0)
    with pytest.raises(ValueError, match="target: expected an integer from 0 to 1, got 2"):
        make_windows(np.ones((8, 2)), 2, target=2)
    with pytest.raises(ValueError, match=r"series: expected an array \[T\] or \[T, F\], or a list of such of one F"):
        make_windows([np.ones((8, 2)), np.ones((8, 3))], 2)
    for name in ("window", "horizon", "stride"):
        with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got 0"):
            make_windows(np.ones(8), **{"window": 2, name: 0})
