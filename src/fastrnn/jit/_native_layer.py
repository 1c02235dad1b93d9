"""What a recurrent layer has inside ``@njit`` functions: the call, which runs whole sequences."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, attr-defined, misc, call-arg"
# What Numba has is known to Numba alone, and inner functions are its to type.

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import errors, types
from numba.extending import lower_builtin, overload, overload_method, register_jitable

from fastrnn import _check
from fastrnn.jit import native
from fastrnn.jit.native import LayerType, expect_array, fail, is_none

# slots of NativeLayer (csrc/native.h)
_forward = native.method(0)
_batch_first, _output_size = native.field(1), native.field(3)
_states, _h_size, _c_size = native.field(4), native.field(5), native.field(6)


def _readable(a):
    """None, or a C-contiguous array."""


@overload(_readable)
def _readable_of(a):
    if isinstance(a, types.Array) and a.layout != "C":
        return lambda a: np.ascontiguousarray(a)
    return lambda a: a


def _int64(lengths):
    """None, or lengths as the core takes them."""


@overload(_int64)
def _int64_of(lengths):
    if isinstance(lengths, types.Array) and (lengths.dtype != types.int64 or lengths.layout != "C"):
        return lambda lengths: lengths.astype(np.int64)
    return lambda lengths: lengths


@register_jitable
def _run(layer, x, h_0, c_0, lengths, y, h_n, c_n):
    error = _forward(layer, (x, h_0, c_0, lengths, y, h_n, c_n))
    if error == 2:  # x's last axis isn't contiguous
        error = _forward(layer, (np.ascontiguousarray(x), h_0, c_0, lengths, y, h_n, c_n))
    fail(error)


def _outputs(axes: int, dtype: Any) -> tuple[Any, Any]:
    """What makes room for y, and for a state of a size."""

    @register_jitable
    def one_y(layer, x):
        return np.empty((x.shape[0], _output_size(layer)), dtype)

    @register_jitable
    def one_state(layer, x, size):
        return np.empty((_states(layer), size), dtype)

    @register_jitable
    def batch_y(layer, x):
        return np.empty((x.shape[0], x.shape[1], _output_size(layer)), dtype)

    @register_jitable
    def batch_state(layer, x, size):
        return np.empty((_states(layer), x.shape[0] if _batch_first(layer) else x.shape[1], size), dtype)

    return (one_y, one_state) if axes == 2 else (batch_y, batch_state)


@overload_method(LayerType, "__call__")
def _call(layer, x, state=None, lengths=None):
    expect_array(x, layer.dtype, (2, 3), "x")
    new_y, new_state = _outputs(x.ndim, layer.dtype)
    for kind, typ, _ in native.leaves(("h", "c") if layer.has_c else "h", state):
        if typ is not None:
            expect_array(typ, layer.dtype, (x.ndim,), f"state ({kind})")
    if not is_none(lengths) and not (
        isinstance(lengths, types.Array) and lengths.ndim == 1 and isinstance(lengths.dtype, types.Integer)
    ):
        raise errors.TypingError(_check.native_type("lengths", "an array of integers, or None", lengths))

    def without_c(layer, x, state=None, lengths=None):
        y, h_n = new_y(layer, x), new_state(layer, x, _h_size(layer))
        _run(layer, x, _readable(state), None, _int64(lengths), y, h_n, None)
        return y, h_n

    def from_zeros(layer, x, state=None, lengths=None):
        y = new_y(layer, x)
        h_n, c_n = new_state(layer, x, _h_size(layer)), new_state(layer, x, _c_size(layer))
        _run(layer, x, None, None, _int64(lengths), y, h_n, c_n)
        return y, (h_n, c_n)

    def with_c(layer, x, state=None, lengths=None):
        y = new_y(layer, x)
        h_n, c_n = new_state(layer, x, _h_size(layer)), new_state(layer, x, _c_size(layer))
        _run(layer, x, _readable(state[0]), _readable(state[1]), _int64(lengths), y, h_n, c_n)
        return y, (h_n, c_n)

    return without_c if not layer.has_c else from_zeros if is_none(state) else with_c


@lower_builtin(LayerType, LayerType, types.VarArg(types.Any))
def _lower_call(context, builder, signature, args):
    """`layer(…)` is typed as the method above, but Numba doesn't look there for its code."""
    function = context.typing_context.resolve_getattr(signature.args[0], "__call__")
    bound = function.get_call_type(context.typing_context, signature.args[1:], {})
    return context.get_function(function, bound)(builder, args)
