"""Python inside a program that XLA compiles.

`jax.pure_callback` does this too, but makes each argument one of JAX's arrays first, and an array of NumPy of that:
40 µs an argument, a copy of large ones, and a wait for a thread that may be the one that waits. Here the function gets
XLA's own memory as read-only arrays of NumPy, which are its only until it returns. Imported by `interop.jax` alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_primitive = Primitive("fastrnn")
_primitive.multiple_results = True


def callback(function: Callable[..., Any], results: Any, *args: Any) -> Any:
    """Call `function` with trees of NumPy arrays when the program runs.

    Parameters
    ----------
    function : callable
        Equal ones are compiled once.
    results : tree of jax.ShapeDtypeStruct
        What the function returns.
    *args : trees of arrays

    Returns
    -------
    tree of arrays
    """
    leaves, form = jax.tree.flatten(args)
    shapes, outer = jax.tree.flatten(results)
    avals = tuple(jax.core.ShapedArray(shape.shape, shape.dtype) for shape in shapes)
    flat = _primitive.bind(*leaves, function=_Flat(function, form), results=avals)
    return jax.tree.unflatten(outer, flat)


@dataclass(frozen=True)
class _Flat:
    """The function, of the leaves of its arguments to those of its results; equal if these are."""

    function: Callable[..., Any]
    form: Any

    def __call__(self, *leaves: Any) -> Sequence[Any]:
        found: Sequence[Any] = jax.tree.leaves(self.function(*jax.tree.unflatten(self.form, leaves)))
        return found


@functools.lru_cache(1024)
def _compiled(function: Hashable, results: Any) -> Any:
    return jax.jit(lambda *leaves: _primitive.bind(*leaves, function=function, results=results))


@_primitive.def_impl
def _run(*leaves: Any, function: Any, results: Any) -> Any:
    return _compiled(function, results)(*leaves)


@_primitive.def_abstract_eval
def _shapes(*leaves: Any, function: Any, results: Any) -> Any:
    return results


def _lowered(context: Any, *operands: Any, function: Any, results: Any) -> Any:
    if getattr(context.module_context.axis_context, "num_devices", 1) > 1:
        raise NotImplementedError("fastrnn: this program runs on several devices; expected it on one CPU")
    found, _, _ = mlir.emit_python_callback(
        context,
        function,
        None,
        list(operands),
        context.avals_in,
        context.avals_out,
        has_side_effect=False,
    )
    return found


# JAX 0.6 and later keep what is lowered, unless they are told that a function is called.
_known = inspect.signature(mlir.register_lowering).parameters
mlir.register_lowering(_primitive, _lowered, **({"cacheable": False} if "cacheable" in _known else {}))


def _one_by_one(leaves: Any, axes: Any, **params: Any) -> Any:
    """Under vmap: one call after another."""
    mapped = [k for k, axis in enumerate(axes) if axis is not None]

    def one(parts: Any) -> Any:
        full = list(leaves)
        for k, part in zip(mapped, parts, strict=True):
            full[k] = part
        return _primitive.bind(*full, **params)

    found = jax.lax.map(one, [jax.numpy.moveaxis(leaves[k], axes[k], 0) for k in mapped])
    return found, (0,) * len(found)


batching.primitive_batchers[_primitive] = _one_by_one


def _refused(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("fastrnn: only first derivatives are known, in reverse mode (grad, vjp, jacrev)")


ad.primitive_jvps[_primitive] = _refused
