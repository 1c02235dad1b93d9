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

// this thread's share of M rows, in whole tiles
inline void tile_share(ptrdiff_t M, const Team& team, ptrdiff_t& i0, ptrdiff_t& i1) {
    const ptrdiff_t tiles = (M + 5) / 6;
    i0 = tiles * team.id / team.n * 6;
    i1 = tiles * (team.id + 1) / team.n * 6;
    if (i1 > M) i1 = M;
}

// `run` adjacent sections of dG from `section` on: dW rows of gate gw += dGᵀ·x, dR rows of gate gr += dGᵀ·h, and the biases'
// column sums; a negative gate: not wanted
template <class T>
void weight_gradient(const Step<T>& st, int n, int section, int run, int gw, int gr) {
    const Direction& d = st.d;
    const ptrdiff_t H = st.q.H, I = st.q.I, P = st.q.P, offset = section * st.p.Hp;
    ptrdiff_t i0, i1;
    tile_share(run * H, st.team, i0, i1);
    OuterProduct<T> op{st.ts.a, n, offset, i0, i1, 0, {}};
    if (gw >= 0 && d.dW) op.part[op.parts++] = {st.ts.b, I, static_cast<T*>(d.dW) + gw * H * I, I};
    if (gr >= 0 && d.dR) op.part[op.parts++] = {st.ts.b2, P, static_cast<T*>(d.dR) + gr * H * P, P};
    if (op.parts) outer_product(op, st.ts.outer);
    if (gw >= 0 && d.db_w) column_sums(st.ts.a, n, offset, i0, i1, static_cast<T*>(d.db_w) + gw * H);
    if (gr >= 0 && d.db_r) column_sums(st.ts.a, n, offset, i0, i1, static_cast<T*>(d.db_r) + gr * H);
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
        st.ts.b2[r] = st.h_before(s, i);
    });
    const bool merge = p.Hp == q.H;  // sections are adjacent columns
    auto apart = [&](int first, int gates, int gw, int gr) {
        for (int g = 0; g < gates; g += merge ? gates : 1)
            weight_gradient(st, n, first + g, merge ? gates : 1, gw < 0 ? gw : gw + g, gr < 0 ? gr : gr + g);
    };
    if (Cell::G != 3) {
        apart(0, Cell::G, 0, 0);
    } else {
        apart(0, 2, 0, 0);   // r, z
        apart(3, 1, 2, -1);  // n from x
        if (Cell::kSecond)   // n from r ⊙ h, which lies in section 2
            each_row([&](int r, int s, int i) { st.ts.b2[r] = st.gates(s, i) + 2 * p.Hp; });
        apart(Cell::kSectionR[2], 1, -1, 2);
    }
    if (d.dM) {
        const T* dhs = st.ds.dhs[st.chunk & 1];
        each_row([&](int r, int s, int i) {
            st.ts.a[r] = dhs + (p.offset[s] - p.offset[st.s0] + i) * p.Pp;
            st.ts.b[r] = st.hidden(s, i);
        });
        ptrdiff_t i0, i1;
        tile_share(q.P, st.team, i0, i1);
        outer_product(OuterProduct<T>{st.ts.a, n, 0, i0, i1, 1, {{st.ts.b, q.H, static_cast<T*>(d.dM), q.H}, {}}}, st.ts.outer);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
