// decoder_backward.h: the reverse of decoder_forward.h, and the products that make the weights' gradients.
#pragma once
#include "decoder_forward.h"
#include "gradients.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
void pack_decoder_backward(DecoderRun<T>& run) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const ptrdiff_t rows = run.cell.G * d.H;
    for (int l = 0; l < d.layers; ++l) {
        Step<T> st = run.step(l, 0, 0);
        st.W = Packed<T>{p.plan[l].dir[0].W, rows, p.q[l].I, kMaxNV, false};
        pack_backward(st, l || (d.dx && !dx_once(p.plan[0])));
        if (run.cell.spec) start_given(st);
        run.W[l] = st.W, run.R[l] = st.R, run.R2[l] = st.R2;
    }
    const DecoderLayer& low = d.layer[0];
    if (d.feeding) {
        run.F = Packed<T>{p.F, rows, d.A, kMaxNV, false};
        pack_share(run, run.F, static_cast<const T*>(low.W) + d.E * low.W_cs, low.W_rs, low.W_cs);
    }
    if (d.U) {
        run.U = Packed<T>{p.U, d.Q, d.H, kMaxNV, false};
        pack_share(run, run.U, d.U, d.U_rs, d.U_cs);
    }
    run.Cc = Packed<T>{p.Cc, d.A, d.K, kMaxNV, false};
    run.Ch = Packed<T>{p.Ch, d.A, d.H, kMaxNV, false};
    pack_share(run, run.Cc, d.C, d.C_rs, d.C_cs);
    pack_share(run, run.Ch, static_cast<const T*>(d.C) + d.K * d.C_cs, d.C_rs, d.C_cs);
}

// dy and what input feeding brings back → dz of C's product, dcontext, de, dq, and dh of the top layer
template <class T>
void attend_rows_backward(const DecoderRun<T>& run, int s, int m, int m_next) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const DecoderThread<T>& t = run.t;
    const AttentionSource<T> source = p.source();
    const Columns<T> fresh{{}, nullptr, 0u, false}, add{{}, nullptr, ~0u, false};
    const T* dy_ = static_cast<const T*>(d.dy);
    for (int r = 0; r < m; ++r) {
        const ptrdiff_t b = run.batch(r);
        const T *y = p.y(s, b), *dy = dy_ ? dy_ + s * d.dy_t + b * d.dy_b : nullptr;
        const T* fed = d.feeding && r < m_next ? p.dfeed.at(0, b) : nullptr;
        T* dz = p.dz.at(s, b);
        vectors<T>(0, d.A, [=](auto at) {  // y = tanh(z)
            auto total = dy ? at.get(dy) : zero<T>();
            if (fed) total = total + at.get(fed);
            const auto v = at.get(y);
            at.put(dz, total * fnma(v, v, broadcast(T(1))));
        });
        t.in[r] = dz;
        t.out[r] = p.dcontext.at(s, b);
        t.out2[r] = p.dh[p.top()].at(0, b);
    }
    const Segments k{1, d.A, {0}};
    gemm_panels(t.in, t.out, m, k, run.Cc, 0, run.Cc.panels(), fresh);
    gemm_panels(t.in, t.out2, m, k, run.Ch, 0, run.Ch.panels(), fresh);
    for (int r = 0; r < m; ++r) {
        const ptrdiff_t b = run.batch(r);
        T* const dq = d.U ? p.dq.at(s, b) : t.dq;
        T* const dk = d.v ? p.dkeys + b * d.S * p.keys_s : nullptr;
        attend_backward(source, b, p.q_row(s, b), p.w.at(s, b), t.out[r], p.de.at(s, b), dq, dk, p.keys_s,
                        d.v ? p.dv + b * p.keys_s : nullptr);
        if (!d.U) {
            T* const dh = t.out2[r];
            vectors<T>(0, d.H, [=](auto at) { at.put(dh, at.get(dh) + at.get(dq)); });
        } else {
            t.in[r] = dq;
        }
    }
    if (d.U) gemm_panels(t.in, t.out2, m, Segments{1, d.Q, {0}}, run.U, 0, run.U.panels(), add);
}

