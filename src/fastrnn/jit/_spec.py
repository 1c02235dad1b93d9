"""csrc/cell.h in ctypes: what a cell tells the core, and what the core hands to a cell's functions."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastrnn.jit._derive import Plan

__all__ = ["MOST_GATES", "MOST_STATES", "MOST_VECTORS", "CellFunction", "CellSpec", "CellTile", "Spec"]

MOST_GATES, MOST_STATES, MOST_VECTORS = 8, 4, 8  # kMostGates, kMostStates, kMostVectors

_I = ctypes.c_int64
_P = ctypes.c_void_p


class CellTile(ctypes.Structure):
    """csrc/cell.h's struct of this name; pointers are addresses."""

    _fields_ = (
        *((name, _I) for name in ("rows", "first", "last", "section")),
        *((name, _P) for name in ("gates", "before", "after", "gradient", "vectors", "product")),
        ("save", _I),
        ("context", _P),
        ("units", _I),
    )


CellFunction = ctypes.CFUNCTYPE(None, ctypes.POINTER(CellTile))


class CellSpec(ctypes.Structure):
    """csrc/cell.h's struct of this name."""

    _fields_ = (
        *((name, _I) for name in ("gates", "states", "vectors", "sections")),
        ("section_x", _I * MOST_GATES),
        ("section_r", _I * MOST_GATES),
        ("section_v", _I * MOST_VECTORS),
        *((name, _P) for name in ("forward", "backward", "context", "forward2", "backward2")),
        *((name, _I) for name in ("section_product", "whole_rows")),
    )


class Spec:
    """A cell for the core, in one dtype: a `CellSpec` at `address`, alive as long as this object.

    Attributes
    ----------
    address : int
        Of the `CellSpec`.
    dtype : numpy.dtype
    plan : Plan
    forward, backward : ctypes functions
        Take a `CellTile` by reference.
    callbacks : Callbacks or None
        Where the functions are Python's, what they left behind.
    """

    def __init__(self, plan: Plan, dtype: np.dtype[Any], forward: Any, backward: Any, callbacks: Any = None) -> None:
        self.plan, self.dtype, self.callbacks = plan, dtype, callbacks
        self.forward = CellFunction(forward) if isinstance(forward, int) else forward
        self.backward = CellFunction(backward) if isinstance(backward, int) else backward
        gates, vectors = len(plan.section_x), len(plan.terms)
        fill = [0] * MOST_GATES
        self.struct = CellSpec(
            gates,
            len(plan.outputs),
            vectors,
            plan.sections,
            (_I * MOST_GATES)(*(plan.section_x + fill)[:MOST_GATES]),
            (_I * MOST_GATES)(*(plan.section_r + fill)[:MOST_GATES]),
            (_I * MOST_VECTORS)(*(plan.section_v + fill)[:MOST_VECTORS]),
            ctypes.cast(self.forward, _P),
            ctypes.cast(self.backward, _P),
            *(None, None, None, 0, 0),  # one stage, which takes any tile
        )
        self.address = ctypes.addressof(self.struct)
        self.sections = plan.sections
