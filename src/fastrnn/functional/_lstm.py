"""Long short-term memory without an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fastrnn import _core
from fastrnn._call import Norm, infer, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class LSTMGrads(NamedTuple):
    """Gradients of the weights of `lstm_vjp`, then of what a variant has; None where there was nothing."""

    weight_ih: NDArray[Any]
    weight_hh: NDArray[Any]
    bias_ih: NDArray[Any] | None
    bias_hh: NDArray[Any] | None
    weight_hr: NDArray[Any] | None
    peephole: NDArray[Any] | None = None
    gain_ih: NDArray[Any] | None = None
    gain_hh: NDArray[Any] | None = None
    gain_c: NDArray[Any] | None = None
    bias_c: NDArray[Any] | None = None


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
    peephole: NDArray[Any] | None = None,
    coupled: bool = False,
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: float | tuple[float, float] | None = None,
    reset_mask: ArrayLike | None = None,
    reset_state: Any = None,
    return_all_states: bool = False,
) -> Any:
    """Long short-term memory over a batch of sequences, one layer in one direction.

    i, f, o = σ(z_i), σ(z_f), σ(z_o);  g = tanh(z_g);  c = f ⊙ c₋₁ + i ⊙ g;  h = o ⊙ tanh(c), with
    z = weight_ih·x + bias_ih + weight_hh·h₋₁ + bias_hh; with `weight_hr` h is projected: h = weight_hr·(o ⊙ tanh(c)).
    `fr.LSTM` has the equations of the variants, and where they come from.

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
    peephole : array, [3·H] for i, f, o ([2·H] for i, o when coupled), optional
        Lets the gates see c: p ⊙ c₋₁ is added to z_i and z_f, p ⊙ c to z_o.
    coupled : bool
        f = 1 − i. Weights and biases have 3·H rows, in the order i, g, o.
    clip : float, optional
        z is limited to [−clip, clip] before i, f, g and o.
    activations : sequence of three, optional
        In place of σ, of the tanh of g, and of the tanh of c: each one of ONNX's names, or (name, alpha, beta).
    norm : Norm, optional
        Layer normalisation: gain_ih, gain_hh [4·H] ([3·H] when coupled); gain_c, bias_c [H] for c in h, or None.
    zoneout : float, or a pair for h and c, optional
        The rate at which a number keeps its old value; here its expectation.
    reset_mask : bool, [T, B] in the layout of `x`, optional
        Where it is true, the state of a row becomes zero, or `reset_state`, before `x[t]` is read. Reading in reverse,
        the borders are the same: between `x[t − 1]` and `x[t]`.
    reset_state : as `state`, optional
    return_all_states : bool
        Return the states of every step, too.

    Returns
    -------
    y : array, [T, B, P] in the layout of `x`
    (h_n, c_n) : arrays, [B, P] and [B, H]
    (h_all, c_all) : arrays, [T, B, P] (`y` itself) and [T, B, H], with `return_all_states`

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

    With peepholes and layer normalisation, whose gains come as `F.Norm`:

    >>> norm = F.Norm(np.ones(8), np.ones(8), gain_c=np.ones(2), bias_c=np.zeros(2))
    >>> options = {"peephole": np.zeros(6), "norm": norm, "return_all_states": True}
    >>> y, state_n, (h, c) = F.lstm(np.ones((5, 3)), None, np.ones((8, 3)), np.ones((8, 2)), **options)
    >>> c.shape
    (5, 2)
    """
    options = {
        "lengths": lengths, "reverse": reverse, "batch_first": batch_first, "out": out,
        "peephole": peephole, "coupled": coupled,
        "clip": clip, "activations": activations, "norm": norm, "zoneout": zoneout,
        "reset_mask": reset_mask, "reset_state": reset_state, "return_all_states": return_all_states,
    }  # fmt: skip
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
    peephole: NDArray[Any] | None = None,
    coupled: bool = False,
    clip: float | None = None,
    activations: Any = None,
    norm: Norm | None = None,
    zoneout: float | tuple[float, float] | None = None,
    recurrent_dropout: float = 0.0,
    seed: Any = None,
    reset_mask: ArrayLike | None = None,
    reset_state: Any = None,
    return_all_states: bool = False,
    checkpoint: int | None = None,
    input_grad: bool = True,
) -> tuple[Any, Callable[..., Any]]:
    """`lstm` and its vector–Jacobian product.

    Parameters
    ----------
    x, state, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, lengths, reverse, batch_first, out
        As for `lstm`. `x` and the weights are held by reference: don't change them before the pullback has run.
    peephole, coupled, clip, activations, norm, zoneout, reset_mask, reset_state, return_all_states
        As for `lstm`; zoneout by masks.
    recurrent_dropout : float
        The rate at which a number of h is dropped where weight_hh multiplies it, by one mask for the whole sequence.
    seed : None, int or numpy.random.Generator
        For the masks.
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
        `pullback(dy=None, dstate=None, dstates=None, *, out=None)` returns `(dx, (dh_0, dc_0), grads)`, grads an
        `LSTMGrads`; a gradient that is None counts as zero; `dstates` is (dh_all, dc_all), with `return_all_states`;
        `out` takes dx. It works in place, so it runs once; a second call raises RuntimeError.

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
        "peephole": peephole, "coupled": coupled,
        "clip": clip, "activations": activations, "norm": norm, "zoneout": zoneout,
        "reset_mask": reset_mask, "reset_state": reset_state, "return_all_states": return_all_states,
        "recurrent_dropout": recurrent_dropout, "seed": seed,
        "checkpoint": checkpoint, "input_grad": input_grad,
    }  # fmt: skip
    return train(_core.LSTM, LSTMGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr), options)
