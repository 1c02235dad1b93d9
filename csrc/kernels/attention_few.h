// attention_few.h: scaled dot products of so few queries that panels don't pay: a decoder's step by step.
//
// All the work is reading K and V once. Rows of one head lie a [B, F] apart, 64 KiB for 32 rows of 512 numbers: each in a
// page of its own, and all in one set of the cache. So a piece of work is all heads of a row of the batch, where there are
// rows enough, and a source step's heads are taken side by side as they lie; the rows to come are called for ahead.
#pragma once
#include "attention_dot.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr ptrdiff_t kAhead = 8;  // source steps that are called for before they are used

// scores, weights: of a few queries and the heads of a piece, [T, heads, ldz]
template <class T>
struct FewSpace {
    ptrdiff_t ldz;
    T *w, *de;
    FewSpace(const DotAttention& a, bool backward, Scratch<T>& s)
        : ldz(round_up(a.S > 0 ? a.S : 1, 64 / ptrdiff_t(sizeof(T)))) {
        w = s.take(a.T * a.N * ldz);
        de = s.take(backward ? a.T * a.N * ldz : 0);
    }
};

// Heads h0 … h1-1 of row b.
template <class T>
struct FewPiece {
    const DotJob<T>& j;
    const DotAttention& a;
    ptrdiff_t b, h0, h1;

    ptrdiff_t heads() const { return h1 - h0; }
    ptrdiff_t n(ptrdiff_t t) const { return j.seen(t, j.length(b)); }
    const T* q(ptrdiff_t t, ptrdiff_t h) const { return head<T>(a.q, b, a.q_b, h, a.D) + t * a.q_t; }
    const T* k(ptrdiff_t s, ptrdiff_t h) const { return head<T>(a.k, b, a.k_b, h, a.D) + s * a.k_s; }
    const T* v(ptrdiff_t s, ptrdiff_t h) const { return head<T>(a.v, b, a.v_b, h, a.E) + s * a.v_s; }
    const T* dy(ptrdiff_t t, ptrdiff_t h) const { return head<T>(a.dy, b, a.dy_b, h, a.E) + t * a.dy_t; }
    T* y(ptrdiff_t t, ptrdiff_t h) const { return head<T>(a.y, b, a.y_b, h, a.E) + t * a.y_t; }
    T* dq(ptrdiff_t t, ptrdiff_t h) const { return head<T>(a.dq, b, a.dq_b, h, a.D) + t * a.dq_t; }
    T* dk(ptrdiff_t s, ptrdiff_t h) const { return head<T>(a.dk, b, a.dk_b, h, a.D) + s * a.dk_s; }
    T* dv(ptrdiff_t s, ptrdiff_t h) const { return head<T>(a.dv, b, a.dv_b, h, a.E) + s * a.dv_s; }
    T* at(const FewSpace<T>& m, T* z, ptrdiff_t t, ptrdiff_t h) const { return z + (t * a.N + h) * m.ldz; }
};

template <class T, int kWrite>
FR_INLINE void call_for(const T* row, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64 / ptrdiff_t(sizeof(T))) __builtin_prefetch(row + i, kWrite, 3);
}

// z[t, h][s] = scale·(query t, head h)·(row s of a source), four source steps at a time; `row`: of a source step and a head
template <class T, class Query, class Row>
FR_INLINE void few_products(const FewPiece<T>& p, const FewSpace<T>& m, T* z, Query query, Row row, ptrdiff_t stride,
                            ptrdiff_t D, T scale) {
    const ptrdiff_t most = p.n(p.a.T - 1);
    for (ptrdiff_t s = 0; s < most; s += 4) {
        for (ptrdiff_t i = s + kAhead; i < least(s + kAhead + 4, most); ++i) call_for<T, 0>(row(i, p.h0), p.heads() * D);
        for (ptrdiff_t t = 0; t < p.a.T; ++t) {
            const ptrdiff_t rows = least(ptrdiff_t(4), p.n(t) - s);
            for (ptrdiff_t h = p.h0; rows > 0 && h < p.h1; ++h)
                row_products(query(t, h), row(s, h), stride, rows, D, scale, p.at(m, z, t, h) + s);
        }
    }
}

// out(t, h) += Σ w[t, h][s]·(row s of a source), four source steps at a time
template <class T, class Row, class Out>
FR_INLINE void few_sums(const FewPiece<T>& p, const FewSpace<T>& m, T* w, Row row, ptrdiff_t E, Out out) {
    const ptrdiff_t most = p.n(p.a.T - 1);
    for (ptrdiff_t s = 0; s < most; s += 4) {
        for (ptrdiff_t i = s + kAhead; i < least(s + kAhead + 4, most); ++i) call_for<T, 0>(row(i, p.h0), p.heads() * E);
        for (ptrdiff_t t = 0; t < p.a.T; ++t) {
            const ptrdiff_t rows = least(ptrdiff_t(4), p.n(t) - s);
            for (ptrdiff_t h = p.h0; rows > 0 && h < p.h1; ++h) {
                const T *by = p.at(m, w, t, h) + s, *x[4];
                for (ptrdiff_t i = 0; i < 4; ++i) x[i] = row(s + least(i, rows - 1), h);
                T* to = out(t, h);
                if (rows == 4) {
                    const auto b0 = broadcast(by[0]), b1 = broadcast(by[1]), b2 = broadcast(by[2]), b3 = broadcast(by[3]);
                    vectors<T>(0, E, [=](auto at) {
                        at.put(to, fma(b3, at.get(x[3]),
                                       fma(b2, at.get(x[2]), fma(b1, at.get(x[1]), fma(b0, at.get(x[0]), at.get(to))))));
                    });
                } else {
                    for (ptrdiff_t i = 0; i < rows; ++i) {
                        const auto b = broadcast(by[i]);
                        const T* from = x[i];
                        vectors<T>(0, E, [=](auto at) { at.put(to, fma(b, at.get(from), at.get(to))); });
                    }
                }
            }
        }
    }
}

