"""Seeds of initial weights and of several layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn._random import Seed, mask_seed

__all__ = ["Seed", "generator", "mask_seed", "split"]


def generator(seed: Seed) -> np.random.Generator:
    """A generator for initial weights; a Generator is used as it is, and moves on."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(None if seed is None else _check.seed(seed))


def split(seed: Seed, count: int) -> list[int | None]:
    """Independent seeds for `count` layers, the same ones for the same `seed`."""
    if seed is None:
        return [None] * count
    if isinstance(seed, np.random.Generator):
        found: Any = seed.integers(1 << 64, size=count, dtype=np.uint64)
    else:
        found = np.random.SeedSequence(_check.seed(seed)).generate_state(count, np.uint64)
    return [int(bits) for bits in found]
