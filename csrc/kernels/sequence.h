// sequence.h: the schedule, written once for every cell: chunks, teams, batch groups, lengths and the order of GEMMs.
//
// Forward, for each chunk of steps: one input GEMM straight into `gates`, then the recurrent steps in place.
// Backward, chunks descending: the steps turn `gates` into dG in place and carry dh, dc; then, while dG is in cache,
// dx, dW, dR and the bias gradients of the chunk.
//
// Threads: the two directions are two teams. A team of n threads splits the batch into `groups` (no barrier over time)
// and the hidden units into `slices` (one barrier a phase); group g owns the rows i ≡ g (mod groups), so that ragged
// batches stay balanced.
//
// A cell (cell_*.h) supplies:
//   G, kSectionX    its gates, and where x·W of each lies in a row of `gates`
//   kFirst, kSectionR  gates of the first recurrent product, and where dG of each weight row lies
//   kSecond         a second product in a step: the projection, or the candidate of GRU without reset_after
//   kHasC, kCarries, kBiasInside  a cell state; dh of the step before starts from a carried term; b_r of n apart
//   forward(Step&)  one step: its GEMM tiles with the gate arithmetic as each tile's epilogue
//   backward(Step&) the same step reversed
#pragma once
#include "plan.h"
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct Team {
    int id, n;           // this thread, threads
    int group, groups;   // of the batch
    int slice, slices;   // of the hidden units
    bool idle;           // in no group: helps with chunk GEMMs only
    Barrier *all, *mine;  // the team's, the group's
};

// A share of `count` things for this slice.
struct Range {
    int first, last;
};
inline Range share(int count, int id, int n) { return {int(int64_t(count) * id / n), int(int64_t(count) * (id + 1) / n)}; }

inline Team make_team(const Sequence& q, int G, int id, int n, int most_units, Barrier* all, Barrier* groups) {
    Team t{id, n, 0, 1, 0, 1, false, all, groups};
    if (n > 1) {
        constexpr int kRowsWorthAThread = 4;
        int by_rows = int(q.B / kRowsWorthAThread);
        t.groups = by_rows < 1 ? 1 : by_rows < n ? by_rows : n;
        t.slices = n / t.groups;
        // a barrier costs about 0.2 µs: a slice must save more than that in a step
        const double step = 2.0 * G * double(q.H) * double(q.P) * double((q.B + t.groups - 1) / t.groups);
        const int useful = int(step / 1e5) + 1;
        if (t.slices > useful) t.slices = useful;
        if (t.slices > most_units) t.slices = most_units;
        t.idle = id >= t.groups * t.slices;
        t.group = t.idle ? 0 : id % t.groups;
        t.slice = t.idle ? 0 : id / t.groups;
        t.mine = groups + t.group;
    }
    return t;
}

// Panels of plain operands are narrower when slices would otherwise go without.
template <class T>
int plain_vectors(ptrdiff_t N, int slices) {
    ptrdiff_t vectors = (N + VL<T> - 1) / VL<T>, each = (vectors + slices - 1) / slices;
    return each < 1 ? 1 : each < kMaxNV ? int(each) : kMaxNV;
}

// Everything one thread needs for its steps in one direction.
template <class T>
struct Step {
    const Plan<T>& p;
    const Sequence& q;
    const Direction& d;
    const DirectionSpace<T>& ds;
    const ThreadSpace<T>& ts;
    Team team;
    Packed<T> W, R, R2;  // forward: input, recurrent, second product; backward: the same weights as plain panels
    int s, s0;           // step, first step of its chunk
    int base;            // first step that gates, c and hidden hold
    bool turns;          // c alternates between two slots
    int chunk;           // index of the chunk
    int after;           // checkpoints: the step whose dG is in next_gates; else -1
    int m, m_next;       // rows of this group running at step s, at step s+1

