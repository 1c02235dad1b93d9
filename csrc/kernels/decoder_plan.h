// decoder_plan.h: the memory of a decoder's call (decoder.h), and what its threads share.
//
// Each layer has a Plan of plan.h, with order of rows and chunks in common, and Step runs it one time step at a time. Rows are
// split over threads for the whole sequence: attention belongs to a row, so nothing waits inside the loop over time.
// Arrays that are read across time lie time-major by row of the batch, [T, B, ·], source states [B, S, ·].
#pragma once
#include "../decoder.h"
#include "attention_step.h"
#include "search_best.h"
#include "step.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// An array [T, B, ·] of the kernel's own; without saving the steps share one slot.
template <class T>
struct TimeRows {
    T* data;
    ptrdiff_t t, b;
    T* at(ptrdiff_t s, ptrdiff_t row) const { return data + s * t + row * b; }
};

template <class T>
struct DecoderThread {
    ThreadSpace<T> ts;
    const T **in, **in2, **feed;  // [B], [B], [rows at once]
    T **out, **out2;              // [B] each
    T *dq, *finish;               // [Q], for attend_finish
    int* drawn;                   // sampling: [B] rows, what their logits say so far, and a piece of those
    int32_t* token;
    T *best, *logits;
};

template <class T>
struct DecoderPlan {
    const Decoder* d;
    Plan<T>* plan;  // [layers]
    Sequence* q;    // [layers]
    int most_threads;
    ptrdiff_t rows_at_once;  // pointers that a thread has room for
    ptrdiff_t sources;       // rows of keys and values: B, or in a search its sentences
    DecoderThread<T>* threads;
    // saved
    TimeRows<T> h[kDecoderLayers], w, context, query;
    T *keys, *values;  // [B, S, ·]
    ptrdiff_t keys_s, values_s;
    // packed weights: y_{t-1}'s part of W, U, C's two parts, b_c
    T *F, *U, *Cc, *Ch, *b_c;
    T *O, *b_o;  // sampling: the output layer
    // backward
    TimeRows<T> dz, dcontext, de, dq;
    TimeRows<T> dh[kDecoderLayers];  // at the output of each layer, of one step
    TimeRows<T> dfeed;               // at y_{t-1}, of one step
    T *dkeys, *dv;                   // additive scores: [B, S, keys_s], [B, keys_s]

    int top() const { return d->layers - 1; }
    const T* feed(ptrdiff_t s, ptrdiff_t b) const {
        if (s > 0) return static_cast<const T*>(d->y) + (s - 1) * d->y_t + b * d->y_b;
        return d->feed_0 ? static_cast<const T*>(d->feed_0) + b * d->A : plan[0].zeros;
    }
    T* y(ptrdiff_t s, ptrdiff_t b) const { return static_cast<T*>(d->y) + s * d->y_t + b * d->y_b; }
    const T* q_row(ptrdiff_t s, ptrdiff_t b) const { return d->U ? query.at(s, b) : h[top()].at(s, b); }
    AttentionSource<T> source() const {
        return {d->S,
                d->Q,
                d->K,
                keys,
                keys_s,
                d->S * keys_s,
                values,
                values_s,
                d->S * values_s,
                d->source_lengths,
                static_cast<const T*>(d->v),
                T(d->scale)};
    }
};

// a row of n elements: whole vectors, and not a multiple of 1 KiB (plan.h)
template <class T>
ptrdiff_t row_stride(ptrdiff_t n) {
    const ptrdiff_t r = round_up(n, VL<T>);
    return r * ptrdiff_t(sizeof(T)) % 1024 ? r : r + 64 / ptrdiff_t(sizeof(T));
}
template <class T>
ptrdiff_t whole_panels(ptrdiff_t n) {
    return round_up(n, kMaxNV * VL<T>);
}

template <class T>
TimeRows<T> take_rows(Arena& m, const Decoder& d, ptrdiff_t stride, bool all) {
    return {m.take<T>((all ? d.T : 1) * d.B * stride), all ? d.B * stride : 0, stride};
}

// Threads worth waking, as useful_threads() of plan.h says; rows are what they share.
inline int decoder_groups(const Decoder& d, int n) {
    const ptrdiff_t most = d.B < 2 * kRowsWorthAThread ? 1 : d.B / kRowsWorthAThread;
    return most < n ? int(most) : n;
}
inline int decoder_threads(const Decoder& d, int G, bool backward) {
    const double H = double(d.H), inputs = double(d.E + d.A) + 2 * H * d.layers;
    const double each = G * H * inputs + double(d.A + d.S) * double(d.K + d.H);
    const double most = (backward ? 4.0 : 2.0) * double(d.steps) * each / 8e6 + 1;
    const int n = d.threads < 1 ? 1 : d.threads < most ? d.threads : int(most);
    return backward ? n : decoder_groups(d, n);
}

