"""The kernels of attention against the reference, on every instruction set."""

import numpy as np
import pytest

from fastrnn import _core, reference
from tests.ops.helpers import FORWARD, GRADIENT, close, same_for_any_threads

# T, S, B, N, D, E: around vectors, panels, tiles, blocks of queries (48, 96) and of source steps (256)
SHAPES = [
    *((1, 1, 1, 1, 1, 1), (2, 5, 3, 2, 3, 4), (3, 7, 2, 1, 33, 5), (4, 9, 2, 3, 5, 2), (5, 17, 3, 1, 16, 33)),
    *((13, 33, 2, 2, 15, 17), (97, 31, 1, 2, 8, 70), (50, 300, 2, 1, 65, 20), (145, 520, 1, 1, 12, 12)),
]


def ragged(S, B, rng):
    lengths = rng.integers(0, S + 1, B)
    lengths[: min(B, 2)] = [S, 0][: min(B, 2)]
    return rng.permutation(lengths)


def double(a):
    return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a


def dot(q, k, v, dy, heads, lengths=None, causal=False, mask=None, scale=0.3, dropout=0.0, seed=0, layout=np.copy):
    """y, weights, dq, dk, dv; what is written begins as 7s."""
    T, B, S = len(q), q.shape[1], len(k)
    y, weights = np.full(dy.shape, 7, q.dtype), np.full((T, B, heads, S), 7, q.dtype)
    stats = np.full((B, heads, T, 2), 7, q.dtype)
    q, k, v, y, dy = map(layout, (q, k, v, y, dy))
    call = (q, k, v, heads, lengths, causal, mask, scale, dropout, seed, y, stats)
    _core.dot_attention(*call, weights)
    grads = [layout(np.full_like(a, 7)) for a in (q, k, v)]
    _core.dot_attention_backward(*call, dy, *grads)
    return y, weights, *grads


def inputs(shape, dtype, rng):
    T, S, B, N, D, E = shape
    sizes = ((T, B, N * D), (S, B, N * D), (S, B, N * E), (T, B, N * E))
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["plain", "ragged", "masked", "dropped"])
def test_dot_attention(shape, causal, kind, dtype, rng):
    T, S, B, N, *_ = shape
    arrays, options = inputs(shape, dtype, rng), {"causal": causal}
    if kind == "ragged":
        options["lengths"] = ragged(S, B, rng)
        for a in arrays[1:3]:  # what lies past them isn't read
            a[np.arange(S)[:, None] >= options["lengths"]] = np.nan
    mask = np.zeros((1, N, T, S), dtype)
    if kind == "masked":
        mask += rng.standard_normal(mask.shape).astype(dtype)
        mask[rng.random(mask.shape) < 0.4] = -np.inf
        options["mask"] = mask
    if kind == "dropped":
        options |= {"dropout": 0.3, "seed": 2**63 + 5}
    exact = [np.nan_to_num(double(a)) for a in arrays]
    call = {name: double(value) for name, value in options.items()}
    (y, weights), pullback = reference.attention_vjp(*exact[:3], num_heads=N, scale=0.3, return_weights=True, **call)
    if kind == "masked":
        options["mask"] = np.broadcast_to(mask, (B, N, T, S))
    found = dot(*arrays, N, **options)
    close(found[0], y, FORWARD[dtype])
    close(found[1], weights, FORWARD[dtype])
    for actual, expected in zip(found[2:], pullback(exact[3]), strict=True):
        close(actual, expected, GRADIENT[dtype])


def test_nothing_to_look_at(dtype, rng):
    """No source, or a mask that forbids everything: zeros everywhere, for few queries and for many."""
    for T in (2, 50):
        arrays = inputs((T, 20, 3, 2, 8, 8), dtype, rng)
        mask = np.zeros((3, 1, 1, 20), dtype)
        mask[1] = -np.inf
        mask = np.broadcast_to(mask, (3, 2, T, 20))
        for result in dot(*arrays, 2, lengths=np.array([0, 20, 20]), mask=mask):
            assert not result[:, :2].any()
            assert result[:, 2].any() and np.isfinite(result).all()


def test_large_scores(dtype, rng):
    """Scores far beyond exp's range: the softmax shifts them."""
    q, k, v, dy = inputs((7, 20, 2, 1, 8, 8), dtype, rng)
    for result in dot(q * 1000, k, v, dy, 1):
        assert np.isfinite(result).all()
    q[0, 0, 0] = np.nan
    y = dot(q, k, v, dy, 1)[0]
    assert np.isnan(y[0, 0]).all() and np.isnan(y).sum() == 8


