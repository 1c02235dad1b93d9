// gradients.h: the GEMMs of a chunk on the way back: dx, the weights' and the biases' gradients.
#pragma once
#include "step.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// dx rows = dG·W for internal rows r0 … r1-1 of direction 0 from step s0 on; the other direction's share follows
template <class T, class Cell>
void input_gradient(const Plan<T>& p, const Step<T>* st, int directions, int s0, int s1, int id, int n, bool accumulate) {
    const Sequence& q = *p.q;
    const Segments k = gate_segments(p, Cell::kSectionX, Cell::G);
    const ThreadSpace<T>& ts = st[0].ts;
    const Range own = share(p.rows(s0, s1), id, n);
    const Columns<T> fresh{{}, nullptr, 0u, true}, add{{}, nullptr, ~0u, true};
    int row = 0, m = 0;
    auto flush = [&] {
        gemm_panels(ts.a, ts.c, m, k, st[0].W, 0, st[0].W.panels(), accumulate ? add : fresh);
        if (directions == 2) gemm_panels(ts.b, ts.c, m, k, st[1].W, 0, st[1].W.panels(), add);
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

// dW rows of gates first … first+count-1 += dGᵀ·b, this thread's share of the rows; b in ts.b
template <class T>
void weight_gradient(const Step<T>& st, int n, const int* section, int first, int count, void* dW, ptrdiff_t N, void* db) {
    const ptrdiff_t H = st.q.H;
    const bool merge = st.p.Hp == H;
    for (int g = first; g < first + count;) {
        int run = 1;
        while (merge && g + run < first + count && section[g + run] == section[g] + run) ++run;
        // whole tiles for each thread
        const ptrdiff_t M = run * H, tiles = (M + 5) / 6;
        const ptrdiff_t i0 = tiles * st.team.id / st.team.n * 6, i1 = tiles * (st.team.id + 1) / st.team.n * 6;
        const ptrdiff_t end = i1 < M ? i1 : M, offset = section[g] * st.p.Hp;
        if (dW)
            outer_product(OuterProduct<T>{st.ts.a, st.ts.b, n, offset, i0, end, N, static_cast<T*>(dW) + g * H * N, N},
                          st.ts.outer);
        if (db) column_sums(st.ts.a, n, offset, i0, end, static_cast<T*>(db) + g * H);
        g += run;
    }
}

// dW, dR and the biases' gradients of one chunk, while its dG is in cache
template <class T, class Cell>
void chunk_gradients(const Step<T>& st, int s1) {
    const Plan<T>& p = st.p;
    const Sequence& q = st.q;
    const Direction& d = st.d;
    const T* x = static_cast<const T*>(q.x);
    auto each_row = [&](auto&& f) {
        int n = 0;
        for (int s = st.s0; s < s1; ++s)
            for (int i = 0; i < p.active[s]; ++i) f(n++, s, i);
        return n;
    };
    const int n = each_row([&](int r, int s, int i) {
        st.ts.a[r] = st.gates(s, i);
        st.ts.b[r] = x + p.time(d, s, i) * q.x_t + p.index[i] * q.x_b;
    });
    weight_gradient(st, n, Cell::kSectionX, 0, Cell::G, d.dW, q.I, d.db_w);
    if (!d.dR && !d.db_r && !d.dM) return;
    each_row([&](int r, int s, int i) { st.ts.b[r] = st.h_before(s, i); });
    weight_gradient(st, n, Cell::kSectionR, 0, Cell::kFirst, d.dR, q.P, d.db_r);
    if (Cell::kFirst < Cell::G) {  // the candidate saw r ⊙ h
        each_row([&](int r, int s, int i) { st.ts.b[r] = st.gates(s, i) + 2 * p.Hp; });
        weight_gradient(st, n, Cell::kSectionR, Cell::kFirst, 1, d.dR, q.P, d.db_r);
    }
    if (d.dM) {
        const T* dhs = st.ds.dhs[st.chunk & 1];
        each_row([&](int r, int s, int i) {
            st.ts.a[r] = dhs + (p.offset[s] - p.offset[st.s0] + i) * p.Pp;
            st.ts.b[r] = st.hidden(s, i);
        });
        const Range own = share(int(q.P), st.team.id, st.team.n);
        outer_product(OuterProduct<T>{st.ts.a, st.ts.b, n, 0, own.first, own.last, q.H, static_cast<T*>(d.dM), q.H},
                      st.ts.outer);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
