// decoder_forward.h: the decoder over all steps of a thread's rows (decoder.h).
#pragma once
#include "decoder_cell.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// What one thread holds: packed weights as its Steps see them.
template <class T>
struct DecoderRun {
    const DecoderPlan<T>& p;
    const Decoder& d;
    const DecoderThread<T>& t;
    const CellShape<T>& cell;
    Team team;
    Packed<T> W[kDecoderLayers], R[kDecoderLayers], R2[kDecoderLayers];
    Packed<T> F, U, Cc, Ch;
    Packed<T> W_high[kDecoderLayers]{}, R_high[kDecoderLayers]{}, F_high{};  // of gates past the fourth

    // layer l at step s, whose chunk begins at s0
    Step<T> step(int l, int s, int s0) const {
        const int base = d.save ? 0 : l ? s : s0;  // of upper layers' gates one step is enough
        const Plan<T>& plan = p.plan[l];
        const int m = mine(plan.active[s]), next = s + 1 < d.T ? mine(plan.active[s + 1]) : 0;
        return {plan, p.q[l], p.q[l].dir[0], plan.dir[0], t.ts, team,  W[l],      R[l],     R2[l], s, s0, base, !d.save, 0,
                -1,   m,      next,          nullptr,     0,    false, W_high[l], R_high[l]};
    }
    int mine(int rows) const { return rows > team.group ? (rows - team.group + team.groups - 1) / team.groups : 0; }
    int row(int r) const { return team.group + r * team.groups; }
    ptrdiff_t batch(int r) const { return p.plan[0].index[row(r)]; }
    Range panels(const Packed<T>& B) const { return share(B.panels(), team.id, team.n); }
};

template <class T>
DecoderRun<T> decoder_run(const DecoderPlan<T>& p, int id, int n) {
    const Decoder& d = *p.d;
    const int groups = decoder_groups(d, n);
    Barrier* all = p.plan[0].barriers;
    const Team team{id, n, id < groups ? id : 0, groups, 0, 1, id >= groups, all, all + 1 + id};
    return {p, d, p.threads[id], p.plan[0].cell, team, {}, {}, {}, {}, {}, {}, {}};
}

template <class T>
void pack_share(const DecoderRun<T>& run, const Packed<T>& out, const void* src, ptrdiff_t ks, ptrdiff_t ns) {
    const Range own = run.panels(out);
    pack_plain(out, static_cast<const T*>(src), ks, ns, own.first, own.last);
}

// every thread a share of the panels
template <class T>
void pack_decoder(DecoderRun<T>& run) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    for (int l = 0; l < d.layers; ++l) {
        Step<T> st = run.step(l, 0, 0);
        pack_forward(st, st.ds.W, st.ds.R, st.ds.R2, false);
        if (run.cell.spec) start_given(st);
        run.W[l] = st.W, run.R[l] = st.R, run.R2[l] = st.R2;
        run.W_high[l] = st.W_high, run.R_high[l] = st.R_high;
    }
    const T* C = static_cast<const T*>(d.C);
    if (d.feeding) {
        run.F = run.W[0];
        run.F.data = p.F, run.F.K = d.A;
        const Range own = run.panels(run.F);
        const T* W = static_cast<const T*>(d.layer[0].W) + d.E * d.layer[0].W_cs;
        pack_gate_panels(run.F, W, d.layer[0].W_rs, d.layer[0].W_cs, own.first, own.last);
        if (run.W_high[0].data) {
            run.F_high = run.W_high[0];
            run.F_high.data = p.F + d.A * kMaxNV * p.plan[0].Hp, run.F_high.K = d.A;
            pack_gate_panels(run.F_high, W, d.layer[0].W_rs, d.layer[0].W_cs, own.first, own.last);
        }
    }
    if (d.U) {
        run.U = Packed<T>{p.U, d.H, d.Q, kMaxNV, false};
        pack_share(run, run.U, d.U, d.U_cs, d.U_rs);
    }
    if (!d.C) return;
    run.Cc = Packed<T>{p.Cc, d.K, d.A, kMaxNV, false};
    run.Ch = Packed<T>{p.Ch, d.H, d.A, kMaxNV, false};
    pack_share(run, run.Cc, C, d.C_cs, d.C_rs);
    pack_share(run, run.Ch, C + d.K * d.C_cs, d.C_cs, d.C_rs);
    if (run.team.id == 0)
        for (ptrdiff_t a = 0; a < whole_panels<T>(d.A); ++a)
            p.b_c[a] = d.b_c && a < d.A ? static_cast<const T*>(d.b_c)[a] : T(0);
}