template <class T>
void describe_layer(DecoderPlan<T>& p, const Decoder& d, int l) {
    const DecoderLayer& from = d.layer[l];
    Sequence& q = p.q[l];
    q = Sequence{};
    q.dtype = d.dtype, q.cell = d.cell, q.D = 1, q.threads = d.threads;
    q.T = d.T, q.B = d.B, q.H = q.P = d.H, q.I = l ? d.H : d.E;
    q.save = d.save ? kSaveAll : kSaveNothing;
    q.lengths = d.lengths, q.steps = d.steps;
    q.x = l ? p.h[l - 1].data : d.x;
    q.x_t = l ? p.h[l - 1].t : d.x_t;
    q.x_b = l ? p.h[l - 1].b : d.x_b;
    if (l == 0) q.dx = d.dx, q.dx_t = d.dx_t, q.dx_b = d.dx_b;
    Direction& r = q.dir[0];
    r.W = from.W, r.W_rs = from.W_rs, r.W_cs = from.W_cs;
    r.R = from.R, r.R_rs = from.R_rs, r.R_cs = from.R_cs;
    r.b_w = from.b_w, r.b_r = from.b_r;
    r.h_0 = from.h_0, r.c_0 = from.c_0, r.h_n = from.h_n, r.c_n = from.c_n;
    r.y = p.h[l].data, r.y_t = p.h[l].t, r.y_b = p.h[l].b;
    r.dy = p.dh[l].data, r.dy_t = p.dh[l].t, r.dy_b = p.dh[l].b;
    r.dh_n = from.dh_n, r.dc_n = from.dc_n;
    r.dW = from.dW, r.dR = from.dR, r.db_w = from.db_w, r.db_r = from.db_r;
    r.dh_0 = from.dh_0, r.dc_0 = from.dc_0;
    r.c_next = d.c_next;
    if (!d.spec) return;
    q.spec = d.spec, q.norm = d.norm, q.expect = d.expect;
    for (int k = 0; k < kMostStates; ++k) q.zoneout[k] = d.zoneout[k];
    q.recurrent_dropout = d.recurrent_dropout;
    q.mask_seed = d.mask_seed + 1024 * uint64_t(l);
    for (int v = 0; v < kMostVectors; ++v) r.vectors[v] = from.vectors[v], r.dvectors[v] = from.dvectors[v];
    r.gain_x = from.gain_x, r.gain_r = from.gain_r, r.dgain_x = from.dgain_x, r.dgain_r = from.dgain_r;
}

// what a given cell has besides, of one layer
template <class T>
void lay_out_given(const Plan<T>& p, const Decoder& d, bool backward, Arena& m, DirectionSpace<T>& ds) {
    if (!p.cell.spec) return;
    ds.vectors = m.take<T>((p.cell.spec->vectors + (d.norm ? 4 * p.cell.G : 0)) * p.Hp);
    if (d.recurrent_dropout > 0) ds.mask = m.take<T>(d.B * p.wide);
    if (!backward) return;
    ds.extra = m.take<T>(d.B * (p.states() + 2) * p.wide);
    if (d.norm) ds.sums = m.take<T>(d.B * 4 * p.cell.G * p.Hp);
}

// What forward leaves for backward: in `saved`, or in the workspace of inference. Gates come first.
template <class T>
size_t lay_out_states(DecoderPlan<T>& p, const Decoder& d, Arena& m, size_t* gates) {
    const bool all = d.save;
    for (int l = 0; l < d.layers; ++l) {
        Plan<T>& one = p.plan[l];
        const ptrdiff_t rows = all ? ptrdiff_t(d.steps) : l ? d.B : one.chunk_rows;
        one.dir[0].gates = m.take<T>(rows * one.gates_stride());
    }
    if (gates) *gates = m.used;
    for (int l = 0; l < d.layers; ++l) {
        if (p.plan[l].cell.kept)
            p.plan[l].dir[0].cell = m.take<T>((all ? d.B + ptrdiff_t(d.steps) : 2 * d.B) * p.plan[l].cell_stride);
        p.h[l] = take_rows<T>(m, d, row_stride<T>(d.H), true);
    }
    p.keys_s = round_up(d.Q, VL<T>);
    p.values_s = round_up(d.K, VL<T>);
    if (!d.C) return m.used;
    p.values = m.take<T>(p.sources * d.S * p.values_s);
    p.keys = d.keys == d.values ? p.values : m.take<T>(p.sources * d.S * p.keys_s);
    p.w = take_rows<T>(m, d, d.S, all);
    p.context = take_rows<T>(m, d, row_stride<T>(d.K), all);
    if (d.U) p.query = take_rows<T>(m, d, row_stride<T>(d.Q), all);
    return m.used;
}

