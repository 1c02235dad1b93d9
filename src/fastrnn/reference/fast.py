"""FastRNN and FastGRNN, forward and backward (Kusupati et al. 2018, "FastGRNN: A Fast, Accurate, Stable and Tiny
Kilobyte Sized Gated Recurrent Neural Network").

FastRNN adds a weighted residual connection to the simple network::

    n = φ(W x_t + R h_{t-1} + b)
    h_t = σ(α) · n + σ(β) · h_{t-1}                   α, β: one number each

FastGRNN makes the weight of the residual a gate, which shares W and R with the candidate::

    u = W x_t + R h_{t-1}
    z, n = σ(u + b_z), tanh(u + b_h)
    h_t = (σ(ζ) · (1 − z) + σ(ν)) · n + z · h_{t-1}    ζ, ν: one number each

The scalars pass through a σ, as in the paper's code. Of low rank, W is a product W_1 W_2, made before, and R likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ._sequence import Array, Cell, State, recurrent_vjp
from ._variants import Function, affine_vjp, functions, masked
from .activations import sigmoid, sigmoid_derivative


class FastRNNGrads(NamedTuple):
    """Gradients of the weights of `fast_rnn`, in the order of its arguments."""

    weight_ih: Array
    weight_hh: Array
    bias: Array | None
    alpha: Array
    beta: Array


class FastGRNNGrads(NamedTuple):
    """Gradients of the weights of `fast_grnn`, in the order of its arguments."""

    weight_ih: Array
    weight_hh: Array
    bias_z: Array | None
    bias_h: Array | None
    zeta: Array
    nu: Array


def _plus(u: Array, b: Array | None) -> Array:
    return u if b is None else u + b


def _rnn_forward(
    weights: tuple[Any, ...], x: Array, state: State, mask: Array | None = None, *, phi: Function
) -> tuple[State, Any]:
    """One step of FastRNN: x [B, I], h [B, H]."""
    W, R, b, alpha, beta = weights
    (h,) = state
    wx, pull_x = affine_vjp(x, W, b)
    rh, pull_h = affine_vjp(masked(h, mask), R)
    v = wx + rh
    n = phi.f(v)
    h_t = sigmoid(alpha) * n + sigmoid(beta) * h
    return (h_t,), (h, mask, v, n, pull_x, pull_h)


def _rnn_backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, phi: Function
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step of FastRNN."""
    *_, alpha, beta = weights
    h, mask, v, n, pull_x, pull_h = saved
    (dh_t,) = dstate
    dalpha = (dh_t * n).sum() * sigmoid_derivative(alpha)  # h_t = σ(α) · n + σ(β) · h
    dbeta = (dh_t * h).sum() * sigmoid_derivative(beta)
    dn, dh = dh_t * sigmoid(alpha), dh_t * sigmoid(beta)
    dv = dn * phi.derivative(v, n)  # n = φ(v)
    dx, dW, db, _ = pull_x(dv)  # v = W x + b + R h
    drh, dR, _, _ = pull_h(dv)
    return dx, (dh + masked(drh, mask),), (dW, dR, db, dalpha, dbeta)


def _grnn_forward(
    weights: tuple[Any, ...], x: Array, state: State, mask: Array | None = None, *, phi: tuple[Function, ...]
) -> tuple[State, Any]:
    """One step of FastGRNN: x [B, I], h [B, H]."""
    W, R, b_z, b_h, zeta, nu = weights
    phi_z, phi_n = phi
    (h,) = state
    wx, pull_x = affine_vjp(x, W)
    rh, pull_h = affine_vjp(masked(h, mask), R)
    u = wx + rh
    z, n = phi_z.f(_plus(u, b_z)), phi_n.f(_plus(u, b_h))
    s = sigmoid(zeta) * (1 - z) + sigmoid(nu)
    h_t = s * n + z * h
    return (h_t,), (h, mask, u, z, n, s, pull_x, pull_h)