// source states of one row into [B, S, ·]; what lies past its length is not read
template <class T>
void copy_row(const DecoderRun<T>& run, ptrdiff_t b) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const T *keys = static_cast<const T*>(d.keys), *values = static_cast<const T*>(d.values);
    const ptrdiff_t n = p.source().length(b);
    for (ptrdiff_t s = 0; s < n; ++s) {
        copy_n(p.values + (b * d.S + s) * p.values_s, values + s * d.v_s + b * d.v_b, d.K);
        if (p.keys != p.values) copy_n(p.keys + (b * d.S + s) * p.keys_s, keys + s * d.k_s + b * d.k_b, d.Q);
    }
}

template <class T>
void tanh_row(T* y, ptrdiff_t n) {
    vectors<T>(0, n, [=](auto at) { at.put(y, tanh<T>(at.get(y))); });
}

// q, attention and y of step s for m rows whose h is there
template <class T>
void attend_rows(const DecoderRun<T>& run, int s, int m) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const DecoderThread<T>& t = run.t;
    const AttentionSource<T> source = p.source();
    const Columns<T> fresh{{}, nullptr, 0u, false}, from_bias{{}, p.b_c, 0u, true};
    for (int r = 0; r < m; ++r) {
        const ptrdiff_t b = run.batch(r);
        t.in2[r] = p.h[p.top()].at(s, b);
        t.in[r] = p.context.at(s, b);
        t.out[r] = p.y(s, b);
        if (d.U) t.out2[r] = p.query.at(s, b);
    }
    if (d.U) gemm_panels(t.in2, t.out2, m, Segments{1, d.H, {0}}, run.U, 0, run.U.panels(), fresh);
    for (int r = 0; r < m; ++r) {
        const ptrdiff_t b = run.batch(r);
        T* w = p.w.at(s, b);
        attend(source, b, p.q_row(s, b), w, p.context.at(s, b));
        if (d.weights) copy_n(static_cast<T*>(d.weights) + (s * d.B + b) * d.S, w, d.S);
    }
    const Factors<T> both[2] = {{t.in, Segments{1, d.K, {0}}, &run.Cc}, {t.in2, Segments{1, d.H, {0}}, &run.Ch}};
    gemm_panels(both, 2, t.out, m, 0, run.Cc.panels(), from_bias);
    for (int r = 0; r < m; ++r) tanh_row(t.out[r], d.A);
}

// W's part of the gates of m rows, from or on top of what they hold: a sum of products, and the same for gates past the fourth
template <class T>
void gate_terms(const Step<T>& st, const Factors<T>* low, const Factors<T>* high, int count, T* const* gates, int m,
                bool onto) {
    Columns<T> cols = input_columns(st);
    if (onto) cols.from_c = ~0u;
    gemm_panels(low, count, gates, m, 0, low[0].B->panels(), cols);
    if (!st.W_high.data) return;
    cols = input_columns(st, kMaxNV);
    if (onto) cols.from_c = ~0u;
    gemm_panels(high, count, gates, m, 0, high[0].B->panels(), cols);
}

// gates of the lowest layer += F·y₋₁
template <class T>
void feed_rows(const DecoderRun<T>& run, const Step<T>& st) {
    for (int r = 0; r < st.m; ++r) {
        run.t.in[r] = run.p.feed(st.s, run.batch(r));
        run.t.out[r] = st.gates(st.s, run.row(r));
    }
    const Segments k{1, run.d.A, {0}};
    const Factors<T> low{run.t.in, k, &run.F}, high{run.t.in, k, &run.F_high};
    gate_terms(st, &low, &high, 1, run.t.out, st.m, true);
}

// the same in one pass with h₋₁·R
template <class T>
void feed_along(const DecoderRun<T>& run, Step<T>& st, Factors<T>* both) {
    for (int r = 0; r < st.m; ++r) run.t.in[r] = run.p.feed(st.s, run.batch(r));
    both[0] = {run.t.in, Segments{1, run.d.A, {0}}, &run.F};
    both[1] = {st.ts.h_prev, Segments{1, run.d.H, {0}}, &st.R};
    st.factors = both, st.factor_count = 2;
}

template <class T>
void pack_logits(const DecoderRun<T>& run, const Packed<T>& O, T* b_o, const void* weight, ptrdiff_t rs, ptrdiff_t cs,
                 const void* bias) {
    pack_share(run, O, weight, cs, rs);
    if (run.team.id) return;
    const ptrdiff_t V = whole_panels<T>(O.N);
    copy_n<T>(b_o, static_cast<const T*>(bias), bias ? O.N : V);
    copy_n<T>(b_o + O.N, nullptr, V - O.N);
}