    T* h_n(int i) const { return static_cast<T*>(d.h_n) + p.index[i] * q.P; }
    T* c_n(int i) const { return static_cast<T*>(d.c_n) + p.index[i] * q.H; }
    T* y(int s_, int i) const { return static_cast<T*>(d.y) + p.time(d, s_, i) * d.y_t + p.index[i] * d.y_b; }
    const T* h_0(int i) const { return d.h_0 ? static_cast<const T*>(d.h_0) + p.index[i] * q.P : p.zeros; }
    const T* h_before(int s_, int i) const { return s_ == 0 ? h_0(i) : y(s_ - 1, i); }
    T* gates(int s_, int i) const { return ds.gates + p.row(s_, i, base) * p.gates_stride(); }
    T* hidden(int s_, int i) const { return ds.hidden + p.row(s_, i, base) * p.Hp; }
    T* cell(int s_, int i) const { return ds.cell + p.cell_row(s_, i, base, turns) * p.Hp; }
    T* checkpoint(int segment, int i) const { return static_cast<T*>(d.c) + (segment * q.B + i) * p.Hp; }
    int mine(int rows) const { return rows > team.group ? (rows - team.group + team.groups - 1) / team.groups : 0; }
    int row(int r) const { return team.group + r * team.groups; }
    void wait() const { barrier_wait(team.mine, team.slices); }
    Range panels(const Packed<T>& B) const { return share(B.panels(), team.slice, team.slices); }
};

// One vector column of a tile, as an epilogue sees it: units u … u+VL-1, of which `lanes` exist.
template <class F>
FR_INLINE void each_vector(ptrdiff_t u0, ptrdiff_t u1, int vl, F&& f) {
    for (ptrdiff_t u = u0; u < u1; u += vl) f(u, u1 - u < vl ? int(u1 - u) : vl);
}

// GEMM tiles over this slice's panels, each followed by epilogue(u0, u1) on its units while they are in L1.
template <class T, class Epilogue>
FR_INLINE void gemm_then(const Step<T>& st, const T* const* a, T* const* c, int m, const Segments& k, const Packed<T>& B,
                         const Columns<T>& cols, Epilogue&& epilogue) {
    const Range own = st.panels(B);
    const int at_once = panels_at_once<T>(m, B.NV);
    for (int p = own.first; p < own.last; p += at_once) {
        const int last = p + at_once < own.last ? p + at_once : own.last;
        gemm_panels(a, c, m, k, B, p, last, cols);
        const ptrdiff_t u0 = ptrdiff_t(p) * B.width(), u1 = ptrdiff_t(last) * B.width();
        epilogue(u0, u1 < B.N ? u1 : B.N);
    }
}

template <class T>
void copy_n(T* dst, const T* src, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; ++i) dst[i] = src ? src[i] : T(0);
}

// zeros past each row's length, for rows id, id+n, …
template <class T>
void zero_padding(const Plan<T>& p, T* y, ptrdiff_t stride_t, ptrdiff_t stride_b, ptrdiff_t width, int id, int n) {
    if (!p.q->lengths) return;
    for (int i = id; i < p.q->B; i += n)
        for (ptrdiff_t t = p.length[i]; t < p.q->T; ++t) copy_n<T>(y + t * stride_t + p.index[i] * stride_b, nullptr, width);
}

// x·W + bias for this group's rows and this slice's panels of a chunk
template <class T, class Cell>
void input_gemm(Step<T>& st, int s1) {
    const T* x = static_cast<const T*>(st.q.x);
    int n = 0;
    for (int s = st.s0; s < s1; ++s) {
        const int m = st.mine(st.p.active[s]);
        for (int r = 0; r < m; ++r, ++n) {
            const int i = st.row(r);
            st.ts.a[n] = x + st.p.time(st.d, s, i) * st.q.x_t + st.p.index[i] * st.q.x_b;
            st.ts.c[n] = st.gates(s, i);
        }
    }
    Columns<T> cols{{}, st.ds.bias_x, 0u, false};
    for (int g = 0; g < Cell::G; ++g) cols.section[g] = Cell::kSectionX[g] * st.p.Hp;
    const Range own = st.panels(st.W);
    gemm_panels(st.ts.a, st.ts.c, n, Segments{1, st.q.I, {0}}, st.W, own.first, own.last, cols);
}

