"""Types of `_core_tree.pxi`, a part of the compiled core, not a module."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

from fastrnn._core import Array

TREE_TANH: int
TREE_RELU: int
TREE_SIGMOID: int
TREE_CHILD_SUM: int
TREE_NARY: int

_Indices: TypeAlias = NDArray[Any]  # int64

def tree_forward(
    cell: int,
    levels: _Indices,
    first: _Indices,
    child: _Indices,
    U: Array,
    bias: Array | None,
    z: Array | None,
    f: Array | None,
    h: Array,
    c: Array | None,
    hc: Array,
) -> None: ...
def tree_backward(
    cell: int,
    levels: _Indices,
    first: _Indices,
    child: _Indices,
    U: Array,
    z: Array,
    f: Array | None,
    h: Array,
    c: Array | None,
    dh: Array,
    dc: Array | None,
) -> None: ...
