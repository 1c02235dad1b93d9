"""Streams and layers inside users' own ``@njit`` functions: no interpreter, no GIL, the same methods and the same bits.

Numba finds this module by itself, when it first meets a stream or a layer: as an argument, in a tuple, a list or a
jitclass, or as a global or closure variable of a compiled function. See `docs/numba.md`.

A stream or layer is to Numba a pointer to a struct of the core (csrc/native.h) that begins with its functions, and a
reference to the Python object, which lives as long as compiled code holds it. No address is part of the code that is
made here, so that Numba can keep it on disk. What it can't keep is a function that has captured an object as a global
or closure variable; it says so.

Examples
--------
>>> import numba, numpy as np, fastrnn as fr
>>> @numba.njit(nogil=True)
... def simulate(s, x, n):
...     y = np.empty(4, np.float32)
...     for _ in range(n):
...         s.step(x, y)  # as in Python: writes y
...         x = np.tanh(x + y[:2])
...     return y
>>> s = fr.GRU(2, 4, seed=0).stream()
>>> y = simulate(s, np.ones(2, np.float32), 100)
>>> bool(np.array_equal(s.state[0, 0], y))
True
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, attr-defined, misc, call-arg"
# What Numba has is known to Numba alone, and inner functions are its to type.

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fastrnn import _check, _core
from fastrnn._info import __version__

try:
    import numba
    from llvmlite import ir
    from numba.core import cgutils, errors, types
    from numba.core.datamodel import models
    from numba.core.imputils import lower_constant
    from numba.extending import NativeValue, box, intrinsic, register_jitable, register_model, unbox
except ImportError as error:
    raise _check.needs_numba() from error

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LayerType", "StreamType", "layer_type", "stream_type"]

# Code that was compiled for another version may know other structs and other methods: it must not be found on disk.
_VERSION = f"{__version__}, {_core.NATIVE_LAYOUT}"


# ---- types -----------------------------------------------------------------------------------------------------


class NativeType(types.Type):
    """Something of the core that compiled code may use."""

    dtype: Any  # a Numba type


class StreamType(NativeType):
    """A stream: float type, whether x is integers, and the form of its state: "h", ("h", "c"), or a tuple of such."""

    def __init__(self, dtype: Any, integers: bool, form: Any) -> None:
        self.dtype, self.integers, self.form = dtype, integers, form
        super().__init__(f"fastrnn.Stream({dtype}, integers={integers}, state={form}, {_VERSION})")


class LayerType(NativeType):
    """A recurrent layer: float type, and whether its state is (h, c)."""

    def __init__(self, dtype: Any, has_c: bool) -> None:
        self.dtype, self.has_c = dtype, has_c
        super().__init__(f"fastrnn.Recurrent({dtype}, has_c={has_c}, {_VERSION})")


@functools.cache
def stream_type(dtype: np.dtype[Any], integers: bool, form: Any) -> StreamType:
    """Numba's type of a stream."""
    return StreamType(numba.from_dtype(dtype), integers, form)


@functools.cache
def layer_type(dtype: np.dtype[Any], has_c: bool) -> LayerType:
    """Numba's type of a layer."""
    return LayerType(numba.from_dtype(dtype), has_c)


_described: WeakKeyDictionary[Any, _core.NativeLayers] = WeakKeyDictionary()
_lock = threading.Lock()


def layer_address(layer: Any, cell: int, weights: tuple[Any, ...], batch_first: bool) -> int:
    """Where compiled code finds a layer; the place is valid as long as the layer lives."""
    with _lock:
        found = _described.get(layer)
        if found is None:
            found = _described[layer] = _core.NativeLayers(cell, weights, batch_first, layer.dtype)
    return found.address


# ---- values ----------------------------------------------------------------------------------------------------


@register_model(StreamType)
@register_model(LayerType)
class _Model(models.StructModel):
    """meminfo: Numba's counted reference to `owner`, null for a constant; address: the struct; owner: the object."""

    def __init__(self, manager: Any, typ: NativeType) -> None:
        reference = types.MemInfoPointer(types.voidptr)
        super().__init__(manager, typ, [("meminfo", reference), ("address", types.voidptr), ("owner", types.voidptr)])


