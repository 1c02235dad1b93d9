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

    ``forward(weights, x, state, mask=None)`` → ``(state, saved)``, the mask for what the recurrent weights multiply,
    and ``backward(weights, saved, dstate)`` → ``(dx, dstate_before, gradients of the weights)``.
    """

    forward: Callable[..., tuple[State, Any]]
    backward: Callable[[tuple[Any, ...], Any, State], tuple[Array, State, tuple[Any, ...]]]
    gates: int
    num_states: int
    Grads: Any  # NamedTuple of the weights' names


class Between(NamedTuple):
    """What happens to the states between the steps, whatever the cell is. None: nothing.

    ``zoneout`` (Krueger et al. 2016) has for each state the share d of the old value in the new one, a number or
    [T, B, features]. ``mask`` [B, features] multiplies h for the recurrent weights (Gal & Ghahramani 2016). Before step
    t the states of the rows in ``resets`` [T, B] become those of ``fresh``, and gradients stop there.
    """

    zoneout: tuple[Any, ...]
    mask: Array | None
    resets: Array | None
    fresh: State

    def restart(self, t: int, rows: Array, state: State) -> State:
        """The states of some rows before step t, fresh ones for those that are reset."""
        if self.resets is None:
            return state
        return tuple(np.where(self.resets[t, rows, None], f[rows], s) for f, s in zip(self.fresh, state))

    def stop(self, t: int, rows: Array, dstate: State) -> State:
        """The reverse of `restart`."""
        if self.resets is None:
            return dstate
        return tuple(np.where(self.resets[t, rows, None], 0, d) for d in dstate)

    def kept(self, k: int, t: int, rows: Array) -> Any:
        """The share of the old value in state k after step t, or None."""
        d = self.zoneout[k]
        return d if d is None or np.ndim(d) == 0 else d[t, rows]


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
    given = dict(zip(cell.Grads._fields, weights))
    W, R, P = given["weight_ih"], given["weight_hh"], given.get("weight_hr")
    if W.ndim != 2 or R.ndim != 2:
        raise ValueError(f"weight_ih, weight_hh: expected two axes, got shapes {W.shape}, {R.shape}")
    GH, output_size = R.shape
    H = GH // cell.gates
    expected = {
        "weight_ih": (cell.gates * H, input_size),
        "weight_hh": (cell.gates * H, H if P is None else output_size),
        "weight_hr": (output_size, H),
        "peephole": ((cell.gates - 1) * H,),
        "gain_c": (H,),
        "bias_c": (H,),
        **dict.fromkeys(("alpha", "beta", "zeta", "nu"), (1,)),
    }
    for name, a in given.items():
        shape = expected.get(name, (cell.gates * H,))
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
    cell: Cell, weights: tuple[Any, ...], x: Array, state: State, lengths: Array, reverse: bool, between: Between
) -> tuple[State, State, list[Any]]:
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
    states : each state after each step, [T, B, features], zero past the end of each row; the first one is y
    state : final states
    tape : one entry (t, rows, saved) for each step, in the order in which the steps were run
    """
    T = len(x)
    state = tuple(s.copy() for s in state)
    states = tuple(np.zeros((T, *s.shape), x.dtype) for s in state)
    tape = []
    for t in reversed(range(T)) if reverse else range(T):
        rows = np.flatnonzero(t < lengths)
        before = between.restart(t, rows, tuple(s[rows] for s in state))
        mask = None if between.mask is None else between.mask[rows]
        after, saved = cell.forward(weights, x[t, rows], before, mask)
        for k, (old, new) in enumerate(zip(before, after)):
            d = between.kept(k, t, rows)
            state[k][rows] = states[k][t, rows] = new if d is None else d * old + (1 - d) * new
        tape.append((t, rows, saved))
    return states, state, tape


