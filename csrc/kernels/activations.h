// activations.h: a gate's activation and its derivative, from z. Which activation is known at run time.
//
// Gates limit z to [−clip, clip] first, if there is a clip; their derivative is 0 where that changed z. σ and tanh are known
// from their value, and that is saved (SigmoidGate, TanhGate); for the rest (AnyGate) it is z, and f(z) is computed again.
// NaN in gives NaN out, in the derivatives too.
#pragma once
#include "../variant.h"
#include "vmath_log.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
struct Activated {
    typename Simd<T>::V value, slope;  // f(z), f'(z)
};

// eᶻ − 1 for z ≤ 0
template <class T>
FR_INLINE typename Simd<T>::V expm1_negative(typename Simd<T>::V z) {
    const Reduced<T> e = reduce_exp<T>(max(broadcast(ExpConstants<T>::kTanhMin), z));
    const auto s = power_of_two<T>(e.i);
    return fma(e.p, s, s - broadcast(T(1)));
}

// not inlined: as many calls as there are gates would be as many copies of everything here
template <class T>
FR_NOINLINE typename Simd<T>::V activate(int kind, T alpha, T beta, typename Simd<T>::V z) {
    using V = typename Simd<T>::V;
    const V none = zero<T>(), one = broadcast(T(1)), a = broadcast(alpha), b = broadcast(beta);
    switch (kind) {
        case kActTanh:
            return tanh<T>(z);
        case kActSigmoid:
            return sigmoid<T>(z);
        case kActRelu:
            return max(none, z);
        case kActLeakyRelu:
            return z > none ? z : a * z;
        case kActThresholdedRelu:
            return z < a ? none : z;
        case kActAffine:
            return fma(a, z, b);
        case kActScaledTanh:
            return a * tanh<T>(b * z);
        case kActHardSigmoid:
            return max(none, min(one, fma(a, z, b)));
        case kActElu:
            return z > none ? z : a * expm1_negative<T>(min(none, z));
        case kActSoftsign:
            return z / (one + abs<T>(z));
        case kActSoftplus:
            return max(none, z) + log1p<T>(exp<T>(negative_abs<T>(z)));
        default:
            return z;
    }
}

template <class T>
FR_NOINLINE typename Simd<T>::V activation_slope(int kind, T alpha, T beta, typename Simd<T>::V z) {
    using V = typename Simd<T>::V;
    const V none = zero<T>(), one = broadcast(T(1)), a = broadcast(alpha), b = broadcast(beta);
    V slope = one, t;
    switch (kind) {
        case kActTanh:
            t = tanh<T>(z), slope = fnma(t, t, one);
            break;
        case kActSigmoid:
            t = sigmoid<T>(z), slope = t * (one - t);
            break;
        case kActRelu:
            slope = z > none ? one : none;
            break;
        case kActLeakyRelu:
            slope = z > none ? one : a;
            break;
        case kActThresholdedRelu:
            slope = z < a ? none : one;
            break;
        case kActAffine:
            slope = a;
            break;
        case kActScaledTanh:
            t = tanh<T>(b * z), slope = a * b * fnma(t, t, one);
            break;
        case kActHardSigmoid:
            t = fma(a, z, b), slope = t > none ? a : none, slope = t < one ? slope : none;
            break;
        case kActElu:
            slope = z > none ? one : a * exp<T>(min(none, z));
            break;
        case kActSoftsign:
            t = one / (one + abs<T>(z)), slope = t * t;
            break;
        case kActSoftplus:
            slope = sigmoid<T>(z);
            break;
    }
    return z == z ? slope : z;
}

// clip, or what limits nothing
template <class T>
FR_INLINE typename Simd<T>::V limit_of(double clip) {
    return broadcast(T(clip > 0 ? clip : __builtin_inf()));
}

// Saved is the value. Where z was limited it gets a minus sign, for backward to know.
template <class T, bool kClip>
struct SigmoidGate {
    using V = typename Simd<T>::V;
    V limit, low, high;  // what is limited for the clip needs no limits of sigmoid's own

    FR_INLINE SigmoidGate(const CellActivationSettings&, double clip)
        : limit(limit_of<T>(clip)),
          low(max(broadcast(ExpConstants<T>::kMin), -limit)),
          high(min(broadcast(ExpConstants<T>::kSigmoidMax), limit)) {}

    // f(z), and what to save
    FR_INLINE V operator()(V z, V& saved) const {
        if (!kClip) return saved = sigmoid<T>(z);
        const V v = sigmoid_between<T>(z, low, high), inside = limit - abs<T>(z);  // negative where limited
        saved = from_bits<T>(bits<T>(v) | (bits<T>(inside) & bits<T>(broadcast(T(-0.0)))));
        return v;
    }
    FR_INLINE Activated<T> back(V saved) const {
        const V one = broadcast(T(1));
        if (!kClip) return {saved, saved * (one - saved)};
        const V v = abs<T>(saved);
        return {v, saved < zero<T>() ? zero<T>() : v * (one - v)};
    }
};

