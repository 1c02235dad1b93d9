"""Operators on numbers: arithmetic, comparison, logic, functions of one argument."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.interop.graph._node import Node, operator
from fastrnn.nn.activations import _apply

Array = Any  # of any dtype


def _enter(table: dict[str, Callable[..., Any]]) -> None:
    """Operators that are one function of arrays."""
    for name, function in table.items():
        operator(name)(_without_node(function))


def _without_node(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, *arrays: function(*arrays)


# ---- of two


def divide(a: Array, b: Array) -> Array:
    """a/b; whole numbers are rounded towards zero, as in C, where Python rounds down."""
    if a.dtype.kind not in "iu":
        return a / b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(quotient.dtype)


def power(a: Array, b: Array) -> Array:
    """a^b in the type of a."""
    return np.power(a, b).astype(a.dtype, copy=False)


def _shift(node: Node, a: Array, b: Array) -> Array:
    return np.left_shift(a, b) if node.get("direction") == "LEFT" else np.right_shift(a, b)


def _mod(node: Node, a: Array, b: Array) -> Array:
    return np.fmod(a, b) if node.get("fmod", 0) else np.mod(a, b)


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x < 0, slope * x, x)


operator("BitShift")(_shift)
operator("Mod")(_mod)
_enter(
    {
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": divide,
        "Pow": power,
        "PRelu": prelu,
        "And": np.logical_and,
        "Or": np.logical_or,
        "Xor": np.logical_xor,
        "BitwiseAnd": np.bitwise_and,
        "BitwiseOr": np.bitwise_or,
        "BitwiseXor": np.bitwise_xor,
        "Equal": np.equal,
        "Less": np.less,
        "LessOrEqual": np.less_equal,
        "Greater": np.greater,
        "GreaterOrEqual": np.greater_equal,
        "Where": np.where,
    }
)


# ---- of any number


def _fold(function: Callable[[Array, Array], Array]) -> Callable[..., Any]:
    return lambda *arrays: functools.reduce(function, arrays)


def mean(*arrays: Array) -> Array:
    total = functools.reduce(np.add, arrays)
    return total / total.dtype.type(len(arrays))


_enter({"Sum": _fold(np.add), "Min": _fold(np.minimum), "Max": _fold(np.maximum), "Mean": mean})


# ---- of one


def by_kernel(kernel: str, x: Array, alpha: float = 0.0) -> Array:
    """A function that the core has, in the type of x."""
    if x.dtype in (np.float32, np.float64):
        return _apply(kernel, np.ascontiguousarray(x).reshape(x.shape), alpha)
    return _apply(kernel, x.astype(np.float32), alpha).astype(x.dtype)


def erf(x: Array) -> Array:
    """From the core's gelu(z) = z·(1 + erf(z/√2))/2 in float64; its series near 0, where that would cancel."""
    y = x.astype(np.float64)
    z = np.sqrt(2) * y
    square = y * y
    terms = (1, -1 / 3, 1 / 10, -1 / 42, 1 / 216, -1 / 1320)
    series = 2 / np.sqrt(np.pi) * y * functools.reduce(lambda total, term: total * square + term, reversed(terms))
    found = np.clip(2 * by_kernel("gelu", z) / z - 1, -1, 1)
    return np.where(np.abs(y) < 0.1, series, np.where(np.isinf(y), np.sign(y), found)).astype(x.dtype)


def gelu(x: Array, approximate: str) -> Array:
    """x·Φ(x), or its approximation by tanh."""
    if approximate != "tanh":
        return by_kernel("gelu", x)
    return 0.5 * x * (1 + np.tanh(x.dtype.type(np.sqrt(2 / np.pi)) * (x + 0.044715 * x * x * x)))


def softplus(x: Array) -> Array:
    return np.logaddexp(x.dtype.type(0), x)


def elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _is_inf(node: Node, x: Array) -> Array:
    up, down = node.get("detect_positive", 1), node.get("detect_negative", 1)
    return np.isinf(x) & ((up & (x > 0)) | (down & (x < 0))).astype(bool)


operator("IsInf")(_is_inf)
_enter(
    {
        "Abs": np.abs,
        "Neg": np.negative,
        "Exp": np.exp,
        "Log": np.log,
        "Sqrt": np.sqrt,
        "Reciprocal": np.reciprocal,
        "Floor": np.floor,
        "Ceil": np.ceil,
        "Round": np.round,
        "Sign": np.sign,
        "Erf": erf,
        "Sin": np.sin,
        "Cos": np.cos,
        "Tan": np.tan,
        "Asin": np.arcsin,
        "Acos": np.arccos,
        "Atan": np.arctan,
        "Sinh": np.sinh,
        "Cosh": np.cosh,
        "Asinh": np.arcsinh,
        "Acosh": np.arccosh,
        "Atanh": np.arctanh,
        "IsNaN": np.isnan,
        "Not": np.logical_not,
        "BitwiseNot": np.invert,
        "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
        "Sigmoid": functools.partial(by_kernel, "sigmoid"),
        "Tanh": functools.partial(by_kernel, "tanh"),
        "Softplus": softplus,
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        "Mish": lambda x: x * np.tanh(softplus(x)),
    }
)

# name → (function of x and numbers, the numbers' attributes and what they are where they aren't given)
_WITH_NUMBERS: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "LeakyRelu": (lambda x, alpha: np.where(x < 0, alpha * x, x), {"alpha": 0.01}),
    "Elu": (elu, {"alpha": 1.0}),
    "Celu": (lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)), {"alpha": 1.0}),
    "Selu": (lambda x, alpha, gamma: gamma * elu(x, alpha), {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "ThresholdedRelu": (lambda x, alpha: np.where(x > alpha, x, 0), {"alpha": 1.0}),
    "HardSigmoid": (lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), {"alpha": 0.2, "beta": 0.5}),
    "Swish": (lambda x, alpha: by_kernel("swish", x, alpha), {"alpha": 1.0}),
    "Shrink": (
        lambda x, lambd, bias: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
        {"lambd": 0.5, "bias": 0.0},
    ),
}


def _numbered(node: Node, x: Array) -> Array:
    function, numbers = _WITH_NUMBERS[node.op]
    return function(x, *(node.get(name, default) for name, default in numbers.items())).astype(x.dtype, copy=False)


operator(*_WITH_NUMBERS)(_numbered)


@operator("Gelu")
def _gelu(node: Node, x: Array) -> Array:
    return gelu(x, node.get("approximate", "none")).astype(x.dtype, copy=False)


@operator("Clip")
def _clip(node: Node, x: Array, low: Array = None, high: Array = None) -> Array:
    """The limits were attributes before version 11."""
    low, high = (node.get("min", low), node.get("max", high)) if node.version < 11 else (low, high)
    if low is not None:
        x = np.maximum(x, np.asarray(low, x.dtype))
    return x if high is None else np.minimum(x, np.asarray(high, x.dtype))


# ---- products


@operator("MatMul")
def _matmul(node: Node, a: Array, b: Array) -> Array:
    return np.matmul(a, b)


@operator("Gemm")
def _gemm(node: Node, a: Array, b: Array, c: Array = None) -> Array:
    """α·A'·B' + β·C."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    y = np.matmul(a.T if node.get("transA", 0) else a, b.T if node.get("transB", 0) else b)
    if alpha != 1:
        y = (y * alpha).astype(a.dtype)
    return y if c is None or beta == 0 else (y + c if beta == 1 else (y + beta * c).astype(a.dtype))


@operator("Einsum")
def _einsum(node: Node, *arrays: Array) -> Array:
    return np.einsum(node.get("equation"), *arrays)
