"""Gated recurrent unit, forward and backward.

Cho et al. 2014, gates in the order r, z, n::

    r = σ(W_r x_t + b_wr + R_r h_{t-1} + b_rr)   reset gate
    z = σ(W_z x_t + b_wz + R_z h_{t-1} + b_rz)   update gate
    h_t = (1 − z) · n + z · h_{t-1}

The candidate n comes in two kinds. ``reset_after=True``, as in PyTorch and cuDNN, resets after the product::

    n = tanh(W_n x_t + b_wn + r · (R_n h_{t-1} + b_rn))

``reset_after=False``, as in the paper, resets before it::

    n = tanh(W_n x_t + b_wn + R_n (r · h_{t-1}) + b_rn)

With layer normalisation N (Ba, Kiros & Hinton 2016) each product, of W or of R, becomes gain · N(product): one N over
the 2H features of r and z, one over the H of n. σ and tanh may be other functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array, Cell, State, recurrent_vjp
from ._variants import Function, Norm, affine_vjp, functions, masked


class GRUGrads(NamedTuple):
    """Gradients of the weights of `gru`, in the order of its arguments; None where there was no weight."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None
    gain_ih: Array | None = None
    gain_hh: Array | None = None


def _part(weights: tuple[Any, ...], gates: slice) -> tuple[Any, ...]:
    """The rows of each weight that belong to some of the gates."""
    H = len(weights[0]) // 3
    return tuple(None if w is None else w[gates.start * H : gates.stop * H] for w in weights)


def _joined(rz: tuple[Any, ...], n: tuple[Any, ...]) -> tuple[Any, ...]:
    """The reverse of `_part`."""
    return tuple(None if a is None else np.concatenate([a, b]) for a, b in zip(rz, n))


RZ, N = slice(0, 2), slice(2, 3)  # which gates


def _forward(
    weights: tuple[Any, ...],
    x: Array,
    state: State,
    mask: Array | None = None,
    *,
    reset_after: bool,
    phi: tuple[Function, ...],
) -> tuple[State, Any]:
    """One step: x [B, I], h [B, H]; ``phi``: the functions of the gates and of n."""
    W, R, b_w, b_r, gain_w, gain_r = weights
    phi_gate, phi_n = phi
    (h,) = state
    seen = masked(h, mask)
    a_rz, pull_a_rz = affine_vjp(x, *_part((W, b_w, gain_w), RZ))
    a_n, pull_a_n = affine_vjp(x, *_part((W, b_w, gain_w), N))
    u_rz, pull_u_rz = affine_vjp(seen, *_part((R, b_r, gain_r), RZ))
    v_rz = a_rz + u_rz
    rz = phi_gate.f(v_rz)
    r, z = np.split(rz, 2, axis=1)
    u_n, pull_u_n = affine_vjp(seen if reset_after else r * seen, *_part((R, b_r, gain_r), N))
    v_n = a_n + (r * u_n if reset_after else u_n)
    n = phi_n.f(v_n)
    h_t = (1 - z) * n + z * h
    return (h_t,), (h, seen, mask, rz, n, u_n, v_rz, v_n, pull_a_rz, pull_a_n, pull_u_rz, pull_u_n)


