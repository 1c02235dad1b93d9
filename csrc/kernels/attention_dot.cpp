// attention_dot.cpp: scaled dot-product attention of many heads (Vaswani et al. 2017), attention.h.
//
//   Z = scale·Q·Kᵀ + mask      P = softmax(Z)      Y = (M ⊙ P)·V, M the dropout mask
//
//   δ = rows of dY·Y           dV = (M ⊙ P)ᵀ·dY    dP = M ⊙ (dY·Vᵀ)
//   dZ = P ⊙ (dP - δ)          dQ = scale·dZ·K     dK = dZᵀ·(scale·Q)
//
// One head of one row of the batch is one piece of work. Its rows of Q, K, V, which lie a whole [B, F] apart, are brought
// together once, Kᵀ and V as panels; Z is a block of some rows that stays in L2. Backward computes P again from the row's
// largest score and the inverse of its sum, so memory grows with T and not with T·S: five products against four, but P
// written and read would cost more than one.
//
// Note [dropped weights]: weight s of row r = (b·N + h)·T + t is element r·2³² + s of Note [dropout mask].
#include "attention_dot.h"

#include "../fastrnn.h"
#include "../pool.h"
#include "attention_few.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// ---- forward

template <class T>
struct ForwardSpace {
    Panels<T> ps, pd, pe;
    ptrdiff_t ldz;
    T *q, *k, *v, *z, *y;
    ForwardSpace(const DotAttention& a, ptrdiff_t R, Scratch<T>& s) : ps(a.S), pd(a.D), pe(a.E) {
        ldz = block_stride<T>(ps.columns());
        q = s.take(R * pd.columns());
        k = s.take(a.D * ps.columns());
        v = s.take(a.S * pe.columns());
        z = s.take(R * ldz);
        y = s.take(R * pe.columns());
    }
};

// Calls for row t of an array of the next piece of work. Rows of one head lie a [B, F] apart, where no prefetcher looks.
template <class T, int kWrite>
FR_INLINE void call_row(const void* p, ptrdiff_t rows, ptrdiff_t t, ptrdiff_t stride_t, ptrdiff_t b, ptrdiff_t stride_b,
                        ptrdiff_t h, ptrdiff_t size) {
    if (t >= rows) return;
    const T* row = head<T>(p, b, stride_b, h, size) + t * stride_t;
    for (ptrdiff_t i = 0; i < size; i += 64 / ptrdiff_t(sizeof(T))) __builtin_prefetch(row + i, kWrite, 2);
}
template <class T, bool kBackward>
FR_INLINE void call_next(const DotAttention& a, ptrdiff_t b, ptrdiff_t h, ptrdiff_t t) {
    if (++h == a.N) {
        h = 0;
        if (++b == a.B) return;
    }
    call_row<T, 0>(a.q, a.T, t, a.q_t, b, a.q_b, h, a.D);
    call_row<T, 0>(a.k, a.S, t, a.k_s, b, a.k_b, h, a.D);
    call_row<T, 0>(a.v, a.S, t, a.v_s, b, a.v_b, h, a.E);
    call_row<T, !kBackward>(a.y, a.T, t, a.y_t, b, a.y_b, h, a.E);
    if (!kBackward) return;
    call_row<T, 0>(a.dy, a.T, t, a.dy_t, b, a.dy_b, h, a.E);
    call_row<T, 1>(a.dq, a.T, t, a.dq_t, b, a.dq_b, h, a.D);
    call_row<T, 1>(a.dk, a.S, t, a.dk_s, b, a.dk_b, h, a.D);
    call_row<T, 1>(a.dv, a.S, t, a.dv_s, b, a.dv_b, h, a.E);
}

// Row t's scores to weights before normalisation; what to multiply y with, and the row's part of `weights`.
template <class T>
T row_forward(const DotJob<T>& j, ptrdiff_t b, ptrdiff_t h, ptrdiff_t t, ptrdiff_t n, ptrdiff_t end, T* z) {
    const DotAttention& a = j.a;
    if (const T* mask = j.mask(b, h, t)) vectors<T>(0, n, [=](auto at) { at.put(z, at.get(z) + at.get(mask)); });
    const SoftmaxStats<T> s = exponentials(z, n);
    for (ptrdiff_t i = n; i < end; ++i) z[i] = T(0);
    if (T* stats = j.stats(b, h, t)) {
        stats[0] = s.largest;
        stats[1] = s.inverse;
    }
    if (a.weights) {
        T* w = head<T>(a.weights, b, a.w_b, h, a.w_h) + t * a.w_t;
        const auto by = broadcast(s.inverse);
        vectors<T>(0, n, [=](auto at) { at.put(w, at.get(z) * by); });
        for (ptrdiff_t i = n; i < a.S; ++i) w[i] = T(0);
    }
    if (a.dropout > 0) {
        const Drop<T> drop(a, (b * a.N + h) * a.T + t);
        vectors<T>(0, n, [=](auto at) { at.put(z, at.get(z) * drop.at(at.i)); });
    }
    return s.inverse;
}

