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
// with z, then what the gates save, and on the way back dz; then the vectors' terms, of which those of gain and bias hold N(c)
// and (in the first element) 1/√(var + eps) until then. c is computed again on the way back, for the state after a step need
// not be this c (zoneout).
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

// whether a function is compiled for peepholes
enum class Peepholes { kNo, kYes, kPerhaps };

// Σ of body(u) over a row's units
template <class T, class Body>
FR_INLINE T sum_of_units(ptrdiff_t units, Body body) {
    typename Simd<T>::V s = zero<T>();
    ptrdiff_t u = 0;
    for (; u + VL<T> <= units; u += VL<T>) s = s + body(u);
    if (u < units) s = s + within<T>(body(u), units - u);
    return reduce_add<T>(s);
}

// Rows that go through each loop in turn, so that what waits for a row's end (sums of N(c), o and h) waits for no other's.
constexpr ptrdiff_t kRowsInTurn = 8;

template <class T, class Gates, bool kNorm, Peepholes kPeepholes>
void lstm_variant_forward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const VariantSettings& q = t.settings();
    const typename Gates::Gate gate(q.activation[0], q.clip);
    const typename Gates::Candidate candidate(q.activation[1], q.clip);
    const typename Gates::Output output(q.activation[2], 0);
    const LstmLayout at = lstm_layout(q);
    const ptrdiff_t s = tile->section, f_ = at.f * s, g_ = at.g * s, o_ = at.o * s;
    const bool peephole = kPeepholes == Peepholes::kPerhaps ? q.peephole : kPeepholes == Peepholes::kYes;
    const bool save = tile->save, coupled = q.coupled;
    const ptrdiff_t units = tile->units, gain_ = (at.v + at.gain) * s, bias_ = (at.v + at.bias) * s;
    const T *p_i = nullptr, *p_f = nullptr, *p_o = nullptr, *gain = nullptr, *bias = nullptr;
    if (peephole) p_i = t.vector(0), p_f = t.vector(at.p_f), p_o = t.vector(at.p_o);
    if (kNorm) gain = t.vector(at.gain), bias = t.vector(at.bias);
    auto cell = [=](ptrdiff_t r) {
        T *z = t.gates(r), *c_new = t.after(1, r);
        const T* c_prev = t.before(1, r);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_i, save_f, save_g, f;
            const V c_old = load(c_prev + u);
            V z_i = load(z + u);
            if (peephole) z_i = fma(load(p_i + u), c_old, z_i);
            const V i = gate(z_i, save_i), g = candidate(load(z + g_ + u), save_g);
            if (coupled) {
                f = broadcast(T(1)) - i;
            } else {
                V z_f = load(z + f_ + u);
                if (peephole) z_f = fma(load(p_f + u), c_old, z_f);
                f = gate(z_f, save_f);
                if (save) store(z + f_ + u, save_f);
            }
            if (save) {
                store(z + u, save_i);
                store(z + g_ + u, save_g);
            }
            store(c_new + u, fma(f, c_old, i * g));
        });
    };
    auto output_gate = [=](ptrdiff_t r, T mean_, T rstd_) {
        T *z = t.gates(r), *h = t.after(0, r);
        const T* c_new = t.after(1, r);
        const V mean = broadcast(mean_), rstd = broadcast(rstd_);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_o, unsaved;
            const V c = load(c_new + u);
            V z_o = load(z + o_ + u), a = c;
            if (peephole) z_o = fma(load(p_o + u), c, z_o);
            if (kNorm) {
                const V n = (c - mean) * rstd;
                a = fma(load(gain + u), n, load(bias + u));
                if (save) store(z + gain_ + u, n);
            }
            const V o = gate(z_o, save_o);
            if (save) store(z + o_ + u, save_o);
            store(h + u, o * output(a, unsaved));
        });
        if (kNorm && save) z[bias_] = rstd_;
    };
    for (ptrdiff_t r0 = 0; r0 < tile->rows; r0 += kRowsInTurn) {
        const ptrdiff_t n = tile->rows - r0 < kRowsInTurn ? tile->rows - r0 : kRowsInTurn;
        T mean[kRowsInTurn] = {}, rstd[kRowsInTurn] = {};
        for (ptrdiff_t k = 0; k < n; ++k) cell(r0 + k);
        if (kNorm) {
            auto average = [=](ptrdiff_t k, auto f) {
                const T* c = t.after(1, r0 + k);
                return double(sum_of_units<T>(units, [=](ptrdiff_t u) { return f(load(c + u)); })) / double(units);
            };
            for (ptrdiff_t k = 0; k < n; ++k) mean[k] = T(average(k, [](V c) { return c; }));
            for (ptrdiff_t k = 0; k < n; ++k) {
                const V m = broadcast(mean[k]);
                rstd[k] = T(1 / __builtin_sqrt(average(k, [=](V c) { return (c - m) * (c - m); }) + kLayerNormEps));
            }
        }
        for (ptrdiff_t k = 0; k < n; ++k) output_gate(r0 + k, mean[k], rstd[k]);
    }
}

