"""Operators that are layers of feed-forward networks: softmax, normalisation, convolution, pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.interop.graph._node import Node, operator
from fastrnn.nn.activations import softmax

Array = Any


# ---- softmax


def _softmax(x: Array, axis: int) -> Array:
    if x.size and x.dtype in (np.float32, np.float64):
        return np.moveaxis(softmax(np.moveaxis(x, axis, -1)), -1, axis)
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf).astype(x.dtype))
    return powers / np.sum(powers, axis=axis, keepdims=True)


def _log_softmax(x: Array, axis: int) -> Array:
    x = x - np.max(x, axis=axis, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True))


def _hardmax(x: Array, axis: int) -> Array:
    first = np.expand_dims(np.argmax(x, axis=axis), axis)
    found = np.zeros_like(x)
    np.put_along_axis(found, first, 1, axis)
    return found


_ALONG: dict[str, Callable[[Array, int], Array]] = {
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Hardmax": _hardmax,
}


@operator(*_ALONG)
def _along(node: Node, x: Array) -> Array:
    """Along one axis; before version 13 over all axes from that one on."""
    function = _ALONG[node.op]
    if node.version >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % max(x.ndim, 1)
    return function(x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1), 1).reshape(x.shape)


# ---- normalisation


@operator("LayerNormalization")
def _layer_norm(node: Node, x: Array, scale: Array, bias: Array = None) -> Any:
    """In float32 at least, whatever x is."""
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    mean = wide.mean(axis=axes, keepdims=True)
    rest = wide - mean
    inverse = 1 / np.sqrt((rest * rest).mean(axis=axes, keepdims=True) + wide.dtype.type(node.get("epsilon", 1e-5)))
    y = ((rest * inverse).astype(x.dtype) * scale).astype(x.dtype)
    y = y if bias is None else y + bias
    return (y, mean, inverse)[: node.num_outputs] if node.num_outputs > 1 else y


@operator("RMSNormalization")
def _rms_norm(node: Node, x: Array, scale: Array) -> Array:
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    size = np.sqrt((wide * wide).mean(axis=axes, keepdims=True) + wide.dtype.type(node.get("epsilon", 1e-5)))
    return ((wide / size).astype(x.dtype) * scale).astype(x.dtype)


def _for_channels(a: Array, ndim: int) -> Array:
    return a.reshape(-1, *(1,) * (ndim - 2))


def _training(node: Node) -> str | None:
    training = node.get("training_mode", 0) or node.num_outputs > 1
    return "training_mode: expected 0 and one output, a loaded graph is for inference" if training else None


@operator("BatchNormalization", limit=_training)
def _batch_norm(node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
    factor = scale / np.sqrt(variance + variance.dtype.type(node.get("epsilon", 1e-5)))
    shift = bias - mean * factor
    return (x * _for_channels(factor, x.ndim) + _for_channels(shift, x.ndim)).astype(x.dtype)


@operator("InstanceNormalization")
def _instance_norm(node: Node, x: Array, scale: Array, bias: Array) -> Array:
    axes = tuple(range(2, x.ndim))
    rest = x - x.mean(axis=axes, keepdims=True)
    y = rest / np.sqrt((rest * rest).mean(axis=axes, keepdims=True) + x.dtype.type(node.get("epsilon", 1e-5)))
    return y * _for_channels(scale, x.ndim) + _for_channels(bias, x.ndim)


# ---- windows over [N, C, axes …]


def _pads(node: Node, sizes: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Before and after each axis; `window` with its dilations."""
    how, count = node.get("auto_pad", "NOTSET"), len(sizes)
    if how == "NOTSET":
        pads = node.get("pads") or [0] * (2 * count)
        return list(zip(pads[:count], pads[count:], strict=True))
    if how == "VALID":
        return [(0, 0)] * count
    found = []
    for size, wide, step in zip(sizes, window, strides, strict=True):
        total = max((-(-size // step) - 1) * step + wide - size, 0)
        few, many = total // 2, total - total // 2
        found.append((few, many) if how == "SAME_UPPER" else (many, few))
    return found


def _windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """[N, C, places …, kernel …] of x that is padded already; a view."""
    axes = tuple(range(2, x.ndim))
    wide = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, wide, axis=axes)
    steps = tuple(slice(None, None, s) for s in strides)
    return view[(slice(None), slice(None), *steps, *(slice(None, None, d) for d in dilations))]


@operator("Conv")
def _conv(node: Node, x: Array, weight: Array, bias: Array = None) -> Array:
    count, groups = x.ndim - 2, node.get("group", 1)
    kernel = weight.shape[2:]
    strides, dilations = node.get("strides") or [1] * count, node.get("dilations") or [1] * count
    wide = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *_pads(node, x.shape[2:], wide, strides)])
    view = _windows(x, kernel, strides, dilations)
    places = view.shape[2 : 2 + count]
    inputs, outputs = x.shape[1] // groups, weight.shape[0] // groups
    found = []
    for g in range(groups):  # places × (channels · kernel) times (channels · kernel) × outputs
        part = np.moveaxis(view[:, g * inputs : (g + 1) * inputs], 1, 1 + count)
        rows = part.reshape(len(x) * int(np.prod(places, dtype=np.int64)), -1)
        y = rows @ weight[g * outputs : (g + 1) * outputs].reshape(outputs, -1).T
        found.append(np.moveaxis(y.reshape(len(x), *places, outputs), -1, 1))
    y = found[0] if groups == 1 else np.concatenate(found, axis=1)
    return y if bias is None else y + _for_channels(bias, x.ndim)


def _places_of_maxima(node: Node) -> str | None:
    return "expected one output, the places of maxima are not computed" if node.num_outputs > 1 else None


@operator("MaxPool", "AveragePool", limit=_places_of_maxima)
def _pool(node: Node, x: Array) -> Array:
    """Windows may reach beyond the end with `ceil_mode`; what lies in the padding doesn't count unless asked to."""
    kernel, count = node.get("kernel_shape"), x.ndim - 2
    strides, dilations = node.get("strides") or [1] * count, node.get("dilations") or [1] * count
    wide = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, x.shape[2:], wide, strides)
    more = [0] * count
    if node.get("ceil_mode", 0):
        for k, (size, (before, after)) in enumerate(zip(x.shape[2:], pads, strict=True)):
            places = -(-(size + before + after - wide[k]) // strides[k]) + 1
            places -= (places - 1) * strides[k] >= size + before  # a window must begin inside
            more[k] = max((places - 1) * strides[k] + wide[k] - size - before - after, 0)
    axes = tuple(range(-count, 0))

    def windows(array: Array, fill: Any, beyond: Any) -> Array:
        array = np.pad(array, [(0, 0), (0, 0), *pads], constant_values=fill)
        array = np.pad(array, [(0, 0), (0, 0), *((0, m) for m in more)], constant_values=beyond)
        return _windows(array, kernel, strides, dilations)

    if node.op == "MaxPool":
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        return windows(x, lowest, lowest).max(axis=axes)
    counted = windows(np.ones((1, 1, *x.shape[2:]), x.dtype), node.get("count_include_pad", 0), 0)
    return (windows(x, 0, 0).sum(axis=axes) / counted.sum(axis=axes)).astype(x.dtype)


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node, x: Array) -> Array:
    axes = tuple(range(2, x.ndim))
    return x.mean(axis=axes, keepdims=True) if node.op == "GlobalAveragePool" else x.max(axis=axes, keepdims=True)
