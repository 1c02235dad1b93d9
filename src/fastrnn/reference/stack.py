"""Several recurrent layers on top of each other, each in one or both directions: a whole LSTM, GRU or RNN layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ._sequence import Array
from ._variants import Norm
from .fast import FastGRNNGrads, FastRNNGrads, fast_grnn_vjp, fast_rnn_vjp
from .gru import GRUGrads, gru_vjp
from .lstm import LSTMGrads, lstm_vjp
from .rnn import NONLINEARITIES, RNNGrads, rnn_vjp

_CELLS: dict[str, tuple[Callable[..., Any], Any]] = {  # with the names of the parameters
    "lstm": (lstm_vjp, LSTMGrads),
    "gru": (gru_vjp, GRUGrads),
    **{f"rnn_{name}": (partial(rnn_vjp, nonlinearity=name), RNNGrads) for name in NONLINEARITIES},
    "fast_rnn": (fast_rnn_vjp, FastRNNGrads),
    "fast_grnn": (fast_grnn_vjp, FastGRNNGrads),
}


def _slice_of(cell: str, state: Any, k: int) -> Any:
    """The state of layer-direction ``k``; None stays None."""
    if state is None:
        return None
    return tuple(None if s is None else s[k] for s in state) if cell == "lstm" else state[k]


def _half(a: Any, D: int, direction: int) -> Any:
    """The features of one direction; None stays None."""
    return None if a is None else np.split(a, D, axis=-1)[direction]


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
    **options: Any,
) -> Any:
    """Run a stack of recurrent layers.

    Parameters
    ----------
    cell : "lstm", "gru", "rnn_tanh" or another nonlinearity of `rnn`, "fast_rnn", "fast_grnn"
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I]
    state : None or [num_layers·D, B, H] (lstm: two of them, the first [.., P] with a projection)
        Ordered by layer, then direction. Without a batch [num_layers·D, H].
    params : dict of PyTorch's names, ``weight_ih_l0`` … ``weight_hr_l1_reverse``; biases and projection may be missing
        ``peephole_l0`` … gives peepholes, ``gain_ih_l0``, ``gain_hh_l0``, ``gain_c_l0``, ``bias_c_l0`` … layer norm.
    dropout_masks : list of num_layers − 1 arrays in the shape of ``y``, optional
        They multiply the output of each layer but the last: 0, or 1 / (1 − p).
    reset_after : bool
        For "gru" only.
    zoneout : what one layer takes, or a list of num_layers·D of them
    recurrent_masks : list of num_layers·D arrays [B, H or P] or None, optional
    reset_state : as ``state``
    lengths, batch_first, coupled, clip, activations, reset_mask, all_states : as for one layer

    Returns
    -------
    y : [T, B, D·H] in the layout of ``x``, both directions side by side
    state_n : as ``state``
    states : with ``all_states``, [num_layers, T, B, D·H] (lstm: two of them)

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((4, 3)), "weight_hh_l0": np.ones((4, 4))}
    >>> params |= {name + "_reverse": a for name, a in params.items()}
    >>> y, h_n = stack("rnn_tanh", np.ones((5, 2, 3)), None, params, bidirectional=True)
    >>> y.shape, h_n.shape
    ((5, 2, 8), (2, 2, 4))
    """
    return stack_vjp(cell, x, state, params, num_layers=num_layers, bidirectional=bidirectional, **options)[0]


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
    coupled: bool = False,
    clip: float | None = None,
    activations: Any = None,
    zoneout: Any = None,
    recurrent_masks: Sequence[Any] | None = None,
    reset_mask: Any = None,
    reset_state: Any = None,
    all_states: bool = False,
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """Run `stack` and return its outputs with the function that pulls gradients back through it.

    Returns
    -------
    (y, state_n) : as `stack` returns them
    pullback : ``pullback(dy=None, dstate=None, dstates=None)`` → ``(dx, dstate_0, grads)``
        ``grads`` is a dict of the names in ``params``.

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
    lstm = cell == "lstm"
    suffixes = ("", "_reverse") if bidirectional else ("",)
    D = len(suffixes)
    expected = num_layers * D
    for name, whole in (("state", state), ("reset_state", reset_state)):
        for s in () if whole is None else whole if lstm else (whole,):
            if s is not None and len(s) != expected:
                raise ValueError(f"{name}: expected [{expected}, …] (num_layers·D), got shape {np.shape(s)}")
    for name, parts in (("zoneout", zoneout), ("recurrent_masks", recurrent_masks)):
        if isinstance(parts, list) and len(parts) != expected:
            raise ValueError(f"{name}: expected {expected} entries (num_layers·D), got {len(parts)}")
    function, Grads = _CELLS[cell]
    gains = [name for name in Norm._fields if name in Grads._fields]
    known = {f"{name}_l{layer}{suffix}" for name in Grads._fields for layer in range(num_layers) for suffix in suffixes}
    if unknown := sorted(set(params) - known):
        raise ValueError(f"params: unknown names {', '.join(unknown)}")

    options: Any = {
        "lengths": lengths,
        "batch_first": batch_first,
        "clip": clip,
        "activations": activations,
        "reset_mask": reset_mask,
        "all_states": True,
        **({"reset_after": reset_after} if cell == "gru" else {"coupled": coupled} if lstm else {}),
    }

    def single(y: Any, layer: int, direction: int) -> tuple[Any, Any]:
        """One layer in one direction."""
        k = layer * D + direction
        own: dict[str, Any] = {name: params.get(f"{name}_l{layer}{suffixes[direction]}") for name in Grads._fields}
        values: list[Any] = [own.pop(name) for name in gains]
        norm = {"norm": Norm(*values)} if gains and values[0] is not None else {}
        outputs: tuple[Any, Any] = function(
            y,
            _slice_of(cell, state, k),
            **own,
            **norm,
            zoneout=zoneout[k] if isinstance(zoneout, list) else zoneout,
            recurrent_mask=None if recurrent_masks is None else recurrent_masks[k],
            reset_state=_slice_of(cell, reset_state, k),
            reverse=direction == 1,
            **options,
        )
        return outputs

    def side_by_side(parts: list[Any]) -> Any:
        """The states of both directions as those of a layer: features beside each other."""
        return tuple(np.concatenate(s, -1) for s in zip(*parts)) if lstm else np.concatenate(parts, -1)

    pullbacks, states_n, states, y = [], [], [], x
    for layer in range(num_layers):
        if layer > 0 and dropout_masks is not None:
            y = y * dropout_masks[layer - 1]
        outputs, parts = [], []
        for direction in range(D):
            (out, state_n, part), pullback_k = single(y, layer, direction)
            outputs.append(out)
            states_n.append(state_n)
            parts.append(part)
            pullbacks.append(pullback_k)
        states.append(side_by_side(parts))
        y = np.concatenate(outputs, axis=-1)

    def pullback(dy: Any = None, dstate: Any = None, dstates: Any = None) -> tuple[Any, Any, dict[str, Array]]:
        """Gradients ``(dx, dstate_0, grads)`` from those of the outputs; may be called again."""
        grads = {}
        dstates_0: list[Any] = [None] * expected
        for layer in reversed(range(num_layers)):
            dx: Any = 0
            inner = _slice_of(cell, dstates, layer)
            for direction, suffix in enumerate(suffixes):
                k = layer * D + direction
                part = _half(dy, D, direction)
                of_states = (
                    tuple(_half(d, D, direction) for d in inner or (None, None)) if lstm else _half(inner, D, direction)
                )
                dx_k, dstates_0[k], grads_k = pullbacks[k](part, _slice_of(cell, dstate, k), of_states)
                dx = None if dx_k is None else dx + dx_k  # both directions read the same input
                grads.update({f"{n}_l{layer}{suffix}": g for n, g in grads_k._asdict().items() if g is not None})
            dy = dx * dropout_masks[layer - 1] if layer > 0 and dropout_masks is not None else dx
        return dx if input_grad else None, _join(cell, dstates_0), grads

    whole_outputs = (y, _join(cell, states_n), _join(cell, states))
    return whole_outputs if all_states else whole_outputs[:2], pullback
