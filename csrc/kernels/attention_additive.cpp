// attention_additive.cpp: attention with additive scores over whole sequences (Bahdanau et al. 2015), attention.h. The
// equations are those of attention_step.h.
//
// A row of the batch is one piece of work, or where there are fewer rows than threads, a share of its queries forward and of
// its columns of A backward. tanh(q + k) of [T, S, A] numbers is never stored: forward adds it up, backward
// computes it again, 64 columns at a time, so that their k and dk stay in L1 while all queries pass.
#include "../attention.h"
#include "../fastrnn.h"
#include "../pool.h"
#include "attention_step.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr ptrdiff_t kQueries = 96;    // of a block
constexpr ptrdiff_t kColumns = 64;    // of k and dk at a time
constexpr ptrdiff_t kFewQueries = 3;  // so few go the way of a decoder's step

template <class T>
struct AdditiveSpace {
    Panels<T> ps, pe;
    ptrdiff_t R, lda, lds;
    T *k, *x, *y, *xt, *dy, *de, *dk, *dx, *dv;
    AdditiveSpace(const AdditiveAttention& a, bool backward, Scratch<T>& scratch) : ps(a.S), pe(a.E) {
        constexpr ptrdiff_t line = 64 / ptrdiff_t(sizeof(T));
        R = least(kQueries, a.T);
        lda = round_up(a.A, line) + line;  // rows that aren't powers of two apart
        lds = ps.columns() + line;
        k = scratch.take(a.S * lda);
        x = scratch.take(backward ? 0 : a.S * pe.columns());
        y = scratch.take(backward ? 0 : R * pe.columns());
        xt = scratch.take(backward ? a.E * ps.columns() : 0);
        dy = scratch.take(backward ? R * pe.columns() : 0);
        de = scratch.take(backward ? a.T * lds : 0);
        dk = scratch.take(backward ? a.S * lda : 0);
        dx = scratch.take(backward ? a.S * pe.columns() : 0);
    }
};

template <class T>
struct AdditiveJob {
    const AdditiveAttention& a;
    ptrdiff_t parts;  // pieces of a row
    ptrdiff_t scratch_each, next;
    T* dv;  // [B, A], of each row

    ptrdiff_t length(ptrdiff_t b) const { return a.lengths ? ptrdiff_t(a.lengths[b]) : a.S; }
    const T* q(ptrdiff_t t, ptrdiff_t b) const { return static_cast<const T*>(a.q) + t * a.q_t + b * a.q_b; }
    const T* k(ptrdiff_t s, ptrdiff_t b) const { return static_cast<const T*>(a.k) + s * a.k_s + b * a.k_b; }
    const T* x(ptrdiff_t b) const { return static_cast<const T*>(a.x) + b * a.x_b; }
    T* w(ptrdiff_t t, ptrdiff_t b) const { return static_cast<T*>(a.weights) + t * a.w_t + b * a.w_b; }
};

template <class T>
void gather_rows(T* out, ptrdiff_t ld, const T* in, ptrdiff_t rs, ptrdiff_t rows, ptrdiff_t N) {
    for (ptrdiff_t r = 0; r < rows; ++r) std::memcpy(out + r * ld, in + r * rs, size_t(N) * sizeof(T));
}

template <class T>
AttentionSource<T> source_of(const AdditiveAttention& a) {
    return {a.S,   a.A,   a.E,       static_cast<const T*>(a.k), a.k_s, a.k_b, static_cast<const T*>(a.x),
            a.x_s, a.x_b, a.lengths, static_cast<const T*>(a.v), T(1)};
}

template <class T>
void few_forward(const AdditiveJob<T>& j, ptrdiff_t b) {
    const AdditiveAttention& a = j.a;
    for (ptrdiff_t t = 0; t < a.T; ++t)
        attend(source_of<T>(a), b, j.q(t, b), j.w(t, b), static_cast<T*>(a.y) + t * a.y_t + b * a.y_b);
}