// rows that end with step s hand their state out
template <class T, class Cell>
void finish_rows(const Step<T>& st) {
    const int next = st.mine(st.s + 1 < st.q.T ? st.p.active[st.s + 1] : 0);
    for (int r = next; r < st.m; ++r) {
        const int i = st.row(r);
        const Range h = share(int(st.q.P), st.team.slice, st.team.slices);
        // another slice may still be writing y: each copies after the barrier that ends the step
        copy_n(st.h_n(i) + h.first, st.y(st.s, i) + h.first, h.last - h.first);
        if (Cell::kHasC) {
            const Range c = share(int(st.q.H), st.team.slice, st.team.slices);
            copy_n(st.c_n(i) + c.first, st.cell(st.s, i) + c.first, c.last - c.first);
        }
    }
}

// the initial cell state into slot 0, and the states of rows that never run
template <class T, class Cell>
void start_rows(const Step<T>& st) {
    const int rows = st.mine(int(st.q.B));
    for (int r = 0; r < rows; ++r) {
        const int i = st.row(r);
        const T* c_0 = st.d.c_0 ? static_cast<const T*>(st.d.c_0) + st.p.index[i] * st.q.H : nullptr;
        if (Cell::kHasC && st.team.slice == 0) {
            copy_n(st.cell(-1, i), c_0, st.q.H);
            copy_n<T>(st.cell(-1, i) + st.q.H, nullptr, st.p.Hp - st.q.H);
        }
        if (st.p.length[i] > 0 || st.team.slice) continue;
        copy_n(st.h_n(i), st.d.h_0 ? st.h_0(i) : nullptr, st.q.P);
        if (Cell::kHasC) copy_n(st.c_n(i), c_0, st.q.H);
    }
}

// c before the chunk that starts now, for backward to start from
template <class T>
void keep_cells(const Step<T>& st, int segment) {
    const Range own = share(int(st.p.Hp), st.team.slice, st.team.slices);
    const int rows = st.mine(st.p.active[st.s0]);
    for (int r = 0; r < rows; ++r) {
        const int i = st.row(r);
        copy_n(st.checkpoint(segment, i) + own.first, st.cell(st.s0 - 1, i) + own.first, own.last - own.first);
    }
}

// one step; h goes to y, or, when it is computed again, to `again_h`
template <class T, class Cell>
void step_forward(Step<T>& st, T* again_h) {
    const ThreadSpace<T>& ts = st.ts;
    st.m = st.mine(st.p.active[st.s]);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        ts.gates[r] = st.gates(st.s, i);
        ts.h_prev[r] = st.h_before(st.s, i);
        ts.h[r] = again_h ? again_h + i * st.p.wide : st.y(st.s, i);
        if (Cell::kHasC) {
            ts.c_prev[r] = st.cell(st.s - 1, i);
            ts.cell[r] = st.cell(st.s, i);
            if (st.d.M) ts.hidden[r] = st.hidden(st.s, i);
        }
    }
    Cell::forward(st);
    st.wait();
}

