// search_best.h: the best of many logits, and draws from their softmax.
#pragma once
#include "ops_vectors.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// The largest values so far with their places, descending; of equal ones those that came first.
template <class T>
struct Best {
    T* value;
    int32_t* index;
    int most, count;
    bool full() const { return count == most; }
    void offer(T v, ptrdiff_t i) {
        int at = full() ? most - 1 : count++;
        for (; at > 0 && value[at - 1] < v; --at) value[at] = value[at - 1], index[at] = index[at - 1];
        value[at] = v, index[at] = int32_t(i);
    }
};

// A row's logits in pieces: log Σ exp as far as it went, and the best of them.
template <class T>
struct RowScores {
    Best<T> best;
    T largest;
    double total;  // Σ exp(z - largest)

    void add(const T* z, ptrdiff_t n, ptrdiff_t first) {
        const T top = FASTRNN_ISA::largest(z, n);
        if (top > largest) {
            total *= __builtin_exp(double(largest) - double(top));
            largest = top;
        }
        if (largest == T(-__builtin_inf())) {  // nothing but -∞, or a NaN behind it
            for (ptrdiff_t i = 0; i < n; ++i) total += z[i] == z[i] ? 0.0 : double(z[i]);
            return;
        }
        total += double(exponentials_of(z, n));
        if (!(top > limit())) return;
        constexpr ptrdiff_t few = 4 * VL<T>;  // most of a piece that has a good one is passed over in fours of vectors
        ptrdiff_t i = 0;
        for (; i + few <= n; i += few) {
            const auto low = max(load(z + i), load(z + i + VL<T>)),
                       high = max(load(z + i + 2 * VL<T>), load(z + i + 3 * VL<T>));
            if (!any_above(max(low, high), broadcast(limit()))) continue;
            for (ptrdiff_t k = i; k < i + few; k += VL<T>)
                if (any_above(load(z + k), broadcast(limit()))) offer(z, k, k + VL<T>, first);
        }
        offer(z, i, n, first);
    }
    void offer(const T* z, ptrdiff_t i, ptrdiff_t end, ptrdiff_t first) {
        for (; i < end; ++i)
            if (z[i] > limit()) best.offer(z[i], first + i);
    }
    T limit() const { return best.full() ? best.value[best.most - 1] : T(-__builtin_inf()); }
    // Σ exp(z - largest) of a piece: few enough terms for T's own digits
    T exponentials_of(const T* z, ptrdiff_t n) const {
        using V = typename Simd<T>::V;
        const V shift = broadcast(largest), none = zero<T>();
        V s[4] = {none, none, none, none};
        ptrdiff_t i = 0;
        for (; i + 4 * VL<T> <= n; i += 4 * VL<T>) {
            FR_UNROLL
            for (int k = 0; k < 4; ++k) s[k] = s[k] + exp<T>(load(z + i + k * VL<T>) - shift);
        }
        vectors<T>(i, n, [&](auto at) { s[0] = s[0] + at.mask(exp<T>(at.get(z) - shift), none); });
        return fold_add((s[0] + s[1]) + (s[2] + s[3]));
    }
    double log_p(T z) const { return double(z) - double(largest) - __builtin_log(total); }
};

constexpr ptrdiff_t kLogits = 256;  // logits of a row at a time: they stay in L1

// The output layer: O·y + b_o, packed.
template <class T>
struct Logits {
    Packed<T> O;   // [A, V]
    const T* b_o;  // [whole panels of V]

    // z[r] = logits of the tokens first … first + n - 1 for m rows, into rows of `buffer`; first is a multiple of kLogits
    void some(const T* const* y, int m, ptrdiff_t first, ptrdiff_t n, T* buffer, ptrdiff_t stride, T** z) const {
        Packed<T> part = O;
        part.data = O.panel(int(first / O.width()));
        part.N = n;
        for (int r = 0; r < m; ++r) z[r] = buffer + r * stride;
        const Columns<T> cols{{}, b_o + first, 0u, false};
        gemm_panels(y, z, m, Segments{1, O.K, {0}}, part, 0, part.panels(), cols);
    }
    // body(r, z, n, first) for every piece of every row
    template <class Body>
    void each(const T* const* y, int m, T* buffer, T** z, Body body) const {
        for (ptrdiff_t v = 0; m && v < O.N; v += kLogits) {
            const ptrdiff_t n = least(kLogits, O.N - v);
            some(y, m, v, n, buffer, kLogits, z);
            for (int r = 0; r < m; ++r) body(r, (const T*)z[r], n, v);
        }
    }
};

