// stream_given.cpp: see stream_given.h.
#include "stream_given.h"

#include "forward.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// What the schedule keeps on the stack of a call lives in the stream's memory: a step has nothing to lay out.
template <class T>
struct GivenStream {
    Sequence q;
    Plan<T> p;
    ThreadSpace<T> ts;
    Packed<T> W, R, R2, W_high, R_high;
    bool fusable;  // x·W may belong to the product of a step

    Step<T> step() const {
        Step<T> st{p,    q, q.dir[0], p.dir[0], ts, Team{0, 1, 0, 1, 0, 1, false, nullptr, nullptr}, W, R, R2, 0, 0, 0,
                   true, 0, -1,       int(q.B), 0};
        st.W_high = W_high;
        st.R_high = R_high;
        return st;
    }
};

template <class T>
GivenStream<T>& given(StreamLayer* l) {
    return *static_cast<GivenStream<T>*>(l->given);
}

// ---- memory

Sequence sequence_of(const StreamLayer& l) {
    Sequence q{};
    q.dtype = l.dtype, q.cell = kGiven;
    q.T = 1, q.B = l.B, q.I = l.I, q.H = l.H, q.P = l.P;
    q.D = q.threads = 1;
    q.save = kSaveNothing;
    q.spec = l.spec;
    q.norm = l.norm, q.expect = 1;
    for (int k = 0; k < kMostStates; ++k) q.zoneout[k] = l.zoneout[k];
    Direction& d = q.dir[0];
    d.W = l.W, d.W_rs = l.W_rs, d.W_cs = l.W_cs;
    d.R = l.R, d.R_rs = l.R_rs, d.R_cs = l.R_cs;
    d.M = l.M, d.M_rs = l.M_rs, d.M_cs = l.M_cs;
    d.b_w = l.b_w, d.b_r = l.b_r;
    d.gain_x = l.gain_x, d.gain_r = l.gain_r;
    for (int v = 0; v < kMostVectors; ++v) d.vectors[v] = l.vectors[v];
    return q;
}

template <class T>
Plan<T> plan_of(const Sequence& q) {
    Plan<T> p{};
    p.q = &q;
    p.cell = shape_of<T>(q);
    p.Hp = round_up(q.H, VL<T>);
    p.Pp = round_up(q.P, VL<T>);
    p.wide = p.Hp > p.Pp ? p.Hp : p.Pp;
    p.cell_stride = p.cell.kept * p.wide;
    p.most_threads = 1;
    return p;
}

// x's part of a block's sums: one row, so rows of `gates` may be time steps
ptrdiff_t rows_of_gates(const Sequence& q) { return q.B == 1 ? kStreamBlock : q.B; }

template <class T>
void take_rows(Arena& m, const Plan<T>& p, ThreadSpace<T>& ts) {
    const Sequence& q = *p.q;
    ts.a = m.take<const T*>(size_t(rows_of_gates(q)));
    ts.c = m.take<T*>(size_t(rows_of_gates(q)));
    const T*** const in[] = {&ts.x, &ts.h_prev, &ts.c_prev};
    for (const T*** rows : in) *rows = m.take<const T*>(size_t(q.B));
    T*** const out[] = {&ts.gates, &ts.h, &ts.cell, &ts.hidden, &ts.dh};
    for (T*** rows : out) *rows = m.take<T*>(size_t(q.B));
    for (int k = 0; k < p.cell.kept; ++k) {
        ts.before[k] = m.take<const T*>(size_t(q.B));
        ts.after[k] = m.take<T*>(size_t(q.B));
        ts.gradient[k] = m.take<T*>(size_t(q.B));
    }
}

template <class T>
void take_weights(Arena& m, const Plan<T>& p, DirectionSpace<T>& ds) {
    const Sequence& q = *p.q;
    const size_t wide = size_t(round_up(p.wide, kMaxNV * VL<T>)), G = size_t(p.cell.G);
    ds.bias_x = m.take<T>(G * wide);
    ds.bias_r = m.take<T>(G * wide);
    ds.vectors = m.take<T>(size_t((p.cell.spec->vectors + (q.norm ? 4 * p.cell.G : 0)) * p.Hp));
    ds.W = m.take<T>(size_t(q.I) * G * wide);
    ds.R = m.take<T>(size_t(q.P) * G * wide);
    if (p.cell.second) ds.R2 = m.take<T>(size_t(q.H) * wide);
}

// ---- steps

// reads l->h and l->c, writes to where the next step's states go
template <class T>
FR_INLINE void point_at_states(StreamLayer* l, const GivenStream<T>& g) {
    const ptrdiff_t stride = g.p.cell_stride;
    const T* before = static_cast<const T*>(l->h);
    T* after = static_cast<T*>(l->h_next);
    for (ptrdiff_t r = 0; r < l->B; ++r, before += stride, after += stride) {
        g.ts.h_prev[r] = g.ts.c_prev[r] = before;
        g.ts.h[r] = g.ts.cell[r] = after;
    }
}

