"""Vectors in LLVM: arithmetic, and exp, log, tanh, sigmoid and softplus within 4 ulp over the whole range.

exp, tanh and sigmoid are those of csrc/kernels/vmath.h, term for term. The logarithm reduces x = 2ᵏ·(1 + f) with 1 + f
in [√½, √2) and sums log(1 + f) = f − f²/2 + s·(f²/2 + R(s²)) with s = f/(2 + f); R was fitted at Chebyshev nodes in
60-digit arithmetic, with relative errors of 3e-9 and 5e-18 in the logarithm. NaN in gives NaN out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastrnn.jit._graph import COMPARISONS

try:
    import llvmlite.ir as ir  # type: ignore[import-untyped,unused-ignore]
except ImportError:  # `_compile` says so before anything here is called
    ir = None

__all__ = ["Target", "VectorMath", "ir"]


@dataclass(frozen=True)
class Target:
    """What code is made for: bytes of a vector, and what the instruction set of the core has."""

    dtype: str  # "float32" or "float64"
    width: int
    fma: bool
    scalef: bool  # AVX-512's multiplication by powers of two

    @property
    def lanes(self) -> int:
        return self.width // (4 if self.dtype == "float32" else 8)


@dataclass(frozen=True)
class _Constants:
    bits: int
    mantissa: int
    bias: int
    ln2_hi: float  # few enough bits that its products with exponents are exact
    ln2_lo: float
    magic: float  # adding it rounds to an integer
    least: float  # e^least is 0
    most: float
    sigmoid_most: float
    tanh_least: float
    q: tuple[float, ...]
    log: tuple[float, ...]
    tiny: float  # the smallest normal number


_LOG2E = 1.44269504088896340736
_FLOAT = _Constants(
    bits=32,
    mantissa=23,
    bias=127,
    ln2_hi=float.fromhex("0x1.62e4p-1"),
    ln2_lo=float.fromhex("0x1.7f7d1cf8p-20"),
    magic=float.fromhex("0x1.8p23"),
    least=-104.0,
    most=89.0,
    sigmoid_most=60.0,
    tanh_least=-20.0,
    q=(0.5, 0.16666576845993976311, 0.041666554437685938899, 0.0083632029715758549465, 0.0013926213466332443037),
    log=(0.66666685045156029067, 0.39988778282162807727, 0.29580053043188442144),
    tiny=float.fromhex("0x1p-126"),
)
_DOUBLE = _Constants(
    bits=64,
    mantissa=52,
    bias=1023,
    ln2_hi=float.fromhex("0x1.62e42fee00000p-1"),
    ln2_lo=float.fromhex("0x1.a39ef35793c76p-33"),
    magic=float.fromhex("0x1.8p52"),
    least=-746.0,
    most=710.0,
    sigmoid_most=300.0,
    tanh_least=-42.0,
    q=(
        *(0.50000000000000010262, 0.16666666666666667456, 0.041666666666623991516, 0.0083333333333300513464),
        *(0.0013888888917281793308, 0.00019841269863105968748, 0.000024801521190217727651, 2.7557268378684192873e-6),
        *(2.7620138719733995569e-7, 2.5100424157005066788e-8),
    ),
    log=(
        *(0.66666666666666696883, 0.39999999999899443233, 0.28571428626003268742, 0.22222211130259877029),
        *(0.18182889455674946039, 0.15331710618210771568, 0.14616585424888621989),
    ),
    tiny=float.fromhex("0x1p-1022"),
)

Value = Any  # an LLVM value


class VectorMath:
    """Writes operations on vectors into a function that is being built."""

    def __init__(self, builder: Any, target: Target) -> None:
        self.b = builder
        self.target = target
        self.c = _FLOAT if target.dtype == "float32" else _DOUBLE
        element = ir.FloatType() if target.dtype == "float32" else ir.DoubleType()
        self.element = element
        self.vector = ir.VectorType(element, target.lanes)
        self.integer = ir.IntType(self.c.bits)
        self.integers = ir.VectorType(self.integer, target.lanes)
        self._suffix = f"v{target.lanes}f{self.c.bits}"

    # ---- arithmetic ------------------------------------------------------------------------------------------------

    def const(self, value: float) -> Value:
        return ir.Constant(self.vector, [ir.Constant(self.element, float(value))] * self.target.lanes)

    def whole(self, value: int) -> Value:
        return ir.Constant(self.integers, [ir.Constant(self.integer, value)] * self.target.lanes)

    def _call(self, name: str, *args: Value, kinds: tuple[Any, ...] = ()) -> Value:
        module = self.b.module
        function = module.globals.get(name)
        if function is None:
            types = kinds or tuple(a.type for a in args)
            function = ir.Function(module, ir.FunctionType(self.vector, types), name)
        return self.b.call(function, args)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        if self.target.fma:
            return self._call(f"llvm.fma.{self._suffix}", a, b, c)
        return self.b.fadd(self.b.fmul(a, b), c)

    def fnma(self, a: Value, b: Value, c: Value) -> Value:
        """c − a·b"""
        return self.fma(self.neg(a), b, c) if self.target.fma else self.b.fsub(c, self.b.fmul(a, b))

    def neg(self, a: Value) -> Value:
        return self.b.fneg(a)

    def bits(self, a: Value) -> Value:
        return self.b.bitcast(a, self.integers)

    def from_bits(self, a: Value) -> Value:
        return self.b.bitcast(a, self.vector)

    def less(self, a: Value, b: Value) -> Value:
        return self.b.fcmp_ordered("<", a, b)

    def lower(self, a: Value, b: Value) -> Value:
        """The smaller; b where one is NaN, as x86 has it."""
        return self.b.select(self.less(a, b), a, b)

    def upper(self, a: Value, b: Value) -> Value:
        return self.b.select(self.b.fcmp_ordered(">", a, b), a, b)

    # ---- functions -------------------------------------------------------------------------------------------------

    def _reduce(self, y: Value) -> tuple[Value, Value, Value]:
        """y = n·ln2 + r: (expm1(r), n, n as integers)."""
        b, c = self.b, self.c
        magic = self.const(c.magic)
        t = self.fma(y, self.const(_LOG2E), magic)
        n = b.fsub(t, magic)
        r = self.fma(n, self.const(-c.ln2_hi), y)
        r = self.fma(n, self.const(-c.ln2_lo), r)
        q = self._polynomial(r, c.q)
        p = self.fma(b.fmul(r, r), q, r)
        return p, n, b.sub(self.bits(t), self.bits(magic))

    def _polynomial(self, x: Value, coefficients: tuple[float, ...]) -> Value:
        q = self.const(coefficients[-1])
        for k in reversed(coefficients[:-1]):
            q = self.fma(q, x, self.const(k))
        return q

    def _power_of_two(self, i: Value) -> Value:
        b = self.b
        return self.from_bits(b.shl(b.add(i, self.whole(self.c.bias)), self.whole(self.c.mantissa)))

    def _scale(self, v: Value, n: Value, i: Value) -> Value:
        """v·2ⁿ; in two steps, so that overflow and subnormal results round as they should."""
        b = self.b
        if self.target.scalef:
            lanes = ir.IntType(self.target.lanes)
            name = f"llvm.x86.avx512.mask.scalef.{'ps' if self.c.bits == 32 else 'pd'}.512"
            return self._call(name, v, n, v, ir.Constant(lanes, -1), ir.Constant(ir.IntType(32), 4))
        half = b.ashr(i, self.whole(1))
        return b.fmul(b.fmul(v, self._power_of_two(half)), self._power_of_two(b.sub(i, half)))

    def exp(self, x: Value) -> Value:
        c = self.c
        x = self.upper(self.const(c.least), self.lower(self.const(c.most), x))
        p, n, i = self._reduce(x)
        return self._scale(self.b.fadd(self.const(1), p), n, i)

    def sigmoid(self, x: Value) -> Value:
        b, c, one = self.b, self.c, self.const(1)
        x = self.upper(self.const(c.least), self.lower(self.const(c.sigmoid_most), x))
        p, n, i = self._reduce(x)
        e = self._scale(b.fadd(one, p), n, i)
        return b.fdiv(e, b.fadd(one, e))

    def tanh(self, x: Value) -> Value:
        b, one, sign = self.b, self.const(1), self.bits(self.const(-0.0))
        y = self.from_bits(b.or_(self.bits(x), sign))
        y = self.upper(self.const(self.c.tanh_least), b.fadd(y, y))
        p, _, i = self._reduce(y)
        s = self._power_of_two(i)
        m = self.fma(p, s, b.fsub(s, one))
        t = b.fdiv(m, b.fadd(self.const(2), m))  # −tanh|x|
        size = b.and_(self.bits(t), b.not_(sign))
        return self.from_bits(b.or_(size, b.and_(self.bits(x), sign)))

    def _log1p(self, f: Value, k: Value) -> Value:
        """k·ln2 + log(1 + f) for 1 + f from √½ to √2."""
        b, c = self.b, self.c
        s = b.fdiv(f, b.fadd(self.const(2), f))
        z = b.fmul(s, s)
        r = b.fmul(z, self._polynomial(z, c.log))
        half = b.fmul(b.fmul(self.const(0.5), f), f)
        low = self.fma(s, b.fadd(half, r), b.fmul(k, self.const(c.ln2_lo)))
        return self.fma(k, self.const(c.ln2_hi), b.fsub(f, b.fsub(half, low)))

    def log(self, x: Value) -> Value:
        b, c = self.b, self.c
        small = self.less(x, self.const(c.tiny))
        lift = c.mantissa + 2
        y = b.select(small, b.fmul(x, self.const(2.0**lift)), x)
        start = self.bits(self.const(0.5**0.5))
        k = b.ashr(b.sub(self.bits(y), start), self.whole(c.mantissa))
        m = self.from_bits(b.sub(self.bits(y), b.shl(k, self.whole(c.mantissa))))
        k = b.sub(k, b.select(small, self.whole(lift), self.whole(0)))
        found = self._log1p(b.fsub(m, self.const(1)), b.sitofp(k, self.vector))
        found = b.select(b.fcmp_ordered("==", x, self.const(float("inf"))), x, found)
        zero = self.const(0)
        below = b.select(b.fcmp_ordered("==", x, zero), self.const(float("-inf")), self.const(float("nan")))
        return b.select(b.fcmp_ordered(">", x, zero), found, below)

    def softplus(self, x: Value) -> Value:
        """max(x, 0) + log(1 + e) with e = exp(−|x|); 1 + e needn't be rounded: f = e, or (e − 1)/2 and one ln2."""
        b, one = self.b, self.const(1)
        e = self.exp(self.from_bits(b.or_(self.bits(x), self.bits(self.const(-0.0)))))
        low = self.less(e, self.const(2**0.5 - 1))
        f = b.select(low, e, b.fmul(b.fsub(e, one), self.const(0.5)))
        rest = self._log1p(f, b.select(low, self.const(0), one))
        return b.fadd(self.upper(x, self.const(0)), rest)

    def pow(self, x: Value, y: Value) -> Value:
        b, one = self.b, self.const(1)
        found = self.exp(b.fmul(y, self.log(x)))
        return b.select(b.fcmp_ordered("==", y, self.const(0)), one, found)

    def sqrt(self, x: Value) -> Value:
        return self._call(f"llvm.sqrt.{self._suffix}", x)

    def abs(self, x: Value) -> Value:
        return self._call(f"llvm.fabs.{self._suffix}", x)

    def relu(self, x: Value) -> Value:
        zero = self.const(0)
        return self.b.select(self.b.fcmp_ordered("<=", x, zero), zero, x)

    def sign(self, x: Value) -> Value:
        b, one = self.b, self.const(1)
        signed = self.from_bits(b.or_(b.and_(self.bits(x), self.bits(self.const(-0.0))), self.bits(one)))
        return b.select(b.fcmp_ordered("!=", x, self.const(0)), signed, b.fmul(x, self.const(0)))

    def min(self, x: Value, y: Value) -> Value:
        return self._extreme("<", x, y)

    def max(self, x: Value, y: Value) -> Value:
        return self._extreme(">", x, y)

    def _extreme(self, order: str, x: Value, y: Value) -> Value:
        """NaN if one is: the comparison fails for it in y, and x is taken where it is one itself."""
        b = self.b
        chosen = b.select(b.fcmp_ordered(order, x, y), x, y)
        return b.select(b.fcmp_unordered("uno", x, x), x, chosen)

    # ---- by name ---------------------------------------------------------------------------------------------------

    def apply(self, op: str, args: list[Value]) -> Value:
        """The operation of a node of `Graph`."""
        if op in COMPARISONS:
            sign = dict(zip(COMPARISONS, ("<", "<=", ">", ">=", "==", "!=")))[op]
            return self.b.fcmp_unordered("!=", *args) if op == "ne" else self.b.fcmp_ordered(sign, *args)
        table: dict[str, Callable[..., Value]] = {
            **{"add": self.b.fadd, "sub": self.b.fsub, "mul": self.b.fmul, "div": self.b.fdiv, "where": self.b.select},
            **{"and": self.b.and_, "or": self.b.or_, "not": self.b.not_},
        }
        return (table.get(op) or getattr(self, op))(*args)
