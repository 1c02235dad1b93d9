// scan_cells.h: the equations of the cells of scan.h, forward beside backward.
//
// `At` is one vector of channels at one step. forward: z, s (the state before), p, x → s (after), y. backward: z, s (before),
// p, x, dy, ds (the gradient of the state after) → z (its gradient), ds (of the state before), dp (accumulates), dx.
#pragma once
#include "../fastrnn.h"
#include "../scan.h"
#include "ops_activation.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
struct At {
    using V = typename Simd<T>::V;
    V z[3], s[2], p[2], x, y;
    V dy, ds[2], dp[2], dx;
};

// What a cell tells the walk: blocks of z beside a skip's, states, parameters of a channel; whether s is saved beside y, there
// is a skip, and there is a y, without which z holds the gradient of s in backward.
template <class T>
struct Options {
    typename Simd<T>::V alpha;
    bool option;
};

//   x̃ = z₀;  f = σ(z₁ + v_f ⊙ c₋₁);  r = σ(z₂ + v_r ⊙ c₋₁);  c = f ⊙ c₋₁ + (1 − f) ⊙ x̃;  h = r ⊙ g(c) + (1 − r) ⊙ α·x
struct Sru {
    static constexpr int kGates = 3, kStates = 1, kParams = 2;
    static constexpr bool kSaves = true, kSkip = true, kOutputs = true;
    template <class T>
    static FR_INLINE void forward(At<T>& a, const Options<T>& o) {
        const auto f = sigmoid<T>(fma(a.p[0], a.s[0], a.z[1])), r = sigmoid<T>(fma(a.p[1], a.s[0], a.z[2]));
        a.s[0] = fma(f, a.s[0] - a.z[0], a.z[0]);
        const auto ax = o.alpha * a.x;
        a.y = fma(r, (o.option ? tanh<T>(a.s[0]) : a.s[0]) - ax, ax);
    }
    template <class T>
    static FR_INLINE void backward(At<T>& a, const Options<T>& o) {
        const auto one = broadcast(T(1)), before = a.s[0];
        const auto f = sigmoid<T>(fma(a.p[0], before, a.z[1])), r = sigmoid<T>(fma(a.p[1], before, a.z[2]));
        const auto c = fma(f, before - a.z[0], a.z[0]), g = o.option ? tanh<T>(c) : c, ax = o.alpha * a.x;
        const auto dg = a.dy * r, dr = a.dy * (g - ax);  // h = r ⊙ g(c) + (1 − r) ⊙ α·x
        a.dx = o.alpha * a.dy * (one - r);
        const auto dc = a.ds[0] + (o.option ? dg * fnma(g, g, one) : dg);
        const auto df = dc * (before - a.z[0]);  // c = f ⊙ c₋₁ + (1 − f) ⊙ x̃
        a.z[0] = dc * (one - f);
        a.z[1] = df * f * (one - f);  // f = σ(z₁ + v_f ⊙ c₋₁)
        a.z[2] = dr * r * (one - r);  // r = σ(z₂ + v_r ⊙ c₋₁)
        a.dp[0] = fma(a.z[1], before, a.dp[0]);
        a.dp[1] = fma(a.z[2], before, a.dp[1]);
        a.ds[0] = fma(dc, f, fma(a.z[1], a.p[0], a.z[2] * a.p[1]));
    }
};

//   z = tanh(z₀);  f = σ(z₁);  o = σ(z₂);  c = f ⊙ c₋₁ + (1 − f) ⊙ z;  h = o ⊙ c
struct Qrnn {
    static constexpr int kGates = 3, kStates = 1, kParams = 0;
    static constexpr bool kSaves = true, kSkip = false, kOutputs = true;
    template <class T>
    static FR_INLINE void forward(At<T>& a, const Options<T>&) {
        const auto z = tanh<T>(a.z[0]);
        a.s[0] = fma(sigmoid<T>(a.z[1]), a.s[0] - z, z);
        a.y = sigmoid<T>(a.z[2]) * a.s[0];
    }
    template <class T>
    static FR_INLINE void backward(At<T>& a, const Options<T>&) {
        const auto one = broadcast(T(1)), before = a.s[0];
        const auto z = tanh<T>(a.z[0]), f = sigmoid<T>(a.z[1]), o = sigmoid<T>(a.z[2]), c = fma(f, before - z, z);
        const auto dc = fma(a.dy, o, a.ds[0]);  // h = o ⊙ c
        a.z[2] = a.dy * c * o * (one - o);
        a.z[1] = dc * (before - z) * f * (one - f);  // c = f ⊙ c₋₁ + (1 − f) ⊙ z
        a.z[0] = dc * (one - f) * fnma(z, z, one);
        a.ds[0] = dc * f;
    }
};

// g(v) = v + ½ for v ≥ 0, σ(v) below: positive and continuous
template <class T>
FR_INLINE typename Simd<T>::V candidate(typename Simd<T>::V v, bool positive) {
    if (!positive) return v;
    const auto s = sigmoid<T>(v);
    return v >= zero<T>() ? v + broadcast(T(0.5)) : s;
}
// g'(v), from g(v)
template <class T>
FR_INLINE typename Simd<T>::V candidate_slope(typename Simd<T>::V v, typename Simd<T>::V g, bool positive) {
    const auto one = broadcast(T(1));
    if (!positive) return one;
    const auto below = g * (one - g);
    return v >= zero<T>() ? one : below;
}

