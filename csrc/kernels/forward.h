// forward.h: the forward half of the schedule (sequence.h).
#pragma once
#include "given.h"
#include "one_hot.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// of gates from `first` on
template <class T>
Columns<T> input_columns(const Step<T>& st, int first = 0) {
    Columns<T> cols{{}, st.bias_x(first, 0), 0u, false};
    for (int g = first; g < st.p.cell.G && g < first + kMaxNV; ++g) cols.section[g - first] = st.p.cell.section_x[g] * st.p.Hp;
    return cols;
}

// x·W + bias for this group's rows and this slice's panels of a chunk
template <class T>
void input_gemm(Step<T>& st, int s1) {
    if (st.p.fused || st.p.tabulated) return;
    if (st.q.codes) return look_up_in_place<T>(st, s1);
    int n = 0;
    for (int s = st.s0; s < s1; ++s) {
        const int m = st.mine(st.p.active[s]);
        for (int r = 0; r < m; ++r, ++n) {
            const int i = st.row(r);
            st.ts.a[n] = st.x(s, i);
            st.ts.c[n] = st.gates(s, i);
        }
    }
    const Range own = st.panels(st.W);
    gemm_panels(st.ts.a, st.ts.c, n, Segments{1, st.q.I, {0}}, st.W, own.first, own.last, input_columns<T>(st));
    if (st.W_high.data)
        gemm_panels(st.ts.a, st.ts.c, n, Segments{1, st.q.I, {0}}, st.W_high, own.first, own.last,
                    input_columns<T>(st, kMaxNV));
}

// panels p0 … p1-1 of W or R
template <class T>
void pack_gate_panels(const Packed<T>& out, const void* weight, ptrdiff_t rs, ptrdiff_t cs, int p0, int p1) {
    const T* from = static_cast<const T*>(weight);
    if (out.gates)
        pack_gates(out, from, rs, cs, p0, p1);
    else
        pack_plain(out, from, cs, rs, p0, p1);
}

// The same for the only chunk: every thread takes panels of W for all rows, and packs each where it is used, over the last one.
// That spares writing all of W and reading it again, a tenth of a call of few rows.
template <class T>
void input_gemm_once(Step<T>& st) {
    int n = 0;
    for (int s = 0; s < st.p.chunk[1]; ++s)
        for (int i = 0; i < st.p.active[s]; ++i, ++n) {
            st.ts.a[n] = st.x(s, i);
            st.ts.c[n] = st.gates(s, i);
        }
    const Range own = share(st.W.panels(), st.team.id, st.team.n);
    const int at_once = panels_at_once<T>(n, st.W.NV);
    Packed<T> some = st.W;
    some.data = st.W.panel(own.first);
    for (int p = own.first; p < own.last; p = some.first + at_once) {
        const int last = p + at_once < own.last ? p + at_once : own.last;
        some.first = p;
        pack_gate_panels<T>(some, st.d.W, st.d.W_rs, st.d.W_cs, p, last);
        gemm_panels(st.ts.a, st.ts.c, n, Segments{1, st.q.I, {0}}, some, p, last, input_columns<T>(st));
    }
}

// rows that end with step s hand their state out
template <class T>
void finish_rows(const Step<T>& st) {
    const int next = st.mine(st.s + 1 < st.q.T ? st.p.active[st.s + 1] : 0);
    for (int r = next; r < st.m; ++r) {
        const int i = st.row(r);
        const Range h = share(int(st.q.P), st.team.slice, st.team.slices);
        // another slice may still be writing y: each copies after the barrier that ends the step
        copy_n(st.h_n(i) + h.first, st.y(st.s, i) + h.first, h.last - h.first);
        const Range c = share(int(st.q.H), st.team.slice, st.team.slices);
        for (int k = 1; k < st.p.states(); ++k)
            copy_n(st.c_n(k, i) + c.first, st.cell(st.s, i) + st.p.kept_at(k) + c.first, c.last - c.first);
    }
}

// row i of the k-th of states [states - 1][B, H], k > 0
template <class T>
const T* further_state(const Step<T>& st, const void* c, int k, int i) {
    return c ? static_cast<const T*>(c) + (k - 1) * st.d.c_next + st.p.index[i] * st.q.H : nullptr;
}

