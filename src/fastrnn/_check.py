"""Explains bad input: every message that fastrnn raises about an argument.

Each function accepts what it can (lists become arrays) and returns it in the form that kernels take, or
raises `TypeError` or `ValueError` naming the argument, what was expected and what came. Good input passes
through with a few comparisons; the work of finding words is left to the unlucky path.

Over 400 lines: all messages stand in one room, so that one idea is said in one way everywhere.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# ---- numbers and constructor arguments -----------------------------------------------------------------


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 or float64."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}") from None
    if dtype is None or found not in FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return found


def positive_int(value: Any, name: str) -> int:
    """An int ≥ 1."""
    number = integer(value, name)
    if number < 1:
        raise ValueError(f"{name}: expected a positive integer, got {number}")
    return number


def integer(value: Any, name: str) -> int:
    """An int; bool is not one."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


def index(value: Any, size: int, name: str) -> int:
    """An int from 0 to size - 1."""
    found = integer(value, name)
    if not 0 <= found < size:
        raise ValueError(f"{name}: expected an integer from 0 to {size - 1}, got {found}")
    return found


def number(value: Any, name: str) -> float:
    """A finite real number."""
    try:
        found = float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a finite number, got an integer too large for one") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not math.isfinite(found):
        raise ValueError(f"{name}: expected a finite number, got {found}")
    return found


def fraction(value: Any, name: str) -> float:
    """A number in [0, 1): a dropout probability, or a share of label smoothing."""
    found = number(value, name)
    if not 0.0 <= found < 1.0:
        raise ValueError(f"{name}: expected 0 ≤ {name} < 1, got {found}")
    return found


def at_least_zero(value: Any, name: str) -> float:
    """A number ≥ 0."""
    found = number(value, name)
    if found < 0:
        raise ValueError(f"{name}: expected a number ≥ 0, got {found}")
    return found


def above_zero(value: Any, name: str) -> float:
    """A number > 0."""
    found = number(value, name)
    if found <= 0:
        raise ValueError(f"{name}: expected a number > 0, got {found}")
    return found


def seed(value: Any) -> int:
    """A seed given as an int ≥ 0 (None and Generators are dealt with before)."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"seed: expected None, an int ≥ 0 or a numpy Generator, got {value!r}") from None
    if found < 0:
        raise ValueError(f"seed: expected None, an int ≥ 0 or a numpy Generator, got {found}")
    return found


# ---- arrays of floats ----------------------------------------------------------------------------------


def floats(x: Any, dtype: np.dtype[Any] | None, name: str = "x", layer: bool = False) -> NDArray[Any]:
    """An array of `dtype`, or of either float type when dtype is None; a list becomes one (float32 then).

    With `layer` the dtype is one that the caller has chosen for a layer, and might choose differently.
    """
    if type(x) is np.ndarray and (x.dtype == dtype if dtype is not None else x.dtype in FLOATS):
        return x
    if isinstance(x, list | tuple | int | float) and not isinstance(x, np.generic):
        return _from_list(x, dtype or FLOATS[0], name)
    if x is None:
        raise TypeError(f"{name}: expected an array, got None")
    array = np.asarray(x)
    if dtype is None:
        if array.dtype not in FLOATS:
            raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}; use {name}.astype(np.float32)")
    elif array.dtype != dtype:
        convert = f"use {name}.astype(np.{dtype})"
        if layer and array.dtype in FLOATS:
            convert += f", or make the layer with dtype=np.{array.dtype}"
        raise TypeError(f"{name}: expected {dtype}, got {array.dtype}; {convert}")
    return array


def holds_arrays(x: Any) -> bool:
    """A list or tuple that holds arrays (0-d ones are numbers)."""
    return isinstance(x, list | tuple) and any(isinstance(item, np.ndarray) and item.ndim for item in x)


def _from_list(x: Any, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    # Stacked in silence, the (y, state) of a recurrent layer would pass for one array when T = 1.
    if holds_arrays(x):
        raise TypeError(
            f"{name}: expected one array, got {describe(x)} that holds arrays; "
            f"a recurrent layer returns (y, state), pass y alone; to stack arrays, use np.stack({name})"
        )
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: could not be made into an array: {error}") from None
    # Looked at before the cast, which would turn None into NaN and parse strings.
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    return array.astype(dtype)


def features(x: Any, dtype: np.dtype[Any] | None, size: int, label: str, name: str = "x") -> NDArray[Any]:
    """Floats of shape [..., size]; `label` is what the layer calls that size."""
    array = floats(x, dtype, name, layer=True)
    if array.ndim == 0 or array.shape[-1] != size:
        raise ValueError(f"{name}: expected [..., {size}] ({label}={size}), got shape {array.shape}")
    return array


def gradient(dy: Any, dtype: np.dtype[Any], shape: tuple[int, ...], name: str = "dy") -> NDArray[Any]:
    """The gradient of an output: that output's shape and dtype."""
    array = floats(dy, dtype, name)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, that of the output, got {array.shape}")
    return array


def at_least_1d(x: Any, dtype: np.dtype[Any] | None, name: str = "x") -> NDArray[Any]:
    """Floats of shape [..., C] with C ≥ 1."""
    array = floats(x, dtype, name)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name}: expected [..., C] with C ≥ 1, got shape {array.shape}")
    return array


# ---- indices and lengths -------------------------------------------------------------------------------


def integers(x: Any, name: str) -> NDArray[np.int64]:
    """Integers as C-contiguous int64; an empty list counts as integers."""
    array = np.asarray(x)
    if array.dtype.kind not in "iu" and not (array.size == 0 and isinstance(x, list | tuple)):
        raise TypeError(f"{name}: expected integers, got {array.dtype}; use {name}.astype(np.int64)")
    return np.ascontiguousarray(array, dtype=np.int64).reshape(array.shape)


def in_range(x: NDArray[np.int64], size: int, what: str, name: str) -> None:
    """Every value in [0, size). `x` is contiguous int64; a uint64 view finds both ends in one pass."""
    if x.size and int(x.view(np.uint64).max()) >= size:
        bad = int(x[(x < 0) | (x >= size)].flat[0])
        raise ValueError(f"{name}: expected integers from 0 to {size - 1} ({what}={size}), got {bad}")


def tokens(value: Any, size: int, name: str = "tokens") -> NDArray[np.int64]:
    """Return numbers of tokens [N], each below `size`."""
    x = np.asarray(value)
    if x.ndim != 1 or (x.size and x.dtype.kind not in "iu"):
        raise ValueError(f"{name}: expected integers [N], got {x.dtype} {x.shape}")
    if x.size and (x.min() < 0 or x.max() >= size):
        raise ValueError(f"{name}: expected 0 … {size - 1}, got {x.min()} … {x.max()}")
    return x.astype(np.int64)


def lengths(value: Any, batch: int, steps: int, axis: str = "T", name: str = "lengths") -> NDArray[np.int64]:
    """Lengths as int64 [B], each from 0 to T, or to what the axis is called."""
    found = integers(value, name)
    if found.shape != (batch,):
        raise ValueError(f"{name}: expected {batch} integers, one for each row, got shape {found.shape}")
    if found.size and int(found.view(np.uint64).max()) > steps:
        row = int(np.flatnonzero((found < 0) | (found > steps))[0])
        raise ValueError(f"{name}: expected integers from 0 to {axis}={steps}, got {found[row]} in row {row}")
    return found


