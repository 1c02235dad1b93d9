"""Gated recurrent unit, forward and backward.

Cho et al. 2014, gates in the order r, z, n::

    r = σ(W_r x_t + b_wr + R_r h_{t-1} + b_rr)   reset gate
    z = σ(W_z x_t + b_wz + R_z h_{t-1} + b_rz)   update gate
    h_t = (1 − z) · n + z · h_{t-1}

The candidate n comes in two kinds. ``reset_after=True``, as in PyTorch and cuDNN, resets after the product::

    n = tanh(W_n x_t + b_wn + r · (R_n h_{t-1} + b_rn))

``reset_after=False``, as in the paper, resets before it::

    n = tanh(W_n x_t + b_wn + R_n (r · h_{t-1}) + b_rn)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array, Cell, State, recurrent_vjp
from .activations import sigmoid


class GRUGrads(NamedTuple):
    """Gradients of the weights of `gru`, in the order of its arguments; None where there was no weight."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None


def _affine(x: Array, weight: Array, bias: Array | None) -> Array:
    return x @ weight.T if bias is None else x @ weight.T + bias


def _rows(a: Array | None, gates: slice, H: int) -> Array | None:
    """The part of a bias that belongs to some of the gates."""
    return None if a is None else a[gates.start * H : gates.stop * H]


RZ, N = slice(0, 2), slice(2, 3)  # which gates


def _forward(weights: tuple[Any, ...], x: Array, state: State, *, reset_after: bool) -> tuple[State, Any]:
    """One step: x [B, I], h [B, H]."""
    W, R, b_w, b_r = weights
    (h,) = state
    H = h.shape[1]
    a_r, a_z, a_n = np.split(_affine(x, W, b_w), 3, axis=1)
    u_r, u_z = np.split(_affine(h, R[: 2 * H], _rows(b_r, RZ, H)), 2, axis=1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    if reset_after:
        u_n = _affine(h, R[2 * H :], _rows(b_r, N, H))
        n = np.tanh(a_n + r * u_n)
    else:
        u_n = _affine(r * h, R[2 * H :], _rows(b_r, N, H))
        n = np.tanh(a_n + u_n)
    h_t = (1 - z) * n + z * h
    return (h_t,), (x, h, r, z, n, u_n)


def _backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, reset_after: bool
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step. ``da`` is the gradient of W x + b_w, ``du`` the one of the recurrent product + b_r."""
    W, R, _, _ = weights
    x, h, r, z, n, u_n = saved
    H = h.shape[1]
    R_rz, R_n = R[: 2 * H], R[2 * H :]
    (dh_t,) = dstate
    dn, dz, dh = dh_t * (1 - z), dh_t * (h - n), dh_t * z  # h_t = (1 − z) · n + z · h
    da_n = dn * (1 - n**2)  # n = tanh(…), tanh' = 1 − tanh²
    if reset_after:
        dr, du_n = da_n * u_n, da_n * r  # … a_n + r · u_n
        dh = dh + du_n @ R_n  # u_n = R_n h + b_rn
        dR_n = du_n.T @ h
    else:
        du_n = da_n  # … a_n + u_n
        drh = du_n @ R_n  # u_n = R_n (r · h) + b_rn
        dR_n = du_n.T @ (r * h)
        dr, dh = drh * h, dh + drh * r
    da_rz = np.concatenate([dr * r * (1 - r), dz * z * (1 - z)], axis=1)  # σ' = σ (1 − σ)
    dh = dh + da_rz @ R_rz  # u_r, u_z = R_rz h + b_rz
    da = np.concatenate([da_rz, da_n], axis=1)
    du = np.concatenate([da_rz, du_n], axis=1)
    dR = np.concatenate([da_rz.T @ h, dR_n])
    return da @ W, (dh,), (da.T @ x, dR, da.sum(axis=0), du.sum(axis=0))


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
) -> tuple[Array, Array]:
    """Run one GRU layer in one direction.

    Parameters
    ----------
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence without a batch
        All arrays have one type, float32 or float64.
    state : None (zeros) or h_0 [B, H]; without a batch [H]
    weight_ih : [3H, I]
    weight_hh : [3H, H]
    bias_ih, bias_hh : [3H], optional
    lengths, reverse, out : as for `lstm`
    reset_after : bool
        Apply the reset gate after (True, PyTorch) or before (False, the paper) the recurrent product.

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
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    options: Any = {
        "lengths": lengths,
        "reverse": reverse,
        "batch_first": batch_first,
        "out": out,
        "reset_after": reset_after,
    }
    outputs: tuple[Array, Array] = gru_vjp(x, state, *weights, **options)[0]
    return outputs


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
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """Run `gru` and return its outputs with the function that pulls gradients back through it.

    ``checkpoint`` and ``input_grad`` are those of `lstm_vjp`.

    Returns
    -------
    (y, h_n) : as `gru` returns them
    pullback : ``pullback(dy=None, dstate=None, *, out=None)`` → ``(dx, dh_0, GRUGrads)``
        ``dstate`` is the gradient of h_n.

    Examples
    --------
    >>> x = np.ones((5, 2, 3))
    >>> (y, h_n), pullback = gru_vjp(x, None, np.ones((12, 3)), np.ones((12, 4)), input_grad=False)
    >>> dx, dh_0, grads = pullback(dstate=np.ones_like(h_n))
    >>> dx is None, dh_0.shape, grads.weight_ih.shape
    (True, (2, 4), (12, 3))
    """
    cell = Cell(
        partial(_forward, reset_after=reset_after),
        partial(_backward, reset_after=reset_after),
        gates=3,
        num_states=1,
        Grads=GRUGrads,
    )
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    options: Any = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
    return recurrent_vjp(cell, weights, x, state, input_grad=input_grad, **options)
