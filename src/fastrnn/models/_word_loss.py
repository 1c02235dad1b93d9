"""The loss of word2vec on a batch of predictions, with exact gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.models.word2vec import Word2Vec


def batch_loss(model: Word2Vec, batch: Any, rng: np.random.Generator, train: bool) -> float:
    """Return the mean loss; see `Word2Vec.loss`."""
    x, target, lengths, weight = (*batch, None, None)[:4]
    vocabulary = len(model)
    inputs, words = _check.integers(x, "x"), _check.integers(target, "target")
    for numbers, name in ((inputs, "x"), (words, "target")):
        _check.in_range(numbers, vocabulary, "words", name)
    share = _shares(model, inputs, words, lengths)
    if weight is not None:
        weight = np.broadcast_to(_check.floats(weight, None, "weight"), words.shape)
    h = np.einsum("cn,cnd->nd", share, model(inputs.reshape(share.shape)))  # [N, D]
    total, dh = 0.0, np.zeros_like(h)
    for name, rows, signs in _targets(model, words, rng):
        u = model._params[name][rows]  # [N, M, D]
        z = signs * np.einsum("nd,nmd->nm", h, u)
        each = np.where(signs != 0, np.logaddexp(0, -z), 0)
        g = -signs * np.exp(-np.logaddexp(0, z)) / max(len(words), 1)  # dloss/dz·sign
        if weight is not None:
            each, g = each * weight[:, None], g * weight[:, None]
        total += float(each.sum(dtype=np.float64))
        if train:
            dh += np.einsum("nm,nmd->nd", g, u)
            du = g[:, :, None] * h[:, None, :]
            _add(model, name, du, rows)
    if train:
        _add(model.embedding, "weight", share[:, :, None] * dh, inputs.reshape(share.shape))
    return total / max(len(words), 1)


def _shares(model: Word2Vec, x: NDArray[Any], target: NDArray[Any], lengths: Any) -> NDArray[Any]:
    """Return how much each input counts in h, float32 [C, N]."""
    if target.ndim != 1:
        raise ValueError(f"target: expected the numbers of words [N], got shape {target.shape}")
    if model.sg:
        if x.shape != target.shape or lengths is not None:
            raise ValueError(f"x: expected the numbers of words [N] as in target {target.shape}, got shape {x.shape}")
        return np.ones((1, len(x)), np.float32)
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1:] != target.shape:
        raise ValueError(f"x: expected the numbers of words around, [C, {len(target)}], got shape {x.shape}")
    C, N = x.shape
    n = np.full(N, C) if lengths is None else np.asarray(_check.lengths(lengths, N, C))
    there = np.arange(C)[:, None] < n
    return (there / np.maximum(n, 1) if model.cbow_mean else there).astype(np.float32)


def _targets(model: Word2Vec, words: NDArray[Any], rng: np.random.Generator) -> Any:
    """Yield (parameter, rows [N, M], signs [N, M]); a sign of 0 is no target."""
    tables = model.tables()
    if model.negative:
        cells = rng.integers(len(model), size=(len(words), model.negative))
        own = rng.integers(1 << 32, size=cells.shape) < tables["alias_share"][cells]
        noise = np.where(own, cells, tables["alias"][cells])
        signs = np.where(noise == words[:, None], 0, -1)
        yield (
            "output",
            np.column_stack([words, noise]),
            np.column_stack([np.ones(len(words)), signs]).astype(np.float32),
        )
    if model.hs:
        path, steps = tables["path"], tables["steps"]
        depth = path[words + 1] - path[words]
        k = np.arange(depth.max(initial=0))
        there = k < depth[:, None]
        way = steps[np.where(there, path[words][:, None] + k, 0)] if len(steps) else np.zeros(there.shape, int)
        yield "nodes", way >> 1, np.where(there, 1 - 2 * (way & 1), 0).astype(np.float32)


def _add(layer: Any, name: str, gradient: NDArray[Any], rows: NDArray[Any]) -> None:
    """grads[name][rows] += gradient."""
    flat = np.ascontiguousarray(rows, np.int64).ravel()
    with layer._lock:
        _core.embedding_backward(
            np.ascontiguousarray(gradient, np.float32).reshape(len(flat), -1), flat, layer._grads[name]
        )
        layer._touched[name].append(flat)
