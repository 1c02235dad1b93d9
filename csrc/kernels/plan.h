// plan.h: what every thread of one recurrent call shares: the order of rows, the time chunks, and the workspace.
//
// Rows are sorted by length, longest first, so that the rows still running at a step are a prefix. Row i of step s is
// internal row offset[s] + i; gates, c and hidden are stored in that order. Chunks of steps are cut by shapes and lengths
// alone, never by the number of threads, because weight gradients are summed chunk by chunk.
//
// Memory for gates, c and hidden covers the steps from `base` on (Step::base): all of them when everything is saved for
// backward, one chunk in inference, one segment (whole chunks, at least `checkpoint` steps) when backward computes them
// again.
#pragma once
#include "../fastrnn.h"
#include "../pool.h"
#include "cell_shape.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Hands out 64-byte aligned pieces of one block; with a null base it only measures.
struct Arena {
    char* base;
    size_t used;
    template <class U>
    U* take(size_t count) {
        size_t at = used;
        used += (count * sizeof(U) + 63) / 64 * 64;
        return base ? reinterpret_cast<U*>(base + at) : nullptr;
    }
};

// Row pointers and scratch that belong to one thread.
template <class T>
struct ThreadSpace {
    const T **a, **b, **b2, **b3;           // [chunk rows]
    T** c;                                  // [chunk rows]
    const T **x, **h_prev, **c_prev, **dy;  // [B]
    const T** before[kMostStates];          // [B], of given cells, as are the next two
    T **after[kMostStates], **gradient[kMostStates];
    T **gates, **h, **cell, **hidden, **next_gates, **dh, **dc;
    T* outer;
};

template <class T>
struct DirectionSpace {
    T *W, *R, *R2;              // packed weights: input, recurrent, and the second recurrent product of a step
    T *bias_x, *bias_r;         // packed like W's and R's panels
    T *dh, *dc;                 // [B, wide] each
    T* dhs[2];                  // projection: gradient at h, of a chunk [chunk rows, Pp]
    T* reset;                   // [B, cell_stride] states that a reset goes to, or null for zeros
    T* sums;                    // given cells with layer norm: see norm.h
    T *vectors, *mask, *extra;  // given cells: [vectors, Hp], [B, wide] of recurrent dropout, [B, states + 2, wide] scratch
    T *gates, *cell, *hidden;   // [rows, S·Hp], [B + rows, Hp] or [2, B, Hp], [rows, Hp]: the caller's or the workspace's
    // checkpoint, backward: packed weights of the forward pass, where its h goes, dG of the step after the segment
    T *fW, *fR, *fR2, *again_h, *next_gates;
};

template <class T>
struct Plan {
    const Sequence* q;
    CellShape<T> cell;
    ptrdiff_t Hp, Pp, wide;  // padded to whole vectors; wide: the larger
    ptrdiff_t cell_stride;   // of a row of `cell`
    ptrdiff_t dc_stride;     // of a row of `dc`
    int* index;              // [B] sorted position → row of the batch
    int* length;             // [B] sorted
    int* active;             // [T+1] rows still running at step s
    int64_t* offset;         // [T+1] internal row where step s starts
    int* chunk;              // [chunks+1] first step of each chunk
    int chunks;
    ptrdiff_t chunk_rows;  // most rows of a chunk
    int* segment;          // [segments+1] first chunk of each segment
    int segments;
    ptrdiff_t segment_rows;  // most rows of a segment
    T* zeros;                // [nothing]
    ptrdiff_t nothing;       // the longest row that may be zeros
    bool fused;              // forward: x·W belongs to each step's product, instead of a product of its own a chunk
    bool tabulated;          // one-hot input: W and dW are turned over (one_hot.h); forward does its share at each step
    bool in_blocks;          // a chunk's x and dx come and go in blocks of steps
    int most_threads;        // that the workspace is for
    Barrier* barriers;       // [0] everybody, [1], [2] teams, then one for each batch group
    DirectionSpace<T> dir[2];
    ThreadSpace<T>* threads;