template <class T>
void lay_out_weights(DecoderPlan<T>& p, const Decoder& d, bool backward, Arena& m) {
    const ptrdiff_t A = whole_panels<T>(d.A), H = whole_panels<T>(d.H);
    for (int l = 0; l < d.layers; ++l) {
        const Plan<T>& one = p.plan[l];
        const ptrdiff_t I = l ? d.H : d.E;
        DirectionSpace<T>& ds = p.plan[l].dir[0];
        ds.W = m.take<T>(backward ? one.cell.G * d.H * whole_panels<T>(I) : I * one.cell.G * H);
        ds.R = m.take<T>(one.cell.G * H * H);
        if (one.cell.second) ds.R2 = m.take<T>(H * H);
        if (backward) {
            ds.dh = m.take<T>(d.B * one.wide);
            ds.dc = m.take<T>(d.B * one.dc_stride);
        } else {
            ds.bias_x = m.take<T>(one.cell.G * H);
            ds.bias_r = m.take<T>(one.cell.G * H);
        }
        lay_out_given(one, d, backward, m, ds);
    }
    if (d.feeding) p.F = m.take<T>(backward ? p.plan[0].cell.G * d.H * A : d.A * p.plan[0].cell.G * H);
    if (d.U) p.U = m.take<T>(backward ? d.Q * H : d.H * whole_panels<T>(d.Q));
    if (!d.C) return;
    p.Cc = m.take<T>(backward ? d.A * whole_panels<T>(d.K) : d.K * A);
    p.Ch = m.take<T>(backward ? d.A * H : d.H * A);
    if (backward) return;
    p.b_c = m.take<T>(A);
    if (!d.sampling) return;
    p.O = m.take<T>(d.A * whole_panels<T>(d.sampling->V));
    p.b_o = m.take<T>(whole_panels<T>(d.sampling->V));
}

template <class T>
void lay_out_gradients(DecoderPlan<T>& p, const Decoder& d, Arena& m) {
    p.dz = take_rows<T>(m, d, row_stride<T>(d.A), true);
    p.dcontext = take_rows<T>(m, d, row_stride<T>(d.K), true);
    p.de = take_rows<T>(m, d, d.S, true);
    if (d.U) p.dq = take_rows<T>(m, d, row_stride<T>(d.Q), true);
    for (int l = 0; l < d.layers; ++l) p.dh[l] = take_rows<T>(m, d, row_stride<T>(d.H), false);
    if (d.feeding) p.dfeed = take_rows<T>(m, d, row_stride<T>(d.A), false);
    if (d.v) {
        p.dkeys = m.take<T>(d.B * d.S * p.keys_s);
        p.dv = m.take<T>(d.B * p.keys_s);
    }
}

template <class T>
void lay_out_thread(DecoderPlan<T>& p, const Decoder& d, bool backward, Arena& m, DecoderThread<T>& t) {
    const ptrdiff_t rows = p.rows_at_once;
    ThreadSpace<T>& ts = t.ts;
    const T*** many[] = {&ts.a, &ts.b, &ts.b2, &ts.b3, &t.feed};
    for (const T*** f : many) *f = m.take<const T*>(rows);
    ts.c = m.take<T*>(rows);
    const T*** step_in[] = {&ts.x, &ts.h_prev, &ts.c_prev, &ts.dy, &t.in, &t.in2};
    for (const T*** f : step_in) *f = m.take<const T*>(d.B);
    T*** step_out[] = {&ts.gates, &ts.h, &ts.cell, &ts.hidden, &ts.next_gates, &ts.dh, &ts.dc, &t.out, &t.out2};
    for (T*** f : step_out) *f = m.take<T*>(d.B);
    for (int k = 0; d.spec && k < d.spec->states; ++k) {
        ts.before[k] = m.take<const T*>(d.B);
        ts.after[k] = m.take<T*>(d.B);
        ts.gradient[k] = m.take<T*>(d.B);
    }
    if (!backward && d.sampling) {
        t.drawn = m.take<int>(d.B);
        t.token = m.take<int32_t>(d.B);
        t.best = m.take<T>(d.B);
        t.logits = m.take<T>(d.B * kLogits);
    }
    if (!backward) return;
    const ptrdiff_t H = whole_panels<T>(d.H), I = whole_panels<T>(d.E > d.H ? d.E : d.H);
    const ptrdiff_t columns = I + whole_panels<T>(d.A) + 2 * H + whole_panels<T>(d.K);  // more than any product has
    ts.outer = m.take<T>(outer_scratch<T>(rows, columns));
    t.dq = m.take<T>(p.keys_s);
    t.finish = m.take<T>(finish_scratch<T>(d.T, d.S, d.K > d.Q ? d.K : d.Q));
}

