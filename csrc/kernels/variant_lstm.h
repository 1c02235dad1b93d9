// variant_lstm.h: long short-term memory with peepholes (Gers & Schmidhuber 2000), coupled gates (Greff et al. 2017), layer
// normalisation of c (Ba et al. 2016), any activations and a clip; plain in cell_lstm.h.
//
//   i, f = f(z_i + p_i ⊙ c₋₁), f(z_f + p_f ⊙ c₋₁)      coupled: f = 1 − i
//   g = g(z_g)
//   c = f ⊙ c₋₁ + i ⊙ g
//   o = f(z_o + p_o ⊙ c)
//   h = o ⊙ h(c)                                          with norm_c: h = o ⊙ h(gain ⊙ N(c) + bias)
//
// A clip limits the arguments of f and g, not that of h, as in ONNX Runtime. Sections of `gates`: i, f, g, o (coupled: i, g, o)
// with z, then what the gates save, and on the way back dz; then the vectors' terms. c is computed again on the way back, for
// the state after a step need not be this c (zoneout).
#pragma once
#include "activations.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// sections and vectors; what isn't there is 0
struct LstmLayout {
    int f, g, o;
    int p_f, p_o, gain, bias;  // p_i: 0
    int v;                     // section of the first vector's terms
};
FR_INLINE LstmLayout lstm_layout(const VariantSettings& q) {
    const int uncoupled = !q.coupled, peepholes = q.peephole ? 2 + uncoupled : 0;
    return {uncoupled, 1 + uncoupled, 2 + uncoupled, uncoupled, 1 + uncoupled, peepholes, peepholes + 1, 3 + uncoupled};
}

// N of a row's c
template <class T>
struct RowNorm {
    typename Simd<T>::V mean, rstd;
};

// Σ of body(u) over a row's units
template <class T, class Body>
FR_INLINE T sum_of_units(ptrdiff_t units, Body body) {
    typename Simd<T>::V s = zero<T>();
    ptrdiff_t u = 0;
    for (; u + VL<T> <= units; u += VL<T>) s = s + body(u);
    if (u < units) s = s + within<T>(body(u), units - u);
    return reduce_add<T>(s);
}
// c_at(u): c of units u …
template <class T, class Body>
FR_INLINE RowNorm<T> row_norm(ptrdiff_t units, Body c_at) {
    const auto mean = broadcast(T(double(sum_of_units<T>(units, c_at)) / double(units)));
    const double squares = double(sum_of_units<T>(units, [=](ptrdiff_t u) {
        const auto d = c_at(u) - mean;
        return d * d;
    }));
    return {mean, broadcast(T(1 / __builtin_sqrt(squares / double(units) + kLayerNormEps)))};
}

template <class T, class Gates, bool kNorm>
void lstm_variant_forward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const VariantSettings& q = t.settings();
    const typename Gates::Gate gate(q.activation[0], q.clip);
    const typename Gates::Candidate candidate(q.activation[1], q.clip), output(q.activation[2], 0);
    const LstmLayout at = lstm_layout(q);
    const ptrdiff_t s = tile->section, f_ = at.f * s, g_ = at.g * s, o_ = at.o * s;
    const bool save = tile->save, peephole = q.peephole, coupled = q.coupled;
    const T *p_i = nullptr, *p_f = nullptr, *p_o = nullptr;
    if (peephole) p_i = t.vector(0), p_f = t.vector(at.p_f), p_o = t.vector(at.p_o);
    for (ptrdiff_t r = 0; r < tile->rows; ++r) {
        T *z = t.gates(r), *h = t.after(0, r), *c_new = t.after(1, r);
        const T* c_prev = t.before(1, r);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_i, save_f, save_g, save_o;
            const V c_old = load(c_prev + u);
            V z_i = load(z + u);
            if (peephole) z_i = fma(load(p_i + u), c_old, z_i);
            const V i = gate(z_i, save_i), g = candidate(load(z + g_ + u), save_g);
            V f;
            if (coupled) {
                f = broadcast(T(1)) - i;
            } else {
                V z_f = load(z + f_ + u);
                if (peephole) z_f = fma(load(p_f + u), c_old, z_f);
                f = gate(z_f, save_f);
                if (save) store(z + f_ + u, save_f);
            }
            const V c = fma(f, c_old, i * g);
            V z_o = load(z + o_ + u);
            if (peephole) z_o = fma(load(p_o + u), c, z_o);
            const V o = gate(z_o, save_o);
            if (save) {
                store(z + u, save_i);
                store(z + g_ + u, save_g);
            }
            if (kNorm || save) store(z + o_ + u, save_o);
            store(c_new + u, c);
            if (!kNorm) {
                V unsaved;
                store(h + u, o * output(c, unsaved));
            }
        });
        if (!kNorm) continue;
        const ptrdiff_t units = tile->units;
        const RowNorm<T> norm = row_norm<T>(units, [=](ptrdiff_t u) { return load(c_new + u); });
        const T *gain = t.vector(at.gain), *bias = t.vector(at.bias);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V unsaved;
            const V n = within<T>((load(c_new + u) - norm.mean) * norm.rstd, units - u);
            store(h + u, gate.back(load(z + o_ + u)).value * output(fma(load(gain + u), n, load(bias + u)), unsaved));
        });
    }
}

