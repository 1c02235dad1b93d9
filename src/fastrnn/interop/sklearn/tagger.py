"""SequenceTagger: a label a step."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d

from fastrnn import _check
from fastrnn.interop.sklearn._base import Examples, Recurrent, row_weights
from fastrnn.interop.sklearn._input import Sequences, as_given, form_of, pieces
from fastrnn.interop.sklearn._labels import check_classes, class_weights, numbered, required
from fastrnn.interop.sklearn._threads import limited
from fastrnn.models._cells import chosen, open_forget_gates
from fastrnn.nn import Dropout, Linear, Sequential, losses
from fastrnn.nn._random import split
from fastrnn.nn.activations import softmax
from fastrnn.train.data import SequenceBatches

__all__ = ["SequenceTagger"]

BATCH = 256  # sequences that are labelled at once


class SequenceTagger(Recurrent):
    """Label each step of sequences with a recurrent network: recurrent layers → linear map → softmax, at each step.

    Parameters
    ----------
    hidden_size, cell, num_layers, bidirectional, dropout, cell_options, standardize, class_weight, label_smoothing, \
    learning_rate, learning_rate_init, alpha, clip_norm, batch_size, max_iter, shuffle, tol, n_iter_no_change, \
    early_stopping, validation_fraction, warm_start, dtype, random_state, n_jobs, verbose
        As for `RNNClassifier`. With ``bidirectional=False`` a step's label depends on the steps up to it alone.

    Attributes
    ----------
    classes_ : array
        The labels.
    model_ : fr.Sequential
    loss_curve_, n_iter_, …
        As for `RNNClassifier`; each step counts the same.

    Notes
    -----
    scikit-learn doesn't see it as a classifier (`is_classifier`), whose `y` may only be an array: `cross_val_score` and
    `GridSearchCV` would refuse lists of lists of labels.

    A 2-D array with one label a row is n sequences of one step each, and a warning says so; a sequence alone is
    ``fit([x], [y])``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.interop.sklearn import SequenceTagger
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((n, 1)) for n in rng.integers(3, 12, 80)]
    >>> y = [np.where(np.cumsum(x) > 0, "over", "under") for x in X]
    >>> tagger = SequenceTagger(32, random_state=0).fit(X, y)
    >>> tagger.score(X, y) > 0.9, len(X[0]), tagger.predict(X[:1])[0].shape
    (True, 10, (10,))
    """

    _per_step = True

    def __init__(
        self,
        hidden_size: int = 64,
        *,
        cell: Any = "gru",
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        cell_options: Any = None,
        standardize: bool = True,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SequenceTagger:
        """Train.

        Parameters
        ----------
        X : array [n, T] or [n, T, F], or list of [T_i, F] or [T_i]
        y : array [n, T], or list of [T_i]
            Labels.
        sample_weight : array [n], optional
            A weight a sequence; 0 is as good as not there.

        Returns
        -------
        SequenceTagger
            Itself.
        """
        self._classes_given: Any = None
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> SequenceTagger:
        """Train for one epoch on what is given; other arguments as for `fit`.

        Parameters
        ----------
        X, y, sample_weight
        classes : array, optional
            All labels that will ever come, for the first call; without it those of its `y`.
        """
        self._classes_given = check_classes(self, classes, needed=False)
        self._fit(X, y, sample_weight, partial=True)
        return self

    def predict(self, X: Any) -> Any:
        """The likeliest label of each step.

        Returns
        -------
        array [n, T] for an array, and for a list of sequences a list of [T_i]
        """
        found = self._read(X)
        numbers = [logits.argmax(-1) for logits in self._outputs(self._scaled(found))]
        return self._put_together(found, [self.classes_[part] for part in numbers])

    def predict_proba(self, X: Any) -> Any:
        """The probability of each label at each step, [n, T, K] or a list of [T_i, K]."""
        found = self._read(X)
        return self._put_together(found, [softmax(logits) for logits in self._outputs(self._scaled(found))])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of steps whose label is right; a sequence's weight counts for each of its steps."""
        found = self._read(X)
        required(self, y)
        labels = self._split_labels(y, found)
        numbers = [logits.argmax(-1) for logits in self._outputs(self._scaled(found))]
        right = [np.sum(self.classes_[part] == label) for part, label in zip(numbers, labels, strict=True)]
        weight = row_weights(sample_weight, len(found))
        return float(np.average(right / found.lengths, weights=found.lengths * (1 if weight is None else weight)))

    # ---- for the base

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool = False) -> Any:
        required(self, y)
        if not (hasattr(self, "model_") and (partial or self.warm_start)):
            self._steps_of_rows = _is_table(X) and _labels_rows(y, X)
        return super()._fit(X, y, sample_weight, partial=partial)

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        if self._steps_of_rows and reset:
            warnings.warn(
                "y has one label a row of X, so that each row is a sequence of one step, which has no past; one "
                "sequence of many steps is fit([X], [y])",
                stacklevel=5,
            )
        labels = self._split_labels(y, found)
        numbers = numbered(self, np.concatenate(labels), self._classes_given, reset=reset)
        return pieces(numbers, found.lengths)

    def _split_labels(self, y: Any, found: Sequences) -> list[NDArray[Any]]:
        """The labels of each sequence, [T_i]."""
        if self._steps_of_rows and found.form == "2d":
            labels = column_or_1d(y, warn=True)
            y = labels[:, None]
        if not hasattr(y, "__len__"):
            raise TypeError(f"y: expected labels of each step, [T_i] for each sequence, got {_check.describe(y)}")
        if len(y) != len(found):
            raise ValueError(f"y: expected labels of {len(found)} sequences, got {len(y)}")
        arrays = [np.asarray(one) for one in (y.to_numpy() if hasattr(y, "iloc") else y)]
        for position, (array, steps) in enumerate(zip(arrays, found.lengths, strict=True)):
            if array.ndim == 0:
                raise ValueError(
                    f"y: expected labels of each step, [T_i], got one of a sequence, y[{position}] = {array[()]!r}; "
                    "RNNClassifier learns such"
                )
            if array.shape != (steps,):
                raise ValueError(
                    f"y: expected {steps} labels for the {steps} steps of sequence {position}, got shape {array.shape}"
                )
        return arrays

    def _weigh(self, targets: list[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        self._step_weights = None
        if self.class_weight is not None:
            self._step_weights = class_weights(self.class_weight, self.classes_, np.concatenate(targets))
        return weight

    def _loss(self, logits: Any, target: Any, *, weight: Any = None, lengths: Any = None) -> Any:
        """Cross entropy over all steps."""
        if self._step_weights is not None:
            of_steps = self._step_weights[target]
            weight = of_steps if weight is None else of_steps * weight
        return losses.cross_entropy(
            logits, target, weight=weight, lengths=lengths, label_smoothing=self.label_smoothing
        )

    def _make_model(self, seed: int) -> Sequential:
        seeds = split(seed, 2)
        rnn = chosen(self.cell, self.cell_options)[0](
            self._step_size, _check.positive_int(self.hidden_size, "hidden_size"), self.num_layers,
            bidirectional=self.bidirectional, dropout=self.dropout, dtype=self.dtype, seed=seeds[0],
        )  # fmt: skip
        open_forget_gates(rnn)
        _check.fraction(self.label_smoothing, "label_smoothing")
        features = (1 + bool(self.bidirectional)) * self.hidden_size
        output = Linear(features, len(self.classes_), dtype=self.dtype, seed=seeds[1])
        return Sequential(rnn, Dropout(self.dropout), output)

    def _outputs(self, items: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Logits of each sequence, [T_i, K]."""
        found: list[Any] = [None] * len(items)
        rows = sorted(range(len(items)), key=lambda row: len(items[row]))  # little padding
        with limited(self.n_jobs):
            for first in range(0, len(rows), BATCH):
                some = rows[first : first + BATCH]
                batches = SequenceBatches([items[row] for row in some], batch_size=BATCH, bucket=False, shuffle=False)
                ((x, _, lengths, _),) = batches
                logits = self.model_(x, lengths=lengths)[0]
                for column, row in enumerate(some):
                    found[row] = logits[: len(items[row]), column]
        return found

    def _put_together(self, found: Sequences, parts: list[NDArray[Any]]) -> Any:
        """In the way that sequences came."""
        if found.form not in ("2d", "3d"):
            return as_given(found, parts)
        return np.concatenate(parts) if self._steps_of_rows and found.form == "2d" else np.stack(parts)

    def _validation_score(self, held_out: Examples) -> float:
        numbers = np.concatenate([logits.argmax(-1) for logits in self._outputs(held_out.items)])
        lengths = [len(item) for item in held_out.items]
        weight = None if held_out.weight is None else np.repeat(held_out.weight, lengths)
        return float(np.average(numbers == np.concatenate(held_out.targets), weights=weight))


def _is_table(X: Any) -> bool:
    """Whether X is a 2-D array, as `read` sees it."""
    return form_of(X)[0] == "2d"


def _labels_rows(y: Any, X: Any) -> bool:
    """Whether y has one label a row of the table X; [n, 1] counts if a row has more than one step."""
    labels = np.asarray(y) if not isinstance(y, list | tuple) else y
    if all(np.ndim(one) == 0 for one in labels):
        return True
    return np.ndim(labels) == 2 and np.shape(labels)[1] == 1 and np.shape(np.asarray(X))[-1] != 1
