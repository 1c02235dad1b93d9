"""scikit-learn's own checks: all pass, on every estimator, with settings as they are by default.

Here with fewer epochs where no check asks how well something was learned, for time; the last test takes the defaults.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("sklearn")

from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastrnn.interop.sklearn import PerStep, RNNClassifier, RNNForecaster, RNNRegressor, SequenceTagger


class TaggerAsClassifier(ClassifierMixin, SequenceTagger):
    """With one label a row the tagger is a classifier: it passes the checks of classifiers, too."""


ESTIMATORS = [
    RNNClassifier(),
    RNNClassifier(16, cell="gru", learning_rate="constant", max_iter=40),
    RNNRegressor(),
    RNNRegressor(16, cell="rnn", pooling="last", bidirectional=False, standardize=False),
    SequenceTagger(16),
    TaggerAsClassifier(16),
    RNNForecaster(max_iter=10),
    RNNForecaster(window=2, residual=False, hidden_size=8, max_iter=10, batch_size=1000),
    PerStep(),
    PerStep(MinMaxScaler()),
    PerStep(PCA(1)),
]
# The array API is checked by the process at the end: it is chosen when SciPy is imported.
HERE = "ignore:.*one label a row:UserWarning", "ignore:.*hasn't converged"


@pytest.mark.filterwarnings(*HERE)
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn(estimator, check):
    if "array_api" in str(check) and os.environ.get("SCIPY_ARRAY_API") != "1":
        assert "numpy" in str(check)  # the one of the test below
        return
    check(estimator)


def test_arrays_of_the_array_api():
    code = """if True:
        import warnings; warnings.simplefilter("ignore")
        from unittest import SkipTest
        from sklearn.utils.estimator_checks import estimator_checks_generator
        from fastrnn.interop.sklearn import *
        for estimator in RNNClassifier(max_iter=2), RNNRegressor(max_iter=2), SequenceTagger(max_iter=2), \
                RNNForecaster(max_iter=2), PerStep():
            checks = [(e, check) for e, check in estimator_checks_generator(estimator) if "array_api" in str(check)]
            if not checks:
                print("scikit-learn has no such checks yet")
            for estimator, check in checks:
                try:
                    check(estimator)
                except SkipTest as reason:
                    print(reason)
    """
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    command = [sys.executable, "-c", code]
    skipped = subprocess.run(
        command, env=environment, check=True, timeout=120, stdout=subprocess.PIPE, text=True
    ).stdout
    if skipped:  # by scikit-learn itself: older ones have none, or need array_api_compat
        pytest.skip(skipped)


@pytest.mark.parametrize("estimator", [RNNClassifier(), RNNRegressor(), PerStep(StandardScaler())], ids=str)
def test_many_checks_are_there(estimator):
    assert len(list(estimator_checks_generator(estimator))) >= 45
