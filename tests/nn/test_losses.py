"""Losses against their definitions and finite differences, with every option; huge logits."""

import math

import numpy as np
import pytest

from fastrnn.nn import losses
from tests.reference.finite_differences import assert_close, check_gradients

LENGTHS = [4, 0, 2]
OPTIONS = [
    {},
    {"weight": "full"},
    {"weight": "row"},
    {"lengths": LENGTHS},
    {"lengths": LENGTHS, "weight": "full"},
]
CROSS_ENTROPY_OPTIONS = [
    *OPTIONS,
    {"label_smoothing": 0.1},
    {"ignore_index": -100},
    {"ignore_index": 2, "label_smoothing": 0.2, "lengths": LENGTHS, "weight": "full"},
]


def options_for(shape, options):
    """`options` with arrays for the weights, and each target's share of the mean, from the definition."""
    rng = np.random.default_rng(7)
    options = dict(options)
    share = np.ones(shape)
    if options.get("weight") == "full":
        share = options["weight"] = rng.uniform(0.5, 2, shape)
    elif options.get("weight") == "row":
        options["weight"] = rng.uniform(0.5, 2, shape[-1])
        share = np.broadcast_to(options["weight"], shape)
    share = share.copy()
    for b, n in enumerate(options.get("lengths", [])):
        share[n:, b] = 0
    return options, share


def check(function, inputs, elements, share):
    """Loss is the weighted mean of `elements`, gradient that of the loss, in both types."""
    loss, gradient = function(inputs)
    assert type(loss) is float
    counts = share != 0
    expected = (share * np.where(counts, elements, 0)).sum() / share.sum()
    assert abs(loss - expected) <= 1e-12 * abs(expected)
    assert gradient.shape == inputs.shape
    padded = inputs.copy()
    padded[~counts] = np.nan
    again, same_gradient = function(padded)
    assert again == loss
    np.testing.assert_array_equal(gradient, same_gradient)
    assert not gradient[~counts].any()
    check_gradients(lambda: np.array(function(inputs)[0]), {"x": inputs}, np.array(1.0), {"x": gradient})
    single_loss, single_gradient = function(inputs.astype(np.float32))
    assert abs(single_loss - loss) <= 1e-5 * abs(loss)
    assert single_gradient.dtype == np.float32
    assert_close(single_gradient, gradient, 1e-4)