def sequence(
    x: Any, dtype: np.dtype[Any] | None, batch_first: bool, size: int | None = None, name: str = "x"
) -> NDArray[Any]:
    """Floats [T, B, F] (or [B, T, F]), or [T, F] for one sequence, with T ≥ 1 and F = size, a layer's input_size."""
    if size is not None and isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        raise TypeError(
            f"{name}: expected {dtype}, got {x.dtype}; use {name}.astype(np.{dtype}), or, for tokens, "
            f"fr.one_hot({name}, {size})"
        )
    array = floats(x, dtype, name, layer=True)
    if array.ndim not in (2, 3) or (size is not None and array.shape[-1] != size):
        last = "F" if size is None else size
        expected = f"[B, T, {last}]" if batch_first else f"[T, B, {last}]"
        if size is not None:
            expected += f" (input_size={size})"
        if array.ndim != 3:
            expected += f", or [T, {last}] for one sequence"
        raise ValueError(f"{name}: expected {expected}, got shape {array.shape}")
    if array.shape[1 if batch_first and array.ndim == 3 else 0] == 0:
        raise ValueError(f"{name}: expected at least one time step, got shape {array.shape}")
    return array


# ---- state and structure of layers ---------------------------------------------------------------------


def state_dict(state: Any, params: Mapping[str, NDArray[Any]], owner: str) -> dict[str, NDArray[Any]]:
    """Arrays for all `params`; every problem with `state` goes into one error."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping from names to arrays, got {type(state).__name__}")
    arrays, problems = {}, []
    for name, param in params.items():
        if name not in state:
            problems.append(f"missing: {name}, shape {param.shape}")
            continue
        array = np.asarray(state[name])
        if array.shape != param.shape:
            problems.append(f"misshapen: {name}, expected {param.shape}, got {array.shape}")
        elif array.dtype.kind != "f":
            problems.append(f"not floats: {name}, expected {param.dtype}, got {array.dtype}")
        arrays[name] = array
    problems += [f"unknown: {name}" for name in state if name not in params]
    if problems:
        raise ValueError(f"state does not fit this {owner}:\n  " + "\n  ".join(problems))
    return arrays


def assignable(value: Any, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Numbers for the array of that name: one for all, or its shape."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: could not be made into an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    if array.ndim and array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, or one number for all, got shape {array.shape}")
    return array


def no_such_array(name: Any, names: Iterable[str]) -> KeyError:
    """A name that `params` or `grads` doesn't have."""
    return KeyError(f"{name!r} is no parameter here; there are {', '.join(names) or 'none'}")


def fixed_names() -> TypeError:
    """`params` and `grads` neither gain nor lose names."""
    return TypeError(
        "params and grads belong to the layer: assign new values, params[name] = array or params.update(...); "
        "names can't be added or removed"
    )


