"""What cells compute with. Each function takes a cell's values, plain numbers, or NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.jit import _trace
from fastrnn.jit._interpret import FUNCTIONS
from fastrnn.jit._trace import Traced

__all__ = [
    *("abs", "exp", "log", "maximum", "minimum", "power", "relu", "sigmoid", "softplus", "sqrt", "tanh", "where"),
]


def _single(op: str, x: Any) -> Any:
    return _trace.apply(op, x) if isinstance(x, Traced) else FUNCTIONS[op](x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ).

    Examples
    --------
    >>> from fastrnn.jit import sigmoid
    >>> float(sigmoid(0.0))
    0.5
    """
    return _single("sigmoid", x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent.

    Examples
    --------
    >>> from fastrnn.jit import tanh
    >>> float(tanh(0.0))
    0.0
    """
    return _single("tanh", x)


def exp(x: Any) -> Any:
    """eˣ.

    Examples
    --------
    >>> from fastrnn.jit import exp
    >>> float(exp(0.0))
    1.0
    """
    return _single("exp", x)


def log(x: Any) -> Any:
    """The natural logarithm: −∞ at 0, NaN below.

    Examples
    --------
    >>> from fastrnn.jit import log
    >>> float(log(1.0))
    0.0
    """
    return _single("log", x)


def sqrt(x: Any) -> Any:
    """The square root: NaN below 0.

    Examples
    --------
    >>> from fastrnn.jit import sqrt
    >>> float(sqrt(9.0))
    3.0
    """
    return _single("sqrt", x)


def relu(x: Any) -> Any:
    """max(x, 0); the derivative at 0 is 0.

    Examples
    --------
    >>> from fastrnn.jit import relu
    >>> float(relu(-2.0)), float(relu(2.0))
    (0.0, 2.0)
    """
    return _single("relu", x)


def softplus(x: Any) -> Any:
    """log(1 + eˣ), without overflow.

    Examples
    --------
    >>> from fastrnn.jit import softplus
    >>> float(softplus(1000.0))
    1000.0
    """
    return _single("softplus", x)


def abs(x: Any) -> Any:
    """|x|; the derivative at 0 is 0. Python's own abs() does the same.

    Examples
    --------
    >>> from fastrnn.jit import abs
    >>> float(abs(-2.0))
    2.0
    """
    return _single("abs", x)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of the two, NaN if one is; where they are equal the gradient goes to the first.

    Examples
    --------
    >>> from fastrnn.jit import minimum
    >>> float(minimum(1.0, 2.0))
    1.0
    """
    return _trace.extreme("min", a, b) if isinstance(a, Traced) or isinstance(b, Traced) else np.minimum(a, b)


def maximum(a: Any, b: Any) -> Any:
    """The greater of the two, NaN if one is; where they are equal the gradient goes to the first.

    Examples
    --------
    >>> from fastrnn.jit import maximum
    >>> float(maximum(1.0, 2.0))
    2.0
    """
    return _trace.extreme("max", a, b) if isinstance(a, Traced) or isinstance(b, Traced) else np.maximum(a, b)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b. Both are computed; the gradient goes to the one that was taken.

    Examples
    --------
    >>> from fastrnn.jit import where
    >>> float(where(1.0 > 0.0, 3.0, 4.0))
    3.0
    """
    traced = any(isinstance(x, Traced) for x in (condition, a, b))
    return _trace.choose(condition, a, b) if traced else np.where(condition, a, b)


def power(a: Any, b: Any) -> Any:
    """a to the power of b, as `a ** b`.

    With an integer constant b these are products, for any a; else exp(b·log(a)): NaN for a below 0.

    Examples
    --------
    >>> from fastrnn.jit import power
    >>> float(power(3.0, 2))
    9.0
    """
    return _trace._binary("pow", a, b) if isinstance(a, Traced) or isinstance(b, Traced) else np.power(a, b)