template <class T>
FR_INLINE const void* moved_on(StreamLayer* l, const GivenStream<T>& g) {
    void* now = l->h_next;
    l->h_next = l->h;
    l->h = now;
    if (l->c) l->c = static_cast<T*>(now) + g.p.wide;
    return now;
}

// x·W + b_w for m rows
template <class T>
void inputs(const Step<T>& st, const T* const* x, T* const* gates, int m) {
    const Segments k{1, st.q.I, {0}};
    gemm_panels(x, gates, m, k, st.W, 0, st.W.panels(), input_columns<T>(st));
    if (st.W_high.data) gemm_panels(x, gates, m, k, st.W_high, 0, st.W_high.panels(), input_columns<T>(st, kMaxNV));
}

template <class T>
const void* given_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    GivenStream<T>& g = given<T>(l);
    for (ptrdiff_t r = 0; r < l->B; ++r) {
        g.ts.x[r] = static_cast<const T*>(x) + r * x_b;
        g.ts.gates[r] = g.p.dir[0].gates + r * g.p.gates_stride();
        if (l->M) g.ts.hidden[r] = g.p.dir[0].hidden + r * g.p.Hp;
    }
    point_at_states(l, g);
    g.p.fused = g.fusable;
    Step<T> st = g.step();
    if (!g.fusable) inputs(st, g.ts.x, g.ts.gates, st.m);
    g.p.cell.forward(st);
    return moved_on(l, g);
}

// a block of time steps of one row: W is read once for all of them
template <class T>
void given_run(StreamLayer* l, const void* x, ptrdiff_t x_t, ptrdiff_t steps) {
    GivenStream<T>& g = given<T>(l);
    for (ptrdiff_t t = 0; t < steps; ++t) {
        g.ts.a[t] = static_cast<const T*>(x) + t * x_t;
        g.ts.c[t] = g.p.dir[0].gates + t * g.p.gates_stride();
    }
    g.p.fused = false;
    Step<T> st = g.step();
    inputs(st, g.ts.a, g.ts.c, int(steps));
    g.ts.hidden[0] = g.p.dir[0].hidden;
    for (ptrdiff_t t = 0; t < steps; ++t) {
        g.ts.gates[0] = g.p.dir[0].gates + t * g.p.gates_stride();
        point_at_states(l, g);
        g.p.cell.forward(st);
        std::memcpy(static_cast<T*>(l->block) + t * l->y_b, moved_on(l, g), size_t(l->P) * sizeof(T));
    }
}

template <class T>
size_t prepare_t(StreamLayer* l, void* memory) {
    const Sequence q = sequence_of(*l);
    Plan<T> p = plan_of<T>(q);
    DirectionSpace<T>& ds = p.dir[0];
    ThreadSpace<T> ts{};
    Arena m{static_cast<char*>(memory), 0};
    const size_t states = size_t(l->B * p.cell_stride);
    T* const h = m.take<T>(states);
    l->h = h;
    l->h_next = m.take<T>(states);
    const size_t zeros = m.used;
    l->c = h && p.cell.kept > 1 ? h + p.wide : nullptr;
    l->y_b = l->c_b = p.cell_stride;
    l->c_next = p.wide;
    l->given = m.take<GivenStream<T>>(1);
    take_rows(m, p, ts);
    ds.gates = m.take<T>(size_t(rows_of_gates(q) * p.gates_stride()));
    if (l->M) ds.hidden = m.take<T>(size_t(l->B * p.Hp));
    l->block = l->B == 1 ? m.take<T>(size_t(kStreamBlock * l->y_b)) : nullptr;
    take_weights(m, p, ds);
    l->step = given_step<T>;
    l->run = given_run<T>;
    if (memory) {
        std::memset(memory, 0, zeros);
        GivenStream<T>& g = given<T>(l);
        g = GivenStream<T>{q, p, ts, {}, {}, {}, {}, {}, p.cell.fusable};
        g.p.q = &g.q;
    }
    return m.used;
}

template <class T>
void pack_t(StreamLayer* l) {
    GivenStream<T>& g = given<T>(l);
    Step<T> st = g.step();
    pack_forward<T>(st, g.p.dir[0].W, g.p.dir[0].R, g.p.dir[0].R2, false);
    start_given(st);
    g.W = st.W, g.R = st.R, g.R2 = st.R2, g.W_high = st.W_high, g.R_high = st.R_high;
}

}  // namespace

size_t prepare_given(StreamLayer* l, void* memory) {
    return l->dtype == kFloat32 ? prepare_t<float>(l, memory) : prepare_t<double>(l, memory);
}
void pack_given(StreamLayer* l) { l->dtype == kFloat32 ? pack_t<float>(l) : pack_t<double>(l); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
