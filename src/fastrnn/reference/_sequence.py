"""What all recurrent layers share: layouts, lengths, and the walk through time and back.

A cell knows one time step. This file turns it into a layer: it puts the arrays into time-major order, hands each step
only the rows whose sequence is still running, and on the way back visits the same steps in the opposite order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn._one_hot import OneHotArray

Array = NDArray[Any]
State = tuple[Array, ...]  # (h,) or (h, c), each [B, features]; the first one is the output of the layer


class Cell(NamedTuple):
    """One time step of a recurrent network and its reverse.

    ``forward(weights, x, state)`` → ``(state, saved)`` and
    ``backward(weights, saved, dstate)`` → ``(dx, dstate_before, gradients of the weights)``.
    """

    forward: Callable[[tuple[Any, ...], Array, State], tuple[State, Any]]
    backward: Callable[[tuple[Any, ...], Any, State], tuple[Array, State, tuple[Any, ...]]]
    gates: int
    num_states: int
    Grads: Callable[..., Any]


class Layout(NamedTuple):
    """How the caller's arrays map to ``[T, B, F]`` (sequences) and ``[B, F]`` (one state or vector per row)."""

    unbatched: bool
    batch_first: bool

    @classmethod
    def of(cls, x: Array, batch_first: bool) -> Layout:
        if x.ndim not in (2, 3):
            raise ValueError(f"x: expected [T, B, F], [B, T, F] with batch_first, or [T, F], got shape {x.shape}")
        return cls(x.ndim == 2, batch_first)

    def sequence_in(self, a: Array) -> Array:
        if self.unbatched:
            return a[:, None]
        return a.swapaxes(0, 1) if self.batch_first else a

    def sequence_out(self, a: Array) -> Array:
        if self.unbatched:
            return a[:, 0]
        return a.swapaxes(0, 1) if self.batch_first else a

    def vector_in(self, a: Array) -> Array:
        return a[None] if self.unbatched else a

    def vector_out(self, a: Array) -> Array:
        return a[0] if self.unbatched else a


def check_lengths(lengths: Any, T: int, B: int) -> NDArray[np.intp]:
    """Return ``lengths`` as [B] integers; None means that every row has all T steps."""
    if lengths is None:
        return np.full(B, T)
    lengths = np.atleast_1d(np.asarray(lengths))
    if lengths.size and not np.issubdtype(lengths.dtype, np.integer):
        raise TypeError(f"lengths: expected integers, got {lengths.dtype}")
    if lengths.shape != (B,):
        raise ValueError(f"lengths: expected [{B}], got shape {lengths.shape}")
    if np.any((lengths < 0) | (lengths > T)):
        raise ValueError(f"lengths: expected 0 to T={T}, got {lengths.min()} to {lengths.max()}")
    checked: NDArray[np.intp] = lengths.astype(np.intp)
    return checked


def check_dtype(**arrays: Any) -> np.dtype[Any]:
    """Return the one floating-point type that all arrays have. An oracle must not convert in silence."""
    types = {name: np.asarray(a).dtype for name, a in arrays.items() if a is not None}
    found = set(types.values())
    if len(found) != 1 or found.pop() not in (np.float32, np.float64):
        listing = ", ".join(f"{name} {dtype}" for name, dtype in types.items())
        raise TypeError(f"expected all arrays in float32 or all in float64, got {listing}")
    return next(iter(types.values()))


def check_weights(cell: Cell, weights: tuple[Any, ...], input_size: int) -> tuple[int, ...]:
    """Check the shapes of the weights, so that nothing is broadcast by mistake; return the sizes of the states."""
    W, R, b_w, b_r, P = (*weights, None)[:5]
    if W.ndim != 2 or R.ndim != 2:
        raise ValueError(f"weight_ih, weight_hh: expected two axes, got shapes {W.shape}, {R.shape}")
    GH, output_size = R.shape
    H = GH // cell.gates
    expected = {
        "weight_ih": (W, (cell.gates * H, input_size)),
        "weight_hh": (R, (cell.gates * H, H if P is None else output_size)),
        "bias_ih": (b_w, (cell.gates * H,)),
        "bias_hh": (b_r, (cell.gates * H,)),
        "weight_hr": (P, (output_size, H)),
    }
    for name, (a, shape) in expected.items():
        if a is not None and a.shape != shape:
            raise ValueError(f"{name}: expected {list(shape)}, got shape {a.shape}")
    return (output_size, H)[: cell.num_states]