def _backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, reset_after: bool, phi: tuple[Function, ...]
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step. ``da`` is the gradient of W x + b_w, ``du`` the one of the recurrent product + b_r."""
    phi_gate, phi_n = phi
    h, seen, mask, rz, n, u_n, v_rz, v_n, pull_a_rz, pull_a_n, pull_u_rz, pull_u_n = saved
    r, z = np.split(rz, 2, axis=1)
    (dh_t,) = dstate
    dn, dz, dh = dh_t * (1 - z), dh_t * (h - n), dh_t * z  # h_t = (1 − z) · n + z · h
    da_n = dn * phi_n.derivative(v_n, n)  # n = φ(v_n)
    if reset_after:
        dr, du_n = da_n * u_n, da_n * r  # v_n = a_n + r · u_n
        dseen, *du_weights_n = pull_u_n(du_n)  # u_n = R_n h + b_rn
    else:
        drh, *du_weights_n = pull_u_n(da_n)  # v_n = a_n + u_n, u_n = R_n (r · h) + b_rn
        dr, dseen = drh * seen, drh * r
    da_rz = np.concatenate([dr, dz], axis=1) * phi_gate.derivative(v_rz, rz)  # r, z = φ(v_rz)
    dseen_rz, *du_weights_rz = pull_u_rz(da_rz)  # u_rz = R_rz h + b_rrz
    dx_rz, *da_weights_rz = pull_a_rz(da_rz)  # a_rz = W_rz x + b_wrz
    dx_n, *da_weights_n = pull_a_n(da_n)  # a_n = W_n x + b_wn
    dW, db_w, dgain_w = _joined(tuple(da_weights_rz), tuple(da_weights_n))
    dR, db_r, dgain_r = _joined(tuple(du_weights_rz), tuple(du_weights_n))
    return dx_rz + dx_n, (dh + masked(dseen + dseen_rz, mask),), (dW, dR, db_w, db_r, dgain_w, dgain_r)


def cell(activations: Any = None, clip: float | None = None, reset_after: bool = True) -> Cell:
    """One step of a GRU and its reverse."""
    phi = functions(activations, ("sigmoid", "tanh"), clip)
    return Cell(
        partial(_forward, reset_after=reset_after, phi=phi),
        partial(_backward, reset_after=reset_after, phi=phi),
        gates=3,
        num_states=1,
        Grads=GRUGrads,
    )


def gru(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: Any = None,
    reset_after: bool = True,
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: Any = None,
    recurrent_mask: Any = None,
    reset_mask: Any = None,
    reset_state: Any = None,
    all_states: bool = False,
) -> Any:
    """Run one GRU layer in one direction.

    Parameters
    ----------
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence without a batch
        All arrays have one type, float32 or float64.
    state : None (zeros) or h_0 [B, H]; without a batch [H]
    weight_ih : [3H, I]
    weight_hh : [3H, H]
    bias_ih, bias_hh : [3H], optional
    reset_after : bool
        Apply the reset gate after (True, PyTorch) or before (False, the paper) the recurrent product.
    activations : two of ONNX's names, or (name, alpha, beta), optional
        Of the gates and of n.
    norm : `Norm`, optional
        Layer normalisation: gain_ih, gain_hh [3H].
    zoneout : None, a number or [T, B, H]
    lengths, reverse, batch_first, out, clip, recurrent_mask, reset_mask, reset_state, all_states : as for `lstm`
        There is one state, h.

    Returns
    -------
    y : [T, B, H] in the layout of ``x``; zero past the length of a row
    h_n : the state of each row after its last step, or its initial state if its length is 0

    Examples
    --------
    >>> x = np.ones((5, 2, 3))  # T=5, B=2, I=3
    >>> y, h_n = gru(x, None, np.ones((12, 3)), np.ones((12, 4)), reverse=True)
    >>> y.shape, bool((h_n == y[0]).all())
    ((5, 2, 4), True)
    """
    options: Any = {
        "lengths": lengths,
        "reverse": reverse,
        "batch_first": batch_first,
        "out": out,
        "reset_after": reset_after,
        "clip": clip,
        "activations": activations,
        "norm": norm,
        "zoneout": zoneout,
        "recurrent_mask": recurrent_mask,
        "reset_mask": reset_mask,
        "reset_state": reset_state,
        "all_states": all_states,
    }
    return gru_vjp(x, state, weight_ih, weight_hh, bias_ih, bias_hh, **options)[0]


def gru_vjp(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: Any = None,
    reset_after: bool = True,
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
    """Run `gru` and return its outputs with the function that pulls gradients back through it.

    ``checkpoint`` and ``input_grad`` are those of `lstm_vjp`.

    Returns
    -------
    (y, h_n) : as `gru` returns them
    pullback : ``pullback(dy=None, dstate=None, dstates=None, *, out=None)`` → ``(dx, dh_0, GRUGrads)``
        ``dstate`` is the gradient of h_n, ``dstates`` of h_all.

    Examples
    --------
    >>> x = np.ones((5, 2, 3))
    >>> (y, h_n), pullback = gru_vjp(x, None, np.ones((12, 3)), np.ones((12, 4)), input_grad=False)
    >>> dx, dh_0, grads = pullback(dstate=np.ones_like(h_n))
    >>> dx is None, dh_0.shape, grads.weight_ih.shape
    (True, (2, 4), (12, 3))
    """
    gains = (None,) * 2 if norm is None else norm[:2]
    return recurrent_vjp(
        cell(activations, clip, reset_after),
        (weight_ih, weight_hh, bias_ih, bias_hh, *gains),
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
