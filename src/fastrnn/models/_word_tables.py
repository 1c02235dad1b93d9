"""What word2vec looks up while it trains: subsampling, the noise distribution, the Huffman tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CASES = 1 << 32  # probabilities are so many cases of a 32-bit number


def keep_shares(counts: NDArray[np.int64], sample: float) -> NDArray[np.uint32] | None:
    """Return in how many of 2³² cases, less one, each word stays; None if all do.

    A word of frequency f stays with probability √(t/f) + t/f, t = `sample`: the formula of Mikolov's program
    (the paper's, 2013b, section 2.3, is its first term).
    """
    if sample == 0:
        return None
    ratio = sample * counts.sum() / np.maximum(counts, 1)
    stay = np.minimum(np.sqrt(ratio) + ratio, 1.0)
    shares: NDArray[np.uint32] = np.clip(np.ceil(stay * CASES) - 1, 0, CASES - 1).astype(np.uint32)
    return shares


def alias_table(weights: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Return Walker's table of a distribution (Vose, 1991): a draw costs one cell, whatever the number of words.

    A cell, drawn evenly, stands for its own word in `share` of 2³² cases and for the word `alias` in the others.
    """
    size = len(weights)
    scaled = (np.asarray(weights, np.float64) * (size / weights.sum())).tolist()
    share, alias = [1.0] * size, list(range(size))
    small = [i for i, p in enumerate(scaled) if p < 1.0]
    large = [i for i, p in enumerate(scaled) if p >= 1.0]
    while small and large:
        less, more = small.pop(), large[-1]
        share[less], alias[less] = scaled[less], more
        scaled[more] -= 1.0 - scaled[less]
        if scaled[more] < 1.0:
            small.append(large.pop())
    cases = np.minimum(np.rint(np.array(share) * CASES), CASES - 1).astype(np.uint32)
    return cases, np.array(alias, np.int32)


def huffman(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the ways from the root of the Huffman tree to its leaves.

    Returns
    -------
    path : int64 [V+1]
    steps : int32
        Word w's way is ``steps[path[w]:path[w + 1]]``; each step is ``2·node + code``, nodes counted from 0 to
        V - 2, the root last. Code 1 leads to the less frequent half.
    """
    size = len(counts)
    parent = np.zeros(2 * size - 1, np.int64)
    code = np.zeros(2 * size - 1, np.int64)
    order = np.argsort(counts, kind="stable")
    leaves = order.tolist()
    weight = [*counts.tolist(), *[0] * (size - 1)]
    leaf, inner = 0, size  # the next of each that has no parent; both come in ascending order
    for node in range(size, 2 * size - 1):
        pair = []
        for _ in range(2):
            if leaf < size and (inner >= node or weight[leaves[leaf]] <= weight[inner]):
                pair.append(leaves[leaf])
                leaf += 1
            else:
                pair.append(inner)
                inner += 1
        rare, frequent = pair
        weight[node] = weight[rare] + weight[frequent]
        parent[rare] = parent[frequent] = node
        code[rare] = 1
    return _ways(parent, code, size)


def _ways(parent: NDArray[np.int64], code: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Follow all leaves up to the root at once."""
    root = 2 * size - 2
    words, at = np.arange(size), np.arange(size)
    levels = []  # from the leaves up: who is still below the root, and the step that it takes
    while True:
        below = at != root
        words, at = words[below], at[below]
        if not len(words):
            break
        levels.append((words, 2 * (parent[at] - size) + code[at]))
        at = parent[at]
    depth = np.zeros(size, np.int64)
    for below, _ in levels:
        depth[below] += 1
    path = np.concatenate([[0], np.cumsum(depth)]).astype(np.int64)
    steps = np.zeros(path[-1], np.int32)
    for k, (below, step) in enumerate(levels):
        steps[path[below + 1] - 1 - k] = step
    return path, steps
