"""RNNClassifier: a label a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d, compute_sample_weight

from fastrnn import _check
from fastrnn.interop.sklearn._base import Examples, Recurrent
from fastrnn.interop.sklearn._input import Sequences
from fastrnn.interop.sklearn._labels import check_classes, numbered, required
from fastrnn.models.classifier import SequenceClassifier
from fastrnn.nn.activations import softmax

__all__ = ["RNNClassifier"]


class RNNClassifier(ClassifierMixin, Recurrent):
    """Classify sequences with a recurrent network.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.interop.sklearn import RNNClassifier
    >>> RNNClassifier()
    RNNClassifier()
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
        class_weight: Any = None,
        label_smoothing: float = 0.0,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNClassifier:
        """Train."""
        self._classes_given: Any = None
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> RNNClassifier:
        """Train for one epoch."""
        self._classes_given = check_classes(self, classes)
        self._fit(X, y, sample_weight, partial=True)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Logits."""
        logits = self._outputs(self._scaled(self._read(X)))
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities."""
        return softmax(self._outputs(self._scaled(self._read(X))))

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of probabilities."""
        logits = self._outputs(self._scaled(self._read(X)))
        shifted = logits - logits.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels."""
        numbers = self._outputs(self._scaled(self._read(X))).argmax(-1)
        return self.classes_[numbers]

    # ---- for the base

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        required(self, y)
        labels = column_or_1d(y, warn=True)
        if len(labels) != len(found):
            raise ValueError(f"y: expected {len(found)} labels, one for each sequence, got {len(labels)}")
        return list(numbered(self, labels, self._classes_given, reset=reset))

    def _weigh(self, targets: list[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        if self.class_weight is None:
            return weight
        of_classes = compute_sample_weight(self.class_weight, self.classes_[targets])
        return of_classes if weight is None else of_classes * weight

    def _make_model(self, seed: int) -> SequenceClassifier:
        return SequenceClassifier(
            self._step_size, len(self.classes_), self.hidden_size, cell=self.cell, cell_options=self.cell_options,
            num_layers=self.num_layers, bidirectional=self.bidirectional, pooling=self.pooling, dropout=self.dropout,
            label_smoothing=_check.fraction(self.label_smoothing, "label_smoothing"), dtype=self.dtype, seed=seed,
        )  # fmt: skip

    def _stratify(self, targets: list[Any]) -> Any:
        return targets

    def _validation_score(self, held_out: Examples) -> float:
        found = self._outputs(held_out.items).argmax(-1)
        return float(accuracy_score(held_out.targets, found, sample_weight=held_out.weight))