template <class T>
void few_backward(const AdditiveJob<T>& j, ptrdiff_t b, T* scratch) {
    const AdditiveAttention& a = j.a;
    const AttentionSource<T> source = source_of<T>(a);
    const T* dy = static_cast<const T*>(a.dy) + b * a.dy_b;
    T *dk = static_cast<T*>(a.dk) + b * a.dk_b, *dx = static_cast<T*>(a.dx) + b * a.dx_b, *dv = j.dv + b * a.A;
    std::memset(dv, 0, size_t(a.A) * sizeof(T));
    for (ptrdiff_t s = 0; s < a.S; ++s) {
        std::memset(dk + s * a.dk_s, 0, size_t(a.A) * sizeof(T));
        std::memset(dx + s * a.dx_s, 0, size_t(a.E) * sizeof(T));
    }
    for (ptrdiff_t t = 0; t < a.T; ++t)
        attend_backward(source, b, j.q(t, b), j.w(t, b), dy + t * a.dy_t, scratch + t * a.S,
                        static_cast<T*>(a.dq) + t * a.dq_t + b * a.dq_b, dk, a.dk_s, dv);
    attend_finish(source, b, a.T, j.q(0, b), a.q_t, j.w(0, b), a.w_t, scratch, a.S, dy, a.dy_t, static_cast<T*>(nullptr), 0, dx,
                  a.dx_s, scratch + round_up(a.T * a.S, 16));
}

template <class T>
void additive_forward_row(const AdditiveJob<T>& j, ptrdiff_t b, ptrdiff_t part, T* scratch) {
    const AdditiveAttention& a = j.a;
    if (a.T <= kFewQueries) return few_forward(j, b);
    Scratch<T> pieces{scratch};
    const AdditiveSpace<T> m(a, false, pieces);
    const ptrdiff_t n = j.length(b);
    gather_rows(m.k, m.lda, j.k(0, b), a.k_s, n, a.A);
    if (n > 0) pack_straight(m.pe, m.x, j.x(b), a.x_s, n, a.E);
    const ptrdiff_t end = a.T * (part + 1) / j.parts;
    for (ptrdiff_t t0 = a.T * part / j.parts; t0 < end; t0 += m.R) {
        const ptrdiff_t rows = least(m.R, end - t0);
        for (ptrdiff_t t = t0; t < t0 + rows; ++t) {
            T* w = j.w(t, b);
            additive_scores(j.q(t, b), static_cast<const T*>(a.v), m.k, m.lda, n, a.A, w);
            softmax_row(w, n, a.S);
        }
        if (n > 0)
            block_product(Operand<T>{j.w(t0, b), a.w_t, 1}, rows, n, PackedBlock<T>{m.pe, m.x, n}, m.pe.count, m.y,
                          m.pe.columns(), false);
        else
            std::memset(m.y, 0, size_t(rows * m.pe.columns()) * sizeof(T));
        gather_rows(static_cast<T*>(a.y) + t0 * a.y_t + b * a.y_b, a.y_t, m.y, m.pe.columns(), rows, a.E);
    }
}

template <class T>
void additive_backward_row(const AdditiveJob<T>& j, ptrdiff_t b, ptrdiff_t part, T* scratch) {
    const AdditiveAttention& a = j.a;
    if (a.T <= kFewQueries) return few_backward(j, b, scratch);
    Scratch<T> pieces{scratch};
    const AdditiveSpace<T> m(a, true, pieces);
    const ptrdiff_t n = j.length(b), e = m.pe.columns(), blocks = (a.A + kColumns - 1) / kColumns;
    const ptrdiff_t c0 = blocks * part / j.parts * kColumns, c1 = least(blocks * (part + 1) / j.parts * kColumns, a.A);
    const T* v = static_cast<const T*>(a.v);
    T *dq = static_cast<T*>(a.dq) + b * a.dq_b, *dk = static_cast<T*>(a.dk) + b * a.dk_b, *dv = j.dv + b * a.A;
    T* dx = static_cast<T*>(a.dx) + b * a.dx_b;
    std::memset(dv + c0, 0, size_t(c1 - c0) * sizeof(T));
    std::memset(m.dk, 0, size_t(n * m.lda) * sizeof(T));
    std::memset(m.dx, 0, size_t(n * e) * sizeof(T));
    gather_rows(m.k + c0, m.lda, j.k(0, b) + c0, a.k_s, n, c1 - c0);
    if (n > 0) pack_turned(m.ps, m.xt, j.x(b), a.x_s, a.E, n);
    for (ptrdiff_t t0 = 0; n > 0 && t0 < a.T; t0 += m.R) {
        const ptrdiff_t rows = least(m.R, a.T - t0);
        const T* dy = static_cast<const T*>(a.dy) + t0 * a.dy_t + b * a.dy_b;
        T* de = m.de + t0 * m.lds;
        block_product(Operand<T>{dy, a.dy_t, 1}, rows, a.E, PackedBlock<T>{m.ps, m.xt, a.E}, m.ps.count, de, m.lds, false);
        for (ptrdiff_t t = 0; t < rows; ++t) softmax_row_backward(j.w(t0 + t, b), de + t * m.lds, de + t * m.lds, n, n);
        if (part) continue;  // dx comes with the first
        pack_straight(m.pe, m.dy, dy, a.dy_t, rows, a.E);
        block_product(Operand<T>{j.w(t0, b), 1, a.w_t}, n, rows, PackedBlock<T>{m.pe, m.dy, rows}, m.pe.count, m.dx, e, true);
    }
    for (ptrdiff_t c = c0; c < c1; c += kColumns)
        for (ptrdiff_t t = 0; t < a.T; ++t)
            additive_scores_backward(j.q(t, b) + c, v + c, m.k + c, m.lda, m.de + t * m.lds, n, least(kColumns, c1 - c),
                                     dq + t * a.dq_t + c, m.dk + c, m.lda, dv + c);
    gather_rows(dk + c0, a.dk_s, m.dk + c0, m.lda, n, c1 - c0);
    for (ptrdiff_t s = n; s < a.S; ++s) std::memset(dk + s * a.dk_s + c0, 0, size_t(c1 - c0) * sizeof(T));
    if (part) return;
    gather_rows(dx, a.dx_s, m.dx, e, n, a.E);
    for (ptrdiff_t s = n; s < a.S; ++s) std::memset(dx + s * a.dx_s, 0, size_t(a.E) * sizeof(T));
}

