"""What a stream has inside ``@njit`` functions: `step`, `run`, `reset`, `refresh`, `state` and its sizes."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, attr-defined, misc, call-arg"
# What Numba has is known to Numba alone, and inner functions are its to type.

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate, bound_function, infer_getattr, signature
from numba.extending import intrinsic, lower_builtin, overload_attribute, overload_method, register_jitable

from fastrnn import _check
from fastrnn.jit import native
from fastrnn.jit.native import StreamType, expect_array, fail, is_none

# slots of NativeStream (csrc/native.h)
_SLOTS = {"step": 0, "run": 1}
_STATES = 2
_calls = {name: native.method(slot) for name, slot in _SLOTS.items()}
_pack = native.method(3)
_batch_size, _input_size, _output_size = native.field(4), native.field(5), native.field(6)
_size = native.table(8)


# ---- steps -----------------------------------------------------------------------------------------------------
# Lowered by hand where `out` is given and nothing may have to be copied: a function in between, with its counting of
# references, would take as long as a small step.


def _expect_input(s: StreamType, x: Any, dims: tuple[int, ...]) -> int:
    """The number of axes of y; dims: those of x, were it floats."""
    if s.integers and 1 in dims and isinstance(x, types.Integer):
        return 1
    expect_array(x, types.int64 if s.integers else s.dtype, tuple(n - s.integers for n in dims if n > s.integers), "x")
    return int(x.ndim) + s.integers


def _signature(s: StreamType, dims: tuple[int, ...], args: Any, kws: Any) -> Any:
    """Numba's signature of `step` or `run`."""
    given = _PARAMETERS.bind(*args, **kws).arguments
    x, out = types.unliteral(given["x"]), given.get("out", types.Omitted(None))
    axes = _expect_input(s, x, dims)
    if not is_none(out):
        expect_array(out, s.dtype, (axes,), "out", written=True)
    result = types.Array(s.dtype, axes, "C") if is_none(out) else out
    return signature(result, x, out).replace(pysig=_PARAMETERS)


def _call(x, out=None):
    """The parameters of `step` and `run`."""


_PARAMETERS = inspect.signature(_call)


@infer_getattr
class _Moves(AttributeTemplate):
    key = StreamType

    @bound_function("fastrnn.stream.step")
    def resolve_step(self, s, args, kws):
        return _signature(s, (1, 2), args, kws)

    @bound_function("fastrnn.stream.run")
    def resolve_run(self, s, args, kws):
        return _signature(s, (2, 3), args, kws)


@lower_builtin("fastrnn.stream.step", StreamType, types.VarArg(types.Any))
def _lower_step(context, builder, signature, args):
    return _lower("step", context, builder, signature, args)


@lower_builtin("fastrnn.stream.run", StreamType, types.VarArg(types.Any))
def _lower_run(context, builder, signature, args):
    return _lower("run", context, builder, signature, args)


def _lower(name: str, context: Any, builder: Any, signature: Any, args: Any) -> Any:
    s, x, out = signature.args
    if is_none(out) or (isinstance(x, types.Array) and x.layout != "C"):
        make = None if not is_none(out) else _room(name, signature.return_type.ndim, s.dtype)
        return context.compile_internal(builder, _whole(_calls[name], make), signature, args)
    pointers = [native.describe(context, builder, typ, value) for typ, value in zip((x, out), args[1:], strict=True)]
    error = native.call(context, builder, s, args[0], _SLOTS[name], pointers)
    native.raising(context, builder, error, (1, 2, 3, 4, 5, 6))
    return impl_ret_borrowed(context, builder, signature.return_type, args[2])


def _whole(function: Any, make: Any) -> Callable[..., Any]:
    """`step` or `run` that may have to copy x; make: what makes room for y, or None."""

    @register_jitable
    def move(s, x, y):
        error = function(s, (x, y))
        if error == 2:  # strides: nothing has changed yet
            error = function(s, (np.ascontiguousarray(x), y))
        fail(error)

    def fresh(s, x, out):
        y = make(s, x)
        move(s, x, y)
        return y

    def given(s, x, out):
        move(s, x, out)
        return out

    return given if make is None else fresh


