"""Epochs of `fr.fit`, one a call, so that between them scikit-learn's rules say when to stop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from fastrnn.train.fit import fit
from fastrnn.train.progress import Progress, duration, plural
from fastrnn.train.schedules import Cosine, Schedule

__all__ = ["one_epoch", "run_epochs"]


class _Part(Schedule):
    """A cosine over all epochs, of which each call of `fr.fit` is one."""

    def __init__(self, epochs: int) -> None:
        self._whole, self._epochs, self.epoch = Cosine(), epochs, 0

    def __call__(self, step: int, progress: float | None = None) -> float:
        return self._whole(step, (self.epoch + (progress or 0.0)) / self._epochs)


class _Display(Progress):
    """One display over all epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs, self.epoch, self._began = epochs, 0, time.monotonic()
        super().start(0.0)

    def start(self, done: float) -> None:
        """An epoch begins, which is none of the display's business."""

    def update(
        self, *, items: float, done: float, elapsed: float, loss: float | None = None, epoch: int | None = None
    ) -> None:
        """A step of this epoch."""
        done, elapsed = (self.epoch + done) / self._epochs, time.monotonic() - self._began
        super().update(items=items, done=done, elapsed=elapsed, loss=loss, epoch=self.epoch + 1)

    def finish(self, text: str = "", done: float | None = None) -> None:
        """An epoch is over."""

    def close(self, losses: list[float]) -> None:
        """All are."""
        text = f"{plural(self.epoch, 'epoch')} in {duration(time.monotonic() - self._began)}"
        super().finish(text + (f", loss {losses[-1]:.4g}" if losses else ""), self.epoch / self._epochs)


def one_epoch(estimator: Any, model: Any, data: Any, objective: Any, **options: Any) -> None:
    """Train once on all of the data, and note its mean loss."""
    seed = int(estimator._random_state.randint(2**31 - 1))
    history = fit(
        model, data, objective, estimator._optimizer, epochs=1, clip_norm=estimator.clip_norm, seed=seed,
        **{"progress": False, **options},
    )  # fmt: skip
    loss = history.epochs[-1]["loss"]
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the gradient was not finite in any step of epoch {estimator.n_iter_ + 1}, so nothing is learned; "
            "a lower learning_rate_init, standardize=True or smaller numbers may help"
        )
    estimator.loss_curve_.append(loss)
    estimator.n_iter_ += 1


def run_epochs(estimator: Any, model: Any, data: Any, loss: Any, score: Callable[[], float] | None) -> None:
    """Train until nothing improves any more, or `max_iter` is reached.

    With `score`, a validation's, the weights of the best one are kept.
    """
    epochs = estimator.max_iter
    schedule = _Part(epochs) if estimator.learning_rate == "cosine" else None
    display = _Display(epochs) if estimator.verbose else None
    patience = _Patience(estimator, model, score)
    try:
        for epoch in range(epochs):
            if schedule is not None:
                schedule.epoch = epoch
            one_epoch(estimator, model, data, loss, schedule=schedule, progress=display or False)
            if display is not None:
                display.epoch = epoch + 1
            if patience.is_over():
                break
        else:
            if schedule is None:
                warnings.warn(
                    f"max_iter={epochs} epochs are over and training hasn't converged: it still got better by more "
                    f"than tol={estimator.tol} within n_iter_no_change={estimator.n_iter_no_change} epochs. Give more "
                    "of them, or learning_rate='cosine', which ends with max_iter",
                    ConvergenceWarning,
                    stacklevel=5,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    finally:
        patience.keep_best()
        if display is not None:
            display.close(estimator.loss_curve_)


class _Patience:
    """Scikit-learn's rule: `n_iter_no_change` epochs in a row that are better by less than `tol` are enough."""

    def __init__(self, estimator: Any, model: Any, score: Callable[[], float] | None) -> None:
        self._estimator, self._model, self._score = estimator, model, score
        self._bad = 0
        self._weights: Any = None

    def is_over(self) -> bool:
        """Look at what the last epoch brought."""
        estimator = self._estimator
        if self._score is None:
            value, best = -estimator.loss_curve_[-1], -estimator.best_loss_
        else:
            estimator.validation_scores_.append(self._score())
            value, best = estimator.validation_scores_[-1], estimator.best_validation_score_
        self._bad = 0 if value >= best + estimator.tol else self._bad + 1
        if value > best or math.isinf(best):
            if self._score is None:
                estimator.best_loss_ = -value
            else:
                estimator.best_validation_score_, self._weights = value, self._model.state_dict()
        return bool(self._bad > estimator.n_iter_no_change)

    def keep_best(self) -> None:
        """Put back the weights of the best validation."""
        if self._weights is not None:
            self._model.load_state_dict(self._weights)
