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
#include "given.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr double kNormEpsilon = 1e-5;
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

// v becomes N(v) for the gates' sections, which are zero past H; returns 1/sqrt(var + ε)
template <class T>
T normalise(const Plan<T>& p, T* row, int which, const Gates& gates) {
    using V = typename Simd<T>::V;
    const ptrdiff_t H = p.q->H, Hp = p.Hp;
    T* const v = row + norm_section(p, which, gates.first);
    const int count = gates.last - gates.first;
    const T n = T(count * H);
    V sum[4] = {}, square[4] = {};
    for (int g = 0; g < count; ++g)
        each_unit<T>(H, [&, at = v + g * Hp](ptrdiff_t u, int k, V) { sum[k] = sum[k] + load(at + u); });
    const V mean = broadcast(total<T>(sum) / n);
    for (int g = 0; g < count; ++g)
        each_unit<T>(H, [&, at = v + g * Hp](ptrdiff_t u, int k, V mask) {
            const V d = (load(at + u) - mean) * mask;
            square[k] = fma(d, d, square[k]);
        });
    const T rsd = T(1 / __builtin_sqrt(double(total<T>(square) / n) + kNormEpsilon));
    const V scale = broadcast(rsd);
    for (int g = 0; g < count; ++g)
        each_unit<T>(H, [&, at = v + g * Hp](ptrdiff_t u, int, V mask) { store(at + u, (load(at + u) - mean) * scale * mask); });
    return rsd;
}

// z of a group of gates for rows r0 … r1-1 of this step
template <class T>
void norm_rows(const Step<T>& st, int r0, int r1, const Gates& gates) {
    using V = typename Simd<T>::V;
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    for (int r = r0; r < r1; ++r) {
        T* row = st.ts.gates[r];
        for (int which = kNormX; which <= kNormR; ++which)
            *deviation(p, row, which, gates.group) = normalise(p, row, which, gates);
        for (int g = gates.first; g < gates.last; ++g) {
            const T *x = row + norm_section(p, kNormX, g), *h = row + norm_section(p, kNormR, g);
            const T *gain_x = norm_row(st, kNormGainX, g), *gain_r = norm_row(st, kNormGainR, g);
            const T *bias_x = norm_row(st, kNormBiasX, g), *bias_r = norm_row(st, kNormBiasR, g);
            T *z = row + spec.section_x[g] * p.Hp, *apart = row + spec.section_r[g] * p.Hp;
            each_unit<T>(p.q->H, [&](ptrdiff_t u, int, V) {
                const V from_x = fma(load(x + u), load(gain_x + u), load(bias_x + u));
                const V from_r = fma(load(h + u), load(gain_r + u), load(bias_r + u));
                if (z == apart) {
                    store(z + u, from_x + from_r);
                } else {
                    store(z + u, from_x);
                    store(apart + u, from_r);
                }
            });
        }
    }
}

// sums of row i: of dz (x·W's side; h₋₁·R's side where that is apart), of dz ⊙ N(x·W), of dz ⊙ N(h₋₁·R)
enum { kSumX = 0, kSumR = 1, kSumGainX = 2, kSumGainR = 3 };
template <class T>
T* row_sums(const Step<T>& st, int i, int kind, int gate) {
    return st.ds.sums + ((ptrdiff_t(i) * 4 + kind) * st.p.cell.G + gate) * st.p.Hp;
}

// The gradient at v from g = gain ⊙ dz and N(v), in place of N(v): (g − mean(g) − N(v)·mean(g ⊙ N(v)))/sqrt(var + ε); zero past
// H. Row i's sums go on.
template <class T>
void norm_backward(const Step<T>& st, T* row, int i, int which, const Gates& gates) {
    using V = typename Simd<T>::V;
    const Plan<T>& p = st.p;
    const CellSpec& spec = *p.cell.spec;
    const ptrdiff_t H = p.q->H, Hp = p.Hp;
    const int64_t* section = which ? spec.section_r : spec.section_x;
    V sum[4] = {}, with[4] = {};
    for (int g = gates.first; g < gates.last; ++g) {
        const T *dz = row + section[g] * Hp, *v = row + norm_section(p, which, g);
        const T* gain = norm_row(st, which ? kNormGainR : kNormGainX, g);
        T *bias_sum = row_sums(st, i, which ? kSumR : kSumX, g), *gain_sum = row_sums(st, i, which ? kSumGainR : kSumGainX, g);
        const bool again = which && spec.section_r[g] == spec.section_x[g];
        each_unit<T>(H, [&](ptrdiff_t u, int k, V mask) {
            const V z = load(dz + u) * mask, n = load(v + u), d = z * load(gain + u);
            sum[k] = sum[k] + d;
            with[k] = fma(d, n, with[k]);
            store(gain_sum + u, fma(z, n, load(gain_sum + u)));
            if (!again) store(bias_sum + u, load(bias_sum + u) + z);
        });
    }
    const T n = T((gates.last - gates.first) * H);
    const V mean = broadcast(total<T>(sum) / n), slope = broadcast(total<T>(with) / n);
    const V rsd = broadcast(*deviation(p, row, which, gates.group));
    for (int g = gates.first; g < gates.last; ++g) {
        const T *dz = row + section[g] * Hp, *gain = norm_row(st, which ? kNormGainR : kNormGainX, g);
        T* v = row + norm_section(p, which, g);
        each_unit<T>(H, [&](ptrdiff_t u, int, V mask) {
            store(v + u, (load(dz + u) * load(gain + u) - fma(load(v + u), slope, mean)) * rsd * mask);
        });
    }
}
template <class T>
void norm_backward_rows(const Step<T>& st, int r0, int r1, const Gates& gates) {
    for (int r = r0; r < r1; ++r)
        for (int which = kNormX; which <= kNormR; ++which) norm_backward(st, st.ts.gates[r], st.row(r), which, gates);
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
