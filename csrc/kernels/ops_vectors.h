// ops_vectors.h: how the kernels of ops_*.h walk over arrays: vectors, threads, and sums in a fixed order.
//
// A loop's body is a lambda that takes a position `at`, which is a whole vector or the first lanes of one, and reads
// and writes arrays through it: at.put(y, at.get(x)). So tails run the same instructions as whole vectors, and an
// element's bits depend neither on its place in a vector nor on how threads share an array.
//
// Bodies capture by value and are passed by value: stores of vectors may alias anything, and a local copy whose address
// nobody has can stay in registers.
#pragma once
#include "../pool.h"
#include "simd.h"
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class A>
FR_INLINE A least(A a, A b) {
    return a < b ? a : b;
}

// v in the first n lanes, `rest` in the others
template <class T>
FR_INLINE typename Simd<T>::V first_lanes(typename Simd<T>::V v, int n, typename Simd<T>::V rest) {
    typename Simd<T>::I lane;
    FR_UNROLL
    for (int i = 0; i < VL<T>; ++i) lane[i] = i;
    return lane < typename Simd<T>::Int(n) ? v : rest;
}

template <class T>
struct Whole {
    using V = typename Simd<T>::V;
    ptrdiff_t i;
    FR_INLINE V get(const T* p) const { return load(p + i); }
    FR_INLINE void put(T* p, V v) const { store(p + i, v); }
    FR_INLINE V mask(V v, V) const { return v; }
};

template <class T>
struct Part {
    using V = typename Simd<T>::V;
    ptrdiff_t i;
    int n;
    FR_INLINE V get(const T* p) const { return load_n(p + i, n); }
    FR_INLINE void put(T* p, V v) const { store_n(p + i, v, n); }
    FR_INLINE V mask(V v, V rest) const { return first_lanes<T>(v, n, rest); }
};

// body(at) for the elements i … end-1
template <class T, class Body>
FR_INLINE void vectors(ptrdiff_t i, ptrdiff_t end, Body body) {
    for (; i + VL<T> <= end; i += VL<T>) body(Whole<T>{i});
    if (i < end) body(Part<T>{i, int(end - i)});
}

// body(first, last) on each thread's share of n items that cost about `ns` nanoseconds each
template <class Body>
FR_INLINE void parallel(ptrdiff_t n, double ns, int threads, const Body& body) {
    if (n <= 0) return;
    struct Job {
        ptrdiff_t n;
        const Body& body;
    } job{n, body};
    const double useful = 1 + double(n) * ns / 20e3;  // a thread should have some 20 µs to do
    if (useful < threads) threads = int(useful);
    pool_run(
        threads,
        [](void* ctx, int id, int count) noexcept {
            const Job& j = *static_cast<const Job*>(ctx);
            j.body(j.n * id / count, j.n * (id + 1) / count);
        },
        &job);
}

// body(at) for n elements, over the threads, in cache lines
template <class T, class Body>
FR_INLINE void each(ptrdiff_t n, double ns, int threads, Body body) {
    constexpr ptrdiff_t line = 64 / sizeof(T);
    parallel((n + line - 1) / line, ns * line, threads,
             [=](ptrdiff_t first, ptrdiff_t last) { vectors<T>(first * line, least(last * line, n), body); });
}

// the lower and the upper half of a vector's lanes
template <class V>
FR_INLINE auto low_half(V v) {
    constexpr int n = sizeof(v) / sizeof(v[0]);
    if constexpr (n == 16)
        return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
    else if constexpr (n == 8)
        return __builtin_shufflevector(v, v, 0, 1, 2, 3);
    else
        return __builtin_shufflevector(v, v, 0, 1);
}
template <class V>
FR_INLINE auto high_half(V v) {
    constexpr int n = sizeof(v) / sizeof(v[0]);
    if constexpr (n == 16)
        return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    else if constexpr (n == 8)
        return __builtin_shufflevector(v, v, 4, 5, 6, 7);
    else
        return __builtin_shufflevector(v, v, 2, 3);
}

// Σ and max of the lanes by halves, reduce_add's tree: it stays in registers, a trip through memory costs short rows a third
template <class V>
FR_INLINE auto fold_add(V v) {
    if constexpr (sizeof(v) / sizeof(v[0]) == 2)
        return v[0] + v[1];
    else
        return fold_add(low_half(v) + high_half(v));
}
template <class V>
FR_INLINE auto fold_max(V v) {
    if constexpr (sizeof(v) / sizeof(v[0]) == 2) {
        return v[0] > v[1] ? v[0] : v[1];
    } else {
        const auto a = low_half(v), b = high_half(v);
        return fold_max(a > b ? a : b);
    }
}

