"""OneHot: integers for a recurrent layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn._one_hot import OneHotArray
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class OneHot(Layer):
    """`fr.one_hot` as a layer without parameters: a `Sequential` that begins with it runs and trains on integers.

    Parameters
    ----------
    num_classes : int
        C, the `input_size` of the recurrent layer above: integers go from 0 to C - 1.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.Sequential(fr.OneHot(96), fr.LSTM(96, 16, seed=0), fr.Linear(16, 96, seed=0))
    >>> tokens = np.zeros((7, 4), int)  # [T, B]
    >>> (logits, _), pullback = model.vjp(tokens)
    >>> logits.shape
    (7, 4, 96)
    >>> dx, _ = pullback(np.ones_like(logits))
    >>> dx is None
    True
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = _check.positive_int(num_classes, "num_classes")

    def __call__(self, x: ArrayLike) -> OneHotArray:
        """Say that integers stand for one-hot rows.

        Parameters
        ----------
        x : array of integers, [...]
            Or what is one-hot already.

        Returns
        -------
        OneHotArray, [..., num_classes]

        Raises
        ------
        TypeError
            `x` holds no integers.
        ValueError
            An integer out of range, with its value.
        """
        if isinstance(x, OneHotArray) and x.num_classes == self.num_classes:
            return x
        return OneHotArray(x, self.num_classes, "x")

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[OneHotArray, Pullback]:
        """The same, and a pullback that has nothing to do.

        Parameters
        ----------
        x : array of integers, [...]
        input_grad : bool
            Accepted because all layers do; integers have no gradient.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        y : OneHotArray, [..., num_classes]
        pullback : callable
            `pullback(dy)` returns None.
        """

        def run(dy: Any) -> None:
            return None

        return self(x), Pullback(run, "OneHot", retain)

    def config(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes}
