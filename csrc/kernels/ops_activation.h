// ops_activation.h: y = f(x) and dx = f'(x)·dy.
//
//   exp       y = eˣ                  dx = y·dy
//   tanh      y = tanh(x)             dx = (1-y²)·dy
//   sigmoid   y = σ(x)                dx = y·(1-y)·dy
//   relu      y = max(x, 0)           dx = dy where y > 0, else 0
//   leaky     y = x or α·x            dx = dy where x > 0, else α·dy
//   swish     y = x·σ(α·x)            dx = σ(z)·(1 + z·σ(-z))·dy    z = α·x
//   gelu      y = x·Φ(x)              dx = (Φ(x) + x·e^(-x²/2)/√2π)·dy
//
// NaN in gives NaN out, in the kinked functions' derivatives too.
#pragma once
#include "../ops.h"
#include "ops_vectors.h"
#include "vmath_erf.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
void activation(int f, const T* x, T* out, ptrdiff_t n, double alpha, int threads) noexcept {
    using V = typename Simd<T>::V;
    const V a = broadcast(T(alpha)), none = zero<T>();
    auto apply = [=](double ns, auto y) { each<T>(n, ns, threads, [=](auto at) { at.put(out, y(at.get(x))); }); };
    switch (f) {
        case kExp:
            return apply(0.5, [](V v) { return exp<T>(v); });
        case kTanh:
            return apply(0.7, [](V v) { return tanh<T>(v); });
        case kSigmoid:
            return apply(0.7, [](V v) { return sigmoid<T>(v); });
        case kRelu:
            return apply(0.1, [=](V v) { return max(none, v); });
        case kLeakyRelu:
            return apply(0.1, [=](V v) { return v > none ? v : a * v; });
        case kSwish:
            return apply(0.7, [=](V v) { return v * sigmoid<T>(a * v); });
        case kGelu:
            return apply(1.2, [](V v) { return v * normal<T>(v).phi; });
    }
}

// dx where the sign of x decides: x > 0, x ≤ 0, NaN
template <class T>
FR_INLINE typename Simd<T>::V by_sign(typename Simd<T>::V x, typename Simd<T>::V above, typename Simd<T>::V below) {
    typename Simd<T>::V other = x <= zero<T>() ? below : x;
    return x > zero<T>() ? above : other;
}

template <class T>
void activation_backward(int f, const T* x, const T* y, const T* dy, T* out, ptrdiff_t n, double alpha, int threads) noexcept {
    using V = typename Simd<T>::V;
    const V a = broadcast(T(alpha)), none = zero<T>(), one = broadcast(T(1));
    auto apply = [=](double ns, const T* saved, auto dx) {
        each<T>(n, ns, threads, [=](auto at) { at.put(out, dx(at.get(saved), at.get(dy))); });
    };
    switch (f) {
        case kExp:
            return apply(0.1, y, [](V v, V d) { return d * v; });
        case kTanh:
            return apply(0.1, y, [=](V v, V d) { return d * fnma(v, v, one); });
        case kSigmoid:
            return apply(0.1, y, [=](V v, V d) { return d * v * (one - v); });
        case kRelu:
            return apply(0.1, y, [=](V v, V d) { return by_sign<T>(v, d, none); });
        case kLeakyRelu:
            return apply(0.1, x, [=](V v, V d) { return by_sign<T>(v, d, a * d); });
        case kSwish:
            return apply(0.7, x, [=](V v, V d) {
                V z = a * v, e = exp<T>(negative_abs<T>(z)), q = one / (one + e), r = e * q;  // σ(|z|), σ(-|z|)
                V s = z < none ? r : q, t = z < none ? q : r;
                return d * s * fma(z, t, one);
            });
        case kGelu:
            return apply(1.2, x, [=](V v, V d) {
                const Normal<T> g = normal<T>(v);
                return d * fma(v * g.e, broadcast(T(0.39894228040143267794)), g.phi);
            });
    }
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