template <class T, class Cell>
void pack_forward(Step<T>& st, T* packed_W, T* packed_R, T* packed_R2) {
    const Sequence& q = st.q;
    const Direction& d = st.d;
    const bool gates = Cell::G > 1;
    static constexpr int kAll[] = {0, 1, 2, 3}, kN[] = {2};
    st.W = Packed<T>{packed_W, q.I, q.H, gates ? Cell::G : plain_vectors<T>(q.H, st.team.slices), gates};
    st.R = Packed<T>{packed_R, q.P, q.H, gates ? Cell::kFirst : st.W.NV, gates};
    const T *W = static_cast<const T*>(d.W), *R = static_cast<const T*>(d.R);
    Range w = share(st.W.panels(), st.team.id, st.team.n);
    if (gates) {
        pack_gates(st.W, W, d.W_rs, d.W_cs, kAll, w.first, w.last);
        pack_gates(st.R, R, d.R_rs, d.R_cs, kAll, w.first, w.last);
    } else {
        pack_plain(st.W, W, d.W_cs, d.W_rs, w.first, w.last);
        pack_plain(st.R, R, d.R_cs, d.R_rs, w.first, w.last);
    }
    if (Cell::kSecond) {
        // a projection [P, H], or the candidate's rows of R [H, H]
        const ptrdiff_t N = d.M ? q.P : q.H;
        st.R2 = Packed<T>{packed_R2, q.H, N, plain_vectors<T>(N, st.team.slices), false};
        Range r2 = share(st.R2.panels(), st.team.id, st.team.n);
        if (d.M)
            pack_plain(st.R2, static_cast<const T*>(d.M), d.M_cs, d.M_rs, r2.first, r2.last);
        else
            pack_plain(st.R2, R + kN[0] * q.H * d.R_rs, d.R_cs, d.R_rs, r2.first, r2.last);
    }
    const T *bw = static_cast<const T*>(d.b_w), *br = static_cast<const T*>(d.b_r);
    for (int p = w.first; p < w.last; ++p)
        for (int v = 0; v < st.W.NV; ++v)
            for (int l = 0; l < VL<T>; ++l) {
                const ptrdiff_t u = ptrdiff_t(p) * st.W.width() + (gates ? 0 : v * VL<T>)+l;
                const ptrdiff_t at = (ptrdiff_t(p) * st.W.NV + v) * VL<T> + l;
                const int g = gates ? v : 0;
                const T b_w = bw && u < q.H ? bw[g * q.H + u] : T(0), b_r = br && u < q.H ? br[g * q.H + u] : T(0);
                const bool apart = Cell::kBiasInside && g == 2;  // b_r of n sits inside the reset product
                st.ds.bias_x[at] = apart ? b_w : b_w + b_r;
                st.ds.bias_r[at] = apart ? b_r : T(0);
            }
}

template <class T, class Cell>
void forward_direction(const Plan<T>& p, int dir, const ThreadSpace<T>& ts, const Team& team) {
    const Sequence& q = *p.q;
    Step<T> st{p, q, q.dir[dir], p.dir[dir], ts, team, {}, {}, {}, 0, 0, 0, q.save != kSaveAll, 0, -1, 0, 0};
    pack_forward<T, Cell>(st, st.ds.W, st.ds.R, st.ds.R2);
    zero_padding(p, static_cast<T*>(st.d.y), st.d.y_t, st.d.y_b, q.P, team.id, team.n);
    if (!team.idle) start_rows<T, Cell>(st);
    barrier_wait(team.all, team.n);
    if (team.idle) return;
    int segment = 0;
    for (int k = 0; k < p.chunks; ++k) {
        st.s0 = p.chunk[k];
        if (q.save != kSaveAll) st.base = st.s0;
        if (Cell::kHasC && q.save == kSaveCheckpoints && k == p.segment[segment]) keep_cells(st, segment++);
        input_gemm<T, Cell>(st, p.chunk[k + 1]);
        for (st.s = st.s0; st.s < p.chunk[k + 1]; ++st.s) {
            step_forward<T, Cell>(st, nullptr);
            finish_rows<T, Cell>(st);
        }
    }
}

template <class T, class Cell>
void pack_backward(Step<T>& st) {
    const Sequence& q = st.q;
    const Direction& d = st.d;
    const T *W = static_cast<const T*>(d.W), *R = static_cast<const T*>(d.R);
    if (q.dx) {
        st.W = Packed<T>{st.ds.W, Cell::G * q.H, q.I, kMaxNV, false};
        Range w = share(st.W.panels(), st.team.id, st.team.n);
        pack_plain(st.W, W, d.W_rs, d.W_cs, w.first, w.last);
    }
    st.R = Packed<T>{st.ds.R, Cell::kFirst * q.H, q.P, plain_vectors<T>(q.P, st.team.slices), false};
    Range r = share(st.R.panels(), st.team.id, st.team.n);
    pack_plain(st.R, R, d.R_rs, d.R_cs, r.first, r.last);
    if (Cell::kSecond) {
        st.R2 = Packed<T>{st.ds.R2, d.M ? q.P : q.H, q.H, plain_vectors<T>(q.H, st.team.slices), false};
        Range r2 = share(st.R2.panels(), st.team.id, st.team.n);
        if (d.M)
            pack_plain(st.R2, static_cast<const T*>(d.M), d.M_rs, d.M_cs, r2.first, r2.last);
        else
            pack_plain(st.R2, R + 2 * q.H * d.R_rs, d.R_rs, d.R_cs, r2.first, r2.last);
    }
}

