"""Operators that move numbers about: shapes, types, parts, constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.interop.graph._arrays import BFLOAT16, DTYPES
from fastrnn.interop.graph._node import Node, operator

Array = Any


def numbers(array: Array) -> list[int]:
    """The whole numbers of an array, or of a list."""
    found: list[int] = array if isinstance(array, list) else np.ravel(array).tolist()
    return found


@operator("Identity")
def _identity(node: Node, x: Array) -> Array:
    return x


@operator("Dropout")
def _dropout(node: Node, x: Array, ratio: Array = None, training: Array = None) -> Any:
    """Nothing is dropped in inference; the mask says that all stays."""
    if training is not None and bool(training) and (0.5 if ratio is None else float(ratio)):
        raise ValueError("training_mode: expected false, a loaded graph is for inference")
    return (x, np.ones(x.shape, x.dtype if node.version < 10 else bool)) if node.num_outputs > 1 else x


@operator("Reshape")
def _reshape(node: Node, x: Array, shape: Array) -> Array:
    """0 keeps the size of that axis, unless `allowzero`."""
    sizes = numbers(shape)
    if not node.get("allowzero", 0):
        sizes = [x.shape[k] if size == 0 else size for k, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Transpose")
def _transpose(node: Node, x: Array) -> Array:
    return x.transpose(node.get("perm"))


@operator("Flatten")
def _flatten(node: Node, x: Array) -> Array:
    axis = node.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(rows, int(np.prod(x.shape[axis:], dtype=np.int64)))


def _axes(node: Node, given: Array) -> list[int] | None:
    """An attribute before version 13, then an input."""
    axes = node.get("axes") if node.version < 13 else given
    return None if axes is None else numbers(axes)


@operator("Squeeze")
def _squeeze(node: Node, x: Array, axes: Array = None) -> Array:
    found = _axes(node, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


@operator("Unsqueeze")
def _unsqueeze(node: Node, x: Array, axes: Array = None) -> Array:
    return np.expand_dims(x, tuple(_axes(node, axes) or ()))


@operator("Concat")
def _concat(node: Node, *arrays: Array) -> Array:
    return np.concatenate(arrays, axis=node.get("axis", 1))


@operator("Split")
def _split(node: Node, x: Array, sizes: Array = None) -> tuple[Array, ...]:
    axis, whole = node.get("axis", 0), x.shape[node.get("axis", 0)]
    sizes = node.get("split") if node.version < 13 else sizes
    if sizes is None:  # equal parts, the last one maybe smaller
        count = node.get("num_outputs", node.num_outputs)
        size = -(-whole // count)
        sizes = [max(min(size, whole - k * size), 0) for k in range(count)]
    if sum(numbers(sizes)) != whole:
        raise ValueError(f"split: expected sizes that make {whole}, got {numbers(sizes)}")
    return tuple(np.split(x, np.cumsum(numbers(sizes))[:-1], axis=axis))


@operator("Slice")
def _slice(
    node: Node, x: Array, starts: Array = None, ends: Array = None, axes: Array = None, steps: Array = None
) -> Array:
    """The four were attributes before version 10. NumPy's slices clamp as ONNX's do, but for -1 as a far end."""
    if node.version < 10:
        starts, ends, axes = node.get("starts"), node.get("ends"), node.get("axes")
    first, last = numbers(starts), numbers(ends)
    along = list(range(len(first))) if axes is None else numbers(axes)
    by = [1] * len(first) if steps is None else numbers(steps)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        size = x.shape[axis]
        backward = step < 0 and end < -size  # before the first one, for which a slice has no number
        index[axis] = slice(start, None if backward else end, step)
    return x[tuple(index)]


@operator("Shape")
def _shape(node: Node, x: Array) -> Array:
    return np.array(np.shape(x)[slice(node.get("start", 0), node.get("end"))], np.int64)


@operator("Size")
def _size(node: Node, x: Array) -> Array:
    return np.array(np.size(x), np.int64)


@operator("Expand")
def _expand(node: Node, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(numbers(shape))))


@operator("Tile")
def _tile(node: Node, x: Array, repeats: Array) -> Array:
    return np.tile(x, numbers(repeats))


@operator("Range")
def _range(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    first, last, by = (np.ravel(a)[0] for a in (start, limit, delta))
    count = max(int(np.ceil((last - first) / by)), 0)
    return (np.arange(count) * by + first).astype(start.dtype)


@operator("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    return np.full(numbers(shape), value.ravel()[0], value.dtype)


@operator("EyeLike")
def _eye_like(node: Node, x: Array) -> Array:
    code = node.get("dtype")
    rows, columns = x.shape
    return np.eye(rows, columns, k=node.get("k", 0), dtype=x.dtype if code is None else DTYPES[code])


@operator("Trilu")
def _trilu(node: Node, x: Array, k: Array = None) -> Array:
    return (np.triu if node.get("upper", 1) else np.tril)(x, 0 if k is None else int(np.ravel(k)[0]))


@operator("Cast")
def _cast(node: Node, x: Array) -> Array:
    code = node.get("to")
    if code not in DTYPES:
        raise ValueError(f"to: expected a type of numbers or bool, got ONNX's number {code}")
    found = x.astype(DTYPES[code])
    return _as_bfloat16(found) if code == BFLOAT16 else found


@operator("CastLike")
def _cast_like(node: Node, x: Array, like: Array) -> Array:
    return x.astype(like.dtype)


def _as_bfloat16(x: Array) -> Array:
    """float32 to the nearest number whose lower half is zeros, of two as near the even one."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32).reshape(x.shape), x)


@operator("Pad")
def _pad(node: Node, x: Array, pads: Array = None, value: Array = None, axes: Array = None) -> Array:
    """Attributes before version 11; negative pads cut off."""
    if node.version < 11:
        pads, value = node.get("pads"), node.get("value", 0.0)
    along = range(x.ndim) if axes is None else [axis % x.ndim for axis in numbers(axes)]
    ends, count = numbers(pads), len(along)
    widths = [(0, 0)] * x.ndim
    for k, axis in enumerate(along):
        widths[axis] = (ends[k], ends[k + count])
    x = x[tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(widths, x.shape, strict=True))]
    widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    mode = node.get("mode", "constant")
    if mode == "constant":
        return np.pad(x, widths, constant_values=0 if value is None else np.ravel(value)[0])
    if mode not in ("edge", "reflect", "wrap"):
        raise ValueError(f"mode: expected constant, edge, reflect or wrap, got {mode!r}")
    return np.pad(x, widths, mode)


@operator("ReverseSequence")
def _reverse_sequence(node: Node, x: Array, lengths: Array) -> Array:
    """Each row's first steps from last to first."""
    steps = np.moveaxis(x, (node.get("time_axis", 0), node.get("batch_axis", 1)), (0, 1))
    t = np.arange(len(steps))[:, None]
    lengths = np.asarray(lengths)[None]
    found = steps[np.where(t < lengths, lengths - 1 - t, t), np.arange(steps.shape[1])]
    return np.moveaxis(found, (0, 1), (node.get("time_axis", 0), node.get("batch_axis", 1)))


@operator("NonZero")
def _non_zero(node: Node, x: Array) -> Array:
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)
