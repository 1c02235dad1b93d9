"""Beam search over one sentence, and draws of a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS = (1 << 64) - 1


def uniform(seed: int, counter: int) -> float:
    """Number ``counter`` of a sequence of uniform ones in [0, 1): splitmix64 (Steele, Lea & Flood 2014).

    Examples
    --------
    >>> uniform(0, 0)
    0.8833108082136426
    """
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & _BITS
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _BITS
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def draw(logits: Any, u: float, temperature: float, top_k: int | None = None, top_p: float | None = None) -> int:
    """A token from softmax(logits / temperature), chosen by the uniform number u.

    Without limits tokens are walked through in their order. With ``top_k`` only the k most probable count, with
    ``top_p`` of these the fewest whose share is at least that; they are walked through in descending probability.

    Examples
    --------
    >>> draw([0.0, 2.0, 1.0], 0.5, 1.0), draw([0.0, 2.0, 1.0], 0.99, 1.0, top_k=2)
    (1, 2)
    """
    z = np.asarray(logits)
    if top_k is not None and top_k >= len(z):
        top_k = None
    p = np.exp((z - z.max()) / temperature)
    order = np.arange(len(p))
    if top_k is not None or top_p is not None:
        order = np.argsort(-p, kind="stable")[:top_k]
        before = np.concatenate([[0.0], np.cumsum(p[order])])
        if top_p is not None:
            order = order[before[:-1] < top_p * before[-1]]
    cumulative = np.cumsum(p[order])
    return int(order[np.searchsorted(cumulative, u * cumulative[-1], side="right")])


def beam_search(
    next_log_p: Callable[[list[int]], tuple[NDArray[Any], NDArray[Any] | None]],
    *,
    eos: int,
    max_length: int,
    beam_size: int,
    n_best: int = 1,
    min_length: int = 0,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
) -> list[tuple[float, list[int]]]:
    """The best texts of one sentence with their scores.

    Parameters
    ----------
    next_log_p : function
        From the tokens so far to log p of the next one [V], and Σ_t w_t [S] of the attention of all steps, this one
        too.
    eos, max_length, beam_size, n_best, min_length, length_penalty, coverage_penalty
        As for `fastrnn.nn.beam_search`.

    Examples
    --------
    >>> log_p = np.log([0.1, 0.6, 0.3])
    >>> texts = beam_search(lambda tokens: (log_p, None), eos=0, max_length=3, beam_size=2, n_best=2)
    >>> [(round(score, 3), tokens) for score, tokens in texts]
    [(-1.532, [1, 1, 1]), (-2.226, [1, 1, 2])]
    """

    def score(log_p: float, tokens: int, covered: Any) -> float:
        found: float = log_p / ((5 + tokens) / 6) ** length_penalty
        if coverage_penalty and covered is not None:
            found += coverage_penalty * float(np.log(np.minimum(covered, 1)).sum())
        return found

    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    texts: list[tuple[float, list[int]]] = []
    for t in range(max_length):
        candidates: list[tuple[float, Sequence[int], int, Any]] = []
        for log_p, tokens in beams:
            log_ps, covered = next_log_p(tokens)
            candidates += [(log_p + float(one), tokens, v, covered) for v, one in enumerate(log_ps)]
        candidates.sort(key=lambda c: -c[0])
        beams = []
        for log_p, before, v, covered in candidates:
            if len(beams) == beam_size:
                break
            if v == eos:
                if t >= min_length:
                    texts.append((score(log_p, t + 1, covered), list(before)))
                continue
            beams.append((log_p, [*before, v]))
            if t + 1 == max_length:
                texts.append((score(log_p, t + 1, covered), [*before, v]))
        texts.sort(key=lambda text: -text[0])
        bound = beams[0][0] / ((5 + max_length) / 6) ** length_penalty
        if len(texts) >= n_best and texts[n_best - 1][0] >= bound:
            break
    return texts[:n_best]
