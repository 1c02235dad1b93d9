"""What `seed=` means everywhere: None (fresh entropy), an int, or a NumPy Generator (drawn from)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastrnn import _check

Seed = Any  # None, int or numpy.random.Generator


def mask_seed(seed: Seed) -> int:
    """The 64 bits from which a dropout mask is counted out."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(1 << 64, dtype=np.uint64))
    return _check.seed(seed) & 0xFFFF_FFFF_FFFF_FFFF