def _grnn_backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, phi: tuple[Function, ...]
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step of FastGRNN."""
    _, _, b_z, b_h, zeta, nu = weights
    phi_z, phi_n = phi
    h, mask, u, z, n, s, pull_x, pull_h = saved
    (dh_t,) = dstate
    ds, dn, dz, dh = dh_t * n, dh_t * s, dh_t * h, dh_t * z  # h_t = s · n + z · h
    dzeta = (ds * (1 - z)).sum() * sigmoid_derivative(zeta)  # s = σ(ζ) · (1 − z) + σ(ν)
    dnu = ds.sum() * sigmoid_derivative(nu)
    dz = dz - ds * sigmoid(zeta)
    dv_z = dz * phi_z.derivative(_plus(u, b_z), z)  # z = φ(u + b_z)
    dv_n = dn * phi_n.derivative(_plus(u, b_h), n)  # n = φ(u + b_h)
    dx, dW, _, _ = pull_x(dv_z + dv_n)  # u = W x + R h
    drh, dR, _, _ = pull_h(dv_z + dv_n)
    return dx, (dh + masked(drh, mask),), (dW, dR, dv_z.sum(axis=0), dv_n.sum(axis=0), dzeta, dnu)


def fast_rnn(
    x: Any, state: Any, weight_ih: Any, weight_hh: Any, bias: Any, alpha: Any, beta: Any, **options: Any
) -> Any:
    """Run one FastRNN layer in one direction.

    Parameters
    ----------
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence without a batch
    state : None (zeros) or h_0 [B, H]; without a batch [H]
    weight_ih, weight_hh : [H, I], [H, H]
    bias : [H] or None
    alpha, beta : [1]
        The weights of candidate and residual before their σ.
    activations : (f,), optional
        ``("tanh",)`` or another of ONNX's, as for `rnn`.
    clip, lengths, reverse, batch_first, out, zoneout, recurrent_mask, reset_mask, reset_state, all_states
        As for `rnn`.

    Returns
    -------
    y, h_n : as for `rnn`

    Examples
    --------
    Without weights the state fades by σ(β) a step:

    >>> import numpy as np
    >>> zero, one = np.zeros((2, 1)), np.ones(2)
    >>> fast_rnn(np.ones((3, 1)), one, zero, np.zeros((2, 2)), None, np.zeros(1), np.zeros(1))[0].tolist()
    [[0.5, 0.5], [0.25, 0.25], [0.125, 0.125]]
    """
    return fast_rnn_vjp(x, state, weight_ih, weight_hh, bias, alpha, beta, **options)[0]


def fast_rnn_vjp(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias: Any,
    alpha: Any,
    beta: Any,
    *,
    activations: Any = None,
    clip: float | None = None,
    **options: Any,
) -> tuple[Any, Callable[..., Any]]:
    """Run `fast_rnn` and return its outputs with the function that pulls gradients back through it.

    Returns
    -------
    (y, h_n) : as `fast_rnn` returns them
    pullback : ``pullback(dy=None, dstate=None, dstates=None, *, out=None)`` → ``(dx, dh_0, FastRNNGrads)``

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.ones((2, 1)), np.ones((2, 2)), np.zeros(2), np.zeros(1), np.zeros(1)
    >>> (y, h_n), pullback = fast_rnn_vjp(np.ones((3, 1)), None, *weights)
    >>> pullback(np.ones_like(y))[2].alpha.shape
    (1,)
    """
    (phi,) = functions(activations, ("tanh",), clip)
    cell = Cell(partial(_rnn_forward, phi=phi), partial(_rnn_backward, phi=phi), 1, 1, FastRNNGrads)
    return recurrent_vjp(cell, (weight_ih, weight_hh, bias, alpha, beta), x, state, **options)


def fast_grnn(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_z: Any,
    bias_h: Any,
    zeta: Any,
    nu: Any,
    **options: Any,
) -> Any:
    """Run one FastGRNN layer in one direction.

    Parameters
    ----------
    x, state, weight_ih, weight_hh : as for `fast_rnn`
    bias_z, bias_h : [H] or None
        Of the gate and of the candidate.
    zeta, nu : [1]
        Before their σ.
    activations : two, optional
        Of gate and candidate; ``("sigmoid", "tanh")``.
    clip, lengths, reverse, batch_first, out, zoneout, recurrent_mask, reset_mask, reset_state, all_states
        As for `rnn`.

    Returns
    -------
    y, h_n : as for `rnn`

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.ones((2, 1)), np.ones((2, 2)), None, None, np.zeros(1), np.zeros(1)
    >>> y, h_n = fast_grnn(np.zeros((3, 1)), np.zeros(2), *weights)
    >>> y.shape, float(abs(y).max())
    ((3, 2), 0.0)
    """
    return fast_grnn_vjp(x, state, weight_ih, weight_hh, bias_z, bias_h, zeta, nu, **options)[0]


def fast_grnn_vjp(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_z: Any,
    bias_h: Any,
    zeta: Any,
    nu: Any,
    *,
    activations: Any = None,
    clip: float | None = None,
    **options: Any,
) -> tuple[Any, Callable[..., Any]]:
    """Run `fast_grnn` and return its outputs with the function that pulls gradients back through it.

    Returns
    -------
    (y, h_n) : as `fast_grnn` returns them
    pullback : ``pullback(dy=None, dstate=None, dstates=None, *, out=None)`` → ``(dx, dh_0, FastGRNNGrads)``

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.ones((2, 1)), np.ones((2, 2)), np.zeros(2), np.zeros(2), np.zeros(1), np.zeros(1)
    >>> (y, h_n), pullback = fast_grnn_vjp(np.ones((3, 1)), None, *weights)
    >>> pullback(np.ones_like(y))[2].bias_z.shape
    (2,)
    """
    phi = functions(activations, ("sigmoid", "tanh"), clip)
    cell = Cell(partial(_grnn_forward, phi=phi), partial(_grnn_backward, phi=phi), 1, 1, FastGRNNGrads)
    return recurrent_vjp(cell, (weight_ih, weight_hh, bias_z, bias_h, zeta, nu), x, state, **options)