@pytest.mark.parametrize("options", CROSS_ENTROPY_OPTIONS, ids=str)
def test_cross_entropy(options):
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((4, 3, 5)) * 2, rng.integers(0, 5, (4, 3))
    options, share = options_for((4, 3), options)
    if options.get("ignore_index") == -100:
        targets[1, 2] = -100
    share[targets == options.get("ignore_index", -1)] = 0
    smoothing = options.get("label_smoothing", 0)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    safe = np.where(share != 0, targets, 0)[..., None]
    elements = -(1 - smoothing) * np.take_along_axis(log_p, safe, -1)[..., 0] - smoothing * log_p.mean(-1)
    check(lambda x: losses.cross_entropy(x, targets, **options), logits, elements, share)
    if "lengths" in options:
        targets[3, 2] = 99  # past the row's length: not read
        assert losses.cross_entropy(logits, targets, **options)[0] > 0
        options["batch_first"] = True
        if "weight" in options:
            options["weight"] = options["weight"].T
        swapped = losses.cross_entropy(logits.swapaxes(0, 1), targets.T, **options)
        expected = (share * elements).sum() / share.sum()
        assert abs(swapped[0] - expected) < 1e-12


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
def test_mse(options, shape):
    rng = np.random.default_rng(0)
    prediction, target = rng.standard_normal(shape), rng.standard_normal(shape)
    options, share = options_for(shape, options)
    check(
        lambda x: losses.mse(x, target.astype(x.dtype), **options),
        prediction,
        (prediction - target) ** 2,
        share,
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
def test_bce_with_logits(options, shape):
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal(shape) * 2, rng.uniform(0, 1, shape)
    options, share = options_for(shape, options)
    p = 1 / (1 + np.exp(-logits))
    elements = -targets * np.log(p) - (1 - targets) * np.log(1 - p)
    check(lambda x: losses.bce_with_logits(x, targets.astype(x.dtype), **options), logits, elements, share)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits(dtype):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for size in (1e4, 1e30):
            logits = np.array([[size, -size, 0], [-size, -size, -size]], dtype)
            loss, gradient = losses.cross_entropy(logits, [0, 1])
            assert abs(loss - math.log(3) / 2) < 1e-6
            assert_close(gradient, [[0, 0, 0], [1 / 6, -1 / 3, 1 / 6]], 1e-6)
            loss, gradient = losses.cross_entropy(logits[:1], [1])
            assert abs(loss / (2 * size) - 1) < 1e-6
            assert_close(gradient, [[1, -1, 0]], 1e-6)
            loss, gradient = losses.bce_with_logits(logits[0], [0, 0, 1])
            assert abs(loss / (size / 3) - 1) < 1e-3
            assert_close(gradient, [1 / 3, 0, -1 / 6], 1e-6)
    assert losses.mse(np.array([3e30], dtype), np.array([1e30], dtype))[0] == pytest.approx(4e60)


def test_nan_stays_in_its_row():
    logits = np.array([[0.0, np.nan], [1.0, 2.0]])
    loss, gradient = losses.cross_entropy(logits, [0, 0])
    assert math.isnan(loss)
    assert np.isnan(gradient[0]).any()
    assert np.isfinite(gradient[1]).all()


def test_when_nothing_counts():
    logits = np.full((2, 3), np.nan)
    for options in ({"ignore_index": 9}, {"weight": [0, 0]}):
        loss, gradient = losses.cross_entropy(logits, [9, 9], **options)
        assert loss == 0
        assert not gradient.any()
    assert losses.cross_entropy(np.ones((0, 3)), [])[0] == 0
    for function in (losses.mse, losses.bce_with_logits):
        assert function(logits, logits, lengths=[0, 0, 0])[0] == 0
        assert function(np.ones((0, 3)), np.ones((0, 3)))[0] == 0


def test_targets_of_other_types():
    for targets in ([1, 0, 1], np.array([1, 0, 1]), np.array([True, False, True])):
        loss, _ = losses.bce_with_logits(np.zeros(3, np.float32), targets)
        assert abs(loss - math.log(2)) < 1e-6
    small = np.array([1, 0], np.uint8)
    assert losses.cross_entropy([[0.0, 0.0], [0.0, 0.0]], small)[0] == pytest.approx(math.log(2))
    assert losses.cross_entropy(np.zeros(4), 2)[0] == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 3]),
            ValueError,
            "targets: expected integers from 0 to 2 (C=3), got 3",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [-100, 0]),
            ValueError,
            "targets: expected integers from 0 to 2 (C=3), got -100",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [-1, -100], ignore_index=-100),
            ValueError,
            "targets: expected integers from 0 to 2 (C=3), got -1",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1, 2]),
            ValueError,
            "targets: expected shape (2,), that of logits without its last axis, got (3,)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0.0, 1.0]),
            TypeError,
            "targets: expected integers, got float64",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3), int), [0, 1]),
            TypeError,
            "logits: expected float32 or float64, got int64; use logits.astype(np.float32)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 0)), [0, 1]),
            ValueError,
            "logits: expected [..., C] with C ≥ 1, got shape (2, 0)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1], label_smoothing=1.0),
            ValueError,
            "label_smoothing: expected 0 ≤ label_smoothing < 1, got 1.0",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1], ignore_index=0.5),
            TypeError,
            "ignore_index: expected an integer, got 0.5",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1], lengths=[1]),
            ValueError,
            "lengths: need targets [T, B, ...], got targets of shape (2,)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 1, 3)), [[0], [1]], lengths=[3]),
            ValueError,
            "lengths: expected integers from 0 to T=2, got 3 in row 0",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1], weight=[1, 2, 3]),
            ValueError,
            "weight: expected a shape that broadcasts to (2,), got (3,)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1], weight=[1, -2]),
            ValueError,
            "weight: expected finite numbers ≥ 0, got -2.0",
        ),
        (
            lambda: losses.mse(np.ones(2), np.ones(2), weight=[np.nan, 1]),
            ValueError,
            "weight: expected finite numbers ≥ 0, got nan",
        ),
        (
            lambda: losses.mse(np.ones(2), np.ones(2), weight=["a", "b"]),
            TypeError,
            "weight: expected numbers, got <U1",
        ),
        (
            lambda: losses.mse(np.ones((2, 1)), np.ones(2)),
            ValueError,
            "target: expected shape (2, 1), that of prediction, got (2,)",
        ),
        (
            lambda: losses.mse(np.ones(2, np.float32), np.ones(2)),
            TypeError,
            "target: expected float32, got float64; use target.astype(np.float32)",
        ),
        (
            lambda: losses.bce_with_logits(np.ones(2), np.array([0.0, 1.5])),
            ValueError,
            "targets: expected numbers from 0 to 1, got 1.5",
        ),
        (
            lambda: losses.bce_with_logits(np.ones(2), [0, -1]),
            ValueError,
            "targets: expected numbers from 0 to 1, got -1.0",
        ),
        (
            lambda: losses.bce_with_logits(np.ones((2, 1)), np.ones(2)),
            ValueError,
            "targets: expected shape (2, 1), that of logits, got (2,)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight", [None, 2.0])
