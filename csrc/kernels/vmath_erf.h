// vmath_erf.h: the normal distribution function, for GELU.
//
// Φ(-√2·z) = erfc(z)/2 = e^(-z²)·P(t)/(1 + 2z) for z ≥ 0, with t = (z - k)/(z + k) (the form of Shepherd and Laframboise 1981).
// P was fitted at Chebyshev nodes in 50-digit arithmetic, up to where e^(-z²) is 0; its error is 3.4e-9 (float32) and 6.7e-18.
#pragma once
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
struct ErfcConstants;

template <>
struct ErfcConstants<float> {
    static constexpr float kMax = 10.5f, kShift = 2.5f;
    static constexpr int kDegree = 10;
    static constexpr float kP[] = {0.6324190907f,    -0.06117834346f,  -0.04951210646f,  0.07881379265f,
                                   -0.05148677173f,  0.01638950325f,   0.0004900941782f, -0.002212161928f,
                                   0.0001702463033f, 0.0003085024382f, 4.073792621e-5f};
};
template <>
struct ErfcConstants<double> {
    static constexpr double kMax = 27.5, kShift = 3.5;
    static constexpr int kDegree = 22;
    static constexpr double kP[] = {
        0.62117462243557719503,      -0.070004590068809602332,   -0.0052777981661086973211, 0.048759547576616588116,
        -0.057544799080130909497,    0.043991576912869742588,    -0.024411662912914793011,  0.0095496654642999393575,
        -0.0021075099693280137207,   -0.00015113387874044105367, 0.00028219234071354815227, -0.000060756523927338741383,
        -0.000021391807899484622136, 0.000012131492905015447986, 1.1664584320467032333e-6,  -1.9093226659414161669e-6,
        -2.6988299062396085711e-8,   3.0279690777064962203e-7,   2.3664632294712965828e-9,  -4.8456792242374495747e-8,
        -4.3326250130753773436e-9,   5.798527639649968252e-9,    1.4473110938126124816e-9};
};

template <class T>
struct Normal {
    typename Simd<T>::V phi, e;  // Φ(x), e^(-x²/2)
};

template <class T>
FR_INLINE Normal<T> normal(typename Simd<T>::V x) {
    using C = ErfcConstants<T>;
    using V = typename Simd<T>::V;
    const V one = broadcast(T(1)), k = broadcast(C::kShift);
    const V z = min(broadcast(C::kMax), abs<T>(x) * broadcast(T(0.70710678118654752440)));
    const V s = z + k, u = fma(broadcast(T(2)), z, one), r = one / (s * u), t = (z - k) * (u * r);  // one division for two
    V p = broadcast(C::kP[C::kDegree]);
    FR_UNROLL
    for (int i = C::kDegree - 1; i >= 0; --i) p = fma(p, t, broadcast(C::kP[i]));
    const V e = exp<T>(-(z * z)), h = e * p * (s * r);
    return {x < zero<T>() ? h : one - h, e};
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
