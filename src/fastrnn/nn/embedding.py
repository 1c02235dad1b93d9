"""Embedding: rows of a table, by integer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class Embedding(Layer):
    """A table of vectors: `y[...] = weight[x[...]]`.

    Parameters
    ----------
    num_embeddings : int
        Rows of the table: indices go from 0 to `num_embeddings - 1`.
    embedding_dim : int
        Length of a row.
    padding_idx : int or None
        A row that starts as zeros and gets no gradient.
    lazy : bool
        Keep a record of the rows that got gradients, in `touched`. `zero_grads` then clears those rows alone
        and optimisers update them alone, so a step costs nothing for the rest of a large table. The gradients
        are the same; don't write into other rows of `grads["weight"]` yourself.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, normal with σ = 1 as in PyTorch.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> table = fr.Embedding(10, 4, lazy=True, seed=0)
    >>> y, pullback = table.vjp([[7, 2], [2, 0]])
    >>> y.shape
    (2, 2, 4)
    >>> pullback(np.ones_like(y))
    >>> table.touched["weight"]
    array([0, 2, 7])
    >>> table.grads["weight"][2]
    array([2., 2., 2., 2.], dtype=float32)
    """

    dtype: np.dtype[Any]

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        lazy: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.num_embeddings = _check.positive_int(num_embeddings, "num_embeddings")
        self.embedding_dim = _check.positive_int(embedding_dim, "embedding_dim")
        self.padding_idx = padding_idx
        self.lazy = bool(lazy)
        weight = init.normal((self.num_embeddings, self.embedding_dim), 1.0, dtype=self.dtype, seed=seed)
        if padding_idx is not None:
            self.padding_idx = _check.index(padding_idx, self.num_embeddings, "padding_idx")
            weight[self.padding_idx] = 0
        self._add_param("weight", weight)
        if self.lazy:
            self._touched["weight"] = []

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Look rows up.

        Parameters
        ----------
        x : array of integers, [...]

        Returns
        -------
        array, [..., embedding_dim]

        Raises
        ------
        ValueError
            An index outside the table, with its value.
        """
        return self._forward(self._indices(x))

    def vjp(self, x: ArrayLike, *, input_grad: bool = True, retain: bool = False) -> tuple[Any, Pullback]:
        """Look rows up and return what adds their gradients.

        Parameters
        ----------
        x : array of integers, [...]
        input_grad : bool
            Accepted because all layers do; integers have no gradient.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        y : array, [..., embedding_dim]
        pullback : callable
            `pullback(dy)` adds to `grads` and returns None.
        """
        x = self._indices(x)
        y = self._forward(x)
        shape = y.shape

        def run(dy: ArrayLike) -> None:
            # dweight[x[n]] += dy[n]
            self._add_gradient(_check.gradient(dy, self.dtype, shape), x)

        return y, Pullback(run, "Embedding", retain)

    def _add_gradient(self, dy: NDArray[Any], x: NDArray[np.int64]) -> None:
        parts, rows = np.ascontiguousarray(dy).reshape(-1, self.embedding_dim), x.ravel()
        if self.padding_idx is not None:
            real = rows != self.padding_idx
            parts, rows = parts[real], rows[real]
        with self._lock:
            _core.embedding_backward(parts, rows, self._grads["weight"])
            if self.lazy:
                self._touched["weight"].append(rows)

    def _indices(self, x: ArrayLike) -> NDArray[np.int64]:
        return _check.integers(x, "x")

    def _forward(self, x: NDArray[np.int64]) -> NDArray[Any]:
        y = _core.empty((x.size, self.embedding_dim), self.dtype)
        try:
            _core.embedding_forward(self._params["weight"], x.ravel(), y)
        except ValueError:  # the kernel looks at every index before it reads; here are the words
            _check.in_range(x, self.num_embeddings, "num_embeddings", "x")
            raise
        return y.reshape(*x.shape, self.embedding_dim)

    def config(self) -> dict[str, Any]:
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": self.padding_idx,
            "lazy": self.lazy,
            "dtype": self.dtype.name,
        }
