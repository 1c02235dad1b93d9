"""Arrays and their types in a graph's description, which is JSON."""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# ONNX's numbers for types. There is no bfloat16 in NumPy: such arrays are float32 here.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    16: np.dtype(np.float32),
}
BFLOAT16 = 16
NAMES = {dtype.name: dtype for dtype in DTYPES.values()}


def dtype_of(name: Any) -> np.dtype[Any]:
    """A type by its name.

    Raises
    ------
    ValueError
        It is none of those that graphs may hold.
    """
    if name not in NAMES:
        raise ValueError(f"expected one of the types {', '.join(NAMES)}, got {name!r}")
    return NAMES[name]


def encode(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON-able values, bit for bit."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "type": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode(),
    }


def decode(given: dict[str, Any]) -> NDArray[Any]:
    """What `encode` made; a ValueError, TypeError or KeyError for anything else."""
    dtype, shape = dtype_of(given["type"]), tuple(int(size) for size in given["shape"])
    try:
        data = base64.b64decode(given["data"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"an array that can't be read: {error}") from None
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} of {dtype} with {len(data)} bytes")
    array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    array.flags.writeable = False
    return array