def scan_backward(
    cell: Cell,
    weights: tuple[Any, ...],
    tape: list[Any],
    dstates: tuple[Any, ...],
    dstate: State,
    input_size: int,
    between: Between,
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse ``scan``: backpropagation through time (Werbos 1990).

    ``dstate`` flows from step to step; at step t the gradients of the states that were returned join it.

    Parameters
    ----------
    dstates : the first one [T, B, features], the others alike or None; what they hold past a row's end is not read
    dstate : gradients of the final states, each [B, features]

    Returns
    -------
    dx : [T, B, I], zero past the end of each row
    dstate : gradients of the initial states
    grads : gradients of the weights, summed over rows and steps
    """
    dx = np.zeros((*dstates[0].shape[:2], input_size), dstates[0].dtype)
    dstate = tuple(d.copy() for d in dstate)
    totals = tuple(None if w is None else np.zeros_like(w) for w in weights)
    for t, rows, saved in reversed(tape):
        dmixed = tuple(d[rows] if dd is None else d[rows] + dd[t, rows] for d, dd in zip(dstate, dstates))
        kept = [between.kept(k, t, rows) for k in range(len(dstate))]
        dafter = tuple(dm if d is None else (1 - d) * dm for d, dm in zip(kept, dmixed))  # d · old + (1 − d) · new
        dx_t, dbefore, parts = cell.backward(weights, saved, dafter)
        dx[t, rows] = dx_t
        dbefore = tuple(ds if d is None else ds + d * dm for d, dm, ds in zip(kept, dmixed, dbefore))
        for ds, before in zip(dstate, between.stop(t, rows, dbefore)):
            ds[rows] = before
        for whole, piece in zip(totals, parts):
            if whole is not None:
                whole += piece
    return dx, dstate, totals


def recurrent_vjp(
    cell: Cell,
    weights: tuple[Any, ...],
    x: Any,
    state: Any,
    *,
    lengths: Any = None,
    reverse: bool = False,
    batch_first: bool = False,
    input_grad: bool = True,
    out: Any = None,
    zoneout: Any = None,
    recurrent_mask: Any = None,
    reset_mask: Any = None,
    reset_state: Any = None,
    all_states: bool = False,
) -> tuple[Any, Callable[..., Any]]:
    """Run one layer in one direction; return ``((y, state_n), pullback)`` in the caller's layout.

    The state is a tuple for a cell with several states and a plain array for a cell with one.
    """
    weights = tuple(None if w is None else np.asarray(w) for w in weights)
    if isinstance(x, OneHotArray):  # here it is a dense array like any other, but for its gradient
        x, input_grad = np.asarray(x, weights[0].dtype), False
    x = np.asarray(x)
    dtype = check_dtype(x=x, **dict(zip(cell.Grads._fields, weights)))
    layout = Layout.of(x, batch_first)
    x = layout.sequence_in(x)
    T, B, I = x.shape
    if T == 0:
        raise ValueError("x: expected at least one time step, got T = 0")
    lengths = check_lengths(lengths, T, B)
    state_sizes = check_weights(cell, weights, I)

    def split(name: str, states: Any) -> tuple[Any, ...]:
        """One entry for each state."""
        if states is None or cell.num_states == 1:
            states = (states,) * cell.num_states
        if len(states) != cell.num_states:
            raise ValueError(f"{name}: expected {cell.num_states} arrays, got {len(states)}")
        return tuple(states)

    def vector_in(name: str, a: Any, size: int) -> Array:
        shape = (size,) if layout.unbatched else (B, size)
        return layout.vector_in(array_or_zeros(name, a, shape, dtype))

    def sequence_in(name: str, a: Any, size: int) -> Array:
        shape = layout.sequence_out(np.empty((T, B, size))).shape
        return layout.sequence_in(array_or_zeros(name, a, shape, dtype))

    def states_in(name: str, states: Any) -> State:
        return tuple(vector_in(name, s, size) for s, size in zip(split(name, states), state_sizes))

    def joined(arrays: Any) -> Any:
        arrays = tuple(arrays)
        return arrays if len(arrays) > 1 else arrays[0]

    if isinstance(zoneout, (int, float)) and cell.num_states > 1:  # one share for all states
        zoneout = (zoneout,) * cell.num_states
    between = Between(
        zoneout=tuple(
            d if d is None or np.ndim(d) == 0 else sequence_in("zoneout", d, size)
            for d, size in zip(split("zoneout", zoneout), state_sizes)
        ),
        mask=None if recurrent_mask is None else vector_in("recurrent_mask", recurrent_mask, state_sizes[0]),
        resets=None if reset_mask is None else borders(reset_mask, layout, lengths, T, reverse),
        fresh=states_in("reset_state", reset_state),
    )
    states, state_n, tape = scan(cell, weights, x, states_in("state", state), lengths, reverse, between)
    y_out = into(out, layout.sequence_out(states[0]))
    outputs = (y_out, joined(layout.vector_out(s) for s in state_n))

    def pullback(dy: Any = None, dstate: Any = None, dstates: Any = None, *, out: Any = None) -> tuple[Any, Any, Any]:
        """Gradients ``(dx, dstate_0, grads)`` from those of the outputs; may be called again."""
        given: list[Any] = [
            None if d is None else sequence_in("dstates", d, size)
            for d, size in zip(split("dstates", dstates), state_sizes)
        ]
        dy = sequence_in("dy", dy, state_sizes[0])
        given[0] = dy if given[0] is None else given[0] + dy
        dx, dstate_0, grads = scan_backward(cell, weights, tape, tuple(given), states_in("dstate", dstate), I, between)
        dx_out = into(out, layout.sequence_out(dx)) if input_grad else None
        return dx_out, joined(layout.vector_out(d) for d in dstate_0), cell.Grads(*grads)

    if all_states:
        return (*outputs, joined(layout.sequence_out(s).copy() for s in states)), pullback
    return outputs, pullback


def borders(reset_mask: Any, layout: Layout, lengths: Array, T: int, reverse: bool) -> Array:
    """The steps [T, B] before which states are reset.

    ``reset_mask`` has a border between x[t−1] and x[t] where it is true at t. Forward it is met before step t; in the
    reverse direction, which crosses the same border from the other side, before step t − 1.
    """
    mask = np.asarray(reset_mask)
    if mask.dtype != bool:
        raise TypeError(f"reset_mask: expected bool, got {mask.dtype}")
    expected = layout.sequence_out(np.empty((T, len(lengths), 1))).shape[:-1]
    if mask.shape != expected:
        raise ValueError(f"reset_mask: expected shape {expected}, got {mask.shape}")
    mask = layout.sequence_in(mask[..., None])[..., 0]
    if not reverse:
        return mask
    after = np.arange(1, T + 1)[:, None]
    return np.vstack([mask[1:], np.zeros_like(mask[:1])]) & (after < lengths)
