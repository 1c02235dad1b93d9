"""Sequences read from their end, the two ends of a bidirectional layer, and lengths that are in the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer
from fastrnn.nn._time import time_major
from fastrnn.nn.pooling import _Pool
from fastrnn.nn.sequential import Sequential

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Reverse(Layer):
    """Each row's steps in the reverse order: `y[t] = x[lengths − 1 − t]`; what lies past a row's length stays.

    Parameters
    ----------
    batch_first : bool
        `x` is [B, T, F] instead of [T, B, F].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    >>> fr.nn.Reverse()(x, lengths=[3, 2])[..., 0]
    array([[4., 3.],
           [2., 1.],
           [0., 5.]], dtype=float32)
    """

    takes_lengths = True

    def __init__(self, *, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = bool(batch_first)

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Turn the rows of `x` [T, B, F] round; lengths: integers [B], optional."""
        x = _check.sequence(x, self.dtype, self.batch_first)
        return self._turned(x, lengths)

    def vjp(
        self, x: ArrayLike, *, lengths: ArrayLike | None = None, input_grad: bool = True, retain: bool = False
    ) -> tuple[Any, Pullback]:
        """Turn rows round; `pullback(dy)` returns `dx` (None without `input_grad`)."""
        x = _check.sequence(x, self.dtype, self.batch_first)
        y, shape, dtype = self._turned(x, lengths), x.shape, x.dtype

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            dy = _check.gradient(dy, dtype, shape)
            return self._turned(dy, lengths) if input_grad else None

        return y, Pullback(run, "Reverse", retain)

    def _turned(self, x: NDArray[Any], lengths: Any) -> NDArray[Any]:
        y = np.empty_like(x)
        source, found = time_major(x, lengths, self.batch_first)
        target, _ = time_major(y, None, self.batch_first)
        if found is None:
            target[...] = source[::-1]
        else:
            t = np.arange(len(source))[:, None]
            target[...] = np.take_along_axis(source, np.where(t < found, found - 1 - t, t)[..., None], 0)
        return y

    def config(self) -> dict[str, Any]:
        return {"batch_first": self.batch_first}


class Ends(_Pool):
    """What a bidirectional layer knows after the whole row: its forward half at the end, its reverse half at the start.

    Parameters
    ----------
    batch_first : bool
        `x` is [B, T, 2·F] instead of [T, B, 2·F].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> rnn = fr.GRU(3, 4, bidirectional=True, seed=0)
    >>> y, h_n = rnn(np.ones((5, 2, 3), np.float32), lengths=[5, 2])
    >>> bool((fr.nn.Ends()(y, lengths=[5, 2]) == np.concatenate(h_n, -1)).all())
    True
    """

    def _forward(self, x: NDArray[Any], lengths: NDArray[np.int64] | None, save: bool) -> tuple[NDArray[Any], Any]:
        if x.shape[2] % 2:
            raise ValueError(f"x: expected an even number of features, two directions side by side, got {x.shape[2]}")
        half, columns = x.shape[2] // 2, np.arange(x.shape[1])
        ends = np.full(x.shape[1], len(x)) if lengths is None else lengths
        y = np.concatenate([x[ends - 1, columns, :half], x[0, :, half:]], -1)
        y[ends == 0] = 0
        return y, None

    def _backward(self, dy: NDArray[Any], saved: Any, lengths: NDArray[np.int64] | None, dx: NDArray[Any]) -> None:
        half = dx.shape[2] // 2
        ends = np.full(dx.shape[1], len(dx)) if lengths is None else lengths
        rows = np.flatnonzero(ends)
        dx.fill(0)
        dx[ends[rows] - 1, rows, :half] = dy[rows, :half]
        dx[0, rows, half:] = dy[rows, half:]


def lengths_from_mask(mask: ArrayLike, *, batch_first: bool = True) -> NDArray[np.int64]:
    """The lengths that a mask says: each row true up to some step, and false from there.

    Parameters
    ----------
    mask : array of bool, [B, T], or [T, B] without `batch_first`

    Returns
    -------
    array of integers, [B]

    Raises
    ------
    ValueError
        A row is true again after a step that is false: rows that are padded on the left, or have holes.

    Examples
    --------
    >>> from fastrnn.nn import lengths_from_mask
    >>> lengths_from_mask([[True, True, False], [True, False, False]])
    array([2, 1])
    """
    found = np.asarray(mask)
    if found.ndim != 2 or found.dtype != bool:
        raise ValueError(f"mask: expected bools [B, T], got {found.dtype} of shape {found.shape}")
    found = found if batch_first else found.T
    lengths: NDArray[np.int64] = found.sum(1)
    wrong = np.flatnonzero((np.arange(found.shape[1]) < lengths[:, None]).astype(bool) != found)
    if len(wrong):
        row = int(wrong[0] // found.shape[1])
        left = found[row, -1] and not found[row, 0]
        raise ValueError(
            f"mask: expected true up to a row's length and false from there, but row {row} "
            + (
                "begins with steps that are masked: pad sequences on the right (Keras: padding='post'), or move each "
                "row to the left"
                if left
                else "has masked steps between others: leave them out of the sequence"
            )
        )
    return lengths


class Masked(Sequential):
    """A `Sequential` that sees from its input how long each row is.

    A step counts unless it is `mask_value`: of integers [B, T] that number itself, of vectors [B, T, F] each of
    theirs. Padding must be at the end of rows. Lengths that are given are taken as they are.

    Parameters
    ----------
    *members : Layer
    mask_value : float
        What padding is made of.
    batch_first : bool
        The input is [B, T] or [B, T, F], instead of [T, B] or [T, B, F].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.nn.Masked(fr.Embedding(9, 4, seed=0), fr.GRU(4, 3, batch_first=True, seed=0))
    >>> y, (h_n,) = model(np.array([[5, 2, 7], [3, 0, 0]]))
    >>> y[1, 1:]
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        *members: Layer,
        mask_value: float = 0.0,
        batch_first: bool = True,
        layers: list[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(*members, layers=layers)
        self.mask_value = _check.number(mask_value, "mask_value")
        self.batch_first = bool(batch_first)

    def lengths(self, x: ArrayLike) -> NDArray[np.int64]:
        """Steps of each row of `x`."""
        x = np.asarray(x)
        mask = x != self.mask_value
        return lengths_from_mask(mask if x.dtype.kind in "iu" else mask.any(-1), batch_first=self.batch_first)

    def __call__(self, x: ArrayLike, state: Any = None, *, lengths: Any = None, dropout: bool = False) -> Any:
        """Run all layers, as `Sequential` does."""
        return super().__call__(x, state, lengths=self.lengths(x) if lengths is None else lengths, dropout=dropout)

    def vjp(self, x: ArrayLike, state: Any = None, *, lengths: Any = None, **options: Any) -> tuple[Any, Pullback]:
        """Run all layers and return what gives the gradients, as `Sequential` does."""
        return super().vjp(x, state, lengths=self.lengths(x) if lengths is None else lengths, **options)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "mask_value": self.mask_value, "batch_first": self.batch_first}

    def __repr__(self) -> str:
        return "Masked" + super().__repr__().removeprefix("Sequential")
