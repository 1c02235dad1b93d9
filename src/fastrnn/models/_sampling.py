"""Choose a token from logits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sample_token(
    logits: NDArray[Any],
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    banned: int | list[int] | None = None,
) -> int:
    """Draw a token.

    Parameters
    ----------
    logits : [V]
    rng : Generator
        Draws one number, also at temperature 0.
    temperature, top_k, top_p
        Applied in this order; ties at a limit are kept in the order of the tokens.
    banned : int or list of int, optional
        Tokens that are never drawn (unless there are no others).

    Examples
    --------
    >>> import numpy as np
    >>> sample_token(np.array([0.0, 3.0, 1.0]), np.random.default_rng(0), temperature=0.0)
    1
    """
    z = np.asarray(logits, np.float64).copy()
    if not np.isfinite(z).all():
        raise FloatingPointError("the model's logits are not finite; its weights are probably broken")
    if banned is not None and len(z) > np.size(banned):
        z[banned] = -np.inf
    u = rng.random()
    if temperature == 0:
        return int(np.argmax(z))
    order = _likeliest(z, top_k, top_p)
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, which is what it means
        p = np.exp((z[order] - z.max()) / temperature)
    p /= p.sum()
    if top_p is not None:
        p[1:][np.cumsum(p)[:-1] >= top_p] = 0
    cumulative = np.cumsum(p)
    choice = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    return int(order[min(choice, np.flatnonzero(p)[-1])])


def _likeliest(z: NDArray[Any], top_k: int | None, top_p: float | None) -> NDArray[Any]:
    """The `top_k` tokens or all, by falling logits where a limit needs that: sorting many takes longer than a step."""
    if top_k is not None and top_k < len(z):
        least = np.partition(z, len(z) - top_k)[len(z) - top_k]
        some = np.flatnonzero(z >= least)  # with ties
        return some[np.argsort(-z[some], kind="stable")[:top_k]]
    return np.arange(len(z)) if top_p is None else np.argsort(-z, kind="stable")


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool | str):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None


def sampling_options(length: int, temperature: float, top_k: int | None, top_p: float | None) -> dict[str, Any]:
    """The keyword arguments of `sample_token`, looked at."""
    if _check.integer(length, "length") < 0:
        raise ValueError(f"length: expected >= 0, got {length!r}")
    if not 0 <= _number(temperature, "temperature") < math.inf:
        raise ValueError(f"temperature: expected a finite number >= 0, got {temperature!r}")
    if top_k is not None and _check.integer(top_k, "top_k") < 1:
        raise ValueError(f"top_k: expected >= 1, got {top_k!r}")
    if top_p is not None and not 0 < _number(top_p, "top_p") <= 1:
        raise ValueError(f"top_p: expected a probability in (0, 1], got {top_p!r}")
    return {"temperature": temperature, "top_k": top_k, "top_p": top_p}