// Segments of a row of dG as the K of dG·W or dG·R: gates in the order of the weight's rows.
template <class T>
Segments gate_segments(const Plan<T>& p, const int* section, int count) {
    Segments k{count, p.q->H, {}};
    for (int g = 0; g < count; ++g) k.offset[g] = section[g] * p.Hp;
    bool adjacent = p.Hp == p.q->H;
    for (int g = 1; g < count; ++g) adjacent = adjacent && section[g] == section[g - 1] + 1;
    if (adjacent) return Segments{1, count * p.q->H, {k.offset[0]}};
    return k;
}

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

// gradients at the final states come in where a row ends
template <class T, class Cell>
void enter_rows(const Step<T>& st, int first, int last) {
    for (int r = first; r < last; ++r) {
        const int i = st.row(r), b = st.p.index[i];
        const T* dh_n = st.d.dh_n ? static_cast<const T*>(st.d.dh_n) + b * st.q.P : nullptr;
        const T* dc_n = st.d.dc_n ? static_cast<const T*>(st.d.dc_n) + b * st.q.H : nullptr;
        if (st.p.length[i] == 0) {  // straight to the initial state
            if (st.team.slice) continue;
            if (st.d.dh_0) copy_n(static_cast<T*>(st.d.dh_0) + b * st.q.P, dh_n, st.q.P);
            if (st.d.dc_0) copy_n(static_cast<T*>(st.d.dc_0) + b * st.q.H, dc_n, st.q.H);
            continue;
        }
        // each slice fills the units whose panels it owns
        const Range h = st.panels(st.R), c = st.panels(Cell::kSecond ? st.R2 : st.R);
        const ptrdiff_t h0 = h.first * ptrdiff_t(st.R.width()), h1 = h.last * ptrdiff_t(st.R.width());
        for (ptrdiff_t u = h0; u < h1 && u < st.p.Pp; ++u) Cell::state_gradient(st, i)[u] = dh_n && u < st.q.P ? dh_n[u] : T(0);
        if (!Cell::kHasC) continue;
        const ptrdiff_t width = Cell::kSecond ? st.R2.width() : st.R.width(), c0 = c.first * width, c1 = c.last * width;
        T* dc = st.ds.dc + i * st.p.Hp;
        for (ptrdiff_t u = c0; u < c1 && u < st.p.Hp; ++u) dc[u] = dc_n && u < st.q.H ? dc_n[u] : T(0);
    }
}

// dG of the step after: when that belongs to the segment before this one in backward's order, a copy was kept
template <class T>
T* next_gates(const Step<T>& st, int s, int i) {
    return s == st.after ? st.ds.next_gates + i * st.p.gates_stride() : st.gates(s, i);
}

template <class T, class Cell>
void step_backward(Step<T>& st) {
    const Plan<T>& p = st.p;
    const int s = st.s;
    st.m = st.mine(p.active[s]);
    st.m_next = s + 1 < st.q.T ? st.mine(p.active[s + 1]) : 0;
    enter_rows<T, Cell>(st, st.m_next, st.m);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        st.ts.gates[r] = st.gates(s, i);
        if (r < st.m_next) st.ts.next_gates[r] = next_gates(st, s + 1, i);
        st.ts.h_prev[r] = st.h_before(s, i);
        st.ts.h[r] = st.y(s, i);
        st.ts.dh[r] = st.ds.dh + i * p.wide;
        if (st.d.dy) st.ts.dy[r] = static_cast<const T*>(st.d.dy) + p.time(st.d, s, i) * st.d.dy_t + p.index[i] * st.d.dy_b;
        if (Cell::kHasC) {
            st.ts.c_prev[r] = st.cell(s - 1, i);
            st.ts.cell[r] = st.cell(s, i);
            st.ts.dc[r] = st.ds.dc + i * p.Hp;
        }
    }
    Cell::backward(st);
    st.wait();
}