def test_arrays_without_axes_are_one_target(dtype, weight):
    one, three = np.array(1, dtype), np.array(3, dtype)
    loss, grad = losses.mse(one, three, weight=weight)
    assert (loss, grad) == (4, -4)
    assert isinstance(grad, np.ndarray) and grad.shape == () and grad.dtype == dtype
    assert losses.mse(1.0, 3.0)[0] == 4
    loss, grad = losses.bce_with_logits(np.array(0, dtype), np.array(1, dtype), weight=weight)
    assert loss == pytest.approx(np.log(2)) and grad == -0.5 and grad.shape == ()
    loss, grad = losses.cross_entropy(np.zeros(4, dtype), 1, weight=weight)
    assert loss == pytest.approx(np.log(4)) and grad.shape == (4,)


def test_cross_entropy_into_given_memory():
    rng = np.random.default_rng(0)
    for shape in ((), (7,), (5, 3), (0,)):
        logits, targets = rng.standard_normal((*shape, 33)).astype(np.float32), rng.integers(0, 33, shape)
        loss, right = losses.cross_entropy(logits, targets, label_smoothing=0.1)
        out = np.full_like(logits, np.nan)
        again, same = losses.cross_entropy(logits, targets, label_smoothing=0.1, out=out)
        assert same is out and again == loss
        np.testing.assert_array_equal(out, right)
        again, same = losses.cross_entropy(logits, targets, label_smoothing=0.1, out=logits)
        assert same is logits and again == loss
        np.testing.assert_array_equal(logits, right)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((4, 3)), TypeError, "out: expected float32, got float64"),
        (np.empty((4, 4), np.float32), ValueError, r"out: expected shape \(4, 3\), got \(4, 4\)"),
        (np.empty((3, 4), np.float32).T, ValueError, "out: expected a contiguous last axis"),
        (np.empty((8, 3), np.float32)[::2], ValueError, "out: expected a C-contiguous array"),
        (np.broadcast_to(np.float32(1), (4, 3)), ValueError, "out: expected a writable array"),
        ([[0.0] * 3] * 4, TypeError, "out: expected an array, got a list"),
    ],
)
def test_memory_that_cross_entropy_refuses(out, error, message):
    with pytest.raises(error, match=message):
        losses.cross_entropy(np.zeros((4, 3), np.float32), [0, 1, 2, 0], out=out)


def test_cross_entropy_refuses_memory_that_overlaps_its_logits():
    memory = np.zeros(15, np.float32)
    with pytest.raises(ValueError, match="out: expected memory of its own, got an array that overlaps logits"):
        losses.cross_entropy(memory[:12].reshape(4, 3), [0, 1, 2, 0], out=memory[3:].reshape(4, 3))