// given states into a row of what `cell` keeps, zero past their ends
template <class T>
void fill_states(const Step<T>& st, T* to, int i, const void* h, const void* c) {
    const Plan<T>& p = st.p;
    copy_n<T>(to, nullptr, p.cell_stride);
    for (int k = 1; k < p.states(); ++k)
        if (c) copy_n(to + p.kept_at(k), further_state<T>(st, c, k, i), st.q.H);
    if (!p.cell.spec || !h) return;
    copy_n(to, static_cast<const T*>(h) + p.index[i] * st.q.P, st.q.P);
    if (!p.cell.operand) return;
    const T* mask = st.ds.mask + i * p.wide;
    for (ptrdiff_t u = 0; u < p.wide; u += VL<T>) store(to + p.cell.operand * p.wide + u, load(to + u) * load(mask + u));
}
template <class T>
void fill_resets(const Step<T>& st, int i) {
    if (st.ds.reset) fill_states(st, st.ds.reset + i * st.p.cell_stride, i, st.d.reset_h, st.d.reset_c);
}

// the initial states into slot 0, and the states of rows that never run
template <class T>
void start_rows(const Step<T>& st) {
    const int rows = st.mine(int(st.q.B));
    for (int r = 0; r < rows; ++r) {
        const int i = st.row(r);
        if (st.team.slice) continue;
        if (st.p.cell.has_c()) fill_states(st, st.cell(-1, i), i, st.d.h_0, st.d.c_0);
        fill_resets(st, i);
        if (st.p.length[i] > 0) continue;
        copy_n(st.h_n(i), st.d.h_0 ? st.h_0(i) : nullptr, st.q.P);
        for (int k = 1; k < st.p.states(); ++k) copy_n(st.c_n(k, i), further_state<T>(st, st.d.c_0, k, i), st.q.H);
    }
}

// c before the chunk that starts now, for backward to start from
template <class T>
void keep_cells(const Step<T>& st, int segment) {
    const Range own = share(int(st.p.cell_stride), st.team.slice, st.team.slices);
    const int rows = st.mine(st.p.active[st.s0]);
    for (int r = 0; r < rows; ++r) {
        const int i = st.row(r);
        copy_n(st.checkpoint(segment, i) + own.first, st.cell(st.s0 - 1, i) + own.first, own.last - own.first);
    }
}

// every c_t, for those who asked
template <class T>
void hand_out_states(const Step<T>& st) {
    const Range own = share(int(st.q.H), st.team.slice, st.team.slices);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        T* to =
            static_cast<T*>(st.d.c_all) + st.p.time(st.d, st.s, i) * st.d.c_all_t + st.p.index[i] * st.d.c_all_b + own.first;
        for (int k = 1; k < st.p.states(); ++k, to += st.d.c_all_next)
            copy_n(to, st.cell(st.s, i) + st.p.kept_at(k) + own.first, own.last - own.first);
    }
}

// one step; h goes to y, or, when it is computed again, to `again_h`
template <class T>
void step_forward(Step<T>& st, T* again_h) {
    const ThreadSpace<T>& ts = st.ts;
    st.m = st.mine(st.p.active[st.s]);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        ts.gates[r] = st.gates(st.s, i);
        if (st.p.fused) ts.x[r] = st.x(st.s, i);
        ts.h_prev[r] = st.operand(st.s, i);
        ts.h[r] = again_h ? again_h + i * st.p.wide : st.y(st.s, i);
        if (st.p.cell.has_c()) {
            ts.c_prev[r] = st.cell_before(st.s, i);
            ts.cell[r] = st.cell(st.s, i);
            if (st.d.M) ts.hidden[r] = st.hidden(st.s, i);
        }
    }
    if (st.p.tabulated) look_up<T>(st);
    st.p.cell.forward(st);
    st.wait();
    if (st.d.c_all && !again_h) hand_out_states(st);
}

constexpr int low_gates(int G) { return G < kMaxNV ? G : kMaxNV; }  // those in W and R, the rest is in W_high and R_high

