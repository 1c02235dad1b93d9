// word2vec_targets.h: up to eight targets of one prediction of word2vec.cpp: their products with h, g, the loss, the update.
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr int kGroup = 8;  // targets that are computed at once: as many sums as fit into registers

// ---- sums of eight vectors at once

typedef float Quad __attribute__((vector_size(16)));

// lanes of a and b in turn: the lower or upper two of each quad; then pairs of them
#if FASTRNN_VBYTES == 64
#define FR_QUADS(a, b, i, j, k, l)                                                                                            \
    __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, j + 12, k + 12, \
                            l + 12)
#elif FASTRNN_VBYTES == 32
#define FR_QUADS(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4)
#else
#define FR_QUADS(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#endif

template <class V>
FR_INLINE Quad fold_quads(V v) {
    if constexpr (sizeof(v) == 16)
        return (Quad)v;
    else
        return fold_quads(low_half(v) + high_half(v));
}

// Σ of the lanes of each of four vectors
FR_INLINE Quad sum_lanes(VF a, VF b, VF c, VF d) {
    constexpr int n = VL<float>;
    const VF ab = FR_QUADS(a, b, 0, n, 1, n + 1) + FR_QUADS(a, b, 2, n + 2, 3, n + 3);
    const VF cd = FR_QUADS(c, d, 0, n, 1, n + 1) + FR_QUADS(c, d, 2, n + 2, 3, n + 3);
    return fold_quads(FR_QUADS(ab, cd, 0, 1, n, n + 1) + FR_QUADS(ab, cd, 2, 3, n + 2, n + 3));
}

// Σ of the lanes of eight vectors
struct Octet {
    Quad low, high;
};

// ---- the loss: log of a product of factors 1 + e⁻ˣ, each lane's as mantissa and exponent, so no logarithm a prediction

struct LogProduct {
    VF mantissa = broadcast(1.0f);
    Simd<float>::I exponent = {};
    FR_INLINE void multiply(VF factor) {
        const auto m = bits<float>(mantissa * factor);
        exponent += (m >> 23) - 127;
        mantissa = from_bits<float>((m & 0x007fffff) | 0x3f800000);
    }
    double log() const {
        double total = 0;
        for (int i = 0; i < VL<float>; ++i)
            total += double(exponent[i]) * 0.69314718055994530942 + __builtin_log(double(mantissa[i]));
        return total;
    }
};

// ---- a group of targets

struct Group {
    float* row[kGroup];
    float* h;
    int n;
    uint32_t minus;  // bit t: s_t = -1
};

template <int n>
FR_INLINE Octet products_of(const Group& q, ptrdiff_t stride) {
    VF sum[kGroup] = {};
    for (ptrdiff_t d = 0; d < stride; d += VL<float>) {
        const VF hd = load(q.h + d);
        FR_UNROLL
        for (int t = 0; t < n; ++t) sum[t] = fma(load(q.row[t] + d), hd, sum[t]);
    }
    return {sum_lanes(sum[0], sum[1], sum[2], sum[3]), n > 4 ? sum_lanes(sum[4], sum[5], sum[6], sum[7]) : Quad{}};
}

enum Into { kSet, kAdd, kInPlace };  // e = Σ, e += Σ, h += Σ

template <int n, Into kInto>
FR_INLINE void update_of(const Group& q, const float* g, float* e, ptrdiff_t stride) {
    VF gt[n];
    FR_UNROLL
    for (int t = 0; t < n; ++t) gt[t] = broadcast(g[t]);
    for (ptrdiff_t d = 0; d < stride; d += VL<float>) {
        const VF hd = load(q.h + d);
        VF ed = kInto == kAdd ? load(e + d) : zero<float>();
        FR_UNROLL
        for (int t = 0; t < n; ++t) {
            const VF u = load(q.row[t] + d);
            ed = fma(gt[t], u, ed);
            store(q.row[t] + d, fma(gt[t], hd, u));
        }
        if (kInto == kInPlace)
            store(q.h + d, hd + ed);
        else
            store(e + d, ed);
    }
}

