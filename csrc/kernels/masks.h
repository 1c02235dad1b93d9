// masks.h: random masks that are computed and never stored, the same for any number of threads and on every instruction set.
//
// Note [dropout mask]: element i has 32 random bits, h(i) = mix(mix(low32(i) + k0) ^ k1), and is kept if their upper 31
// are at least p·2³¹. mix is Wellons' lowbias32, a bijection of 32 bits whose output bits each flip with a probability
// within 0.2% of ½ for any flipped input bit; k0 and k1 are the halves of splitmix64(seed, high32(i)). Only 32-bit
// integer arithmetic, so it is exact and the same everywhere; tests/ops/test_dropout.py has it in NumPy.
#pragma once
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

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

// Elements i … i+VL<T>-1 of a mask, i a multiple of that: 1 with probability p, else 0
template <class T>
FR_INLINE typename Simd<T>::V chosen(uint64_t seed, uint64_t i, double p) {
    const double limit = p * 0x1p31;
    const uint64_t first = i / uint64_t(VL<float>) * uint64_t(VL<float>);
    const Mask keep = kept(first, mask_key(seed, first >> 32), limit < 0x1p31 - 1 ? int32_t(limit) : INT32_MAX);
    return mask_factor(~keep, broadcast(T(1)), int(i - first) / VL<T>);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
