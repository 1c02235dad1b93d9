"""RNNClassifier: a label a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d

from fastrnn import _check
from fastrnn.interop.sklearn._base import Examples, Recurrent
from fastrnn.interop.sklearn._input import Sequences
from fastrnn.interop.sklearn._labels import check_classes, class_weights, numbered, required
from fastrnn.models.classifier import SequenceClassifier
from fastrnn.nn.activations import softmax

__all__ = ["RNNClassifier"]


class RNNClassifier(ClassifierMixin, Recurrent):
    """Classify sequences with a recurrent network: recurrent layers → pooling over time → linear map → softmax.

    Parameters
    ----------
    hidden_size : int
        Units of a layer, in each direction.
    cell : "gru", "lstm", "rnn", "sru", "qrnn", "mingru", "minlstm", "lru", "indrnn", or a cell made by `fr.cell`
    num_layers : int
    bidirectional : bool
        Read sequences from their end, too.
    pooling : {"both", "mean", "max", "last"}
        What of the layers' outputs is looked at: their mean and their maximum over time, side by side or one of them,
        or the last states.
    dropout : float
        Probability of a zero between layers and before the linear map, in training.
    cell_options : dict, optional
        Further arguments of the layers, such as ``{"layer_norm": True}``.
    standardize : bool
        Scale each feature to mean 0 and variance 1 over all steps of the training sequences. A transformer in front
        (`PerStep`) does other things.
    class_weight : dict or "balanced", optional
        As everywhere in scikit-learn.
    label_smoothing : float
        Share of the targets' probability that is spread over all classes.
    learning_rate : {"cosine", "constant"}
        Let it fall along half a cosine, to 0 at `max_iter` epochs; or leave it as it is, and stop when the loss falls
        no more (a ConvergenceWarning says if that didn't happen).
    learning_rate_init : float
        For AdamW.
    alpha : float
        AdamW's weight decay: how strongly weights are drawn to 0.
    clip_norm : float, optional
        Largest norm of a gradient; None leaves them alone.
    batch_size : int or "auto"
        "auto" is all sequences at once where there are 64 or fewer, so that neither their order nor (without dropout)
        a weight instead of a repetition changes anything, and 32 otherwise.
    max_iter : int
        Most epochs.
    shuffle : bool
        New batches in each epoch.
    tol, n_iter_no_change : float, int
        Stop when the loss (with `early_stopping`: the validation score) got better by less than `tol` in more than
        `n_iter_no_change` epochs in a row.
    early_stopping : bool
        Hold back a share of the sequences, and keep the weights of the epoch that scored best on them.
    validation_fraction : float
        That share.
    warm_start : bool
        `fit` goes on from the weights that are there. Means, spreads and classes stay those of the first call.
    dtype : {"float64", "float32"}
        What is computed in; input is cast. float32 takes half of the time and memory.
    random_state : int or RandomState, optional
        For first weights, order, dropout, and what is held back.
    n_jobs : int, optional
        Threads while this estimator works; -1 is all CPUs. None is as many as fastrnn has anyway
        (`fr.set_num_threads`), and in a worker of joblib, as of ``GridSearchCV(n_jobs=2)``, this worker's share.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    classes_ : array
        The labels.
    model_ : fr.models.SequenceClassifier
        The network; `fr.save` writes it to a file. It reads what `scaler_` scaled.
    scaler_ : StandardScaler or None
    n_features_in_ : int
        Columns of a 2-D array, and features of a step otherwise. ``feature_names_in_`` are a frame's columns.
    n_iter_ : int
        Epochs so far.
    loss_curve_ : list of float
        The mean loss of each, in nats.
    best_loss_ : float or None
        None with `early_stopping`, and then there are ``validation_scores_``, the accuracy after each epoch, and
        ``best_validation_score_``.

    Notes
    -----
    Ctrl-C ends the training, with a warning, and what was learned stays.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.interop.sklearn import RNNClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((n, 2)) for n in rng.integers(3, 12, 80)]
    >>> y = np.array(["rise" if x[-1, 0] > x[0, 0] else "fall" for x in X])
    >>> classifier = RNNClassifier(32, random_state=0).fit(X, y)
    >>> classifier.score(X, y) > 0.9, classifier.predict(X[:3]).shape, classifier.predict_proba(X[:3]).shape
    (True, (3,), (3, 2))
    """

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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNClassifier:
        """Train.

        Parameters
        ----------
        X : array [n, T] or [n, T, F], or list of [T_i, F] or [T_i]
            n univariate series, n sequences of one length, or of any lengths.
        y : array [n]
            Labels.
        sample_weight : array [n], optional
            A weight a sequence; 0 is as good as not there.

        Returns
        -------
        RNNClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            X or y isn't such, or a parameter isn't what it may be.
        """
        self._classes_given: Any = None
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> RNNClassifier:
        """Train for one epoch on what is given; other arguments as for `fit`.

        Parameters
        ----------
        X, y, sample_weight
        classes : array, optional
            All labels that will ever come, for the first call. Means and spreads stay those of that call, too.
        """
        self._classes_given = check_classes(self, classes)
        self._fit(X, y, sample_weight, partial=True)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """How much speaks for each class: logits [n, K], and with two classes the second's less the first's, [n]."""
        logits = self._logits(X)
        return np.subtract(logits[:, 1], logits[:, 0]) if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probability of each class, [n, K]."""
        return softmax(self._logits(X))

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Their logarithms, [n, K], of the smallest ones too."""
        logits = self._logits(X)
        shifted = logits - logits.max(-1, keepdims=True)
        logs: NDArray[Any] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return logs

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each sequence, [n]."""
        numbers = self._logits(X).argmax(-1)
        labels: NDArray[Any] = self.classes_[numbers]
        return labels

    # ---- for the base

    def _logits(self, X: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._outputs(self._scaled(self._read(X)))
        return found

    def _read_targets(self, y: Any, found: Sequences, *, reset: bool) -> list[Any]:
        required(self, y)
        labels = column_or_1d(y, warn=True)
        if len(labels) != len(found):
            raise ValueError(f"y: expected {len(found)} labels, one for each sequence, got {len(labels)}")
        return list(numbered(self, labels, self._classes_given, reset=reset))

    def _weigh(self, targets: list[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        if self.class_weight is None:
            return weight
        numbers = np.array(targets)
        of_sequences: NDArray[Any] = class_weights(self.class_weight, self.classes_, numbers)[numbers]
        return of_sequences if weight is None else of_sequences * weight

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
