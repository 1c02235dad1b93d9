"""Many small steps in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn import GRU, LSTM, RNN, Linear, Sequential

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["online"]


def online(model: Sequential, x: ArrayLike, target: ArrayLike, *, lr: float) -> NDArray[np.float64]:
    """Train a small tagger by stochastic gradient descent: one step for each item of `x`, in order, in one call.

    The same steps as a loop over `vjp`, `fr.losses.bce_with_logits`, the pullback and `fr.optim.SGD(lr)`, without
    the 15 µs that such a loop spends in Python a step: for a model of 16 units that is most of the time.

    Parameters
    ----------
    model : Sequential
        A recurrent layer (RNN, LSTM or GRU; one layer, one direction, time first) and a Linear. Changed in place.
    x : array, [N, T, B, input_size]
        N batches of B sequences of T steps, of the model's dtype.
    target : array, [N, T, B, out_features]
        0 … 1; the loss of a batch is the mean binary cross entropy of the logits.
    lr : float
        The rate of learning.

    Returns
    -------
    losses : array of float64, [N]
        Of each batch, before its step.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.random.default_rng(0).integers(0, 2, (2000, 8, 1, 1)).astype(np.float32)
    >>> model = fr.Sequential(fr.RNN(1, 4, seed=0), fr.Linear(4, 1, seed=1))
    >>> before = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)  # the input of the step before
    >>> losses = fr.train.online(model, x, before, lr=1.0)
    >>> bool(losses[-100:].mean() < 0.01 * losses[:100].mean())
    True
    """
    layers = list(model) if isinstance(model, Sequential) else []
    shape = [type(layer) for layer in layers]
    if len(layers) != 2 or shape[0] not in (RNN, LSTM, GRU) or shape[1] is not Linear:
        raise TypeError(
            f"model: expected fr.Sequential of an RNN, LSTM or GRU and a Linear, got {_check.describe(model)}"
            + (f" of {', '.join(t.__name__ for t in shape)}" if shape else "")
        )
    rnn, linear = cast("Any", layers[0]), cast("Any", layers[1])
    for name, plain in (("num_layers", 1), ("bidirectional", False), ("batch_first", False), ("proj_size", 0)):
        if getattr(rnn, name) != plain:
            raise ValueError(f"model: expected {name}={plain}, got {getattr(rnn, name)}")
    _check.same_size(linear.in_features, rnn.hidden_size, "model: in_features", "the recurrent layer below")
    inputs = np.ascontiguousarray(_check.features(x, rnn.dtype, rnn.input_size, "input_size"))
    if inputs.ndim != 4 or inputs.shape[1] == 0:
        raise ValueError(f"x: expected [N, T, B, {rnn.input_size}], got shape {inputs.shape}")
    wanted = (*inputs.shape[:3], linear.out_features)
    targets = np.ascontiguousarray(_check.floats(target, rnn.dtype, "target", layer=True))
    if targets.shape != wanted:
        raise ValueError(f"target: expected shape {wanted}, to fit x and the model, got {targets.shape}")
    _check.probabilities(targets, "target")
    rate = _check.at_least_zero(lr, "lr")
    losses = np.empty(len(inputs))
    p: Any = rnn.params
    weights = tuple(p.get(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    _core.online_sgd(
        rnn._cell, inputs, targets, weights, linear.params["weight"], linear.params.get("bias"), rate, losses
    )  # fmt: skip
    return losses