//   z = σ(z₀);  h̃ = z₁ or g(z₁);  h = (1 − z) ⊙ h₋₁ + z ⊙ h̃
struct MinGru {
    static constexpr int kGates = 2, kStates = 1, kParams = 0;
    static constexpr bool kSaves = false, kSkip = false, kOutputs = true;
    template <class T>
    static FR_INLINE void forward(At<T>& a, const Options<T>& o) {
        a.y = a.s[0] = fma(sigmoid<T>(a.z[0]), candidate<T>(a.z[1], o.option) - a.s[0], a.s[0]);
    }
    template <class T>
    static FR_INLINE void backward(At<T>& a, const Options<T>& o) {
        const auto one = broadcast(T(1)), z = sigmoid<T>(a.z[0]), g = candidate<T>(a.z[1], o.option), dh = a.ds[0] + a.dy;
        a.z[0] = dh * (g - a.s[0]) * z * (one - z);
        a.z[1] = dh * z * candidate_slope<T>(a.z[1], g, o.option);
        a.ds[0] = dh * (one - z);
    }
};

//   f, i = σ(z₀), σ(z₁);  h̃ = z₂ or g(z₂);  h = f/(f + i) ⊙ h₋₁ + i/(f + i) ⊙ h̃
//
// With u = 1/f = 1 + exp(−z₀) and v = 1/i = 1 + exp(−z₁) the shares are v/(u + v) and u/(u + v): no 0/0 where both gates are
// closed. Arguments are limited to where the sum is finite.
struct MinLstm {
    static constexpr int kGates = 3, kStates = 1, kParams = 0;
    static constexpr bool kSaves = false, kSkip = false, kOutputs = true;
    template <class T>
    static FR_INLINE typename Simd<T>::V odds(typename Simd<T>::V z) {  // exp(−z)
        return exp<T>(min(broadcast(T(sizeof(T) == 4 ? 86 : 700)), -z));
    }
    template <class T>
    static FR_INLINE void forward(At<T>& a, const Options<T>& o) {
        const auto one = broadcast(T(1)), u = one + odds<T>(a.z[0]), v = one + odds<T>(a.z[1]);
        a.y = a.s[0] = fma(u / (u + v), candidate<T>(a.z[2], o.option) - a.s[0], a.s[0]);
    }
    template <class T>
    static FR_INLINE void backward(At<T>& a, const Options<T>& o) {
        const auto one = broadcast(T(1)), x = odds<T>(a.z[0]), w = odds<T>(a.z[1]), u = one + x, v = one + w;
        const auto share = one / (u + v), f = v * share, i = u * share;  // f/(f + i), i/(f + i)
        const auto g = candidate<T>(a.z[2], o.option), dh = a.ds[0] + a.dy;
        const auto d = dh * (g - a.s[0]) * share;
        a.z[0] = -d * f * x;  // of i/(f + i) = u·share by z₀: −x·share·f
        a.z[1] = d * i * w;
        a.z[2] = dh * i * candidate_slope<T>(a.z[2], g, o.option);
        a.ds[0] = dh * f;
    }
};

//   s = λ ⊙ s₋₁ + z, in complex numbers
struct Lru {
    static constexpr int kGates = 2, kStates = 2, kParams = 2;
    static constexpr bool kSaves = true, kSkip = false, kOutputs = false;
    template <class T>
    static FR_INLINE void forward(At<T>& a, const Options<T>&) {
        const auto re = fnma(a.p[1], a.s[1], fma(a.p[0], a.s[0], a.z[0]));
        a.s[1] = fma(a.p[1], a.s[0], fma(a.p[0], a.s[1], a.z[1]));
        a.s[0] = re;
    }
    template <class T>
    static FR_INLINE void backward(At<T>& a, const Options<T>&) {  // z holds the gradient of s
        const auto re = a.z[0] + a.ds[0], im = a.z[1] + a.ds[1];
        a.dp[0] = fma(re, a.s[0], fma(im, a.s[1], a.dp[0]));
        a.dp[1] = fma(im, a.s[0], fnma(re, a.s[1], a.dp[1]));
        a.ds[0] = fma(a.p[0], re, a.p[1] * im);
        a.ds[1] = fma(a.p[0], im, -a.p[1] * re);
        a.z[0] = re;
        a.z[1] = im;
    }
};

//   h = φ(z + u ⊙ h₋₁), φ = tanh or relu
struct IndRnn {
    static constexpr int kGates = 1, kStates = 1, kParams = 1;
    static constexpr bool kSaves = false, kSkip = false, kOutputs = true;
    template <class T>
    static FR_INLINE typename Simd<T>::V phi(const At<T>& a, bool relu) {
        const auto v = fma(a.p[0], a.s[0], a.z[0]);
        return relu ? max(zero<T>(), v) : tanh<T>(v);
    }
    template <class T>
    static FR_INLINE void forward(At<T>& a, const Options<T>& o) {
        a.y = a.s[0] = phi<T>(a, o.option);
    }
    template <class T>
    static FR_INLINE void backward(At<T>& a, const Options<T>& o) {
        const auto h = phi<T>(a, o.option), dh = a.ds[0] + a.dy;
        a.z[0] = o.option ? by_sign<T>(h, dh, zero<T>()) : dh * fnma(h, h, broadcast(T(1)));
        a.dp[0] = fma(a.z[0], a.s[0], a.dp[0]);
        a.ds[0] = a.z[0] * a.p[0];
    }
};

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
