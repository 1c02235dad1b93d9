// vmath_log.h: logarithms by the series of atanh.
#pragma once
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// 1/(2k+1) + s2/(2k+3) + s2²/(2k+5) + … to 1/(2n+1). A loop would divide at run time: GCC doesn't unroll the long one.
template <class T, int k, int n>
FR_INLINE typename Simd<T>::V odd_reciprocals(typename Simd<T>::V s2) {
    const auto coefficient = broadcast(T(1.0 / (2 * k + 1)));
    if constexpr (k == n)
        return coefficient;
    else
        return fma(odd_reciprocals<T, k + 1, n>(s2), s2, coefficient);
}

// log(1+t) for 0 ≤ t ≤ 1: 2·atanh(s) = 2·(s + s³/3 + s⁵/5 + …) with s = t/(2+t) ≤ 1/3
template <class T>
FR_INLINE typename Simd<T>::V log1p(typename Simd<T>::V t) {
    using V = typename Simd<T>::V;
    constexpr int kTerms = sizeof(T) == 4 ? 8 : 17;  // the next, 3^(-2k)/(2k+1), is below half an ulp
    V s = t / (broadcast(T(2)) + t), s2 = s * s, twice = s + s;
    return fma(twice * s2, odd_reciprocals<T, 1, kTerms>(s2), twice);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
