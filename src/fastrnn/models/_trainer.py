"""How `fit` methods of models reach the training loop, which is a room below: `fastrnn.train` puts itself here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# (model, sequences, targets, **options) -> History
trainers: list[Callable[..., Any]] = []


def train(model: Any, sequences: Any, targets: Any, **options: Any) -> Any:
    """Train on a list of sequences with the trainer that came last."""
    return trainers[-1](model, sequences, targets, **options)