    int states() const { return cell.spec ? int(cell.spec->states) : 1 + cell.kept; }
    ptrdiff_t kept_at(int k) const { return (k - cell.first_kept) * wide; }  // state k in a row of `cell`
    int rows(int s0, int s1) const { return int(offset[s1] - offset[s0]); }
    // Rows a multiple of 1 KiB apart share few sets of the cache: such rows get a line more.
    static ptrdiff_t spread(ptrdiff_t n) { return n * ptrdiff_t(sizeof(T)) % 1024 ? n : n + 64 / ptrdiff_t(sizeof(T)); }
    ptrdiff_t gates_stride() const { return spread(cell.S * Hp + (q->norm ? 64 / ptrdiff_t(sizeof(T)) : 0)); }
    ptrdiff_t table_stride() const { return spread(cell.G * Hp); }
    ptrdiff_t row(int s, int i, int base) const { return ptrdiff_t(offset[s] - offset[base]) + i; }  // in gates, hidden
    // in c; the state before `base` comes first. Without saving, two slots take turns.
    ptrdiff_t cell_row(int s, int i, int base, bool turns) const {
        if (turns) return ((s + 1) & 1) * q->B + i;
        return s < base ? i : q->B + row(s, i, base);
    }
    int time(const Direction& d, int s, int i) const { return d.reverse ? length[i] - 1 - s : s; }
};

// Rows of a chunk: few enough for their gates to stay in L2; but where the weights are larger than that, enough to amortise
// the traffic of their gradients.
template <class T>
ptrdiff_t chunk_target(const Sequence& q, int G, int S, ptrdiff_t Hp) {
    const ptrdiff_t item = sizeof(T), weights = G * q.H * (q.I + q.P) * item;
    const ptrdiff_t bytes = weights * 3 / 4 < (1 << 19) ? 1 << 19 : weights * 3 / 4;
    const ptrdiff_t rows = bytes / (S * Hp * item);
    return rows < 128 ? 128 : rows > 1024 ? 1024 : rows;
}

// sorts rows by length and cuts time into chunks
template <class T>
void order_rows(Plan<T>& p) {
    const Sequence& q = *p.q;
    const int B = int(q.B), steps = int(q.T);
    for (int s = 0; s <= steps; ++s) p.active[s] = 0;
    if (!q.lengths) {
        for (int s = 0; s < steps; ++s) p.active[s] = B;
        for (int i = 0; i < B; ++i) p.index[i] = i, p.length[i] = steps;
    } else {  // counting sort, stable
        for (int b = 0; b < B; ++b) ++p.active[q.lengths[b]];
        for (int s = steps - 1; s >= 0; --s) p.active[s] += p.active[s + 1];  // now: rows with length >= s
        // offset[] is free: next place of each length
        for (int s = 0; s <= steps; ++s) p.offset[s] = s < steps ? p.active[s + 1] : 0;
        for (int b = 0; b < B; ++b) {
            int i = int(p.offset[q.lengths[b]]++);
            p.index[i] = b;
            p.length[i] = int(q.lengths[b]);
        }
        for (int s = 0; s < steps; ++s) p.active[s] = p.active[s + 1];
        p.active[steps] = 0;
    }
    p.offset[0] = 0;
    for (int s = 0; s < steps; ++s) p.offset[s + 1] = p.offset[s] + p.active[s];
    const ptrdiff_t target = chunk_target<T>(*p.q, p.cell.G, p.cell.S, p.Hp);
    p.chunks = 0;
    const int end = B ? p.length[0] : 0;  // nobody runs after the longest row
    int s = 0;
    while (s < end) {
        p.chunk[p.chunks++] = s;
        int s1 = s + 1;
        while (s1 < end && p.offset[s1 + 1] - p.offset[s] <= target) ++s1;
        s = s1;
    }
    p.chunk[p.chunks] = end;
    p.segments = 0;
    for (int k = 0; k < p.chunks;) {
        p.segment[p.segments++] = k;
        const int first = p.chunk[k++];
        while (k < p.chunks && (q.save == kSaveAll || p.chunk[k] - first < q.checkpoint)) ++k;
    }
    p.segment[p.segments] = p.chunks;
}

// memory of gates, c and hidden for `rows` steps
template <class T>
void take_states(Arena& m, const Plan<T>& p, DirectionSpace<T>& ds, ptrdiff_t rows, ptrdiff_t cell_rows) {
    const Sequence& q = *p.q;
    ds.gates = m.take<T>(rows * p.gates_stride());
    if (p.cell.kept) ds.cell = m.take<T>(cell_rows * p.cell_stride);
    if (q.dir[0].M) ds.hidden = m.take<T>(rows * p.Hp);
}

