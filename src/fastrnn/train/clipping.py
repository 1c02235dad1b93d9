"""Gradient clipping, by norm and by value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn.train.arrays import gradients, named_arrays

__all__ = ["clip_grad_norm", "clip_grad_value", "nonfinite_gradients"]


def nonfinite_gradients(model: Any) -> list[str]:
    """Return the names of the parameters whose gradient holds a NaN or an infinity."""
    return [name for name, (_, g) in named_arrays(model).items() if not np.isfinite(g).all()]


def clip_grad_norm(model: Any, max_norm: float, *, error_if_nonfinite: bool = True) -> float:
    """Scale all gradients so that their joint Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    model
        A layer or model, or a dict of name -> (parameter, gradient).
    max_norm : float
        Largest norm allowed; ``inf`` measures without scaling.
    error_if_nonfinite : bool
        What a NaN or an infinity in a gradient does. True raises, so that the following ``step()`` can't
        carry it into the weights. With False the norm is returned and the gradients stay as they are: skip
        the step yourself (``if math.isfinite(norm): opt.step()``), as ``fr.fit`` does.

    Returns
    -------
    float
        The norm before scaling, summed in float64: the same bits for any number of threads.

    Raises
    ------
    FloatingPointError
        The norm is not finite; the message names the parameters.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> g = np.array([3.0, 4.0])
    >>> fr.optim.clip_grad_norm({"p": (np.zeros(2), g)}, 1.0)
    5.0
    >>> g.round(4)
    array([0.6, 0.8])
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm: expected a number > 0, got {max_norm!r}")
    found = gradients(model)
    total = _core.norm_squared(found)
    norm = math.sqrt(total) if total == total else math.nan
    if not math.isfinite(norm):
        if error_if_nonfinite:
            raise FloatingPointError(
                f"the norm of the gradients is {norm}; not finite are the gradients of "
                f"{', '.join(nonfinite_gradients(model)) or 'none (their squares overflow)'}"
            )
        return norm
    factor = max_norm / (norm + 1e-6)  # PyTorch's
    if factor < 1:
        _core.scale_all(found, factor)
    return norm


def clip_grad_value(model: Any, max_value: float) -> None:
    """Limit every entry of every gradient to [-max_value, max_value]. NaN stays NaN.

    Parameters
    ----------
    model
        A layer or model, or a dict of name -> (parameter, gradient).
    max_value : float

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> g = np.array([-3.0, 0.25])
    >>> fr.optim.clip_grad_value({"p": (np.zeros(2), g)}, 1.0)
    >>> g
    array([-1.  ,  0.25])
    """
    if not max_value > 0:
        raise ValueError(f"max_value: expected a number > 0, got {max_value!r}")
    for _, g in named_arrays(model).values():
        _core.clip(g, -max_value, max_value)
