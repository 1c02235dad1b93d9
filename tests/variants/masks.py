"""The masks that the core draws, from their definition (csrc/kernels/masks.h, given.h)."""

from __future__ import annotations

import numpy as np

from fastrnn import _core

_MASKS, _INPUTS, _WEIGHTS = 1 << 32, 2 << 32, 3 << 32


def _up(n):
    return -(-n // 64) * 64


def zoneout(seed, layer, direction, state, rate, shape):
    """1 where the old value stays: [T, B, width]."""
    T, B, width = shape
    bits = seed + _MASKS + 1024 * layer + 8 * direction + state
    kept = _core.dropout_mask(T * B * _up(width), rate, bits)
    return (~kept).reshape(T, B, _up(width))[:, :, :width].astype(float)


def recurrent(seed, layer, direction, rate, shape):
    """0 or 1/(1 − p): [B, width]."""
    B, width = shape
    kept = _core.dropout_mask(B * _up(width), rate, seed + _MASKS + 1024 * layer + 8 * direction + 7)
    return kept.reshape(B, _up(width))[:, :width] / (1 - rate)


def inputs(seed, layer, rate, shape):
    return _core.dropout_mask(int(np.prod(shape)), rate, seed + _INPUTS + layer).reshape(shape) / (1 - rate)


def weights(seed, layer, direction, rate, shape):
    kept = _core.dropout_mask(int(np.prod(shape)), rate, seed + _WEIGHTS + 2 * layer + direction)
    return kept.reshape(shape) / (1 - rate)
