"""Long short-term memory, forward and backward.

Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000 and the projection of Sak et al. 2014::

    z = W x_t + b_w + R h_{t-1} + b_r            [4H], the gates in the order i, f, g, o
    i, f, o = σ(z_i), σ(z_f), σ(z_o)             input, forget and output gate
    g = tanh(z_g)                                candidate
    c_t = f · c_{t-1} + i · g
    m_t = o · tanh(c_t)
    h_t = m_t, or with a projection h_t = P m_t

Variants: peepholes p (Gers & Schmidhuber 2000) add p_i · c_{t-1} to z_i, p_f · c_{t-1} to z_f and p_o · c_t to z_o;
with coupled gates f = 1 − i, and the gates are i, g, o; layer normalisation N (Ba, Kiros & Hinton 2016) makes it
z = gain_ih · N(W x_t) + b_w + gain_hh · N(R h_{t-1}) + b_r and m_t = o · tanh(gain_c · N(c_t) + bias_c), while the c_t
that is carried on stays as it is. σ, the tanh of g and the tanh of c_t may be other functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array, Cell, State, recurrent_vjp
from ._variants import Function, Norm, affine_vjp, functions, masked, with_peephole
from .layers import layer_norm_vjp


class LSTMGrads(NamedTuple):
    """Gradients of the weights of `lstm`, in the order of its arguments; None where there was no weight."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None
    weight_hr: Array | None
    peephole: Array | None = None
    gain_ih: Array | None = None
    gain_hh: Array | None = None
    gain_c: Array | None = None
    bias_c: Array | None = None


def _blocks(a: Array | None, names: str, coupled: bool) -> tuple[Any, ...]:
    """The blocks of the last axis, one for each letter; None for all without ``a``, and for f with coupled gates."""
    if a is None:
        return (None,) * len(names)
    present = names.replace("f", "") if coupled else names
    found = dict(zip(present, np.split(a, len(present), axis=-1)))
    return tuple(found.get(name) for name in names)


def _forward(
    weights: tuple[Any, ...],
    x: Array,
    state: State,
    mask: Array | None = None,
    *,
    coupled: bool,
    phi: tuple[Function, ...],
) -> tuple[State, Any]:
    """One step: x [B, I], h [B, P or H], c [B, H]; ``phi``: the functions of the gates, of g and of c."""
    W, R, b_w, b_r, P, p, gain_w, gain_r, gain_c, b_c = weights
    phi_gate, phi_g, phi_c = phi
    h, c = state
    wx, pull_x = affine_vjp(x, W, b_w, gain_w)
    rh, pull_h = affine_vjp(masked(h, mask), R, b_r, gain_r)
    z_i, z_f, z_g, z_o = _blocks(wx + rh, "ifgo", coupled)
    p_i, p_f, p_o = _blocks(p, "ifo", coupled)
    z_i = with_peephole(z_i, p_i, c)
    i, g = phi_gate.f(z_i), phi_g.f(z_g)
    if coupled:
        f = 1 - i
    else:
        z_f = with_peephole(z_f, p_f, c)
        f = phi_gate.f(z_f)
    c_t = f * c + i * g
    z_o = with_peephole(z_o, p_o, c_t)
    o = phi_gate.f(z_o)
    v, pull_v = (c_t, None) if gain_c is None else layer_norm_vjp(c_t, gain_c, b_c)
    q = phi_c.f(v)
    m = o * q
    h_t = m if P is None else m @ P.T
    return (h_t, c_t), (c, c_t, mask, (z_i, z_f, z_g, z_o), (i, f, g, o), (v, q, m), (pull_x, pull_h, pull_v))


