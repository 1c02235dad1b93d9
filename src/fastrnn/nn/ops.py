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

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.nn import activations
from fastrnn.nn._tape import Piece
from fastrnn.nn._variable import FUNCTIONS, Variable

__all__ = [
    "absolute", "add", "broadcast_to", "clip", "concat", "divide", "exp", "expand_dims", "flip", "log", "log_softmax",
    "matmul", "max", "maximum", "mean", "minimum", "multiply", "negative", "power", "relu", "reshape", "sigmoid",
    "softmax", "softplus", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient", "subtract", "sum",
    "swapaxes", "tanh", "transpose", "where",
]  # fmt: skip

Array = Any  # an ndarray, or a Variable
Pull = Callable[[Any], Sequence[Any]]


def _numpy(*functions: Any) -> Callable[[Any], Any]:
    """Register an operation under NumPy's own."""

    def register(function: Any) -> Any:
        for key in functions:
            FUNCTIONS[key] = function
        return function

    return register


def _enter(value: Any, inputs: Sequence[Any], pull: Pull) -> Any:
    """Record one output of operands, of which at least one is a Variable."""
    tape = next(x._tape for x in inputs if isinstance(x, Variable))
    known = [x if isinstance(x, Variable) else None for x in inputs]
    return tape.add(lambda gradients: pull(gradients[0]), known, [np.asarray(value)])[0]


def _operands(name: str, *xs: Any) -> tuple[Any, list[Any]]:
    """(whether any is a Variable, plain operands of one dtype)."""
    variables = [x for x in xs if isinstance(x, Variable)]
    if not variables:
        return False, [np.asarray(x) for x in xs]
    dtype, values = next((v for v in variables if v.ndim), variables[0]).dtype, []  # a loss is a float64
    for x in xs:
        value = x.value if isinstance(x, Variable) else np.asarray(x)
        if value.dtype != dtype:
            if value.dtype.kind == "f" and value.ndim:
                raise TypeError(f"{name}: expected operands of one dtype, got {dtype} and {value.dtype}; see .astype")
            if value.dtype.kind not in "fiub":
                raise TypeError(f"{name}: expected numbers, got {value.dtype}")
            value = value.astype(dtype)
        values.append(value)
    return True, values