// Σ body(at) for elements 0 … n-1: four chains of vectors within a block, double across blocks
template <class T, class Body>
FR_INLINE double sum(ptrdiff_t n, Body body) {
    using V = typename Simd<T>::V;
    constexpr ptrdiff_t kBlock = 1024;
    double total = 0;
    for (ptrdiff_t i = 0; i < n;) {
        const ptrdiff_t end = least(i + kBlock, n);
        V s[4] = {};
        for (; i + 4 * VL<T> <= end; i += 4 * VL<T>) {
            FR_UNROLL
            for (int k = 0; k < 4; ++k) s[k] += body(Whole<T>{i + k * VL<T>});
        }
        for (; i + VL<T> <= end; i += VL<T>) s[0] += body(Whole<T>{i});
        if (i < end) {
            const Part<T> at{i, int(end - i)};
            s[1] += at.mask(body(at), zero<T>());
            i = end;
        }
        total += fold_add((s[0] + s[1]) + (s[2] + s[3]));
    }
    return total;
}

// max of x[0 … n-1]; a NaN may be lost
template <class T>
FR_INLINE T largest(const T* x, ptrdiff_t n) {
    using V = typename Simd<T>::V;
    const V none = broadcast(T(-__builtin_inf()));
    V m[4] = {none, none, none, none};
    ptrdiff_t i = 0;
    for (; i + 4 * VL<T> <= n; i += 4 * VL<T>) {
        FR_UNROLL
        for (int k = 0; k < 4; ++k) m[k] = max(m[k], load(x + i + k * VL<T>));
    }
    vectors<T>(i, n, [&](auto at) { m[0] = max(m[0], at.mask(at.get(x), none)); });
    return fold_max(max(max(m[0], m[1]), max(m[2], m[3])));
}

// double vectors in a vector of T, and the k-th of them
template <class T>
constexpr int kWide = int(sizeof(double) / sizeof(T));

FR_INLINE VD widen(VD v, int) { return v; }
FR_INLINE VD widen(VF v, int k) {
    typedef float Half __attribute__((vector_size(FASTRNN_VBYTES / 2)));
    Half h;
    std::memcpy(&h, reinterpret_cast<const char*>(&v) + k * sizeof h, sizeof h);
    return __builtin_convertvector(h, VD);
}

// Σ of body(first, last) over shares of n items that only n decides, added in order: the same bits on any threads
template <class Body>
FR_INLINE double sum_shares(ptrdiff_t n, double ns, int threads, Body body) {
    constexpr ptrdiff_t kMost = 256;  // as many as the pool can have threads
    if (n <= 0) return 0;
    double part[kMost];
    const ptrdiff_t shares = least(n, kMost);
    parallel(shares, ns * double(n) / double(shares), threads, [=, &part](ptrdiff_t s, ptrdiff_t end) {
        for (; s < end; ++s) part[s] = body(n * s / shares, n * (s + 1) / shares);
    });
    double total = 0;
    for (ptrdiff_t s = 0; s < shares; ++s) total += part[s];
    return total;
}

// Σ square(body(at)) or Σ body(at) over n elements, in double lanes; blocks over the threads
template <class T, bool kSquare, class Body>
FR_INLINE double sum_in_double(ptrdiff_t n, double ns, int threads, Body body) {
    constexpr ptrdiff_t kBlock = 4096;
    return sum_shares((n + kBlock - 1) / kBlock, ns * kBlock, threads, [=](ptrdiff_t b, ptrdiff_t last) {
        double total = 0;
        for (; b < last; ++b) {
            VD s[2] = {};
            auto add = [&](auto v) {
                FR_UNROLL
                for (int k = 0; k < kWide<T>; ++k) {
                    VD w = widen(v, k);
                    s[k] = kSquare ? fma(w, w, s[k]) : s[k] + w;
                }
            };
            vectors<T>(b * kBlock, least((b + 1) * kBlock, n), [&](auto at) { add(body(at)); });
            total += fold_add(s[0] + s[1]);
        }
        return total;
    });
}

// the first n with idx[n] out of 0 … size-1, or -1. Where `factor` is 0 anything is right.
template <class T>
FR_INLINE ptrdiff_t first_outside(const int64_t* idx, const T* factor, ptrdiff_t N, ptrdiff_t size) {
    for (ptrdiff_t n = 0; n < N; ++n)
        if (uint64_t(idx[n]) >= uint64_t(size) && (!factor || factor[n] != T(0))) return n;
    return -1;
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