// dG·W of m rows: the gradient at a layer's input, in `to`
template <class T>
void input_rows_backward(const DecoderRun<T>& run, const Step<T>& st, const Packed<T>& W, const TimeRows<T>& to) {
    for (int r = 0; r < st.m; ++r) {
        run.t.in[r] = st.gates(st.s, run.row(r));
        run.t.out[r] = to.at(0, run.batch(r));
    }
    gemm_panels(run.t.in, run.t.out, st.m, gate_segments(st.p, run.cell.section_x, run.cell.G), W, 0, W.panels(),
                Columns<T>{{}, nullptr, 0u, false});
}

template <class T>
void decoder_step_backward(const DecoderRun<T>& run, int s) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const int* active = p.plan[0].active;
    attend_rows_backward(run, s, run.mine(active[s]), s + 1 < d.T ? run.mine(active[s + 1]) : 0);
    for (int l = d.layers - 1; l >= 0; --l) {
        Step<T> st = run.step(l, s, 0);
        step_backward(st);
        if (l)
            input_rows_backward(run, st, run.W[l], p.dh[l - 1]);
        else if (d.feeding)
            input_rows_backward(run, st, run.F, p.dfeed);
    }
}

// what is left when a row's first step is done: the initial state, y_{-1}, source states
template <class T>
void finish_backward(const DecoderRun<T>& run) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const AttentionSource<T> source = p.source();
    for (int l = 0; l < d.layers; ++l) {
        Step<T> st = run.step(l, 0, 0);
        if (st.d.dh_0 || st.d.dc_0) initial_gradient(st);
    }
    const int rows = run.mine(int(d.B));
    for (int r = 0; r < rows; ++r) {
        const ptrdiff_t b = run.batch(r), steps = p.plan[0].length[run.row(r)];
        if (d.dfeed_0) copy_n(static_cast<T*>(d.dfeed_0) + b * d.A, d.feeding && steps ? p.dfeed.at(0, b) : nullptr, d.A);
        T *const dkeys = static_cast<T*>(d.dkeys) + b * d.dk_b, *const dvalues = static_cast<T*>(d.dvalues) + b * d.dv_b;
        const TimeRows<T>& q = d.U ? p.query : p.h[p.top()];
        attend_finish(source, b, steps, q.at(0, b), q.t, p.w.at(0, b), p.w.t, p.de.at(0, b), p.de.t, p.dcontext.at(0, b),
                      p.dcontext.t, dkeys, d.dk_s, dvalues, d.dv_s, run.t.finish);
        if (!d.v) continue;
        for (ptrdiff_t s = 0; s < source.length(b); ++s) {
            const T* from = p.dkeys + (b * d.S + s) * p.keys_s;
            T* to = dkeys + s * d.dk_s;
            vectors<T>(0, d.Q, [=](auto at) { at.put(to, at.get(to) + at.get(from)); });
        }
    }
}

// Every row of every step in order, `most` at a time: body(k, s, i, b) for the k-th of a block, then done(n).
template <class T, class Body, class Done>
void blocks_of_rows(const Plan<T>& plan, ptrdiff_t most, Body&& body, Done&& done) {
    int n = 0;
    for (int s = 0; s < plan.q->T; ++s)
        for (int i = 0; i < plan.active[s]; ++i) {
            body(n, s, i, ptrdiff_t(plan.index[i]));
            if (++n == most) done(n), n = 0;
        }
    if (n) done(n);
}

