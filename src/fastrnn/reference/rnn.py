"""The simple recurrent network, forward and backward.

Elman 1990, with a nonlinearity φ of tanh, relu, sigmoid, leaky relu (slope 0.01), identity, or another of ONNX's::

    h_t = φ(W x_t + b_w + R h_{t-1} + b_r)

With layer normalisation N (Ba, Kiros & Hinton 2016)::

    h_t = φ(gain_ih · N(W x_t) + b_w + gain_hh · N(R h_{t-1}) + b_r)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array, Cell, State, recurrent_vjp
from ._variants import Function, Norm, affine_vjp, functions, masked
from .activations import leaky_relu, leaky_relu_derivative, relu, relu_derivative, sigmoid


class RNNGrads(NamedTuple):
    """Gradients of the weights of `rnn`, in the order of its arguments; None where there was no weight."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None
    gain_ih: Array | None = None
    gain_hh: Array | None = None


# φ, and φ' as a function of h = φ(z): each of them can be told from its own output
NONLINEARITIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (relu, relu_derivative),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
    "leaky_relu": (leaky_relu, leaky_relu_derivative),
    "identity": (lambda z: z, np.ones_like),
}


def _forward(
    weights: tuple[Any, ...], x: Array, state: State, mask: Array | None = None, *, phi: Function
) -> tuple[State, Any]:
    """One step: x [B, I], h [B, H]."""
    W, R, b_w, b_r, gain_w, gain_r = weights
    (h,) = state
    a, pull_a = affine_vjp(x, W, b_w, gain_w)
    u, pull_u = affine_vjp(masked(h, mask), R, b_r, gain_r)
    z = a + u
    h_t = phi.f(z)
    return (h_t,), (mask, z, h_t, pull_a, pull_u)


def _backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, phi: Function
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step."""
    mask, z, h_t, pull_a, pull_u = saved
    (dh_t,) = dstate
    dz = dh_t * phi.derivative(z, h_t)  # h_t = φ(z)
    dx, dW, db, dgain_w = pull_a(dz)  # z = W x + b_w + R h + b_r
    dh, dR, db, dgain_r = pull_u(dz)
    return dx, (masked(dh, mask),), (dW, dR, db, db, dgain_w, dgain_r)


def cell(activations: Any = None, clip: float | None = None) -> Cell:
    """One step of a simple recurrent network and its reverse."""
    (phi,) = functions(activations, ("tanh",), clip)
    return Cell(partial(_forward, phi=phi), partial(_backward, phi=phi), gates=1, num_states=1, Grads=RNNGrads)


def rnn(
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
    nonlinearity: str = "tanh",
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: Any = None,
    recurrent_mask: Any = None,
    reset_mask: Any = None,
    reset_state: Any = None,
    all_states: bool = False,
) -> Any:
    """Run one simple recurrent layer in one direction.

    Parameters
    ----------
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence without a batch
        All arrays have one type, float32 or float64.
    state : None (zeros) or h_0 [B, H]; without a batch [H]
    weight_ih : [H, I]
    weight_hh : [H, H]
    bias_ih, bias_hh : [H], optional
    nonlinearity : "tanh", "relu", "sigmoid", "leaky_relu" or "identity"
    activations : (f,), f one of ONNX's names or (name, alpha, beta), optional
        Takes the place of ``nonlinearity``.
    norm : `Norm`, optional
        Layer normalisation: gain_ih, gain_hh [H].
    zoneout : None, a number or [T, B, H]
    lengths, reverse, batch_first, out, clip, recurrent_mask, reset_mask, reset_state, all_states : as for `lstm`
        There is one state, h.

    Returns
    -------
    y : [T, B, H] in the layout of ``x``; zero past the length of a row
    h_n : the state of each row after its last step, or its initial state if its length is 0

    Examples
    --------
    Without input, relu and a weight of 2 double the state at every step:

    >>> y, h_n = rnn(np.zeros((3, 1)), np.ones(1), np.ones((1, 1)), 2 * np.ones((1, 1)), nonlinearity="relu")
    >>> y.tolist(), h_n.tolist()
    ([[2.0], [4.0], [8.0]], [8.0])
    """
    options: Any = {
        "lengths": lengths,
        "reverse": reverse,
        "batch_first": batch_first,
        "out": out,
        "nonlinearity": nonlinearity,
        "clip": clip,
        "activations": activations,
        "norm": norm,
        "zoneout": zoneout,
        "recurrent_mask": recurrent_mask,
        "reset_mask": reset_mask,
        "reset_state": reset_state,
        "all_states": all_states,
    }
    return rnn_vjp(x, state, weight_ih, weight_hh, bias_ih, bias_hh, **options)[0]


def rnn_vjp(
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
    nonlinearity: str = "tanh",
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
    """Run `rnn` and return its outputs with the function that pulls gradients back through it.

    ``checkpoint`` and ``input_grad`` are those of `lstm_vjp`.

    Returns
    -------
    (y, h_n) : as `rnn` returns them
    pullback : ``pullback(dy=None, dstate=None, dstates=None, *, out=None)`` → ``(dx, dh_0, RNNGrads)``
        ``dstate`` is the gradient of h_n, ``dstates`` of h_all.

    Examples
    --------
    >>> x, w = np.zeros((3, 1)), np.ones((1, 1))
    >>> (y, h_n), pullback = rnn_vjp(x, np.ones(1), w, 2 * w, nonlinearity="relu")
    >>> dx, dh_0, grads = pullback(dstate=np.ones(1))
    >>> dx.tolist(), dh_0.tolist(), grads.weight_hh.tolist()
    ([[4.0], [2.0], [1.0]], [8.0], [[12.0]])
    """
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity: expected one of {', '.join(NONLINEARITIES)}, got {nonlinearity!r}")
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity: expected one of {', '.join(NONLINEARITIES)}, got {nonlinearity!r}")
    gains = (None,) * 2 if norm is None else norm[:2]
    return recurrent_vjp(
        cell((nonlinearity,) if activations is None else activations, clip),
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