// Scheduled sampling: some of the rows of step s > 0 read what the decoder would have written. Their gates start anew.
template <class T>
void sample_rows(const DecoderRun<T>& run, const Step<T>& st) {
    const DecoderPlan<T>& p = run.p;
    const Decoder& d = run.d;
    const DecoderSampling& q = *d.sampling;
    const DecoderThread<T>& t = run.t;
    int n = 0;
    for (int r = 0; r < st.m; ++r) {
        const ptrdiff_t b = run.batch(r);
        if (uniform(q.seed, uint64_t(b) << 32 | uint64_t(st.s)) >= q.probability) continue;
        t.in[n] = p.y(st.s - 1, b);
        t.best[n] = T(-__builtin_inf()), t.token[n] = -1;
        t.drawn[n++] = r;
    }
    const Logits<T> output{{p.O, d.A, q.V, kMaxNV, false}, p.b_o};
    output.each(t.in, n, t.logits, t.out, [&](int r, const T* z, ptrdiff_t count, ptrdiff_t first) {
        if (!(largest(z, count) > t.best[r])) return;
        for (ptrdiff_t i = 0; i < count; ++i)
            if (z[i] > t.best[r]) t.best[r] = z[i], t.token[r] = int32_t(first + i);
    });
    for (int k = 0; k < n; ++k) {
        const int i = run.row(t.drawn[k]);
        const ptrdiff_t b = p.plan[0].index[i];
        T* x = const_cast<T*>(st.x(st.s, i));
        if (t.token[k] >= 0) {  // else no logit is a number
            copy_n(x, static_cast<const T*>(q.embedding) + t.token[k] * q.e_v, q.E);
            q.tokens[st.s * q.t_t + b * q.t_b] = t.token[k];
        }
        t.in[k] = x;
        t.out[k] = st.gates(st.s, i);
    }
    const Segments k{1, d.E, {0}};
    const Factors<T> low{t.in, k, &run.W[0]}, high{t.in, k, &run.W_high[0]};
    gate_terms(st, &low, &high, 1, t.out, n, false);
}

template <class T>
void decoder_step(const DecoderRun<T>& run, int s, int s0) {
    const Decoder& d = run.d;
    for (int l = 0; l < d.layers; ++l) {
        Step<T> st = run.step(l, s, l ? s : s0);
        if (l) input_gemm(st, s + 1);
        if (l == 0 && d.sampling && s > 0) sample_rows(run, st);
        Factors<T> both[2];
        if (l == 0 && d.feeding) run.cell.fusable ? feed_along(run, st, both) : feed_rows(run, st);
        step_forward<T>(st, nullptr);
        finish_rows(st);
    }
    attend_rows(run, s, run.mine(run.p.plan[0].active[s]));
}

template <class T>
void decoder_forward_job(void* ctx, int id, int n) noexcept {
    const DecoderPlan<T>& p = *static_cast<const DecoderPlan<T>*>(ctx);
    const Decoder& d = *p.d;
    const Plan<T>& plan = p.plan[0];
    DecoderRun<T> run = decoder_run(p, id, n);
    pack_decoder(run);
    if (const DecoderSampling* q = d.sampling)
        pack_logits(run, Packed<T>{p.O, d.A, q->V, kMaxNV, false}, p.b_o, q->O, q->O_rs, q->O_cs, q->b_o);
    zero_padding(plan, static_cast<T*>(d.y), d.y_t, d.y_b, d.A, id, n);
    if (d.weights) zero_padding(plan, static_cast<T*>(d.weights), d.B * d.S, d.S, d.S, id, n);
    if (!run.team.idle) {
        const int rows = run.mine(int(d.B));
        for (int r = 0; r < rows; ++r) copy_row(run, run.batch(r));
        for (int l = 0; l < d.layers; ++l) start_rows(run.step(l, 0, 0));
    }
    barrier_wait(run.team.all, n);
    if (run.team.idle) return;
    for (int k = 0; k < plan.chunks; ++k) {
        const int s0 = plan.chunk[k], s1 = plan.chunk[k + 1];
        // chunks take turns in one memory, and a group's rows in this one may be another's in the last (forward.h)
        if (k && !d.save && d.lengths && run.team.groups > 1) barrier_wait(run.team.all, run.team.groups);
        Step<T> st = run.step(0, s0, s0);
        input_gemm(st, s1);
        for (int s = s0; s < s1; ++s) decoder_step(run, s, s0);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
