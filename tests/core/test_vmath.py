"""exp, tanh and sigmoid of the core: at most 4 units in the last place over the whole range of both types."""

from functools import lru_cache

import mpmath
import numpy as np
import pytest

from fastrnn import _core
from tests.core.cases import F32, F64, dtypes, isas

ULPS = 4
FUNCTIONS = ("exp", "tanh", "sigmoid")
functions = pytest.mark.parametrize("name", FUNCTIONS)
BITS = {F32: np.uint32, F64: np.uint64}
WIDE = np.finfo(np.longdouble).nmant >= 63  # x86 and quad precision; elsewhere long double is double

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracles overflow and underflow


def vmath(name, x):
    out = np.full_like(x, -7)
    assert _core.activation(name, x, out) is out
    return out


def from_bits(dtype, bits):
    """The numbers with these bits, NaN left out."""
    x = bits.astype(BITS[dtype]).view(dtype)
    return x[~np.isnan(x)]


def around(dtype, values, count=40):
    """Each value with its neighbours on both sides, and all of it negated."""
    bits = np.array(values, dtype).view(BITS[dtype]).astype(np.int64)[:, None] + np.arange(-count, count + 1)
    x = from_bits(dtype, bits[bits >= 0])
    return np.concatenate([x, -x])


def breakpoints(dtype):
    """Where something changes: reduction by ln2, clamps, subnormal or infinite results, ends of the range."""
    info = np.finfo(dtype)
    small, large = np.log(float(info.tiny)), np.log(float(info.max))
    halves = np.arange(0.5, abs(small) / np.log(2) + 60) * np.log(2)  # where the power of two changes
    clamps = [9.01, 10, 18.7, 20, 21, 40, 42, 87, 89, 104, 709, 710, 745, 746, 1000]
    ends = [0, info.smallest_subnormal, info.tiny, info.eps, info.max, abs(small), large]
    last = [-np.log(float(info.smallest_subnormal)), -np.log(float(info.smallest_subnormal) / 2)]
    every = [halves, halves / 2, clamps, ends, last, 2.0 ** np.arange(-40, 12)]
    return around(dtype, np.concatenate([np.asarray(values, F64) for values in every]))


@lru_cache
def samples(dtype):
    if dtype is F32:
        grid = from_bits(F32, np.arange(0, 1 << 32, 2039, dtype=np.int64))  # 2.1 million of all patterns
    else:
        rng = np.random.default_rng(0)
        grid = from_bits(F64, rng.integers(0, 1 << 64, 20_000, dtype=np.uint64))
        magnitudes = np.exp2(rng.uniform(-60, 10.5, 15_000))
        grid = np.concatenate([grid, magnitudes, -magnitudes, rng.uniform(-746, 746, 15_000)])
    return np.concatenate([grid, breakpoints(dtype)])


@lru_cache
def exact(name, dtype):
    """The function of the samples in a wider type."""
    x = samples(dtype).astype(F64 if dtype is F32 else np.longdouble)
    with np.errstate(all="ignore"):
        if name == "exp":
            return np.exp(x)
        return np.tanh(x) if name == "tanh" else np.where(x > 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))


def ulps(y, right):
    """|y - right| in units of the last place of right; 0 where y is right, correctly rounded."""
    dtype = y.dtype.type
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = right.astype(dtype)
        # the exponent of `right`, but at least that of the smallest normal number
        unit = np.exp2(np.maximum(np.floor(np.log2(np.abs(right))), info.minexp) - info.nmant)
        difference = np.abs(y.astype(right.dtype) - right) / unit
    return np.where(y == rounded, 0, np.where(np.isnan(difference), np.inf, difference))


def worst(x, y, error):
    k = int(np.argmax(error))
    return f"{error[k]:.2f} ulp at {x[k]!r}: got {y[k]!r}"


@isas
@functions
@dtypes
def test_accuracy(isa, dtype, name):
    if dtype is F64 and not WIDE:
        pytest.skip("long double is no wider than double here; test_accuracy_mpmath remains")
    x = samples(dtype)
    y = vmath(name, x)
    error = ulps(y, exact(name, dtype))
    assert error.max() <= ULPS, worst(x, y, error)