// the gradient at the initial state: one more dG·R after step 0
template <class T, class Cell>
void initial_gradient(Step<T>& st) {
    st.m = st.mine(st.q.T ? st.p.active[0] : 0);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        st.ts.next_gates[r] = st.gates(0, i);  // base is 0 by now
        st.ts.dh[r] = st.ds.dh + i * st.p.wide;
    }
    const Columns<T> cols{{}, nullptr, Cell::kCarries ? ~0u : 0u, false};
    gemm_then(st, (const T* const*)st.ts.next_gates, st.ts.dh, st.m, gate_segments(st.p, Cell::kSectionR, Cell::kFirst), st.R,
              cols, [&](ptrdiff_t u0, ptrdiff_t u1) {
                  for (int r = 0; r < st.m && st.d.dh_0; ++r)
                      copy_n(static_cast<T*>(st.d.dh_0) + st.p.index[st.row(r)] * st.q.P + u0, st.ts.dh[r] + u0, u1 - u0);
              });
    if (!Cell::kHasC || !st.d.dc_0) return;
    st.wait();
    if (st.team.slice == 0)
        for (int r = 0; r < st.m; ++r) {
            const int i = st.row(r);
            copy_n(static_cast<T*>(st.d.dc_0) + st.p.index[i] * st.q.H, st.ds.dc + i * st.p.Hp, st.q.H);
        }
}

// the gates, c and hidden of a segment once more, from y and the cells kept at its start
template <class T, class Cell>
void forward_again(Step<T>& st, Step<T>& fw, int segment) {
    const Plan<T>& p = st.p;
    const int first = p.segment[segment], last = p.segment[segment + 1];
    barrier_wait(st.team.all, st.team.n);  // everybody is done with the segment that the memory held
    st.after = -1;
    if (segment + 1 < p.segments) {
        st.after = p.chunk[last];
        const int rows = st.mine(p.active[st.after]);
        if (!st.team.idle && st.team.slice == 0)
            for (int r = 0; r < rows; ++r)
                copy_n(st.ds.next_gates + st.row(r) * p.gates_stride(), st.gates(st.after, st.row(r)), p.gates_stride());
        barrier_wait(st.team.all, st.team.n);
    }
    st.base = fw.base = p.chunk[first];
    if (!st.team.idle) {
        const int rows = st.mine(p.active[st.base]);
        const Range own = share(int(p.Hp), st.team.slice, st.team.slices);
        for (int r = 0; Cell::kHasC && r < rows; ++r)
            copy_n(st.cell(st.base - 1, st.row(r)) + own.first, st.checkpoint(segment, st.row(r)) + own.first,
                   own.last - own.first);
        st.wait();
        for (int k = first; k < last; ++k) {
            fw.s0 = p.chunk[k];
            input_gemm<T, Cell>(fw, p.chunk[k + 1]);
            for (fw.s = fw.s0; fw.s < p.chunk[k + 1]; ++fw.s) step_forward<T, Cell>(fw, st.ds.again_h);
        }
    }
    barrier_wait(st.team.all, st.team.n);
}

template <class T, class Cell>
void backward_direction(Step<T>& st, bool second) {
    const Plan<T>& p = st.p;
    pack_backward<T, Cell>(st);
    barrier_wait(st.team.all, st.team.n);
    if (!st.team.idle) enter_rows<T, Cell>(st, st.mine(st.q.T ? p.active[0] : 0), st.mine(int(st.q.B)));
    const bool again = st.q.save == kSaveCheckpoints;
    Step<T> fw = st;
    if (again) pack_forward<T, Cell>(fw, st.ds.fW, st.ds.fR, st.ds.fR2);
    for (int segment = p.segments - 1; segment >= 0; --segment) {
        if (again) forward_again<T, Cell>(st, fw, segment);
        for (int k = p.segment[segment + 1] - 1; k >= p.segment[segment]; --k) {
            st.chunk = k;
            st.s0 = p.chunk[k];
            const int s1 = p.chunk[k + 1];
            if (!st.team.idle)
                for (st.s = s1 - 1; st.s >= st.s0; --st.s) step_backward<T, Cell>(st);
            barrier_wait(st.team.all, st.team.n);
            if (st.q.dx && (st.q.D == 1 || again))
                input_gradient<T, Cell>(p, &st, 1, st.s0, s1, st.team.id, st.team.n, again && second);
            chunk_gradients<T, Cell>(st, s1);
        }
    }
    if (!st.team.idle && st.q.T && (st.d.dh_0 || st.d.dc_0)) initial_gradient<T, Cell>(st);
}