def array_or_zeros(name: str, a: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return ``a`` after checking shape and type, or zeros where it is None."""
    if a is None:
        return np.zeros(shape, dtype)
    array: Array = np.asarray(a)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype}, got {array.dtype}")
    return array


def into(out: Any, result: Array) -> Array:
    """Return ``result``, or ``out`` after copying it there."""
    if out is None:
        return result
    if not isinstance(out, np.ndarray) or out.dtype != result.dtype:
        raise TypeError(f"out: expected an array of {result.dtype}, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != result.shape:
        raise ValueError(f"out: expected shape {result.shape}, got {out.shape}")
    out[...] = result
    return out


def scan(
    cell: Cell, weights: tuple[Any, ...], x: Array, state: State, lengths: Array, reverse: bool
) -> tuple[Array, State, list[Any]]:
    """Run a cell over time.

    A row takes part in step t only while t < its length. So padding is never read, a row of length 0 keeps its
    initial state, and in the reverse direction (t = T−1 … 0) each row starts at its own end.

    Parameters
    ----------
    x : [T, B, I]
    state : initial states, each [B, features]
    lengths : [B]

    Returns
    -------
    y : [T, B, features], zero past the end of each row
    state : final states
    tape : one entry (t, rows, saved) for each step, in the order in which the steps were run
    """
    T, B, _ = x.shape
    state = tuple(s.copy() for s in state)
    y = np.zeros((T, B, state[0].shape[1]), x.dtype)
    tape = []
    for t in reversed(range(T)) if reverse else range(T):
        rows = np.flatnonzero(t < lengths)
        new_state, saved = cell.forward(weights, x[t, rows], tuple(s[rows] for s in state))
        for s, new in zip(state, new_state):
            s[rows] = new
        y[t, rows] = new_state[0]
        tape.append((t, rows, saved))
    return y, state, tape


def scan_backward(
    cell: Cell, weights: tuple[Any, ...], tape: list[Any], dy: Array, dstate: State, input_size: int
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse ``scan``: backpropagation through time (Werbos 1990).

    ``dstate`` flows from step to step; at step t the gradient of the output, ``dy[t]``, joins the one of h.

    Parameters
    ----------
    dy : [T, B, features]; what it holds past the end of a row is not read
    dstate : gradients of the final states, each [B, features]

    Returns
    -------
    dx : [T, B, I], zero past the end of each row
    dstate : gradients of the initial states
    grads : gradients of the weights, summed over rows and steps
    """
    dx = np.zeros((*dy.shape[:2], input_size), dy.dtype)
    dstate = tuple(d.copy() for d in dstate)
    totals = tuple(None if w is None else np.zeros_like(w) for w in weights)
    for t, rows, saved in reversed(tape):
        dh, *others = (d[rows] for d in dstate)
        dx_t, dstate_before, parts = cell.backward(weights, saved, (dh + dy[t, rows], *others))
        dx[t, rows] = dx_t
        for d, before in zip(dstate, dstate_before):
            d[rows] = before
        for total, part in zip(totals, parts):
            if total is not None:
                total += part
    return dx, dstate, totals


def recurrent_vjp(
    cell: Cell,
    weights: tuple[Any, ...],
    x: Any,
    state: Any,
    *,
    lengths: Any,
    reverse: bool,
    batch_first: bool,
    input_grad: bool,
    out: Any = None,
) -> tuple[Any, Callable[..., Any]]:
    """Run one layer in one direction; return ``((y, state_n), pullback)`` in the caller's layout.

    The state is a tuple for a cell with several states and a plain array for a cell with one.
    """
    weights = tuple(None if w is None else np.asarray(w) for w in weights)
    if isinstance(x, OneHotArray):  # here it is a dense array like any other, but for its gradient
        x, input_grad = np.asarray(x, weights[0].dtype), False
    x = np.asarray(x)
    dtype = check_dtype(x=x, **{f"weights[{k}]": w for k, w in enumerate(weights)})
    layout = Layout.of(x, batch_first)
    x = layout.sequence_in(x)
    T, B, I = x.shape
    if T == 0:
        raise ValueError("x: expected at least one time step, got T = 0")
    lengths = check_lengths(lengths, T, B)
    state_sizes = check_weights(cell, weights, I)

    def states_in(name: str, states: Any) -> State:
        if states is None or cell.num_states == 1:
            states = (states,) * cell.num_states
        if len(states) != cell.num_states:
            raise ValueError(f"{name}: expected {cell.num_states} arrays, got {len(states)}")
        shapes = [(size,) if layout.unbatched else (B, size) for size in state_sizes]
        return tuple(layout.vector_in(array_or_zeros(name, s, shape, dtype)) for s, shape in zip(states, shapes))

    def states_out(states: State) -> Any:
        states = tuple(layout.vector_out(s) for s in states)
        return states if len(states) > 1 else states[0]

    y, state_n, tape = scan(cell, weights, x, states_in("state", state), lengths, reverse)
    y_out = into(out, layout.sequence_out(y))

    def pullback(dy: Any = None, dstate: Any = None, *, out: Any = None) -> tuple[Any, Any, Any]:
        """Gradients ``(dx, dstate_0, grads)`` from those of ``y`` and of the final state; may be called again."""
        dy = layout.sequence_in(array_or_zeros("dy", dy, y_out.shape, dtype))
        dx, dstate_0, grads = scan_backward(cell, weights, tape, dy, states_in("dstate", dstate), I)
        return into(out, layout.sequence_out(dx)) if input_grad else None, states_out(dstate_0), cell.Grads(*grads)

    return (y_out, states_out(state_n)), pullback
