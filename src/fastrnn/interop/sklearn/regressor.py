"""RNNRegressor: numbers from a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array

from fastrnn.interop.sklearn._base import Examples, Recurrent, fitted_scaler
from fastrnn.interop.sklearn._input import Sequences
from fastrnn.interop.sklearn._labels import required
from fastrnn.models.regressor import SequenceRegressor

__all__ = ["RNNRegressor"]


class RNNRegressor(MultiOutputMixin, RegressorMixin, Recurrent):
    """Tell numbers from sequences with a recurrent network, by mean squared error.

    Parameters
    ----------
    hidden_size, cell, num_layers, bidirectional, pooling, dropout, cell_options, standardize, learning_rate, \
    learning_rate_init, alpha, clip_norm, batch_size, max_iter, shuffle, tol, n_iter_no_change, early_stopping, \
    validation_fraction, warm_start, dtype, random_state, n_jobs, verbose
        As for `RNNClassifier`; `standardize` scales the targets, too.

    Attributes
    ----------
    model_ : fr.models.SequenceRegressor
    scaler_, target_scaler_ : StandardScaler or None
        Of features and of targets.
    n_outputs_ : int
    loss_curve_, n_iter_, …
        As for `RNNClassifier`. Losses are of scaled targets, so that 1 is the variance; validation scores are R².

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.interop.sklearn import RNNRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((n, 2)) for n in rng.integers(3, 12, 80)]
    >>> y = np.array([[x[0, 0], x[:, 1].mean()] for x in X])
    >>> regressor = RNNRegressor(32, random_state=0).fit(X, y)
    >>> regressor.score(X, y) > 0.8, regressor.predict(X[:3]).shape
    (True, (3, 2))
    """

    _least_held_out = 2

    def __init__(
        self,
        hidden_size: int = 64,
        *,
        cell: Any = "gru",
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "both",
        dropout: float = 0.0,
        cell_options: Any = None,
        standardize: bool = True,
        learning_rate: str = "cosine",
        learning_rate_init: float = 5e-3,
        alpha: float = 1e-2,
        clip_norm: float | None = 1.0,
        batch_size: Any = "auto",
        max_iter: int = 100,
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        dtype: Any = "float64",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self._take(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNRegressor:
        """Train.

        Parameters
        ----------
        X : array [n, T] or [n, T, F], or list of [T_i, F] or [T_i]
        y : array [n] or [n, K]
            Numbers, one or several of each sequence.
        sample_weight : array [n], optional
            A weight a sequence; 0 is as good as not there.

        Returns
        -------
        RNNRegressor
            Itself.
        """
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNRegressor:
        """Train for one epoch on what is given, as for `fit`. Means and spreads stay those of the first call."""
        self._fit(X, y, sample_weight, partial=True)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The numbers of each sequence, [n] or [n, K] as `y` was."""
        found = self._outputs(self._scaled(self._read(X)))
        if self.target_scaler_ is not None:
            found = found * self.target_scaler_.scale_ + self.target_scaler_.mean_
        numbers: NDArray[Any] = found[:, 0] if self._one_number else found
        return numbers

    # ---- for the base

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        required(self, y)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if len(numbers) != len(found):
            raise ValueError(f"y: expected {len(found)} rows, one for each sequence, got {len(numbers)}")
        rows = numbers.reshape(len(numbers), -1)
        if reset:
            self.n_outputs_ = rows.shape[1]
        elif rows.shape[1] != self.n_outputs_:
            raise ValueError(f"y: expected [n, {self.n_outputs_}], as in the first fit, got shape {numbers.shape}")
        self._one_number = numbers.ndim == 1
        return list(rows)

    def _fit_scaler(self, found: Sequences, targets: list[Any], weight: NDArray[Any] | None) -> None:
        super()._fit_scaler(found, targets, weight)
        self.target_scaler_ = None
        if self.standardize:
            self.target_scaler_ = fitted_scaler("y", np.array(targets), weight)

    def _scaled_targets(self, targets: list[Any]) -> list[Any]:
        rows = np.array(targets)
        if self.target_scaler_ is not None:
            rows = self.target_scaler_.transform(rows)
        return list(rows.astype(self.dtype))

    def _make_model(self, seed: int) -> SequenceRegressor:
        return SequenceRegressor(
            self._step_size, self.n_outputs_, self.hidden_size, cell=self.cell, cell_options=self.cell_options,
            num_layers=self.num_layers, bidirectional=self.bidirectional, pooling=self.pooling, dropout=self.dropout,
            dtype=self.dtype, seed=seed,
        )  # fmt: skip

    def _validation_score(self, held_out: Examples) -> float:
        return float(r2_score(np.array(held_out.targets), self._outputs(held_out.items), sample_weight=held_out.weight))