// few queries: the piece is a share of the heads of a row
template <class T>
FewPiece<T> few_piece(const DotJob<T>& j, ptrdiff_t piece) {
    const ptrdiff_t part = piece % j.parts;
    return {j, j.a, piece / j.parts, j.a.N * part / j.parts, j.a.N * (part + 1) / j.parts};
}
template <class T>
void few_queries_forward(const DotJob<T>& j, ptrdiff_t piece, const FewSpace<T>& m) {
    const FewPiece<T> p = few_piece(j, piece);
    few_forward(p, m, [&](ptrdiff_t t, ptrdiff_t h, ptrdiff_t n, T* z) { return row_forward(j, p.b, h, t, n, n, z); });
}

// queries t0 … t1-1 of a head, of whose K and V `most` rows are packed
template <class T>
void queries_forward(const DotJob<T>& j, ptrdiff_t b, ptrdiff_t h, ptrdiff_t t0, ptrdiff_t t1, ptrdiff_t most,
                     const ForwardSpace<T>& m) {
    const DotAttention& a = j.a;
    const ptrdiff_t length = j.length(b), rows = t1 - t0, seen = j.seen(t1 - 1, length);
    T* y = head<T>(a.y, b, a.y_b, h, a.E) + t0 * a.y_t;
    if (seen > 0) {
        const int panels = int((seen + m.ps.width() - 1) / m.ps.width());
        gather(m.pd, m.q, head<T>(a.q, b, a.q_b, h, a.D) + t0 * a.q_t, a.q_t, rows, a.D, T(a.scale));
        block_product(Operand<T>{m.q, m.pd.columns(), 1}, rows, a.D, PackedBlock<T>{m.ps, m.k, a.D}, panels, m.z, m.ldz, false);
    }
    T factor[kQueries];
    for (ptrdiff_t r = 0; r < rows; ++r) {
        call_next<T, false>(a, b, h, t0 + r);
        factor[r] = row_forward(j, b, h, t0 + r, j.seen(t0 + r, length), seen, m.z + r * m.ldz);
    }
    if (seen == 0) return set_rows(y, a.y_t, rows, a.E);
    const Panels<T>& pe = m.pe;
    block_product(Operand<T>{m.z, m.ldz, 1}, rows, seen, PackedBlock<T>{pe, m.v, most}, pe.count, m.y, pe.columns(), false);
    for (ptrdiff_t r = 0; r < rows; ++r, y += a.y_t) {
        const T* from = m.y + r * pe.columns();
        T* to = y;
        const auto by = broadcast(factor[r]);
        vectors<T>(0, a.E, [=](auto at) { at.put(to, at.get(from) * by); });
    }
}

template <class T>
void forward_piece(const DotJob<T>& j, ptrdiff_t piece, T* scratch) {
    const DotAttention& a = j.a;
    const ptrdiff_t b = piece / j.splits / a.N, h = piece / j.splits % a.N, split = piece % j.splits;
    const ptrdiff_t blocks = (a.T + j.R - 1) / j.R, first = blocks * split / j.splits, last = blocks * (split + 1) / j.splits;
    Scratch<T> s{scratch};
    if (j.parts) return few_queries_forward(j, piece, FewSpace<T>(a, true, s));
    const ForwardSpace<T> m(a, j.R, s);
    const ptrdiff_t most = j.seen(least(last * j.R, a.T) - 1, j.length(b));
    pack_turned(m.ps, m.k, head<T>(a.k, b, a.k_b, h, a.D), a.k_s, a.D, most);
    pack_straight(m.pe, m.v, head<T>(a.v, b, a.v_b, h, a.E), a.v_s, most, a.E);
    for (ptrdiff_t block = first; block < last; ++block)
        queries_forward(j, b, h, block * j.R, least((block + 1) * j.R, a.T), most, m);
}

