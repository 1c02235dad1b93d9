// norm.h: layer norm inside given cells (Ba, Kiros & Hinton 2016): of x·W and of h₋₁·R, each over the units of all gates, or of
// a cell's first gates (Sequence::norm of them) and the others apart.
//
//   N(v) = (v − mean)/sqrt(var + ε)        z = gain_x ⊙ N(x·W) + b_w + gain_r ⊙ N(h₋₁·R) + b_r
//
// After a cell's own sections a row of `gates` has G of x·W, then N(x·W), and on the way back its gradient; G of h₋₁·R, then
// N(h₋₁·R); G of the gradient at h₋₁·R; and 1/sqrt(var + ε) of each. The rows of a group of the batch are shared among its
// slices, each whole.
#pragma once
#include "given.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr double kNormEpsilon = 1e-5;

template <class T>
ptrdiff_t norm_section(const Plan<T>& p, int which, int gate) {  // which: 0 x·W, 1 h₋₁·R, 2 the gradient at h₋₁·R
    return (p.cell.spec->sections + which * p.cell.G + gate) * p.Hp;
}
// 1/sqrt(var + ε) of x·W (0) or h₋₁·R (1) in group 0 or 1
template <class T>
T* deviation(const Plan<T>& p, T* row, int which, int group) {
    return row + norm_section(p, 3, 0) + 2 * which + group;
}

struct Gates {  // of a group that is normalised together
    int first, last, group;
};
template <class T>
Gates norm_group(const Plan<T>& p, int group) {
    return group ? Gates{p.q->norm, p.cell.G, 1} : Gates{0, p.q->norm, 0};
}

// f(gate, unit, mask) for all units of the gates; mask: ones, zeros past H
template <class T, class F>
FR_INLINE void each_normed(const Plan<T>& p, const Gates& gates, F&& f) {
    using V = typename Simd<T>::V;
    const ptrdiff_t H = p.q->H, whole = H / VL<T> * VL<T>;
    const V one = broadcast(T(1));
    T ones[VL<T>];
    store(ones, one);
    const V some = load_n(ones, int(H - whole));
    for (ptrdiff_t u = 0; u < whole; u += VL<T>)
        for (int g = gates.first; g < gates.last; ++g) f(g, u, one);
    if (whole < H)
        for (int g = gates.first; g < gates.last; ++g) f(g, whole, some);
}

// mean and 1/sqrt(var + ε) of the gates' sections, which are zero past H
template <class T>
void moments(const Plan<T>& p, const T* row, int which, const Gates& gates, T& mean, T& rsd) {
    using V = typename Simd<T>::V;
    V sum[4] = {}, square[4] = {};
    each_normed(p, gates, [&](int g, ptrdiff_t u, V) { sum[g & 3] = sum[g & 3] + load(row + norm_section(p, which, g) + u); });
    const T n = T((gates.last - gates.first) * p.q->H);
    mean = reduce_add<T>((sum[0] + sum[1]) + (sum[2] + sum[3])) / n;
    const V m = broadcast(mean);
    each_normed(p, gates, [&](int g, ptrdiff_t u, V mask) {
        const V d = (load(row + norm_section(p, which, g) + u) - m) * mask;
        square[g & 3] = fma(d, d, square[g & 3]);
    });
    const T var = reduce_add<T>((square[0] + square[1]) + (square[2] + square[3])) / n;
    rsd = T(1) / T(__builtin_sqrt(double(var + T(kNormEpsilon))));
}

