// attention_step.h: attention of one query a row, for decoders that need it inside a loop over time.
//
//   e[s] = scale·q·k[s]  or  vᵀ·tanh(q + k[s])       w = softmax(e)       context = Σ w[s]·x[s]
//
//   dw[s] = dcontext·x[s]      de = w ⊙ (dw - Σ w·dw)     dx[s] += w[s]·dcontext
//   dot:      dq = scale·Σ de[s]·k[s]                     dk[s] += scale·de[s]·q
//   additive: dq = v ⊙ Σ de[s]·(1 - tanh²)                dk[s] += de[s]·v ⊙ (1 - tanh²)     dv += Σ de[s]·tanh
//
// Every function takes one row of the batch and knows no threads: a kernel calls them for the rows that are its own. In a
// loop, source states of one row should lie together, [B, S, ·]: rows a multiple of 4 KiB apart share few sets of a cache.
// What is a sum over the steps of a decoder and nobody needs before its end waits for attend_finish, where it is a matrix
// product: dx always, dk of the dot product.
#pragma once
#include "block_product.h"
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
struct AttentionSource {
    ptrdiff_t S, A, E;  // source steps, size of a key, size of a value
    const T* k;         // [S, B, A]: k[s, b] at k + s·k_s + b·k_b
    ptrdiff_t k_s, k_b;
    const T* x;  // [S, B, E]
    ptrdiff_t x_s, x_b;
    const int64_t* lengths;  // [B], 0 … S, or null for S
    const T* v;              // [A] of additive scores; null: dot products
    T scale;                 // of dot products

    ptrdiff_t length(ptrdiff_t b) const { return lengths ? ptrdiff_t(lengths[b]) : S; }
};

// body(s, four rows) for the rows of a matrix, four at a time; past the end the last one once more
template <class T, class Body>
FR_INLINE void four_rows(const T* a, ptrdiff_t stride, ptrdiff_t n, Body body) {
    for (ptrdiff_t s = 0; s < n; s += 4) {
        const T* row[4];
        FR_UNROLL
        for (int j = 0; j < 4; ++j) row[j] = a + least(s + j, n - 1) * stride;
        body(s, row);
    }
}

// out[s] = scale·a[s]·q for s < n
template <class T>
void row_products(const T* q, const T* a, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t A, T scale, T* out) {
    using V = typename Simd<T>::V;
    four_rows(a, stride, n, [=](ptrdiff_t s, const T* const* row) {
        V acc[4] = {};
        vectors<T>(0, A, [&](auto at) {
            const V x = at.get(q);
            FR_UNROLL
            for (int j = 0; j < 4; ++j) acc[j] = fma(x, at.get(row[j]), acc[j]);
        });
        for (int j = 0; j < 4 && s + j < n; ++j) out[s + j] = scale * fold_add(acc[j]);
    });
}

// out[s] = Σ v·tanh(q + a[s])
template <class T>
void additive_scores(const T* q, const T* v, const T* a, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t A, T* out) {
    using V = typename Simd<T>::V;
    four_rows(a, stride, n, [=](ptrdiff_t s, const T* const* row) {
        V acc[4] = {};
        vectors<T>(0, A, [&](auto at) {  // lanes past A: 0·tanh(0)
            const V x = at.get(q), y = at.get(v);
            FR_UNROLL
            for (int j = 0; j < 4; ++j) acc[j] = fma(y, tanh<T>(x + at.get(row[j])), acc[j]);
        });
        for (int j = 0; j < 4 && s + j < n; ++j) out[s + j] = fold_add(acc[j]);
    });
}