// Lays out the workspace; with a null base it measures, and the pointers mean nothing.
template <class T>
size_t lay_out_decoder(DecoderPlan<T>& p, const Decoder& d, bool backward, void* base, DecoderSizes* sizes,
                       ptrdiff_t sources = 0) {
    Plan<T> plans[kDecoderLayers] = {};
    Sequence sequences[kDecoderLayers] = {};
    Arena m{static_cast<char*>(base), 0};
    p = DecoderPlan<T>{};
    p.d = &d;
    p.sources = sources ? sources : d.B;
    p.plan = m.take<Plan<T>>(d.layers);
    p.q = m.take<Sequence>(d.layers);
    if (!base) p.plan = plans, p.q = sequences;
    Plan<T>& first = p.plan[0];
    first = Plan<T>{};
    first.q = p.q;
    first.Hp = first.Pp = first.wide = round_up(d.H, VL<T>);
    describe_layer(p, d, 0);
    first.cell = shape_of<T>(p.q[0]);
    first.cell_stride = first.cell.kept * first.wide;
    first.dc_stride = (d.spec && d.spec->states > 2 ? d.spec->states - 1 : 1) * first.wide;
    const ptrdiff_t target = chunk_target<T>(p.q[0], first.cell.G, first.cell.S, first.Hp);
    first.chunk_rows = d.B > target ? d.B : target;
    if (first.chunk_rows > d.steps) first.chunk_rows = ptrdiff_t(d.steps);
    p.rows_at_once = d.steps < kOuterBlock ? ptrdiff_t(d.steps) : kOuterBlock;
    if (p.rows_at_once < first.chunk_rows) p.rows_at_once = first.chunk_rows;
    first.index = m.take<int>(d.B);
    first.length = m.take<int>(d.B);
    first.active = m.take<int>(d.T + 1);
    first.offset = m.take<int64_t>(d.T + 1);
    first.chunk = m.take<int>(d.T + 1);
    first.segment = m.take<int>(d.T + 1);
    first.zeros = m.take<T>(d.A > first.wide ? d.A : first.wide);
    p.most_threads = first.most_threads = decoder_threads(d, first.cell.G, backward);
    first.barriers = m.take<Barrier>(1 + p.most_threads);
    for (int l = 1; l < d.layers; ++l) {
        p.plan[l] = first;
        p.plan[l].fused = first.cell.fusable;  // x comes step by step
        p.plan[l].tabulated = p.plan[l].in_blocks = false;
    }
    Arena saved{static_cast<char*>(d.saved), 0};
    const size_t kept = lay_out_states(p, d, d.save ? saved : m, sizes ? &sizes->gates : nullptr);
    if (sizes) sizes->saved = d.save ? kept : 0;
    if (!d.save && sizes) sizes->gates = 0;
    lay_out_weights(p, d, backward, m);
    if (backward) lay_out_gradients(p, d, m);
    p.threads = m.take<DecoderThread<T>>(p.most_threads);
    for (int t = 0; t < p.most_threads; ++t) {
        DecoderThread<T> one{};
        lay_out_thread(p, d, backward, m, one);
        if (base) p.threads[t] = one;
    }
    for (int l = 0; l < d.layers; ++l) {
        describe_layer(p, d, l);
        p.plan[l].q = p.q + l;
    }
    return m.used;
}

// the order of rows, and what has to be there before the threads start
template <class T>
void start_decoder(DecoderPlan<T>& p) {
    const Decoder& d = *p.d;
    order_rows(p.plan[0]);
    for (int l = 1; l < d.layers; ++l) p.plan[l].chunks = p.plan[0].chunks, p.plan[l].segments = p.plan[0].segments;
    copy_n<T>(p.plan[0].zeros, nullptr, d.A > p.plan[0].wide ? d.A : p.plan[0].wide);
    for (int i = 0; i < 1 + p.most_threads; ++i) barrier_init(p.plan[0].barriers + i);
}

template <class T>
bool prepare_decoder(DecoderPlan<T>& p, const Decoder& d, bool backward) {
    if (d.B == 0) return false;
    lay_out_decoder(p, d, backward, d.workspace, nullptr);
    start_decoder(p);
    return true;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