template <class T>
FR_INLINE void scale_row(T* y, ptrdiff_t n, T scale) {
    const auto by = broadcast(scale);
    vectors<T>(0, n, [=](auto at) { at.put(y, at.get(y) * by); });
}

template <class T, class Softmax>
void few_forward(const FewPiece<T>& p, const FewSpace<T>& m, Softmax softmax) {
    const DotAttention& a = p.a;
    few_products(
        p, m, m.w, [&](ptrdiff_t t, ptrdiff_t h) { return p.q(t, h); }, [&](ptrdiff_t s, ptrdiff_t h) { return p.k(s, h); },
        a.k_s, a.D, T(a.scale));
    for (ptrdiff_t s = 0; s < least(kAhead, p.n(a.T - 1)); ++s) call_for<T, 0>(p.v(s, p.h0), p.heads() * a.E);
    T* inverse = m.de;
    for (ptrdiff_t t = 0; t < a.T; ++t)
        for (ptrdiff_t h = p.h0; h < p.h1; ++h) {
            inverse[t * a.N + h] = softmax(t, h, p.n(t), p.at(m, m.w, t, h));
            set_rows(p.y(t, h), 0, 1, a.E);
        }
    few_sums(
        p, m, m.w, [&](ptrdiff_t s, ptrdiff_t h) { return p.v(s, h); }, a.E,
        [&](ptrdiff_t t, ptrdiff_t h) { return p.y(t, h); });
    for (ptrdiff_t t = 0; t < a.T; ++t)
        for (ptrdiff_t h = p.h0; h < p.h1; ++h) scale_row(p.y(t, h), a.E, inverse[t * a.N + h]);
}

// out = scale·Σ_t w[t]·x(t), in the order of the queries
template <class T, class X>
FR_INLINE void add_queries(ptrdiff_t queries, const T* w, ptrdiff_t w_t, X x, ptrdiff_t n, T scale, T* out) {
    const auto by = broadcast(scale);
    const T* first = x(0);
    const auto w0 = broadcast(w[0]);
    if (queries == 1) return vectors<T>(0, n, [=](auto at) { at.put(out, fma(w0, at.get(first), zero<T>()) * by); });
    vectors<T>(0, n, [=](auto at) {
        auto sum = fma(w0, at.get(first), zero<T>());
        for (ptrdiff_t t = 1; t < queries; ++t) sum = fma(broadcast(w[t * w_t]), at.get(x(t)), sum);
        at.put(out, sum * by);
    });
}

// Without masks and dropout, so that every query sees the same.
template <class T>
void few_backward(const FewPiece<T>& p, const FewSpace<T>& m) {
    const DotAttention& a = p.a;
    const ptrdiff_t n = p.j.length(p.b), w_t = a.N * m.ldz;
    const auto k = [&](ptrdiff_t s, ptrdiff_t h) { return p.k(s, h); };
    const auto q = [&](ptrdiff_t t, ptrdiff_t h) { return p.q(t, h); };
    few_products(p, m, m.w, q, k, a.k_s, a.D, T(a.scale));
    few_products(
        p, m, m.de, [&](ptrdiff_t t, ptrdiff_t h) { return p.dy(t, h); }, [&](ptrdiff_t s, ptrdiff_t h) { return p.v(s, h); },
        a.v_s, a.E, T(1));
    for (ptrdiff_t t = 0; t < a.T; ++t)
        for (ptrdiff_t h = p.h0; h < p.h1; ++h) {
            T *w = p.at(m, m.w, t, h), *de = p.at(m, m.de, t, h);
            const auto shift = broadcast(p.j.stats(p.b, h, t)[0]), inverse = broadcast(p.j.stats(p.b, h, t)[1]);
            vectors<T>(0, n, [=](auto at) { at.put(w, exp<T>(at.get(w) - shift) * inverse); });
            softmax_row_backward(w, de, de, n, n);
            set_rows(p.dq(t, h), 0, 1, a.D);
        }
    few_sums(p, m, m.de, k, a.D, [&](ptrdiff_t t, ptrdiff_t h) { return p.dq(t, h); });
    for (ptrdiff_t t = 0; t < a.T; ++t)
        for (ptrdiff_t h = p.h0; h < p.h1; ++h) scale_row(p.dq(t, h), a.D, T(a.scale));
    for (ptrdiff_t s = 0; s < n; ++s) {
        if (s + kAhead < n) {
            call_for<T, 1>(p.dk(s + kAhead, p.h0), p.heads() * a.D);
            call_for<T, 1>(p.dv(s + kAhead, p.h0), p.heads() * a.E);
        }
        for (ptrdiff_t h = p.h0; h < p.h1; ++h) {
            add_queries(a.T, p.at(m, m.de, 0, h) + s, w_t, [&](ptrdiff_t t) { return p.q(t, h); }, a.D, T(a.scale), p.dk(s, h));
            add_queries(a.T, p.at(m, m.w, 0, h) + s, w_t, [&](ptrdiff_t t) { return p.dy(t, h); }, a.E, T(1), p.dv(s, h));
        }
    }
    set_rows(p.dk(n, p.h0), a.dk_s, a.S - n, p.heads() * a.D);
    set_rows(p.dv(n, p.h0), a.dv_s, a.S - n, p.heads() * a.E);
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