#define FR_BY_SIZE(call)    \
    switch (q.n) {          \
        case 1:             \
            return call(1); \
        case 2:             \
            return call(2); \
        case 3:             \
            return call(3); \
        case 4:             \
            return call(4); \
        case 5:             \
            return call(5); \
        case 6:             \
            return call(6); \
        case 7:             \
            return call(7); \
        default:            \
            return call(8); \
    }

FR_INLINE Octet products(const Group& q, ptrdiff_t stride) {
#define FR_CALL(n) products_of<n>(q, stride)
    FR_BY_SIZE(FR_CALL)
#undef FR_CALL
}
template <Into kInto>
FR_INLINE void update(const Group& q, const float* g, float* e, ptrdiff_t stride) {
#define FR_CALL(n) update_of<n, kInto>(q, g, e, stride)
    FR_BY_SIZE(FR_CALL)
#undef FR_CALL
}

constexpr float kSure = 60.0f;  // |x| past which nothing is learned, and 1 + eˣ is still finite

// g_t of as many targets as a vector has lanes. x in registers all the way: a load across two stores would wait until the
// stores of the batch before have left
FR_INLINE void gradients(VF x, uint32_t minus, uint32_t active, float* g, float lr, LogProduct& loss) {
    using U = Simd<float>::U;
    U lane;
    FR_UNROLL
    for (int i = 0; i < VL<float>; ++i) lane[i] = uint32_t(i);
    const U sign = ((U{} + minus) >> lane) << 31, there = U{} - (((U{} + active) >> lane) & 1);
    const VF one = broadcast(1.0f);
    const VF z = max(broadcast(-kSure), min(broadcast(kSure), (VF)((U)x ^ sign ^ 0x80000000u)));
    const Reduced<float> r = reduce_exp<float>(z);
    const VF t = (VF)((U)scale2<float>(one + r.p, r) & there), factor = one + t;
    loss.multiply(factor);
    store(g, (VF)((U)(broadcast(lr) * (t / factor)) ^ sign));
}

FR_INLINE uint32_t first_bits(int n) { return (1u << n) - 1; }

// g of `count` groups, [count·kGroup]
FR_INLINE void gradients_of(const Group* groups, ptrdiff_t count, float* g, ptrdiff_t stride, float lr, LogProduct& loss) {
#if FASTRNN_VBYTES == 64
    for (ptrdiff_t k = 0; k < count; k += 2, g += 2 * kGroup) {
        const Group& q = groups[k];
        const Octet a = products(q, stride);
        Octet b{};
        uint32_t minus = q.minus, active = first_bits(q.n);
        if (k + 1 < count) {
            const Group& next = groups[k + 1];
            b = products(next, stride);
            minus |= next.minus << kGroup;
            active |= first_bits(next.n) << kGroup;
        }
        const auto low = __builtin_shufflevector(a.low, a.high, 0, 1, 2, 3, 4, 5, 6, 7);
        const auto high = __builtin_shufflevector(b.low, b.high, 0, 1, 2, 3, 4, 5, 6, 7);
        const VF x = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        gradients(x, minus, active, g, lr, loss);
    }
#else
    for (ptrdiff_t k = 0; k < count; ++k, g += kGroup) {
        const Group& q = groups[k];
        const Octet a = products(q, stride);
        const uint32_t active = first_bits(q.n);
#if FASTRNN_VBYTES == 32
        gradients(__builtin_shufflevector(a.low, a.high, 0, 1, 2, 3, 4, 5, 6, 7), q.minus, active, g, lr, loss);
#else
        gradients(a.low, q.minus, active, g, lr, loss);
        if (q.n > 4) gradients(a.high, q.minus >> 4, active >> 4, g + 4, lr, loss);
#endif
    }
#endif
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
