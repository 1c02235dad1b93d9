// backward.h: the backward half of the schedule (sequence.h).
#pragma once
#include "forward.h"
#include "gradients.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// every thread a share of the panels; W only where `input` says so
template <class T>
void pack_backward(Step<T>& st, bool input) {
    const Sequence& q = st.q;
    const Direction& d = st.d;
    const T *W = static_cast<const T*>(d.W), *R = static_cast<const T*>(d.R);
    if (input) {
        st.W = Packed<T>{st.ds.W, st.p.cell.G * q.H, q.I, kMaxNV, false};
        Range w = share(st.W.panels(), st.team.id, st.team.n);
        pack_plain(st.W, W, d.W_rs, d.W_cs, w.first, w.last);
    }
    st.R = Packed<T>{st.ds.R, st.p.cell.first * q.H, q.P, plain_vectors<T>(q.P, st.team.slices), false};
    Range r = share(st.R.panels(), st.team.id, st.team.n);
    pack_plain(st.R, R, d.R_rs, d.R_cs, r.first, r.last);
    if (st.p.cell.second) {
        st.R2 = Packed<T>{st.ds.R2, d.M ? q.P : q.H, q.H, plain_vectors<T>(q.H, st.team.slices), false};
        Range r2 = share(st.R2.panels(), st.team.id, st.team.n);
        if (d.M)
            pack_plain(st.R2, static_cast<const T*>(d.M), d.M_rs, d.M_cs, r2.first, r2.last);
        else
            pack_plain(st.R2, R + st.p.cell.first * q.H * d.R_rs, d.R_rs, d.R_cs, r2.first, r2.last);
    }
}
// The gradients that row i carries, at h and at further states, become those given, or zeros. Each slice fills the units whose
// panels it owns.
template <class T>
void set_gradients(const Step<T>& st, int i, T* to_h, const T* dh, const void* dc) {
    const Plan<T>& p = st.p;
    const Range h = st.panels(st.R), c = st.panels(p.cell.second ? st.R2 : st.R);
    const ptrdiff_t h0 = h.first * ptrdiff_t(st.R.width()), h1 = h.last * ptrdiff_t(st.R.width());
    for (ptrdiff_t u = h0; u < h1 && u < p.Pp; ++u) to_h[u] = dh && u < st.q.P ? dh[u] : T(0);
    const ptrdiff_t width = p.cell.second ? st.R2.width() : st.R.width(), c0 = c.first * width, c1 = c.last * width;
    for (int k = 1; k < p.states(); ++k) {
        const T* from = further_state<T>(st, dc, k, i);
        T* to = st.ds.dc + i * p.dc_stride + (k - 1) * p.wide;
        for (ptrdiff_t u = c0; u < c1 && u < p.Hp; ++u) to[u] = from && u < st.q.H ? from[u] : T(0);
    }
}
// what comes in at every c_t
template <class T>
void add_gradients(const Step<T>& st) {
    const Packed<T>& B = st.p.cell.second ? st.R2 : st.R;
    const Range own = st.panels(B);
    const ptrdiff_t u0 = own.first * ptrdiff_t(B.width()), last = own.last * ptrdiff_t(B.width()),
                    u1 = last < st.q.H ? last : st.q.H;
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        const T* from =
            static_cast<const T*>(st.d.dc_all) + st.p.time(st.d, st.s, i) * st.d.dc_all_t + st.p.index[i] * st.d.dc_all_b;
        for (int k = 1; k < st.p.states(); ++k, from += st.d.dc_all_next) {
            T* to = st.ds.dc + i * st.p.dc_stride + (k - 1) * st.p.wide;
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) { store(to + u, load(to + u) + load_n(from + u, lanes)); });
        }
    }
}

