"""From a sequence to one vector a row: the last step, the mean, or the maximum over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer
from fastrnn.nn._time import time_major

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class _Pool(Layer):
    """What the three have in common: layouts, lengths, and one pair of functions over [T, B, F].

    A subclass defines `_forward(x, lengths, save)`, which returns `(y [B, F], saved)`, and
    `_backward(dy, saved, lengths, dx)`, which writes all of `dx` [T, B, F].
    """

    takes_lengths = True
    removes_time = True

    def __init__(self, *, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = bool(batch_first)

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Reduce over time.

        Parameters
        ----------
        x : array, [T, B, F]
            Or [B, T, F] with `batch_first`, or [T, F] for one sequence.
        lengths : array of integers, [B], optional
            Steps of each row that count. What lies beyond is not read. A row of length 0 gives zeros.

        Returns
        -------
        array, [B, F] (or [F])
        """
        x = _check.sequence(x, self.dtype, self.batch_first)
        steps, lengths = time_major(x, lengths, self.batch_first)
        y, _ = self._forward(steps, lengths, False)
        return y if x.ndim == 3 else y[0]

    def vjp(
        self,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Reduce over time as the call does; `pullback(dy)` returns `dx`, of the shape of `x` (None without
        `input_grad`), which is zero beyond a row's length."""
        x = _check.sequence(x, self.dtype, self.batch_first)
        steps, lengths = time_major(x, lengths, self.batch_first)
        y, saved = self._forward(steps, lengths, True)
        out = y if x.ndim == 3 else y[0]
        shape, dtype, out_shape = x.shape, x.dtype, out.shape

        def run(dy: ArrayLike) -> NDArray[Any] | None:
            dy = _check.gradient(dy, dtype, out_shape)
            if not input_grad:
                return None
            dx = _core.empty(shape, dtype)
            dy = np.ascontiguousarray(dy).reshape(y.shape)
            self._backward(dy, saved, lengths, time_major(dx, None, self.batch_first)[0])
            return dx

        return out, Pullback(run, type(self).__name__, retain)

    def _forward(self, x: NDArray[Any], lengths: NDArray[np.int64] | None, save: bool) -> tuple[NDArray[Any], Any]:
        raise NotImplementedError

    def _backward(self, dy: NDArray[Any], saved: Any, lengths: NDArray[np.int64] | None, dx: NDArray[Any]) -> None:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        return {"batch_first": self.batch_first}


class Last(_Pool):
    """The last step of each row: `y[b] = x[lengths[b] − 1, b]`.

    After a bidirectional layer, note that the reverse half of the last step has seen that step alone; the
    layer's final state holds both ends.

    Parameters
    ----------
    batch_first : bool
        `x` is [B, T, F] instead of [T, B, F].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    >>> fr.Last()(x, lengths=[3, 1])
    array([[4.],
           [1.]], dtype=float32)
    """

    def _forward(self, x: NDArray[Any], lengths: NDArray[np.int64] | None, save: bool) -> tuple[NDArray[Any], Any]:
        if lengths is None:
            return x[-1].copy(), None
        y = x[lengths - 1, np.arange(x.shape[1])]
        y[lengths == 0] = 0
        return y, None

    def _backward(self, dy: NDArray[Any], saved: Any, lengths: NDArray[np.int64] | None, dx: NDArray[Any]) -> None:
        dx.fill(0)
        if lengths is None:
            dx[-1] = dy
            return
        rows = np.flatnonzero(lengths)
        dx[lengths[rows] - 1, rows] = dy[rows]


class MeanPool(_Pool):
    """The mean over the steps of each row.

    Parameters
    ----------
    batch_first : bool
        `x` is [B, T, F] instead of [T, B, F].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    >>> fr.MeanPool()(x, lengths=[3, 2])
    array([[2.],
           [2.]], dtype=float32)
    """

    def _forward(self, x: NDArray[Any], lengths: NDArray[np.int64] | None, save: bool) -> tuple[NDArray[Any], Any]:
        y = np.empty(x.shape[1:], x.dtype)
        _core.mean_pool(x, lengths, y)
        return y, None

    def _backward(self, dy: NDArray[Any], saved: Any, lengths: NDArray[np.int64] | None, dx: NDArray[Any]) -> None:
        _core.mean_pool_backward(dy, lengths, dx)


class MaxPool(_Pool):
    """The largest value of each feature over the steps of each row.

    Where several steps share the maximum, the gradient goes to the first of them. A NaN counts as largest.

    Parameters
    ----------
    batch_first : bool
        `x` is [B, T, F] instead of [T, B, F].

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.array([[[1, 5]], [[2, 4]], [[9, 9]]], np.float32)
    >>> fr.MaxPool()(x, lengths=[2])
    array([[2., 5.]], dtype=float32)
    """

    def _forward(self, x: NDArray[Any], lengths: NDArray[np.int64] | None, save: bool) -> tuple[NDArray[Any], Any]:
        y = np.empty(x.shape[1:], x.dtype)
        step = np.empty(y.shape, np.int32 if y.dtype == np.float32 else np.int64) if save else None
        _core.max_pool(x, lengths, y, step)
        return y, step

    def _backward(self, dy: NDArray[Any], saved: Any, lengths: NDArray[np.int64] | None, dx: NDArray[Any]) -> None:
        _core.max_pool_backward(dy, saved, lengths, dx)
