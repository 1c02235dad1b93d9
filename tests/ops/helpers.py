"""What the tests of kernels share."""

import contextlib

import numpy as np

from fastrnn import _core

SIZES = [1, 15, 16, 17, 33, 1000, 100003]  # around vector widths, blocks and shares of threads
ROWS = [1, 2, 15, 16, 17, 33, 64, 1000]  # lengths of a row

# what kernels promise against the reference in float64, relative to the largest magnitude of the array
FORWARD = {np.float32: 1e-5, np.float64: 1e-12}
GRADIENT = {np.float32: 1e-4, np.float64: 1e-12}


def close(actual, expected, tolerance):
    """Largest difference over largest magnitude; NaN and infinities in the same places."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    if finite.any():
        difference = np.abs(actual[finite] - expected[finite]).max()
        assert difference <= tolerance * np.abs(expected[finite]).max()


def one_step(rule, p, g, slots, numbers):
    """A step of an optimiser for one array; `slots` and `numbers` as in `Update` of csrc/ops.h."""
    _core.update(rule, [(p, g, slots, numbers, None)])


def bits(*results):
    """The bytes of arrays and floats."""
    return [np.asarray(r).tobytes() for r in results]


@contextlib.contextmanager
def num_threads(n):
    before = _core.get_num_threads()
    _core.set_num_threads(n)
    try:
        yield
    finally:
        _core.set_num_threads(before)


def same_for_any_threads(run):
    """`run()` returns arrays and floats: the same bits on 1, 2, 3 and 8 threads."""
    with num_threads(1):
        expected = bits(*run())
    for n in (2, 3, 8):
        with num_threads(n):
            assert bits(*run()) == expected, f"{n} threads"
