"""Residual and Parallel: ways to combine layers other than one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastrnn import _check
from fastrnn.nn import ops
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn.model import Model

__all__ = ["Parallel", "Residual"]


class _Combined(Model):
    """Layers that all get the same input, lengths, and each its own state."""

    def __init__(self, *members: Layer, layers: list[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        if layers is not None:
            members = tuple(map(from_spec, layers)) + members
        _check.members(members, Layer)
        self.layers = list(members)
        self.is_recurrent = any(layer.is_recurrent for layer in members)

    def config(self) -> dict[str, Any]:
        return {"layers": [to_spec(layer) for layer in self.layers]}

    @property
    def children(self) -> dict[str, Layer]:
        return {str(position): layer for position, layer in enumerate(self.layers)}

    def _run(self, layer: Layer, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
        options = {"lengths": lengths} if layer.takes_lengths else {}
        return layer(x, state, **options) if layer.is_recurrent else (layer(x, **options), None)


class Residual(_Combined):
    """`x + f(x)`, where f is a layer, or several one after another (He et al. 2016).

    Parameters
    ----------
    *members : Layer
        Their output must have the shape of their input.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> block = fr.Residual(fr.LayerNorm(8), fr.GRU(8, 8, seed=0))
    >>> y, (state,) = block(np.ones((5, 2, 8), np.float32))
    >>> y.shape, state.shape
    ((5, 2, 8), (1, 2, 8))
    """

    def forward(self, x: Any, state: Any = None, *, lengths: Any = None) -> Any:
        """`x + f(x)`; with a recurrent member `(y, state)`, as a Sequential's.

        Parameters
        ----------
        x : array
        state : tuple, optional
            One entry for each recurrent member.
        lengths : integers [B], optional
        """
        recurrent = sum(layer.is_recurrent for layer in self.layers)
        states, finals, y = iter(_check.member_states(state, recurrent, "state")), [], x
        for layer in self.layers:
            y, final = self._run(layer, y, next(states) if layer.is_recurrent else None, lengths)
            finals += [final] if layer.is_recurrent else []
        if y.shape != x.shape:
            raise ValueError(f"Residual: expected an output of x's shape {x.shape}, got {y.shape}")
        y = ops.add(x, y)
        return (y, tuple(finals)) if self.is_recurrent else y


class Parallel(_Combined):
    """Several layers on the same input, their outputs side by side or added up.

    Parameters
    ----------
    *members : Layer
    combine : {"concat", "sum"}
        Outputs along the last axis, or their sum.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> both = fr.Parallel(fr.MeanPool(), fr.MaxPool())
    >>> both(np.ones((5, 2, 8), np.float32)).shape
    (2, 16)
    """

    def __init__(self, *members: Layer, combine: str = "concat", layers: list[Mapping[str, Any]] | None = None) -> None:
        super().__init__(*members, layers=layers)
        if combine not in ("concat", "sum"):
            raise ValueError(f"combine: expected 'concat' or 'sum', got {combine!r}")
        self.combine = combine
        self.removes_time = any(layer.removes_time for layer in self.layers)
        if self.removes_time and not all(layer.removes_time for layer in self.layers):
            raise ValueError("Parallel: expected all members to keep the time axis, or all to remove it")

    def config(self) -> dict[str, Any]:
        return {**super().config(), "combine": self.combine}

    def forward(self, x: Any, state: Any = None, *, lengths: Any = None) -> Any:
        """All outputs; with a recurrent member `(y, state)`.

        Parameters
        ----------
        x : array
        state : tuple, optional
            One entry for each recurrent member.
        lengths : integers [B], optional
        """
        recurrent = sum(layer.is_recurrent for layer in self.layers)
        states, finals, outputs = iter(_check.member_states(state, recurrent, "state")), [], []
        for layer in self.layers:
            y, final = self._run(layer, x, next(states) if layer.is_recurrent else None, lengths)
            finals += [final] if layer.is_recurrent else []
            outputs.append(y)
        y = ops.concat(outputs, -1) if self.combine == "concat" else outputs[0]
        if self.combine == "sum":
            for other in outputs[1:]:
                y = ops.add(y, other)
        return (y, tuple(finals)) if self.is_recurrent else y
