"""Types of `_core_scan.pxi`, a part of the compiled core, not a module."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

from fastrnn._core import Array

_Indices: TypeAlias = NDArray[Any]  # int64

SCAN_SRU: int
SCAN_QRNN: int
SCAN_MIN_GRU: int
SCAN_MIN_LSTM: int
SCAN_LRU: int
SCAN_IND_RNN: int

def scan_forward(
    cell: int,
    option: bool,
    T: int,
    lengths: _Indices | None,
    first: _Indices,
    step: int,
    reverse: bool,
    z: Array,
    skip: Array | None,
    p: Array | None,
    alpha: float,
    s_0: Array | None,
    s_n: Array,
    y: Array | None,
    s: Array | None,
) -> None: ...
def scan_backward(
    cell: int,
    option: bool,
    T: int,
    lengths: _Indices | None,
    first: _Indices,
    step: int,
    reverse: bool,
    z: Array | None,
    skip: Array | None,
    p: Array | None,
    alpha: float,
    s_0: Array | None,
    y: Array | None,
    s: Array | None,
    dy: Array | None,
    ds_n: Array | None,
    ds_0: Array,
    dz: Array,
    dskip: Array | None,
    dp: Array | None,
) -> None: ...