// out = scale·Σ w[s]·a[s] for s < n, in their order
template <class T>
void weighted_rows(const T* w, const T* a, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t E, T scale, T* out) {
    using V = typename Simd<T>::V;
    const V by = broadcast(scale);
    ptrdiff_t e = 0;
    for (; e + 4 * VL<T> <= E; e += 4 * VL<T>) {
        V acc[4] = {};
        for (ptrdiff_t s = 0; s < n; ++s) {
            const V x = broadcast(w[s]);
            FR_UNROLL
            for (int j = 0; j < 4; ++j) acc[j] = fma(x, load(a + s * stride + e + j * VL<T>), acc[j]);
        }
        FR_UNROLL
        for (int j = 0; j < 4; ++j) store(out + e + j * VL<T>, acc[j] * by);
    }
    vectors<T>(e, E, [=](auto at) {
        V acc{};
        for (ptrdiff_t s = 0; s < n; ++s) acc = fma(broadcast(w[s]), at.get(a + s * stride), acc);
        at.put(out, acc * by);
    });
}

// Softmax of x[0 … n-1], then zeros up to `end`. Returns the largest score and 1/Σ; without anything to look at (n = 0, or
// all scores -∞) the weights are 0, and so is the second.
template <class T>
struct SoftmaxStats {
    T largest, inverse;
};
template <class T>
FR_INLINE SoftmaxStats<T> exponentials(T* x, ptrdiff_t n) {
    T m = largest(x, n);
    if (m == T(-__builtin_inf())) m = T(0);  // a NaN may hide here: the sum finds it
    const auto shift = broadcast(m);
    const double total = sum<T>(n, [=](auto at) {
        const auto e = exp<T>(at.get(x) - shift);
        at.put(x, e);
        return e;
    });
    return {m, total == 0 ? T(0) : T(1 / total)};
}
template <class T>
SoftmaxStats<T> softmax_row(T* x, ptrdiff_t n, ptrdiff_t end) {
    const SoftmaxStats<T> s = exponentials(x, n);
    const auto by = broadcast(s.inverse);
    vectors<T>(0, n, [=](auto at) { at.put(x, at.get(x) * by); });
    for (; n < end; ++n) x[n] = T(0);
    return s;
}

// de = w ⊙ (dw - Σ w·dw) for n steps, then zeros up to `end`; de may be dw
template <class T>
FR_INLINE void softmax_row_backward(const T* w, const T* dw, T* de, ptrdiff_t n, ptrdiff_t end) {
    const auto dot = broadcast(T(sum<T>(n, [=](auto at) { return at.get(w) * at.get(dw); })));
    vectors<T>(0, n, [=](auto at) { at.put(de, at.get(w) * (at.get(dw) - dot)); });
    for (; n < end; ++n) de[n] = T(0);
}

// dq = v ⊙ Σ de[s]·(1 - tanh²); dk[s] += de[s]·v ⊙ (1 - tanh²); dv += Σ de[s]·tanh
template <class T>
void additive_scores_backward(const T* q, const T* v, const T* k, ptrdiff_t k_s, const T* de, ptrdiff_t n, ptrdiff_t A, T* dq,
                              T* dk, ptrdiff_t dk_s, T* dv) {
    using V = typename Simd<T>::V;
    vectors<T>(0, A, [=](auto at) {
        const V x = at.get(q), y = at.get(v), one = broadcast(T(1));
        V sum_q{}, sum_v = at.get(dv);
        for (ptrdiff_t s = 0; s < n; ++s) {
            const V t = tanh<T>(x + at.get(k + s * k_s)), d = broadcast(de[s]);
            const V u = d * fnma(t, t, one);
            sum_q = sum_q + u;
            sum_v = fma(d, t, sum_v);
            at.put(dk + s * dk_s, fma(y, u, at.get(dk + s * dk_s)));
        }
        at.put(dq, y * sum_q);
        at.put(dv, sum_v);
    });
}

