"""What a fit that fails leaves behind."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from fastrnn.interop.sklearn import RNNRegressor


def test_a_fit_that_fails_leaves_what_was_fitted():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 5, 2)), rng.standard_normal(20)
    regressor = RNNRegressor(4, max_iter=2, random_state=0).fit(X, y)
    expected = regressor.predict(X)
    regressor.set_params(early_stopping=True)
    with pytest.raises(ValueError, match="early_stopping"):  # late: when the new network is there
        regressor.fit(rng.standard_normal((8, 5, 3)), rng.standard_normal((8, 2)))
    assert regressor.n_features_in_ == 2 and len(regressor.loss_curve_) == 2
    assert np.array_equal(regressor.predict(X), expected)
