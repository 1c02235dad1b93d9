"""The matrix product of the core: any strides, bias, accumulation, every size around its tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import _core
from tests.core.cases import F32, F64, FORWARD, Outputs, dtypes, isas, using
from tests.reference.finite_differences import assert_close

# Each takes a matrix and returns the same numbers in other memory.
LAYOUTS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "spaced": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "spaced_columns": lambda a: np.asfortranarray(np.repeat(np.repeat(a, 2, 0), 3, 1))[::2, ::3],
    "row_slices": lambda a: np.pad(a, ((0, 0), (2, 3)), constant_values=np.nan)[:, 2:-3],
    "column_slices": lambda a: np.asfortranarray(np.pad(a, ((2, 3), (0, 0)), constant_values=np.nan))[2:-3],
    "upside_down": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "mirrored": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "columns_upside_down": lambda a: np.asfortranarray(a[::-1])[::-1],
}


def matrices(M, N, K, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((M, K), (K, N), (N,), (M, N)))


def check(M, N, K, dtype, layouts=("rows", "rows"), *, bias=False, accumulate=False, seed=0):
    a, b, shift, start = matrices(M, N, K, dtype, seed)
    outputs = Outputs(dtype)
    out = outputs.new(M, N, value=start)
    given_a, given_b = (LAYOUTS[name](x) for name, x in zip(layouts, (a, b), strict=True))
    assert _core.gemm(given_a, given_b, out, shift if bias else None, accumulate) is out
    outputs.check()
    right = a.astype(F64) @ b.astype(F64) + (start.astype(F64) if accumulate else shift if bias else 0)
    assert_close(out, right, FORWARD[dtype], f"{M} x {N} x {K}")
    return out


@isas
@dtypes
def test_sizes_around_tiles(isa, dtype):
    """Rows and columns around one tile and several, vectors of columns full or not."""
    lanes = {"v2": 16, "avx2": 32, "avx512": 64}.get(isa, 16) // np.dtype(dtype).itemsize
    for M in range(1, 28):
        check(M, 4 * lanes, 7, dtype)
    for N in [*range(1, 2 * lanes + 2), *(k * lanes + j for k in range(3, 10) for j in (-1, 0, 1))]:
        for M in (1, 2, 5):
            check(M, N, 3, dtype, bias=True)
    for M in (239, 240, 241, 481):
        check(M, 9, 5, dtype, bias=True)


@isas
@dtypes
def test_long_sums(isa, dtype):
    """Around the blocks of 160 terms of a panel and of 256 of a packed operand; the last one of a single term."""
    for K in (1, 2, 127, 128, 129, 159, 160, 161, 255, 256, 257, 320, 321, 512, 513, 700):
        for M in (1, 3, 14):
            check(M, 33, K, dtype, bias=True)
            check(M, 33, K, dtype, ("columns", "rows"), accumulate=True)
    for layouts in (("rows", "columns"), ("columns", "rows")):
        check(2, 300, 256 * 256 + 1, dtype, layouts, bias=True)


@isas
@dtypes
def test_every_element_is_one_chain_of_sums(isa, dtype):
    """The start, then the terms in ascending order: what makes blocks, cells and threads leave no trace."""
    for M, N, K, layouts in ((3, 70, 600, ("rows", "columns")), (250, 20, 300, ("columns", "rows"))):
        a, b, shift, _ = matrices(M, N, K, dtype)
        whole = check(M, N, K, dtype, layouts, bias=True)
        parts = np.tile(shift, (M, 1))
        for k in range(0, K, 7):
            _core.gemm(a[:, k : k + 7], b[k : k + 7], parts, accumulate=True)
        np.testing.assert_array_equal(parts, whole)


@isas
@dtypes
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_strides_change_no_bit(isa, dtype, left, right):
    """One order of accumulation on every path, so that a transposed operand gives the same bits."""
    for M, N, K in ((1, 1, 1), (1, 40, 9), (13, 1, 9), (13, 35, 1), (13, 35, 170), (30, 70, 20)):
        for options in ({}, {"bias": True}, {"accumulate": True}):
            plain = check(M, N, K, dtype, **options)
            np.testing.assert_array_equal(check(M, N, K, dtype, (left, right), **options), plain)


@isas
@dtypes
def test_no_terms(isa, dtype):
    for layouts in (("rows", "rows"), ("columns", "rows"), ("rows", "columns")):
        for M, N in ((1, 1), (5, 33), (14, 70)):
            check(M, N, 0, dtype, layouts)
            check(M, N, 0, dtype, layouts, bias=True)
            check(M, N, 0, dtype, layouts, accumulate=True)


@dtypes
def test_empty_results(dtype):
    for M, N, K in ((0, 5, 3), (5, 0, 3), (0, 0, 0), (0, 5, 0)):
        check(M, N, K, dtype, bias=True)


@isas
@dtypes
def test_output_rows_of_any_stride(isa, dtype):
    a, b, shift, _ = matrices(13, 35, 20, dtype)
    right = _core.gemm(a, b, np.empty((13, 35), dtype), shift)
    wide = np.full((30, 50), 7, dtype)
    for out in (wide[::2, 3:38][:13], wide[26::-2, 3:38][:13]):
        out[...] = np.nan
        _core.gemm(a, b, out, shift)
        np.testing.assert_array_equal(out, right)
        out[...] = 7
        assert (wide == 7).all()


@isas
@dtypes
def test_broadcast_operands(isa, dtype):
    a, b, _, _ = matrices(13, 35, 20, dtype)
    for left, right in ((np.broadcast_to(a[:1], a.shape), b), (a, np.broadcast_to(b[:, :1], b.shape))):
        out = _core.gemm(left, right, np.empty((13, 35), dtype))
        np.testing.assert_array_equal(out, _core.gemm(left.copy(), right.copy(), np.empty((13, 35), dtype)))


@isas
@dtypes
def test_read_only_operands(isa, dtype):
    a, b, shift, _ = matrices(6, 8, 5, dtype)
    right = _core.gemm(a, b, np.empty((6, 8), dtype), shift)
    for array in (a, b, shift):
        array.flags.writeable = False
    np.testing.assert_array_equal(_core.gemm(a, b, np.empty((6, 8), dtype), shift), right)


@isas
@dtypes
@pytest.mark.parametrize("layouts", [("rows", "rows"), ("columns", "rows"), ("columns", "columns")], ids=str)
def test_threads_change_no_bit(isa, threads, dtype, layouts):
    for M, N, K in ((257, 190, 130), (1, 3000, 1100), (3000, 1, 1100), (700, 40, 300)):
        threads(1)
        one = check(M, N, K, dtype, layouts, bias=True)
        for count in (2, 3, 8):
            threads(count)
            np.testing.assert_array_equal(check(M, N, K, dtype, layouts, bias=True), one)


@isas
@dtypes
def test_a_row_does_not_depend_on_the_others(isa, dtype):
    a, b, shift, _ = matrices(40, 70, 190, dtype)
    whole = _core.gemm(a, b, np.empty((40, 70), dtype), shift)
    for rows in (slice(0, 1), slice(7, 9), slice(20, 33), slice(39, 40)):
        out = np.empty_like(whole[rows])
        np.testing.assert_array_equal(_core.gemm(a[rows], b, out, shift), whole[rows])
    a[17] = np.nan
    poisoned = _core.gemm(a, b, np.empty((40, 70), dtype), shift)
    assert np.isnan(poisoned[17]).all()
    np.testing.assert_array_equal(np.delete(poisoned, 17, 0), np.delete(whole, 17, 0))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(0, 90), st.integers(0, 150), st.integers(1, 400), st.sampled_from([F32, F64]),
    st.sampled_from(list(LAYOUTS)), st.sampled_from(list(LAYOUTS)),
    st.sampled_from(["", "bias", "accumulate"]), st.sampled_from(_core.isas()),
)  # fmt: skip
def test_any_product(M, N, K, dtype, left, right, option, isa):
    with using(isa):
        check(M, N, K, dtype, (left, right), **({option: True} if option else {}))


MISFITS = {
    "inner": (np.ones((3, 4)), np.ones((5, 6)), np.ones((3, 6)), None),
    "rows": (np.ones((2, 4)), np.ones((4, 6)), np.ones((3, 6)), None),
    "columns": (np.ones((3, 4)), np.ones((4, 5)), np.ones((3, 6)), None),
    "mixed_types": (np.ones((3, 4), F32), np.ones((4, 6)), np.ones((3, 6)), None),
    "integers": (np.ones((3, 4), int), np.ones((4, 6), int), np.ones((3, 6), int), None),
    "halves": (np.ones((3, 4), np.float16), np.ones((4, 6), np.float16), np.ones((3, 6), np.float16), None),
    "three_axes": (np.ones((3, 4, 1)), np.ones((4, 6)), np.ones((3, 6)), None),
    "vector": (np.ones(4), np.ones((4, 6)), np.ones((3, 6)), None),
    "lists": ([[1.0]], [[1.0]], [[1.0]], None),
    "none": (None, None, None, None),
    "no_left": (None, np.ones((4, 6)), np.ones((3, 6)), None),
    "no_right": (np.ones((3, 4)), None, np.ones((3, 6)), None),
    "no_output": (np.ones((3, 4)), np.ones((4, 6)), None, None),
    "short_bias": (np.ones((3, 4)), np.ones((4, 6)), np.ones((3, 6)), np.ones(5)),
    "bias_type": (np.ones((3, 4)), np.ones((4, 6)), np.ones((3, 6)), np.ones(6, F32)),
    "spaced_bias": (np.ones((3, 4)), np.ones((4, 6)), np.ones((3, 6)), np.ones(12)[::2]),
    "read_only": (np.ones((3, 4)), np.ones((4, 6)), np.broadcast_to(1.0, (3, 6)), None),
    "spaced_output": (np.ones((3, 4)), np.ones((4, 6)), np.ones((3, 12))[:, ::2], None),
    "transposed_output": (np.ones((3, 4)), np.ones((4, 6)), np.ones((6, 3)).T, None),
    "big_endian": (np.ones((3, 4), ">f8"), np.ones((4, 6)), np.ones((3, 6)), None),
}


@pytest.mark.parametrize("arguments", MISFITS.values(), ids=MISFITS)
def test_bad_input_is_refused(arguments):
    with pytest.raises((ValueError, TypeError)):
        _core.gemm(*arguments)