// gradients at the final states come in where a row ends
template <class T>
void enter_rows(const Step<T>& st, int first, int last) {
    for (int r = first; r < last; ++r) {
        const int i = st.row(r), b = st.p.index[i];
        const T* dh_n = st.d.dh_n ? static_cast<const T*>(st.d.dh_n) + b * st.q.P : nullptr;
        if (st.p.length[i] == 0) {  // straight to the initial state
            if (st.team.slice) continue;
            if (st.d.dh_0) copy_n(static_cast<T*>(st.d.dh_0) + b * st.q.P, dh_n, st.q.P);
            for (int k = 1; st.d.dc_0 && k < st.p.states(); ++k)
                copy_n(const_cast<T*>(further_state<T>(st, st.d.dc_0, k, i)), further_state<T>(st, st.d.dc_n, k, i), st.q.H);
            continue;
        }
        set_gradients(st, i, st.p.cell.state_gradient(st, i), dh_n, st.d.dc_n);
    }
}

// dG of the step after: when that belongs to the segment before this one in backward's order, a copy was kept
template <class T>
T* next_gates(const Step<T>& st, int s, int i) {
    return s == st.after ? st.ds.next_gates + i * st.p.gates_stride() : st.gates(s, i);
}

template <class T>
void step_backward(Step<T>& st) {
    const Plan<T>& p = st.p;
    const int s = st.s;
    st.m = st.mine(p.active[s]);
    st.m_next = s + 1 < st.q.T ? st.mine(p.active[s + 1]) : 0;
    enter_rows<T>(st, st.m_next, st.m);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        st.ts.gates[r] = st.gates(s, i);
        if (r < st.m_next) {
            const bool stops = st.reset(s + 1, i);
            st.ts.next_gates[r] = stops ? p.zeros : next_gates(st, s + 1, i);
            if (stops) set_gradients<T>(st, i, p.cell.state_gradient(st, i), nullptr, nullptr);
        }
        st.ts.h_prev[r] = st.operand(s, i);
        st.ts.h[r] = st.y(s, i);
        st.ts.dh[r] = st.ds.dh + i * p.wide;
        if (st.d.dy) st.ts.dy[r] = static_cast<const T*>(st.d.dy) + p.time(st.d, s, i) * st.d.dy_t + p.index[i] * st.d.dy_b;
        if (st.p.cell.has_c()) {
            st.ts.c_prev[r] = st.cell_before(s, i);
            st.ts.cell[r] = st.cell(s, i);
            st.ts.dc[r] = st.ds.dc + i * p.dc_stride;
        }
    }
    if (st.d.dc_all) add_gradients(st);
    st.p.cell.backward(st);
    st.wait();
}

template <class T>
void hand_out_gradients(const Step<T>& st, ptrdiff_t u0, ptrdiff_t u1) {
    for (int r = 0; r < st.m && st.d.dh_0; ++r)
        copy_n(static_cast<T*>(st.d.dh_0) + st.p.index[st.row(r)] * st.q.P + u0, st.ts.dh[r] + u0, u1 - u0);
}
template <class T>
void hand_out_further_gradients(const Step<T>& st) {
    if (st.p.states() < 2 || !st.d.dc_0) return;
    st.wait();
    for (int r = 0; r < st.m && st.team.slice == 0; ++r)
        for (int k = 1; k < st.p.states(); ++k) {
            const int i = st.row(r);
            copy_n(const_cast<T*>(further_state<T>(st, st.d.dc_0, k, i)), st.ds.dc + i * st.p.dc_stride + (k - 1) * st.p.wide,
                   st.q.H);
        }
}

template <class T>
void initial_given(Step<T>& st);  // cell_given.h

