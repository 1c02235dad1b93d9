"""The recurrent layers that models can be made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastrnn.nn import GRU, LSTM, RNN, CustomRNN
from fastrnn.nn.registry import CELLS as LAYERS

__all__ = ["CELLS", "LAYERS", "cell_config", "cell_name", "chosen"]

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}  # with compiled decoders, which some models need


def chosen(cell: Any) -> tuple[Callable[..., Any], Any]:
    """What makes the layers, and the cell: one of LAYERS, or one made by `fr.cell`, itself or by its name."""
    if isinstance(cell, str) and ":" not in cell:
        if cell not in LAYERS:
            raise ValueError(f"cell: expected one of {', '.join(LAYERS)}, or a cell made by fr.cell, got {cell!r}")
        return LAYERS[cell], cell
    from fastrnn.jit.cell import find_cell

    found = find_cell(cell)
    return partial(CustomRNN, found), found


def cell_config(cell: Any) -> str:
    """The cell as a file has it."""
    return cell if isinstance(cell, str) else str(cell.signature)


def cell_name(cell: Any) -> str:
    """The cell as people call it.

    Examples
    --------
    >>> cell_name("lstm")
    'LSTM'
    """
    return cell.upper() if isinstance(cell, str) else str(cell.__name__)