def test_layouts(dtype, rng):
    """Columns of wider rows, [B, T, F], backwards in time: the same bits."""
    arrays = inputs((13, 33, 3, 2, 10, 17), dtype, rng)
    lengths = ragged(33, 3, rng)
    expected = dot(*arrays, 2, lengths=lengths)

    def wide(a):
        whole = np.full((*a.shape[:2], a.shape[2] + 9), np.nan, a.dtype)
        whole[..., 4:-5] = a
        return whole[..., 4:-5]

    for layout in (wide, lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1), lambda a: a[::-1].copy()[::-1]):
        for actual, wanted in zip(dot(*arrays, 2, lengths=lengths, layout=layout), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("shape", [(130, 140, 1, 1, 64, 64), (40, 50, 9, 4, 16, 20), (2, 300, 5, 8, 32, 32)])
def test_threads_and_batch(shape, dtype, rng):
    _, S, B, N, *_ = shape
    arrays, lengths = inputs(shape, dtype, rng), ragged(S, B, rng)
    for options in ({}, {"causal": True, "dropout": 0.2, "seed": 3}, {"lengths": lengths}):
        same_for_any_threads(lambda options=options: dot(*arrays, N, **options))
    last = dot(*(a[:, -1:].copy() for a in arrays), N, lengths=lengths[-1:])
    for alone, together in zip(last, dot(*arrays, N, lengths=lengths), strict=True):
        np.testing.assert_array_equal(alone, together[:, -1:])


# ---- additive scores

ADDITIVE = [
    (1, 1, 1, 1, 1),
    (2, 3, 2, 5, 7),
    (5, 17, 3, 16, 33),
    (100, 9, 2, 33, 15),
    (7, 70, 3, 130, 64),
]  # T, S, B, A, E


def additive(q, k, v, x, dy, lengths, layout=np.copy):
    """y, weights, dq, dk, dx, dv."""
    T, B, S = len(q), q.shape[1], len(k)
    weights = np.full((T, B, S), 7, q.dtype)
    q, k, x, dy, y = map(layout, (q, k, x, dy, np.full(dy.shape, 7, q.dtype)))
    _core.additive_attention(q, k, v, x, lengths, y, weights)
    dq, dk, dx = (layout(np.full_like(a, 7)) for a in (q, k, x))
    dv = np.zeros_like(v)
    _core.additive_attention_backward(q, k, v, x, lengths, weights, dy, dq, dk, dv, dx)
    return y, weights, dq, dk, dx, dv


def additive_inputs(shape, dtype, rng):
    T, S, B, A, E = shape
    sizes = ((T, B, A), (S, B, A), (A,), (S, B, E), (T, B, E))
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


@pytest.mark.parametrize("shape", ADDITIVE, ids=str)
@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("scale", [1, 30])
def test_additive_attention(shape, with_lengths, scale, dtype, rng):
    _, S, B, _, _ = shape
    arrays = additive_inputs(shape, dtype, rng)
    for a in arrays[:2]:
        a *= scale  # 30: most tanh are 1 to rounding, few are not
    lengths = ragged(S, B, rng) if with_lengths else None
    if with_lengths:
        for a in (arrays[1], arrays[3]):
            a[np.arange(S)[:, None] >= lengths] = np.nan
    exact = [np.nan_to_num(double(a)) for a in arrays]
    (y, weights), pullback = reference.additive_attention_vjp(*exact[:4], lengths=lengths)
    dq, dk, dv, dx = pullback(exact[4])
    found = additive(*arrays, lengths)
    for actual, expected in zip(found[:2], (y, weights), strict=True):
        close(actual, expected, FORWARD[dtype])
    for actual, expected in zip(found[2:], (dq, dk, dx, dv), strict=True):
        close(actual, expected, GRADIENT[dtype])
    swapped = additive(*arrays, lengths, layout=lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1))
    for actual, expected in zip(swapped, found, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_additive_threads_and_batch(dtype, rng):
    shape = (30, 25, 9, 70, 40)
    arrays, lengths = additive_inputs(shape, dtype, rng), ragged(25, 9, rng)
    same_for_any_threads(lambda: additive(*arrays, lengths))
    last = additive(*(a if a.ndim == 1 else a[:, -1:].copy() for a in arrays), lengths[-1:])
    for alone, together in zip(last[:5], additive(*arrays, lengths)[:5], strict=True):
        np.testing.assert_array_equal(alone, together[:, -1:])


@pytest.mark.parametrize("shape", [(3, 0), (0, 2)])
def test_empty(shape, dtype):
    T, B = shape
    q, k = np.ones((T, B, 4), dtype), np.ones((5, B, 4), dtype)
    assert all(a.size == 0 or not a.any() for a in dot(q, k, k, q, 2)[:3])
    assert additive(q, k, np.ones(4, dtype), k, q, None)[0].shape == (T, B, 4)


def test_bad_input(dtype, rng):
    q, k, v, dy = inputs((3, 5, 2, 2, 4, 6), dtype, rng)
    y, stats, lengths = np.zeros_like(dy), np.zeros((2, 2, 3, 2), dtype), np.array([5, 2])
    good = (q, k, v, 2, lengths, False, None, 1.0, 0.0, 0, y)
    _core.dot_attention(*good, stats)
    frozen = y.copy()
    frozen.flags.writeable = False
    mask = np.zeros((2, 2, 3, 5), dtype)
    other = v.astype(np.float64 if dtype == np.float32 else np.float32)
    changes = [
        {0: q[0]}, {0: q.astype(np.int64)}, {0: q[..., ::-1]}, {1: k[:, :1]}, {1: k[..., :6]}, {1: k[:0], 2: v[:0]},
        {2: v[:4]}, {2: other}, {3: 3}, {3: 0}, {4: np.array([5, 6])}, {4: np.array([-1, 0])}, {4: np.array([1])},
        {4: np.array([1, 2], np.int32)}, {6: mask[..., :4]}, {6: mask[0]}, {6: mask[..., ::-1]}, {8: 1.0}, {8: -0.1},
        {10: frozen}, {10: y[:2]}, {10: y[..., ::-1]},
    ]  # fmt: skip
    for change in changes:
        arguments = [change.get(i, a) for i, a in enumerate(good)]
        with pytest.raises((ValueError, TypeError)):
            _core.dot_attention(*arguments)
    with pytest.raises(ValueError, match=r"^stats: expected a contiguous array"):
        _core.dot_attention(*good, stats[:1])
    with pytest.raises(ValueError, match=r"^dk: expected"):
        _core.dot_attention_backward(*good, stats, dy, np.empty_like(q), np.empty_like(v), np.empty_like(v))