// C's, U's and v's gradients: each thread some rows of them
template <class T>
void attention_gradients(const DecoderRun<T>& run) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const ThreadSpace<T>& ts = run.t.ts;
    const TimeRows<T>& h = p.h[p.top()];
    const Range own = share(int(d.A), run.team.id, run.team.n), own_u = share(int(d.Q), run.team.id, run.team.n);
    T* const dC = static_cast<T*>(d.dC);
    blocks_of_rows(
        p.plan[0], p.rows_at_once,
        [&](int k, int s, int, ptrdiff_t b) {
            ts.a[k] = p.dz.at(s, b), ts.b[k] = p.context.at(s, b), ts.b2[k] = h.at(s, b);
            if (d.U) ts.b3[k] = p.dq.at(s, b);
        },
        [&](int n) {
            OuterProduct<T> op{ts.a, n, own.first, own.last, 1, {0}, 0, {}};
            if (dC) {
                op.parts = 2;
                op.part[0] = {ts.b, d.K, dC, d.K + d.H, {0, -1, -1, -1}};
                op.part[1] = {ts.b2, d.H, dC + d.K, d.K + d.H, {0, -1, -1, -1}};
            }
            outer_product(op, ts.outer);
            if (d.db_c) column_sums(ts.a, n, 0, own.first, own.last, static_cast<T*>(d.db_c));
            if (!d.dU) return;
            OuterProduct<T> of_u{ts.b3, n, own_u.first, own_u.last, 1, {0}, 1, {}};
            of_u.part[0] = {ts.b2, d.H, static_cast<T*>(d.dU), d.H, {0, -1, -1, -1}};
            outer_product(of_u, ts.outer);
        });
    if (!d.v || !d.dv) return;
    T* dv = static_cast<T*>(d.dv);
    for (ptrdiff_t b = 0; b < d.B; ++b)
        for (int a = own_u.first; a < own_u.last; ++a) dv[a] += p.dv[b * p.keys_s + a];
}

template <class T>
void stack_gradients(const DecoderRun<T>& run, int l) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const ThreadSpace<T>& ts = run.t.ts;
    const Step<T> st = run.step(l, 0, 0);
    const ptrdiff_t I = st.q.I, A = l == 0 && d.feeding ? d.A : 0;
    T* const dW = static_cast<T*>(st.d.dW);
    const GradientPart<T> x{dW, I, I + A}, fed{dW && A ? dW + I : nullptr, A, I + A};
    blocks_of_rows(
        p.plan[0], p.rows_at_once,
        [&](int k, int s, int i, ptrdiff_t b) {
            ts.a[k] = st.gates(s, i), ts.b[k] = st.x(s, i), ts.b2[k] = st.operand(s, i);
            ts.b3[k] = st.gates(s, i) + st.p.cell.product * st.p.Hp;  // r ⊙ h₋₁ of a GRU without reset_after
            if (A) run.t.feed[k] = p.feed(s, b);
        },
        [&](int n) { layer_gradients(st, run.t.feed, n, x, fed); });
    if (st.q.norm) add_row_sums(st);
}

template <class T>
void decoder_backward_job(void* ctx, int id, int n) noexcept {
    const DecoderPlan<T>& p = *static_cast<const DecoderPlan<T>*>(ctx);
    const Decoder& d = *p.d;
    const Plan<T>& plan = p.plan[0];
    DecoderRun<T> run = decoder_run(p, id, n);
    pack_decoder_backward(run);
    if (d.dx) zero_padding(plan, static_cast<T*>(d.dx), d.dx_t, d.dx_b, d.E, id, n);
    barrier_wait(run.team.all, n);
    if (!run.team.idle) {
        const int rows = run.mine(int(d.B)), running = run.mine(plan.active[0]);
        for (int l = 0; l < d.layers; ++l) {
            const Step<T> st = run.step(l, 0, 0);
            for (int r = 0; st.q.norm && r < rows; ++r)
                copy_n<T>(row_sums(st, run.row(r), 0, 0), nullptr, 4 * st.p.cell.G * st.p.Hp);
            enter_rows(st, running, rows);
        }
        for (int r = 0; d.v && r < rows; ++r) {
            copy_n<T>(p.dkeys + run.batch(r) * d.S * p.keys_s, nullptr, d.S * p.keys_s);
            copy_n<T>(p.dv + run.batch(r) * p.keys_s, nullptr, p.keys_s);
        }
        for (int s = plan.chunk[plan.chunks] - 1; s >= 0; --s) decoder_step_backward(run, s);
        finish_backward(run);
    }
    barrier_wait(run.team.all, n);
    attention_gradients(run);
    for (int l = 0; l < d.layers; ++l) stack_gradients(run, l);
    if (d.dx) {
        const Step<T> st = run.step(0, 0, 0);
        input_gradient(plan, &st, 1, 0, int(plan.q->T), id, n, false);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
