// gradients.h: the GEMMs of a chunk on the way back: dx, the weights' and the biases' gradients.
#pragma once
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
template <class T, class Cell>
void input_gradient(const Plan<T>& p, const Step<T>* st, int directions, int s0, int s1, int id, int n, bool accumulate) {
    const Sequence& q = *p.q;
    const Segments k = gate_segments(p, Cell::kSectionX, Cell::G);
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

// dW, dR and the biases' gradients of one chunk, while its dG is in cache
template <class T, class Cell>
void chunk_gradients(const Step<T>& st, int s1) {
    const Plan<T>& p = st.p;
    const Sequence& q = st.q;
    const Direction& d = st.d;
    if (q.codes) add_input_weights<T, Cell>(st, s1);
    // dG's sections: a GRU's n has one from x and one from h; elsewhere, where they are adjacent, all are one
    const bool merge = Cell::G != 3 && p.Hp == q.H;
    const int sections = Cell::G == 3 ? 4 : merge ? 1 : Cell::G;
    int n = 0;
    for (int s = st.s0; s < s1; ++s)
        for (int i = 0; i < p.active[s]; ++i, ++n) {
            st.ts.a[n] = st.gates(s, i);
            if (!q.codes) st.ts.b[n] = st.x(s, i);
            st.ts.b2[n] = st.h_before(s, i);
            if (Cell::G == 3 && Cell::kSecond) st.ts.b3[n] = st.gates(s, i) + 2 * p.Hp;  // r ⊙ h₋₁
        }
    const Range own = share(int(merge ? Cell::G * q.H : q.H), st.team.id, st.team.n);
    OuterProduct<T> op{st.ts.a, n, own.first, own.last, sections, {}, 0, {}};
    for (int s = 0; s < sections; ++s) op.column[s] = s * p.Hp;
    // rows of dW, of dR: the gate that section s belongs to
    ptrdiff_t x_rows[kMaxSections] = {-1, -1, -1, -1}, h_rows[kMaxSections] = {-1, -1, -1, -1};
    for (int g = 0; g < Cell::G; ++g) x_rows[Cell::kSectionX[g]] = h_rows[Cell::kSectionR[g]] = g * q.H;
    auto add_part = [&](const T* const* b, ptrdiff_t N, void* C, const ptrdiff_t* first) {
        if (!C) return;
        OuterPart<T>& part = op.part[op.parts++];
        part = {b, N, static_cast<T*>(C), N, {}};
        for (int s = 0; s < kMaxSections; ++s) part.first[s] = first[s];
    };
    if (!q.codes) add_part(st.ts.b, q.I, d.dW, x_rows);
    if (Cell::G == 3 && Cell::kSecond) {  // n comes from r ⊙ h₋₁
        const ptrdiff_t third[kMaxSections] = {-1, -1, -1, 2 * q.H};
        ptrdiff_t first_two[kMaxSections] = {h_rows[0], h_rows[1], -1, -1};
        add_part(st.ts.b2, q.P, d.dR, first_two);
        add_part(st.ts.b3, q.P, d.dR, third);
    } else {
        add_part(st.ts.b2, q.P, d.dR, h_rows);
    }
    outer_product(op, st.ts.outer);
    for (int s = 0; s < sections; ++s) {
        const ptrdiff_t j0 = own.first, j1 = own.last;
        if (d.db_w && x_rows[s] >= 0) column_sums(st.ts.a, n, s * p.Hp, j0, j1, static_cast<T*>(d.db_w) + x_rows[s]);
        if (d.db_r && h_rows[s] >= 0) column_sums(st.ts.a, n, s * p.Hp, j0, j1, static_cast<T*>(d.db_r) + h_rows[s]);
    }
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
