"""Long short-term memory, forward and backward.

Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000 and the projection of Sak et al. 2014::

    z = W x_t + b_w + R h_{t-1} + b_r            [4H], the gates in the order i, f, g, o
    i, f, o = σ(z_i), σ(z_f), σ(z_o)             input, forget and output gate
    g = tanh(z_g)                                candidate
    c_t = f · c_{t-1} + i · g
    m_t = o · tanh(c_t)
    h_t = m_t, or with a projection h_t = P m_t
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array, Cell, State, recurrent_vjp
from .activations import sigmoid


class LSTMGrads(NamedTuple):
    """Gradients of the weights of `lstm`, in the order of its arguments; None where there was no weight."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None
    weight_hr: Array | None


def _forward(weights: tuple[Any, ...], x: Array, state: State) -> tuple[State, Any]:
    """One step: x [B, I], h [B, P or H], c [B, H]."""
    W, R, b_w, b_r, P = weights
    h, c = state
    z = x @ W.T + h @ R.T
    for b in (b_w, b_r):
        if b is not None:
            z = z + b
    z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    c_t = f * c + i * g
    tanh_c = np.tanh(c_t)
    m = o * tanh_c
    h_t = m if P is None else m @ P.T
    return (h_t, c_t), (x, h, c, i, f, g, o, tanh_c, m)


def _backward(weights: tuple[Any, ...], saved: Any, dstate: State) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step, each line beside the one of `_forward` that it reverses."""
    W, R, _, _, P = weights
    x, h, c, i, f, g, o, tanh_c, m = saved
    dh, dc = dstate
    dP = None if P is None else dh.T @ m  # h_t = P m
    dm = dh if P is None else dh @ P
    do = dm * tanh_c  # m = o · tanh(c_t)
    dc = dc + dm * o * (1 - tanh_c**2)
    di, df, dg = dc * g, dc * c, dc * i  # c_t = f · c + i · g
    dz_i, dz_f, dz_o = di * i * (1 - i), df * f * (1 - f), do * o * (1 - o)  # σ' = σ (1 − σ)
    dz_g = dg * (1 - g**2)  # tanh' = 1 − tanh²
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
    db = dz.sum(axis=0)  # z = W x + b_w + R h + b_r
    return dz @ W, (dz @ R, dc * f), (dz.T @ x, dz.T @ h, db, db, dP)


def lstm(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    weight_hr: Any = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: Any = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Run one LSTM layer in one direction.

    Parameters
    ----------
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence without a batch
        All arrays have one type, float32 or float64.
    state : None or (h_0 [B, P or H], c_0 [B, H]); without a batch [P or H] and [H]
        None, also in place of one of the two, means zeros.
    weight_ih : [4H, I]
    weight_hh : [4H, P or H]
    bias_ih, bias_hh : [4H], optional
    weight_hr : [P, H], optional
        Projection of the output.
    lengths : integers [B], optional
        Length of each row, 0 … T, in any order. What ``x`` holds past it is not read.
    reverse : bool
        Read each row from its own end to its start. ``y[t]`` is then the state after ``x[t]``, coming from above.
    out : array in the shape and type of ``y``, optional
        Takes ``y``.

    Returns
    -------
    y : [T, B, P or H] in the layout of ``x``; zero past the length of a row
    (h_n, c_n) : the state of each row after its last step, or its initial state if its length is 0

    Examples
    --------
    >>> x = np.ones((5, 2, 3))  # T=5, B=2, I=3
    >>> y, (h_n, c_n) = lstm(x, None, np.ones((16, 3)), np.ones((16, 4)), lengths=[5, 2])
    >>> y.shape, h_n.shape, c_n.shape
    ((5, 2, 4), (2, 4), (2, 4))
    >>> bool((h_n[1] == y[1, 1]).all()), float(abs(y[2:, 1]).max())
    (True, 0.0)
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    options: Any = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
    outputs: tuple[Array, tuple[Array, Array]] = lstm_vjp(x, state, *weights, **options)[0]
    return outputs


def lstm_vjp(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    weight_hr: Any = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: Any = None,
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """Run `lstm` and return its outputs with the function that pulls gradients back through it.

    Parameters
    ----------
    checkpoint : int, optional
        Accepted so that calls can be exchanged with the compiled kernels. It trades memory for time and never changes
        a result; the reference always saves everything.
    input_grad : bool
        With False ``dx`` is None.

    Returns
    -------
    (y, (h_n, c_n)) : as `lstm` returns them
    pullback : ``pullback(dy=None, dstate=None, *, out=None)`` → ``(dx, (dh_0, dc_0), LSTMGrads)``
        ``dy`` has the shape of ``y`` and is not read past the length of a row, where ``dx`` is zero. ``dstate`` is
        ``(dh_n, dc_n)``. None means zeros everywhere. ``out`` takes ``dx``.

    Examples
    --------
    >>> x = np.ones((5, 2, 3))
    >>> (y, state), pullback = lstm_vjp(x, None, np.ones((16, 3)), np.ones((16, 4)), np.zeros(16))
    >>> dx, (dh_0, dc_0), grads = pullback(np.ones_like(y))
    >>> dx.shape, dh_0.shape, grads.weight_hh.shape, grads.bias_hh is None
    ((5, 2, 3), (2, 4), (16, 4), True)
    """
    cell = Cell(_forward, _backward, gates=4, num_states=2, Grads=LSTMGrads)
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    options: Any = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
    return recurrent_vjp(cell, weights, x, state, input_grad=input_grad, **options)
