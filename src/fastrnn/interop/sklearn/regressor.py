"""RNNRegressor: numbers from a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

from fastrnn.interop.sklearn._base import Examples, Recurrent
from fastrnn.interop.sklearn._input import Sequences
from fastrnn.interop.sklearn._labels import required
from fastrnn.models.regressor import SequenceRegressor

__all__ = ["RNNRegressor"]


class RNNRegressor(MultiOutputMixin, RegressorMixin, Recurrent):
    """Predict numbers from sequences with a recurrent network.

    Examples
    --------
    >>> from fastrnn.interop.sklearn import RNNRegressor
    >>> RNNRegressor()
    RNNRegressor()
    """

    def __init__(
        self,
        hidden_size: int = 64,
        *,
        cell: Any = "lstm",
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
        max_iter: int = 60,
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
        """Train."""
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNRegressor:
        """Train for one epoch."""
        self._fit(X, y, sample_weight, partial=True)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Numbers."""
        found = self._outputs(self._scaled(self._read(X)))
        if self.target_scaler_ is not None:
            found = found * self.target_scaler_.scale_ + self.target_scaler_.mean_
        return found[:, 0] if self._one_number else found

    # ---- for the base

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        required(self, y)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if len(numbers) != len(found):
            raise ValueError(f"y: expected {len(found)} rows, one for each sequence, got {len(numbers)}")
        rows = numbers.reshape(len(numbers), -1)
        if reset:
            self._one_number, self.n_outputs_ = numbers.ndim == 1, rows.shape[1]
        elif rows.shape[1] != self.n_outputs_ or (numbers.ndim == 1) != self._one_number:
            expected = "[n]" if self._one_number else f"[n, {self.n_outputs_}]"
            raise ValueError(f"y: expected {expected}, as in the first fit, got shape {numbers.shape}")
        return list(rows)

    def _fit_scaler(self, found: Sequences, targets: list[Any], weight: NDArray[Any] | None) -> None:
        super()._fit_scaler(found, targets, weight)
        self.target_scaler_ = None
        if self.standardize:
            self.target_scaler_ = StandardScaler().fit(np.array(targets), sample_weight=weight)

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
