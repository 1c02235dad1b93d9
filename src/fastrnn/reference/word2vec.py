"""Word vectors as csrc/kernels/word2vec.cpp learns them, with its random numbers, on one thread.

A prediction is (inputs, targets): h is the sum or mean of the inputs' vectors v, a target is (matrix, row, sign).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._sequence import Array

MASK, BLOCK, BATCH = (1 << 64) - 1, 2048, 4

Target = tuple[str, int, int]
Prediction = tuple[list[int], list[Target]]


def mix64(z: int) -> int:
    """Return the output function of splitmix64 (Steele et al. 2014).

    Examples
    --------
    >>> hex(mix64(0x9E3779B97F4A7C15))
    '0xe220a8397b1dcdaf'
    """
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def word2vec_draws(seed: int, block: int) -> Iterator[int]:
    """Yield the 64-bit random numbers of a block."""
    state = mix64((mix64(seed) + block) & MASK)
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        yield mix64(state)


def word2vec_loss(
    prediction: Prediction, matrices: dict[str, Array], *, mean: bool = True
) -> tuple[float, Array, list[Array]]:
    """Return the loss of a prediction, its gradient by h, and those by the targets' vectors.

    ::

        x_t = s_t·h·u_t     loss = Σ log(1 + e⁻ˣ)     dx = -σ(-x)     dh = Σ s·dx·u     du_t = s_t·dx_t·h

    Examples
    --------
    >>> import numpy as np
    >>> matrices = {"vectors": np.array([[1.0, 2.0]]), "output": np.array([[2.0, -1.0]])}
    >>> loss, dh, (du,) = word2vec_loss(([0], [("output", 0, 1)]), matrices)
    >>> round(loss, 4), dh.tolist(), du.tolist()
    (0.6931, [-1.0, 0.5], [-0.5, -1.0])
    """
    inputs, targets = prediction
    rows = matrices["vectors"][inputs]
    h = rows.mean(0) if mean else rows.sum(0)
    loss, dh, du = 0.0, np.zeros_like(h), []
    for matrix, row, sign in targets:
        u = matrices[matrix][row]
        x = sign * (h @ u)
        dx = -np.exp(-np.logaddexp(0, x))
        loss += np.logaddexp(0, -x)
        dh = dh + sign * dx * u
        du.append(sign * dx * h)
    return float(loss), dh, du


def word2vec_predictions(
    sentence: list[int],
    random: Iterator[int],
    tables: dict[str, Any],
    *,
    negative: int,
    window: int,
    shrink: bool,
    sg: bool,
) -> tuple[int, list[Prediction]]:
    """Return how many words subsampling leaves of a sentence, and their predictions in order."""
    keep = tables["keep"]
    words = [w for w in sentence if keep is None or (next(random) >> 32) <= keep[w]]
    found: list[Prediction] = []

    def targets(word: int) -> list[Target]:
        noise: list[Target] = []
        for _ in range(negative):
            r = next(random)
            cell = ((r >> 32) * len(tables["alias"])) >> 32
            other = cell if (r & 0xFFFFFFFF) < tables["alias_share"][cell] else int(tables["alias"][cell])
            if other != word:
                noise.append(("output", other, -1))
        own: list[Target] = [("output", word, 1), *noise] if negative else []
        if tables["path"] is None:
            return own
        way = tables["steps"][tables["path"][word] : tables["path"][word + 1]].tolist()
        return own + [("nodes", step >> 1, -1 if step & 1 else 1) for step in way]

    for i, word in enumerate(words):
        reach = window - (((next(random) >> 32) * window) >> 32) if shrink else window
        around = words[max(i - reach, 0) : i] + words[i + 1 : i + reach + 1]
        if sg:
            found += [([word], targets(other)) for other in around]
        elif around:
            found.append((around, targets(word)))
    return len(words), found


def word2vec(
    matrices: dict[str, Array],
    sentences: list[list[int]],
    tables: dict[str, Any],
    *,
    lr: tuple[float, float],
    seed: int,
    first_block: int = 0,
    negative: int,
    window: int,
    shrink: bool,
    cbow: int,
) -> tuple[float, int, int]:
    """Train in place, as `_core.Word2VecTrainer` does on one thread; return Σ loss, predictions, and words kept.

    Parameters
    ----------
    matrices : dict
        ``vectors`` and ``output`` [V, D], ``nodes`` [V-1, D]; of any float type.
    tables : dict
        ``keep``, ``alias_share``, ``alias``, ``path``, ``steps``; see csrc/word2vec.h.
    lr : (float, float)
        At the first token, and past the last.
    cbow : int
        0 skip-gram, 1 CBOW with the sum, 2 with the mean.
    """
    total, starts = 0, []
    for sentence in sentences:
        starts.append(total)
        total += len(sentence)
    loss, count, kept = 0.0, 0, 0
    for block in range(-(-total // BLOCK)):
        random = word2vec_draws(seed, first_block + block)
        rate = lr[0] + (lr[1] - lr[0]) * (block * BLOCK / total)
        found: list[Prediction] = []
        for start, sentence in zip(starts, sentences):
            if block * BLOCK <= start < (block + 1) * BLOCK:
                n, more = word2vec_predictions(
                    sentence, random, tables, negative=negative, window=window, shrink=shrink, sg=cbow == 0
                )
                kept += n
                found += more
        for k in range(0, len(found), BATCH):
            loss += _batch(found[k : k + BATCH], matrices, rate, cbow == 2)
        count += len(found)
    return loss, count, kept


def _batch(batch: list[Prediction], matrices: dict[str, Array], rate: float, mean: bool) -> float:
    """Learn from some predictions: all g from what the vectors are before, then the updates in turn."""
    vectors, total, steps = matrices["vectors"], 0.0, []
    for inputs, targets in batch:
        rows = vectors[inputs]
        h = rows.mean(0) if mean else rows.sum(0)
        g = []
        for matrix, row, sign in targets:
            x = sign * (h @ matrices[matrix][row])
            total += float(np.logaddexp(0, -x))
            g.append(rate * sign * np.exp(-np.logaddexp(0, x)))
        steps.append((h, g))
    for (inputs, targets), (before, g) in zip(batch, steps):
        # one input's row is read again: predictions of the same word follow each other
        h = vectors[inputs[0]].copy() if len(inputs) == 1 else before
        e = np.zeros_like(h)
        for (matrix, row, _), step in zip(targets, g):
            e += step * matrices[matrix][row]
            matrices[matrix][row] += step * h
        for row in inputs:
            vectors[row] += e
    return total
