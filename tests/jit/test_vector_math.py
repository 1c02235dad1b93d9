"""Functions as compiled into cells: at most 4 units in the last place over the whole range."""

from functools import cache

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import jit
from fastrnn.jit import _tiles
from tests.core.cases import isas
from tests.core.test_vmath import F32, F64, ULPS, around, breakpoints, from_bits

pytest.importorskip("numba")
mpmath = pytest.importorskip("mpmath")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracles overflow and underflow

ORACLES = {
    "exp": mpmath.exp,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log": lambda x: mpmath.log(x) if x > 0 else mpmath.mpf("-inf" if x == 0 else "nan"),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)) if x < 0 else x + mpmath.log1p(mpmath.exp(-x)),
    "sqrt": lambda x: mpmath.sqrt(x) if x >= 0 else mpmath.mpf("nan"),
}
functions = pytest.mark.parametrize("name", ORACLES)
dtypes = pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])


def compiled(function):
    return fr.cell(gates=("a",))(lambda wx, rh, s: function(wx.a + rh.a))


CELLS = {name: compiled(getattr(jit, name)) for name in ORACLES}


def apply(cell, x, *more):
    """The cell's function of each number, through a tile of one row."""
    wx = np.stack([x, *more])[:, None]
    return _tiles.forward(cell.spec(x.dtype), wx, np.zeros_like(wx), [np.zeros_like(wx[0])], []).after[0][0]


@cache
def samples(dtype):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << (32 if dtype is F32 else 64), 4000, dtype=np.uint64)
    magnitudes = np.exp2(rng.uniform(-60, 10.5, 2000))
    near = np.concatenate([magnitudes, -magnitudes, rng.uniform(-30, 30, 2000), 1 + rng.uniform(-0.4, 0.5, 1000)])
    chosen = breakpoints(dtype)[::7]
    ones = around(dtype, [1.0, 0.5**0.5, 2**0.5, 0.75, 1.5, 3.0, np.log(2**0.5 - 1).__abs__()], 20)
    return np.concatenate([from_bits(dtype, bits), near.astype(dtype), chosen, ones])


@cache
def exact(name, dtype):
    """In 200 bits, as pairs of the nearest number of the type and the rest in units of its last place."""
    with mpmath.workprec(200):
        return [ORACLES[name](mpmath.mpf(float(x))) if np.isfinite(x) else None for x in samples(dtype)]


@isas
@dtypes
@functions
def test_within_four_ulp(name, dtype, isa):
    x = samples(dtype)
    y, info = apply(CELLS[name], x), np.finfo(dtype)
    worst = 0.0
    for value, found, wanted in zip(x, y, exact(name, dtype)):
        if wanted is None:
            continue
        if mpmath.isnan(wanted):
            assert np.isnan(found), (value, found)
            continue
        nearest = dtype(float(wanted))
        if np.isinf(nearest) or np.isinf(found):
            # halfway cases at the border of overflow are within an ulp
            assert found == nearest or abs(wanted) > 0.999999 * info.max, (value, found)
            continue
        ulp = max(np.spacing(abs(nearest)), info.smallest_subnormal)
        worst = max(worst, abs(float((mpmath.mpf(float(found)) - wanted) / mpmath.mpf(float(ulp)))))
    assert worst <= ULPS, worst


SPECIAL = {
    "exp": [(np.inf, np.inf), (-np.inf, 0.0)],
    "tanh": [(np.inf, 1.0), (-np.inf, -1.0)],
    "sigmoid": [(np.inf, 1.0), (-np.inf, 0.0)],
    "log": [(np.inf, np.inf), (0.0, -np.inf), (-0.0, -np.inf), (-1.0, np.nan), (-np.inf, np.nan)],
    "softplus": [(np.inf, np.inf), (-np.inf, 0.0)],
    "sqrt": [(np.inf, np.inf), (-1.0, np.nan), (0.0, 0.0)],
}


@isas
@dtypes
@functions
def test_special_values(name, dtype, isa):
    x, wanted = np.array([(np.nan, np.nan), *SPECIAL[name]], dtype).T
    np.testing.assert_array_equal(apply(CELLS[name], x), wanted)


SELECTIONS = {
    "abs": (lambda a, b: jit.abs(a + b), lambda a, b: np.abs(a + b)),
    "relu": (lambda a, b: jit.relu(a + b), lambda a, b: np.maximum(a + b, 0)),
    "minimum": (jit.minimum, np.minimum),
    "maximum": (jit.maximum, np.maximum),
    "where": (
        lambda a, b: jit.where((a < b) | (a >= 3) & ~(b == 1), a, b),
        lambda a, b: np.where((a < b) | (a >= 3) & (b != 1), a, b),
    ),
    "ne": (lambda a, b: jit.where(a != b, 1.0, 0.0), lambda a, b: np.where(a != b, 1.0, 0.0)),
    "le": (
        lambda a, b: jit.where(a <= b, a, 2.0) + jit.where(b > a, 0.5, b),
        lambda a, b: np.where(a <= b, a, 2.0) + np.where(b > a, 0.5, b),
    ),
}


@isas
@dtypes
@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(name, dtype, isa):
    """Bitwise NumPy's, NaN and infinities too."""
    ours, numpys = SELECTIONS[name]
    cell = fr.cell(gates=("a", "b"))(lambda wx, rh, s: ours(wx.a + rh.a, wx.b + rh.b))
    values = np.array([-np.inf, -2, -1, 0, 0.5, 1, 3, 4, np.inf, np.nan], dtype)
    a, b = (m.ravel() for m in np.meshgrid(values, values))
    np.testing.assert_array_equal(apply(cell, a, b), numpys(a, b).astype(dtype))


@isas
@dtypes
def test_powers(dtype, isa):
    """exp(b·log(a)): the relative error grows with b·log(a)."""
    cell = fr.cell(gates=("a", "b"))(lambda wx, rh, s: (wx.a + rh.a) ** (wx.b + rh.b))
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.01, 20, 500).astype(dtype), rng.uniform(-4, 4, 500).astype(dtype)
    wanted = np.power(a.astype(np.longdouble), b.astype(np.longdouble))
    allowed = (4 + np.abs(b * np.log(a)) * 4) * np.finfo(dtype).eps
    assert (np.abs(apply(cell, a, b) / wanted - 1) <= allowed).all()
    x = np.array([0, 0, 0, 1, 5, -2, np.nan, 2], dtype)
    y = np.array([0, 2, -1, 7, 0, 0.5, 1, np.nan], dtype)
    np.testing.assert_array_equal(apply(cell, x, y), np.array([1, 0, np.inf, 1, 1, np.nan, np.nan, np.nan], dtype))