// the gradient at the initial state: one more dG·R after step 0
template <class T>
void initial_gradient(Step<T>& st) {
    if (st.team.idle || !(st.d.dh_0 || st.d.dc_0)) return;
    st.m = st.mine(st.q.T ? st.p.active[0] : 0);
    for (int r = 0; r < st.m; ++r) {
        const int i = st.row(r);
        st.ts.dh[r] = st.ds.dh + i * st.p.wide;
        const bool stops = st.reset(0, i);
        st.ts.next_gates[r] = stops ? st.p.zeros : st.gates(0, i);  // base is 0 by now
        if (stops) set_gradients<T>(st, i, st.ts.dh[r], nullptr, nullptr);
    }
    if (st.p.cell.spec) return initial_given(st);
    const Columns<T> cols{{}, nullptr, st.p.cell.carries ? ~0u : 0u, false};
    gemm_then(st, (const T* const*)st.ts.next_gates, st.ts.dh, st.m, gate_segments(st.p, st.p.cell.section_r, st.p.cell.first),
              st.R, cols, [&](ptrdiff_t u0, ptrdiff_t u1) { hand_out_gradients(st, u0, u1); });
    hand_out_further_gradients(st);
}

// the gates, c and hidden of a segment once more, from y and the cells kept at its start
template <class T>
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
        const Range own = share(int(p.cell_stride), st.team.slice, st.team.slices);
        for (int r = 0; st.p.cell.has_c() && r < rows; ++r)
            copy_n(st.cell(st.base - 1, st.row(r)) + own.first, st.checkpoint(segment, st.row(r)) + own.first,
                   own.last - own.first);
        st.wait();
        for (int k = first; k < last; ++k) {
            fw.s0 = p.chunk[k];
            input_gemm<T>(fw, p.chunk[k + 1]);
            for (fw.s = fw.s0; fw.s < p.chunk[k + 1]; ++fw.s) step_forward<T>(fw, st.ds.again_h);
        }
    }
    barrier_wait(st.team.all, st.team.n);
}

template <class T>
void start_backward(Step<T>& st) {
    pack_backward<T>(st, st.q.dx && !dx_once(st.p));
    begin_input_weights<T>(st);
    if (st.p.cell.spec) start_given(st);
    const int all = st.team.idle || st.team.slice ? 0 : st.mine(int(st.q.B));
    for (int r = 0; r < all; ++r) fill_resets(st, st.row(r));
    for (int r = 0; r < all && st.q.norm; ++r) copy_n<T>(row_sums(st, st.row(r), 0, 0), nullptr, 4 * st.p.cell.G * st.p.Hp);
    barrier_wait(st.team.all, st.team.n);
    if (!st.team.idle) enter_rows<T>(st, st.mine(st.q.T ? st.p.active[0] : 0), st.mine(int(st.q.B)));
}

// steps s1-1 … s0, of one chunk; not inlined, as forward_steps
template <class T>
FR_NOINLINE void backward_steps(Step<T>& st, int s0, int s1) {
    if (!st.team.idle)
        for (st.s = s1 - 1; st.s >= s0; --st.s) step_backward<T>(st);
    barrier_wait(st.team.all, st.team.n);
}

template <class T>
void backward_direction(Step<T>& st, bool second) {
    const Plan<T>& p = st.p;
    start_backward<T>(st);
    const bool again = st.q.save == kSaveCheckpoints;
    Step<T> fw = st;
    if (again) pack_forward<T>(fw, st.ds.fW, st.ds.fR, st.ds.fR2, false);
    for (int segment = p.segments - 1; segment >= 0; --segment) {
        if (again) forward_again<T>(st, fw, segment);
        for (int k = p.segment[segment + 1] - 1; k >= p.segment[segment]; --k) {
            st.chunk = k;
            st.s0 = p.chunk[k];
            const int s1 = p.chunk[k + 1];
            backward_steps<T>(st, st.s0, s1);
            if (st.q.dx && (st.q.D == 1 || again))
                input_gradient<T>(p, &st, 1, st.s0, s1, st.team.id, st.team.n, again && second);
            chunk_gradients<T>(st, s1);
        }
    }
    end_input_weights<T>(st);
    if (st.q.norm) add_row_sums(st);
    if (st.q.T) initial_gradient<T>(st);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
