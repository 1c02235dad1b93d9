"""SequenceClassifier: from a sequence to a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models._sequence_model import SequenceModel
from fastrnn.nn import losses
from fastrnn.nn._random import Seed
from fastrnn.nn.activations import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class SequenceClassifier(SequenceModel):
    """Which class a sequence belongs to: (embedding) → recurrent layers → pooling → dropout → linear → softmax.

    Parameters
    ----------
    input_size : int
        Values of a step; the number of tokens with `embedding_dim`.
    classes : int or sequence
        The number of classes, which are then 0, 1, …; or their labels, in the order of the model's outputs.
    hidden_size : int
    cell : "lstm", "gru", "rnn", "sru", "qrnn", "mingru", "minlstm", "lru", "indrnn", or a cell made by `fr.cell`
        The forget gates of an LSTM start with a bias of 1.
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``.
    num_layers : int
    bidirectional : bool
    pooling : {"last", "mean", "max", "both"}
        The state at each sequence's end (of the second direction: at its beginning); the mean or the maximum over its
        steps; both of these side by side.
    dropout : float
        Probability of a zero before the linear map and between recurrent layers, in training.
    embedding_dim : int, optional
        For sequences of tokens.
    label_smoothing : float
        Of the loss, see `fr.losses.cross_entropy`.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Attributes
    ----------
    classes_ : array
        The labels.
    history_ : History
        Of the last `fit`.

    Notes
    -----
    It trains with its own `fit`, or with ``fr.fit(model, data)`` on batches whose targets are class numbers.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.standard_normal((n, 1), dtype=np.float32) for n in rng.integers(3, 12, 200)]
    >>> y = np.array(["up" if sequence.sum() > 0 else "down" for sequence in x])
    >>> model = fr.models.SequenceClassifier(1, ["down", "up"], 16, cell="gru", seed=0)
    >>> _ = model.fit(x, y, epochs=20, lr=0.01)
    >>> model.score(x, y) > 0.95, model.predict(x[:3]).shape, model.predict_proba(x[:3]).shape
    (True, (3,), (3, 2))
    """

    def __init__(
        self,
        input_size: int,
        classes: int | Sequence[Any],
        hidden_size: int = 64,
        *,
        cell: Any = "lstm",
        cell_options: Mapping[str, Any] | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        embedding_dim: int | None = None,
        label_smoothing: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.classes_ = _labels(classes)
        self._tail = (len(self.classes_),)
        self.label_smoothing = _check.fraction(label_smoothing, "label_smoothing")
        self._build(
            input_size, len(self.classes_), hidden_size, cell, num_layers, bidirectional, pooling, dropout,
            embedding_dim, dtype, seed, cell_options,
        )  # fmt: skip

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """Mean cross entropy in nats; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, target, lengths=None, weight=None)``
            target: class numbers [B].
        seed, train
            Dropout's seed comes from the run.
        """
        x, target, lengths, weight = (*batch, None, None)[:4]
        smoothing = self.label_smoothing if train else 0.0
        return losses.cross_entropy(self(x, lengths=lengths), target, weight=weight, label_smoothing=smoothing)[0]

    def fit(
        self,
        x: Sequence[Any],
        y: ArrayLike,
        *,
        epochs: int = 20,
        batch_size: int = 32,
        lr: float = 3e-3,
        weight_decay: float = 0.0,
        sample_weight: ArrayLike | None = None,
        validation: tuple[Any, Any] | None = None,
        seed: int | None = 0,
        progress: Any = False,
        **options: Any,
    ) -> SequenceClassifier:
        """Train on sequences and their labels. Called again, it goes on.

        Parameters
        ----------
        x : list of N sequences
            [T_i, input_size], or [T_i] of tokens, of any lengths.
        y : [N]
            Labels, of those in `classes_`.
        epochs, batch_size, lr, weight_decay
            For AdamW.
        sample_weight : [N], optional
        validation : (x, y), optional
        seed : int, optional
            For the order and for dropout.
        progress, **options
            As for `fr.fit`: `clip_norm`, `clip_value`, `schedule`, `early_stopping`, `optimizer`, …

        Returns
        -------
        SequenceClassifier
            Itself.
        """
        if validation is not None:
            validation = (validation[0], self._numbers(validation[1], "validation[1]"))
        self._fit(x, self._numbers(y), validation, sample_weight, {
            "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "seed": seed,
            "progress": progress, **options,
        })  # fmt: skip
        return self

    def decision_function(self, x: Any, lengths: ArrayLike | None = None, *, batch_size: int = 256) -> NDArray[Any]:
        """The logits, [N, classes].

        Parameters
        ----------
        x : list of N sequences, or an array [T, N, input_size] ([T, N] of tokens)
            An array [T, input_size] ([T]) is one sequence, and the result has no axis N.
        lengths : integers [N], optional
            With an array.
        batch_size : int
            Sequences of a list that run at once.
        """
        return self._outputs(x, lengths, batch_size)

    def predict_proba(self, x: Any, lengths: ArrayLike | None = None, *, batch_size: int = 256) -> NDArray[Any]:
        """The probability of each class, [N, classes]; arguments as for `decision_function`."""
        return softmax(self._outputs(x, lengths, batch_size))

    def predict(self, x: Any, lengths: ArrayLike | None = None, *, batch_size: int = 256) -> NDArray[Any]:
        """The likeliest labels, [N]; arguments as for `decision_function`."""
        labels: NDArray[Any] = self.classes_[self._outputs(x, lengths, batch_size).argmax(-1)]
        return labels

    def score(self, x: Any, y: ArrayLike, lengths: ArrayLike | None = None, *, batch_size: int = 256) -> float:
        """The share of sequences whose likeliest label is `y`, [N]; other arguments as for `decision_function`."""
        found, y = self.predict(x, lengths, batch_size=batch_size), np.asarray(y)
        _check.same_shape(y, found.shape, "y", "the labels predicted")
        return float(np.mean(found == y))

    def _numbers(self, y: Any, name: str = "y") -> NDArray[np.int64]:
        known = {label: number for number, label in enumerate(self.classes_.tolist())}
        try:
            return np.array([known[label] for label in np.asarray(y).tolist()], np.int64)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{name}: expected labels of this model's classes {_some(self.classes_)}, got {error}"
            ) from None


def _labels(classes: Any) -> NDArray[Any]:
    """The labels of classes, given as their number or one by one."""
    if np.ndim(classes) == 0:
        return np.arange(_check.positive_int(classes, "classes"))
    labels = np.asarray(classes)
    if isinstance(classes, list | tuple) and labels.tolist() != list(classes):  # NumPy made text of numbers
        raise ValueError(f"classes: expected labels of one kind, all text or all numbers, got {classes!r:.80}")
    if labels.ndim != 1 or len(labels) == 0 or len(set(labels.tolist())) != len(labels):
        raise ValueError(f"classes: expected their number, or labels that are all different, got {_some(labels)}")
    return labels


def _some(labels: NDArray[Any]) -> str:
    found = labels.ravel().tolist()
    return ", ".join(map(repr, found[:5])) + (", …" if len(found) > 5 else "")
