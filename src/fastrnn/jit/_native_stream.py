"""What a stream has inside ``@njit`` functions: `step`, `run`, `reset`, `refresh`, `state` and its sizes."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The inner functions are Numba's to type.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic, overload_attribute, overload_method, register_jitable

from fastrnn import _check
from fastrnn.jit import native
from fastrnn.jit.native import StreamType, check, expect_array, is_none

# slots of NativeStream (csrc/native.h)
_STATES = 2
_step, _run, _pack = native.method(0), native.method(1), native.method(3)
_batch_size, _input_size, _output_size = native.field(4), native.field(5), native.field(6)
_size = native.table(8)


# ---- steps -----------------------------------------------------------------------------------------------------


def _mover(function: Any) -> tuple[Any, Any]:
    """Calls of `step` or `run`: for an x that is C-contiguous, and for one that may have to be copied."""

    @register_jitable
    def direct(s, x, y):
        check(function(s, (x, y)))

    @register_jitable
    def copying(s, x, y):
        error = function(s, (x, y))
        if error == 2:  # strides: nothing has changed yet
            error = function(s, (np.ascontiguousarray(x), y))
        check(error)

    return direct, copying


_movers = {"step": _mover(_step), "run": _mover(_run)}


def _expect_input(s: StreamType, x: Any, dims: tuple[int, ...]) -> int:
    """The number of axes of y; dims: those of x, were it floats."""
    if s.integers and 1 in dims and isinstance(x, types.Integer):
        return 1
    expect_array(x, types.int64 if s.integers else s.dtype, tuple(n - s.integers for n in dims if n > s.integers), "x")
    return int(x.ndim) + s.integers


def _given(move: Any, out: Any, dtype: Any, axes: int) -> Callable[..., Any]:
    expect_array(out, dtype, (axes,), "out", written=True)

    def given(s, x, out=None):
        move(s, x, out)
        return out

    return given


@overload_method(StreamType, "step")
def _stream_step(s, x, out=None):
    axes, dtype = _expect_input(s, x, (1, 2)), s.dtype
    move = _movers["step"][isinstance(x, types.Array) and x.layout != "C"]
    if not is_none(out):
        return _given(move, out, dtype, axes)

    def one_row(s, x, out=None):
        y = np.empty(_output_size(s), dtype)
        move(s, x, y)
        return y

    def rows(s, x, out=None):
        y = np.empty((_batch_size(s), _output_size(s)), dtype)
        move(s, x, y)
        return y

    return one_row if axes == 1 else rows


@overload_method(StreamType, "run")
def _stream_run(s, x, out=None):
    axes, dtype = _expect_input(s, x, (2, 3)), s.dtype
    move = _movers["run"][x.layout != "C"]
    if not is_none(out):
        return _given(move, out, dtype, axes)

    def one_row(s, x, out=None):
        y = np.empty((x.shape[0], _output_size(s)), dtype)
        move(s, x, y)
        return y

    def rows(s, x, out=None):
        y = np.empty((x.shape[0], x.shape[1], _output_size(s)), dtype)
        move(s, x, y)
        return y

    return one_row if axes == 2 else rows


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
        return lambda s, state=None, rows=None: check(_states(s, state, None, 1))
    whole = isinstance(rows, types.Array) and rows.ndim == 1
    if not (whole and isinstance(rows.dtype, types.Boolean | types.Integer)):
        raise errors.TypingError(_check.native_type("rows", "an array of integers or bools, or None", rows))
    if isinstance(rows.dtype, types.Integer):
        if rows.dtype == types.int64 and rows.aligned:
            return lambda s, state=None, rows=None: check(_states(s, state, rows, 1))
        return lambda s, state=None, rows=None: check(_states(s, state, rows.astype(np.int64), 1))

    def where(s, state=None, rows=None):
        if len(rows) != _batch_size(s):
            check(8)
        check(_states(s, state, np.flatnonzero(rows), 1))

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
        check(_states(s, state, None, 0))
        return state

    return read


# ---- the rest --------------------------------------------------------------------------------------------------


@overload_method(StreamType, "refresh")
def _refresh(s):
    return lambda s: check(_pack(s, ()))


@overload_attribute(StreamType, "batch_size")
def _batch_size_of(s):
    return lambda s: _batch_size(s)


@overload_attribute(StreamType, "input_size")
def _input_size_of(s):
    return lambda s: _input_size(s)