// ---- backward

template <class T>
struct BackwardSpace {
    Panels<T> ps, pd, pe;
    ptrdiff_t ldz;
    T *q, *qp, *dy, *dyp, *delta, *dq;        // of all queries
    T *kt, *vt, *kr, *kp, *dk, *dv, *p, *dz;  // of a block of source steps
    BackwardSpace(const DotAttention& a, ptrdiff_t R, Scratch<T>& s) : ps(least(a.S, kSources)), pd(a.D), pe(a.E) {
        const ptrdiff_t C = least(a.S, kSources), d = pd.columns(), e = pe.columns();
        ldz = block_stride<T>(ps.columns());
        q = s.take(a.T * d);
        qp = s.take(pd.count > 1 ? a.T * d : 0);
        dy = s.take(a.T * e);
        dyp = s.take(pe.count > 1 ? a.T * e : 0);
        delta = s.take(a.T);
        dq = s.take(a.T * d);
        kt = s.take(a.D * ps.columns());
        vt = s.take(a.E * ps.columns());
        kr = s.take(C * d);
        kp = s.take(pd.count > 1 ? C * d : 0);
        dk = s.take(C * d);
        dv = s.take(C * e);
        p = s.take(R * ldz);
        dz = s.take(R * ldz);
    }
};

// Row t: from scores z and dy·vᵀ to the dropped weights p and dz, of n source steps from c0 on, zeros up to `end`
template <class T>
void row_backward(const DotJob<T>& j, ptrdiff_t b, ptrdiff_t h, ptrdiff_t t, ptrdiff_t c0, ptrdiff_t n, ptrdiff_t end, T delta,
                  T* p, T* dz) {
    const DotAttention& a = j.a;
    const T* stats = j.stats(b, h, t);
    const T* mask = j.mask(b, h, t);
    const auto shift = broadcast(stats[0]), inverse = broadcast(stats[1]), d = broadcast(delta);
    auto weight = [=](auto at) {
        auto z = at.get(p);
        if (mask) z = z + at.get(mask + c0);
        return exp<T>(z - shift) * inverse;
    };
    if (a.dropout > 0) {
        const Drop<T> drop(a, (b * a.N + h) * a.T + t);
        vectors<T>(0, n, [=](auto at) {
            const auto w = weight(at), m = drop.at(c0 + at.i);
            at.put(p, w * m);
            at.put(dz, w * (at.get(dz) * m - d));
        });
    } else {
        vectors<T>(0, n, [=](auto at) {
            const auto w = weight(at);
            at.put(p, w);
            at.put(dz, w * (at.get(dz) - d));
        });
    }
    for (ptrdiff_t i = n > 0 ? n : 0; i < end; ++i) p[i] = dz[i] = T(0);
}

// What a piece of a head's backward makes: dk and dv of source steps s0 … s1-1, or dq of queries t0 … t1-1, or both of all.
struct Share {
    bool sources, queries, past;  // past: what lies past the row's length is for this one, too
    ptrdiff_t s0, s1, t0, t1;
};

