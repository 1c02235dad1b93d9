"""The recurrent layers that models can be made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastrnn.nn import GRU, LSTM, RNN, CustomRNN
from fastrnn.nn._recurrent import Recurrent

__all__ = ["CELLS", "cell_config", "cell_name", "chosen"]

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def chosen(cell: Any) -> tuple[Callable[..., Recurrent], Any]:
    """What makes the layers, and the cell: one of CELLS, or one made by `fr.cell`, itself or by its name."""
    if isinstance(cell, str) and ":" not in cell:
        if cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, or a cell made by fr.cell, got {cell!r}")
        return CELLS[cell], cell
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