// Seconds that one step takes each of groups·slices threads: arithmetic, or the way of the recurrent weights from the caches,
// whichever is longer, and the gates. Slices of the hidden units meet at a step's end, and h comes from another core. Rough
// figures of one machine: they choose between splits, never what is computed.
inline double step_seconds(const Sequence& q, int G, int groups, int slices) {
    const double rows = double((q.B + groups - 1) / groups), weights = double(G) * double(q.H) * double(q.P) / slices;
    const double item = q.dtype == kFloat32 ? 4 : 8, bytes = weights * item;
    const double speed = bytes <= 32e3 ? 300e9 : bytes <= 800e3 ? 140e9 : 75e9;
    const double work = 2 * weights * rows * item / 600e9, way = bytes / speed;
    const double gates = rows * G * double(q.H) / slices * item * 0.08e-9;
    const double late = bytes <= 800e3 ? 0 : 0.3 * (work < way ? work : way);  // L3 is shared, and never quite hidden
    return (work > way ? work : way) + late + gates + (slices > 1 ? 0.4e-6 : 0);
}

// Into how many groups of rows n threads part, by that cost; the rest are slices. Few rows a group keep the multipliers idle.
constexpr int kRowsWorthAThread = 4;
inline int best_groups(const Sequence& q, int G, int n) {
    const int most = q.B < 2 * kRowsWorthAThread ? 1 : q.B / kRowsWorthAThread < n ? int(q.B / kRowsWorthAThread) : n;
    int best = most;
    for (int g = most - 1; g >= 1; --g)
        if (n % g == 0 && step_seconds(q, G, g, n / g) < 0.95 * step_seconds(q, G, best, n / best)) best = g;
    return best;
}
inline int best_slices(const Sequence& q, int G, int groups, int most) {
    int best = 1;
    for (int s = 2; s <= most; ++s)
        if (step_seconds(q, G, groups, s) < step_seconds(q, G, groups, best)) best = s;
    return best;
}

// Threads worth waking: each should have some 40 µs to do, for to wake one may take 50. Forward has work for those in a group
// alone; backward has the chunks' products for everybody.
inline int useful_threads(const Sequence& q, int G, bool backward) {
    const double inputs = q.codes ? 0 : double(q.I);
    const double work = (backward ? 4.0 : 2.0) * double(q.steps) * (inputs + double(q.P)) * G * double(q.H) * q.D;
    double most = work / 8e6 + 1;
    const int each = q.D == 2 ? (q.threads + 1) / 2 : q.threads, groups = best_groups(q, G, each);
    const double seats = double(q.D) * groups * best_slices(q, G, groups, each / groups);
    if (!backward && most > seats) most = seats;
    return q.threads < 1 ? 1 : q.threads < most ? q.threads : int(most);
}

// Whether x·W goes into the product of each step: measured to pay where it is short, or where all weights stay in L1. It saves
// writing the gates and reading them again, but reads W at every step.
template <class T>
bool fuses(const Sequence& q, const CellShape<T>& cell) {
    if (q.codes || !cell.fusable) return false;
    return q.I <= 8 || cell.G * q.H * (q.I + q.P) * ptrdiff_t(sizeof(T)) <= 1 << 15;
}

