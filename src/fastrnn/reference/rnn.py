"""The simple recurrent network, forward and backward.

Elman 1990, with a nonlinearity φ of tanh, relu or sigmoid::

    h_t = φ(W x_t + b_w + R h_{t-1} + b_r)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array, Cell, State, recurrent_vjp
from .activations import relu, relu_derivative, sigmoid


class RNNGrads(NamedTuple):
    """Gradients of the weights of `rnn`, in the order of its arguments; None where there was no weight."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None


# φ, and φ' as a function of h = φ(z): each of the three can be told from its own output
NONLINEARITIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (relu, relu_derivative),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
}


def _forward(weights: tuple[Any, ...], x: Array, state: State, *, phi: Callable[[Array], Array]) -> tuple[State, Any]:
    """One step: x [B, I], h [B, H]."""
    W, R, b_w, b_r = weights
    (h,) = state
    z = x @ W.T + h @ R.T
    for b in (b_w, b_r):
        if b is not None:
            z = z + b
    h_t = phi(z)
    return (h_t,), (x, h, h_t)


def _backward(
    weights: tuple[Any, ...], saved: Any, dstate: State, *, derivative: Callable[[Array], Array]
) -> tuple[Array, State, tuple[Any, ...]]:
    """Reverse of one step."""
    W, R, _, _ = weights
    x, h, h_t = saved
    (dh_t,) = dstate
    dz = dh_t * derivative(h_t)  # h_t = φ(z)
    db = dz.sum(axis=0)  # z = W x + b_w + R h + b_r
    return dz @ W, (dz @ R,), (dz.T @ x, dz.T @ h, db, db)


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
) -> tuple[Array, Array]:
    """Run one simple recurrent layer in one direction.

    Parameters
    ----------
    x : [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence without a batch
        All arrays have one type, float32 or float64.
    state : None (zeros) or h_0 [B, H]; without a batch [H]
    weight_ih : [H, I]
    weight_hh : [H, H]
    bias_ih, bias_hh : [H], optional
    lengths, reverse, out : as for `lstm`
    nonlinearity : "tanh", "relu" or "sigmoid"

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
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    options: Any = {
        "lengths": lengths,
        "reverse": reverse,
        "batch_first": batch_first,
        "out": out,
        "nonlinearity": nonlinearity,
    }
    outputs: tuple[Array, Array] = rnn_vjp(x, state, *weights, **options)[0]
    return outputs


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
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """Run `rnn` and return its outputs with the function that pulls gradients back through it.

    ``checkpoint`` and ``input_grad`` are those of `lstm_vjp`.

    Returns
    -------
    (y, h_n) : as `rnn` returns them
    pullback : ``pullback(dy=None, dstate=None, *, out=None)`` → ``(dx, dh_0, RNNGrads)``
        ``dstate`` is the gradient of h_n.

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
    phi, derivative = NONLINEARITIES[nonlinearity]
    cell = Cell(
        partial(_forward, phi=phi),
        partial(_backward, derivative=derivative),
        gates=1,
        num_states=1,
        Grads=RNNGrads,
    )
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    options: Any = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
    return recurrent_vjp(cell, weights, x, state, input_grad=input_grad, **options)
