"""Losses: gradients, definitions, masks and extreme logits."""

import numpy as np
import pytest

from fastrnn import reference

from .finite_differences import assert_close, check_gradients

T, B, C = 3, 4, 5
LENGTHS = [3, 0, 1, 2]
VALID = np.arange(T)[:, None] < LENGTHS


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def targets():
    return np.random.default_rng(9).integers(0, C, (T, B))


WEIGHTS = {"none": None, "each": np.abs(random(T, B, seed=3)), "row": np.array([1.0, 2.0, 0.0, 0.5])}
OPTIONS = [
    {},
    {"ignore_index": 2},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"lengths": LENGTHS},
    {"ignore_index": 2, "label_smoothing": 0.3, "lengths": LENGTHS},
]


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cross_entropy(options, weight):
    logits, target = 2 * random(T, B, C), targets()
    options = {**options, "weight": WEIGHTS[weight]}
    loss, dlogits = reference.cross_entropy(logits, target, **options)

    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    epsilon = options.get("label_smoothing", 0)
    q = (1 - epsilon) * np.eye(C)[target] + epsilon / C
    w = np.ones((T, B)) if weight == "none" else np.broadcast_to(WEIGHTS[weight], (T, B))
    w = w * (target != options.get("ignore_index")) * (VALID if "lengths" in options else 1)
    assert isinstance(loss, float)
    assert_close(loss, -(w * (q * np.log(p)).sum(-1)).sum() / w.sum(), 1e-14)
    check_gradients(
        lambda: reference.cross_entropy(logits, target, **options)[0],
        {"logits": logits},
        1.0,
        {"logits": dlogits},
    )
    assert not dlogits[w == 0].any() and (dlogits[w != 0] != 0).all()


ELEMENTWISE = {
    "mse": lambda p, t: (p - t) ** 2,
    "bce_with_logits": lambda x, t: -t * np.log(1 / (1 + np.exp(-x))) - (1 - t) * np.log(1 - 1 / (1 + np.exp(-x))),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("weight", [None, np.abs(random(T, B, 2, seed=3)), np.array([[[1.0]], [[0.0]], [[3.0]]])])
def test_elementwise(name, lengths, weight):
    x, target = random(T, B, 2), np.random.default_rng(1).random((T, B, 2))
    f = getattr(reference, name)
    loss, dx = f(x, target, weight=weight, lengths=lengths)
    w = np.broadcast_to(1.0 if weight is None else weight, x.shape) * (1 if lengths is None else VALID[:, :, None])
    assert isinstance(loss, float)
    assert_close(loss, (w * ELEMENTWISE[name](x, target)).sum() / w.sum(), 1e-13)
    check_gradients(lambda: f(x, target, weight=weight, lengths=lengths)[0], {"x": x}, 1.0, {"x": dx})
    assert not dx[w == 0].any() and (dx[w != 0] != 0).all()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 2)])
def test_any_number_of_axes(shape):
    logits, target = random(*shape, C), np.random.default_rng(1).integers(0, C, shape)
    loss, dlogits = reference.cross_entropy(logits, target)
    flat_loss, flat_dlogits = reference.cross_entropy(logits.reshape(-1, C), target.reshape(-1))
    assert_close(loss, flat_loss, 1e-15)
    assert_close(dlogits.reshape(-1, C), flat_dlogits, 1e-15)
    for name in ELEMENTWISE:
        x = random(*shape)
        loss, dx = getattr(reference, name)(x, np.ones(shape))
        flat_loss, flat_dx = getattr(reference, name)(x.reshape(-1), np.ones(x.size))
        assert_close(loss, flat_loss, 1e-15)
        assert_close(dx.reshape(-1), flat_dx, 1e-15)


def test_what_does_not_count_is_not_read():
    logits, target = random(T, B, C), targets()
    clean = reference.cross_entropy(logits, target, lengths=LENGTHS)
    logits[~VALID], target[~VALID] = np.nan, -7
    loss, dlogits = reference.cross_entropy(logits, target, lengths=LENGTHS)
    assert loss == clean[0]
    np.testing.assert_array_equal(dlogits, clean[1])
    for other in ({"ignore_index": -7}, {"weight": VALID.astype(float)}):
        loss, dlogits = reference.cross_entropy(logits, target, **other)
        assert loss == clean[0]
        np.testing.assert_array_equal(dlogits, clean[1])
    for name in ELEMENTWISE:
        f = getattr(reference, name)
        x, t = random(T, B), np.random.default_rng(1).random((T, B))
        clean = f(x, t, lengths=LENGTHS)
        x[~VALID] = t[~VALID] = np.nan
        loss, dx = f(x, t, lengths=LENGTHS)
        assert loss == clean[0]
        np.testing.assert_array_equal(dx, clean[1])


def test_nothing_counts():
    logits = random(2, 3, C)
    for options in ({"lengths": [0, 0, 0]}, {"ignore_index": 1}, {"weight": 0.0}):
        loss, dlogits = reference.cross_entropy(logits, np.ones((2, 3), int), **options)
        assert loss == 0 and dlogits.shape == logits.shape and not dlogits.any()
    for name in ELEMENTWISE:
        loss, dx = getattr(reference, name)(random(2, 3), np.ones((2, 3)), lengths=[0, 0, 0])
        assert loss == 0 and dx.shape == (2, 3) and not dx.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits(dtype):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, d = reference.cross_entropy(np.array([[1e4, -1e4, 0]], dtype), [1])
        assert loss == 2e4 and d.tolist() == [[1, -1, 0]] and d.dtype == dtype
        loss, d = reference.cross_entropy(np.array([[1e4, -1e4, 0]], dtype), [0])
        assert loss == 0 and d.tolist() == [[0, 0, 0]]
        loss, d = reference.bce_with_logits(np.array([1e4, -1e4, 1e4, -1e4], dtype), [1, 0, 0, 1])
        assert loss == 5e3 and d.tolist() == [0, 0, 0.25, -0.25] and d.dtype == dtype
        loss, d = reference.mse(np.array([1e4, 0], dtype), [0, 0])
        assert loss == 5e7 and d.tolist() == [1e4, 0] and d.dtype == dtype


def test_nan_that_counts_is_seen():
    logits = random(2, C)
    logits[0, 0] = np.nan
    loss, dlogits = reference.cross_entropy(logits, [1, 2])
    assert np.isnan(loss) and np.isnan(dlogits[0]).all() and np.isfinite(dlogits[1]).all()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([[0.0, 0.0]], [2]), ValueError, "targets: expected 0 to 1, got 2 to 2"),
        (([[0.0, 0.0]], [-1]), ValueError, "targets: expected 0 to 1, got -1 to -1"),
        (([[0.0, 0.0]], [1.0]), TypeError, "targets: expected integers, got float64"),
        (([[0.0, 0.0]], [[1]]), ValueError, r"targets: expected shape \(1,\), got \(1, 1\)"),
    ],
)
def test_bad_targets(arguments, error, message):
    with pytest.raises(error, match=message):
        reference.cross_entropy(np.array(arguments[0]), arguments[1])


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"target: expected shape \(3, 1\), got \(3,\)"):
        reference.mse(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match=r"lengths: expected targets \[T, B, ...\], got shape \(3,\)"):
        reference.mse(np.zeros(3), np.zeros(3), lengths=[1])