@unbox(NativeType)
def _unbox(typ: NativeType, obj: Any, c: Any) -> NativeValue:
    value = cgutils.create_struct_proxy(typ)(c.context, c.builder)
    number = c.pyapi.object_getattr_string(obj, "_native_address")
    failed = cgutils.is_null(c.builder, number)
    with c.builder.if_then(c.builder.not_(failed), likely=True):
        value.address = c.pyapi.long_as_voidptr(number)
        value.owner = c.builder.bitcast(obj, cgutils.voidptr_t)
        value.meminfo = c.pyapi.nrt_meminfo_new_from_pyobject(value.address, value.owner)
        c.pyapi.decref(number)
    return NativeValue(value._getvalue(), is_error=failed)


@box(NativeType)
def _box(typ: NativeType, val: Any, c: Any) -> Any:
    value = cgutils.create_struct_proxy(typ)(c.context, c.builder, value=val)
    obj = c.builder.bitcast(value.owner, c.pyapi.pyobj)
    c.pyapi.incref(obj)
    c.context.nrt.decref(c.builder, typ, val)  # Numba hands its own reference over
    return obj


@lower_constant(NativeType)
def _constant(context: Any, builder: Any, typ: NativeType, pyval: Any) -> Any:
    """A global or closure variable: the code holds addresses, so that Numba doesn't keep it on disk."""
    library = context.active_code_library  # lives as long as code that holds the addresses
    if not hasattr(library, "fastrnn_owners"):
        library.fastrnn_owners = []
    library.fastrnn_owners.append(pyval)
    value = cgutils.create_struct_proxy(typ)(context, builder)
    value.address = context.add_dynamic_addr(builder, pyval._native_address, info="fastrnn")
    value.owner = context.add_dynamic_addr(builder, id(pyval), info="fastrnn")
    return value._getvalue()


# ---- calls -----------------------------------------------------------------------------------------------------

_INT = ir.IntType(64)
_ARRAY_WORDS = 8  # NativeArray: data, ndim, shape[3], stride[3]


def _place(builder: Any, value: Any) -> Any:
    """The address of a value on the stack."""
    place = cgutils.alloca_once(builder, value.type)
    builder.store(value, place)
    return place


def describe(context: Any, builder: Any, typ: Any, value: Any) -> Any:
    """The address of a NativeArray that describes an array or one integer; null for None."""
    if isinstance(typ, types.Array):
        array = context.make_array(typ)(context, builder, value)
        shape = cgutils.unpack_tuple(builder, array.shape, typ.ndim)
        strides = cgutils.unpack_tuple(builder, array.strides, typ.ndim)
        data, ndim = array.data, typ.ndim
    elif isinstance(typ, types.Integer):
        data, ndim, shape, strides = _place(builder, context.cast(builder, value, typ, types.int64)), 0, [], []
    else:
        return ir.Constant(cgutils.voidptr_t, None)
    place = cgutils.alloca_once(builder, ir.ArrayType(_INT, _ARRAY_WORDS))
    words = {0: builder.ptrtoint(data, _INT), 1: ir.Constant(_INT, ndim)}
    words |= {2 + k: size for k, size in enumerate(shape)} | {5 + k: stride for k, stride in enumerate(strides)}
    for k, word in words.items():
        builder.store(word, cgutils.gep_inbounds(builder, place, 0, k))
    return builder.bitcast(place, cgutils.voidptr_t)


def _word(context: Any, builder: Any, typ: Any, value: Any, index: int) -> tuple[Any, Any]:
    """The struct's address, and one of its words."""
    address = cgutils.create_struct_proxy(typ)(context, builder, value=value).address
    words = builder.bitcast(address, _INT.as_pointer())
    return address, builder.load(cgutils.gep_inbounds(builder, words, index))


def call(context: Any, builder: Any, typ: Any, value: Any, slot: int, arguments: list[Any]) -> Any:
    """Call a function of the struct: pointers and integers in, a NativeError out."""
    address, function = _word(context, builder, typ, value, slot)
    kind = ir.FunctionType(_INT, [argument.type for argument in (address, *arguments)])
    return builder.call(builder.inttoptr(function, kind.as_pointer()), [address, *arguments])


def raising(context: Any, builder: Any, error: Any, possible: tuple[int, ...]) -> None:
    """Raise what a NativeError says, in the function that is being compiled.

    Steps take some 20 ns, and so would the counting of references, which Numba leaves out of loops where exceptions are
    raised in this way, but not where a called function raises them.
    """
    with cgutils.if_unlikely(builder, builder.icmp_signed("!=", error, ir.Constant(_INT, 0))):
        for number in possible:
            with builder.if_then(builder.icmp_signed("==", error, ir.Constant(_INT, number))):
                context.call_conv.return_user_exc(builder, ValueError, (_check.NATIVE_ERRORS[number - 1],))
        context.call_conv.return_user_exc(builder, RuntimeError, (_BUSY,))


