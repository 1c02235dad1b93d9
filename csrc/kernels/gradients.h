// gradients.h: the GEMMs of a chunk on the way back: dx, the weights' and the biases' gradients.
#pragma once
#include "norm.h"
#include "one_hot.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Whether all of dx is one product, which packs W where it is used: with one chunk, and panels for every thread.
template <class T>
bool dx_once(const Plan<T>& p) {
    const Packed<T> W{nullptr, 0, p.q->I, kMaxNV, false};
    return p.chunks == 1 && !p.in_blocks && p.q->save != kSaveCheckpoints && even(W.panels(), p.most_threads);
}

// dx = dG·W for m rows and the panels `own`, each packed where it is used, over the last one
template <class T>
void dx_panels(const Step<T>* st, int directions, int m, const Segments& k, const Range& own, const Columns<T>& fresh,
               const Columns<T>& add) {
    for (int p = own.first; m > 0 && p < own.last; ++p)
        for (int d = 0; d < directions; ++d) {
            const Direction& from = st[d].d;
            Packed<T> one = st[0].W;
            one.data = st[0].W.panel(own.first);
            one.first = p;
            pack_plain(one, static_cast<const T*>(from.W), from.W_rs, from.W_cs, p, p + 1);
            gemm_panels(d ? st[0].ts.b : st[0].ts.a, st[0].ts.c, m, k, one, p, p + 1, d ? add : fresh);
        }
}

// dx rows = dG·W for internal rows r0 … r1-1 of direction 0 from step s0 on; the other direction's share follows
template <class T>
void input_gradient(const Plan<T>& p, const Step<T>* st, int directions, int s0, int s1, int id, int n, bool accumulate) {
    const Sequence& q = *p.q;
    const Segments k = gate_segments(p, p.cell.section_x, p.cell.G);
    const ThreadSpace<T>& ts = st[0].ts;
    const bool once = dx_once(p);
    const Range own = once ? Range{0, p.rows(s0, s1)} : share(p.rows(s0, s1), id, n);
    const Columns<T> fresh{{}, nullptr, 0u, true}, add{{}, nullptr, ~0u, true};
    int row = 0, m = 0;
    auto flush = [&] {
        if (once) {
            dx_panels(st, directions, m, k, share(st[0].W.panels(), id, n), fresh, add);
        } else {
            gemm_panels(ts.a, ts.c, m, k, st[0].W, 0, st[0].W.panels(), accumulate ? add : fresh);
            if (directions == 2) gemm_panels(ts.b, ts.c, m, k, st[1].W, 0, st[1].W.panels(), add);
        }
        m = 0;
    };
    for (int s = s0; s < s1; ++s) {
        const int a = p.active[s];
        for (int i = own.first > row ? own.first - row : 0; i < a && row + i < own.last; ++i) {
            const int t = p.time(st[0].d, s, i);
            ts.a[m] = st[0].gates(s, i);
            if (directions == 2) ts.b[m] = st[1].gates(q.dir[1].reverse ? p.length[i] - 1 - t : t, i);
            ts.c[m] = static_cast<T*>(q.dx) + t * q.dx_t + p.index[i] * q.dx_b;
            if (++m == p.chunk_rows) flush();
        }
        row += a;
    }
    flush();
}

// column sums of dG rows [n]: db[j] += Σ a[r][offset + j], rows in order
template <class T>
void column_sums(const T* const* a, int n, ptrdiff_t offset, ptrdiff_t j0, ptrdiff_t j1, T* db) {
    using V = typename Simd<T>::V;
    for (ptrdiff_t j = j0; j < j1; j += 4 * VL<T>) {
        V sum[4];
        int lanes[4];
        for (int v = 0; v < 4; ++v) {
            const ptrdiff_t left = j1 - j - v * VL<T>;
            lanes[v] = left <= 0 ? 0 : left < VL<T> ? int(left) : VL<T>;
            sum[v] = lanes[v] ? load_n(db + j + v * VL<T>, lanes[v]) : zero<T>();
        }
        const int nv = int((j1 - j + VL<T> - 1) / VL<T>);
        if (nv >= 4 && lanes[3] == VL<T>)
            for (int r = 0; r < n; ++r)
                for (int v = 0; v < 4; ++v) sum[v] = sum[v] + load(a[r] + offset + j + v * VL<T>);
        else
            for (int r = 0; r < n; ++r)
                for (int v = 0; v < (nv < 4 ? nv : 4); ++v) sum[v] = sum[v] + load_n(a[r] + offset + j + v * VL<T>, lanes[v]);
        for (int v = 0; v < 4; ++v)
            if (lanes[v]) store_n(db + j + v * VL<T>, sum[v], lanes[v]);
    }
}

// Which sections of dG's rows make which rows of dW and dR. Where the gates' are side by side, all are one.
template <class T>
struct GradientSections {
    int count = 0;
    ptrdiff_t width;                             // columns of each
    ptrdiff_t column[kMaxSections];              // where it begins in a row of `gates`
    ptrdiff_t x[kMaxSections], h[kMaxSections];  // its first row of dW, of dR; negative: none
    ptrdiff_t product[kMaxSections];             // of dR, where the candidate's product is with r ⊙ h₋₁

