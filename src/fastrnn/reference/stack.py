"""Several recurrent layers on top of each other, each in one or both directions: a whole LSTM, GRU or RNN layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ._sequence import Array
from .gru import gru_vjp
from .lstm import lstm_vjp
from .rnn import rnn_vjp

_CELLS: dict[str, Callable[..., Any]] = {
    "lstm": lstm_vjp,
    "gru": gru_vjp,
    "rnn_tanh": partial(rnn_vjp, nonlinearity="tanh"),
    "rnn_relu": partial(rnn_vjp, nonlinearity="relu"),
    "rnn_sigmoid": partial(rnn_vjp, nonlinearity="sigmoid"),
}
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _slice_of(cell: str, state: Any, k: int) -> Any:
    """The state of layer-direction ``k``; None stays None."""
    if state is None:
        return None
    return tuple(None if s is None else s[k] for s in state) if cell == "lstm" else state[k]


def _join(cell: str, states: Sequence[Any]) -> Any:
    """The states of all layer-directions as [num_layers·D, …]: the reverse of `_slice_of`."""
    return tuple(np.stack(s) for s in zip(*states)) if cell == "lstm" else np.stack(states)


def stack(
    cell: str,
    x: Any,
    state: Any,
    params: Mapping[str, Any],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: Any = None,
    dropout_masks: Sequence[Any] | None = None,
    batch_first: bool = False,
    reset_after: bool = True,
) -> tuple[Array, Any]:
    """Run a stack of recurrent layers.

    Parameters
    ----------
    cell : "lstm", "gru", "rnn_tanh", "rnn_relu" or "rnn_sigmoid"
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I]
    state : None or [num_layers·D, B, H] (lstm: two of them, the first [.., P] with a projection)
        Ordered by layer, then direction. Without a batch [num_layers·D, H].
    params : dict of PyTorch's names, ``weight_ih_l0`` … ``weight_hr_l1_reverse``; biases and projection may be missing
    dropout_masks : list of num_layers − 1 arrays in the shape of ``y``, optional
        They multiply the output of each layer but the last: 0, or 1 / (1 − p).
    reset_after : bool
        For "gru" only.

    Returns
    -------
    y : [T, B, D·H] in the layout of ``x``, both directions side by side
    state_n : as ``state``

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((4, 3)), "weight_hh_l0": np.ones((4, 4))}
    >>> params |= {name + "_reverse": a for name, a in params.items()}
    >>> y, h_n = stack("rnn_tanh", np.ones((5, 2, 3)), None, params, bidirectional=True)
    >>> y.shape, h_n.shape
    ((5, 2, 8), (2, 2, 4))
    """
    outputs: tuple[Array, Any] = stack_vjp(
        cell,
        x,
        state,
        params,
        num_layers=num_layers,
        bidirectional=bidirectional,
        lengths=lengths,
        dropout_masks=dropout_masks,
        batch_first=batch_first,
        reset_after=reset_after,
    )[0]
    return outputs


def stack_vjp(
    cell: str,
    x: Any,
    state: Any,
    params: Mapping[str, Any],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: Any = None,
    dropout_masks: Sequence[Any] | None = None,
    batch_first: bool = False,
    reset_after: bool = True,
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """Run `stack` and return its outputs with the function that pulls gradients back through it.

    Returns
    -------
    (y, state_n) : as `stack` returns them
    pullback : ``pullback(dy=None, dstate=None)`` → ``(dx, dstate_0, grads)`` with a dict of the names in ``params``

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((4, 3)), "weight_hh_l0": np.ones((4, 4))}
    >>> (y, h_n), pullback = stack_vjp("rnn_relu", np.ones((5, 2, 3)), None, params)
    >>> dx, dh_0, grads = pullback(np.ones_like(y))
    >>> dx.shape, dh_0.shape, sorted(grads)
    ((5, 2, 3), (1, 2, 4), ['weight_hh_l0', 'weight_ih_l0'])
    """
    if cell not in _CELLS:
        raise ValueError(f"cell: expected one of {', '.join(_CELLS)}, got {cell!r}")
    if dropout_masks is not None and len(dropout_masks) != num_layers - 1:
        raise ValueError(f"dropout_masks: expected {num_layers - 1} arrays, got {len(dropout_masks)}")
    options: Any = {"lengths": lengths, "batch_first": batch_first}
    if cell == "gru":
        options["reset_after"] = reset_after
    suffixes = ("", "_reverse") if bidirectional else ("",)
    D = len(suffixes)
    expected = num_layers * D
    for s in () if state is None else state if cell == "lstm" else (state,):
        if s is not None and len(s) != expected:
            raise ValueError(f"state: expected [{expected}, …] (num_layers·D), got shape {np.shape(s)}")

    known = {f"{name}_l{layer}{suffix}" for name in _NAMES for layer in range(num_layers) for suffix in suffixes}
    if unknown := sorted(set(params) - known):
        raise ValueError(f"params: unknown names {', '.join(unknown)}")

    pullbacks, states_n, y = [], [], x
    for layer in range(num_layers):
        if layer > 0 and dropout_masks is not None:
            y = y * dropout_masks[layer - 1]
        outputs = []
        for direction, suffix in enumerate(suffixes):
            weights = {name: params.get(f"{name}_l{layer}{suffix}") for name in _NAMES}
            if cell != "lstm":
                del weights["weight_hr"]
            (out, state_n), pullback_k = _CELLS[cell](
                y, _slice_of(cell, state, layer * D + direction), **weights, reverse=direction == 1, **options
            )
            outputs.append(out)
            states_n.append(state_n)
            pullbacks.append(pullback_k)
        y = np.concatenate(outputs, axis=-1)

    def pullback(dy: Any = None, dstate: Any = None) -> tuple[Any, Any, dict[str, Array]]:
        """Gradients ``(dx, dstate_0, grads)`` from those of ``y`` and of the final states; may be called again."""
        grads = {}
        dstates_0: list[Any] = [None] * expected
        for layer in reversed(range(num_layers)):
            dx: Any = 0
            for direction, suffix in enumerate(suffixes):
                k = layer * D + direction
                part = None if dy is None else np.split(dy, D, axis=-1)[direction]
                dx_k, dstates_0[k], grads_k = pullbacks[k](part, _slice_of(cell, dstate, k))
                dx = None if dx_k is None else dx + dx_k  # both directions read the same input
                grads.update({f"{n}_l{layer}{suffix}": g for n, g in grads_k._asdict().items() if g is not None})
            dy = dx * dropout_masks[layer - 1] if layer > 0 and dropout_masks is not None else dx
        return dx if input_grad else None, _join(cell, dstates_0), grads

    return (y, _join(cell, states_n)), pullback
