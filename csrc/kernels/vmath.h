// vmath.h: exp, tanh and sigmoid on whole vectors, within 4 ulp over the whole range (tests/core/test_vmath.py).
//
// All three reduce the argument as y = n·ln2 + r, |r| ≤ ln2/2, and share one polynomial for expm1(r) = r + r²·Q(r).
// Q was fitted at Chebyshev nodes of |r| ≤ ln2/2 in 60-digit arithmetic; its relative error in exp is 1.0e-8 (float32,
// 0.17 ulp) and 1.7e-17 (float64, 0.15 ulp). NaN in gives NaN out: the clamps keep their second operand.
#pragma once
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
    static constexpr float kLog2e = 1.44269504088896340736f;
    static constexpr float kLn2Hi = 0x1.62e4p-1f;       // 15 bits: n·kLn2Hi is exact without FMA too
    static constexpr float kLn2Lo = 0x1.7f7d1cf8p-20f;  // ln2 - kLn2Hi
    static constexpr float kMagic = 0x1.8p23f;          // adding it rounds to an integer
    static constexpr float kMin = -104.0f, kMax = 89.0f;
    static constexpr float kSigmoidMax = 60.0f;
    static constexpr float kTanhMin = -20.0f;  // 2|x| past which tanh is 1
    static constexpr int kDegree = 4;
    static constexpr float kQ[] = {0.5f, 0.16666576845993976311f, 0.041666554437685938899f, 0.0083632029715758549465f,
                                   0.0013926213466332443037f};
};
template <>
struct ExpConstants<double> {
    static constexpr double kLog2e = 1.44269504088896340736;
    static constexpr double kLn2Hi = 0x1.62e42fee00000p-1;
    static constexpr double kLn2Lo = 0x1.a39ef35793c76p-33;
    static constexpr double kMagic = 0x1.8p52;
    static constexpr double kMin = -746.0, kMax = 710.0;
    static constexpr double kSigmoidMax = 300.0;
    static constexpr double kTanhMin = -42.0;
    static constexpr int kDegree = 9;
    static constexpr double kQ[] = {0.50000000000000010262,     0.16666666666666667456,   0.041666666666623991516,
                                    0.0083333333333300513464,   0.0013888888917281793308, 0.00019841269863105968748,
                                    0.000024801521190217727651, 2.7557268378684192873e-6, 2.7620138719733995569e-7,
                                    2.5100424157005066788e-8};
};

template <class T>
struct Reduced {
    typename Simd<T>::V p;  // expm1(r)
    typename Simd<T>::V n;  // the power of two, as a float
    typename Simd<T>::I i;  // and as an integer
};

template <class T>
FR_INLINE Reduced<T> reduce_exp(typename Simd<T>::V y) {
    using C = ExpConstants<T>;
    using V = typename Simd<T>::V;
    V t = fma(y, broadcast(C::kLog2e), broadcast(C::kMagic));
    V n = t - broadcast(C::kMagic);
    V r = fnma(n, broadcast(C::kLn2Hi), y);
    r = fnma(n, broadcast(C::kLn2Lo), r);
    V q = broadcast(C::kQ[C::kDegree]);
    FR_UNROLL
    for (int k = C::kDegree - 1; k >= 0; --k) q = fma(q, r, broadcast(C::kQ[k]));
    Reduced<T> out;
    out.p = fma(r * r, q, r);
    out.n = n;
    using U = typename Simd<T>::U;  // wraps where NaN makes it meaningless
    out.i = (typename Simd<T>::I)((U)bits<T>(t) - (U)bits<T>(broadcast(C::kMagic)));
    return out;
}

// 2^i for i within the normal range
template <class T>
FR_INLINE typename Simd<T>::V power_of_two(typename Simd<T>::I i) {
    using U = typename Simd<T>::U;
    constexpr typename Simd<T>::Int bias = Simd<T>::kBias;
    return from_bits<T>((typename Simd<T>::I)(((U)i + (U)(typename Simd<T>::I{} + bias)) << Simd<T>::kMantissa));
}

#if defined(__AVX512F__)
template <class T>
FR_INLINE VF scale2(VF v, const Reduced<T>& e) {
    return (VF)_mm512_maskz_scalef_ps(kAllF, v, e.n);
}
template <class T>
FR_INLINE VD scale2(VD v, const Reduced<T>& e) {
    return (VD)_mm512_maskz_scalef_pd(kAllD, v, e.n);
}
#else
template <class T>
FR_INLINE typename Simd<T>::V scale2(typename Simd<T>::V v, const Reduced<T>& e) {
    // in two steps, so that overflow and subnormal results round as they should
    using I = typename Simd<T>::I;
    using U = typename Simd<T>::U;
    constexpr typename Simd<T>::Int even = 4096;  // makes the halving of a negative number a plain shift
    U i = (U)e.i, half = ((i + (U)(I{} + even)) >> 1) - (U)(I{} + even / 2);
    return v * power_of_two<T>((I)half) * power_of_two<T>((I)(i - half));
}
#endif

template <class T>
FR_INLINE typename Simd<T>::V exp(typename Simd<T>::V x) {
    using C = ExpConstants<T>;
    x = max(broadcast(C::kMin), min(broadcast(C::kMax), x));
    Reduced<T> e = reduce_exp<T>(x);
    return scale2<T>(broadcast(T(1)) + e.p, e);
}

template <class T>
FR_INLINE typename Simd<T>::V abs(typename Simd<T>::V x) {
    return from_bits<T>(bits<T>(x) & ~bits<T>(broadcast(T(-0.0))));
}
template <class T>
FR_INLINE typename Simd<T>::V negative_abs(typename Simd<T>::V x) {
    return from_bits<T>(bits<T>(x) | bits<T>(broadcast(T(-0.0))));
}

// σ(x) = e/(1+e) with e = exp(x) for x limited to low … high, where that is finite
template <class T>
FR_INLINE typename Simd<T>::V sigmoid_between(typename Simd<T>::V x, typename Simd<T>::V low, typename Simd<T>::V high) {
    x = max(low, min(high, x));
    const Reduced<T> r = reduce_exp<T>(x);
    const typename Simd<T>::V one = broadcast(T(1)), e = scale2<T>(one + r.p, r);
    return e / (one + e);
}
// high: where σ is 1 to rounding; very negative x keep their digits
template <class T>
FR_INLINE typename Simd<T>::V sigmoid(typename Simd<T>::V x) {
    using C = ExpConstants<T>;
    return sigmoid_between<T>(x, broadcast(C::kMin), broadcast(C::kSigmoidMax));
}

// tanh|x| = -m/(2+m) with m = expm1(-2|x|), then the sign of x: no cancellation for tiny x. -2|x| is limited to `low`.
template <class T>
FR_INLINE typename Simd<T>::V tanh_from(typename Simd<T>::V x, typename Simd<T>::V low) {
    using V = typename Simd<T>::V;
    V y = negative_abs<T>(x);
    y = max(low, y + y);
    Reduced<T> e = reduce_exp<T>(y);
    V s = power_of_two<T>(e.i);
    V m = fma(e.p, s, s - broadcast(T(1)));
    V t = m / (broadcast(T(2)) + m);  // = -tanh|x|, so its sign bit is set; keep x's
    auto sign = bits<T>(broadcast(T(-0.0)));
    return from_bits<T>((bits<T>(t) & ~sign) | (bits<T>(x) & sign));
}
template <class T>
FR_INLINE typename Simd<T>::V tanh(typename Simd<T>::V x) {
    return tanh_from<T>(x, broadcast(ExpConstants<T>::kTanhMin));
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