// number `counter` of a sequence of uniform ones in [0, 1): splitmix64 (Steele, Lea & Flood 2014)
inline double uniform(uint64_t seed, uint64_t counter) {
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return double((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// A heap of places, the largest value on top; of equal ones the first place.
template <class T>
struct Heap {
    const T* key;
    int32_t* place;
    ptrdiff_t count;
    bool before(int32_t a, int32_t b) const { return key[a] > key[b] || (key[a] == key[b] && a < b); }
    void sink(ptrdiff_t i) {
        const int32_t x = place[i];
        for (ptrdiff_t child; (child = 2 * i + 1) < count; i = child) {
            if (child + 1 < count && before(place[child + 1], place[child])) ++child;
            if (!before(place[child], x)) break;
            place[i] = place[child];
        }
        place[i] = x;
    }
    void build(ptrdiff_t n) {
        count = n;
        for (ptrdiff_t i = 0; i < n; ++i) place[i] = int32_t(i);
        for (ptrdiff_t i = n / 2 - 1; i >= 0; --i) sink(i);
    }
    int32_t pop() {
        const int32_t top = place[0];
        place[0] = place[--count];
        if (count) sink(0);
        return top;
    }
};

// 1/temperature as T takes it: infinity, or 0, times a difference of 0 or -∞ would be no number.
template <class T>
T inverse_temperature(double temperature) {
    const double most = sizeof(T) == 4 ? double(__FLT_MAX__) : __DBL_MAX__,
                 least_ = sizeof(T) == 4 ? double(__FLT_MIN__) : __DBL_MIN__;
    const double inverse = 1 / temperature;
    return T(inverse > most ? most : inverse < least_ ? least_ : inverse);
}

// One draw from softmax(z / temperature) limited to the top_k most probable, and of these to the fewest that have a share
// top_p. z is overwritten. Without limits tokens are walked through in their order, else in descending probability.
//   heap, order: [V] each, scratch; weight: [V] scratch
template <class T>
int32_t draw(T* z, ptrdiff_t V, double temperature, ptrdiff_t top_k, double top_p, double u, int32_t* heap, int32_t* order,
             double* weight) {
    const T m = largest(z, V);
    const auto shift = broadcast(m), by = broadcast(inverse_temperature<T>(temperature));
    double total = sum<T>(V, [=](auto at) {
        const auto e = exp<T>((at.get(z) - shift) * by);
        at.put(z, e);
        return e;
    });
    if (top_k >= V) top_k = 0;
    if (!top_k && top_p >= 1) {
        double sum_ = 0, end = u * total;
        int32_t last = 0;
        for (ptrdiff_t i = 0; i < V; ++i) {
            if (z[i] > T(0)) last = int32_t(i);
            if ((sum_ += double(z[i])) > end) return int32_t(i);
        }
        return last;  // rounding
    }
    Heap<T> by_weight{z, heap, 0};
    by_weight.build(V);
    ptrdiff_t n = 0;
    if (top_k) {
        total = 0;
        for (; n < top_k; ++n) {
            order[n] = by_weight.pop();
            total += weight[n] = double(z[order[n]]);
        }
    }
    double kept = 0;
    ptrdiff_t count = 0;
    while (count < (top_k ? n : V) && (count == 0 || kept < top_p * total)) {
        if (!top_k) {
            order[count] = by_weight.pop();
            weight[count] = double(z[order[count]]);
        }
        kept += weight[count++];
    }
    double sum_ = 0;
    for (ptrdiff_t i = 0; i < count; ++i)
        if ((sum_ += weight[i]) > u * kept) return order[i];
    return order[count - 1];
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
