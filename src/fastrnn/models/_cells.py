"""The recurrent layers that models can be made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastrnn import _check
from fastrnn.nn import CustomRNN, ops
from fastrnn.nn._decoder_cell import CELLS as STEPS
from fastrnn.nn.registry import CELLS

__all__ = [
    "CELLS",
    "STEPS",
    "cell_config",
    "cell_name",
    "cell_states",
    "chosen",
    "count_states",
    "first_state",
    "open_forget_gates",
    "own_states",
    "steps",
]


def chosen(cell: Any, options: Mapping[str, Any] | None = None) -> tuple[Callable[..., Any], Any]:
    """What makes the layers, and the cell: one of CELLS, or one made by `fr.cell`, itself or by its name.

    `options` are further arguments of the layers: what a model takes as `cell_options`.
    """
    more = _check.cell_options(options)
    if isinstance(cell, str) and ":" not in cell:
        if cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, or a cell made by fr.cell, got {cell!r}")
        return partial(_check.made, CELLS[cell], **more) if more else CELLS[cell], cell
    from fastrnn.jit.cell import find_cell

    found = find_cell(cell)
    return partial(_check.made, partial(CustomRNN, found), **more), found


def steps(cell: Any, options: Mapping[str, Any] | None = None) -> tuple[Callable[..., Any], Any]:
    """The same for decoders, which go step by step: one of STEPS, or one made by `fr.cell`."""
    if isinstance(cell, str) and ":" not in cell:
        _check.decoder_cell(cell, STEPS)
    return chosen(cell, options)


def open_forget_gates(rnn: Any) -> None:
    """Biases of 1 at an LSTM's forget gates (Jozefowicz et al. 2015), if it has some and no `forget_bias`."""
    inner = rnn._steps.layer if hasattr(rnn, "_steps") else rnn  # an AttentionDecoder
    if not isinstance(inner, CELLS["lstm"]) or inner.variant.coupled or inner.variant.forget_bias is not None:
        return
    part = slice(rnn.hidden_size, 2 * rnn.hidden_size)
    for name, bias in rnn._params.items():
        if name.startswith("bias_ih"):
            bias[part] = 1
        elif name.startswith("bias_hh"):
            bias[part] = 0


# ---- states


def cell_states(cell: Any) -> int:
    """How many states one of STEPS has, or one made by `fr.cell`."""
    return STEPS[cell].num_states if isinstance(cell, str) else len(cell.states)


def first_state(state: Any) -> Any:
    """h, or what a scan carries, of a layer's state."""
    return state[0] if isinstance(state, tuple) else state


def count_states(rnn: Any) -> int:
    """How many arrays [layers, B, hidden_size] the state of a layer is, where it begins with what a model makes."""
    if hasattr(rnn, "num_states"):
        return int(rnn.num_states)
    shapes = rnn._state_shapes(1)
    if any(shape != (rnn.num_layers * rnn._directions, 1, rnn.hidden_size) for shape in shapes):
        raise ValueError(
            f"cell: the state of {type(rnn).__name__} can't begin with what this model makes; take another"
        )
    return len(shapes)


def own_states(rnn: Any, maps: Any) -> Any:
    """An initial state of maps [states·layers, B, H]: tanh of the first, for h; the others as they are."""
    layers = rnn.num_layers
    h = ops.tanh(maps[:layers])
    further = [maps[k * layers : (k + 1) * layers] for k in range(1, count_states(rnn))]
    return (h, *further) if further else h


# ---- words


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