// Every thread a share of the panels. With `once`, true where W is left to input_gemm_once.
template <class T>
bool pack_forward(Step<T>& st, T* packed_W, T* packed_R, T* packed_R2, bool once) {
    const Sequence& q = st.q;
    const Direction& d = st.d;
    const bool gates = !st.p.cell.plain;
    st.W = Packed<T>{packed_W, q.I, q.H, gates ? low_gates(st.p.cell.G) : plain_vectors<T>(q.H, st.team.slices), gates};
    st.R = Packed<T>{packed_R, q.P, q.H, gates ? low_gates(st.p.cell.first) : st.W.NV, gates};
    if (st.p.cell.G > kMaxNV) {
        const ptrdiff_t low = kMaxNV * st.p.Hp;
        st.W_high = Packed<T>{packed_W + q.I * low, q.I, q.H, st.p.cell.G - kMaxNV, true, 0, kMaxNV};
        st.R_high = Packed<T>{packed_R + q.P * low, q.P, q.H, st.p.cell.G - kMaxNV, true, 0, kMaxNV};
    }
    Range w = share(st.W.panels(), st.team.id, st.team.n);
    once = once && even(st.W.panels(), st.team.n) && !st.W_high.data;
    if (!once && !q.codes) pack_gate_panels<T>(st.W, d.W, d.W_rs, d.W_cs, w.first, w.last);
    pack_gate_panels<T>(st.R, d.R, d.R_rs, d.R_cs, w.first, w.last);
    if (st.W_high.data && !q.codes) pack_gate_panels<T>(st.W_high, d.W, d.W_rs, d.W_cs, w.first, w.last);
    if (st.R_high.data) pack_gate_panels<T>(st.R_high, d.R, d.R_rs, d.R_cs, w.first, w.last);
    if (st.p.cell.second) {
        // a projection [P, H], or the candidate's rows of R [H, H]
        const ptrdiff_t N = d.M ? q.P : q.H;
        st.R2 = Packed<T>{packed_R2, q.H, N, plain_vectors<T>(N, st.team.slices), false};
        Range r2 = share(st.R2.panels(), st.team.id, st.team.n);
        if (d.M)
            pack_plain(st.R2, static_cast<const T*>(d.M), d.M_cs, d.M_rs, r2.first, r2.last);
        else
            pack_plain(st.R2, static_cast<const T*>(d.R) + st.p.cell.first * q.H * d.R_rs, d.R_cs, d.R_rs, r2.first, r2.last);
    }
    // with layer norm they come after it (given.h)
    const T *bw = q.norm ? nullptr : static_cast<const T*>(d.b_w), *br = q.norm ? nullptr : static_cast<const T*>(d.b_r);
    const Range own = units(st, w);
    each_gate_vector(st, own.first, own.last, [&](int g, ptrdiff_t u, int lanes) {
        const auto b_w = bw ? load_n(bw + g * q.H + u, lanes) : zero<T>();
        const auto b_r = br ? load_n(br + g * q.H + u, lanes) : zero<T>();
        const bool apart = st.p.cell.apart >> g & 1 && g < st.p.cell.first;
        store(st.bias_x(g, u), apart ? b_w : b_w + b_r);
        store(st.ds.bias_r + (st.bias_x(g, u) - st.ds.bias_x), apart ? b_r : zero<T>());
    });
    if (st.p.tabulated) tabulate<T>(st, w);
    return once;
}

// true when x·W is done, too
template <class T>
bool start_forward(Step<T>& st) {
    const Team& team = st.team;
    const bool whole = st.p.chunks == 1 && !st.p.in_blocks && !st.p.fused && !st.q.codes;
    const bool once = pack_forward<T>(st, st.ds.W, st.ds.R, st.ds.R2, whole);
    if (once) input_gemm_once<T>(st);
    zero_padding(st.p, static_cast<T*>(st.d.y), st.d.y_t, st.d.y_b, st.q.P, team.id, team.n);
    for (int k = 1; st.d.c_all && k < st.p.states(); ++k)
        zero_padding(st.p, static_cast<T*>(st.d.c_all) + (k - 1) * st.d.c_all_next, st.d.c_all_t, st.d.c_all_b, st.q.H, team.id,
                     team.n);
    if (st.p.cell.spec) start_given(st);
    if (!team.idle) start_rows<T>(st);
    barrier_wait(team.all, team.n);
    return once;
}

// steps s0 … s1-1, of one chunk; not inlined, for it is most of the code of a cell and has two callers
template <class T>
FR_NOINLINE void forward_steps(Step<T>& st, int s1, bool input) {
    if (input) input_gemm<T>(st, s1);
    for (st.s = st.s0; st.s < s1; ++st.s) {
        if ((st.p.fused || st.p.tabulated) && st.q.save != kSaveAll) st.base = st.s;  // the gates of one step are enough
        step_forward<T>(st, nullptr);
        finish_rows<T>(st);
    }
}

template <class T>
void forward_direction(const Plan<T>& p, int dir, const ThreadSpace<T>& ts, const Team& team) {
    const Sequence& q = *p.q;
    Step<T> st{p, q, q.dir[dir], p.dir[dir], ts, team, {}, {}, {}, 0, 0, 0, q.save != kSaveAll, 0, -1, 0, 0};
    const bool once = start_forward<T>(st);
    if (team.idle) return;
    int segment = 0;
    for (int k = 0; k < p.chunks; ++k) {
        st.s0 = p.chunk[k];
        if (q.save != kSaveAll) {
            // chunks take turns in one memory; where active rows differ, a group's rows in this chunk may be another's in
            // the last one
            if (k && q.lengths && team.groups > 1 && !p.fused && !p.tabulated)
                barrier_wait(team.all, team.groups * team.slices);
            st.base = st.s0;
        }
        if (st.p.cell.has_c() && q.save == kSaveCheckpoints && k == p.segment[segment]) keep_cells(st, segment++);
        forward_steps<T>(st, p.chunk[k + 1], !once);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
