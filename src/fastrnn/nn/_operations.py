"""How an operation is recorded: the pieces that `ops` is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.nn._variable import FUNCTIONS, Variable

Array = Any  # an ndarray, or a Variable
Pull = Callable[[Any], Sequence[Any]]


def numpy_name(*functions: Any) -> Callable[[Any], Any]:
    """Register an operation under NumPy's own."""

    def register(function: Any) -> Any:
        for key in functions:
            FUNCTIONS[key] = function
        return function

    return register


def enter(value: Any, inputs: Sequence[Any], pull: Pull) -> Any:
    """Record one output of operands, of which at least one is a Variable."""
    for x in inputs:
        if type(x) is Variable:
            return x._tape.add(value if type(value) is np.ndarray else np.asarray(value), pull, inputs)
    raise AssertionError("no operand is a Variable")


def operands(name: str, *xs: Any) -> tuple[Any, list[Any]]:
    """(whether any is a Variable, plain operands of one dtype)."""
    variables = [x.value for x in xs if type(x) is Variable]
    if not variables:
        return False, [np.asarray(x) for x in xs]
    dtype, values = variables[0].dtype, []
    if len(variables) == len(xs) and all(x.dtype is dtype for x in variables):
        return True, variables
    if variables[0].ndim == 0:  # a loss is a float64
        dtype = next((x for x in variables if x.ndim), variables[0]).dtype
    for x in xs:
        value = x.value if type(x) is Variable else np.asarray(x)
        if value.dtype != dtype:
            if value.dtype.kind == "f" and value.ndim:
                raise TypeError(f"{name}: expected operands of one dtype, got {dtype} and {value.dtype}; see .astype")
            if value.dtype.kind not in "fiub":
                raise TypeError(f"{name}: expected numbers, got {value.dtype}")
            value = value.astype(dtype)
        values.append(value)
    return True, values


def reduced(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient at an operand that was broadcast from `shape`."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.ndim - len(shape)
    ones = tuple(axis + lead for axis, n in enumerate(shape) if n == 1 and gradient.shape[axis + lead] != 1)
    return gradient.sum(axis=(*range(lead), *ones), keepdims=True).reshape(shape)


def binary(name: str, value: Callable[..., Any], left: Callable[..., Any], right: Callable[..., Any]) -> Any:
    def run(a: Array, b: Array) -> Any:
        first, second = type(a) is Variable, type(b) is Variable
        if not first and not second:
            return value(a, b)
        if first and second and a.value.dtype is b.value.dtype:
            x, y = a.value, b.value
        else:
            _, (x, y) = operands(name, a, b)
        z = value(x, y)

        def pull(g: Any) -> Sequence[Any]:
            return (
                reduced(left(g, x, y, z), x.shape) if first else None,
                reduced(right(g, x, y, z), y.shape) if second else None,
            )

        return enter(z, (a, b), pull)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"`np.{value.__name__}`, elementwise."
    FUNCTIONS[value] = run
    return run


def unary(name: str, numpy: Any, value: Callable[..., Any], gradient: Callable[..., Any], text: str) -> Any:
    def run(x: Array) -> Any:
        if type(x) is not Variable:
            return value(np.asarray(x))
        plain = x.value
        y = value(plain)
        return enter(y, (x,), lambda g: (gradient(g, plain, y),))

    run.__name__ = run.__qualname__ = name
    run.__doc__ = text
    if numpy is not None:
        FUNCTIONS[numpy] = run
    FUNCTIONS.setdefault(name, run)
    return run