// ---- one parallel region

template <class T>
Team team_of(const Plan<T>& p, int id, int n, int dir, int teams) {
    const int first = (n + 1) / 2;  // threads of team 0
    const int members = teams == 1 ? n : dir == 0 ? first : n - first;
    const int me = teams == 1 || dir == 0 ? id : id - first;
    const int units = int((p.q->H < p.q->P ? p.q->H : p.q->P) + VL<T> - 1) / VL<T>;
    return make_team(*p.q, p.G, me, members, units, p.barriers + 1 + dir, p.barriers + 3 + (dir == 0 ? 0 : first));
}

template <class T, class Cell>
void forward_job(void* ctx, int id, int n) noexcept {
    const Plan<T>& p = *static_cast<const Plan<T>*>(ctx);
    const int D = p.q->D, teams = D == 2 && n > 1 ? 2 : 1, first = (n + 1) / 2;
    for (int dir = 0; dir < D; ++dir) {
        if (teams == 2 && (id < first) != (dir == 0)) continue;
        forward_direction<T, Cell>(p, dir, p.threads[id], team_of(p, id, n, dir, teams));
    }
}

template <class T, class Cell>
void backward_job(void* ctx, int id, int n) noexcept {
    const Plan<T>& p = *static_cast<const Plan<T>*>(ctx);
    const Sequence& q = *p.q;
    const bool again = q.save == kSaveCheckpoints;
    const int D = q.D, teams = D == 2 && n > 1 && !again ? 2 : 1, first = (n + 1) / 2;
    Step<T> st[2] = {{p, q, q.dir[0], p.dir[0], p.threads[id], {}, {}, {}, {}, 0, 0, 0, false, 0, -1, 0, 0},
                     {p, q, q.dir[1], p.dir[1], p.threads[id], {}, {}, {}, {}, 0, 0, 0, false, 0, -1, 0, 0}};
    if (q.dx) zero_padding(p, static_cast<T*>(q.dx), q.dx_t, q.dx_b, q.I, id, n);
    for (int dir = 0; dir < D; ++dir) {
        // Note [dx of two directions]: summed after both, in one order whatever the number of threads
        st[dir].W = Packed<T>{p.dir[dir].W, Cell::G * q.H, q.I, kMaxNV, false};
        if (teams == 2 && (id < first) != (dir == 0)) continue;
        st[dir].team = team_of(p, id, n, dir, teams);
        backward_direction<T, Cell>(st[dir], dir == 1);
        if (again) barrier_wait(p.barriers, n);
    }
    if (q.dx && D == 2 && !again) {
        barrier_wait(p.barriers, n);
        input_gradient<T, Cell>(p, st, 2, 0, int(q.T), id, n, false);
    }
}

// threads worth waking: each should have some 20 µs to do
inline int useful_threads(const Sequence& q, int G, double passes) {
    const double work = passes * 2.0 * double(q.steps) * double(q.I + q.P) * G * double(q.H) * q.D;
    const double most = work / 1e6 + 1;
    return q.threads < most ? q.threads : int(most);
}

template <class T>
bool prepare(Plan<T>& p, const Sequence& q, bool backward) {
    if (q.B == 0) return false;
    lay_out(p, q, backward, q.workspace);
    order_rows(p);
    copy_n<T>(p.zeros, nullptr, p.wide);
    for (int i = 0; i < 3 + q.threads; ++i) barrier_init(p.barriers + i);
    return true;
}

template <class T, class Cell>
void run_forward(const Sequence& q) {
    Plan<T> p;
    if (prepare(p, q, false)) pool_run(useful_threads(q, Cell::G, 1), forward_job<T, Cell>, &p);
}

template <class T, class Cell>
void run_backward(const Sequence& q) {
    Plan<T> p;
    if (prepare(p, q, true)) pool_run(useful_threads(q, Cell::G, 2), backward_job<T, Cell>, &p);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
