"""Gate orders: the blocks of a weight or bias put into another order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._sequence import Array


def reorder_gates(a: Any, source: str, target: str) -> Array:
    """Put the blocks of a weight or bias into another gate order.

    Parameters
    ----------
    a : [G·H, ...]
        One block of H rows for each gate.
    source, target : str
        One letter for each gate, the same letters in both.

    Returns
    -------
    [G·H, ...]
        A copy.

    Examples
    --------
    >>> reorder_gates(np.array([1, 2, 3, 4]), "ifog", "ifgo").tolist()
    [1, 2, 4, 3]
    """
    if not isinstance(source, str) or not isinstance(target, str) or sorted(source) != sorted(target):
        raise ValueError(f"target: expected the letters of source={source!r} in another order, got {target!r}")
    if len(set(source)) != len(source) or not source:
        raise ValueError(f"source: expected one letter for each gate, all different, got {source!r}")
    a = np.asarray(a)
    if a.ndim == 0 or len(a) % len(source):
        raise ValueError(f"a: expected [{len(source)}·H, ...], got shape {a.shape}")
    block = dict(zip(source, np.split(a, len(source))))
    return np.concatenate([block[gate] for gate in target])
