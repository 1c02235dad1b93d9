// ops_pool.h: the maximum and the mean over the steps of each row; n = lengths[b], or T.
//
//   max:   step = the first t < n with the largest x[t, b, f], a NaN being the largest of all     y = x[step, b, f]
//          dx[t, b, f] = dy[b, f] where t = step, else 0
//   mean:  y = Σ_{t<n} x[t, b, f] / n
//          dx[t, b, f] = dy[b, f] / n where t < n, else 0
//
// A row of length 0 gives zeros and gets zeros.
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// An item is a piece of a row. A group of them goes through time together: 4 KiB of x a step where rows are neighbours, and
// what is carried from step to step stays in L1.
constexpr ptrdiff_t kPiece = 256, kGroup = 8, kScratch = 2 * kPiece;

// body(t, n, b, c0, c1, scratch) for t = 0 … T-1 and every piece c0 … c1-1 of every row b; scratch: [kScratch] of that piece
template <class T, class Body>
FR_INLINE void over_time(ptrdiff_t steps, ptrdiff_t B, ptrdiff_t F, const int64_t* lengths, int threads, Body body) {
    const ptrdiff_t pieces = (F + kPiece - 1) / kPiece;
    const double ns = double(steps) * (2 + double(least(F, kPiece)) * sizeof(T) * 0.03);
    parallel(B * pieces, ns, threads, [=](ptrdiff_t first, ptrdiff_t last) {
        T scratch[kGroup * kScratch];
        for (; first < last; first += kGroup) {
            const ptrdiff_t count = least(kGroup, last - first);
            for (ptrdiff_t t = 0; t < steps; ++t) {
                ptrdiff_t b = first / pieces, c = first % pieces * kPiece;
                for (ptrdiff_t k = 0; k < count; ++k) {
                    body(t, lengths ? ptrdiff_t(lengths[b]) : steps, b, c, least(c + kPiece, F), scratch + k * kScratch);
                    c += kPiece;
                    if (c >= F) c = 0, ++b;
                }
            }
        }
    });
}

// without lengths, rows that are neighbours are one long row
inline void join_rows(const int64_t* lengths, ptrdiff_t stride, ptrdiff_t& B, ptrdiff_t& F) noexcept {
    if (!lengths && stride == F) F *= B, B = 1;
}

// t in every lane, as bits: steps are kept in integers as wide as T
template <class T>
FR_INLINE typename Simd<T>::V step_bits(ptrdiff_t t) {
    return from_bits<T>(typename Simd<T>::I{} + typename Simd<T>::Int(t));
}

template <class T>
void max_pool(const T* x, ptrdiff_t x_t, ptrdiff_t x_b, const int64_t* lengths, T* y, void* step, ptrdiff_t steps, ptrdiff_t B,
              ptrdiff_t F, int threads) noexcept {
    join_rows(lengths, x_b, B, F);
    over_time<T>(steps, B, F, lengths, threads, [=](ptrdiff_t t, ptrdiff_t n, ptrdiff_t b, ptrdiff_t c0, ptrdiff_t c1, T*) {
        const T* row = x + t * x_t + b * x_b;
        T *best = y + b * F, *where = step ? static_cast<T*>(step) + b * F : nullptr;
        if (t == 0) {
            vectors<T>(c0, c1, [=](auto at) {
                at.put(best, n ? at.get(row) : zero<T>());
                if (where) at.put(where, zero<T>());
            });
        } else if (t < n) {
            const auto now = step_bits<T>(t);
            vectors<T>(c0, c1, [=](auto at) {
                const auto v = at.get(row), old = at.get(best);
                const auto larger = ~(v <= old) & (old == old);  // a NaN isn't ≤ anything, and the first one stays
                at.put(best, larger ? v : old);
                if (where) at.put(where, larger ? now : at.get(where));
            });
        }
    });
}

template <class T>
void max_pool_backward(const T* dy, const void* step, const int64_t* lengths, T* dx, ptrdiff_t dx_t, ptrdiff_t dx_b,
                       ptrdiff_t steps, ptrdiff_t B, ptrdiff_t F, int threads) noexcept {
    join_rows(lengths, dx_b, B, F);
    over_time<T>(steps, B, F, lengths, threads, [=](ptrdiff_t t, ptrdiff_t n, ptrdiff_t b, ptrdiff_t c0, ptrdiff_t c1, T*) {
        T* row = dx + t * dx_t + b * dx_b;
        const T *d = dy + b * F, *where = static_cast<const T*>(step) + b * F;
        const auto now = bits<T>(step_bits<T>(t));
        vectors<T>(c0, c1,
                   [=](auto at) { at.put(row, t < n ? (bits<T>(at.get(where)) == now ? at.get(d) : zero<T>()) : zero<T>()); });
    });
}

// Summed by 64 steps, by 64 such blocks, and then these: rounding grows with the number of terms of a sum, not with T.
template <class T>
void mean_pool(const T* x, ptrdiff_t x_t, ptrdiff_t x_b, const int64_t* lengths, T* y, ptrdiff_t steps, ptrdiff_t B,
               ptrdiff_t F, int threads) noexcept {
    constexpr ptrdiff_t kBlock = 64, kBlocks = kBlock * 64;
    join_rows(lengths, x_b, B, F);
    over_time<T>(steps, B, F, lengths, threads,
                 [=](ptrdiff_t t, ptrdiff_t n, ptrdiff_t b, ptrdiff_t c0, ptrdiff_t c1, T* scratch) {
                     const T* row = x + t * x_t + b * x_b;
                     T *total = y + b * F, *block = scratch - c0, *blocks = block + kPiece;
                     // into = from, or into += from
                     auto add = [c0, c1](bool first, T* into, const T* from) {
                         vectors<T>(c0, c1, [=](auto at) { at.put(into, first ? at.get(from) : at.get(into) + at.get(from)); });
                     };
                     if (t == 0) vectors<T>(c0, c1, [=](auto at) { at.put(total, zero<T>()); });
                     if (t >= n) return;
                     add(t % kBlock == 0, block, row);
                     if (t % kBlock == kBlock - 1 || t == n - 1) add(t % kBlocks < kBlock, blocks, block);
                     if (t % kBlocks == kBlocks - 1 || t == n - 1) add(false, total, blocks);
                     if (t == n - 1) {
                         const auto share = broadcast(T(1 / double(n)));
                         vectors<T>(c0, c1, [=](auto at) { at.put(total, at.get(total) * share); });
                     }
                 });
}

template <class T>
void mean_pool_backward(const T* dy, const int64_t* lengths, T* dx, ptrdiff_t dx_t, ptrdiff_t dx_b, ptrdiff_t steps,
                        ptrdiff_t B, ptrdiff_t F, int threads) noexcept {
    join_rows(lengths, dx_b, B, F);
    over_time<T>(steps, B, F, lengths, threads, [=](ptrdiff_t t, ptrdiff_t n, ptrdiff_t b, ptrdiff_t c0, ptrdiff_t c1, T*) {
        T* row = dx + t * dx_t + b * dx_b;
        const T* d = dy + b * F;
        const auto share = broadcast(t < n ? T(1 / double(n)) : T(0));
        vectors<T>(c0, c1, [=](auto at) { at.put(row, t < n ? at.get(d) * share : zero<T>()); });
    });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
