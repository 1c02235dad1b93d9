"""Array operations between layers: on plain arrays they are NumPy's, on Variables they are recorded.

Under NumPy's names they work on Variables, too: `np.concatenate([a, b], -1)` is `ops.concat([a, b], -1)`.

Examples
--------
>>> import numpy as np, fastrnn as fr
>>> fr.concat([np.ones((2, 1)), np.zeros((2, 2))], -1)
array([[1., 0., 0.],
       [1., 0., 0.]])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from fastrnn.nn import activations
from fastrnn.nn._operations import binary, enter, numpy_name, operands, reduced, unary
from fastrnn.nn._tape import Piece
from fastrnn.nn._variable import FUNCTIONS, Variable

__all__ = [
    "absolute", "add", "broadcast_to", "clip", "concat", "divide", "exp", "expand_dims", "flip", "log", "log_softmax",
    "matmul", "max", "maximum", "mean", "minimum", "multiply", "negative", "power", "relu", "reshape", "sigmoid",
    "softmax", "softplus", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient", "subtract", "sum",
    "swapaxes", "tanh", "transpose", "where",
]  # fmt: skip

Array = Any  # an ndarray, or a Variable


def _half(g: Any, taken: Any, tie: Any) -> Any:
    return g * (taken + tie * g.dtype.type(0.5)).astype(g.dtype)


add = binary("add", np.add, lambda g, x, y, z: g, lambda g, x, y, z: g)
subtract = binary("subtract", np.subtract, lambda g, x, y, z: g, lambda g, x, y, z: -g)
multiply = binary("multiply", np.multiply, lambda g, x, y, z: g * y, lambda g, x, y, z: g * x)
divide = binary("divide", np.divide, lambda g, x, y, z: g / y, lambda g, x, y, z: -g * z / y)
power = binary("power", np.power, lambda g, x, y, z: g * y * x ** (y - 1), lambda g, x, y, z: g * z * np.log(x))
maximum = binary(
    "maximum", np.maximum, lambda g, x, y, z: _half(g, x > y, x == y), lambda g, x, y, z: _half(g, y > x, x == y)
)
minimum = binary(
    "minimum", np.minimum, lambda g, x, y, z: _half(g, x < y, x == y), lambda g, x, y, z: _half(g, y < x, x == y)
)


negative = unary("negative", np.negative, np.negative, lambda g, x, y: -g, "`−x`.")
exp = unary("exp", np.exp, np.exp, lambda g, x, y: g * y, "`eˣ`.")
log = unary("log", np.log, np.log, lambda g, x, y: g / x, "The natural logarithm.")
sqrt = unary("sqrt", np.sqrt, np.sqrt, lambda g, x, y: g / (y + y), "The square root.")
square = unary("square", np.square, np.square, lambda g, x, y: g * (x + x), "`x²`.")
absolute = unary("absolute", np.absolute, np.absolute, lambda g, x, y: g * np.sign(x), "`|x|`; the slope at 0 is 0.")
tanh = unary("tanh", np.tanh, activations.tanh, lambda g, x, y: g * (1 - y * y), "The hyperbolic tangent.")
sigmoid = unary("sigmoid", None, activations.sigmoid, lambda g, x, y: g * y * (1 - y), "`1 / (1 + e⁻ˣ)`.")
relu = unary("relu", None, activations.relu, lambda g, x, y: g * (x > 0), "`max(x, 0)`; the slope at 0 is 0.")
softplus = unary(
    "softplus", None, lambda x: np.logaddexp(x, x.dtype.type(0)), lambda g, x, y: g * activations.sigmoid(x),
    "`log(1 + eˣ)`.",
)  # fmt: skip


def stop_gradient(x: Array) -> Any:
    """The plain array: what is computed from it has no gradient."""
    return x.value if isinstance(x, Variable) else x


FUNCTIONS["stop_gradient"] = stop_gradient


# ---- matrices


@numpy_name(np.matmul)
def matmul(a: Array, b: Array) -> Any:
    """`a @ b` by NumPy's rules; a linear map with parameters is `fr.Linear`."""
    known, (x, y) = operands("matmul", a, b)
    if not known:
        return np.matmul(x, y)
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(f"matmul: expected arrays of two axes or more, got shapes {x.shape} and {y.shape}")

    def pull(g: Any) -> Sequence[Any]:
        return (
            reduced(g @ y.swapaxes(-1, -2), x.shape) if isinstance(a, Variable) else None,
            reduced(x.swapaxes(-1, -2) @ g, y.shape) if isinstance(b, Variable) else None,
        )

    return enter(np.matmul(x, y), (a, b), pull)