def method(slot: int) -> Any:
    """An intrinsic `f(target, args)` that calls the function in a slot; args: a tuple of arrays, integers and Nones.

    It returns the NativeError.
    """

    @intrinsic
    def function(typingctx: Any, target: Any, args: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            items = cgutils.unpack_tuple(builder, values[1], len(args))
            pointers = [describe(context, builder, typ, item) for typ, item in zip(args, items, strict=True)]
            return call(context, builder, target, values[0], slot, pointers)

        return types.int64(target, args), codegen

    return function


def field(slot: int) -> Any:
    """An intrinsic `f(target)` that reads an integer of the struct."""

    @intrinsic
    def function(typingctx: Any, target: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _word(context, builder, target, values[0], slot)[1]

        return types.int64(target), codegen

    return function


def table(slot: int) -> Any:
    """An intrinsic `f(target, k)` that reads an integer of an array that the struct points to."""

    @intrinsic
    def function(typingctx: Any, target: Any, k: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            _, base = _word(context, builder, target, values[0], slot)
            index = context.cast(builder, values[1], k, types.int64)
            return builder.load(builder.gep(builder.inttoptr(base, _INT.as_pointer()), [index]))

        return types.int64(target, k), codegen

    return function


# ---- errors ----------------------------------------------------------------------------------------------------

_X, _STRIDES, _OUT, _ROWS, _OVERLAP, _INTEGER, _STATE, _INDEX, _TWICE, _LENGTHS, _STEPS, _MEMORY, _BUSY = (
    _check.NATIVE_ERRORS
)


@register_jitable
def fail(error: int) -> None:
    """Raise what a NativeError says, but for kNativeOk."""
    if error == 0:
        return
    if error == 1:
        raise ValueError(_X)
    if error == 2:
        raise ValueError(_STRIDES)
    if error == 3:
        raise ValueError(_OUT)
    if error == 4:
        raise ValueError(_ROWS)
    if error == 5:
        raise ValueError(_OVERLAP)
    if error == 6:
        raise ValueError(_INTEGER)
    if error == 7:
        raise ValueError(_STATE)
    if error == 8:
        raise ValueError(_INDEX)
    if error == 9:
        raise ValueError(_TWICE)
    if error == 10:
        raise ValueError(_LENGTHS)
    if error == 11:
        raise ValueError(_STEPS)
    if error == 12:
        raise MemoryError(_MEMORY)
    raise RuntimeError(_BUSY)


# ---- types of arguments ----------------------------------------------------------------------------------------


def is_none(typ: Any) -> bool:
    """Whether an argument is None or left out."""
    return typ is None or isinstance(typ, types.NoneType) or (isinstance(typ, types.Omitted) and typ.value is None)


def expect_array(typ: Any, dtype: Any, dims: tuple[int, ...], name: str, written: bool = False) -> None:
    """Refuse, when code is compiled, what isn't an array of the right type and number of axes."""
    if (
        not isinstance(typ, types.Array)
        or typ.dtype != dtype
        or typ.ndim not in dims
        or not typ.aligned
        or (written and not typ.mutable)
    ):
        axes = " or ".join(str(n) for n in dims)
        raise errors.TypingError(_check.native_type(name, f"{dtype} array of {axes} axes", typ, written))


def leaves(form: Any, typ: Any, name: str = "state") -> Iterator[tuple[str, Any, Callable[..., Any]]]:
    """For each array of a state, "h" or "c", its type (None: zeros), and what gets it out of the value of the state."""
    if isinstance(form, str):
        yield form, None if is_none(typ) else typ, lambda builder, value: value
        return
    if not is_none(typ) and not (isinstance(typ, types.BaseTuple) and len(typ) == len(form)):
        raise errors.TypingError(_check.native_type(name, f"a tuple of {len(form)}, or None", typ))
    for k, part in enumerate(form):
        inner = None if is_none(typ) else typ[k]
        for kind, found, get in leaves(part, inner, f"{name}[{k}]"):
            yield kind, found, lambda b, v, k=k, get=get: get(b, b.extract_value(v, k))


from fastrnn.jit import _native_layer, _native_stream  # noqa: E402, F401 - the methods; they need what stands above
