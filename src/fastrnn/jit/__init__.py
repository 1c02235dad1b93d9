"""Cells that users write: from the equations of one unit to compiled functions, forward and backward.

The function is traced once; its gradient is derived as expressions; both are compiled with Numba to C functions, which
the core's schedule calls between its matrix products. Numba is imported when the first cell is compiled, not before.

Examples
--------
>>> import fastrnn as fr
>>> from fastrnn.jit import sigmoid, tanh
>>> @fr.cell(gates=("r", "z", "n"), states=("h",))
... def my_gru(wx, rh, s):
...     r = sigmoid(wx.r + rh.r)
...     z = sigmoid(wx.z + rh.z)
...     n = tanh(wx.n + r * rh.n)
...     return (1 - z) * n + z * s.h
>>> my_gru
<cell my_gru: gates r, z, n; states h>
"""

from fastrnn.jit.cell import Cell, cell
from fastrnn.jit.checking import check
from fastrnn.jit.explaining import equations, explain
from fastrnn.jit.functions import (
    abs,
    exp,
    log,
    maximum,
    minimum,
    power,
    relu,
    sigmoid,
    softplus,
    sqrt,
    tanh,
    where,
)

__all__ = [
    "Cell",
    "abs",
    "cell",
    "check",
    "equations",
    "exp",
    "explain",
    "log",
    "maximum",
    "minimum",
    "power",
    "relu",
    "sigmoid",
    "softplus",
    "sqrt",
    "tanh",
    "where",
]
