"""Optimiser steps and gradient clipping, in place, by the formulas of PyTorch.

A step takes one parameter, its gradient, and a dict that holds what the optimiser remembers about it: ``{}`` before the
first step, filled by it. The gradient is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._sequence import Array

Grads = Mapping[str, Array] | Iterable[Array]


def sgd(
    param: Array,
    grad: Array,
    state: dict[str, Any],
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013).

    ::

        g = grad + weight_decay · param
        v = g at the first step, then momentum · v + g
        param −= lr · (g + momentum · v with nesterov, otherwise v)

    Examples
    --------
    >>> param, state = np.array([1.0]), {}
    >>> for _ in range(2):
    ...     sgd(param, np.array([1.0]), state, lr=0.25, momentum=0.5)
    >>> param.tolist()
    [0.375]
    """
    if nesterov and not momentum:
        raise ValueError("nesterov: expected a momentum above 0")
    g = grad + weight_decay * param
    if momentum:
        state["momentum"] = momentum * state["momentum"] + g if "momentum" in state else g
        g = g + momentum * state["momentum"] if nesterov else state["momentum"]
    param -= lr * g


def rmsprop(
    param: Array,
    grad: Array,
    state: dict[str, Any],
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """RMSprop (Tieleman & Hinton 2012; centred: Graves 2013).

    ::

        g = grad + weight_decay · param
        s = alpha · s + (1 − alpha) · g²
        a = alpha · a + (1 − alpha) · g               with centered, otherwise 0
        v = momentum · v + g / (sqrt(s − a²) + eps)
        param −= lr · v

    Examples
    --------
    >>> param, state = np.array([1.0]), {}
    >>> rmsprop(param, np.array([3.0]), state, lr=0.1, alpha=0.75)
    >>> param.round(6).tolist()
    [0.8]
    """
    g = grad + weight_decay * param
    if not state:
        state.update(square=np.zeros_like(param), mean=np.zeros_like(param), momentum=np.zeros_like(param))
    state["square"] = alpha * state["square"] + (1 - alpha) * g**2
    if centered:
        state["mean"] = alpha * state["mean"] + (1 - alpha) * g
    state["momentum"] = momentum * state["momentum"] + g / (np.sqrt(state["square"] - state["mean"] ** 2) + eps)
    param -= lr * state["momentum"]


def adam(
    param: Array,
    grad: Array,
    state: dict[str, Any],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Adam (Kingma & Ba 2015); ``weight_decay`` is added to the gradient.

    ::

        g = grad + weight_decay · param
        m = β₁ · m + (1 − β₁) · g
        v = β₂ · v + (1 − β₂) · g²
        param −= lr · (m / (1 − β₁ᵗ)) / (sqrt(v / (1 − β₂ᵗ)) + eps)       t = 1, 2, …

    Examples
    --------
    >>> param, state = np.array([1.0]), {}
    >>> adam(param, np.array([5.0]), state, lr=0.1)
    >>> param.round(6).tolist(), state["step"]
    ([0.9], 1)
    """
    g = grad + weight_decay * param
    beta1, beta2 = betas
    if not state:
        state.update(step=0, m=np.zeros_like(param), v=np.zeros_like(param))
    state["step"] += 1
    state["m"] = beta1 * state["m"] + (1 - beta1) * g
    state["v"] = beta2 * state["v"] + (1 - beta2) * g**2
    m_hat = state["m"] / (1 - beta1 ** state["step"])
    v_hat = state["v"] / (1 - beta2 ** state["step"])
    param -= lr * m_hat / (np.sqrt(v_hat) + eps)


def adamw(
    param: Array,
    grad: Array,
    state: dict[str, Any],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    First param −= lr · weight_decay · param, then a step of `adam` without decay.

    Examples
    --------
    >>> param = np.array([1.0])
    >>> adamw(param, np.array([5.0]), {}, lr=0.1, weight_decay=0.5)
    >>> param.round(6).tolist()
    [0.85]
    """
    param *= 1 - lr * weight_decay
    adam(param, grad, state, lr=lr, betas=betas, eps=eps)


def _arrays(grads: Grads) -> list[Array]:
    return list(grads.values() if isinstance(grads, Mapping) else grads)


def clip_grad_norm(grads: Grads, max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint 2-norm is at most ``max_norm`` (Pascanu et al. 2013).

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch. A norm that is not finite makes it 0 or NaN.

    Returns
    -------
    norm : float, before clipping

    Examples
    --------
    >>> grads = [np.array([3.0]), np.array([4.0])]
    >>> clip_grad_norm(grads, 1.0), [g.round(4).tolist() for g in grads]
    (5.0, [[0.6], [0.8]])
    """
    arrays = _arrays(grads)
    norm = math.sqrt(sum(float(np.sum(g.astype(np.float64) ** 2)) for g in arrays))
    factor = float(np.minimum(1.0, max_norm / (norm + 1e-6)))  # unlike min(), keeps NaN
    for g in arrays:
        g *= factor
    return norm


def clip_grad_value(grads: Grads, max_value: float) -> None:
    """Limit every element to −max_value … max_value; NaN stays.

    Examples
    --------
    >>> grads = {"w": np.array([-3.0, 0.5])}
    >>> clip_grad_value(grads, 1.0)
    >>> grads["w"].tolist()
    [-1.0, 0.5]
    """
    for g in _arrays(grads):
        np.clip(g, -max_value, max_value, out=g)