# ---- shapes


def _getitem(x: Variable, index: Any) -> Any:
    if type(index) is not int and type(index) is not slice:
        parts = index if isinstance(index, tuple) else (index,)
        index = tuple([part.value if type(part) is Variable else part for part in parts])
    return enter(x.value[index], (x,), lambda g: (Piece(index, g),))


_getitem.__name__ = "getitem"
FUNCTIONS["getitem"] = _getitem


@numpy_name(np.reshape)
def reshape(x: Array, shape: Any) -> Any:
    """The same elements, in rows of another shape."""
    if not isinstance(x, Variable):
        return np.reshape(x, shape)
    return enter(x.value.reshape(shape), (x,), lambda g: (g.reshape(x.value.shape),))


@numpy_name(np.transpose)
def transpose(x: Array, axes: Any = None) -> Any:
    """Axes in another order, by default reversed."""
    if not isinstance(x, Variable):
        return np.transpose(x, axes)
    back = None if axes is None else sorted(range(x.ndim), key=[axis % x.ndim for axis in axes].__getitem__)
    return enter(x.value.transpose(axes), (x,), lambda g: (g.transpose(back),))


@numpy_name(np.swapaxes)
def swapaxes(x: Array, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    if not isinstance(x, Variable):
        return np.swapaxes(x, axis1, axis2)
    return enter(x.value.swapaxes(axis1, axis2), (x,), lambda g: (g.swapaxes(axis1, axis2),))


@numpy_name(np.expand_dims)
def expand_dims(x: Array, axis: Any) -> Any:
    """A new axis of length 1."""
    return np.expand_dims(x, axis) if not isinstance(x, Variable) else reshape(x, np.expand_dims(x.value, axis).shape)


@numpy_name(np.squeeze)
def squeeze(x: Array, axis: Any = None) -> Any:
    """Without axes of length 1."""
    return np.squeeze(x, axis) if not isinstance(x, Variable) else reshape(x, np.squeeze(x.value, axis).shape)


@numpy_name(np.broadcast_to)
def broadcast_to(x: Array, shape: Any) -> Any:
    """Repeated along axes of length 1, and new ones in front."""
    if not isinstance(x, Variable):
        return np.broadcast_to(x, shape)
    return enter(np.broadcast_to(x.value, shape), (x,), lambda g: (reduced(g, x.value.shape),))


@numpy_name(np.flip)
def flip(x: Array, axis: Any = None) -> Any:
    """Elements along axes in reverse order."""
    if not isinstance(x, Variable):
        return np.flip(x, axis)
    return enter(np.flip(x.value, axis), (x,), lambda g: (np.flip(g, axis),))


@numpy_name(np.concatenate)
def concat(arrays: Sequence[Array], axis: int = 0) -> Any:
    """Arrays one after the other along an existing axis.

    Parameters
    ----------
    arrays : sequence of arrays
        Of one dtype, alike but in `axis`.
    axis : int

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.concat([np.ones((2, 1)), np.zeros((2, 2))], -1).shape
    (2, 3)
    """
    known, values = operands("concat", *arrays)
    if not known:
        return np.concatenate(values, axis)
    lead, ends = (slice(None),) * (axis % values[0].ndim), [0, *accumulate(value.shape[axis] for value in values)]
    parts = [(*lead, slice(first, last)) for first, last in pairwise(ends)]
    return enter(np.concatenate(values, axis), tuple(arrays), lambda g: [g[part] for part in parts])


@numpy_name(np.stack)
def stack(arrays: Sequence[Array], axis: int = 0) -> Any:
    """Arrays of one shape along a new axis.

    Parameters
    ----------
    arrays : sequence of arrays
        Of one dtype and shape.
    axis : int
        Where the new axis stands in the result.

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.stack([np.ones(3), np.zeros(3)], -1).shape
    (3, 2)
    """
    known, values = operands("stack", *arrays)
    if not known:
        return np.stack(values, axis)
    return enter(np.stack(values, axis), tuple(arrays), lambda g: tuple(np.moveaxis(g, axis, 0) if axis else g))


@numpy_name(np.split)
def split(x: Array, sections: Any, axis: int = 0) -> list[Any]:
    """Parts of an array along an axis: a number of equal ones, or cut at the given places."""
    if not isinstance(x, Variable):
        return list(np.split(x, sections, axis))
    parts, first, found = np.split(x.value, sections, axis), 0, []
    lead = (slice(None),) * (axis % x.ndim)
    for part in parts:
        last = first + part.shape[axis]
        found.append(x[(*lead, slice(first, last))])
        first = last
    return found


# ---- sums and choices


def _spread(g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, shape)


@numpy_name(np.sum)
def sum(x: Array, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The sum over axes."""
    if not isinstance(x, Variable):
        return np.sum(x, axis=axis, keepdims=keepdims)
    y = x.value.sum(axis=axis, keepdims=keepdims)
    return enter(y, (x,), lambda g: (_spread(g, x.value.shape, axis, keepdims),))


@numpy_name(np.mean)
def mean(x: Array, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The mean over axes."""
    if not isinstance(x, Variable):
        return np.mean(x, axis=axis, keepdims=keepdims)
    y = np.asarray(x.value.mean(axis=axis, keepdims=keepdims))
    scale = y.dtype.type(y.size / x.size if x.size else 0)
    return enter(y, (x,), lambda g: (_spread(g * scale, x.value.shape, axis, keepdims),))


@numpy_name(np.max, np.amax)
def max(x: Array, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The largest value over axes; the first of several equal ones gets the gradient."""
    if not isinstance(x, Variable):
        return np.max(x, axis=axis, keepdims=keepdims)
    if axis is None:
        flat = reshape(x, -1)
        y = max(flat, 0)
        return reshape(y, (1,) * x.ndim) if keepdims else y
    where = np.expand_dims(x.value.argmax(axis), axis)
    y = np.take_along_axis(x.value, where, axis)

    def pull(g: Any) -> Sequence[Any]:
        dx = np.zeros_like(x.value)
        np.put_along_axis(dx, where, g if keepdims else np.expand_dims(g, axis), axis)
        return (dx,)

    return enter(y if keepdims else y.squeeze(axis), (x,), pull)


@numpy_name(np.where)
def where(condition: Any, a: Array, b: Array) -> Any:
    """`a` where the condition is true, else `b`."""
    condition = np.asarray(stop_gradient(condition), bool)
    known, (x, y) = operands("where", a, b)
    if not known:
        return np.where(condition, a, b)

    def pull(g: Any) -> Sequence[Any]:
        zero = g.dtype.type(0)
        return reduced(np.where(condition, g, zero), x.shape), reduced(np.where(condition, zero, g), y.shape)

    return enter(np.where(condition, x, y), (a, b), pull)


@numpy_name(np.clip)
def clip(x: Array, low: float, high: float) -> Any:
    """Limited to low … high; outside the gradient is 0."""
    if not isinstance(x, Variable):
        return np.clip(x, low, high)
    inside = (x.value >= low) & (x.value <= high)
    y = np.clip(x.value, x.value.dtype.type(low), x.value.dtype.type(high))
    return enter(y, (x,), lambda g: (g * inside,))


def softmax(x: Array, axis: int = -1) -> Any:
    """`eˣ / Σ eˣ` along an axis."""
    y = _softmax(stop_gradient(x), axis)
    if not isinstance(x, Variable):
        return y
    return enter(y, (x,), lambda g: (y * (g - (g * y).sum(axis, keepdims=True)),))


def log_softmax(x: Array, axis: int = -1) -> Any:
    """`log softmax(x)`, accurate for tiny probabilities."""
    value = np.asarray(stop_gradient(x))
    shifted = value - value.max(axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    if not isinstance(x, Variable):
        return y
    return enter(y, (x,), lambda g: (g - np.exp(y) * g.sum(axis, keepdims=True),))


def _softmax(value: Any, axis: int) -> Any:
    value = np.asarray(value)
    if axis in (-1, value.ndim - 1):
        return activations.softmax(value)
    return np.moveaxis(activations.softmax(np.ascontiguousarray(np.moveaxis(value, axis, -1))), -1, axis)


FUNCTIONS["softmax"], FUNCTIONS["log_softmax"] = softmax, log_softmax