@lru_cache
def exact_mpmath(name):
    x = np.random.default_rng(1).permutation(samples(F64))[:1500]
    with mpmath.workdps(60):
        function = {
            "exp": mpmath.exp,
            "tanh": mpmath.tanh,
            "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        }[name]
        return x, [function(mpmath.mpf(float(v))) for v in np.where(np.isinf(x), np.copysign(5000, x), x)]


@isas
@functions
def test_accuracy_mpmath(isa, name):
    """The same without trust in the C library's long double."""
    x, right = exact_mpmath(name)
    y = vmath(name, x)
    error = np.zeros(len(x))
    with mpmath.workdps(60):
        for k, value in enumerate(right):
            if y[k] == float(value):
                continue
            unit = mpmath.ldexp(1, max(mpmath.frexp(value)[1] - 1, -1022) - 52)
            error[k] = abs(mpmath.mpf(float(y[k])) - value) / unit if np.isfinite(y[k]) else np.inf
    assert error.max() <= ULPS, worst(x, y, error)


@isas
@functions
@dtypes
def test_special_values(isa, dtype, name):
    x = np.array([np.inf, -np.inf, 0.0, -0.0, np.finfo(dtype).max, np.finfo(dtype).min], dtype)
    right = {
        "exp": [np.inf, 0, 1, 1, np.inf, 0],
        "tanh": [1, -1, 0.0, -0.0, 1, -1],
        "sigmoid": [1, 0, 0.5, 0.5, 1, 0],
    }[name]
    y = vmath(name, x)
    np.testing.assert_array_equal(y, np.array(right, dtype))
    np.testing.assert_array_equal(np.signbit(y), np.signbit(np.array(right, dtype)))


@isas
@functions
@dtypes
def test_nan(isa, dtype, name):
    """Every kind of NaN comes out as NaN, and its neighbours don't notice."""
    bits = BITS[dtype]
    nan = np.array(np.nan, dtype).view(bits)
    payloads = np.array([nan, nan | bits(1), nan | bits(12345)], bits)
    sign = bits(1) << bits(8 * np.dtype(bits).itemsize - 1)
    signalling = np.array(np.inf, dtype).view(bits) | bits(1)
    every = np.concatenate([payloads, payloads | sign, [signalling, signalling | sign]]).astype(bits).view(dtype)
    assert np.isnan(every).all()
    clean = np.linspace(-3, 3, 33).astype(dtype)
    right = vmath(name, clean)
    for value in every:
        for position in (0, 5, 16, 31, 32):
            x = clean.copy()
            x[position] = value
            y = vmath(name, x)
            assert np.isnan(y[position])
            np.testing.assert_array_equal(np.delete(y, position), np.delete(right, position))


@isas
@dtypes
def test_small_arguments_keep_their_accuracy(isa, dtype):
    """tanh(x) = x down to the smallest number; the tails of sigmoid and exp come down to it too."""
    info = np.finfo(dtype)
    tiny = np.array([info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, 5 * info.tiny], dtype)
    np.testing.assert_array_equal(vmath("tanh", tiny), tiny)
    np.testing.assert_array_equal(vmath("tanh", -tiny), -tiny)
    x = np.array([np.log(float(info.smallest_subnormal)) + 0.01], dtype)
    for name in ("sigmoid", "exp"):
        assert vmath(name, x)[0] > 0, name


@isas
@functions
@dtypes
def test_symmetry(isa, dtype, name):
    x = samples(dtype)[:100_000]
    if name == "tanh":
        np.testing.assert_array_equal(vmath(name, -x), -vmath(name, x))
    elif name == "sigmoid":
        np.testing.assert_allclose(vmath(name, -x), 1 - vmath(name, x), atol=2 * np.finfo(dtype).eps)
    y = vmath(name, np.sort(x))
    assert np.isfinite(y[np.sort(x) < 80]).all()
    # values may wobble by the error allowed, but never by more
    assert (np.diff(y) >= -2 * ULPS * np.spacing(np.abs(y[:-1])))[np.isfinite(y[1:])].all()


@isas
@functions
@dtypes
def test_tails(isa, dtype, name):
    """Every length gives the bits of whole vectors, and nothing past the end is written."""
    x = np.random.default_rng(0).normal(0, 4, 40).astype(dtype)
    whole = vmath(name, np.concatenate([x, x, x]))[: len(x)]
    for n in range(41):
        for start in range(0, min(3, 41 - n)):
            out = np.full(n + 64, 5, dtype)
            _core.activation(name, x[start : start + n], out[32 : 32 + n])
            np.testing.assert_array_equal(out[32 : 32 + n], whole[start : start + n])
            assert (out[:32] == 5).all()
            assert (out[32 + n :] == 5).all()


@isas
@functions
@dtypes
def test_in_place_and_shapes(isa, dtype, name):
    x = np.random.default_rng(0).normal(0, 4, (3, 5, 7)).astype(dtype)
    y = vmath(name, x)
    work = x.copy()
    _core.activation(name, work, work)
    np.testing.assert_array_equal(work, y)
    np.testing.assert_array_equal(vmath(name, x.ravel()), y.ravel())


@isas
@functions
@dtypes
def test_threads_change_no_bit(isa, threads, dtype, name):
    x = np.random.default_rng(0).normal(0, 4, 200_003).astype(dtype)
    threads(1)
    one = vmath(name, x)
    for count in (2, 3, 8):
        threads(count)
        np.testing.assert_array_equal(vmath(name, x), one)