// Lays out the workspace; with a null base it measures.
template <class T>
size_t lay_out(Plan<T>& p, const Sequence& q, bool backward, void* base) {
    p.q = &q;
    p.cell = shape_of<T>(q);
    p.Hp = round_up(q.H, VL<T>);
    p.Pp = round_up(q.P, VL<T>);
    p.wide = p.Hp > p.Pp ? p.Hp : p.Pp;
    p.cell_stride = p.cell.kept * p.wide;
    const int states = p.cell.spec ? int(p.cell.spec->states) : 2;
    p.dc_stride = (states > 2 ? states - 1 : 1) * p.wide;
    p.nothing = q.reset ? p.gates_stride() + p.cell_stride : p.wide;
    p.fused = fuses<T>(q, p.cell);
    p.in_blocks = false;
    p.tabulated = q.codes && 2 * q.steps >= q.I;
    const ptrdiff_t target = chunk_target<T>(*p.q, p.cell.G, p.cell.S, p.Hp);
    p.chunk_rows = q.B > target ? q.B : target;
    if (p.chunk_rows > q.steps) p.chunk_rows = ptrdiff_t(q.steps);
    Arena m{static_cast<char*>(base), 0};
    p.index = m.take<int>(q.B);
    p.length = m.take<int>(q.B);
    p.active = m.take<int>(q.T + 1);
    p.offset = m.take<int64_t>(q.T + 1);
    p.chunk = m.take<int>(q.T + 1);
    p.segment = m.take<int>(q.T + 1);
    p.segment_rows = q.checkpoint * q.B + p.chunk_rows;
    if (p.segment_rows > q.steps) p.segment_rows = ptrdiff_t(q.steps);
    const bool again = backward && q.save == kSaveCheckpoints;
    p.zeros = m.take<T>(p.nothing);
    p.most_threads = useful_threads(q, p.cell.G, backward);
    p.barriers = m.take<Barrier>(3 + p.most_threads);
    p.threads = m.take<ThreadSpace<T>>(p.most_threads);
    const ptrdiff_t panel = kMaxNV * VL<T>, wide = round_up(p.wide, panel), I = q.codes ? 0 : round_up(q.I, panel);
    const ptrdiff_t packed_W = !q.codes ? q.I * p.cell.G * wide : p.tabulated ? q.I * p.table_stride() : 0;
    for (int d = 0; d < q.D; ++d) {
        DirectionSpace<T> ds{};
        ds.W = m.take<T>(backward && !q.codes ? p.cell.G * q.H * I : packed_W);
        ds.R = m.take<T>(p.cell.G * wide * wide);
        if (p.cell.second) ds.R2 = m.take<T>(wide * wide);
        if (!backward || again) {
            ds.bias_x = m.take<T>(p.cell.G * wide);
            ds.bias_r = m.take<T>(p.cell.G * wide);
        }
        if (q.dir[d].reset_h || q.dir[d].reset_c) ds.reset = m.take<T>(q.B * p.cell_stride);
        if (p.cell.spec) {
            ds.vectors = m.take<T>((p.cell.spec->vectors + (q.norm ? 4 * p.cell.G : 0)) * p.Hp);
            if (q.recurrent_dropout > 0) ds.mask = m.take<T>(q.B * p.wide);
            if (backward) ds.extra = m.take<T>(q.B * (states + 2) * p.wide);
            if (backward && q.norm) ds.sums = m.take<T>(q.B * 4 * p.cell.G * p.Hp);
        }
        if (q.save == kSaveAll) {
            ds.gates = static_cast<T*>(q.dir[d].gates);
            ds.cell = static_cast<T*>(q.dir[d].c);
            ds.hidden = static_cast<T*>(q.dir[d].hidden);
        } else if (!backward) {
            take_states(m, p, ds, p.chunk_rows, 2 * q.B);
        } else if (d == 0) {  // the directions take turns
            take_states(m, p, ds, p.segment_rows, q.B + p.segment_rows);
            ds.fW = m.take<T>(packed_W);
            ds.fR = m.take<T>(p.cell.G * wide * wide);
            ds.fR2 = m.take<T>(wide * wide);
            ds.again_h = m.take<T>(q.B * p.wide);
            ds.next_gates = m.take<T>(q.B * p.gates_stride());
        } else {
            const DirectionSpace<T>& first = p.dir[0];
            ds.gates = first.gates, ds.cell = first.cell, ds.hidden = first.hidden;
            ds.fW = first.fW, ds.fR = first.fR, ds.fR2 = first.fR2, ds.again_h = first.again_h;
            ds.next_gates = first.next_gates;
        }
        if (backward) {
            ds.dh = m.take<T>(q.B * p.wide);
            ds.dc = m.take<T>(q.B * p.dc_stride);
            if (q.dir[d].M)
                for (T*& dhs : ds.dhs) dhs = m.take<T>(p.chunk_rows * p.Pp);
        }
        p.dir[d] = ds;
    }
    for (int t = 0; t < p.most_threads; ++t) {
        ThreadSpace<T> ts{};
        ts.a = m.take<const T*>(p.chunk_rows);
        ts.b = m.take<const T*>(p.chunk_rows);
        ts.b2 = m.take<const T*>(p.chunk_rows);
        ts.b3 = p.cell.candidate ? m.take<const T*>(p.chunk_rows) : nullptr;
        ts.c = m.take<T*>(p.chunk_rows);
        const T*** step_in[] = {&ts.x, &ts.h_prev, &ts.c_prev, &ts.dy};
        for (const T*** f : step_in) *f = m.take<const T*>(q.B);
        T*** step_out[] = {&ts.gates, &ts.h, &ts.cell, &ts.hidden, &ts.next_gates, &ts.dh, &ts.dc};
        for (T*** f : step_out) *f = m.take<T*>(q.B);
        for (int k = 0; p.cell.spec && k < states; ++k) {
            ts.before[k] = m.take<const T*>(q.B);
            ts.after[k] = m.take<T*>(q.B);
            ts.gradient[k] = m.take<T*>(q.B);
        }
        ts.outer = backward ? m.take<T>(outer_scratch<T>(p.chunk_rows, I + (p.cell.candidate ? 2 : 1) * wide)) : nullptr;
        if (p.threads) p.threads[t] = ts;
    }
    return m.used;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
