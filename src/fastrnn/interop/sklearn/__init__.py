"""scikit-learn: estimators over sequences, and what pipelines of them need.

Sequences come as a 2-D array (n univariate series), a 3-D array [n, T, F], or a list of [T_i, F] or [T_i].

Examples
--------
>>> import numpy as np
>>> from fastrnn.interop.sklearn import RNNClassifier
>>> rng = np.random.default_rng(0)
>>> X = [rng.standard_normal((n, 2)) for n in rng.integers(3, 12, 60)]
>>> y = np.array(["up" if x[:, 0].sum() > 0 else "down" for x in X])
>>> classifier = RNNClassifier(16, max_iter=30, random_state=0).fit(X, y)
>>> classifier.score(X, y) > 0.9
True
"""

from __future__ import annotations

from fastrnn.interop import needed

needed("sklearn", "scikit-learn", "scikit-learn")

import sklearn  # noqa: E402

if tuple(int(part) for part in sklearn.__version__.split(".")[:2]) < (1, 6):
    raise ImportError(
        f"scikit-learn 1.6 or newer is needed, {sklearn.__version__} is installed: pip install -U scikit-learn",
        name="sklearn",
    )

from fastrnn.interop.sklearn.classifier import RNNClassifier  # noqa: E402
from fastrnn.interop.sklearn.forecaster import RNNForecaster  # noqa: E402
from fastrnn.interop.sklearn.frames import make_windows, sequences  # noqa: E402
from fastrnn.interop.sklearn.per_step import PerStep  # noqa: E402
from fastrnn.interop.sklearn.regressor import RNNRegressor  # noqa: E402
from fastrnn.interop.sklearn.tagger import SequenceTagger  # noqa: E402

__all__ = [
    "PerStep",
    "RNNClassifier",
    "RNNForecaster",
    "RNNRegressor",
    "SequenceTagger",
    "make_windows",
    "sequences",
]