template <class T, bool kBackward>
void additive_job(void* ctx, int id, int) noexcept {
    AdditiveJob<T>& j = *static_cast<AdditiveJob<T>*>(ctx);
    T* scratch = static_cast<T*>(j.a.workspace) + id * j.scratch_each;
    for (;;) {
        const ptrdiff_t piece = __atomic_fetch_add(&j.next, 1, __ATOMIC_RELAXED), b = piece / j.parts;
        if (b >= j.a.B) return;
        (kBackward ? additive_backward_row<T> : additive_forward_row<T>)(j, b, piece % j.parts, scratch);
    }
}

template <class T>
ptrdiff_t additive_scratch(const AdditiveAttention& a, bool backward) {
    Scratch<T> pieces{nullptr};
    if (a.T <= kFewQueries) {
        pieces.take(round_up(a.T * a.S, 16));
        pieces.take(finish_scratch<T>(a.T, a.S, a.E));
    } else {
        AdditiveSpace<T>(a, backward, pieces);
    }
    return pieces.used + 64 / ptrdiff_t(sizeof(T));
}

template <class T, bool kBackward>
void additive_run(const AdditiveAttention& a) {
    if (a.T <= 0 || a.B <= 0) return;
    const ptrdiff_t each = additive_scratch<T>(a, kBackward);
    T* dv = static_cast<T*>(a.workspace) + a.threads * each;
    const double size = sizeof(T) == 4 ? 1 : 2, pairs = double(a.T) * double(a.S);
    const double ns = size * pairs * (double(a.A) * (kBackward ? 0.4 : 0.25) + double(a.E) / 60);
    const double useful = 1 + double(a.B) * ns / 20e3;  // a thread should have some 20 µs to do
    int threads = useful < a.threads ? int(useful) : a.threads;
    ptrdiff_t parts = a.B >= threads || a.T <= kFewQueries ? 1 : (2 * threads + a.B - 1) / a.B;
    parts = least(parts, kBackward ? (a.A + kColumns - 1) / kColumns : (a.T + 7) / 8);
    if (threads > a.B * parts) threads = int(a.B * parts);
    AdditiveJob<T> j{a, parts, each, 0, dv};
    pool_run(threads, additive_job<T, kBackward>, &j);
    if (kBackward)  // rows in their order
        for (ptrdiff_t b = 0; b < a.B; ++b) {
            const T* from = dv + b * a.A;
            T* to = static_cast<T*>(a.dv);
            vectors<T>(0, a.A, [=](auto at) { at.put(to, at.get(to) + at.get(from)); });
        }
}

}  // namespace

size_t additive_workspace(const AdditiveAttention* a, int backward) {
    const ptrdiff_t rows = backward ? a->B * a->A : 0;
    return a->dtype == kFloat32 ? size_t(a->threads * additive_scratch<float>(*a, backward) + rows) * 4
                                : size_t(a->threads * additive_scratch<double>(*a, backward) + rows) * 8;
}
void additive_forward(const AdditiveAttention* a) {
    (a->dtype == kFloat32 ? additive_run<float, false> : additive_run<double, false>)(*a);
}
void additive_backward(const AdditiveAttention* a) {
    (a->dtype == kFloat32 ? additive_run<float, true> : additive_run<double, true>)(*a);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
