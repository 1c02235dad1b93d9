// step.h: what one thread holds while it walks through time, and the tile loop that every phase of a step is.
#pragma once
#include "plan.h"
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct Team {
    int id, n;            // this thread, threads
    int group, groups;    // of the batch
    int slice, slices;    // of the hidden units
    bool idle;            // in no group: backward's chunk GEMMs only
    Barrier *all, *mine;  // the team's, the group's
};

// A share of `count` things for this slice.
struct Range {
    int first, last;
};
inline Range share(int count, int id, int n) { return {int(int64_t(count) * id / n), int(int64_t(count) * (id + 1) / n)}; }

// Whether n threads take whole things about equally long.
inline bool even(int count, int n) { return count % n == 0 || count >= 8 * n; }

inline Team make_team(const Sequence& q, int G, int id, int n, int most_units, Barrier* all, Barrier* groups) {
    Team t{id, n, 0, 1, 0, 1, false, all, groups};
    if (n > 1) {
        t.groups = best_groups(q, G, n);
        t.slices = best_slices(q, G, t.groups, n / t.groups);
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
    // a decoder's step: what its product adds up, h₋₁·R at the end, on top of C or, if fresh, of the bias
    const Factors<T>* factors = nullptr;
    int factor_count = 0;
    bool fresh = false;
    Packed<T> W_high{}, R_high{};  // forward: of gates past the fourth

    T* h_n(int i) const { return static_cast<T*>(d.h_n) + p.index[i] * q.P; }
    T* c_n(int k, int i) const { return static_cast<T*>(d.c_n) + (k - 1) * d.c_next + p.index[i] * q.H; }
    T* y(int s_, int i) const { return static_cast<T*>(d.y) + p.time(d, s_, i) * d.y_t + p.index[i] * d.y_b; }
    const T* h_0(int i) const { return d.h_0 ? static_cast<const T*>(d.h_0) + p.index[i] * q.P : p.zeros; }
    // whether the state is set anew before step s
    bool reset(int s_, int i) const {
        if (!q.reset) return false;
        const int t = p.time(d, s_, i) + d.reverse;
        return t < p.length[i] && q.reset[t * q.reset_t + p.index[i] * q.reset_b];
    }
    const T* h_before(int s_, int i) const {
        if (reset(s_, i)) return d.reset_h ? static_cast<const T*>(d.reset_h) + p.index[i] * q.P : p.zeros;
        return s_ == 0 ? h_0(i) : y(s_ - 1, i);
    }
    const T* cell_before(int s_, int i) const {
        if (reset(s_, i)) return ds.reset ? ds.reset + i * p.cell_stride : p.zeros;
        return cell(s_ - 1, i);
    }
    // h₋₁ as R sees it
    const T* operand(int s_, int i) const {
        return p.cell.spec ? cell_before(s_, i) + p.cell.operand * p.wide : h_before(s_, i);
    }
    const T* x(int s_, int i) const { return static_cast<const T*>(q.x) + p.time(d, s_, i) * q.x_t + p.index[i] * q.x_b; }
    ptrdiff_t code(int s_, int i) const { return q.codes[p.time(d, s_, i) * q.codes_t + p.index[i] * q.codes_b]; }
    // biases, as rows of W's panels: those of gate g from unit u on
    T* bias_x(int g, ptrdiff_t u) const {
        if (p.cell.plain) return ds.bias_x + u;
        const int low = p.cell.G < kMaxNV ? p.cell.G : kMaxNV;
        return g < low ? ds.bias_x + u * low + g * VL<T> : ds.bias_x + low * p.Hp + u * (p.cell.G - low) + (g - low) * VL<T>;
    }
    T* gates(int s_, int i) const { return ds.gates + p.row(s_, i, base) * p.gates_stride(); }
    T* hidden(int s_, int i) const { return ds.hidden + p.row(s_, i, base) * p.Hp; }
    T* cell(int s_, int i) const { return ds.cell + p.cell_row(s_, i, base, turns) * p.cell_stride; }
    T* checkpoint(int segment, int i) const { return static_cast<T*>(d.c) + (segment * q.B + i) * p.cell_stride; }
    // rows of this group among the first `rows`, and the r-th of them: every groups-th, so that ragged groups run equally
    // long
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
FR_INLINE void gemm_then(const Step<T>& st, const Factors<T>* factors, int count, T* const* c, int m, const Columns<T>& cols,
                         Epilogue&& epilogue) {
    const Packed<T>& B = *factors[0].B;
    const Range own = st.panels(B);
    const int at_once = panels_at_once<T>(m, B.NV);
    for (int p = own.first; p < own.last; p += at_once) {
        const int last = p + at_once < own.last ? p + at_once : own.last;
        gemm_panels(factors, count, c, m, p, last, cols);
        const ptrdiff_t u0 = ptrdiff_t(p) * B.width(), u1 = ptrdiff_t(last) * B.width();
        epilogue(u0, u1 < B.N ? u1 : B.N);
    }
}
template <class T, class Epilogue>
FR_INLINE void gemm_then(const Step<T>& st, const T* const* a, T* const* c, int m, const Segments& k, const Packed<T>& B,
                         const Columns<T>& cols, Epilogue&& epilogue) {
    const Factors<T> one{a, k, &B};
    gemm_then(st, &one, 1, c, m, cols, epilogue);
}
// The same for h₋₁·R, after x·W or on top of it: C holds that, or starts from the bias.
template <class T, class Epilogue>
FR_INLINE void recurrent_then(const Step<T>& st, Columns<T> cols, Epilogue&& epilogue) {
    const Factors<T> both[2] = {{st.ts.x, Segments{1, st.q.I, {0}}, &st.W}, {st.ts.h_prev, Segments{1, st.q.P, {0}}, &st.R}};
    if (st.p.fused || st.fresh) cols.bias = st.ds.bias_x, cols.from_c = 0u;
    const bool own = st.factors;
    gemm_then(st, own ? st.factors : both + !st.p.fused, own ? st.factor_count : 1 + st.p.fused, st.ts.gates, st.m, cols,
              epilogue);
}

template <class T>
void copy_n(T* dst, const T* src, ptrdiff_t n) {
    if (n <= 0) return;
    if (src)
        std::memcpy(dst, src, size_t(n) * sizeof(T));
    else
        std::memset(dst, 0, size_t(n) * sizeof(T));
}

// zeros past each row's length, for rows id, id+n, …
template <class T>
void zero_padding(const Plan<T>& p, T* y, ptrdiff_t stride_t, ptrdiff_t stride_b, ptrdiff_t width, int id, int n) {
    if (!p.q->lengths) return;
    for (int i = id; i < p.q->B; i += n)
        for (ptrdiff_t t = p.length[i]; t < p.q->T; ++t) copy_n<T>(y + t * stride_t + p.index[i] * stride_b, nullptr, width);
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

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
