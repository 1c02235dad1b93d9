"""Operators that look up and put back by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.interop.graph._node import Node, operator

Array = Any


def _within(indices: Array, size: int) -> Array:
    """Indices from the other end too, none of them outside."""
    indices = np.asarray(indices)
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ValueError(f"indices: expected -{size} to {size - 1}, got {indices.min()} to {indices.max()}")
    return indices


@operator("Gather")
def _gather(node: Node, x: Array, indices: Array) -> Array:
    axis = node.get("axis", 0)
    return np.take(x, _within(indices, x.shape[axis]), axis=axis)


@operator("GatherElements")
def _gather_elements(node: Node, x: Array, indices: Array) -> Array:
    axis = node.get("axis", 0) % x.ndim
    _within(indices, x.shape[axis])
    return x[_places(indices, axis)]


def _places(indices: Array, axis: int) -> tuple[Array, ...]:
    """For each index its own place, but along `axis`."""
    grid = list(np.ogrid[tuple(map(slice, indices.shape))])
    grid[axis] = indices
    return tuple(grid)


@operator("GatherND")
def _gather_nd(node: Node, x: Array, indices: Array) -> Array:
    """x[batch, indices[batch, …, :]]."""
    batch, depth = node.get("batch_dims", 0), indices.shape[-1]
    for k in range(depth):
        _within(indices[..., k], x.shape[batch + k])
    shape = indices.shape[:-1]
    rows = [np.arange(shape[k]).reshape([-1 if axis == k else 1 for axis in range(len(shape))]) for k in range(batch)]
    return x[(*rows, *(indices[..., k] for k in range(depth)))]


_INTO = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _put(node: Node, x: Array, places: tuple[Array, ...], updates: Array) -> Array:
    found, how = x.copy(), node.get("reduction", "none")
    if how == "none":
        found[places] = updates
    elif how in _INTO:
        _INTO[how].at(found, places, updates)
    else:
        raise ValueError(f"reduction: expected none, {', '.join(_INTO)}, got {how!r}")
    return found


@operator("ScatterElements", "Scatter")
def _scatter_elements(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    axis = node.get("axis", 0) % x.ndim
    _within(indices, x.shape[axis])
    return _put(node, x, _places(indices, axis), updates)


@operator("ScatterND")
def _scatter_nd(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    depth = indices.shape[-1]
    for k in range(depth):
        _within(indices[..., k], x.shape[k])
    return _put(node, x, tuple(indices[..., k] for k in range(depth)), updates)


@operator("Compress")
def _compress(node: Node, x: Array, condition: Array) -> Array:
    return np.compress(condition, x, axis=node.get("axis"))


@operator("OneHot")
def _one_hot(node: Node, indices: Array, depth: Array, values: Array) -> Array:
    """Indices outside of the classes make rows of `off` alone."""
    axis, count = node.get("axis", -1), int(np.ravel(depth)[0])
    off, on = values
    indices = np.asarray(indices).astype(np.int64)
    known = (indices >= -count) & (indices < count)
    rows = np.where(known, indices % count, -1)
    hot = np.expand_dims(rows, axis) == np.arange(count).reshape(
        [-1 if k == axis % (indices.ndim + 1) else 1 for k in range(indices.ndim + 1)]
    )
    return np.where(hot, on, off).astype(values.dtype)