// Saved is the value. Where z was limited it is ±tanh(clip), for which ±2 stands.
template <class T, bool kClip>
struct TanhGate {
    using V = typename Simd<T>::V;
    V limit, low, top;

    FR_INLINE TanhGate(const CellActivationSettings&, double clip)
        : limit(limit_of<T>(clip)),
          low(max(broadcast(ExpConstants<T>::kTanhMin), -(limit + limit))),
          top(kClip ? tanh<T>(limit) : limit) {}

    static FR_INLINE V signed_as(V v, V sign) {
        return from_bits<T>(bits<T>(v) | (bits<T>(sign) & bits<T>(broadcast(T(-0.0)))));
    }
    FR_INLINE V operator()(V z, V& saved) const {
        if (!kClip) return saved = tanh<T>(z);
        const V v = tanh_from<T>(z, low);
        saved = abs<T>(z) > limit ? signed_as(broadcast(T(2)), z) : v;
        return v;
    }
    FR_INLINE Activated<T> back(V saved) const {
        const V one = broadcast(T(1));
        if (!kClip) return {saved, fnma(saved, saved, one)};
        const auto limited = abs<T>(saved) > one;
        return {limited ? signed_as(top, saved) : saved, limited ? zero<T>() : fnma(saved, saved, one)};
    }
    FR_INLINE Activated<T> both(V z) const {
        const V t = tanh<T>(z);
        return {t, fnma(t, t, broadcast(T(1)))};
    }
};

// Any activation. Saved is z as it came.
template <class T>
struct AnyGate {
    using V = typename Simd<T>::V;
    int kind;
    T alpha, beta;
    V limit;

    FR_INLINE AnyGate(const CellActivationSettings& f, double clip)
        : kind(f.kind), alpha(T(f.alpha)), beta(T(f.beta)), limit(limit_of<T>(clip)) {}

    FR_INLINE V limited(V z) const { return max(-limit, min(limit, z)); }
    FR_INLINE V operator()(V z, V& saved) const {
        saved = z;
        return activate<T>(kind, alpha, beta, limited(z));
    }
    FR_INLINE V slope(V z) const {
        const V s = activation_slope<T>(kind, alpha, beta, limited(z));
        return abs<T>(z) > limit ? zero<T>() : s;
    }
    FR_INLINE Activated<T> both(V z) const { return {activate<T>(kind, alpha, beta, limited(z)), slope(z)}; }
    FR_INLINE Activated<T> back(V saved) const { return both(saved); }
};

// a cell's gates: the usual activations (kClip: with a clip, or perhaps none), or whatever the settings say
template <class T, bool kClip>
struct Usual {
    using Gate = SigmoidGate<T, kClip>;
    using Candidate = TanhGate<T, kClip>;
    using Output = TanhGate<T, false>;
};
template <class T>
struct Any {
    using Gate = AnyGate<T>;
    using Candidate = AnyGate<T>;
    using Output = AnyGate<T>;
};

// what a cell's functions work on
template <class T>
struct TileOf {
    const CellTile& t;
    const VariantSettings& settings() const { return *static_cast<const VariantSettings*>(t.context); }
    FR_INLINE T* gates(ptrdiff_t r) const { return static_cast<T*>(t.gates[r]); }
    FR_INLINE const T* before(int state, ptrdiff_t r) const { return static_cast<const T*>(t.before[state][r]); }
    FR_INLINE T* after(int state, ptrdiff_t r) const { return static_cast<T*>(t.after[state][r]); }
    FR_INLINE T* gradient(int state, ptrdiff_t r) const { return static_cast<T*>(t.gradient[state][r]); }
    FR_INLINE T* product(ptrdiff_t r) const { return static_cast<T*>(t.product[r]); }
    FR_INLINE const T* vector(int v) const { return static_cast<const T*>(t.vectors[v]); }
};

// v in the first n lanes, 0 in the others
template <class T>
FR_INLINE typename Simd<T>::V within(typename Simd<T>::V v, ptrdiff_t n) {
    if (n >= VL<T>) return v;
    typename Simd<T>::I lane;
    FR_UNROLL
    for (int i = 0; i < VL<T>; ++i) lane[i] = i;
    return lane < typename Simd<T>::Int(n) ? v : zero<T>();
}

// whole vectors of units
template <class T, class Body>
FR_INLINE void each_unit(const CellTile& t, Body body) {
    const ptrdiff_t last = t.last;
    for (ptrdiff_t u = t.first; u < last; u += VL<T>) body(u);
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
