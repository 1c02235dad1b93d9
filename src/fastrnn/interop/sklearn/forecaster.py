"""RNNForecaster: how series go on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score

from fastrnn import _check
from fastrnn.interop.sklearn._base import Examples, Recurrent, fitted_scaler, row_weights
from fastrnn.interop.sklearn._input import Sequences
from fastrnn.models.regressor import SequenceRegressor

__all__ = ["RNNForecaster"]

WINDOW = 48  # the most steps that "auto" looks back on


class RNNForecaster(Recurrent):
    """Tell how series go on: a recurrent network reads a window of steps and tells the `horizon` steps that follow.

    Parameters
    ----------
    horizon : int
        Steps to tell.
    window : int or "auto"
        Steps that the network looks back on; "auto" is half of the longest series, at most 48. A series that is
        shorter is read from its first step on.
    residual : bool
        Learn how far the next steps are from the last one known, rather than where they are: what a series that
        wanders or grows needs. Without it a forecast falls back to what was usual in training.
    hidden_size, cell, num_layers, bidirectional, pooling, dropout, cell_options, standardize
        As for `RNNClassifier`, with other defaults. `standardize` scales what is told, too.
    learning_rate, learning_rate_init, alpha, clip_norm, batch_size, max_iter, shuffle, tol, n_iter_no_change, \
    early_stopping, validation_fraction, warm_start, dtype, random_state, n_jobs, verbose
        As for `RNNClassifier`; a batch is of windows, and "auto" takes up to 512 of them at once. `early_stopping`
        holds back the last windows of each series.

    Attributes
    ----------
    horizon_, window_ : int
        As they are used.
    model_, loss_curve_, n_iter_, …
        As for `RNNClassifier`. Losses and validation scores are of what the network tells: scaled changes, of which 1
        is the variance.

    Notes
    -----
    A 2-D array is n univariate series of one length, and scikit-learn takes its columns for features: `predict` then
    wants as many. Lists of series may have any lengths, in `fit` and in `predict`. One series alone is ``[series]``.
    `y` isn't used in `fit`: what is to be learned is in the series.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.interop.sklearn import RNNForecaster
    >>> series = np.sin(0.4 * np.arange(120))
    >>> forecaster = RNNForecaster(horizon=6, hidden_size=16, random_state=0).fit([series[:-6]])
    >>> forecaster.predict([series[:-6]]).shape
    (1, 6)
    >>> bool(np.abs(forecaster.predict([series[:-6]]) - series[-6:]).max() < 0.2)
    True
    """

    _one_batch = 512

    def __init__(
        self,
        horizon: int = 1,
        *,
        window: Any = "auto",
        residual: bool = True,
        hidden_size: int = 64,
        cell: Any = "gru",
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        cell_options: Any = None,
        standardize: bool = True,
        learning_rate: str = "cosine",
        learning_rate_init: float = 5e-3,
        alpha: float = 1e-2,
        clip_norm: float | None = 1.0,
        batch_size: Any = "auto",
        max_iter: int = 200,
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

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> RNNForecaster:
        """Learn from all windows of the series.

        Parameters
        ----------
        X : array [n, T] or [n, T, F], or list of [T_i, F] or [T_i]
            Series of more than `horizon` steps.
        y : ignored
            For scikit-learn's convention.
        sample_weight : array [n], optional
            A weight a series.

        Returns
        -------
        RNNForecaster
            Itself.
        """
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> RNNForecaster:
        """Learn for one epoch; arguments as for `fit`. Means and spreads stay those of the first call."""
        self._fit(X, y, sample_weight, partial=True)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The next `horizon` steps after the end of each series.

        Parameters
        ----------
        X : as for `fit`
            Of any lengths; only the last `window_` steps are read.

        Returns
        -------
        array, [n, horizon], or [n, horizon, F] for series [T, F]
        """
        found = self._read(X)
        made = self._continued(found)
        return made[..., 0] if found.flat else made

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R² of the next steps, those of all series together; with several features their mean.

        Parameters
        ----------
        X : as for `fit`
        y : array [n, horizon] or [n, horizon, F], optional
            What follows. Without it the last `horizon` steps of each series are held back and told from those before,
            so that `cross_val_score` and `GridSearchCV` need the series alone.
        sample_weight : array [n], optional
        """
        found = self._read(X)
        if y is None:
            self._check_lengths(found)
            items = found.items
            after = np.stack([item[-self.horizon_ :] for item in items])
            before = [item[: -self.horizon_] for item in items]
            found = Sequences(np.concatenate(before), found.lengths - self.horizon_, found.form, found.flat)
        else:
            after = np.asarray(y, np.float64)
            shape = (len(found), self.horizon_, found.steps.shape[1])
            if after.size != np.prod(shape) or len(after) != len(found):
                raise ValueError(f"y: expected the steps that follow, {list(shape)}, got shape {after.shape}")
            after = after.reshape(shape)
        return self._r2(after, self._continued(found), row_weights(sample_weight, len(found)))

    # ---- for the base

    def _check_parameters(self, partial: bool) -> None:
        super()._check_parameters(partial)
        _check.positive_int(self.horizon, "horizon")
        if self.window != "auto":
            if isinstance(self.window, str):
                raise ValueError(f"window: expected a positive integer or 'auto', got {self.window!r}")
            _check.positive_int(self.window, "window")

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        if reset:
            self.horizon_ = int(self.horizon)
            self._least_held_out = 2 if self.horizon_ == 1 else 1
            half = int(found.lengths.max()) // 2
            self.window_ = max(1, min(WINDOW, half)) if self.window == "auto" else int(self.window)
        self._check_lengths(found)
        return found.items

    def _check_lengths(self, found: Sequences) -> None:
        short = np.flatnonzero(found.lengths <= self.horizon_)
        if len(short):
            columns = f" (an array with {found.lengths[0]} feature(s))" if found.form == "2d" else ""
            raise ValueError(
                f"X: expected series of {self.horizon_ + 1} steps at least, one and the horizon={self.horizon_} that "
                f"follow, got {found.lengths[short[0]]} in series {short[0]}{columns}"
            )

    def _windows(self, items: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], NDArray[Any], NDArray[Any]]:
        """(windows, the steps after each [N, horizon, F], the series that each is of).

        A series that is too short for a whole window gives one, with all that comes before its last steps.
        """
        windows, after, series = [], [], []
        for number, item in enumerate(items):
            for end in range(min(self.window_, len(item) - self.horizon_), len(item) - self.horizon_ + 1):
                windows.append(item[max(0, end - self.window_) : end])
                after.append(item[end : end + self.horizon_])
                series.append(number)
        return windows, np.stack(after), np.array(series)

    def _changes(self, windows: list[NDArray[Any]], after: NDArray[Any]) -> NDArray[Any]:
        """What the network tells, [N, horizon·F]: how far the steps are from the window's last one."""
        last = np.stack([window[-1:] for window in windows]) if self.residual else 0.0
        return (after - last).reshape(len(windows), -1)

    def _fit_scaler(self, found: Sequences, targets: list[Any], weight: NDArray[Any] | None) -> None:
        super()._fit_scaler(found, targets, weight)
        self.target_scaler_ = None
        if self.standardize:
            windows, after, series = self._windows(targets)
            of_windows = None if weight is None else weight[series]
            self.target_scaler_ = fitted_scaler("X", self._changes(windows, after), of_windows)

    def _examples(self, found: Sequences, targets: list[Any], weight: NDArray[Any] | None) -> Examples:
        changes = self._changes(*self._windows(targets)[:2])
        if self.target_scaler_ is not None:
            changes = self.target_scaler_.transform(changes)
        windows, _, self._series = self._windows(self._scaled(found))
        return Examples(windows, list(changes.astype(self.dtype)), None if weight is None else weight[self._series])

    def _split(self, examples: Examples) -> tuple[Examples, Examples]:
        """The last windows of each series are to validate with: they are what the first ones don't know."""
        rows = [np.flatnonzero(self._series == number) for number in np.unique(self._series)]
        ends = [len(some) - int(np.ceil(self.validation_fraction * len(some))) for some in rows]
        learned = np.concatenate([some[:end] for some, end in zip(rows, ends, strict=True)])
        if not len(learned):
            raise ValueError("early_stopping: series are too short to hold back some of their windows")
        held_out = np.concatenate([some[end:] for some, end in zip(rows, ends, strict=True)])
        return examples.pick(learned), examples.pick(held_out)

    def _make_model(self, seed: int) -> SequenceRegressor:
        return SequenceRegressor(
            self._step_size, self.horizon_ * self._step_size, self.hidden_size, cell=self.cell,
            cell_options=self.cell_options, num_layers=self.num_layers, bidirectional=self.bidirectional,
            pooling=self.pooling, dropout=self.dropout, dtype=self.dtype, seed=seed,
        )  # fmt: skip

    def _continued(self, found: Sequences) -> NDArray[Any]:
        """[n, horizon, F]."""
        changes = self._outputs([item[-self.window_ :] for item in self._scaled(found)])
        if self.target_scaler_ is not None:
            changes = changes * self.target_scaler_.scale_ + self.target_scaler_.mean_
        last = np.stack([item[-1:] for item in found.items]) if self.residual else 0.0
        steps: NDArray[Any] = changes.reshape(len(found), self.horizon_, -1) + last
        return steps

    def _r2(self, after: Any, told: Any, weight: NDArray[Any] | None) -> float:
        """R² of [n, horizon, F], all steps of all series together, the mean over features."""
        of_steps = None if weight is None else np.repeat(weight, self.horizon_)
        size = self._step_size
        return float(r2_score(np.reshape(after, (-1, size)), np.reshape(told, (-1, size)), sample_weight=of_steps))

    def _validation_score(self, held_out: Examples) -> float:
        return self._r2(held_out.targets, self._outputs(held_out.items), held_out.weight)
