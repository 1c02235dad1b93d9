"""Steps, norms and scaling over lists of arrays: the bits of one array after another, rows or all, any threads."""

import numpy as np
import pytest

from fastrnn import _core
from tests.ops.helpers import one_step, same_for_any_threads

SHAPES = [(1,), (17, 3), (0, 4), (300, 33), (4096,), (70, 1), (129, 130)]
NUMBERS = {
    "sgd": (0.1, 0.9, 0.0, True, 0.1, False),
    "rmsprop": (0.1, 0.9, 1e-8, 0.9, 0.1),
    "adam": (0.1, 0.9, 0.99, 1e-8, 0.1, True, 3),
}
SLOTS = {"sgd": 1, "rmsprop": 3, "adam": 2}


def arrays(count, rng):
    """A model's arrays, `count` of each shape, of both types in turn."""
    types = (np.float32, np.float64)
    # squares, because some are running means of squares
    return [
        [np.square(rng.standard_normal(shape)).astype(types[k % 2]) for _ in range(count)]
        for k, shape in enumerate(SHAPES)
    ]


def some_rows(shape, rng):
    return np.flatnonzero(rng.random(shape[0]) < 0.4)


@pytest.mark.parametrize("rule", NUMBERS)
def test_a_list_is_one_after_another(rule, isa, rng):
    together = arrays(2 + SLOTS[rule], rng)
    alone = [[a.copy() for a in group] for group in together]
    _core.update(rule, [(p, g, slots, NUMBERS[rule], None) for p, g, *slots in together])
    for p, g, *slots in alone:
        one_step(rule, p, g, slots, NUMBERS[rule])
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rule", NUMBERS)
def test_rows_alone_are_updated(rule, isa, rng):
    together = arrays(2 + SLOTS[rule], rng)
    before = [[a.copy() for a in group] for group in together]
    rows = [some_rows(group[0].shape, rng) for group in together]
    _core.update(rule, [(p, g, slots, NUMBERS[rule], r) for (p, g, *slots), r in zip(together, rows, strict=True)])
    for group, old, r in zip(together, before, rows, strict=True):
        parts = [np.ascontiguousarray(a[r]) for a in old]
        one_step(rule, *parts[:2], parts[2:], NUMBERS[rule])
        for new, a, part in zip(group, old, parts, strict=True):
            np.testing.assert_array_equal(new[r], part)
            np.testing.assert_array_equal(np.delete(new, r, 0), np.delete(a, r, 0))


def test_each_has_numbers_of_its_own(isa):
    items = [(np.ones(5), np.ones(5), [None], (lr, 0.0, 0.0, False, 0.0, False), None) for lr in (0.5, 0.25)]
    _core.update("sgd", items)
    np.testing.assert_array_equal([p for p, *_ in items], [[0.5] * 5, [0.75] * 5])


def test_norm_and_scale(isa, rng):
    group = [a for (a,) in arrays(1, rng)]
    rows = [some_rows(a.shape, rng) if k % 3 else None for k, a in enumerate(group)]
    chosen = [a if r is None else a[r] for a, r in zip(group, rows, strict=True)]
    pairs = list(zip(group, rows, strict=True))
    right = sum(np.square(a.astype(np.float64)).sum() for a in chosen)
    assert _core.norm_squared(pairs) == pytest.approx(right, rel=1e-13)
    before = [a.copy() for a in group]
    _core.scale_all(pairs, 0.3)
    for a, old, r in zip(group, before, rows, strict=True):
        r = slice(None) if r is None else r
        old[r] *= old.dtype.type(0.3)
        np.testing.assert_array_equal(a, old)


def test_norm_of_float32_beyond_its_range(isa):
    huge, tiny = np.full(20, 1e30, np.float32), np.full(20, 1e-30, np.float32)
    assert _core.norm_squared([(huge, None)]) == pytest.approx(20e60, rel=1e-6)
    assert _core.norm_squared([(tiny, None)]) == pytest.approx(20e-60, rel=1e-6)
    assert np.isnan(_core.norm_squared([(huge, None), (np.array([1, np.nan]), None)]))


