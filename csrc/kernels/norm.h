// norm.h: layer norm inside given cells (Ba, Kiros & Hinton 2016): of x·W and of h₋₁·R, each over the units of all gates, or of
// a cell's first gates (Sequence::norm of them) and the others apart.
//
//   N(v) = (v − mean)/sqrt(var + ε)        z = gain_x ⊙ N(x·W) + b_w + gain_r ⊙ N(h₋₁·R) + b_r
//
// After a cell's own sections a row of `gates` has G of x·W, then N(x·W), and on the way back its gradient; G of h₋₁·R alike;
// and 1/sqrt(var + ε) of each. The rows of a group of the batch are shared among its slices, each whole.
//
// Note [sums over rows]: gradients of gains and biases are summed for each row of the batch apart, while it is in cache, and
// over the rows at the end: an order that no split of the work changes.
#pragma once
#include "../variant.h"
#include "given.h"

namespace fastrnn {
namespace FASTRNN_ISA {

enum { kNormX = 0, kNormR = 1 };  // of x·W, of h₋₁·R

template <class T>
ptrdiff_t norm_section(const Plan<T>& p, int which, int gate) {
    return (p.cell.spec->sections + which * p.cell.G + gate) * p.Hp;
}
// 1/sqrt(var + ε) in group 0 or 1
template <class T>
T* deviation(const Plan<T>& p, T* row, int which, int group) {
    return row + norm_section(p, 2, 0) + 2 * which + group;
}

struct Gates {  // of a group that is normalised together
    int first, last, group;
};
template <class T>
Gates norm_group(const Plan<T>& p, int group) {
    return group ? Gates{p.q->norm, p.cell.G, 1} : Gates{0, p.q->norm, 0};
}

// f(unit, which of four sums, mask) for one gate's units; mask: ones, zeros past H
template <class T, class F>
FR_INLINE void each_unit(ptrdiff_t H, F&& f) {
    const auto one = broadcast(T(1));
    ptrdiff_t u = 0;
    for (; u + 4 * VL<T> <= H; u += 4 * VL<T>) {
        FR_UNROLL
        for (int k = 0; k < 4; ++k) f(u + k * VL<T>, k, one);
    }
    for (; u + VL<T> <= H; u += VL<T>) f(u, 0, one);
    if (u < H) {
        T ones[VL<T>];
        store(ones, one);
        f(u, 1, load_n(ones, int(H - u)));
    }
}
template <class T>
FR_INLINE T total(const typename Simd<T>::V* sum) {
    return reduce_add<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// mean and 1/sqrt(var + ε) of the gates' sections, which are zero past H
template <class T>
void moments(const Plan<T>& p, const T* row, int which, const Gates& gates, T& mean, T& rsd) {
    using V = typename Simd<T>::V;
    const ptrdiff_t H = p.q->H, Hp = p.Hp;
    const T* const v = row + norm_section(p, which, gates.first);
    const int count = gates.last - gates.first;
    const T n = T(count * H);
    V sum[4] = {}, square[4] = {};
    for (int g = 0; g < count; ++g)
        each_unit<T>(H, [&, at = v + g * Hp](ptrdiff_t u, int k, V) { sum[k] = sum[k] + load(at + u); });
    mean = total<T>(sum) / n;
    const V m = broadcast(mean);
    for (int g = 0; g < count; ++g)
        each_unit<T>(H, [&, at = v + g * Hp](ptrdiff_t u, int k, V mask) {
            const V d = (load(at + u) - m) * mask;
            square[k] = fma(d, d, square[k]);
        });
    rsd = T(1 / __builtin_sqrt(double(total<T>(square) / n) + kLayerNormEps));
}

// z of a group of gates for row r of this step
template <class T>
void norm_row_of(const Step<T>& st, int r, const Gates& gates) {
    using V = typename Simd<T>::V;
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    T* row = st.ts.gates[r];
    T mean[2], rsd[2];
    for (int which = kNormX; which <= kNormR; ++which) {
        moments(p, row, which, gates, mean[which], rsd[which]);
        *deviation(p, row, which, gates.group) = rsd[which];
    }
    const V mx = broadcast(mean[kNormX]), mr = broadcast(mean[kNormR]);
    const V sx = broadcast(rsd[kNormX]), sr = broadcast(rsd[kNormR]);
    const bool save = !st.turns;
    for (int g = gates.first; g < gates.last; ++g) {
        T *x = row + norm_section(p, kNormX, g), *h = row + norm_section(p, kNormR, g);
        const T *gain_x = norm_row(st, kNormGainX, g), *gain_r = norm_row(st, kNormGainR, g);
        const T *bias_x = norm_row(st, kNormBiasX, g), *bias_r = norm_row(st, kNormBiasR, g);
        T *z = row + spec.section_x[g] * p.Hp, *apart = row + spec.section_r[g] * p.Hp;
        each_unit<T>(p.q->H, [&](ptrdiff_t u, int, V mask) {
            const V nx = (load(x + u) - mx) * sx * mask, nr = (load(h + u) - mr) * sr * mask;
            if (save) {
                store(x + u, nx);
                store(h + u, nr);
            }
            const V from_x = fma(nx, load(gain_x + u), load(bias_x + u)), from_r = fma(nr, load(gain_r + u), load(bias_r + u));
            if (z == apart) {
                store(z + u, from_x + from_r);
            } else {
                store(z + u, from_x);
                store(apart + u, from_r);
            }
        });
    }
}

// sums of row i: of dz (x·W's side; h₋₁·R's side where that is apart), of dz ⊙ N(x·W), of dz ⊙ N(h₋₁·R)
enum { kSumX = 0, kSumR = 1, kSumGainX = 2, kSumGainR = 3 };
template <class T>
T* row_sums(const Step<T>& st, int i, int kind, int gate) {
    return st.ds.sums + ((ptrdiff_t(i) * 4 + kind) * st.p.cell.G + gate) * st.p.Hp;
}

// The gradients at x·W and h₋₁·R of row r, in place of N(x·W) and N(h₋₁·R): from g = gain ⊙ dz,
// (g − mean(g) − N(v)·mean(g ⊙ N(v)))/sqrt(var + ε), zero past H. The row's sums go on.
template <class T>
void norm_backward(const Step<T>& st, int r, const Gates& gates) {
    using V = typename Simd<T>::V;
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    const ptrdiff_t H = p.q->H, Hp = p.Hp;
    T* const row = st.ts.gates[r];
    const int i = st.row(r);
    V sum_x[4] = {}, with_x[4] = {}, sum_r[4] = {}, with_r[4] = {};
    for (int g = gates.first; g < gates.last; ++g) {
        const T *dx = row + spec.section_x[g] * Hp, *dr = row + spec.section_r[g] * Hp;
        const T *x = row + norm_section(p, kNormX, g), *h = row + norm_section(p, kNormR, g);
        const T *gain_x = norm_row(st, kNormGainX, g), *gain_r = norm_row(st, kNormGainR, g);
        T *bias_sum = row_sums(st, i, kSumX, g), *apart_sum = row_sums(st, i, kSumR, g);
        T *x_sum = row_sums(st, i, kSumGainX, g), *r_sum = row_sums(st, i, kSumGainR, g);
        each_unit<T>(H, [&](ptrdiff_t u, int k, V mask) {
            const V zx = load(dx + u) * mask, zr = dx == dr ? zx : load(dr + u) * mask, nx = load(x + u), nr = load(h + u);
            const V gx = zx * load(gain_x + u), gr = zr * load(gain_r + u);
            sum_x[k] = sum_x[k] + gx;
            sum_r[k] = sum_r[k] + gr;
            with_x[k] = fma(gx, nx, with_x[k]);
            with_r[k] = fma(gr, nr, with_r[k]);
            store(x_sum + u, fma(zx, nx, load(x_sum + u)));
            store(r_sum + u, fma(zr, nr, load(r_sum + u)));
            store(bias_sum + u, load(bias_sum + u) + zx);
            if (dx != dr) store(apart_sum + u, load(apart_sum + u) + zr);
        });
    }
    const T n = T((gates.last - gates.first) * H);
    const V mean_x = broadcast(total<T>(sum_x) / n), slope_x = broadcast(total<T>(with_x) / n);
    const V mean_r = broadcast(total<T>(sum_r) / n), slope_r = broadcast(total<T>(with_r) / n);
    const V rsd_x = broadcast(*deviation(p, row, kNormX, gates.group));
    const V rsd_r = broadcast(*deviation(p, row, kNormR, gates.group));
    for (int g = gates.first; g < gates.last; ++g) {
        const T *dx = row + spec.section_x[g] * Hp, *dr = row + spec.section_r[g] * Hp;
        T *x = row + norm_section(p, kNormX, g), *h = row + norm_section(p, kNormR, g);
        const T *gain_x = norm_row(st, kNormGainX, g), *gain_r = norm_row(st, kNormGainR, g);
        each_unit<T>(H, [&](ptrdiff_t u, int, V mask) {
            store(x + u, (load(dx + u) * load(gain_x + u) - fma(load(x + u), slope_x, mean_x)) * rsd_x * mask);
            store(h + u, (load(dr + u) * load(gain_r + u) - fma(load(h + u), slope_r, mean_r)) * rsd_r * mask);
        });
    }
}
template <class T>
void norm_rows(const Step<T>& st, const Range& rows, const Gates& gates) {
    for (int r = rows.first; r < rows.last; ++r) norm_row_of(st, r, gates);
}
template <class T>
void norm_rows_backward(const Step<T>& st, const Range& rows, const Gates& gates) {
    for (int r = rows.first; r < rows.last; ++r) norm_backward(st, r, gates);
}

// Note [sums over rows], by the threads of a team, after all steps
template <class T>
void add_row_sums(const Step<T>& st) {
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    const Range own = share(int(p.Hp / VL<T>), st.team.id, st.team.n);
    const ptrdiff_t u0 = own.first * VL<T>, last = own.last * VL<T>, u1 = last < st.q.H ? last : st.q.H;
    void* const to[] = {st.d.db_w, st.d.db_r, st.d.dgain_x, st.d.dgain_r};
    for (int kind = 0; kind < 4; ++kind)
        for (int g = 0; to[kind] && g < p.cell.G; ++g) {
            const int from = kind == kSumR && spec.section_r[g] == spec.section_x[g] ? int(kSumX) : kind;
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                T* at = static_cast<T*>(to[kind]) + g * st.q.H + u;
                auto sum = load_n(at, lanes);
                for (int i = 0; i < int(st.q.B); ++i) sum = sum + load(row_sums(st, i, from, g) + u);
                store_n(at, sum, lanes);
            });
        }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