// One step of row b.
//   q:       [A] in
//   w:       [S] out, zeros past the row's length
//   context: [E] out
template <class T>
void attend(const AttentionSource<T>& a, ptrdiff_t b, const T* q, T* w, T* context) noexcept {
    const ptrdiff_t n = a.length(b);
    const T *k = a.k + b * a.k_b, *x = a.x + b * a.x_b;
    if (a.v)
        additive_scores(q, a.v, k, a.k_s, n, a.A, w);
    else
        row_products(q, k, a.k_s, n, a.A, a.scale, w);
    softmax_row(w, n, a.S);
    weighted_rows(w, x, a.x_s, n, a.E, T(1), context);
}

// Its reverse.
//   q, w, dcontext: in
//   de: [S] out, the gradient at the scores, zeros past the length: attend_finish wants it
//   dq: [A] out
//   dk: [S, A] accumulates, rows dk_s apart, and dv [A] accumulates: additive scores only
template <class T>
void attend_backward(const AttentionSource<T>& a, ptrdiff_t b, const T* q, const T* w, const T* dcontext, T* de, T* dq, T* dk,
                     ptrdiff_t dk_s, T* dv) noexcept {
    const ptrdiff_t n = a.length(b);
    const T *k = a.k + b * a.k_b, *x = a.x + b * a.x_b;
    row_products(dcontext, x, a.x_s, n, a.E, T(1), de);
    softmax_row_backward(w, de, de, n, a.S);
    if (a.v)
        additive_scores_backward(q, a.v, k, a.k_s, de, n, a.A, dq, dk, dk_s, dv);
    else
        weighted_rows(de, k, a.k_s, n, a.A, a.scale, dq);
}

// What waited for the end of the loop, for row b: dx[s] += Σ_t w[t, s]·dcontext[t], and for dot products
// dk[s] += scale·Σ_t de[t, s]·q[t]. Steps ascend.
//   w, de, q, dcontext: in, of row b at step 0; those of the next step w_t, de_t, q_t, dcontext_t elements on
//   dx, dk:             [S, ·] of row b, accumulate, rows dx_s and dk_s apart; dk null for additive scores
//   scratch:            finish_scratch(T, S, most of A and E) elements
template <class T>
ptrdiff_t finish_scratch(ptrdiff_t steps, ptrdiff_t S, ptrdiff_t columns) {
    return (steps + S) * Panels<T>(columns).columns() + 32;
}
template <class T>
void add_turned_product(const T* w, ptrdiff_t w_t, const T* d, ptrdiff_t d_t, ptrdiff_t steps, ptrdiff_t n, ptrdiff_t columns,
                        T scale, T* out, ptrdiff_t out_s, T* scratch) {
    if (n <= 0 || steps <= 0) return;
    const Panels<T> p(columns);
    T* const c = scratch + steps * p.columns();
    pack_straight(p, scratch, d, d_t, steps, columns);
    block_product(Operand<T>{w, 1, w_t}, n, steps, PackedBlock<T>{p, scratch, steps}, p.count, c, p.columns(), false);
    const auto by = broadcast(scale);
    for (ptrdiff_t s = 0; s < n; ++s) {
        const T* from = c + s * p.columns();
        T* to = out + s * out_s;
        vectors<T>(0, columns, [=](auto at) { at.put(to, fma(at.get(from), by, at.get(to))); });
    }
}
template <class T>
void attend_finish(const AttentionSource<T>& a, ptrdiff_t b, ptrdiff_t steps, const T* q, ptrdiff_t q_t, const T* w,
                   ptrdiff_t w_t, const T* de, ptrdiff_t de_t, const T* dcontext, ptrdiff_t dcontext_t, T* dk, ptrdiff_t dk_s,
                   T* dx, ptrdiff_t dx_s, T* scratch) noexcept {
    const ptrdiff_t n = a.length(b);
    add_turned_product(w, w_t, dcontext, dcontext_t, steps, n, a.E, T(1), dx, dx_s, scratch);
    if (!a.v) add_turned_product(de, de_t, q, q_t, steps, n, a.A, a.scale, dk, dk_s, scratch);
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