def test_scaling_by_zero_clears_what_is_not_finite(isa):
    a = np.array([[np.nan, np.inf], [1, -np.inf], [np.nan, 2]])
    _core.scale_all([(a, np.array([0, 2]))], 0)
    np.testing.assert_array_equal(a, [[0, 0], [1, -np.inf], [0, 0]])
    _core.scale_all([(a, None)], 0)
    np.testing.assert_array_equal(a, np.zeros((3, 2)))


def test_nothing_to_do(isa):
    _core.update("adam", [])
    _core.scale_all([], 2.0)
    assert _core.norm_squared([]) == 0


@pytest.mark.parametrize("rule", NUMBERS)
def test_threads(rule, rng):
    start = [np.square(rng.standard_normal((2 + SLOTS[rule], n, 70))).astype(np.float32) for n in (1, 900, 3, 2000)]
    rows = [None, some_rows((900,), rng), None, some_rows((2000,), rng)]

    def run():
        copies = [a.copy() for a in start]
        _core.update(rule, [(p, g, slots, NUMBERS[rule], r) for (p, g, *slots), r in zip(copies, rows, strict=True)])
        pairs = [(a[1], r) for a, r in zip(copies, rows, strict=True)]
        norm = _core.norm_squared(pairs)
        _core.scale_all(pairs, 0.3)
        return [*copies, norm]

    same_for_any_threads(run)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([0, 5]), "expected ascending integers from 0 to 4, got 5 at position 1"),
        (np.array([-1]), "got -1 at position 0"),
        (np.array([2, 2]), "got 2 at position 1"),
        (np.array([3, 1]), "got 1 at position 1"),
        (np.array([0, 1], np.int32), "expected a contiguous array"),
        (np.arange(6)[::2], "expected a contiguous array"),
        ([0, 1], r"expected an array of rows of"),
    ],
)
def test_rows_that_do_not_fit(rows, message):
    p, g, plain = np.ones((5, 2)), np.ones((5, 2)), (0.1, 0, 0, 0, 0, 0)
    for run in (
        lambda: _core.update("sgd", [(g, p, [None], plain, None), (p, g, [None], plain, rows)]),
        lambda: _core.norm_squared([(g, None), (p, rows)]),
        lambda: _core.scale_all([(g, None), (p, rows)], 2.0),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    np.testing.assert_array_equal([p, g], np.ones((2, 5, 2)))  # the good ones wait until all are known to be good


def test_items_that_do_not_fit():
    p = np.ones(3)
    with pytest.raises(ValueError, match="rule: expected one of sgd, rmsprop, adam, got 'lion'"):
        _core.update("lion", [])
    with pytest.raises(ValueError, match="adam: expected 2 slots and 7 numbers, got 1 and 7"):
        _core.update("adam", [(p, p, [p], NUMBERS["adam"], None)])
    with pytest.raises(ValueError, match="adam: expected 2 slots and 7 numbers, got 2 and 5"):
        _core.update("adam", [(p, p, [p, p], NUMBERS["adam"][:5], None)])
    with pytest.raises(TypeError, match="v: expected an array, got None"):
        _core.update("adam", [(p, p, [p, None], NUMBERS["adam"], None)])
    with pytest.raises(TypeError, match="sq: expected an array, got None"):
        _core.update("rmsprop", [(p, p, [None, p, p], NUMBERS["rmsprop"], None)])
    with pytest.raises(ValueError, match="g: expected a contiguous array of 3 x 1"):
        _core.update("sgd", [(p, np.ones(4), [p], NUMBERS["sgd"], None)])
    with pytest.raises(TypeError, match="a: expected float32 or float64, got int64"):
        _core.scale_all([(np.ones(3, int), None)], 2.0)
    with pytest.raises(ValueError, match="a: expected a contiguous array"):
        _core.scale_all([(np.broadcast_to(1.0, 3), None)], 2.0)