def _backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, coupled: bool, phi: tuple[Function, ...]
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step, each line beside the one of `_forward` that it reverses."""
    P, p = weights[4:6]
    phi_gate, phi_g, phi_c = phi
    c, c_t, mask, (z_i, z_f, z_g, z_o), (i, f, g, o), (v, q, m), (pull_x, pull_h, pull_v) = saved
    p_i, p_f, p_o = _blocks(p, "ifo", coupled)
    dh, dc = dstate
    dP = None if P is None else dh.T @ m  # h_t = P m
    dm = dh if P is None else dh @ P
    do, dv = dm * q, dm * o * phi_c.derivative(v, q)  # m = o · φ(v)
    dgain_c = db_c = None
    if pull_v is not None:
        dv, (dgain_c, db_c) = pull_v(dv)  # v = gain_c · N(c_t) + b_c
    dz_o = do * phi_gate.derivative(z_o, o)
    dc = with_peephole(dc + dv, p_o, dz_o)  # z_o = … + p_o · c_t
    di, df, dg, dc = dc * g, dc * c, dc * i, dc * f  # c_t = f · c + i · g
    if coupled:
        di, dz_f = di - df, None  # f = 1 − i
    else:
        dz_f = df * phi_gate.derivative(z_f, f)
        dc = with_peephole(dc, p_f, dz_f)  # z_f = … + p_f · c
    dz_i, dz_g = di * phi_gate.derivative(z_i, i), dg * phi_g.derivative(z_g, g)
    dc = with_peephole(dc, p_i, dz_i)  # z_i = … + p_i · c
    seen = [dz * c_seen for dz, c_seen in ((dz_i, c), (dz_f, c), (dz_o, c_t)) if dz is not None]
    dp = None if p is None else np.concatenate([s.sum(axis=0) for s in seen])
    dz = np.concatenate([dz for dz in (dz_i, dz_f, dz_g, dz_o) if dz is not None], axis=1)
    dx, dW, db, dgain_w = pull_x(dz)  # z = W x + b_w + R h + b_r
    dh, dR, db, dgain_r = pull_h(dz)
    return dx, (masked(dh, mask), dc), (dW, dR, db, db, dP, dp, dgain_w, dgain_r, dgain_c, db_c)


def cell(activations: Any = None, clip: float | None = None, coupled: bool = False) -> Cell:
    """One step of an LSTM and its reverse."""
    phi = functions(activations, ("sigmoid", "tanh", "tanh"), clip)
    return Cell(
        partial(_forward, coupled=coupled, phi=phi),
        partial(_backward, coupled=coupled, phi=phi),
        gates=3 if coupled else 4,
        num_states=2,
        Grads=LSTMGrads,
    )


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
    peephole: Any = None,
    coupled: bool = False,
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: Any = None,
    recurrent_mask: Any = None,
    reset_mask: Any = None,
    reset_state: Any = None,
    all_states: bool = False,
) -> Any:
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
    peephole : [3H] for i, f, o, optional; with ``coupled`` [2H] for i, o
    coupled : bool
        f = 1 − i. Weights and biases have the blocks i, g, o, 3H rows.
    clip : float, optional
        Limits z, all terms in, to [−clip, clip] before the functions of the gates and of g.
    activations : three of ONNX's names, or (name, alpha, beta), optional
        Of the gates, of g, and of c in the output.
    norm : `Norm`, optional
        Layer normalisation: gain_ih, gain_hh [4H], gain_c, bias_c [H].
    zoneout : None, a number, or (d_h, d_c), each None, a number or [T, B, features] in the layout of ``x``
        The share of the old state in the new one: masks of 0 and 1, or their expectation. h is made of the c before.
    recurrent_mask : [B, P or H], optional
        Multiplies h where ``weight_hh`` does, and nowhere else.
    reset_mask : bool [T, B] in the layout of ``x``, optional
        Before x[t] is read the state of a row becomes ``reset_state`` (like ``state``; default zeros), and no gradient
        crosses that border. In the reverse direction, too, it lies between x[t−1] and x[t].
    all_states : bool
        Also return the states after every step.

    Returns
    -------
    y : [T, B, P or H] in the layout of ``x``; zero past the length of a row
    (h_n, c_n) : the state of each row after its last step, or its initial state if its length is 0
    (h_all, c_all) : with ``all_states``, [T, B, P or H] and [T, B, H] like ``y``

    Examples
    --------
    >>> x = np.ones((5, 2, 3))  # T=5, B=2, I=3
    >>> y, (h_n, c_n) = lstm(x, None, np.ones((16, 3)), np.ones((16, 4)), lengths=[5, 2])
    >>> y.shape, h_n.shape, c_n.shape
    ((5, 2, 4), (2, 4), (2, 4))
    >>> bool((h_n[1] == y[1, 1]).all()), float(abs(y[2:, 1]).max())
    (True, 0.0)
    """
    options: Any = {
        "lengths": lengths,
        "reverse": reverse,
        "batch_first": batch_first,
        "out": out,
        "peephole": peephole,
        "coupled": coupled,
        "clip": clip,
        "activations": activations,
        "norm": norm,
        "zoneout": zoneout,
        "recurrent_mask": recurrent_mask,
        "reset_mask": reset_mask,
        "reset_state": reset_state,
        "all_states": all_states,
    }
    return lstm_vjp(x, state, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, **options)[0]


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
    peephole: Any = None,
    coupled: bool = False,
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: Any = None,
    recurrent_mask: Any = None,
    reset_mask: Any = None,
    reset_state: Any = None,
    all_states: bool = False,
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
    pullback : ``pullback(dy=None, dstate=None, dstates=None, *, out=None)`` → ``(dx, (dh_0, dc_0), LSTMGrads)``
        ``dy`` has the shape of ``y`` and is not read past the length of a row, where ``dx`` is zero. ``dstate`` is
        ``(dh_n, dc_n)``, and ``dstates`` ``(dh_all, dc_all)``. None means zeros everywhere. ``out`` takes ``dx``.

    Examples
    --------
    >>> x = np.ones((5, 2, 3))
    >>> (y, state), pullback = lstm_vjp(x, None, np.ones((16, 3)), np.ones((16, 4)), np.zeros(16))
    >>> dx, (dh_0, dc_0), grads = pullback(np.ones_like(y))
    >>> dx.shape, dh_0.shape, grads.weight_hh.shape, grads.bias_hh is None
    ((5, 2, 3), (2, 4), (16, 4), True)
    """
    gains = (None,) * 4 if norm is None else norm
    return recurrent_vjp(
        cell(activations, clip, coupled),
        (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peephole, *gains),
        x,
        state,
        lengths=lengths,
        reverse=reverse,
        batch_first=batch_first,
        input_grad=input_grad,
        out=out,
        zoneout=zoneout,
        recurrent_mask=recurrent_mask,
        reset_mask=reset_mask,
        reset_state=reset_state,
        all_states=all_states,
    )
