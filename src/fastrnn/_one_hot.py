"""One-hot arrays as what they say: integers, and how many there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class OneHotArray:
    """An array `[..., C]` that is 1 at `indices[...]` of its last axis and 0 elsewhere, without these numbers.

    `fr.one_hot` and the layer `fr.OneHot` make them. Recurrent layers take one as x and multiply nothing; for everybody
    else it becomes a dense array, `np.asarray(x)`.

    Parameters
    ----------
    indices : array of integers, [...]
        From 0 to `num_classes - 1`; copied.
    num_classes : int
        C.
    name : str
        What errors call `indices`.

    Attributes
    ----------
    indices : array of int64, [...], read-only
    num_classes : int
    shape : tuple of int
        [..., C], that of the dense array.
    ndim : int
        Its axes.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = fr.OneHotArray([[2, 0]], 3)
    >>> x.shape
    (1, 2, 3)
    >>> np.asarray(x)
    array([[[0., 0., 1.],
            [1., 0., 0.]]], dtype=float32)
    """

    __slots__ = ("_indices", "_num_classes")

    def __init__(self, indices: ArrayLike, num_classes: int, name: str = "indices") -> None:
        self._num_classes = _check.positive_int(num_classes, "num_classes")
        # A copy of one's own: what has been looked at here stays as it was.
        self._indices = _check.integers(indices, name).copy()
        _check.in_range(self._indices, self._num_classes, "num_classes", name)
        self._indices.flags.writeable = False

    @property
    def indices(self) -> NDArray[np.int64]:
        """The integers, [...]."""
        return self._indices

    @property
    def num_classes(self) -> int:
        """The length of the last axis."""
        return self._num_classes

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the dense array, [..., num_classes]."""
        return (*self._indices.shape, self._num_classes)

    @property
    def ndim(self) -> int:
        """The number of axes of the dense array."""
        return self._indices.ndim + 1

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The dense array, float32 if no dtype is asked for."""
        if copy is False:
            raise _check.always_copied("OneHotArray")
        dense: NDArray[Any] = np.zeros(self.shape, np.float32 if dtype is None else dtype)
        np.put_along_axis(dense, self._indices[..., None], 1, axis=-1)
        return dense

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> OneHotArray:
        """The same steps, rows, … as of the dense array, whose last axis stays whole."""
        return OneHotArray(self._indices[index], self._num_classes)

    def __reduce__(self) -> tuple[Any, ...]:
        return OneHotArray, (self._indices, self._num_classes)

    def __repr__(self) -> str:
        return f"OneHotArray(indices of shape {self._indices.shape}, num_classes={self._num_classes})"


def one_hot(indices: ArrayLike, num_classes: int) -> OneHotArray:
    """Integers as one-hot input of a recurrent layer, which takes columns of its first weight instead of multiplying.

    Results and gradients have the bits that the dense array gives (as long as the weights are finite); `dx` is None.

    Parameters
    ----------
    indices : array of integers, [T, B], [B, T] for a layer with `batch_first`, or [T] for one sequence
        From 0 to `num_classes - 1`, past a row's length too.
    num_classes : int
        The `input_size` of the layer.

    Returns
    -------
    OneHotArray
        Of shape [T, B, num_classes].

    Raises
    ------
    TypeError
        `indices` holds no integers.
    ValueError
        An index out of range, with its value.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> lstm = fr.LSTM(50, 8, seed=0)
    >>> x = fr.one_hot([[3, 1], [4, 1], [5, 9]], 50)  # T=3, B=2
    >>> (y, _), pullback = lstm.vjp(x)
    >>> dx, _ = pullback(np.ones_like(y))
    >>> y.shape, dx is None
    ((3, 2, 8), True)
    >>> np.flatnonzero(lstm.grads["weight_ih_l0"].any(0))
    array([1, 3, 4, 5, 9])
    """
    return OneHotArray(indices, num_classes)
