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
    parallel(N, double(E) * sizeof(T) * 0.1 + 5, threads, [=](ptrdiff_t n, ptrdiff_t last) {
        for (; n < last; ++n) {
            const int64_t v = idx[n];  // see the comment in cross_entropy
            if (uint64_t(v) < uint64_t(V)) std::memcpy(out + n * E, weight + v * E, size_t(E) * sizeof(T));
        }
    });
    return -1;
}

// Threads share the columns of wide rows, else the rows: v belongs to thread v mod count. Either way one thread adds to
// an element, for ascending n.
template <class T>
ptrdiff_t embedding_backward(const T* dy, const int64_t* idx, T* dweight, ptrdiff_t N, ptrdiff_t V, ptrdiff_t E,
                             int threads) noexcept {
    const ptrdiff_t bad = first_outside<T>(idx, nullptr, N, V);
    if (bad >= 0) return bad;
    constexpr ptrdiff_t line = 64 / sizeof(T);
    const double ns = double(N) * (double(E) * sizeof(T) * 0.1 + 5);
    const double useful = 1 + ns / 20e3;
    if (useful < threads) threads = int(useful);
    auto add = [=](ptrdiff_t n, ptrdiff_t v, ptrdiff_t first, ptrdiff_t last) {
        T* row = dweight + v * E;
        vectors<T>(first, last, [=](auto at) { at.put(row, at.get(row) + at.get(dy + n * E)); });
    };
    if (E >= 4 * line * threads) {
        parallel((E + line - 1) / line, 1e9, threads, [=](ptrdiff_t first, ptrdiff_t last) {
            for (ptrdiff_t n = 0; n < N; ++n)
                if (uint64_t(idx[n]) < uint64_t(V)) add(n, idx[n], first * line, least(last * line, E));
        });
    } else {
        parallel(threads, 1e9, threads, [=](ptrdiff_t first, ptrdiff_t last) {
            for (ptrdiff_t n = 0; n < N; ++n) {
                const uint64_t v = uint64_t(idx[n]);
                const ptrdiff_t owner = threads == 1 ? 0 : ptrdiff_t(v % uint64_t(threads));
                if (v < uint64_t(V) && owner >= first && owner < last) add(n, ptrdiff_t(v), 0, E);
            }
        });
    }
    return -1;
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
