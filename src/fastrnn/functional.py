"""Stateless recurrent layers and attention: arrays in, arrays and a pullback out.

For code that has its own arrays. Arguments come in the order of PyTorch's `lstm_cell`; weights have PyTorch's layout
and gate order (i, f, g, o and r, z, n) and may have any strides. The dtype is that of `x`, float32 or float64.

Examples
--------
>>> import numpy as np
>>> from fastrnn import functional as F
>>> rng = np.random.default_rng(0)
>>> x = rng.standard_normal((7, 2, 3))  # [T, B, I]
>>> weight_ih, weight_hh = rng.standard_normal((4 * 5, 3)), rng.standard_normal((4 * 5, 5))
>>> (y, (h_n, c_n)), pullback = F.lstm_vjp(x, None, weight_ih, weight_hh, lengths=[7, 4])
>>> dx, (dh_0, dc_0), grads = pullback(np.ones_like(y))
>>> y.shape, h_n.shape, dx.shape, grads.weight_ih.shape
((7, 2, 5), (2, 5), (7, 2, 3), (20, 3))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check, _core
from fastrnn._attention import attention, attention_vjp
from fastrnn._call import infer, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "GRUGrads",
    "LSTMGrads",
    "RNNGrads",
    "attention",
    "attention_vjp",
    "gru",
    "gru_vjp",
    "lstm",
    "lstm_vjp",
    "reorder_gates",
    "rnn",
    "rnn_vjp",
]


_RNN = {"tanh": _core.RNN_TANH, "relu": _core.RNN_RELU, "sigmoid": _core.RNN_SIGMOID}


class LSTMGrads(NamedTuple):
    """Gradients of the weights of `lstm_vjp`, in their order; None for a weight that was None."""

    weight_ih: NDArray[Any]
    weight_hh: NDArray[Any]
    bias_ih: NDArray[Any] | None
    bias_hh: NDArray[Any] | None
    weight_hr: NDArray[Any] | None


class GRUGrads(NamedTuple):
    """Gradients of the weights of `gru_vjp`, in their order; None for a bias that was None."""

    weight_ih: NDArray[Any]
    weight_hh: NDArray[Any]
    bias_ih: NDArray[Any] | None
    bias_hh: NDArray[Any] | None


class RNNGrads(NamedTuple):
    """Gradients of the weights of `rnn_vjp`, in their order; None for a bias that was None."""

    weight_ih: NDArray[Any]
    weight_hh: NDArray[Any]
    bias_ih: NDArray[Any] | None
    bias_hh: NDArray[Any] | None


def lstm(
    x: ArrayLike,
    state: Any,
    weight_ih: NDArray[Any],
    weight_hh: NDArray[Any],
    bias_ih: NDArray[Any] | None = None,
    bias_hh: NDArray[Any] | None = None,
    weight_hr: NDArray[Any] | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: NDArray[Any] | None = None,
) -> Any:
    """Long short-term memory over a batch of sequences, one layer in one direction.

    i, f, o = σ(z_i), σ(z_f), σ(z_o);  g = tanh(z_g);  c = f ⊙ c₋₁ + i ⊙ g;  h = o ⊙ tanh(c), with
    z = weight_ih·x + bias_ih + weight_hh·h₋₁ + bias_hh; with `weight_hr` h is projected: h = weight_hr·(o ⊙ tanh(c)).

    Parameters
    ----------
    x : array, [T, B, I], [B, T, I] with `batch_first`, or [T, I] for one sequence
        float32 or float64, any strides; or `fr.one_hot` of integers, which has no `dx`.
    state : tuple (h_0 [B, P], c_0 [B, H]) or None for zeros
        [P] and [H] for one sequence. P = H without a projection.
    weight_ih : array, [4·H, I]
    weight_hh : array, [4·H, P]
    bias_ih, bias_hh : array, [4·H], optional
    weight_hr : array, [P, H], optional
    lengths : integers, [B], optional
        0 … T for each row: outputs past it are zero, the final state is that at its end.
    reverse : bool
        Read each row from its end to its start; `y[t]` is the state after reading `x[t]`.
    batch_first : bool
        `x` and `y` are [B, T, ·].
    out : array, optional
        Takes `y`.

    Returns
    -------
    y : array, [T, B, P] in the layout of `x`
    (h_n, c_n) : arrays, [B, P] and [B, H]

    Raises
    ------
    ValueError, TypeError
        An argument doesn't fit; the message names it.

    References
    ----------
    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"; Sak et al. 2014 for the projection.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> y, (h_n, c_n) = F.lstm(np.ones((5, 3)), None, np.ones((8, 3)), np.ones((8, 2)))
    >>> y.shape, h_n.shape
    ((5, 2), (2,))
    """
    options = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
    return infer(_core.LSTM, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr), options)


def lstm_vjp(
    x: ArrayLike,
    state: Any,
    weight_ih: NDArray[Any],
    weight_hh: NDArray[Any],
    bias_ih: NDArray[Any] | None = None,
    bias_hh: NDArray[Any] | None = None,
    weight_hr: NDArray[Any] | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    out: NDArray[Any] | None = None,
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """`lstm` and its vector–Jacobian product.

    Parameters
    ----------
    x, state, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, lengths, reverse, batch_first, out
        As for `lstm`. `x` and the weights are held by reference: don't change them before the pullback has run.
    checkpoint : int, optional
        Keep the outputs, and the cell states every `checkpoint` steps (rounded up to whole chunks of the schedule), and
        compute the rest again in the pullback: less memory, about a third more arithmetic, the same bits.
    input_grad : bool
        Compute dx; else it is None.

    Returns
    -------
    outputs
        What `lstm` returns; `y` is read-only, for it is saved memory.
    pullback : callable
        `pullback(dy=None, dstate=None, *, out=None)` returns `(dx, (dh_0, dc_0), grads)`, grads an `LSTMGrads`; a
        gradient that is None counts as zero; `out` takes dx. It works in place, so it runs once; a second call raises
        RuntimeError.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> (y, _), pullback = F.lstm_vjp(np.ones((5, 3)), None, np.ones((8, 3)), np.ones((8, 2)))
    >>> dx, (dh_0, dc_0), grads = pullback(np.ones_like(y))
    >>> dx.shape, grads.weight_hh.shape, grads.bias_ih is None
    ((5, 3), (8, 2), True)
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "checkpoint": checkpoint, "input_grad": input_grad,
    }  # fmt: skip
    return train(_core.LSTM, LSTMGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr), options)


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

    Returns
    -------
    y : array, [T, B, H] in the layout of `x`
    h_n : array, [B, H]

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
    options = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
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
        "checkpoint": checkpoint, "input_grad": input_grad,
    }  # fmt: skip
    cell = _core.GRU_AFTER if reset_after else _core.GRU_BEFORE
    return train(cell, GRUGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


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
    nonlinearity : "tanh", "relu" or "sigmoid"
        φ; relu's derivative at 0 is 0.

    Returns
    -------
    y : array, [T, B, H] in the layout of `x`
    h_n : array, [B, H]

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
    options = {"lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out}
    cell = _check.choice(nonlinearity, _RNN, "nonlinearity")
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
    ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "checkpoint": checkpoint, "input_grad": input_grad,
    }  # fmt: skip
    cell = _check.choice(nonlinearity, _RNN, "nonlinearity")
    return train(cell, RNNGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


def reorder_gates(a: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """Put the blocks of a weight or bias into another gate order.

    Parameters
    ----------
    a : array, [G·H, ...]
    source, target : str
        One letter for each gate, the same letters in both: "ifog" and "ifgo", "rzn" and "zrn".

    Returns
    -------
    array, [G·H, ...]
        A copy.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> F.reorder_gates(np.array([1, 2, 3, 4]), "ifog", "ifgo")
    array([1, 2, 4, 3])
    """
    return _check.gate_blocks(a, source, target)[[source.index(g) for g in target]].reshape(np.shape(a))
