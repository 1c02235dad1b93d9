"""Operators that make one number of many, or look for one among many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.interop.graph._node import Node, operator

Array = Any


def _log_sum_exp(x: Array, axis: Any, keepdims: bool) -> Array:
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    found = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return found if keepdims else np.squeeze(found, axis=axis)


def _smallest(dtype: Any) -> Any:
    return False if dtype.kind == "b" else -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _largest(dtype: Any) -> Any:
    return True if dtype.kind == "b" else np.inf if dtype.kind == "f" else np.iinfo(dtype).max


# x, axis, keepdims → reduced; of nothing, Max and Min are the other end of their type
_REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceSum": lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    "ReduceMean": lambda x, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims),
    "ReduceProd": lambda x, axis, keepdims: np.prod(x, axis=axis, keepdims=keepdims),
    "ReduceMax": lambda x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims, initial=_smallest(x.dtype)),
    "ReduceMin": lambda x, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims, initial=_largest(x.dtype)),
    "ReduceL1": lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims),
    "ReduceL2": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "ReduceLogSum": lambda x, axis, keepdims: np.log(np.sum(x, axis=axis, keepdims=keepdims)),
    "ReduceSumSquare": lambda x, axis, keepdims: np.sum(x * x, axis=axis, keepdims=keepdims),
    "ReduceLogSumExp": _log_sum_exp,
}
_AXES_AS_INPUT = {"ReduceSum": 13}  # the others: 18


@operator(*_REDUCE)
def _reduce(node: Node, x: Array, axes: Array = None) -> Array:
    if node.version < _AXES_AS_INPUT.get(node.op, 18):
        axes = node.get("axes")
    if axes is None or len(axes) == 0:
        if node.get("noop_with_empty_axes", 0):
            return _of_each(node.op, x)
        axes = range(x.ndim)
    axis = tuple(int(a) for a in axes)
    return np.asarray(_REDUCE[node.op](x, axis, bool(node.get("keepdims", 1)))).astype(x.dtype, copy=False)


def _of_each(op: str, x: Array) -> Array:
    """The reduction of every number by itself."""
    found: Array = _REDUCE[op](x[..., None], (x.ndim,), False)
    return found


@operator("ArgMax", "ArgMin")
def _arg(node: Node, x: Array) -> Array:
    axis, search = node.get("axis", 0), np.argmax if node.op == "ArgMax" else np.argmin
    if node.get("select_last_index", 0):
        found = x.shape[axis] - 1 - search(np.flip(x, axis), axis=axis)
    else:
        found = search(x, axis=axis)
    return np.expand_dims(found, axis) if node.get("keepdims", 1) else found


@operator("TopK")
def _top_k(node: Node, x: Array, k: Array = None) -> tuple[Array, Array]:
    """Of equal numbers the first."""
    axis = node.get("axis", -1)
    k = int(node.get("k") if node.version < 10 else np.ravel(k)[0])
    if node.get("largest", 1):  # a stable sort from the other end, turned over, keeps the first of equals first
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    order = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis=axis), order.astype(np.int64)


@operator("CumSum")
def _cum_sum(node: Node, x: Array, axis: Array) -> Array:
    axis = int(np.ravel(axis)[0])
    x = np.flip(x, axis) if node.get("reverse", 0) else x
    found = np.cumsum(x, axis=axis, dtype=x.dtype)
    if node.get("exclusive", 0):
        found = found - x
    return np.flip(found, axis) if node.get("reverse", 0) else found
