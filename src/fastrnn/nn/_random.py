"""Seeds: what `seed=` means everywhere, None (fresh entropy), an int, or a NumPy Generator (drawn from)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastrnn import _check

Seed = Any  # None, int or numpy.random.Generator


def generator(seed: Seed) -> np.random.Generator:
    """A generator for initial weights; a Generator is used as it is, and moves on."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(None if seed is None else _check.seed(seed))


def mask_seed(seed: Seed) -> int:
    """The 64 bits from which a dropout mask is counted out."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(1 << 64, dtype=np.uint64))
    return _check.seed(seed) & 0xFFFF_FFFF_FFFF_FFFF


def split(seed: Seed, count: int) -> list[int | None]:
    """Independent seeds for `count` layers, the same ones for the same `seed`."""
    if seed is None:
        return [None] * count
    if isinstance(seed, np.random.Generator):
        found: Any = seed.integers(1 << 64, size=count, dtype=np.uint64)
    else:
        found = np.random.SeedSequence(_check.seed(seed)).generate_state(count, np.uint64)
    return [int(bits) for bits in found]
