"""Stateless recurrent layers: arrays in, arrays and a pullback out.

For code that has its own arrays. Arguments come in the order of PyTorch's `lstm_cell`; weights have PyTorch's layout and
gate order (i, f, g, o and r, z, n) and may have any strides. The dtype is that of `x`, float32 or float64.

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

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "GRUGrads",
    "LSTMGrads",
    "RNNGrads",
    "gru",
    "gru_vjp",
    "lstm",
    "lstm_vjp",
    "reorder_gates",
    "rnn",
    "rnn_vjp",
]


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


_RNN = {"tanh": _core.RNN_TANH, "relu": _core.RNN_RELU, "sigmoid": _core.RNN_SIGMOID}
_GATES = {_core.LSTM: 4, _core.GRU_AFTER: 3, _core.GRU_BEFORE: 3}
Weights = tuple[Any, Any, Any, Any, Any]


class _Call:
    """One call of one layer-direction: checked arguments, and the shapes of what comes out."""

    def __init__(
        self, cell: int, x: Any, state: Any, weights: Weights, lengths: Any, batch_first: bool, out: Any
    ) -> None:
        x = _check.sequence(x, None, batch_first)
        self.unbatched = x.ndim == 2
        self.batch_first = batch_first and not self.unbatched
        self.x = x[:, None] if self.unbatched else x
        self.dtype = x.dtype
        self.cell = cell
        self.weights = _check.recurrent_weights(weights, _GATES.get(cell, 1), self.x.shape[2], self.dtype)
        steps, batch = self.x.shape[1::-1] if self.batch_first else self.x.shape[:2]
        hidden = self.weights[1].shape[0] // _GATES.get(cell, 1)
        self.h_shape = (1, batch, self.weights[1].shape[1])
        self.c_shape = (1, batch, hidden)
        self.lengths = None if lengths is None else _check.lengths(np.reshape(lengths, -1), batch, steps)
        self.h_0, self.c_0 = self.states(state, "state")
        shape = (*self.x.shape[:2], self.h_shape[2])
        if out is None:
            self.y = _core.empty(shape, self.dtype)
        else:
            out = _check.output(out, shape[:1] + shape[2:] if self.unbatched else shape, self.dtype, "out")
            self.y = out[:, None] if self.unbatched else out

    @property
    def is_lstm(self) -> bool:
        return bool(self.cell == _core.LSTM)

    def states(self, state: Any, name: str) -> tuple[Any, Any]:
        """(h, c) as [1, B, ·], c None but for the LSTM."""
        if not self.is_lstm:
            return _check.state(state, self.h_shape, self.unbatched, self.dtype, name, 1), None
        h, c = _check.pair(state, name)
        return (
            _check.state(h, self.h_shape, self.unbatched, self.dtype, f"{name}[0]", 1),
            _check.state(c, self.c_shape, self.unbatched, self.dtype, f"{name}[1]", 1),
        )

    def as_state(self, h: NDArray[Any], c: NDArray[Any] | None) -> Any:
        """What the caller gets: without the axis of directions, and without that of one sequence."""
        h = h[0, 0] if self.unbatched else h[0]
        if c is None:
            return h
        return h, (c[0, 0] if self.unbatched else c[0])

    def as_output(self, y: NDArray[Any]) -> NDArray[Any]:
        return y[:, 0] if self.unbatched else y

    def run(self, reverse: bool, save: bool, checkpoint: int | None = None) -> tuple[Any, Any]:
        h_n = np.empty(self.h_shape, self.dtype)
        c_n = np.empty(self.c_shape, self.dtype) if self.is_lstm else None
        saved = _core.forward(
            self.cell, self.x, (self.weights,), self.h_0, self.c_0, self.lengths, self.batch_first, bool(reverse),
            self.y, h_n, c_n, save, checkpoint or 0,
        )  # fmt: skip
        return (self.as_output(self.y), self.as_state(h_n, c_n)), saved


def _infer(cell: int, x: Any, state: Any, weights: Weights, options: dict[str, Any]) -> Any:
    call = _Call(cell, x, state, weights, options["lengths"], options["batch_first"], options["out"])
    return call.run(options["reverse"], save=False)[0]


def _train(
    cell: int, grads_type: type, x: Any, state: Any, weights: Weights, options: dict[str, Any]
) -> tuple[Any, Callable[..., Any]]:
    call = _Call(cell, x, state, weights, options["lengths"], options["batch_first"], options["out"])
    checkpoint = _check.optional_positive_int(options["checkpoint"], "checkpoint")
    outputs, saved = call.run(options["reverse"], save=True, checkpoint=checkpoint)
    outputs[0].flags.writeable = False  # it is saved memory
    input_grad = options["input_grad"]
    spent = []

    def pullback(dy: Any = None, dstate: Any = None, *, out: Any = None) -> tuple[Any, Any, Any]:
        if spent:
            raise RuntimeError(_check.pullback_spent(f"functional.{grads_type.__name__[:-5].lower()}_vjp"))
        if dy is not None:
            dy = _check.gradient(dy, call.dtype, outputs[0].shape)
            dy = dy[:, None] if call.unbatched else dy
        dh_n, dc_n = call.states(dstate, "dstate")
        dx = None
        if out is not None:
            dx = _check.output(out, call.x[:, 0].shape if call.unbatched else call.x.shape, call.dtype, "out")
            dx = dx[:, None] if call.unbatched else dx
        spent.append(True)
        dh_0 = np.empty(call.h_shape, call.dtype)
        dc_0 = np.empty(call.c_shape, call.dtype) if call.is_lstm else None
        grads = tuple(None if w is None else np.zeros(w.shape, call.dtype) for w in call.weights)
        dx = saved.backward(dy, dh_n, dc_n, (grads,), input_grad, dh_0, dc_0, False, dx)
        dx = None if dx is None else call.as_output(dx)
        return dx, call.as_state(dh_0, dc_0), grads_type(*grads[: len(grads_type._fields)])

    return outputs, pullback


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
        float32 or float64, any strides.
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
    return _infer(_core.LSTM, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr), options)


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
        `pullback(dy=None, dstate=None, *, out=None)` returns `(dx, (dh_0, dc_0), grads)`, grads an `LSTMGrads`; a gradient
        that is None counts as zero; `out` takes dx. It works in place, so it runs once; a second call raises
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
    return _train(_core.LSTM, LSTMGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr), options)


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
        float32 or float64, any strides.
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
    return _infer(cell, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


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
    return _train(cell, GRUGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


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
        float32 or float64, any strides.
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
    return _infer(cell, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


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
    return _train(cell, RNNGrads, x, state, (weight_ih, weight_hh, bias_ih, bias_hh, None), options)


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
