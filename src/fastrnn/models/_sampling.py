"""Choose a token from logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sample_token(
    logits: NDArray[Any],
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    banned: int | None = None,
) -> int:
    """Draw a token.

    Parameters
    ----------
    logits : [V]
    rng : Generator
        Draws one number, also at temperature 0.
    temperature, top_k, top_p
        Applied in this order; ties at a limit are kept in the order of the tokens.
    banned : int, optional
        A token that is never drawn (unless it is the only one).

    Examples
    --------
    >>> import numpy as np
    >>> sample_token(np.array([0.0, 3.0, 1.0]), np.random.default_rng(0), temperature=0.0)
    1
    """
    z = np.asarray(logits, np.float64).copy()
    if not np.isfinite(z).all():
        raise FloatingPointError("the model's logits are not finite; its weights are probably broken")
    if banned is not None and len(z) > 1:
        z[banned] = -np.inf
    u = rng.random()
    if temperature == 0:
        return int(np.argmax(z))
    order = np.argsort(-z, kind="stable")
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, which is what it means
        p = np.exp((z[order] - z[order[0]]) / temperature)
    if top_k is not None:
        p[top_k:] = 0
    p /= p.sum()
    if top_p is not None:
        p[1:][np.cumsum(p)[:-1] >= top_p] = 0
    cumulative = np.cumsum(p)
    choice = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    return int(order[min(choice, np.flatnonzero(p)[-1])])