template <class T, class Gates, bool kNorm>
void lstm_variant_backward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const VariantSettings& q = t.settings();
    const typename Gates::Gate gate(q.activation[0], q.clip);
    const typename Gates::Candidate candidate(q.activation[1], q.clip), output(q.activation[2], 0);
    const LstmLayout at = lstm_layout(q);
    const ptrdiff_t s = tile->section, f_ = at.f * s, g_ = at.g * s, o_ = at.o * s, v_ = at.v * s;
    const bool peephole = q.peephole, coupled = q.coupled;
    const T *p_i = nullptr, *p_f = nullptr, *p_o = nullptr;
    if (peephole) p_i = t.vector(0), p_f = t.vector(at.p_f), p_o = t.vector(at.p_o);
    const ptrdiff_t vf_ = v_ + at.p_f * s, vo_ = v_ + at.p_o * s;
    for (ptrdiff_t r = 0; r < tile->rows; ++r) {
        T *z = t.gates(r), *dh = t.gradient(0, r), *dc_row = t.gradient(1, r);
        const T* c_prev = t.before(1, r);
        auto forget = [=](ptrdiff_t u, V i) -> Activated<T> {
            if (coupled) return {broadcast(T(1)) - i, zero<T>()};
            return gate.back(load(z + f_ + u));
        };
        RowNorm<T> norm = {};
        V mean_dn = zero<T>(), mean_dn_n = zero<T>();
        const ptrdiff_t units = tile->units, gain_ = v_ + at.gain * s, bias_ = v_ + at.bias * s;
        const T* gain = nullptr;
        auto cell = [=](ptrdiff_t u) {
            const V i = gate.back(load(z + u)).value;
            return fma(forget(u, i).value, load(c_prev + u), i * candidate.back(load(z + g_ + u)).value);
        };
        if (kNorm) {  // h = o ⊙ h(gain ⊙ n + bias), n = N(c): gradients at the gain's and the bias's argument, and z_o
            gain = t.vector(at.gain);
            const T* bias = t.vector(at.bias);
            norm = row_norm<T>(units, cell);
            each_unit<T>(*tile, [=](ptrdiff_t u) {
                const V n = within<T>((cell(u) - norm.mean) * norm.rstd, units - u), d = load(dh + u);
                const Activated<T> o = gate.back(load(z + o_ + u)), a = output.both(fma(load(gain + u), n, load(bias + u)));
                const V da = d * o.value * a.slope;
                store(z + o_ + u, d * a.value * o.slope);
                store(z + gain_ + u, da * n);
                store(z + bias_ + u, da);
            });
            auto mean = [=](ptrdiff_t section) {
                const T* terms = z + section;
                const T total = sum_of_units<T>(units, [=](ptrdiff_t u) { return load(terms + u) * load(gain + u); });
                return broadcast(T(double(total) / double(units)));
            };
            mean_dn = mean(bias_), mean_dn_n = mean(gain_);
        }
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const V c_old = load(c_prev + u);
            const Activated<T> i = gate.back(load(z + u)), g = candidate.back(load(z + g_ + u)), f = forget(u, i.value);
            const V c = fma(f.value, c_old, i.value * g.value);
            V dc = load(dc_row + u), dz_o;
            if (kNorm) {
                const V n = (c - norm.mean) * norm.rstd, dn = load(z + bias_ + u) * load(gain + u);
                dc = fma(norm.rstd, fnma(n, mean_dn_n, dn - mean_dn), dc);  // n = N(c)
                dz_o = load(z + o_ + u);
            } else {
                const Activated<T> o = gate.back(load(z + o_ + u)), a = output.both(c);
                const V d = load(dh + u);
                dc = fma(d * o.value, a.slope, dc);  // h = o ⊙ h(c)
                dz_o = d * a.value * o.slope;
                store(z + o_ + u, dz_o);
            }
            if (peephole) dc = fma(dz_o, load(p_o + u), dc);                      // o = f(z_o + p_o ⊙ c)
            const V dz_i = dc * (coupled ? g.value - c_old : g.value) * i.slope;  // c = f ⊙ c₋₁ + i ⊙ g, f = 1 − i
            V dc_old = dc * f.value;
            store(z + u, dz_i);
            store(z + g_ + u, dc * i.value * g.slope);
            if (peephole) {
                dc_old = fma(dz_i, load(p_i + u), dc_old);  // i = f(z_i + p_i ⊙ c₋₁)
                store(z + v_ + u, dz_i * c_old);
                store(z + vo_ + u, dz_o * c);
            }
            if (!coupled) {
                const V dz_f = dc * c_old * f.slope;
                store(z + f_ + u, dz_f);
                if (peephole) {
                    dc_old = fma(dz_f, load(p_f + u), dc_old);  // f = f(z_f + p_f ⊙ c₋₁)
                    store(z + vf_ + u, dz_f * c_old);
                }
            }
            store(dc_row + u, dc_old);
            store(dh + u, zero<T>());
        });
    }
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
