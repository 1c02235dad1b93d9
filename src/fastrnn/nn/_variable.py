"""Variable: an array between layers, while a tape records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.nn._tape import Tape

# What each operation is called outside, filled by `ops`: NumPy's functions and operators find ours here.
FUNCTIONS: dict[Any, Callable[..., Any]] = {}


def _operator(name: str, swapped: bool = False) -> Callable[..., Any]:
    key = getattr(np, name)

    def run(self: Variable, other: Any) -> Any:
        return FUNCTIONS[key](other, self) if swapped else FUNCTIONS[key](self, other)

    return run


def _compare(name: str) -> Callable[..., Any]:
    def run(self: Variable, other: Any) -> Any:  # a choice has no gradient: the result is a plain array
        return getattr(np, name)(self.value, other.value if isinstance(other, Variable) else other)

    return run


class Variable:
    """An array that depends on parameters: made by layers inside `Model.forward` and losses of `value_and_grad`.

    It is computed with as with an array: `+ - * / ** @`, indexing, `reshape`, `transpose`, `sum`, `mean`, comparisons
    (which give plain arrays), and the functions of `fastrnn.ops`, NumPy's of the same names included. Everything else
    is refused by name, since its gradient would be lost.

    Attributes
    ----------
    value : array
        The plain array, for printing and for decisions. What is computed from it has no gradient.
    """

    __slots__ = ("_gradient", "_owned", "_tape", "value")
    __hash__ = object.__hash__
    _gradient: Any  # what has arrived of it; `_owned` if it may be added to in place

    def __init__(self, value: NDArray[Any], tape: Tape) -> None:
        self.value, self._tape, self._gradient, self._owned = value, tape, None, False

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)

    __add__, __radd__ = _operator("add"), _operator("add", True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", True)
    __pow__, __rpow__ = _operator("power"), _operator("power", True)
    __lt__, __le__, __gt__, __ge__ = map(_compare, ("less", "less_equal", "greater", "greater_equal"))
    __eq__, __ne__ = map(_compare, ("equal", "not_equal"))

    def __neg__(self) -> Any:
        return FUNCTIONS[np.negative](self)

    def __abs__(self) -> Any:
        return FUNCTIONS[np.absolute](self)

    def __getitem__(self, index: Any) -> Any:
        return FUNCTIONS["getitem"](self, index)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[position] for position in range(len(self.value)))

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Variable({self.value!r})"

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "a Variable can't be written into; build the new array with fr.concat, fr.stack or fr.ops.where"
        )

    @property
    def T(self) -> Any:
        """The transpose."""
        return self.transpose()

    def reshape(self, *shape: Any) -> Any:
        """As `ndarray.reshape`."""
        return FUNCTIONS[np.reshape](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """As `ndarray.transpose`."""
        return FUNCTIONS[np.transpose](self, (axes[0] if len(axes) == 1 else axes) or None)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As `ndarray.sum`."""
        return FUNCTIONS[np.sum](self, axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As `ndarray.mean`."""
        return FUNCTIONS[np.mean](self, axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As `ndarray.max`."""
        return FUNCTIONS[np.max](self, axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As `ndarray.min`."""
        return -(-self).max(axis, keepdims)

    def squeeze(self, axis: Any = None) -> Any:
        """As `ndarray.squeeze`."""
        return FUNCTIONS[np.squeeze](self, axis)

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        """As `ndarray.swapaxes`."""
        return FUNCTIONS[np.swapaxes](self, axis1, axis2)

    def flatten(self) -> Any:
        """As `ndarray.flatten`."""
        return self.reshape(-1)

    # ---- NumPy's protocols -------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        function = FUNCTIONS.get(ufunc)
        if function is None and method == "__call__" and ufunc.types[-1].endswith("?"):  # comparisons and the like
            return ufunc(*(a.value if isinstance(a, Variable) else a for a in args), **kwargs)
        if function is None or method != "__call__" or kwargs:
            raise _refused(f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}"), kwargs)
        return function(*args)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        ours = FUNCTIONS.get(function)
        if ours is None:
            raise _refused(f"{function.__module__.replace('numpy', 'np')}.{function.__name__}", {})
        return ours(*args, **kwargs)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise _refused("an array made from it", {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _refused(f".{name}", {})


class UnknownOperation(TypeError, AttributeError):
    """An operation whose gradient isn't known."""


def _refused(what: str, options: dict[str, Any]) -> UnknownOperation:
    options_text = f" with {', '.join(options)}" if options else ""
    known = sorted({f.__name__ for f in FUNCTIONS.values()} - {"getitem"})
    return UnknownOperation(
        f"{what}{options_text}: no gradient is known for that. fr.ops has {', '.join(known)}; x.value (or "
        "fr.ops.stop_gradient(x)) is the plain array, which has no gradient"
    )
