"""Gated recurrent unit without an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fastrnn import _core
from fastrnn._call import Norm, infer, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class GRUGrads(NamedTuple):
    """Gradients of the weights of `gru_vjp`, then of the gains; None where there was nothing."""

    weight_ih: NDArray[Any]
    weight_hh: NDArray[Any]
    bias_ih: NDArray[Any] | None
    bias_hh: NDArray[Any] | None
    gain_ih: NDArray[Any] | None = None
    gain_hh: NDArray[Any] | None = None


def gru(
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
    reset_after: bool = True,
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: float | None = None,
    reset_mask: ArrayLike | None = None,
    reset_state: Any = None,
    return_all_states: bool = False,
) -> Any:
    """Gated recurrent unit over a batch of sequences, one layer in one direction.

    r, z = σ(·), σ(·);  h = (1 − z) ⊙ n + z ⊙ h₋₁, with
    n = tanh(W_n·x + b_wn + r ⊙ (R_n·h₋₁ + b_rn)), or with `reset_after=False`
    n = tanh(W_n·x + b_wn + R_n·(r ⊙ h₋₁) + b_rn).

    Parameters
    ----------
    x : array, [T, B, I], [B, T, I] with `batch_first`, or [T, I] for one sequence
        float32 or float64, any strides; or `fr.one_hot` of integers, which has no `dx`.
    state : array h_0, [B, H] ([H] for one sequence), or None for zeros
    weight_ih : array, [3·H, I]
    weight_hh : array, [3·H, H]
    bias_ih, bias_hh : array, [3·H], optional
    lengths, reverse, batch_first, out
        As for `lstm`.
    reset_after : bool
        Apply the reset gate after the recurrent product, as PyTorch and cuDNN do, or before it, as in the paper.
    activations : sequence of two, optional
        In place of σ and of the tanh of n: each one of ONNX's names, or (name, alpha, beta).
    norm : Norm, optional
        Layer normalisation: gain_ih, gain_hh [3·H]; r and z are normalised together, n alone.
    clip, zoneout, reset_mask, reset_state, return_all_states
        As for `lstm`, with one state.

    Returns
    -------
    y : array, [T, B, H] in the layout of `x`
    h_n : array, [B, H]
    h_all : `y` itself, with `return_all_states`

    References
    ----------
    Cho et al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder".

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> y, h_n = F.gru(np.ones((5, 2, 3)), None, np.ones((12, 3)), np.ones((12, 4)))
    >>> y.shape, h_n.shape
    ((5, 2, 4), (2, 4))
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "clip": clip, "activations": activations, "norm": norm, "zoneout": zoneout,
        "reset_mask": reset_mask, "reset_state": reset_state, "return_all_states": return_all_states,
    }  # fmt: skip
    cell = _core.GRU_AFTER if reset_after else _core.GRU_BEFORE
    return infer(cell, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


def gru_vjp(
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
    reset_after: bool = True,
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
    """`gru` and its vector–Jacobian product: as `lstm_vjp`, with one array for the state.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> (y, h_n), pullback = F.gru_vjp(np.ones((5, 2, 3)), None, np.ones((12, 3)), np.ones((12, 4)))
    >>> dx, dh_0, grads = pullback(dstate=np.ones_like(h_n))
    >>> dx.shape, dh_0.shape
    ((5, 2, 3), (2, 4))
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "clip": clip, "activations": activations, "norm": norm, "zoneout": zoneout,
        "reset_mask": reset_mask, "reset_state": reset_state, "return_all_states": return_all_states,
        "recurrent_dropout": recurrent_dropout, "seed": seed,
        "checkpoint": checkpoint, "input_grad": input_grad,
    }  # fmt: skip
    cell = _core.GRU_AFTER if reset_after else _core.GRU_BEFORE
    return train(cell, GRUGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)
