// ops_softmax.h: softmax and its logarithm along rows.
//
//   m = max(x)   y = exp(x-m) / Σ exp(x-m)      dx = y·(dy - Σ y·dy)
//                log y = (x-m) - log Σ exp(x-m)
//
// A NaN makes its whole row NaN: if max loses it, the sum doesn't.
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
void softmax(const T* x_, T* out_, ptrdiff_t N, ptrdiff_t C, int threads) noexcept {
    parallel(N, double(C) * 0.6, threads, [=](ptrdiff_t r, ptrdiff_t last) {
        for (; r < last; ++r) {
            const T* x = x_ + r * C;
            T* out = out_ + r * C;
            const auto m = broadcast(largest(x, C));
            const double total = sum<T>(C, [=](auto at) {
                auto e = exp<T>(at.get(x) - m);
                at.put(out, e);
                return e;
            });
            const auto inverse = broadcast(T(1 / total));
            vectors<T>(0, C, [=](auto at) { at.put(out, at.get(out) * inverse); });
        }
    });
}

template <class T>
void log_softmax(const T* x_, T* out_, ptrdiff_t N, ptrdiff_t C, int threads) noexcept {
    parallel(N, double(C) * 0.6, threads, [=](ptrdiff_t r, ptrdiff_t last) {
        for (; r < last; ++r) {
            const T* x = x_ + r * C;
            T* out = out_ + r * C;
            const auto m = broadcast(largest(x, C));
            const double total = sum<T>(C, [=](auto at) { return exp<T>(at.get(x) - m); });
            const auto log_total = broadcast(T(__builtin_log(total)));
            vectors<T>(0, C, [=](auto at) { at.put(out, at.get(x) - m - log_total); });
        }
    });
}

template <class T>
void softmax_backward(const T* y_, const T* dy_, T* out_, ptrdiff_t N, ptrdiff_t C, int threads) noexcept {
    parallel(N, double(C) * 0.2, threads, [=](ptrdiff_t r, ptrdiff_t last) {
        for (; r < last; ++r) {
            const T *y = y_ + r * C, *dy = dy_ + r * C;
            T* out = out_ + r * C;
            const auto dot = broadcast(T(sum<T>(C, [=](auto at) { return at.get(y) * at.get(dy); })));
            vectors<T>(0, C, [=](auto at) { at.put(out, at.get(y) * (at.get(dy) - dot)); });
        }
    });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