template <class T, class Gates, bool kNorm, Peepholes kPeepholes>
void lstm_variant_backward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const VariantSettings& q = t.settings();
    const typename Gates::Gate gate(q.activation[0], q.clip);
    const typename Gates::Candidate candidate(q.activation[1], q.clip);
    const typename Gates::Output output(q.activation[2], 0);
    const LstmLayout at = lstm_layout(q);
    const ptrdiff_t s = tile->section, f_ = at.f * s, g_ = at.g * s, o_ = at.o * s, v_ = at.v * s;
    const bool peephole = kPeepholes == Peepholes::kPerhaps ? q.peephole : kPeepholes == Peepholes::kYes;
    const bool coupled = q.coupled;
    const T *p_i = nullptr, *p_f = nullptr, *p_o = nullptr;
    if (peephole) p_i = t.vector(0), p_f = t.vector(at.p_f), p_o = t.vector(at.p_o);
    const ptrdiff_t vf_ = v_ + at.p_f * s, vo_ = v_ + at.p_o * s, gain_ = v_ + at.gain * s, bias_ = v_ + at.bias * s;
    const ptrdiff_t units = tile->units;
    const T *gain = nullptr, *bias = nullptr;
    if (kNorm) gain = t.vector(at.gain), bias = t.vector(at.bias);
    for (ptrdiff_t r = 0; r < tile->rows; ++r) {
        T *z = t.gates(r), *dh = t.gradient(0, r), *dc_row = t.gradient(1, r);
        const T* c_prev = t.before(1, r);
        auto forget = [=](ptrdiff_t u, V i) -> Activated<T> {
            if (coupled) return {broadcast(T(1)) - i, zero<T>()};
            return gate.back(load(z + f_ + u));
        };
        V mean_dn = zero<T>(), mean_dn_n = zero<T>(), rstd = zero<T>();
        if (kNorm) {  // h = o ⊙ h(gain ⊙ n + bias), n = N(c): gradients at the argument of h, and at z_o
            rstd = broadcast(z[bias_]);
            each_unit<T>(*tile, [=](ptrdiff_t u) {
                const V n = load(z + gain_ + u), d = load(dh + u);
                const Activated<T> o = gate.back(load(z + o_ + u)), a = output.both(fma(load(gain + u), n, load(bias + u)));
                store(z + o_ + u, d * a.value * o.slope);
                store(z + bias_ + u, d * o.value * a.slope);
            });
            auto dn = [=](ptrdiff_t u) { return load(z + bias_ + u) * load(gain + u); };
            mean_dn = broadcast(T(double(sum_of_units<T>(units, dn)) / double(units)));
            const T dn_n = sum_of_units<T>(units, [=](ptrdiff_t u) { return dn(u) * load(z + gain_ + u); });
            mean_dn_n = broadcast(T(double(dn_n) / double(units)));
        }
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const V c_old = load(c_prev + u);
            const Activated<T> i = gate.back(load(z + u)), g = candidate.back(load(z + g_ + u)), f = forget(u, i.value);
            const V c = fma(f.value, c_old, i.value * g.value);
            V dc = load(dc_row + u), dz_o;
            if (kNorm) {
                const V n = load(z + gain_ + u), da = load(z + bias_ + u);
                dc = fma(rstd, fnma(n, mean_dn_n, da * load(gain + u) - mean_dn), dc);  // n = N(c)
                store(z + gain_ + u, da * n);
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
