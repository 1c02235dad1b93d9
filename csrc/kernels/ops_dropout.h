// ops_dropout.h: out = x·mask/(1-p), with a mask that is computed and never stored (Srivastava et al. 2014).
//
// Note [dropout mask]: element i has 32 random bits, h(i) = mix(mix(low32(i) + k0) ^ k1), and is kept if their upper 31
// are at least p·2³¹. mix is Wellons' lowbias32, a bijection of 32 bits whose output bits each flip with a probability
// within 0.2% of ½ for any flipped input bit; k0 and k1 are the halves of splitmix64(seed, high32(i)). Only 32-bit
// integer arithmetic, so it is exact and the same everywhere; tests/ops/test_dropout.py has it in NumPy.
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

using Bits = Simd<float>::U;
using Mask = Simd<float>::I;

struct MaskKey {
    uint32_t k0, k1;
};

FR_INLINE MaskKey mask_key(uint64_t seed, uint64_t high) {
    uint64_t z = seed + (high + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z = z ^ (z >> 31);
    return {uint32_t(z), uint32_t(z >> 32)};
}

FR_INLINE Bits mix(Bits h) {
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return h ^ (h >> 16);
}

// all ones for the elements i, i+1, … that are kept
FR_INLINE Mask kept(uint64_t i, MaskKey key, int32_t threshold) {
    Bits lane;
    FR_UNROLL
    for (int k = 0; k < VL<float>; ++k) lane[k] = uint32_t(k);
    Bits h = mix(mix(lane + (uint32_t(i) + key.k0)) ^ key.k1);
    return (Mask)(h >> 1) >= threshold;
}

// what to multiply the k-th vector of floats or doubles with
FR_INLINE VF mask_factor(Mask keep, VF scale, int) { return from_bits<float>(keep & bits<float>(scale)); }
FR_INLINE VD mask_factor(Mask keep, VD scale, int k) {
    typedef int32_t Half __attribute__((vector_size(FASTRNN_VBYTES / 2)));
    Half h;
    std::memcpy(&h, reinterpret_cast<const char*>(&keep) + k * sizeof h, sizeof h);
    return from_bits<double>(__builtin_convertvector(h, Simd<double>::I) & bits<double>(scale));
}

template <class T>
void dropout(const T* x, double p, uint64_t seed, T* out, ptrdiff_t n, int threads) noexcept {
    constexpr ptrdiff_t group = VL<float>, unit = 64;
    constexpr int count = group / VL<T>;  // vectors that one Mask serves
    const auto scale = broadcast(T(1 / (1 - p)));
    const double limit = p * 0x1p31;
    const int32_t threshold = limit < 0x1p31 - 1 ? int32_t(limit) : INT32_MAX;
    parallel((n + unit - 1) / unit, unit * 0.3, threads, [=](ptrdiff_t first, ptrdiff_t last) {
        const ptrdiff_t end = least(last * unit, n);
        MaskKey key = mask_key(seed, uint64_t(first * unit) >> 32);
        for (ptrdiff_t i = first * unit; i < end; i += group) {
            if (uint32_t(i) == 0) key = mask_key(seed, uint64_t(i) >> 32);
            const Mask keep = kept(uint64_t(i), key, threshold);
            if (i + group <= end) {
                FR_UNROLL
                for (int k = 0; k < count; ++k)
                    store(out + i + k * VL<T>, load(x + i + k * VL<T>) * mask_factor(keep, scale, k));
            } else {
                vectors<T>(i, end, [=](auto at) { at.put(out, at.get(x) * mask_factor(keep, scale, int(at.i - i) / VL<T>)); });
            }
        }
    });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