    explicit GradientSections(const Plan<T>& p) : width(p.q->H) {
        const CellShape<T>& cell = p.cell;
        for (int s = 0; s < kMaxSections; ++s) x[s] = h[s] = product[s] = -1;
        const bool merge =
            !cell.candidate && p.Hp == p.q->H && adjacent(cell, cell.section_x) && adjacent(cell, cell.section_r);
        for (int g = 0; g < cell.G; ++g) {
            const ptrdiff_t row = g * p.q->H;
            if (merge && g > 0) break;
            x[at(cell.section_x[g] * p.Hp)] = row;
            ptrdiff_t* const to = cell.candidate && g + 1 == cell.G ? product : h;
            to[at(cell.section_r[g] * p.Hp)] = row;
        }
        if (merge) width *= cell.G;
    }
    static bool adjacent(const CellShape<T>& cell, const int* section) {
        for (int g = 1; g < cell.G; ++g)
            if (section[g] != section[g - 1] + 1) return false;
        return true;
    }
    int at(ptrdiff_t from) {
        for (int s = 0; s < count; ++s)
            if (column[s] == from) return s;
        column[count] = from;
        return count++;
    }
    // of n rows of dG in ts.a, for the columns `own` of each section
    void bias_gradients(const Step<T>& st, int n, const Range& own) const {
        T *db_w = static_cast<T*>(st.d.db_w), *db_r = static_cast<T*>(st.d.db_r);
        for (int s = 0; s < count; ++s) {
            const ptrdiff_t r = h[s] >= 0 ? h[s] : product[s];
            if (db_w && x[s] >= 0) column_sums(st.ts.a, n, column[s], own.first, own.last, db_w + x[s]);
            if (db_r && r >= 0) column_sums(st.ts.a, n, column[s], own.first, own.last, db_r + r);
        }
    }
};

// of what a given cell has besides W, R and M, for n rows in ts.a
template <class T>
void given_gradients(const Step<T>& st, int n) {
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    const ptrdiff_t H = st.q.H;
    const Range own = share(int(H), st.team.id, st.team.n);
    for (int v = 0; v < spec.vectors; ++v)
        if (st.d.dvectors[v])
            column_sums<T>(st.ts.a, n, spec.section_v[v] * p.Hp, own.first, own.last, static_cast<T*>(st.d.dvectors[v]));
    for (int g = 0; !st.q.norm && g < p.cell.G; ++g) {  // norm.h has its own
        const ptrdiff_t x = spec.section_x[g] * p.Hp, r = spec.section_r[g] * p.Hp;
        if (st.d.db_w) column_sums(st.ts.a, n, x, own.first, own.last, static_cast<T*>(st.d.db_w) + g * H);
        if (st.d.db_r) column_sums(st.ts.a, n, r, own.first, own.last, static_cast<T*>(st.d.db_r) + g * H);
    }
}

// dW, dR and the biases' gradients of one chunk, while its dG is in cache
template <class T>
void chunk_gradients(const Step<T>& st, int s1) {
    const Plan<T>& p = st.p;
    const Sequence& q = st.q;
    const Direction& d = st.d;
    if (q.codes) add_input_weights<T>(st, s1);
    const GradientSections<T> parts(p);
    int n = 0;
    for (int s = st.s0; s < s1; ++s)
        for (int i = 0; i < p.active[s]; ++i, ++n) {
            st.ts.a[n] = st.gates(s, i);
            if (!q.codes) st.ts.b[n] = st.x(s, i);
            st.ts.b2[n] = st.operand(s, i);
            if (p.cell.candidate) st.ts.b3[n] = st.gates(s, i) + p.cell.product * p.Hp;  // r ⊙ h₋₁
        }
    const Range own = share(int(parts.width), st.team.id, st.team.n);
    OuterProduct<T> op{st.ts.a, n, own.first, own.last, parts.count, {}, 0, {}};
    for (int s = 0; s < parts.count; ++s) op.column[s] = parts.column[s];
    auto add_part = [&](const T* const* b, ptrdiff_t N, void* C, const ptrdiff_t* first) {
        if (!C) return;
        OuterPart<T>& part = op.part[op.parts++];
        part = {b, N, static_cast<T*>(C), N, {}};
        for (int s = 0; s < kMaxSections; ++s) part.first[s] = first[s];
    };
    if (!q.codes) add_part(st.ts.b, q.I, d.dW, parts.x);
    add_part(st.ts.b2, q.P, d.dR, parts.h);
    if (p.cell.candidate) add_part(st.ts.b3, q.P, d.dR, parts.product);
    outer_product(op, st.ts.outer);
    if (p.cell.spec)
        given_gradients(st, n);
    else
        parts.bias_gradients(st, n, own);
    if (d.dM) {
        const T* dhs = st.ds.dhs[st.chunk & 1];
        n = 0;
        for (int s = st.s0; s < s1; ++s)
            for (int i = 0; i < p.active[s]; ++i, ++n) {
                st.ts.a[n] = dhs + (p.offset[s] - p.offset[st.s0] + i) * p.Pp;
                st.ts.b[n] = st.hidden(s, i);
            }
        const Range rows = share(int(q.P), st.team.id, st.team.n);
        OuterProduct<T> dM{st.ts.a, n, rows.first, rows.last, 1, {0}, 1, {}};
        dM.part[0] = {st.ts.b, q.H, static_cast<T*>(d.dM), q.H, {0, -1, -1, -1}};
        outer_product(dM, st.ts.outer);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
