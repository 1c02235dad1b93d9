"""Scaled dot-product attention on plain arrays: checked arguments, the kernel, and the pullback."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def with_rows(a: NDArray[Any]) -> NDArray[Any]:
    """`a`, or a copy with contiguous rows."""
    if (a.shape[-1] == 1 or a.strides[-1] == a.itemsize) and _check.readable(a) is a:
        return a
    return np.ascontiguousarray(a)


def empty_like(a: NDArray[Any], columns: int) -> NDArray[Any]:
    """[T, B, columns] in memory that follows `a` [T, B, ·]: rows of the batch together if there they are."""
    steps, batch = a.shape[:2]
    if batch > 1 and a.strides[1] > a.strides[0]:
        return _core.empty((batch, steps, columns), a.dtype).swapaxes(0, 1)
    return _core.empty((steps, batch, columns), a.dtype)


def without_padding(
    a: NDArray[Any], by_step: Callable[[NDArray[Any]], NDArray[Any]], lengths: NDArray[Any] | None
) -> NDArray[Any]:
    """`a`, which `by_step` shows as [S, B, ·]; where rows are padded a copy with zeros there.

    For products with gradients: those are 0 past lengths, but 0 · NaN is NaN.
    """
    if lengths is None or int(lengths.min(initial=len(by_step(a)))) == len(by_step(a)):
        return a
    a = a.copy()
    rows = by_step(a)
    rows[np.arange(len(rows))[:, None] >= lengths] = 0
    return a


class Heads:
    """One call of dot-product attention on time-major arrays whose rows are contiguous."""

    def __init__(
        self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], heads: int, lengths: Any, causal: bool, mask: Any,
        scale: float, dropout: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.inputs = (q, k, v)
        self.options: tuple[Any, ...] = (heads, lengths, causal, mask, scale, dropout, seed)
        self.y: Any = None
        self.stats: Any = None
        self.weights: Any = None

    def forward(self, save: bool, weights: bool) -> NDArray[Any]:
        q, k, v = self.inputs
        heads, lengths, causal, mask, scale, dropout, seed = self.options
        steps, batch = q.shape[:2]
        self.y = empty_like(q, v.shape[2])
        if save:
            self.stats = np.empty((batch, heads, steps, 2), q.dtype)
        if weights:
            self.weights = _core.empty((steps, batch, heads, len(k)), q.dtype)
        _core.dot_attention(
            q, k, v, heads, lengths, causal, mask, scale, dropout, seed, self.y, self.stats, self.weights
        )
        y: NDArray[Any] = self.y
        return y

    def backward(self, dy: NDArray[Any], dq: NDArray[Any], dk: NDArray[Any], dv: NDArray[Any]) -> None:
        (q, k, v), (heads, lengths, causal, mask, scale, dropout, seed) = self.inputs, self.options
        _core.dot_attention_backward(
            q, k, v, heads, lengths, causal, mask, scale, dropout, seed, self.y, self.stats, with_rows(dy), dq, dk, dv
        )


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    num_heads: int = 1,
    lengths: ArrayLike | None = None,
    causal: bool = False,
    mask: ArrayLike | None = None,
    scale: float | None = None,
    batch_first: bool = False,
    return_weights: bool = False,
) -> Any:
    """Scaled dot-product attention, `y = softmax(scale·q·kᵀ + mask)·v` for each head.

    Parameters
    ----------
    q : array, [T, B, N·D], [B, T, N·D] with `batch_first`, or [T, N·D] for one sequence
        Queries of N heads side by side; float32 or float64, any strides.
    k : array, [S, B, N·D]
        Keys.
    v : array, [S, B, N·E]
        Values.
    num_heads : int
        N.
    lengths : integers, [B], optional
        0 … S for each row: what lies past it is neither read nor looked at.
    causal : bool
        Query t sees source steps 0 … t only.
    mask : array that broadcasts to [B, N, T, S], optional
        Bools, True where a query may look, or floats that are added to the scores (-inf: may not look).
    scale : float, optional
        By default 1/√D.
    batch_first : bool
        q, k, v and y are [B, T, ·].
    return_weights : bool
        Return the softmax, too.

    Returns
    -------
    y : array, [T, B, N·E] in the layout of q
        A query that may look at nothing gives zeros.
    weights : array, [T, B, N, S] in the layout of q, with `return_weights`

    References
    ----------
    Vaswani et al.: Attention Is All You Need, 2017, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> q, k = np.zeros((3, 2, 8)), np.zeros((5, 2, 8))  # [T, B, F], [S, B, F]
    >>> y, weights = F.attention(q, k, k, num_heads=2, lengths=[5, 2], return_weights=True)
    >>> y.shape, weights[0, 1, 0]
    ((3, 2, 8), array([0.5, 0.5, 0. , 0. , 0. ]))
    """
    call, out = _call(q, k, v, num_heads, lengths, causal, mask, scale, batch_first)
    y = out(call.forward(False, bool(return_weights)))
    return (y, out(call.weights)) if return_weights else y


def attention_vjp(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    num_heads: int = 1,
    lengths: ArrayLike | None = None,
    causal: bool = False,
    mask: ArrayLike | None = None,
    scale: float | None = None,
    batch_first: bool = False,
    return_weights: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> tuple[Any, Callable[..., Any]]:
    """`attention` and its vector–Jacobian product.

    Parameters
    ----------
    q, k, v, num_heads, lengths, causal, mask, scale, batch_first, return_weights
        As for `attention`; q, k, v and mask are held by reference until the pullback has run.
    dropout : float
        Share of the weights to set to zero; the others are divided by the rest. Returned weights are those before.
    seed : int
        Decides, with a weight's place, which.

    Returns
    -------
    outputs
        What `attention` returns; `y` is read-only, for it is saved memory.
    pullback : callable
        `pullback(dy)` returns `(dq, dk, dv)`; zeros past lengths. The weights are computed again there, so memory grows
        with T + S and not with T·S. It runs once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> q, k = np.ones((3, 2, 8)), np.ones((5, 2, 8))
    >>> y, pullback = F.attention_vjp(q, k, k, num_heads=2, causal=True)
    >>> [d.shape for d in pullback(np.ones_like(y))]
    [(3, 2, 8), (5, 2, 8), (5, 2, 8)]
    """
    rate, bits = _check.fraction(dropout, "dropout"), _check.seed(seed) & 0xFFFF_FFFF_FFFF_FFFF
    call, out = _call(q, k, v, num_heads, lengths, causal, mask, scale, batch_first, rate, bits)
    y = out(call.forward(True, bool(return_weights))).view()
    y.flags.writeable = False

    def run(dy: ArrayLike, dweights: None = None) -> tuple[Any, ...]:
        _check.no_weights_gradient(dweights)
        dy = out(_check.gradient(dy, y.dtype, y.shape), back=True)
        grads = tuple(empty_like(a, a.shape[2]) for a in call.inputs)
        call.backward(dy, *grads)
        return tuple(map(out, grads))

    return (y, out(call.weights)) if return_weights else y, Pullback(run, "functional.attention_vjp", retain=None)


def _call(
    q: Any, k: Any, v: Any, num_heads: Any, lengths: Any, causal: Any, mask: Any, scale: Any, batch_first: bool,
    dropout: float = 0.0, seed: int = 0,
) -> tuple[Heads, Callable[..., NDArray[Any]]]:  # fmt: skip
    """The call, and the function that gives its time-major arrays the caller's layout, or theirs to his (`back`)."""
    heads = _check.positive_int(num_heads, "num_heads")
    arrays = _check.attended(q, k, v, heads, batch_first)
    unbatched = arrays[0].ndim == 2

    def out(a: NDArray[Any], back: bool = False) -> NDArray[Any]:
        if unbatched:
            return a[:, None] if back else a[:, 0]
        return a.swapaxes(0, 1) if batch_first else a

    q, k, v = (with_rows(out(a, back=True)) for a in arrays)
    steps, batch, sources = q.shape[0], q.shape[1], k.shape[0]
    if lengths is not None:
        lengths = [lengths] if unbatched and np.ndim(lengths) == 0 else lengths
        lengths = _check.lengths(lengths, batch, sources, "S")
    mask = score_mask(mask, (batch, heads, steps, sources), q.dtype)
    factor = 1 / math.sqrt(q.shape[2] // heads) if scale is None else _check.number(scale, "scale")
    return Heads(q, k, v, heads, lengths, bool(causal), mask, factor, dropout, seed), out


def score_mask(mask: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """A mask as numbers to add to the scores [B, N, T, S]; axes of length 1 are not multiplied, but for the last."""
    if mask is None:
        return None
    array = _check.score_mask(mask, shape, dtype)
    if array.dtype == np.bool_:
        array = np.where(array, dtype.type(0), dtype.type(-np.inf))
    if array.ndim == 0 or array.shape[-1] != shape[-1]:
        array = np.broadcast_to(array, (*array.shape[:-1], shape[-1]))
    return np.broadcast_to(with_rows(array), shape)
