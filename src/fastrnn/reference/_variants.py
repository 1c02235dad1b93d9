"""What the variants of the recurrent cells share: activation functions, limits, normalised products, peepholes.

The functions are those that ONNX's LSTM, GRU and RNN may be given, each with up to two numbers α and β.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array
from .activations import leaky_relu, leaky_relu_derivative, sigmoid, tanh_derivative
from .layers import layer_norm_vjp


class Norm(NamedTuple):
    """Gains of a cell with layer normalisation; ``gain_c`` and ``bias_c`` are the LSTM's, None leaves c as it is."""

    gain_ih: Array
    gain_hh: Array
    gain_c: Array | None = None
    bias_c: Array | None = None


class Function(NamedTuple):
    """A function of the pre-activation z, element by element, and its derivative, of z and of the value at z."""

    f: Callable[[Array], Array]
    derivative: Callable[[Array, Array], Array]


def _where(condition: Array, z: Array) -> Array:
    """1 where the condition holds, else 0; NaN for NaN."""
    return np.where(np.isnan(z), z, condition)


# name: (f(z, α, β), f'(z, y = f(z), α, β), α and β where none are given). At 0 a derivative is the one from the left.
ACTIVATIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array], float, float]] = {
    "affine": (lambda z, a, b: a * z + b, lambda z, y, a, b: _where(z == z, z) * a, 1.0, 0.0),
    "relu": (lambda z, a, b: np.maximum(z, 0), lambda z, y, a, b: _where(z > 0, z), 0.0, 0.0),
    "leakyrelu": (lambda z, a, b: leaky_relu(z, a), lambda z, y, a, b: leaky_relu_derivative(z, a), 0.01, 0.0),
    "thresholdedrelu": (lambda z, a, b: np.where(z < a, 0, z), lambda z, y, a, b: _where(z >= a, z), 1.0, 0.0),
    "scaledtanh": (lambda z, a, b: a * np.tanh(b * z), lambda z, y, a, b: a * b * tanh_derivative(b * z), 1.0, 1.0),
    "hardsigmoid": (
        lambda z, a, b: np.clip(a * z + b, 0, 1),
        lambda z, y, a, b: _where((y > 0) & (y < 1), z) * a,
        0.2,
        0.5,
    ),
    "elu": (
        lambda z, a, b: np.where(z > 0, z, a * np.expm1(np.minimum(z, 0))),
        lambda z, y, a, b: np.where(z > 0, 1, a * np.exp(np.minimum(z, 0))),
        1.0,
        0.0,
    ),
    "softsign": (lambda z, a, b: z / (1 + abs(z)), lambda z, y, a, b: (1 / (1 + abs(z))) ** 2, 0.0, 0.0),
    "softplus": (
        lambda z, a, b: np.maximum(z, 0) + np.log1p(np.exp(-abs(z))),
        lambda z, y, a, b: sigmoid(z),
        0.0,
        0.0,
    ),
    "tanh": (lambda z, a, b: np.tanh(z), lambda z, y, a, b: 1 - y**2, 0.0, 0.0),
    "sigmoid": (lambda z, a, b: sigmoid(z), lambda z, y, a, b: y * (1 - y), 0.0, 0.0),
    "identity": (lambda z, a, b: z, lambda z, y, a, b: _where(z == z, z), 0.0, 0.0),
}


def activation(spec: Any, clip: float | None = None) -> Function:
    """Return the function that ``spec`` names, of z limited to [−clip, clip].

    Parameters
    ----------
    spec : str or (str, alpha) or (str, alpha, beta)
        A name of ONNX's; upper case and underscores make no difference.
    clip : float, optional
        The derivative is 0 where z is beyond it.

    Examples
    --------
    >>> f, derivative = activation(("LeakyRelu", 0.5), clip=3.0)
    >>> z = np.array([-2.0, 4.0])
    >>> f(z).tolist(), derivative(z, f(z)).tolist()
    ([-1.0, 3.0], [0.5, 0.0])
    """
    name, *numbers = (spec,) if isinstance(spec, str) else spec
    key = name.lower().replace("_", "")
    if key not in ACTIVATIONS or len(numbers) > 2:
        raise ValueError(f"activations: expected one of {', '.join(ACTIVATIONS)}, or (name, alpha, beta), got {spec!r}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip: expected a number above 0, got {clip!r}")
    f, derivative, *given = ACTIVATIONS[key]
    alpha, beta = (float(n) for n in (*numbers, *given[len(numbers) :]))

    def limited(z: Array) -> Array:
        return z if clip is None else np.clip(z, -clip, clip)

    def slope(z: Array, y: Array) -> Array:
        dy_dz = derivative(limited(z), y, alpha, beta).astype(z.dtype, copy=False)
        return dy_dz if clip is None else np.where(abs(z) > clip, 0, dy_dz)

    return Function(lambda z: f(limited(z), alpha, beta).astype(z.dtype, copy=False), slope)


def functions(activations: Any, usual: tuple[Any, ...], clip: float | None) -> tuple[Function, ...]:
    """The functions of a cell in ONNX's order; ``clip`` limits what comes before each gate: the first two at most."""
    specs = usual if activations is None else tuple(activations)
    if len(specs) != len(usual):
        raise ValueError(f"activations: expected {len(usual)} of them, got {activations!r}")
    return tuple(activation(spec, clip if k < 2 else None) for k, spec in enumerate(specs))


def affine_vjp(
    x: Array, W: Array, b: Array | None = None, gain: Array | None = None
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array | None]]]:
    """Return W x + b, or with a gain gain ⊙ N(W x) + b, and its pullback ``dy`` → ``(dx, dW, db, dgain)``.

    Examples
    --------
    >>> y, pullback = affine_vjp(np.ones((1, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones(2))
    >>> y.tolist(), pullback(np.ones((1, 2)))[0].tolist()
    ([[4.0, 8.0]], [[4.0, 6.0]])
    """
    y, normalise = x @ W.T, None
    if gain is not None:
        y, normalise = layer_norm_vjp(y, gain)

    def pullback(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        db, dgain = dy.sum(axis=0), None
        if normalise is not None:
            dy, grads = normalise(dy)
            dgain = grads.weight
        return dy @ W, dy.T @ x, db, dgain

    return y if b is None else y + b, pullback


def masked(h: Array, mask: Array | None) -> Array:
    """h ⊙ mask, or h."""
    return h if mask is None else h * mask


def with_peephole(z: Array, p: Array | None, c: Array) -> Array:
    """z + p ⊙ c, or z."""
    return z if p is None else z + p * c
