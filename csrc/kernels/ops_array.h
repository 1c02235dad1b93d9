// ops_array.h: sums, checks and simple arithmetic on whole arrays.
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// Threads share the columns; rows come in their order, so many at a time that the sums stay in registers a while.
template <class T>
void column_sum(const T* a, T* out, ptrdiff_t M, ptrdiff_t N, int threads) noexcept {
    constexpr ptrdiff_t line = 64 / sizeof(T), kRows = 32;
    parallel((N + line - 1) / line, double(M) * line * 0.1, threads, [=](ptrdiff_t first, ptrdiff_t last) {
        for (ptrdiff_t r0 = 0; r0 < M; r0 += kRows) {
            const ptrdiff_t r1 = least(r0 + kRows, M);
            vectors<T>(first * line, least(last * line, N), [=](auto at) {
                auto s = at.get(out);
                for (ptrdiff_t r = r0; r < r1; ++r) s = s + at.get(a + r * N);
                at.put(out, s);
            });
        }
    });
}

template <class T>
double sum_squares(const T* a, ptrdiff_t n, int threads) noexcept {
    return sum_in_double<T, true>(n, 0.1, threads, [=](auto at) { return at.get(a); });
}

template <class T>
int all_finite(const T* a, ptrdiff_t n, int threads) noexcept {
    using I = typename Simd<T>::I;
    constexpr ptrdiff_t kBlock = 4096;
    const I exponent = bits<T>(broadcast(T(__builtin_inf())));
    int bad = 0;
    parallel((n + kBlock - 1) / kBlock, kBlock * 0.1, threads, [=, &bad](ptrdiff_t b, ptrdiff_t last) {
        for (; b < last && !__atomic_load_n(&bad, __ATOMIC_RELAXED); ++b) {
            I found = {};
            vectors<T>(b * kBlock, least((b + 1) * kBlock, n),
                       [=, &found](auto at) { found |= (I)((bits<T>(at.get(a)) & exponent) == exponent); });
            bool any = false;
            for (int k = 0; k < VL<T>; ++k) any = any || found[k];
            if (any) __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
        }
    });
    return !bad;
}

template <class T>
void scale(T* a, double s, ptrdiff_t n, int threads) noexcept {
    const auto factor = broadcast(T(s));
    each<T>(n, 0.1, threads, [=](auto at) { at.put(a, at.get(a) * factor); });
}

template <class T>
void clip(T* a, double low, double high, ptrdiff_t n, int threads) noexcept {
    const auto least_ = broadcast(T(low)), most = broadcast(T(high));
    each<T>(n, 0.1, threads, [=](auto at) { at.put(a, min(most, max(least_, at.get(a)))); });
}

template <class T>
void add(const T* a, const T* b, T* out, ptrdiff_t n, int threads) noexcept {
    each<T>(n, 0.1, threads, [=](auto at) { at.put(out, at.get(a) + at.get(b)); });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
