// attention_dot.h: what forward and backward of attention_dot.cpp share: heads, blocks, rows brought together, dropout.
#pragma once
#include "../attention.h"
#include "attention_step.h"
#include "ops_dropout.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr ptrdiff_t kQueries = 96, kCausalQueries = 48;  // rows of a block: multiples of what tiles take
constexpr ptrdiff_t kScores = 256 << 10;                 // bytes of a block of Z
constexpr ptrdiff_t kSources = 256;                      // backward: source steps of a block, whole vectors of masks
constexpr ptrdiff_t kFewQueries = 3;                     // so few don't pay for panels

// Backward takes the short way where each query sees the same of its source.
inline bool few_queries(const DotAttention& a, bool backward) {
    return a.T <= kFewQueries && !(backward && (a.mask || a.causal || a.dropout > 0));
}

// rows of a block: a line more where they are powers of two apart
template <class T>
ptrdiff_t block_stride(ptrdiff_t columns) {
    return columns * ptrdiff_t(sizeof(T)) % 256 ? columns : columns + 64 / ptrdiff_t(sizeof(T));
}
template <class T>
ptrdiff_t queries_at_once(const DotAttention& a) {
    const ptrdiff_t most = a.causal ? kCausalQueries : kQueries;
    ptrdiff_t fit = kScores / (block_stride<T>(Panels<T>(a.S).columns()) * ptrdiff_t(sizeof(T)));
    fit = fit < 12 ? 12 : fit / 12 * 12;
    return least(a.T > 0 ? a.T : 1, least(most, fit));
}

// out[t] = scale·rows of src, N columns, zeros up to p.columns(): for one panel that is the panel itself
template <class T>
void gather(const Panels<T>& p, T* out, const T* src, ptrdiff_t rs, ptrdiff_t rows, ptrdiff_t N, T scale) {
    const auto by = broadcast(scale);
    for (ptrdiff_t r = 0; r < rows; ++r, out += p.columns(), src += rs) {
        const T* s = src;
        T* d = out;
        vectors<T>(0, N, [=](auto at) { store(d + at.i, at.get(s) * by); });
        for (ptrdiff_t n = round_up(N, VL<T>); n < p.columns(); n += VL<T>) store(d + n, zero<T>());
    }
}

// panels of what gather() made, `step` rows at a time: the same memory where there is one panel
template <class T>
const T* as_panels(const Panels<T>& p, T* panels, const T* gathered, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t N) {
    if (p.count == 1) return gathered;
    for (ptrdiff_t r = 0; r < rows; r += step)
        pack_straight(p, panels + r * p.columns(), gathered + r * p.columns(), p.columns(), least(step, rows - r), N);
    return panels;
}

// What to multiply the weights of one row with.
template <class T>
struct Drop {
    typename Simd<T>::V scale;
    int32_t threshold;
    MaskKey key;
    Drop(const DotAttention& a, ptrdiff_t row)
        : scale(broadcast(T(1 / (1 - a.dropout)))), key(mask_key(a.seed, uint64_t(row))) {
        const double limit = a.dropout * 0x1p31;
        threshold = limit < 0x1p31 - 1 ? int32_t(limit) : INT32_MAX;
    }
    FR_INLINE typename Simd<T>::V at(ptrdiff_t s) const {  // for steps s …, s a multiple of VL
        const ptrdiff_t first = s & ~ptrdiff_t(VL<float> - 1);
        return mask_factor(kept(uint64_t(first), key, threshold), scale, int(s - first) / VL<T>);
    }
};

template <class T>
struct DotJob {
    const DotAttention& a;
    ptrdiff_t R, splits;  // queries of a block, pieces that a head's blocks are dealt into
    ptrdiff_t parts;      // few queries: pieces that a row's heads are dealt into; else 0
    ptrdiff_t scratch_each;
    ptrdiff_t next;  // piece of work

    const T* mask(ptrdiff_t b, ptrdiff_t h, ptrdiff_t t) const {
        return a.mask ? static_cast<const T*>(a.mask) + b * a.m_b + h * a.m_h + t * a.m_t : nullptr;
    }
    ptrdiff_t length(ptrdiff_t b) const { return a.lengths ? ptrdiff_t(a.lengths[b]) : a.S; }
    ptrdiff_t seen(ptrdiff_t t, ptrdiff_t length) const { return a.causal ? least(t + 1, length) : length; }  // by query t
    T* stats(ptrdiff_t b, ptrdiff_t h, ptrdiff_t t) const {
        return a.stats ? static_cast<T*>(a.stats) + ((b * a.N + h) * a.T + t) * 2 : nullptr;
    }
};

template <class T>
FR_INLINE T* head(void* p, ptrdiff_t b, ptrdiff_t stride_b, ptrdiff_t h, ptrdiff_t size) {
    return static_cast<T*>(p) + b * stride_b + h * size;
}
template <class T>
FR_INLINE const T* head(const void* p, ptrdiff_t b, ptrdiff_t stride_b, ptrdiff_t h, ptrdiff_t size) {
    return static_cast<const T*>(p) + b * stride_b + h * size;
}

template <class T>
FR_INLINE void set_rows(T* p, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t N) {  // to zero
    for (ptrdiff_t r = 0; r < rows; ++r) std::memset(p + r * stride, 0, size_t(N) * sizeof(T));
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