def _reduced(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient at an operand that was broadcast from `shape`."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.ndim - len(shape)
    ones = tuple(axis + lead for axis, n in enumerate(shape) if n == 1 and gradient.shape[axis + lead] != 1)
    return gradient.sum(axis=(*range(lead), *ones), keepdims=True).reshape(shape)


def _binary(name: str, value: Callable[..., Any], left: Callable[..., Any], right: Callable[..., Any]) -> Any:
    def run(a: Array, b: Array) -> Any:
        known, (x, y) = _operands(name, a, b)
        if not known:
            return value(a, b)
        z = value(x, y)

        def pull(g: Any) -> Sequence[Any]:
            return (
                _reduced(left(g, x, y, z), x.shape) if isinstance(a, Variable) else None,
                _reduced(right(g, x, y, z), y.shape) if isinstance(b, Variable) else None,
            )

        return _enter(z, (a, b), pull)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"`np.{value.__name__}`, elementwise."
    FUNCTIONS[value] = run
    return run


def _half(g: Any, taken: Any, tie: Any) -> Any:
    return g * (taken + tie * g.dtype.type(0.5)).astype(g.dtype)


add = _binary("add", np.add, lambda g, x, y, z: g, lambda g, x, y, z: g)
subtract = _binary("subtract", np.subtract, lambda g, x, y, z: g, lambda g, x, y, z: -g)
multiply = _binary("multiply", np.multiply, lambda g, x, y, z: g * y, lambda g, x, y, z: g * x)
divide = _binary("divide", np.divide, lambda g, x, y, z: g / y, lambda g, x, y, z: -g * z / y)
power = _binary("power", np.power, lambda g, x, y, z: g * y * x ** (y - 1), lambda g, x, y, z: g * z * np.log(x))
maximum = _binary(
    "maximum", np.maximum, lambda g, x, y, z: _half(g, x > y, x == y), lambda g, x, y, z: _half(g, y > x, x == y)
)
minimum = _binary(
    "minimum", np.minimum, lambda g, x, y, z: _half(g, x < y, x == y), lambda g, x, y, z: _half(g, y < x, x == y)
)


def _unary(name: str, numpy: Any, value: Callable[..., Any], gradient: Callable[..., Any], text: str) -> Any:
    def run(x: Array) -> Any:
        if not isinstance(x, Variable):
            return value(np.asarray(x))
        y = value(x.value)
        return _enter(y, (x,), lambda g: (gradient(g, x.value, y),))

    run.__name__ = run.__qualname__ = name
    run.__doc__ = text
    if numpy is not None:
        FUNCTIONS[numpy] = run
    FUNCTIONS.setdefault(name, run)
    return run


negative = _unary("negative", np.negative, np.negative, lambda g, x, y: -g, "`−x`.")
exp = _unary("exp", np.exp, np.exp, lambda g, x, y: g * y, "`eˣ`.")
log = _unary("log", np.log, np.log, lambda g, x, y: g / x, "The natural logarithm.")
sqrt = _unary("sqrt", np.sqrt, np.sqrt, lambda g, x, y: g / (y + y), "The square root.")
square = _unary("square", np.square, np.square, lambda g, x, y: g * (x + x), "`x²`.")
absolute = _unary("absolute", np.absolute, np.absolute, lambda g, x, y: g * np.sign(x), "`|x|`; the slope at 0 is 0.")
tanh = _unary("tanh", np.tanh, activations.tanh, lambda g, x, y: g * (1 - y * y), "The hyperbolic tangent.")
sigmoid = _unary("sigmoid", None, activations.sigmoid, lambda g, x, y: g * y * (1 - y), "`1 / (1 + e⁻ˣ)`.")
relu = _unary("relu", None, activations.relu, lambda g, x, y: g * (x > 0), "`max(x, 0)`; the slope at 0 is 0.")
softplus = _unary(
    "softplus", None, lambda x: np.logaddexp(x, x.dtype.type(0)), lambda g, x, y: g * activations.sigmoid(x),
    "`log(1 + eˣ)`.",
)  # fmt: skip


def stop_gradient(x: Array) -> Any:
    """The plain array: what is computed from it has no gradient."""
    return x.value if isinstance(x, Variable) else x


FUNCTIONS["stop_gradient"] = stop_gradient


# ---- matrices


@_numpy(np.matmul)
def matmul(a: Array, b: Array) -> Any:
    """`a @ b` by NumPy's rules; a linear map with parameters is `fr.Linear`."""
    known, (x, y) = _operands("matmul", a, b)
    if not known:
        return np.matmul(x, y)
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(f"matmul: expected arrays of two axes or more, got shapes {x.shape} and {y.shape}")

    def pull(g: Any) -> Sequence[Any]:
        return (
            _reduced(g @ np.swapaxes(y, -1, -2), x.shape) if isinstance(a, Variable) else None,
            _reduced(np.swapaxes(x, -1, -2) @ g, y.shape) if isinstance(b, Variable) else None,
        )

    return _enter(np.matmul(x, y), (a, b), pull)


# ---- shapes


def _getitem(x: Variable, index: Any) -> Any:
    parts = index if isinstance(index, tuple) else (index,)
    index = tuple(part.value if isinstance(part, Variable) else part for part in parts)
    return _enter(x.value[index], (x,), lambda g: (Piece(index, g),))


_getitem.__name__ = "getitem"
FUNCTIONS["getitem"] = _getitem


@_numpy(np.reshape)
def reshape(x: Array, shape: Any) -> Any:
    """The same elements, in rows of another shape."""
    if not isinstance(x, Variable):
        return np.reshape(x, shape)
    return _enter(x.value.reshape(shape), (x,), lambda g: (g.reshape(x.value.shape),))


@_numpy(np.transpose)
def transpose(x: Array, axes: Any = None) -> Any:
    """Axes in another order, by default reversed."""
    if not isinstance(x, Variable):
        return np.transpose(x, axes)
    back = None if axes is None else np.argsort([axis % x.ndim for axis in axes])
    return _enter(x.value.transpose(axes), (x,), lambda g: (g.transpose(back),))


@_numpy(np.swapaxes)
def swapaxes(x: Array, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    if not isinstance(x, Variable):
        return np.swapaxes(x, axis1, axis2)
    return _enter(x.value.swapaxes(axis1, axis2), (x,), lambda g: (g.swapaxes(axis1, axis2),))


@_numpy(np.expand_dims)
def expand_dims(x: Array, axis: Any) -> Any:
    """A new axis of length 1."""
    return np.expand_dims(x, axis) if not isinstance(x, Variable) else reshape(x, np.expand_dims(x.value, axis).shape)


@_numpy(np.squeeze)
def squeeze(x: Array, axis: Any = None) -> Any:
    """Without axes of length 1."""
    return np.squeeze(x, axis) if not isinstance(x, Variable) else reshape(x, np.squeeze(x.value, axis).shape)


@_numpy(np.broadcast_to)
def broadcast_to(x: Array, shape: Any) -> Any:
    """Repeated along axes of length 1, and new ones in front."""
    if not isinstance(x, Variable):
        return np.broadcast_to(x, shape)
    return _enter(np.broadcast_to(x.value, shape), (x,), lambda g: (_reduced(g, x.value.shape),))


@_numpy(np.flip)
def flip(x: Array, axis: Any = None) -> Any:
    """Elements along axes in reverse order."""
    if not isinstance(x, Variable):
        return np.flip(x, axis)
    return _enter(np.flip(x.value, axis), (x,), lambda g: (np.flip(g, axis),))


@_numpy(np.concatenate)
def concat(arrays: Sequence[Array], axis: int = 0) -> Any:
    """Arrays one after the other along an existing axis."""
    known, values = _operands("concat", *arrays)
    if not known:
        return np.concatenate(values, axis)
    ends = np.cumsum([value.shape[axis] for value in values])[:-1]
    return _enter(np.concatenate(values, axis), tuple(arrays), lambda g: np.split(g, ends, axis))


@_numpy(np.stack)
def stack(arrays: Sequence[Array], axis: int = 0) -> Any:
    """Arrays of one shape along a new axis."""
    known, values = _operands("stack", *arrays)
    if not known:
        return np.stack(values, axis)
    return _enter(np.stack(values, axis), tuple(arrays), lambda g: tuple(np.moveaxis(g, axis, 0)))


@_numpy(np.split)
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


@_numpy(np.sum)
def sum(x: Array, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The sum over axes."""
    if not isinstance(x, Variable):
        return np.sum(x, axis=axis, keepdims=keepdims)
    y = x.value.sum(axis=axis, keepdims=keepdims)
    return _enter(y, (x,), lambda g: (_spread(g, x.value.shape, axis, keepdims),))


@_numpy(np.mean)
def mean(x: Array, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The mean over axes."""
    if not isinstance(x, Variable):
        return np.mean(x, axis=axis, keepdims=keepdims)
    y = np.asarray(x.value.mean(axis=axis, keepdims=keepdims))
    scale = y.dtype.type(y.size / x.size if x.size else 0)
    return _enter(y, (x,), lambda g: (_spread(g * scale, x.value.shape, axis, keepdims),))


@_numpy(np.max, np.amax)
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

    return _enter(y if keepdims else y.squeeze(axis), (x,), pull)


@_numpy(np.where)
def where(condition: Any, a: Array, b: Array) -> Any:
    """`a` where the condition is true, else `b`."""
    condition = np.asarray(stop_gradient(condition), bool)
    known, (x, y) = _operands("where", a, b)
    if not known:
        return np.where(condition, a, b)

    def pull(g: Any) -> Sequence[Any]:
        zero = g.dtype.type(0)
        return _reduced(np.where(condition, g, zero), x.shape), _reduced(np.where(condition, zero, g), y.shape)

    return _enter(np.where(condition, x, y), (a, b), pull)


@_numpy(np.clip)
def clip(x: Array, low: float, high: float) -> Any:
    """Limited to low … high; outside the gradient is 0."""
    if not isinstance(x, Variable):
        return np.clip(x, low, high)
    inside = (x.value >= low) & (x.value <= high)
    y = np.clip(x.value, x.value.dtype.type(low), x.value.dtype.type(high))
    return _enter(y, (x,), lambda g: (g * inside,))


def softmax(x: Array, axis: int = -1) -> Any:
    """`eˣ / Σ eˣ` along an axis."""
    y = _softmax(stop_gradient(x), axis)
    if not isinstance(x, Variable):
        return y
    return _enter(y, (x,), lambda g: (y * (g - (g * y).sum(axis, keepdims=True)),))


def log_softmax(x: Array, axis: int = -1) -> Any:
    """`log softmax(x)`, accurate for tiny probabilities."""
    value = np.asarray(stop_gradient(x))
    shifted = value - value.max(axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    if not isinstance(x, Variable):
        return y
    return _enter(y, (x,), lambda g: (g - np.exp(y) * g.sum(axis, keepdims=True),))


def _softmax(value: Any, axis: int) -> Any:
    value = np.asarray(value)
    if axis in (-1, value.ndim - 1):
        return activations.softmax(value)
    return np.moveaxis(activations.softmax(np.ascontiguousarray(np.moveaxis(value, axis, -1))), -1, axis)


FUNCTIONS["softmax"], FUNCTIONS["log_softmax"] = softmax, log_softmax