// source steps c0 … c1-1 against the queries, of which q and dy are panels
template <class T>
void sources_backward(const DotJob<T>& j, ptrdiff_t b, ptrdiff_t h, ptrdiff_t c0, ptrdiff_t c1, const T* q, const T* dy,
                      const Share& share, const BackwardSpace<T>& m) {
    const DotAttention& a = j.a;
    const ptrdiff_t C = c1 - c0, d = m.pd.columns(), e = m.pe.columns();
    const T *k = head<T>(a.k, b, a.k_b, h, a.D) + c0 * a.k_s, *v = head<T>(a.v, b, a.v_b, h, a.E) + c0 * a.v_s;
    pack_turned(m.ps, m.kt, k, a.k_s, a.D, C);
    pack_turned(m.ps, m.vt, v, a.v_s, a.E, C);
    gather(m.pd, m.kr, k, a.k_s, C, a.D, T(1));
    const T* kr = as_panels(m.pd, m.kp, m.kr, C, C, a.D);
    set_rows(m.dk, d, C, d);
    set_rows(m.dv, e, C, e);
    const ptrdiff_t first = a.causal ? c0 / j.R * j.R : 0;
    for (ptrdiff_t t0 = first > share.t0 ? first : share.t0; t0 < share.t1; t0 += j.R) {
        const ptrdiff_t rows = least(j.R, a.T - t0), cols = j.seen(t0 + rows - 1, c1) - c0;
        const int panels = int((cols + m.ps.width() - 1) / m.ps.width());
        if (cols <= 0) continue;
        block_product(Operand<T>{m.q + t0 * d, d, 1}, rows, a.D, PackedBlock<T>{m.ps, m.kt, a.D}, panels, m.p, m.ldz, false);
        block_product(Operand<T>{m.dy + t0 * e, e, 1}, rows, a.E, PackedBlock<T>{m.ps, m.vt, a.E}, panels, m.dz, m.ldz, false);
        for (ptrdiff_t r = 0; r < rows; ++r) {
            if (c0 == 0) call_next<T, true>(a, b, h, t0 + r);
            row_backward(j, b, h, t0 + r, c0, j.seen(t0 + r, c1) - c0, cols, m.delta[t0 + r], m.p + r * m.ldz,
                         m.dz + r * m.ldz);
        }
        const PackedBlock<T> dyp{m.pe, dy + t0 * e, rows}, qp{m.pd, q + t0 * d, rows}, kp{m.pd, kr, C};
        if (share.sources) {
            block_product(Operand<T>{m.p, 1, m.ldz}, cols, rows, dyp, m.pe.count, m.dv, e, true);
            block_product(Operand<T>{m.dz, 1, m.ldz}, cols, rows, qp, m.pd.count, m.dk, d, true);
        }
        if (share.queries) block_product(Operand<T>{m.dz, m.ldz, 1}, rows, cols, kp, m.pd.count, m.dq + t0 * d, d, true);
    }
}

template <class T>
FR_INLINE void put_rows(T* out, ptrdiff_t rs, const T* in, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t N, T scale) {
    const auto by = broadcast(scale);
    for (ptrdiff_t r = 0; r < rows; ++r, out += rs, in += ld) {
        T* to = out;
        const T* from = in;
        vectors<T>(0, N, [=](auto at) { at.put(to, at.get(from) * by); });
    }
}

// A head's backward is one piece, or, for fewer heads than threads, as many for its source steps as for its queries: scores are
// computed twice then, seven products against five.
template <class T>
Share backward_share(const DotJob<T>& j, ptrdiff_t split, ptrdiff_t length) {
    if (j.splits == 1) return {true, true, true, 0, length, 0, j.a.T};
    const ptrdiff_t half = j.splits / 2, i = split % half, blocks = (j.a.T + j.R - 1) / j.R;
    if (split >= half)
        return {false, true, false, 0, length, blocks * i / half * j.R, least(blocks * (i + 1) / half * j.R, j.a.T)};
    const ptrdiff_t vectors = (length + VL<float> - 1) / VL<float>;  // of masks
    return {true, false, i == half - 1, vectors * i / half * VL<float>, least(vectors * (i + 1) / half * VL<float>, length),
            0,    j.a.T};
}

template <class T>
void backward_piece(const DotJob<T>& j, ptrdiff_t piece, T* scratch) {
    const DotAttention& a = j.a;
    const ptrdiff_t at = piece / j.splits, b = at / a.N, h = at % a.N, length = j.length(b);
    Scratch<T> s{scratch};
    if (j.parts) return few_backward(few_piece(j, piece), FewSpace<T>(a, true, s));
    const BackwardSpace<T> m(a, j.R, s);
    const ptrdiff_t d = m.pd.columns(), e = m.pe.columns();
    const T *dy = head<T>(a.dy, b, a.dy_b, h, a.E), *y = head<T>(a.y, b, a.y_b, h, a.E);
    T *dk = head<T>(a.dk, b, a.dk_b, h, a.D), *dv = head<T>(a.dv, b, a.dv_b, h, a.E);
    gather(m.pd, m.q, head<T>(a.q, b, a.q_b, h, a.D), a.q_t, a.T, a.D, T(a.scale));
    gather(m.pe, m.dy, dy, a.dy_t, a.T, a.E, T(1));
    for (ptrdiff_t t = 0; t < a.T; ++t) {
        const T *g = dy + t * a.dy_t, *o = y + t * a.y_t;
        m.delta[t] = T(sum<T>(a.E, [=](auto at) { return at.get(g) * at.get(o); }));
    }
    const T* qp = as_panels(m.pd, m.qp, m.q, a.T, j.R, a.D);
    const T* dyp = as_panels(m.pe, m.dyp, m.dy, a.T, j.R, a.E);
    set_rows(m.dq, d, a.T, d);
    const Share share = backward_share(j, piece % j.splits, length);
    for (ptrdiff_t c0 = share.s0; c0 < share.s1; c0 += kSources) {
        const ptrdiff_t c1 = least(c0 + kSources, share.s1);
        sources_backward(j, b, h, c0, c1, qp, dyp, share, m);
        if (!share.sources) continue;
        put_rows(dk + c0 * a.dk_s, a.dk_s, m.dk, d, c1 - c0, a.D, T(1));
        put_rows(dv + c0 * a.dv_s, a.dv_s, m.dv, e, c1 - c0, a.E, T(1));
    }
    if (share.past) {
        set_rows(dk + length * a.dk_s, a.dk_s, a.S - length, a.D);
        set_rows(dv + length * a.dv_s, a.dv_s, a.S - length, a.E);
    }
    if (share.queries)
        put_rows(head<T>(a.dq, b, a.dq_b, h, a.D) + share.t0 * a.dq_t, a.dq_t, m.dq + share.t0 * d, d, share.t1 - share.t0, a.D,
                 T(a.scale));
}

