// ops_embedding.h: out[n] = weight[idx[n]] and dweight[idx[n]] += dy[n].
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
ptrdiff_t embedding_forward(const T* weight, const int64_t* idx, T* out, ptrdiff_t N, ptrdiff_t V, ptrdiff_t E,
                            int threads) noexcept {
    const ptrdiff_t bad = first_outside<T>(idx, nullptr, N, V);
    if (bad >= 0) return bad;
    parallel(N, double(E) * sizeof(T) * 0.03 + 3, threads, [=](ptrdiff_t n, ptrdiff_t last) {
        for (; n < last; ++n) {
            const int64_t v = idx[n];  // see the comment in cross_entropy
            if (uint64_t(v) < uint64_t(V)) std::memcpy(out + n * E, weight + v * E, size_t(E) * sizeof(T));
        }
    });
    return -1;
}

// Threads share the rows of the table, in runs of some lines: next to each other, two threads' rows would take each other's
// lines away by prefetching. One thread adds to an element, for ascending n.
template <class T>
ptrdiff_t embedding_backward(const T* dy, const int64_t* idx, T* dweight, ptrdiff_t N, ptrdiff_t V, ptrdiff_t E,
                             int threads) noexcept {
    const ptrdiff_t bad = first_outside<T>(idx, nullptr, N, V);
    if (bad >= 0) return bad;
    const uint64_t run = uint64_t(2048 / (size_t(E) * sizeof(T) + 1)) + 1;
    // some 150 µs for a thread, not 20: two threads also take dy's lines from each other
    const double useful = 1 + double(N) * (double(E) * sizeof(T) * 0.025 + 2) / 150e3;
    if (useful < threads) threads = int(useful);
    parallel(threads, 1e9, threads, [=](ptrdiff_t first, ptrdiff_t last) {
        for (ptrdiff_t n = 0; n < N; ++n) {
            const uint64_t v = uint64_t(idx[n]);
            const ptrdiff_t owner = threads == 1 ? 0 : ptrdiff_t(v / run % uint64_t(threads));
            if (v >= uint64_t(V) || owner < first || owner >= last) continue;
            T* row = dweight + ptrdiff_t(v) * E;
            const T* d = dy + n * E;
            vectors<T>(0, E, [=](auto at) { at.put(row, at.get(row) + at.get(d)); });
        }
    });
    return -1;
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
