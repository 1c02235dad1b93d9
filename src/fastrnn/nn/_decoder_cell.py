"""The cell of a decoder that takes its steps in compiled code: "lstm", "gru", "rnn", a variant of them, or a user's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._variant import RNN_CELLS
from fastrnn.nn.custom import CustomRNN
from fastrnn.nn.recurrent import GRU, LSTM, RNN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn._variant import Draw
    from fastrnn.nn._recurrent import Recurrent

CELLS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_OPTIONS = (
    "peephole", "coupled", "clip", "forget_bias", "layer_norm", "zoneout", "recurrent_dropout", "weight_dropout",
    "activations", "nonlinearity", "reset_after",
)  # fmt: skip


class DecoderCell:
    """What a decoder knows of its cell: parameters of its layers, states, and what the core is told."""

    def __init__(
        self,
        cell: Any,
        options: Mapping[str, Any] | None,
        hidden_size: int,
        bias: bool,
        reset_after: bool,
        nonlinearity: str,
        dtype: np.dtype[Any],
    ) -> None:
        chosen = _check.decoder_cell_options(options, _OPTIONS)
        _check.choice(nonlinearity, RNN_CELLS, "nonlinearity")
        self.given = chosen
        if isinstance(cell, str) and ":" not in cell:
            make: Any = _check.decoder_cell(cell, CELLS)
            arguments: dict[str, dict[str, Any]] = {
                "gru": {"reset_after": reset_after},
                "rnn": {"nonlinearity": nonlinearity},
            }
            usual = arguments.get(cell, {})
            layer: Recurrent = _check.made(make, 1, 1, bias=bias, dtype=dtype, seed=0, **{**usual, **chosen})
            self.cell = cell
        else:
            layer = _check.made(CustomRNN, cell, 1, 1, bias=bias, dtype=dtype, seed=0, **chosen)
            self.cell = layer.cell  # type: ignore[attr-defined]
        layer.hidden_size = hidden_size  # of its own weights nothing is used
        self.layer, self.variant = layer, layer.variant
        self.gates, self.num_states, self.core = layer.gates, layer.num_states, layer._cell

    # ---- parameters ----------------------------------------------------------------------------------------------

    def shapes(self, suffix: str, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Those of one layer."""
        H = self.layer.hidden_size
        rows = self.gates * H
        yield f"weight_ih{suffix}", (rows, inputs)
        yield f"weight_hh{suffix}", (rows, H)
        if self.layer.bias:
            yield f"bias_ih{suffix}", (rows,)
            yield f"bias_hh{suffix}", (rows,)
        yield from self.variant.shapes(suffix, self.gates, H, self.num_states > 1)

    def initial(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
        """First values of a layer's parameter."""
        return self.layer._initial_values(name, shape, rng)

    def arrays(self, arrays: Mapping[str, Any], suffix: str) -> tuple[Any, ...]:
        """What the core takes of one layer's parameters, or of their gradients."""
        found = tuple(arrays.get(name + suffix) for name in _WEIGHTS)
        if not self.variant.in_kernel:
            return found
        return (*found, None, *self.variant.arrays(dict(arrays), suffix, self.layer.hidden_size))

    # ---- states --------------------------------------------------------------------------------------------------

    def state(self, state: Any, layers: int, batch: int, name: str) -> tuple[Any, Any]:
        """(h, c) as contiguous [layers, B, H], c [states - 1, layers, B, H] of cells with more states than two."""
        shape, dtype = (layers, batch, self.layer.hidden_size), self.layer.dtype
        if self.num_states == 1:
            return _check.state(state, shape, False, dtype, name), None
        parts = _check.states(state, self.num_states, name)
        h, *rest = (_check.state(part, shape, False, dtype, f"{name}[{k}]") for k, part in enumerate(parts))
        if self.num_states == 2 or all(part is None for part in rest):
            return h, rest[0]
        return h, np.stack([np.zeros(shape, dtype) if part is None else part for part in rest])

    def as_state(self, h: Any, c: Any) -> Any:
        """What callers get."""
        return h if self.num_states == 1 else (h, c) if self.num_states == 2 else (h, *c)

    # ---- calls ---------------------------------------------------------------------------------------------------

    def options(self, draw: Draw | None) -> Any:
        """`_core.Options` of a call, or None for a plain cell; without `draw` nothing is drawn."""
        if not self.variant.in_kernel:
            return None
        return _core.Options(**self.layer._kernel_options(draw))

    def guarded(self, function: Any, *args: Any) -> Any:
        """A call into the core."""
        return self.layer._guarded(function, *args)

    def config(self) -> dict[str, Any]:
        """The arguments `cell` and `cell_options`."""
        own = self.variant.config()
        options = {name: own.get(name, value) for name, value in self.given.items()}
        cell = self.cell if isinstance(self.cell, str) else self.cell.signature
        return {"cell": cell, "cell_options": options}
