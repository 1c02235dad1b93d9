"""Simple recurrent network without an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fastrnn import _check, _core
from fastrnn._call import Norm, infer, train
from fastrnn._variant import NONLINEARITIES, RNN_CELLS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class RNNGrads(NamedTuple):
    """Gradients of the weights of `rnn_vjp`, then of the gains; None where there was nothing."""

    weight_ih: NDArray[Any]
    weight_hh: NDArray[Any]
    bias_ih: NDArray[Any] | None
    bias_hh: NDArray[Any] | None
    gain_ih: NDArray[Any] | None = None
    gain_hh: NDArray[Any] | None = None


def rnn(
    x: ArrayLike,
    state: Any,
    weight_ih: NDArray[Any],
    weight_hh: NDArray[Any],
    bias_ih: NDArray[Any] | None = None,
    bias_hh: NDArray[Any] | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: NDArray[Any] | None = None,
    nonlinearity: str = "tanh",
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: float | None = None,
    reset_mask: ArrayLike | None = None,
    reset_state: Any = None,
    return_all_states: bool = False,
) -> Any:
    """Simple recurrent network over a batch of sequences, one layer in one direction.

    h = φ(weight_ih·x + bias_ih + weight_hh·h₋₁ + bias_hh).

    Parameters
    ----------
    x : array, [T, B, I], [B, T, I] with `batch_first`, or [T, I] for one sequence
        float32 or float64, any strides; or `fr.one_hot` of integers, which has no `dx`.
    state : array h_0, [B, H] ([H] for one sequence), or None for zeros
    weight_ih : array, [H, I]
    weight_hh : array, [H, H]
    bias_ih, bias_hh : array, [H], optional
    lengths, reverse, batch_first, out
        As for `lstm`.
    nonlinearity : "tanh", "relu", "sigmoid", "leaky_relu" or "identity"
        φ; relu's derivative at 0 is 0, the slope of leaky_relu below it 0.01.
    activations : sequence of one, optional
        In place of φ, instead of `nonlinearity`: each one of ONNX's names, or (name, alpha, beta).
    norm : Norm, optional
        Layer normalisation: gain_ih, gain_hh [H].
    clip, zoneout, reset_mask, reset_state, return_all_states
        As for `lstm`, with one state.

    Returns
    -------
    y : array, [T, B, H] in the layout of `x`
    h_n : array, [B, H]
    h_all : `y` itself, with `return_all_states`

    References
    ----------
    Elman 1990, "Finding Structure in Time".

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> y, h_n = F.rnn(np.ones((5, 2, 3)), None, np.ones((4, 3)), np.ones((4, 4)), nonlinearity="relu")
    >>> float(y[1, 0, 0])
    15.0
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "nonlinearity": nonlinearity,
        "clip": clip, "activations": activations, "norm": norm, "zoneout": zoneout,
        "reset_mask": reset_mask, "reset_state": reset_state, "return_all_states": return_all_states,
    }  # fmt: skip
    _check.choice(nonlinearity, dict.fromkeys(NONLINEARITIES), "nonlinearity")
    cell = RNN_CELLS.get(nonlinearity, _core.RNN_TANH)
    return infer(cell, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


def rnn_vjp(
    x: ArrayLike,
    state: Any,
    weight_ih: NDArray[Any],
    weight_hh: NDArray[Any],
    bias_ih: NDArray[Any] | None = None,
    bias_hh: NDArray[Any] | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: NDArray[Any] | None = None,
    nonlinearity: str = "tanh",
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: float | None = None,
    recurrent_dropout: float = 0.0,
    seed: Any = None,
    reset_mask: ArrayLike | None = None,
    reset_state: Any = None,
    return_all_states: bool = False,
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """`rnn` and its vector–Jacobian product: as `lstm_vjp`, with one array for the state.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> (y, h_n), pullback = F.rnn_vjp(np.ones((5, 2, 3)), None, np.ones((4, 3)), np.ones((4, 4)))
    >>> dx, dh_0, grads = pullback(np.ones_like(y))
    >>> grads._fields
    ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh', 'gain_ih', 'gain_hh')
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "nonlinearity": nonlinearity,
        "clip": clip, "activations": activations, "norm": norm, "zoneout": zoneout,
        "reset_mask": reset_mask, "reset_state": reset_state, "return_all_states": return_all_states,
        "recurrent_dropout": recurrent_dropout, "seed": seed,
        "checkpoint": checkpoint, "input_grad": input_grad,
    }  # fmt: skip
    _check.choice(nonlinearity, dict.fromkeys(NONLINEARITIES), "nonlinearity")
    cell = RNN_CELLS.get(nonlinearity, _core.RNN_TANH)
    return train(cell, RNNGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)
