// ops_dropout.h: out = x·mask/(1-p), with a mask that is computed and never stored (Srivastava et al. 2014).
//
// See masks.h for the mask.
#pragma once
#include "masks.h"
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

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
