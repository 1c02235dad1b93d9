"""SequenceRegressor: from a sequence to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models._sequence_model import SequenceModel
from fastrnn.nn import losses
from fastrnn.nn._random import Seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class SequenceRegressor(SequenceModel):
    """Numbers from a sequence: (embedding) → recurrent layers → pooling → dropout → linear, by mean squared error.

    Parameters
    ----------
    input_size : int
        Values of a step; the number of tokens with `embedding_dim`.
    num_outputs : int, optional
        K numbers for each sequence, [N, K]; None for one, [N].
    hidden_size, cell, cell_options, num_layers, bidirectional, pooling, dropout, embedding_dim, dtype, seed
        As for `SequenceClassifier`.

    Notes
    -----
    Targets of unit size are learned fastest: scale yours.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.random((n, 1), dtype=np.float32) for n in rng.integers(3, 12, 200)]
    >>> y = np.array([sequence.mean() for sequence in x])
    >>> model = fr.models.SequenceRegressor(1, hidden_size=16, pooling="mean", seed=0).fit(x, y, epochs=30, lr=0.01)
    >>> model.score(x, y) > 0.9, model.predict(x[:3]).shape
    (True, (3,))
    """

    def __init__(
        self,
        input_size: int,
        num_outputs: int | None = None,
        hidden_size: int = 64,
        *,
        cell: Any = "lstm",
        cell_options: Mapping[str, Any] | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        embedding_dim: int | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.num_outputs = _check.optional_positive_int(num_outputs, "num_outputs")
        self._tail = () if self.num_outputs is None else (self.num_outputs,)
        self._build(
            input_size, self.num_outputs or 1, hidden_size, cell, num_layers, bidirectional, pooling, dropout,
            embedding_dim, dtype, seed, cell_options,
        )  # fmt: skip

    def forward(self, x: Any, *, lengths: ArrayLike | None = None) -> Any:
        """The numbers, [B] or [B, K].

        Parameters
        ----------
        x : array [T, B, input_size], or integers [T, B] with an embedding; without the axis B for one sequence
        lengths : integers [B], optional
        """
        y = super().forward(x, lengths=lengths)
        return y[..., 0] if self.num_outputs is None else y

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """Mean squared error; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, target, lengths=None, weight=None)``
            target: [B] or [B, K].
        seed, train
            Dropout's seed comes from the run.
        """
        x, target, lengths, weight = (*batch, None, None)[:4]
        if weight is not None and self.num_outputs is not None:
            weight = np.reshape(weight, (-1, 1))
        return losses.mse(self(x, lengths=lengths), target, weight=weight)[0]

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
    ) -> SequenceRegressor:
        """Train on sequences and their numbers, `y` [N] or [N, K]; arguments as for `SequenceClassifier.fit`."""
        x = x if isinstance(x, np.ndarray) else list(x)
        if validation is not None:
            validation = (validation[0], self._numbers(validation[1], len(validation[0]), "validation[1]"))
        self._fit(x, self._numbers(y, len(x)), validation, sample_weight, {
            "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "seed": seed,
            "progress": progress, **options,
        })  # fmt: skip
        return self

    def predict(self, x: Any, lengths: ArrayLike | None = None, *, batch_size: int = 256) -> NDArray[Any]:
        """The numbers, [N] or [N, K]; arguments as for `SequenceClassifier.decision_function`."""
        return self._outputs(x, lengths, batch_size)

    def score(self, x: Any, y: ArrayLike, lengths: ArrayLike | None = None, *, batch_size: int = 256) -> float:
        """R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)², the mean over outputs; 1 is perfect, 0 the mean's.

        Where all y are the same it is 1 if the numbers predicted are, and else 0, as scikit-learn has it.
        """
        found, y = self.predict(x, lengths, batch_size=batch_size), np.asarray(y, np.float64)
        _check.same_shape(y, found.shape, "y", "the numbers predicted")
        rest, total = np.square(y - found).sum(0), np.square(y - y.mean(0)).sum(0)
        varied = (y != y[:1]).any(0)
        return float(np.mean(np.where(varied, 1 - rest / np.where(varied, total, 1), rest == 0)))

    def _numbers(self, y: Any, count: int, name: str = "y") -> NDArray[Any]:
        found = np.asarray(y)
        if found.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected numbers, got {found.dtype}")
        _check.same_shape(
            found, (count,) if self.num_outputs is None else (count, self.num_outputs), name, "the outputs"
        )
        return found.astype(self.dtype)