// z of a group of gates for rows r0 … r1-1 of this step
template <class T>
void norm_rows(const Step<T>& st, int r0, int r1, const Gates& gates) {
    using V = typename Simd<T>::V;
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    for (int r = r0; r < r1; ++r) {
        T* row = st.ts.gates[r];
        T mean[2], rsd[2];
        for (int which = 0; which < 2; ++which) {
            moments(p, row, which, gates, mean[which], rsd[which]);
            *deviation(p, row, which, gates.group) = rsd[which];
        }
        const V mx = broadcast(mean[0]), mr = broadcast(mean[1]), sx = broadcast(rsd[0]), sr = broadcast(rsd[1]);
        each_normed(p, gates, [&](int g, ptrdiff_t u, V mask) {
            T *x_at = row + norm_section(p, 0, g) + u, *r_at = row + norm_section(p, 1, g) + u;
            const V x = (load(x_at) - mx) * sx * mask, h = (load(r_at) - mr) * sr * mask;
            if (!st.turns) {
                store(x_at, x);
                store(r_at, h);
            }
            const V from_x = fma(x, load(norm_row(st, kNormGainX, g) + u), load(norm_row(st, kNormBiasX, g) + u));
            const V from_r = fma(h, load(norm_row(st, kNormGainR, g) + u), load(norm_row(st, kNormBiasR, g) + u));
            if (spec.section_x[g] == spec.section_r[g]) {
                store(row + spec.section_x[g] * p.Hp + u, from_x + from_r);
            } else {
                store(row + spec.section_x[g] * p.Hp + u, from_x);
                store(row + spec.section_r[g] * p.Hp + u, from_r);
            }
        });
    }
}

// The gradient at v from g = gain ⊙ dz and N(v): (g − mean(g) − N(v)·mean(g ⊙ N(v)))/sqrt(var + ε); zero past H. `to`: 0 in place
// of N(x·W), 2 beside N(h₋₁·R)
template <class T>
void norm_backward(const Step<T>& st, T* row, int which, int to, const Gates& gates) {
    using V = typename Simd<T>::V;
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    const int64_t* section = which ? spec.section_r : spec.section_x;
    const int gain = which ? kNormGainR : kNormGainX;
    V sum[4] = {}, with[4] = {};
    each_normed(p, gates, [&](int g, ptrdiff_t u, V mask) {
        const V d = load(row + section[g] * p.Hp + u) * mask * load(norm_row(st, gain, g) + u);
        sum[g & 3] = sum[g & 3] + d;
        with[g & 3] = fma(d, load(row + norm_section(p, which, g) + u), with[g & 3]);
    });
    const T n = T((gates.last - gates.first) * p.q->H);
    const V mean = broadcast(reduce_add<T>((sum[0] + sum[1]) + (sum[2] + sum[3])) / n);
    const V slope = broadcast(reduce_add<T>((with[0] + with[1]) + (with[2] + with[3])) / n);
    const V rsd = broadcast(*deviation(p, row, which, gates.group));
    each_normed(p, gates, [&](int g, ptrdiff_t u, V mask) {
        const V d = load(row + section[g] * p.Hp + u) * load(norm_row(st, gain, g) + u);
        const V v = load(row + norm_section(p, which, g) + u);
        store(row + norm_section(p, to, g) + u, (d - fma(v, slope, mean)) * rsd * mask);
    });
}

// A chunk's gradient at x·W in place of N(x·W), and that of its gain; by all threads of the team
template <class T>
void normed_inputs_backward(const Step<T>& st, int s1) {
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    int n = 0;
    for (int s = st.s0; s < s1; ++s)
        for (int i = 0; i < p.active[s]; ++i) st.ts.c[n++] = st.gates(s, i);
    const Range own = share(int(st.q.H), st.team.id, st.team.n), rows = share(n, st.team.id, st.team.n);
    for (int g = 0; st.d.dgain_x && g < p.cell.G; ++g)
        product_sums<T>(st.ts.c, n, spec.section_x[g] * p.Hp, norm_section(p, 0, g), own,
                        static_cast<T*>(st.d.dgain_x) + g * st.q.H);
    barrier_wait(st.team.all, st.team.n);
    for (int r = rows.first; r < rows.last; ++r)
        for (int group = 0; group < (st.q.norm < p.cell.G ? 2 : 1); ++group)
            norm_backward(st, st.ts.c[r], 0, 0, norm_group(p, group));
    barrier_wait(st.team.all, st.team.n);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