def spec(value: Any, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The class name and constructor arguments in the description of a layer."""
    if not isinstance(value, Mapping) or not {"type", "config"} <= value.keys():
        raise ValueError(f"layer: expected an object with 'type' and 'config', got {value!r}")
    if value["type"] not in known:
        raise ValueError(
            f"layer: no class {value['type']!r} is known; import the module that defines it first. "
            f"Known: {', '.join(sorted(known))}"
        )
    return value["type"], dict(value["config"])


def pullback_spent(owner: str, retain: bool) -> str:
    """The message of a second call of a pullback; `retain`: its vjp has that argument."""
    again = f"call {'vjp' if retain else owner} again"
    if retain:
        again += ", or pass retain=True to vjp to run its pullback more than once"
    return f"{owner}: this pullback has already run, and what it had saved is gone; {again}"


def members(layers: Sequence[Any], base: type[Any]) -> None:
    """The layers of a Sequential: of one dtype, of one layout, at least one, no single-step cell."""
    if not layers:
        raise ValueError("Sequential: expected at least one layer, got none")
    for position, layer in enumerate(layers):
        if not isinstance(layer, base):
            hint = "; pass layers one by one, Sequential(*layers)" if isinstance(layer, list | tuple) else ""
            raise TypeError(f"Sequential: expected layers, got {layer!r} at position {position}{hint}")
        if layer.is_cell:
            cell = type(layer).__name__
            raise TypeError(
                f"Sequential: {cell} at position {position} takes one step and returns its state alone; "
                f"use {cell.removesuffix('Cell')}, which runs over whole sequences, or write the loop yourself"
            )
    dtypes = {str(layer.dtype) for layer in layers if layer.dtype is not None}
    if len(dtypes) > 1:
        raise ValueError(f"Sequential: expected layers of one dtype, got {' and '.join(sorted(dtypes))}")
    layouts = {below.batch_first for layer in layers for _, below in layer._walk() if hasattr(below, "batch_first")}
    if len(layouts) > 1:
        raise ValueError("Sequential: expected all layers with batch_first=True or none, got both")


def member_states(state: Any, count: int, name: str) -> tuple[Any, ...]:
    """One state, or None, for each recurrent layer of a Sequential."""
    if state is None:
        return (None,) * count
    if count == 0:
        raise ValueError(f"{name}: expected None, because no layer here is recurrent, got {describe(state)}")
    if not isinstance(state, tuple | list) or len(state) != count:
        raise ValueError(
            f"{name}: expected a tuple with one entry for each of the {count} recurrent layers, got {describe(state)}"
        )
    return tuple(state)


def shared_across(name: str) -> ValueError:
    """A layer that is shared between nested Sequentials can't be described."""
    return ValueError(
        f"config: the layer at {name!r} is shared between different Sequentials, which cannot be described; "
        "share layers within one Sequential, or save state_dict() alone"
    )


def no_gradient(owner: str) -> ValueError:
    """A pullback without recurrent layers needs the gradient of its one output."""
    return ValueError(f"dy: expected the gradient of the output of this {owner}, got None")


def describe(value: Any) -> str:
    """A few words on a value: its type, and its shape or length."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"{type(value).__name__}"


def items(value: Any, name: str, what: str) -> Iterable[Any]:
    """Something that can be gone through; `what` says of what kind."""
    if (
        not isinstance(value, Iterable)
        or isinstance(value, bytes)
        or (isinstance(value, np.ndarray) and not value.ndim)
    ):
        raise TypeError(f"{name}: expected {what}, got {describe(value)}")
    return value


def batch_of(batch: Any, source: str = "source") -> tuple[Any, Any, Any, Any]:
    """The four parts of a batch, or of a tuple of the first two or three."""
    if not isinstance(batch, tuple | list) or not 2 <= len(batch) <= 4:
        raise TypeError(f"batch: expected ({source}, target, lengths=None, weight=None), got {describe(batch)}")
    x, target, lengths_, weight = (*batch, None, None)[:4]
    return x, target, lengths_, weight


# ---- losses --------------------------------------------------------------------------------------------


def same_shape(x: NDArray[Any], shape: tuple[int, ...], name: str, other: str) -> None:
    """`x` has the shape of the argument called `other`."""
    if x.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, that of {other}, got {x.shape}")


def weights(value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Finite weights ≥ 0 as float64, broadcast to the targets' shape."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"weight: expected numbers, got {array.dtype}")
    try:
        found = np.broadcast_to(array.astype(np.float64), shape)
    except ValueError:
        raise ValueError(f"weight: expected a shape that broadcasts to {shape}, got {array.shape}") from None
    bad = ~((found >= 0) & (found < np.inf))
    if bad.any():
        raise ValueError(f"weight: expected finite numbers ≥ 0, got {found[bad].flat[0]}")
    return found


def time_axes(shape: tuple[int, ...], batch_first: bool) -> None:
    """Targets that `lengths` can be applied to have a time axis and a batch axis."""
    if len(shape) < 2:
        layout = "[B, T, ...]" if batch_first else "[T, B, ...]"
        raise ValueError(f"lengths: need targets {layout}, got targets of shape {shape}")


def probabilities(x: NDArray[Any], name: str) -> None:
    """Every value in [0, 1]."""
    bad = ~((x >= 0) & (x <= 1))
    if bad.any():
        raise ValueError(f"{name}: expected numbers from 0 to 1, got {x[bad].flat[0]}")


def in_place(out: Any, x: NDArray[Any], name: str, other: str) -> NDArray[Any]:
    """A C-contiguous array for a result like `x`: `x` itself, or memory that shares nothing with it."""
    array = output(out, x.shape, x.dtype, name)
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides}")
    if array.size and array.ctypes.data != x.ctypes.data:
        apart(array, name, **{other: x})
    return array


def drop_last(value: Any, batch_size: int, count: int, what: str) -> bool:
    """Whether a smaller last batch is left out, which mustn't be the only one."""
    if value and batch_size > count:
        raise ValueError(
            f"batch_size: expected at most {count}, the number of {what}, because drop_last=True leaves out a smaller "
            f"batch, got {batch_size}"
        )
    return bool(value)


# ---- initialisation ------------------------------------------------------------------------------------


def shape(value: Any, matrix_for: str | None = None) -> tuple[int, ...]:
    """A shape; `matrix_for` is an initialiser that needs two axes, [out, in]. An int is one axis, as in NumPy."""
    try:
        found = (operator.index(value),) if not isinstance(value, Iterable) else tuple(map(operator.index, value))
    except TypeError:
        raise TypeError(f"shape: expected a tuple of integers, got {value!r}") from None
    if any(size < 0 for size in found):
        raise ValueError(f"shape: expected sizes ≥ 0, got {found}")
    if matrix_for is not None and len(found) < 2:
        raise ValueError(f"shape: expected [out, in] for {matrix_for}, got {found}")
    return found


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a matrix [out, in, ...]; at least 1, so that an empty one needs no case of its own."""
    field = math.prod(shape[2:])
    return max(shape[1] * field, 1), max(shape[0] * field, 1)


def no_match(pattern: str, names: Iterable[str]) -> ValueError:
    """No parameter's name matches."""
    return ValueError(f"pattern: {pattern!r} matches no parameter; there are {', '.join(names) or 'none'}")


def gates(value: Any, shape: tuple[int, ...], name: str) -> None:
    """The first axis holds `value` blocks of one size."""
    if shape[0] % positive_int(value, "gates"):
        raise ValueError(f"gates: {name} has shape {shape}, whose first axis {value} does not divide")


def no_lstm(owner: str) -> ValueError:
    """There is no forget gate to set."""
    return ValueError(f"layer: expected an LSTM with biases, or a model that has one, got {owner}")


# ---- recurrent layers ----------------------------------------------------------------------------------------


def choice(value: Any, known: Mapping[str, Any], name: str) -> Any:
    """What `known` has under the name `value`."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")
    return known[value]


def one_hot(shape: tuple[int, ...], batch_first: bool, size: int | None = None, name: str = "x") -> None:
    """A one-hot x has the shape of a batch of sequences, or of one: that of the dense array."""
    if len(shape) not in (2, 3) or (size is not None and shape[-1] != size):
        last = "F" if size is None else size
        layout = "[B, T]" if batch_first else "[T, B]"
        expected = f"one_hot(indices, {last})" + (f" (input_size={size})" if size is not None else "")
        got = f"indices of shape {shape[:-1]} and num_classes={shape[-1]}"
        raise ValueError(f"{name}: expected {expected} with indices {layout}, or [T] for one sequence, got {got}")
    if shape[1 if batch_first and len(shape) == 3 else 0] == 0:
        raise ValueError(f"{name}: expected at least one time step, got indices of shape {shape[:-1]}")


def no_input_gradient(name: str) -> ValueError:
    """An array for a gradient that doesn't exist."""
    return ValueError(f"{name}: expected None, for a one-hot x has no gradient")


def always_copied(owner: str) -> ValueError:
    """NumPy's words are its own; these name what was asked for."""
    return ValueError(f"copy: expected None or True, for an {owner} holds no dense array; got False")


def optional_positive_int(value: Any, name: str) -> int | None:
    """None, or an int ≥ 1."""
    return None if value is None else positive_int(value, name)


def rank(value: Any, most: int, name: str) -> int | None:
    """None, or an int from 1 to the smaller side of a matrix."""
    if value is not None and positive_int(value, name) > most:
        raise ValueError(f"{name}: expected at most {most}, the smaller side of the matrix, got {value}")
    return None if value is None else int(value)


def pair(state: Any, name: str) -> tuple[Any, Any]:
    """The (h, c) of an LSTM; None means zeros for both."""
    if state is None:
        return None, None
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise TypeError(f"{name}: expected a tuple (h, c) or None, got {describe(state)}")
    return state[0], state[1]


def states(state: Any, count: int, name: str) -> tuple[Any, ...]:
    if count == 2:
        return pair(state, name)
    if state is None:
        return (None,) * count
    if not isinstance(state, tuple | list) or len(state) != count:
        raise TypeError(f"{name}: expected a tuple of {count} arrays, got {describe(state)}")
    return tuple(state)


def forget_bias(value: float | None, coupled: bool, bias: bool) -> None:
    """An LSTM's forget gate needs to be there, and to have a bias."""
    if value is not None and (coupled or not bias):
        why = "coupled=True has no forget gate" if coupled else "bias=False leaves none to set"
        raise ValueError(f"forget_bias: expected None, since {why}; got {value}")


def reset_mask(value: Any, shape: tuple[int, ...], unbatched: bool) -> NDArray[np.uint8]:
    mask = np.asarray(value)
    wanted = shape[:1] if unbatched else shape
    if mask.dtype != np.bool_ or mask.shape != wanted:
        raise (TypeError if mask.dtype != np.bool_ else ValueError)(
            f"reset_mask: expected bool {list(wanted)}, as the first axes of x, got {mask.dtype} {list(mask.shape)}"
        )
    return np.array(mask, np.uint8, order="C").reshape(shape)


def no_one_hot(name: str) -> ValueError:
    return ValueError(f"x: expected an array of floats with {name}, got fr.one_hot; use an Embedding, or {name}=0")


def state(
    value: Any, shape: tuple[int, int, int], unbatched: bool, dtype: np.dtype[Any], name: str, drop: int = 0
) -> NDArray[Any] | None:
    """A contiguous state [N, B, H]; what comes lacks its first `drop` axes, and the batch axis if unbatched."""
    if value is None:
        return None
    if holds_arrays(value):
        raise TypeError(f"{name}: expected one array or None, got {describe(value)}")
    array = floats(value, dtype, name)
    expected = shape[drop:-2] + (shape[-1:] if unbatched else shape[-2:])
    if array.shape != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
    return np.require(array, requirements=("C", "A")).reshape(shape)


def state_parts(state: Any, count: int, name: str) -> tuple[Any, ...]:
    """The arrays of a state that has several; None for zeros everywhere."""
    if state is None:
        return (None,) * count
    if not isinstance(state, tuple | list) or len(state) != count:
        raise TypeError(f"{name}: expected a tuple of {count} arrays, or None, got {describe(state)}")
    return tuple(state)


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """A writable array for results, with a contiguous last axis."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: expected an array, got {describe(out)}")
    if out.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    if out.size and shape[-1] > 1 and out.strides[-1] != out.itemsize:
        raise ValueError(f"{name}: expected a contiguous last axis, got strides {out.strides}")
    return out


def apart(out: NDArray[Any], name: str, **inputs: Any) -> None:
    """`out` shares no memory with the arrays that are read."""
    for other, value in inputs.items():
        for array in value if isinstance(value, tuple) else (value,):
            if array is None:
                continue
            try:
                shared = np.shares_memory(out, array, max_work=100_000)  # type: ignore[arg-type]  # the stubs know two values
            except Exception:  # too hard to tell; NumPy 1 and 2 keep the exception in different places
                shared = True
            if shared:
                raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {other}")


def readable(a: NDArray[Any]) -> NDArray[Any]:
    """`a`, or an aligned copy when it is unaligned or its strides are not whole elements, as in a structured array."""
    if a.flags.aligned and not any(stride % a.itemsize for stride in a.strides):
        return a
    return np.array(a, order="C")


def recurrent_weights(
    weights: tuple[Any, ...], gates: int, inputs: int, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]:
    """(weight_ih, weight_hh, bias_ih, bias_hh, weight_hr) that fit together and to an input of `inputs`."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    required = names[:2]
    found = []
    for name, value in zip(names, weights, strict=True):
        if value is None and name in required:
            raise TypeError(f"{name}: expected an array, got None")
        found.append(None if value is None else readable(floats(value, dtype, name)))
    weight_ih, weight_hh, bias_ih, bias_hh, weight_hr = found
    assert weight_ih is not None and weight_hh is not None  # said above, for mypy
    rows = weight_ih.shape[0] if weight_ih.ndim else 0
    if weight_ih.ndim != 2 or weight_ih.shape[1] != inputs or rows % gates or rows == 0 or inputs == 0:
        raise ValueError(f"weight_ih: expected [{gates}·H, {inputs}], to fit x, got shape {weight_ih.shape}")
    hidden = rows // gates
    h_size = hidden if weight_hr is None else len(weight_hr) if weight_hr.ndim == 2 else 0
    if weight_hr is not None and (h_size == 0 or weight_hr.shape[1] != hidden):
        raise ValueError(f"weight_hr: expected [P, {hidden}], to fit weight_ih, got shape {weight_hr.shape}")
    if weight_hh.shape != (rows, h_size):
        raise ValueError(f"weight_hh: expected shape {(rows, h_size)}, got {weight_hh.shape}")
    for name, bias in (("bias_ih", bias_ih), ("bias_hh", bias_hh)):
        if bias is not None and bias.shape != (rows,):
            raise ValueError(f"{name}: expected shape {(rows,)}, got {bias.shape}")
    return (
        weight_ih,
        weight_hh,
        None if bias_ih is None else np.require(bias_ih, requirements=("C", "A")),
        None if bias_hh is None else np.require(bias_hh, requirements=("C", "A")),
        weight_hr,
    )


def vector(value: Any, size: int, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """A contiguous vector of that size."""
    if value is None:
        raise TypeError(f"{name}: expected an array, got None")
    array = floats(value, dtype, name)
    if array.shape != (size,):
        raise ValueError(f"{name}: expected shape {(size,)}, got {array.shape}")
    return np.require(array, requirements=("C", "A"))


def norm(value: Any, lstm: bool) -> tuple[Any, Any, Any, Any]:
    """The gains of a layer norm; those of c are the LSTM's."""
    if not isinstance(value, tuple) or not 2 <= len(value) <= 4:
        raise TypeError(f"norm: expected functional.Norm(gain_ih, gain_hh, gain_c, bias_c), got {describe(value)}")
    found = (*value, None, None)[:4]
    if not lstm and (found[2] is not None or found[3] is not None):
        raise ValueError("norm: expected gain_c and bias_c for an LSTM only")
    if (found[2] is None) != (found[3] is None):
        raise ValueError("norm: expected both of gain_c and bias_c, or neither")
    return found


def gate_blocks(a: Any, source: Any, target: Any) -> NDArray[Any]:
    """`a` with its first axis split into one block a gate."""
    if not isinstance(source, str) or not isinstance(target, str) or sorted(source) != sorted(target):
        raise ValueError(f"target: expected the letters of source={source!r} in another order, got {target!r}")
    if len(set(source)) != len(source) or not source:
        raise ValueError(f"source: expected one letter for each gate, all different, got {source!r}")
    array = np.asarray(a)
    if array.ndim == 0 or array.shape[0] % len(source):
        raise ValueError(f"a: expected [{len(source)}·H, ...], got shape {array.shape}")
    return array.reshape(len(source), -1, *array.shape[1:])


def proj_size(value: Any, hidden: int) -> int:
    """0, or a projection smaller than the hidden size, as in PyTorch."""
    found = integer(value, "proj_size")
    if not 0 <= found < hidden:
        raise ValueError(f"proj_size: expected 0 (none) up to hidden_size-1={hidden - 1}, got {found}")
    return found


def window(value: Any) -> int:
    """How many inputs a step of a QRNN sees."""
    found = integer(value, "window")
    if found not in (1, 2):
        raise ValueError(f"window: expected 1 or 2, got {found}")
    return found


def ring(r_min: Any, r_max: Any) -> tuple[float, float]:
    """The radii between which eigenvalues start."""
    low, high = number(r_min, "r_min"), number(r_max, "r_max")
    if not 0 <= low <= high <= 1:
        raise ValueError(f"r_min, r_max: expected 0 ≤ r_min ≤ r_max ≤ 1, got {low} and {high}")
    return low, high


def cell_input(x: Any, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    """One step's input, [B, I] or [I]."""
    array = features(x, dtype, size, "input_size")
    if array.ndim not in (1, 2):
        raise ValueError(f"x: expected [B, {size}], or [{size}] for one row, got shape {array.shape}")
    return array


# ---- streams -------------------------------------------------------------------------------------------------


def step_input(x: Any, dtype: np.dtype[Any], batch: int, size: int) -> NDArray[Any]:
    """One time step of a stream, [B, I], or [I] for a stream of one row."""
    array = floats(x, dtype, layer=True)
    if array.shape != (batch, size) and not (batch == 1 and array.shape == (size,)):
        expected = f"[{batch}, {size}] (batch_size={batch}, input_size={size})" + f" or [{size}]" * (batch == 1)
        raise ValueError(f"x: expected one time step, {expected}, got shape {array.shape}")
    return array


def step_integers(x: Any, batch: int) -> NDArray[np.int64]:
    """One time step of a stream that starts with an embedding: integers [B], or one integer for a stream of one row."""
    found = integers(x, "x")
    if found.shape != (batch,) and not (batch == 1 and found.ndim == 0):
        expected = f"integers [{batch}] (batch_size={batch})" + " or one integer" * (batch == 1)
        raise ValueError(f"x: expected one time step, {expected}, got shape {found.shape}")
    return found


def stream_integers(x: Any, batch: int, batch_first: bool) -> NDArray[np.int64]:
    """A block of a stream that starts with an embedding: integers [T, B] ([B, T]), or [T] for a stream of one row."""
    found = integers(x, "x")
    if found.ndim not in (1, 2):
        expected = "[B, T]" if batch_first else "[T, B]"
        raise ValueError(f"x: expected integers {expected}, or [T] for one sequence, got shape {found.shape}")
    stream_batch(found[..., None], batch, batch_first)
    return found


def stream_batch(x: NDArray[Any], batch: int, batch_first: bool) -> None:
    """A block [T, B, ·], or [T, ·], with at least one step and as many rows as the stream has."""
    rows = 1 if x.ndim == 2 else x.shape[0 if batch_first else 1]
    if rows != batch:
        raise ValueError(f"x: expected {batch} rows, the batch_size of this stream, got {rows} in shape {x.shape}")
    if x.shape[1 if batch_first and x.ndim == 3 else 0] == 0:
        raise ValueError(f"x: expected at least one time step, got shape {x.shape}")


def unaligned(name: str) -> ValueError:
    """An array that kernels can't write."""
    return ValueError(f"{name}: expected an aligned array whose strides are whole elements; use np.empty to make one")


def overlapping_rows(name: str, a: NDArray[Any]) -> ValueError:
    """An array that can't hold as many rows as its shape says."""
    return ValueError(
        f"{name}: expected rows that don't overlap each other, got strides {a.strides} for shape {a.shape}"
    )


def rows(value: Any, batch: int) -> NDArray[np.int64]:
    """Different rows of a batch, as integers or as one bool a row."""
    array = np.asarray(value)
    if array.dtype == np.bool_:
        if array.shape != (batch,):
            raise ValueError(f"rows: expected {batch} bools, one for each row, got shape {array.shape}")
        return np.flatnonzero(array)
    found = integers(value, "rows")
    if found.ndim != 1:
        raise ValueError(f"rows: expected a list of integers or {batch} bools, got shape {found.shape}")
    in_range(found, batch, "batch_size", "rows")
    if len(np.unique(found)) != len(found):
        raise ValueError(f"rows: expected each row once, got {found.tolist()}")
    return found


def nothing_recurrent(owner: str) -> ValueError:
    """A stream has a state to carry."""
    return ValueError(f"stream: no layer of this {owner} is recurrent: time steps don't depend on each other; call it")


def bidirectional_stream(name: str) -> ValueError:
    """The second direction starts at the end."""
    return ValueError(
        f"stream: {name} is bidirectional: its second direction starts at the end of a sequence, "
        "which a stream has not seen"
    )


def late_embedding(name: str) -> ValueError:
    """Integers come from outside."""
    return ValueError(f"stream: {name} takes integers, so it must be the first layer")


def no_step(name: str) -> ValueError:
    """A layer that a stream has no step for."""
    return ValueError(
        f"stream: {name} can't run one time step at a time; expected RNN, LSTM, GRU, Linear, LayerNorm, Dropout, "
        "activations, and Embedding or OneHot as the first layer"
    )


def fits_below(name: str, below: int | None, size: int | None, out: int | None) -> int | None:
    """A layer that takes `size` values fits on one that gives `below`; what it gives."""
    if below is not None and size is not None and below != size:
        raise ValueError(f"stream: {name} takes {size} values, but the layer below gives {below}")
    return below if out is None else out


# ---- attention -----------------------------------------------------------------------------------------------


def attended(q: Any, k: Any, v: Any, heads: int, batch_first: bool) -> tuple[NDArray[Any], ...]:
    """Queries, keys and values of one dtype, [T, B, N·D], [S, B, N·D], [S, B, N·E], or all without a batch."""
    q = floats(q, None, "q")
    k, v = floats(k, q.dtype, "k"), floats(v, q.dtype, "v")
    rows = "B, {}" if batch_first else "{}, B"
    if q.ndim not in (2, 3) or q.shape[-1] == 0 or q.shape[-1] % heads:
        expected = f"[{rows.format('T')}, F] or [T, F] with F divisible by num_heads={heads}"
        raise ValueError(f"q: expected {expected}, got shape {q.shape}")
    time = 1 if batch_first and q.ndim == 3 else 0
    batch = q.shape[1 - time : 2 - time] if q.ndim == 3 else ()
    for name, a, size in (("k", k, q.shape[-1]), ("v", v, None)):
        fits = a.ndim == q.ndim and a.shape[time] > 0 and a.shape[-1] > 0
        fits = fits and (a.shape[-1] == size if size else a.shape[-1] % heads == 0)
        if not fits or (q.ndim == 3 and a.shape[1 - time : 2 - time] != batch):
            last = size or f"a multiple of num_heads={heads}"
            axes = [*map(str, batch), "S"] if time else ["S", *map(str, batch)]
            raise ValueError(f"{name}: expected [{', '.join(axes)}, {last}] with S ≥ 1, to fit q, got shape {a.shape}")
    if k.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"v: expected as many source steps as k, of shape {k.shape}, got shape {v.shape}")
    if q.shape[time] == 0:
        raise ValueError(f"q: expected at least one time step, got shape {q.shape}")
    return q, k, v


def score_mask(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Bools, or floats of that dtype, that broadcast to [B, N, T, S]."""
    array = np.asarray(value)
    if array.dtype.kind in "iu":  # 0 and 1 would be added to the scores
        raise TypeError(
            f"mask: expected bools, True where a query may look, or {dtype} numbers to add to the scores, "
            f"got {array.dtype}; use mask.astype(bool)"
        )
    if array.dtype != np.bool_:
        array = floats(value, dtype, "mask")
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        hint = "; mask[:, None] is one for each row" if array.shape == (shape[0], *shape[2:]) else ""
        raise ValueError(f"mask: expected a shape that broadcasts to [B, N, T, S] = {shape}, got {array.shape}{hint}")
    return array


def stream_steps(
    x: Any, dtype: np.dtype[Any], size: int, batch: int | None, batch_first: bool, name: str = "x"
) -> NDArray[Any]:
    """Floats [T, B, F] (or [B, T, F]) with T ≥ 1, B as given."""
    array = floats(x, dtype, name, layer=True)
    rows = "B" if batch is None else batch
    expected = f"[B, T, {size}]" if batch_first else f"[T, {rows}, {size}]"
    if batch_first and batch is not None:
        expected = f"[{batch}, T, {size}]"
    time, other = (1, 0) if batch_first else (0, 1)
    if (
        array.ndim != 3
        or array.shape[2] != size
        or not array.shape[time]
        or array.shape[other] != (batch or array.shape[other])
    ):
        raise ValueError(f"{name}: expected {expected} with T ≥ 1 (d_model={size}), got shape {array.shape}")
    return array


def stream_step(x: Any, dtype: np.dtype[Any], size: int, batch: int) -> NDArray[Any]:
    """Floats [B, F] of one step."""
    array = floats(x, dtype, layer=True)
    if array.shape != (batch, size):
        raise ValueError(f"x: expected one step, [{batch}, {size}] (batch_size, d_model), got shape {array.shape}")
    return array


def no_weights_gradient(value: Any) -> None:
    """Weights are returned to be looked at."""
    if value is not None:
        raise ValueError("dweights: expected None; no gradient is handed through the returned weights")


def source(query: Any, x: Any, dtype: np.dtype[Any], sizes: tuple[int, int], batch_first: bool) -> tuple[Any, Any]:
    """Queries [T, B, Q], or one step [B, Q], and source states [S, B, K]; or [T, Q] and [S, K] of one sequence."""
    query = features(query, dtype, sizes[0], "query_size", "query")
    x = features(x, dtype, sizes[1], "source_size", "source")
    time = 1 if batch_first and x.ndim == 3 else 0
    if x.ndim not in (2, 3) or x.shape[time] == 0:
        expected = f"[B, S, {sizes[1]}]" if batch_first else f"[S, B, {sizes[1]}]"
        raise ValueError(f"source: expected {expected}, or [S, {sizes[1]}] for one sequence, got shape {x.shape}")
    if x.ndim == 2:
        if query.ndim != 2 or len(query) == 0:
            raise ValueError(f"query: expected [T, {sizes[0]}], for one sequence like source, got shape {query.shape}")
        return query, x
    batch = x.shape[1 - time]
    rows = query.shape[0] if query.ndim == 2 or batch_first else query.shape[1] if query.ndim == 3 else -1
    if query.ndim not in (2, 3) or rows != batch or (query.ndim == 3 and query.shape[time] == 0):
        expected = f"[{batch}, T, {sizes[0]}]" if batch_first else f"[T, {batch}, {sizes[0]}]"
        raise ValueError(
            f"query: expected {expected}, or [{batch}, {sizes[0]}] for one step, to fit source, got shape {query.shape}"
        )
    return query, x


def heads(
    given: tuple[Any, Any, Any], dtype: np.dtype[Any], sizes: tuple[int, int, int], batch_first: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Query, key and value that go together; key None is query, value None is key."""
    if given[1] is None and given[2] is not None:
        raise TypeError("key: expected an array, since there is a value, got None")
    query = features(given[0], dtype, sizes[0], "embed_dim", "query")
    time = 1 if batch_first and query.ndim == 3 else 0
    if query.ndim not in (2, 3) or query.shape[time] == 0:
        expected = f"[B, T, {sizes[0]}]" if batch_first else f"[T, B, {sizes[0]}]"
        raise ValueError(f"query: expected {expected}, or [T, {sizes[0]}] for one sequence, got shape {query.shape}")
    batch = query.shape[1 - time : 2 - time] if query.ndim == 3 else ()
    found = [query]
    for name, value, size, label in (("key", given[1], sizes[1], "kdim"), ("value", given[2], sizes[2], "vdim")):
        array = features(found[-1] if value is None else value, dtype, size, label, name)
        if array.ndim != query.ndim or array.shape[time] == 0 or (batch and array.shape[1 - time : 2 - time] != batch):
            axes = [*map(str, batch), "S"] if time else ["S", *map(str, batch)]
            raise ValueError(
                f"{name}: expected [{', '.join(axes)}, {size}] with S ≥ 1, to fit query, got shape {array.shape}"
            )
        found.append(array)
    if found[1].shape[:-1] != found[2].shape[:-1]:
        raise ValueError(f"value: expected as many steps as key, of shape {found[1].shape}, got shape {found[2].shape}")
    return found[0], found[1], found[2]


def heads_divide(size: int, heads: int, name: str = "num_heads", other: str = "embed_dim") -> None:
    """Every head gets the same number of features."""
    if size % heads:
        raise ValueError(f"{name}: expected a divisor of {other}={size}, got {heads}")


def equal_sizes(kind: str, query_size: int, source_size: int) -> None:
    """Dot products need vectors of one size."""
    if query_size != source_size:
        raise ValueError(
            f"source_size: expected query_size={query_size} for kind={kind!r}, got {source_size}; "
            "kind='general' takes both"
        )


# ---- trees ---------------------------------------------------------------------------------------------------


def no_tree(number: int, why: str) -> ValueError:
    """Something that was given as a tree is none."""
    return ValueError(f"trees: tree {number} is none: {why}")


def parents(value: Any) -> list[NDArray[np.int64]]:
    """One array of parents a tree: each −1 (once) or another node of the tree."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        raise TypeError("parents: expected a list with one array for each tree, got one array; for one tree, [parents]")
    found = []
    for number, part in enumerate(value):
        array = integers(part, f"parents[{number}]")
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"parents[{number}]: expected one integer for each node, got shape {array.shape}")
        bad = (array < -1) | (array >= len(array)) | (array == np.arange(len(array)))
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise no_tree(
                number, f"the parent of node {at} is {array[at]}, not another of its {len(array)} nodes or -1"
            )
        if (array < 0).sum() != 1:
            raise no_tree(number, f"expected one root, a node whose parent is -1, got {(array < 0).sum()}")
        found.append(array)
    return found


def node_values(value: Any, leaves: int, nodes: int) -> NDArray[Any]:
    """One value for each leaf, or for each node."""
    array = np.asarray(value)
    if array.ndim == 0 or len(array) not in (leaves, nodes):
        raise ValueError(
            f"values: expected one for each of the {leaves} leaves or of the {nodes} nodes, got {describe(array)}"
        )
    return array


def node_labels(value: Any, nodes: int) -> NDArray[Any]:
    """One label for each node."""
    array = np.asarray(value)
    if array.ndim == 0 or len(array) != nodes:
        raise ValueError(f"labels: expected one for each of the {nodes} nodes, got {describe(array)}")
    return array


def has_values(values: Any) -> Any:
    """The values of trees that have some."""
    if values is None:
        raise ValueError("trees: expected trees with values, what their leaves hold; these have none")
    return values


def some_of(index: Any, size: int, what: str) -> NDArray[np.int64]:
    """An index, a slice, indices or a mask, as indices from 0 on."""
    array = np.asarray([] if isinstance(index, slice) else index)
    if array.dtype.kind not in "iub" and array.size:
        raise TypeError(f"{what}: expected integers, a slice or a mask, got {index!r:.60}")
    try:
        return np.atleast_1d(np.arange(size)[index if isinstance(index, slice) or array.size else slice(0)])
    except IndexError:
        raise IndexError(f"{what}: expected indices of {size} {what}, got {index!r:.60}") from None


def trees(value: Any, kind: type[Any], arity: int | None, exact: bool) -> Any:
    """Trees whose inner nodes have up to `arity` children, or just so many."""
    if not isinstance(value, kind):
        raise TypeError(f"trees: expected fr.Trees, got {describe(value)}; make some with fr.Trees.from_nested")
    if arity is None:
        return value
    counts = value._counts()
    bad = (counts > arity) | (exact & (counts > 0) & (counts != arity))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise ValueError(f"trees: expected {'' if exact else 'up to '}{arity} children, got {counts[at]} at node {at}")
    return value


def tree_input(x: Any, dtype: np.dtype[Any], size: int, label: str, leaves: int, nodes: int | None) -> NDArray[Any]:
    """Floats [leaves, size], or where `nodes` is given [nodes, size]."""
    array = floats(x, dtype, layer=True)
    rows = (leaves,) if nodes is None else (leaves, nodes)
    if array.ndim != 2 or array.shape[1] != size or len(array) not in rows:
        each = " or ".join(f"[{n}, {size}] (one row a {what})" for n, what in zip(rows, ("leaf", "node")))
        raise ValueError(f"x: expected {each}, {label}={size}, got shape {array.shape}")
    return np.ascontiguousarray(array)


def tree_tokens(values: NDArray[Any]) -> NDArray[np.int64]:
    """The values of trees as numbers of tokens."""
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise TypeError(
            f"trees: expected values that are integers, the tokens' numbers, got {values.dtype} of shape "
            f"{values.shape}; make them with trees.map({{word: number, …}}.get)"
        )
    return integers(values, "trees")


def has_labels(labels: Any) -> Any:
    """The labels of trees that have some."""
    if labels is None:
        raise ValueError("target: expected a batch with targets, or trees with labels; there are none")
    return labels


def same_size(value: int, other: int, name: str, other_name: str) -> None:
    """Two sizes are one."""
    if value != other:
        raise ValueError(f"{name}: expected {other}, that of {other_name}, got {value}")


# ---- word vectors --------------------------------------------------------------------------------------


def flag(value: Any, name: str) -> bool:
    """A bool; 0 and 1 are taken for one, as many write them."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{name}: expected True or False, got {value!r}")


def natural(value: Any, name: str) -> int:
    """An int ≥ 0."""
    found = integer(value, name)
    if found < 0:
        raise ValueError(f"{name}: expected an integer of at least 0, got {found}")
    return found


# ---- texts ---------------------------------------------------------------------------------------------------


def text(value: Any, name: str = "text") -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected str, got {describe(value)}")
    return value


def several(value: Any, name: str = "texts") -> Iterable[Any]:
    """An iterable of texts, or of what stands for them; one text is an iterable of its characters, and no list."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name}: expected an iterable of texts, got one text; put it into a list")
    if not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected an iterable of texts, got {describe(value)}")
    return value


def with_targets(batch: Any) -> tuple[Any, ...]:
    """What a loss with targets is given: (x, target, lengths, weight)."""
    if not isinstance(batch, tuple | list) or not 2 <= len(batch) <= 4:
        raise TypeError(f"batch: expected (x, target), (x, target, lengths, weight) or a Batch, got {describe(batch)}")
    return (*batch, None, None)[:4]


def row_weights(value: Any, batch: int) -> NDArray[Any] | None:
    """Finite weights [B], or None. [1, B] is what `SequenceBatches` makes of them for targets along time."""
    if value is None:
        return None
    if np.shape(value) not in ((batch,), (1, batch), (batch, 1)):
        raise ValueError(f"weight: expected [{batch}], one for each row, got shape {np.shape(value)}")
    return weights(np.reshape(value, -1), (batch,))


# ---- decoders ------------------------------------------------------------------------------------------------


def decoder_layers(value: Any, most: int) -> int:
    """How many layers a decoder has."""
    found = positive_int(value, "num_layers")
    if found > most:
        raise ValueError(f"num_layers: expected at most {most}, got {found}")
    return found


def score_sizes(attention: str, additive: bool, hidden: int, source: int, size: int | None) -> None:
    """Sizes that fit the kind of score."""
    if attention in ("dot", "scaled_dot") and hidden != source:
        raise ValueError(
            f"attention: {attention!r} needs source_size = hidden_size, got {source} and {hidden}; use 'general'"
        )
    if size is not None and not additive:
        raise ValueError(f"attention_size: only 'additive' and 'concat' have one, got {size} with {attention!r}")


def batch_of_sequences(
    x: Any, dtype: np.dtype[Any], batch_first: bool, size: int, name: str, label: str
) -> NDArray[Any]:
    """Floats [T, B, size], or [B, T, size], with at least one step."""
    array = floats(x, dtype, name, layer=True)
    if array.ndim != 3 or array.shape[-1] != size:
        steps = "S" if name == "source" else "T"
        axes = f"[B, {steps}, {size}]" if batch_first else f"[{steps}, B, {size}]"
        raise ValueError(f"{name}: expected {axes} ({label}={size}), got shape {array.shape}")
    if array.shape[1 if batch_first else 0] == 0:
        raise ValueError(f"{name}: expected at least one time step, got shape {array.shape}")
    return array


def same_batch(source: int, batch: int) -> None:
    """The source has a row for each row of x."""
    if source != batch:
        raise ValueError(f"source: expected {batch} rows, as many as x has, got {source}")


def decoder_cell(cell: Any, cells: dict[str, Any]) -> Any:
    """The class of a built-in cell that takes its steps one by one."""
    if cell not in cells:
        raise ValueError(
            f"cell: expected one of {', '.join(cells)}, or a cell made by fr.cell, for a decoder goes step by step; "
            f"got {cell!r}"
        )
    return cells[cell]


def decoder_cell_options(options: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """What a decoder's cell has beyond the plain one."""
    found = cell_options(options)
    for name in found:
        if name not in known:
            raise ValueError(f"cell_options: expected some of {', '.join(known)} for a decoder, got {name!r}")
    return found


def cell_options(options: Any) -> dict[str, Any]:
    """Further arguments of recurrent layers."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"cell_options: expected a dict, got {describe(options)}")
    for name in ("num_layers", "bidirectional", "batch_first", "proj_size", "dropout", "dtype", "seed"):
        if name in options:
            raise ValueError(f"cell_options: expected what makes the cell another one, got {name!r}")
    return dict(options)


def made(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """make(*args, **options), if it takes such options."""
    known = inspect.signature(make).parameters
    for name in options:
        if name not in known:
            raise ValueError(f"cell_options: {getattr(make, '__name__', make)} has no {name!r}")
    return make(*args, **options)


def value_layers(rnn: Any, output: Any, decoders: Any, linear: type) -> None:
    """Layers that a decoder of values can be made of."""
    if not isinstance(rnn, decoders):
        raise TypeError(f"rnn: expected an RNN, LSTM, GRU or AttentionDecoder, got {describe(rnn)}")
    if getattr(rnn, "bidirectional", False) or rnn.batch_first:
        raise ValueError("rnn: expected one direction, and batch_first=False")
    if getattr(rnn, "dropout", 0.0):
        raise ValueError(f"rnn: expected no dropout between layers, got {rnn.dropout}")
    variant = getattr(rnn, "variant", None)
    if rnn.takes_dropout if variant is None else variant.masks:
        raise ValueError("rnn: expected no zoneout and no dropout in the cell, since runs of steps draw masks apart")
    if not isinstance(output, linear):
        raise TypeError(f"output: expected a Linear, got {describe(output)}")


def value_sizes(dtype: Any, inputs: int, size: int, output: Any) -> None:
    """The output reads what the layers write, and they have room for what it writes."""
    if output.dtype != dtype:
        raise TypeError(f"output: expected {dtype}, the dtype of rnn, got {output.dtype}")
    if output.in_features != size:
        raise ValueError(f"output: expected in_features={size}, the size of what rnn returns, got {output.in_features}")
    if output.out_features > inputs:
        raise ValueError(
            f"output: expected out_features up to {inputs}, the input_size of rnn, got {output.out_features}"
        )


def own_steps(value: Any, steps: int) -> NDArray[np.bool_]:
    """Which steps read a decoder's own values: bools [T], the first of them False."""
    if value is None:
        return np.zeros(steps, bool)
    found = np.asarray(value)
    if found.dtype != bool or found.shape != (steps,):
        raise ValueError(f"own: expected {steps} bools, one for each step, got {found.dtype} of shape {found.shape}")
    if found[0]:
        raise ValueError("own: expected False at the first step, which has no value before it")
    return found


def lengths_of_pairs(value: Any) -> tuple[Any, Any]:
    """Lengths of sources and of targets, from an array [2, B]."""
    if value is None:
        return None, None
    if np.ndim(value) != 2 or len(value) != 2:
        raise ValueError(
            f"lengths: expected [2, B], those of sources and those of targets, got shape {np.shape(value)}"
        )
    return value[0], value[1]


# ---- searches ------------------------------------------------------------------------------------------------


def share(value: Any, name: str) -> float:
    """A number in (0, 1]."""
    found = number(value, name)
    if not 0.0 < found <= 1.0:
        raise ValueError(f"{name}: expected 0 < {name} ≤ 1, got {found}")
    return found


def search_layers(decoder: Any, embedding: Any, output: Any, decoders: Any, table: type, linear: type) -> None:
    """Layers of the types that a search can run."""
    if not isinstance(decoder, decoders):
        raise TypeError(f"decoder: expected an AttentionDecoder, LSTM, GRU or RNN, got {describe(decoder)}")
    if getattr(decoder, "bidirectional", False) or getattr(decoder, "proj_size", 0):
        raise ValueError("decoder: expected one direction and no projection")
    if not isinstance(embedding, table):
        raise TypeError(f"embedding: expected an Embedding, got {describe(embedding)}")
    if not isinstance(output, linear):
        raise TypeError(f"output: expected a Linear, got {describe(output)}")


def search_sizes(dtype: Any, embedding: Any, output: Any, size: int) -> None:
    """The output reads the decoder's outputs and has a logit for each row of the embedding."""
    for name, layer in (("embedding", embedding), ("output", output)):
        if layer.dtype != dtype:
            raise TypeError(f"{name}: expected {dtype}, the decoder's dtype, got {layer.dtype}")
    if output.in_features != size:
        raise ValueError(
            f"output: expected in_features={size}, the size of the decoder's output, got {output.in_features}"
        )
    if output.out_features != embedding.num_embeddings:
        raise ValueError(
            f"output: expected out_features={embedding.num_embeddings}, as many as embedding has rows, "
            f"got {output.out_features}"
        )


def without_attention(decoder: Any, source: Any, feed: Any, source_lengths: Any, weights: Any) -> None:
    """Arguments that only a decoder with attention has."""
    for name, value in (("source", source), ("feed", feed), ("source_lengths", source_lengths)):
        if value is not None:
            raise ValueError(f"{name}: expected None, because {type(decoder).__name__} has no attention")
    if weights:
        raise ValueError(f"weights: expected False, because {type(decoder).__name__} has no attention")


def batch_of_state(state: Any, count: int) -> int:
    """B of a state [num_layers, B, H], or of the first of several."""
    h = states(state, count, "state")[0] if count > 1 else state
    if h is None or np.ndim(h) != 3:
        raise ValueError(f"state: expected [num_layers, B, H], which says how many texts to write, got {describe(h)}")
    return int(np.shape(h)[1])


def extra_size(size: int) -> None:
    """The decoder's input has room for an embedding."""
    if size < 0:
        raise ValueError(f"embedding: expected embedding_dim up to the decoder's input_size, got {-size} more")


def fraction_or_one(value: Any, name: str) -> float:
    """A probability in [0, 1]."""
    found = number(value, name)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"{name}: expected 0 ≤ {name} ≤ 1, got {found}")
    return found


def extra(value: Any, batch: int, size: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """What follows every embedding: [B, size], or None for size 0."""
    extra_size(size)
    if value is None:
        if size:
            raise ValueError(f"extra: expected [B, {size}]: embedding_dim is {size} less than the decoder's input_size")
        return None
    array = floats(value, dtype, "extra")
    if array.shape != (batch, size) or size == 0:
        raise ValueError(
            f"extra: expected {(batch, size)}, what the decoder's input_size leaves beside an embedding, "
            f"got shape {array.shape}"
        )
    return np.require(array, requirements=("C", "A"))


def texts(width: int, name: str, batch: int, most: int) -> None:
    """As many texts of a search as fit into one call; in a step every beam offers its best `width` + 1 tokens."""
    rows = max(batch, 1) * width
    if rows * most >= 1 << 31:
        raise ValueError(
            f"{name}, max_length: expected fewer than 2**31 tokens in a call, got {batch} sentences x {width} x {most}"
        )
    if name == "beam_size" and rows * width >= 1 << 40:
        raise ValueError(f"beam_size: expected one whose candidates fit into memory, got {width} for {batch} sentences")


def token_left(banned: NDArray[Any] | None, vocabulary: int, eos: int, least: int) -> None:
    """A token for every step: besides `eos` where a text may not end yet."""
    left = vocabulary - (0 if banned is None else int(np.count_nonzero(banned)))
    if left - (least > 0 and (banned is None or not banned[eos])) < 1:
        raise ValueError(
            f"banned: expected to leave a token{' besides eos, because min_length > 0' if left else ''}, "
            f"got {vocabulary - left} of {vocabulary} tokens"
        )


def least_length(least: Any, most: int) -> int:
    """`min_length` of texts that have up to `most` tokens."""
    found = natural(least, "min_length")
    if found > most:
        raise ValueError(f"min_length: expected at most max_length={most}, got {found}")
    return found


# ---- compiled code -------------------------------------------------------------------------------------------

# of NativeError (csrc/native.h), from 1 on; compiled code raises constants
NATIVE_ERRORS = (
    "x: expected [B, input_size] for a step, [T, B, input_size] for more ([B, T, input_size] with batch_first), with "
    "the stream's batch_size and at least one time step; one row may lack the axis of the batch; integers for an "
    "embedding have no last axis",
    "x, out: expected aligned arrays with a contiguous last axis",
    "out: expected the shape of x with the layer's output size as last axis",
    "out: expected rows that don't overlap each other",
    "out: expected memory apart from x, or x itself",
    "x: expected integers from 0 to num_embeddings - 1",
    "state: expected arrays [num_layers, B, size] in the layer's form, for a reset with as many rows as are set",
    "rows: expected integers from 0 to batch_size - 1, or one bool for each row",
    "rows: expected each row once",
    "lengths: expected one integer from 0 to T for each row",
    "x: expected fewer than 2**31 steps in one call",
    "no memory for the forward pass",
    "Stream: another thread is inside a call of this stream; a stream belongs to one thread",
)


def native_type(name: str, expected: str, typ: Any, written: bool = False) -> str:
    """What compiled code was given where something else belongs; `typ` is Numba's."""
    return f"{name}: expected {'a writable ' if written else ''}{expected}, got {typ}"


def native_states(states: int) -> str:
    """A stream that compiled code can't take."""
    return f"stream: expected cells of one or two states in compiled code, got one of {states}"


def native_plain(plain: bool, owner: str) -> None:
    """Layers that compiled code takes have plain cells."""
    if not plain:
        raise TypeError(
            f"{owner}: expected a plain cell in compiled code, got a variant or a user's cell: pass its stream instead"
        )


def native_steps(owner: str) -> str:
    """Layers and streams whose steps go through Python."""
    return (
        f"{owner}: its steps go through Python, so compiled code can't take it; expected RNN, GRU, LSTM, or a stream "
        "of these, of FastRNN, FastGRNN, or of cells made by fr.cell"
    )


def needs_numba() -> ImportError:
    """Part of fastrnn needs an extra."""
    return ImportError('fastrnn.jit needs Numba 0.59 or later: pip install "fastrnn[jit]"')
