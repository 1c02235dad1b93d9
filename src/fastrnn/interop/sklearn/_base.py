"""What the estimators have in common: parameters, reading, scaling, training, pickling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastrnn import _check
from fastrnn.interop.sklearn._input import Sequences, pieces, read
from fastrnn.interop.sklearn._threads import limited
from fastrnn.interop.sklearn._training import one_epoch, run_epochs
from fastrnn.train.data import SequenceBatches
from fastrnn.train.optim import AdamW

__all__ = ["Examples", "Recurrent", "fitted_scaler", "row_weights"]

BATCH = 32
NETWORK = (
    *("hidden_size", "cell", "num_layers", "bidirectional", "pooling", "dropout", "cell_options", "standardize"),
    *("label_smoothing", "dtype", "horizon", "window", "residual"),
)
FLAGS = ("bidirectional", "standardize", "shuffle", "early_stopping", "warm_start", "residual")
LEARNING_RATES = {"constant": None, "cosine": None}


class Examples(NamedTuple):
    """What a network learns from: sequences [T_i, F], scaled, with their targets and weights."""

    items: list[NDArray[Any]]
    targets: list[Any]
    weight: NDArray[Any] | None

    def pick(self, rows: NDArray[Any]) -> Examples:
        """Some of them."""
        weight = None if self.weight is None else self.weight[rows]
        return Examples([self.items[k] for k in rows], [self.targets[k] for k in rows], weight)


class Recurrent(BaseEstimator):
    """Base of the estimators.

    A class says what its targets are (`_read_targets`), makes a network (`_make_model`) and tells how good it is
    (`_validation_score`).
    """

    _per_step = False  # whether targets run along time
    # Up to so many sequences are one batch by default: an epoch is then one step on all of the data, whose order and
    # repetitions don't matter.
    _one_batch = 64
    _least_held_out = 1  # of examples, for a validation's score
    _loss: Any = None  # of `fr.fit`; None is the model's own

    # what the constructors of the classes take, and set
    hidden_size: int
    cell: Any
    num_layers: int
    bidirectional: bool
    dropout: float
    cell_options: Any
    standardize: bool
    learning_rate: str
    learning_rate_init: float
    alpha: float
    clip_norm: float | None
    batch_size: Any
    max_iter: int
    shuffle: bool
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    dtype: Any
    random_state: Any
    n_jobs: int | None
    verbose: bool

    # what training makes, beside `model_`
    n_features_in_: int
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    n_iter_: int
    _optimizer: AdamW | None
    _optimizer_state: Any

    def _take(self, given: dict[str, Any]) -> None:
        """Set the arguments of a constructor, its `locals()`, as they are."""
        for name in given.keys() - {"self", "__class__"}:
            setattr(self, name, given[name])

    # ---- what the classes are

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        """Targets as the network has them, one for each sequence; with `reset` the classes follow from them."""
        raise NotImplementedError

    def _make_model(self, seed: int) -> Any:
        raise NotImplementedError

    def _validation_score(self, held_out: Examples) -> float:
        raise NotImplementedError

    def _stratify(self, targets: list[Any]) -> Any:
        """What the validation's share should have as much of as the rest."""
        return None

    def _weigh(self, targets: list[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        """Sample weights with the weights of classes."""
        return weight

    def _examples(self, found: Sequences, targets: list[Any], weight: NDArray[Any] | None) -> Examples:
        """What is learned: a sequence and its target each."""
        return Examples(self._scaled(found), targets, weight)

    # ---- training

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool = False) -> Any:
        """Train, from new weights on or from those that are there; where that fails, new ones leave no trace."""
        self._check_parameters(partial)
        going_on = hasattr(self, "model_") and (partial or self.warm_start)
        if going_on:
            self._check_architecture()
        before = dict(self.__dict__)
        try:
            return self._learn(X, y, sample_weight, partial=partial, going_on=going_on)
        except BaseException:
            if not going_on:
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def _learn(self, X: Any, y: Any, sample_weight: Any, *, partial: bool, going_on: bool) -> Any:
        dtype = _check.float_dtype(self.dtype)
        found = read(self, X, np.float64 if self.standardize else dtype, reset=not going_on)
        if not going_on:
            self._from_table = found.form == "2d"
        targets = self._read_targets(y, found, reset=not going_on)
        weight = row_weights(sample_weight, len(found))
        if weight is not None and not weight.all():  # weight 0 is as good as not there
            rows = np.flatnonzero(weight)
            found, targets, weight = found.pick(rows), [targets[row] for row in rows], weight[rows]
        if not going_on:
            self._architecture = {name: getattr(self, name) for name in self._of_network()}
            self._fit_scaler(found, targets, weight)
        examples = self._examples(found, self._scaled_targets(targets), self._weigh(targets, weight))
        if not going_on:
            self._random_state = check_random_state(self.random_state)
            self.model_ = self._make_model(int(self._random_state.randint(2**31 - 1)))
            self.loss_curve_, self.n_iter_ = [], 0
            self._optimizer = self._optimizer_state = None
        with limited(self.n_jobs):
            if partial:
                self._go_on(examples)
            else:
                self._train(examples)
        return self

    def _train(self, examples: Examples) -> None:
        self._optimizer = self._new_optimizer()
        self.best_loss_, self.validation_scores_, self.best_validation_score_ = math.inf, None, None
        score = None
        if self.early_stopping:
            self.best_loss_, self.validation_scores_, self.best_validation_score_ = None, [], -math.inf
            examples, held_out = self._split(examples)
            self._check_held_out(held_out)
            score = lambda: self._validation_score(held_out)  # noqa: E731
        run_epochs(self, self.model_, self._batches(examples), self._loss, score)

    def _go_on(self, examples: Examples) -> None:
        """One epoch, with the optimiser of before."""
        optimizer = self._optimizer
        if optimizer is None:
            optimizer = self._optimizer = self._new_optimizer()
            if self._optimizer_state is not None:
                optimizer.load_state_dict(self._optimizer_state)
        optimizer.lr, optimizer.lr_factor = self.learning_rate_init, 1.0  # a cosine has ended
        one_epoch(self, self.model_, self._batches(examples), self._loss)
        self.best_loss_ = min(self.loss_curve_)

    def _new_optimizer(self) -> AdamW:
        return AdamW(self.model_, lr=self.learning_rate_init, weight_decay=self.alpha)

    def _batches(self, examples: Examples) -> Any:
        n = len(examples.items)
        size = (n if n <= self._one_batch else BATCH) if self.batch_size == "auto" else min(self.batch_size, n)
        batches = SequenceBatches(
            examples.items, examples.targets, batch_size=size, weight=examples.weight, per_step=self._per_step,
            shuffle=bool(self.shuffle) and size < n, seed=int(self._random_state.randint(2**31 - 1)),
        )  # fmt: skip
        return list(batches) if size == n else batches

    def _split(self, examples: Examples) -> tuple[Examples, Examples]:
        """(to learn from, to validate with)."""
        stratify = self._stratify(examples.targets)
        count = len(examples.items)
        try:
            rows = train_test_split(
                np.arange(count), test_size=self.validation_fraction, random_state=self._random_state, stratify=stratify
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping: can't hold back validation_fraction={self.validation_fraction} of {count} sequences: "
                f"{error}"
            ) from None
        return examples.pick(rows[0]), examples.pick(rows[1])

    def _check_held_out(self, held_out: Examples) -> None:
        """Raise if there is too little to tell a score from."""
        if len(held_out.items) < self._least_held_out:
            raise ValueError(
                f"early_stopping: validation_fraction={self.validation_fraction} holds back one example, and R² needs "
                "two; a larger fraction or more data"
            )

    # ---- scaling

    def _fit_scaler(self, found: Sequences, targets: list[Any], weight: NDArray[Any] | None) -> None:
        """Learn mean and spread of each feature over all steps."""
        self.scaler_ = None
        if self.standardize:
            of_steps = None if weight is None else np.repeat(weight, found.lengths)
            self.scaler_ = fitted_scaler("X", found.steps, of_steps)

    def _scaled(self, found: Sequences) -> list[NDArray[Any]]:
        """Sequences as the network reads them."""
        if self.scaler_ is None:
            return found.items
        steps = (found.steps - self.scaler_.mean_) / self.scaler_.scale_
        return pieces(steps.astype(self._architecture["dtype"], copy=False), found.lengths)

    def _scaled_targets(self, targets: list[Any]) -> list[Any]:
        return targets

    # ---- use

    def _read(self, X: Any) -> Sequences:
        """Sequences for a fitted estimator."""
        check_is_fitted(self, "model_")
        dtype = self.model_.dtype if self.scaler_ is None else np.float64  # scaled in float64, whatever its offset
        return read(self, X, dtype, reset=False)

    def _outputs(self, items: list[NDArray[Any]]) -> Any:
        """What the network says, one row for each sequence."""
        with limited(self.n_jobs):
            return self.model_._outputs(items, None, 256)

    # ---- scikit-learn's rules

    def _of_network(self) -> list[str]:
        """The parameters that can't change while training goes on."""
        return [name for name in NETWORK if hasattr(self, name)]

    def _check_architecture(self) -> None:
        for name, before in self._architecture.items():
            now = getattr(self, name)
            if now != before and not (name == "dtype" and _check.float_dtype(now) == _check.float_dtype(before)):
                raise ValueError(
                    f"{name}: the network to go on with has {before!r}, got {getattr(self, name)!r}; a fit with "
                    "warm_start=False makes a new one"
                )

    def _check_parameters(self, partial: bool) -> None:
        for name in ("max_iter", "n_iter_no_change"):
            _check.positive_int(getattr(self, name), name)
        for name in FLAGS:
            _check.flag(getattr(self, name, False), name)
        _check.choice(self.learning_rate, LEARNING_RATES, "learning_rate")
        _check.above_zero(self.learning_rate_init, "learning_rate_init")
        if self.clip_norm is not None:
            _check.above_zero(self.clip_norm, "clip_norm")
        _check.at_least_zero(self.alpha, "alpha")
        _check.number(self.tol, "tol")
        if self.batch_size != "auto":
            if isinstance(self.batch_size, str):
                raise ValueError(f"batch_size: expected a positive integer or 'auto', got {self.batch_size!r}")
            _check.positive_int(self.batch_size, "batch_size")
        if self.early_stopping and not _check.fraction(self.validation_fraction, "validation_fraction"):
            raise ValueError("validation_fraction: expected a number above 0 and below 1, got 0")
        if self.early_stopping and partial:
            raise ValueError("early_stopping: partial_fit takes one epoch on what it is given, and stops then anyway")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        optimizer = state.get("_optimizer")
        if optimizer is not None:  # it holds the network's own arrays
            state["_optimizer"], state["_optimizer_state"] = None, optimizer.state_dict()
        return state


def fitted_scaler(name: str, rows: NDArray[Any], weight: NDArray[Any] | None) -> StandardScaler:
    """Mean and spread of each column."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler().fit(rows, sample_weight=weight)
    if not (np.isfinite(scaler.mean_).all() and np.isfinite(scaler.var_).all()):
        raise ValueError(
            f"{name}: numbers up to {np.abs(rows).max():.3g} are too large for their variance; make them smaller, or "
            "give standardize=False"
        )
    return scaler


def row_weights(value: Any, count: int) -> NDArray[Any] | None:
    """Weights of sequences, [n]."""
    if value is None:
        return None
    weight = np.asarray(value, np.float64)
    if weight.ndim == 0:
        return np.full(count, _check.above_zero(weight, "sample_weight"))
    if weight.shape != (count,):
        raise ValueError(f"sample_weight: expected shape ({count},), one for each sequence, got {weight.shape}")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        bad = weight[~(np.isfinite(weight) & (weight >= 0))][0]
        raise ValueError(f"sample_weight: expected finite numbers of at least 0, got {bad} among them")
    if not weight.any():
        raise ValueError("sample_weight: expected weights of which one at least is not zero, all are zero")
    return weight
