"""What the `fit` method of classifiers and regressors does: batches of sequences, an optimiser, the loop."""

from __future__ import annotations

from typing import Any

from fastrnn.train.data import SequenceBatches
from fastrnn.train.fit import fit
from fastrnn.train.history import History
from fastrnn.train.optim import AdamW

__all__ = ["fit_sequences"]


def fit_sequences(
    model: Any,
    sequences: Any,
    targets: Any,
    *,
    batch_size: int,
    lr: float,
    weight_decay: float,
    weight: Any,
    validation: Any,
    seed: int | None,
    **options: Any,
) -> History:
    """Train a model on sequences, each with one target; `options` go to `fr.fit`."""
    per_step: dict[str, Any] = {"per_step": False, "dtype": None if model.takes_tokens else model.dtype}
    data = SequenceBatches(sequences, targets, batch_size=batch_size, weight=weight, seed=seed, **per_step)
    if validation is not None:
        held_out, their_targets = validation
        validation = SequenceBatches(held_out, their_targets, batch_size=256, shuffle=False, **per_step)
    optimizer = options.pop("optimizer", None) or AdamW(model, lr=lr, weight_decay=weight_decay)
    return fit(model, data, None, optimizer, validation=validation, seed=seed, **options)