def _room(name: str, axes: int, dtype: Any) -> Any:
    """What makes room for y."""

    @register_jitable
    def row(s, x):
        return np.empty(_output_size(s), dtype)

    @register_jitable
    def rows(s, x):
        return np.empty((_batch_size(s), _output_size(s)), dtype)

    @register_jitable
    def steps(s, x):
        return np.empty((x.shape[0], _output_size(s)), dtype)

    @register_jitable
    def batch(s, x):
        return np.empty((x.shape[0], x.shape[1], _output_size(s)), dtype)

    return {("step", 1): row, ("step", 2): rows, ("run", 2): steps, ("run", 3): batch}[name, axes]


# ---- states ----------------------------------------------------------------------------------------------------


@intrinsic
def _states(typingctx: Any, s: Any, state: Any, rows: Any, inwards: Any) -> Any:
    """Read or write the states: the arrays of `state`, of rows or (None) all."""
    found = list(native.leaves(s.form, state))
    for kind, typ, _ in found:
        if typ is not None:
            expect_array(typ, s.dtype, (2, 3), f"state ({kind})")

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays: list[Any] = []
        for kind, typ, get in found:
            if kind == "h":
                arrays += [None, None]
            if typ is not None:
                arrays[-2 if kind == "h" else -1] = native.describe(context, builder, typ, get(builder, values[1]))
        place = cgutils.alloca_once(builder, ir.ArrayType(cgutils.voidptr_t, len(arrays)))
        for k, array in enumerate(arrays):
            builder.store(
                ir.Constant(cgutils.voidptr_t, None) if array is None else array,
                cgutils.gep_inbounds(builder, place, 0, k),
            )
        index = native.describe(context, builder, rows, values[2])
        return native.call(
            context, builder, s, values[0], _STATES, [builder.bitcast(place, cgutils.voidptr_t), index, values[3]]
        )

    return types.int64(s, state, rows, types.int64), codegen


@overload_method(StreamType, "reset")
def _reset(s, state=None, rows=None):
    if is_none(rows):
        return lambda s, state=None, rows=None: fail(_states(s, state, None, 1))
    whole = isinstance(rows, types.Array) and rows.ndim == 1
    if not (whole and isinstance(rows.dtype, types.Boolean | types.Integer)):
        raise errors.TypingError(_check.native_type("rows", "an array of integers or bools, or None", rows))
    if isinstance(rows.dtype, types.Integer):
        if rows.dtype == types.int64 and rows.aligned:
            return lambda s, state=None, rows=None: fail(_states(s, state, rows, 1))
        return lambda s, state=None, rows=None: fail(_states(s, state, rows.astype(np.int64), 1))

    def where(s, state=None, rows=None):
        if len(rows) != _batch_size(s):
            fail(8)
        fail(_states(s, state, np.flatnonzero(rows), 1))

    return where


def _reader(form: Any, member: int, dtype: Any) -> tuple[Any, int]:
    """What makes room for the state of a form that begins with a member, and the number of the next member."""
    if form == "h":

        @register_jitable
        def h(s):
            return np.empty((_size(s, 3 * member), _batch_size(s), _size(s, 3 * member + 1)), dtype)

        return h, member + 1
    if form == "c":  # of the member whose h came before

        @register_jitable
        def c(s):
            return np.empty((_size(s, 3 * member - 3), _batch_size(s), _size(s, 3 * member - 1)), dtype)

        return c, member

    @register_jitable
    def make(s):
        return ()

    for part in form:
        make, member = _appended(make, part, member, dtype)
    return make, member


def _appended(before: Any, form: Any, member: int, dtype: Any) -> tuple[Any, int]:
    part, member = _reader(form, member, dtype)

    @register_jitable
    def make(s):
        return (*before(s), part(s))

    return make, member


@overload_attribute(StreamType, "state")
def _state(s):
    make, _ = _reader(s.form, 0, s.dtype)

    def read(s):
        state = make(s)
        fail(_states(s, state, None, 0))
        return state

    return read


# ---- the rest --------------------------------------------------------------------------------------------------


@overload_method(StreamType, "refresh")
def _refresh(s):
    return lambda s: fail(_pack(s, ()))


@overload_attribute(StreamType, "batch_size")
def _batch_size_of(s):
    return lambda s: _batch_size(s)


@overload_attribute(StreamType, "input_size")
def _input_size_of(s):
    return lambda s: _input_size(s)