// ---- all pieces, by whoever is free: which thread takes one changes no bit

template <class T, bool kBackward>
void dot_job(void* ctx, int id, int) noexcept {
    DotJob<T>& j = *static_cast<DotJob<T>*>(ctx);
    T* scratch = static_cast<T*>(j.a.workspace) + id * j.scratch_each;
    const ptrdiff_t pieces = j.a.B * (j.parts ? j.parts : j.a.N * j.splits);
    for (;;) {
        const ptrdiff_t piece = __atomic_fetch_add(&j.next, 1, __ATOMIC_RELAXED);
        if (piece >= pieces) return;
        kBackward ? backward_piece(j, piece, scratch) : forward_piece(j, piece, scratch);
    }
}

template <class T>
ptrdiff_t dot_scratch(const DotAttention& a, bool backward) {
    Scratch<T> s{nullptr};
    if (few_queries(a, backward))
        FewSpace<T>(a, true, s);
    else if (backward)
        BackwardSpace<T>(a, queries_at_once<T>(a), s);
    else
        ForwardSpace<T>(a, queries_at_once<T>(a), s);
    return s.used + 64 / ptrdiff_t(sizeof(T));
}

template <class T, bool kBackward>
void dot_run(const DotAttention& a) {
    if (a.T <= 0 || a.B <= 0) return;
    const ptrdiff_t R = queries_at_once<T>(a), blocks = (a.T + R - 1) / R, heads = a.B * a.N;
    const double size = sizeof(T) == 4 ? 1 : 2, products = kBackward ? 2.5 : 1;
    const double ns = size * double(a.T) * double(a.S) * (products * double(a.D + a.E) / 60 + 0.3) + double(a.T) * 20;
    int threads = a.threads;
    const double useful = 1 + double(heads) * ns / 20e3;  // a thread should have some 20 µs to do
    if (useful < threads) threads = int(useful);
    // pieces enough that threads end together
    const ptrdiff_t wanted = 4 * threads, each = (wanted + heads - 1) / heads;
    ptrdiff_t splits = 1, parts = 0;
    if (few_queries(a, kBackward))
        parts = a.B >= wanted || threads == 1 ? 1 : least((wanted + a.B - 1) / a.B, a.N);
    else if (kBackward)
        splits = heads < threads ? 2 * each : 1;
    else if (heads < wanted)
        splits = least(each, blocks);
    DotJob<T> j{a, R, splits, parts, dot_scratch<T>(a, kBackward), 0};
    const ptrdiff_t pieces = parts ? a.B * parts : heads * splits;
    if (threads > pieces) threads = int(pieces);
    pool_run(threads, dot_job<T, kBackward>, &j);
}

}  // namespace

size_t dot_workspace(const DotAttention* a, int backward) {
    return size_t(a->threads) * (a->dtype == kFloat32 ? size_t(dot_scratch<float>(*a, backward)) * 4
                                                      : size_t(dot_scratch<double>(*a, backward)) * 8);
}
void dot_forward(const DotAttention* a) { (a->dtype == kFloat32 ? dot_run<float, false> : dot_run<double, false>)(*a); }
void dot_backward(const DotAttention* a) { (a->dtype == kFloat32 ? dot_run<float, true> : dot_run<double, true>)(*a); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
