"""PositionalEncoding: sines and cosines that tell a Transformer where a step is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed
from fastrnn.nn.dropout import Dropout

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class PositionalEncoding(Layer):
    """`x + p`, with p[t, 2i] = sin(t / base^(2i/F)) and p[t, 2i+1] = cos(t / base^(2i/F)).

    Parameters
    ----------
    d_model : int
        Size F of a step.
    dropout : float
        Share of the sum's values to drop in training.
    batch_first : bool
        Arrays are [B, T, F] instead of [T, B, F].
    base : float
        The longest wave is 2π·base steps.

    Notes
    -----
    There is no longest sequence, and there are no parameters: positions are computed as they are needed, and the first
    8,192 are kept.

    References
    ----------
    Vaswani et al.: Attention Is All You Need, 2017, section 3.5.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.PositionalEncoding(4)
    >>> layer(np.zeros((3, 1, 4), np.float32))[:, 0].round(3)
    array([[ 0.   ,  1.   ,  0.   ,  1.   ],
           [ 0.841,  0.54 ,  0.01 ,  1.   ],
           [ 0.909, -0.416,  0.02 ,  1.   ]], dtype=float32)
    """

    takes_dropout = True

    def __init__(self, d_model: int, *, dropout: float = 0.0, batch_first: bool = False, base: float = 10000.0) -> None:
        super().__init__()
        self.d_model = _check.positive_int(d_model, "d_model")
        self.dropout, self.batch_first = _check.fraction(dropout, "dropout"), bool(batch_first)
        self.base = _check.above_zero(base, "base")
        self._drop = Dropout(self.dropout)

    def __call__(self, x: ArrayLike, *, offset: int = 0, dropout: bool = False, seed: Seed = None) -> NDArray[Any]:
        """Add positions.

        Parameters
        ----------
        x : array, [T, B, F], or [T, F] for one sequence
        offset : int
            Position of the first step, for sequences that come in parts.
        dropout, seed
            Whether to drop values, and where the mask comes from.
        """
        y: NDArray[Any] = self._drop(self._add(x, offset), dropout=dropout, seed=seed)
        return y

    def vjp(
        self,
        x: ArrayLike,
        *,
        offset: int = 0,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Add positions; `pullback(dy)` returns `dx` (None without `input_grad`)."""
        return self._drop.vjp(self._add(x, offset), dropout=dropout, seed=seed, input_grad=input_grad, retain=retain)

    def _add(self, x: ArrayLike, offset: int) -> NDArray[Any]:
        x = _check.features(x, None, self.d_model, "d_model")
        if x.ndim not in (2, 3):
            expected = f"[B, T, {self.d_model}]" if self.batch_first else f"[T, B, {self.d_model}]"
            raise ValueError(f"x: expected {expected}, or [T, {self.d_model}] for one sequence, got shape {x.shape}")
        offset = int(_check.at_least_zero(_check.integer(offset, "offset"), "offset"))
        time = x.shape[1 if self.batch_first and x.ndim == 3 else 0]
        table = rows(offset, offset + time, self.d_model, self.base, x.dtype)
        y: NDArray[Any] = x + (table if self.batch_first or x.ndim == 2 else table[:, None])
        return y

    def config(self) -> dict[str, Any]:
        return {
            "d_model": self.d_model,
            "dropout": self.dropout,
            "batch_first": self.batch_first,
            "base": self.base,
        }


KEPT = 8192  # positions: for 512 steps of 512 values the sines take 5.1 ms, adding them takes 0.03


def rows(begin: int, end: int, size: int, base: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Positions begin … end − 1, [end − begin, size]."""
    if end > KEPT:
        return positions(np.arange(begin, end), size, base).astype(dtype)
    return _first(1 << (end - 1).bit_length(), size, base, dtype)[begin:end]


@functools.lru_cache(maxsize=8)
def _first(count: int, size: int, base: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    table = positions(np.arange(count), size, base).astype(dtype)
    table.flags.writeable = False
    return table


def positions(t: NDArray[Any], size: int, base: float) -> NDArray[np.float64]:
    """Sines and cosines [T, size] of the steps `t`."""
    table = np.empty((len(t), size))
    angle = t[:, None] * base ** (-np.arange(0, size, 2) / size)
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle[:, : size // 2])
    return table
