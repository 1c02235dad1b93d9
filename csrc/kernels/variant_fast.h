// variant_fast.h: FastRNN and FastGRNN (Kusupati et al. 2018). There are no plain cells of these.
//
//   FastRNN    n = f(v)                             v = x·Wᵀ + b + h₋₁·Rᵀ
//              h = α ⊙ n + β ⊙ h₋₁
//   FastGRNN   z, n = f(v + b_z), g(v + b_h)        v = x·Wᵀ + h₋₁·Rᵀ
//              h = (ζ ⊙ (1 − z) + ν) ⊙ n + z ⊙ h₋₁
//
// Vectors: α, β; and b_z, b_h, ζ, ν. The scalars of the paper come with all units alike, after their σ.
//
// Sections of `gates`: 0 v; then FastRNN: what was saved of n, and on the way back 0 dv, 1 dα, 2 dβ; FastGRNN: 1, 2 what was
// saved of z and n, and on the way back 0 dv, 1 db_z, 2 db_h, 3 dζ, 4 dν.
#pragma once
#include "activations.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T, class F>
void fast_rnn_forward(const CellTile* tile) noexcept {
    const TileOf<T> t{*tile};
    const F f(t.settings().activation[0], t.settings().clip);
    const T *alpha = t.vector(0), *beta = t.vector(1);
    const bool save = tile->save;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *h = t.after(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            typename Simd<T>::V save_n;
            const auto n = f(load(a + u), save_n);
            if (save) store(a + u, save_n);
            store(h + u, fma(load(beta + u), load(h_prev + u), load(alpha + u) * n));
        });
    }
}

template <class T, class F>
void fast_rnn_backward(const CellTile* tile) noexcept {
    const TileOf<T> t{*tile};
    const F f(t.settings().activation[0], t.settings().clip);
    const T *alpha = t.vector(0), *beta = t.vector(1);
    const ptrdiff_t s = tile->section;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *gradient = t.gradient(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const Activated<T> n = f.back(load(a + u));
            const auto dh = load(gradient + u);
            store(a + u, dh * load(alpha + u) * n.slope);  // h = α ⊙ n + …
            store(a + s + u, dh * n.value);
            store(a + 2 * s + u, dh * load(h_prev + u));  // … + β ⊙ h₋₁
            store(gradient + u, dh * load(beta + u));
        });
    }
}

template <class T, class Gates>
void fast_grnn_forward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const typename Gates::Candidate g(t.settings().activation[1], t.settings().clip);
    const T *b_z = t.vector(0), *b_h = t.vector(1), *zeta = t.vector(2), *nu = t.vector(3);
    const ptrdiff_t s = tile->section;
    const bool save = tile->save;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *h = t.after(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_z, save_n;
            const V v = load(a + u), z = f(v + load(b_z + u), save_z), n = g(v + load(b_h + u), save_n);
            if (save) {
                store(a + s + u, save_z);
                store(a + 2 * s + u, save_n);
            }
            const V weight = fma(load(zeta + u), broadcast(T(1)) - z, load(nu + u));
            store(h + u, fma(weight, n, z * load(h_prev + u)));
        });
    }
}

template <class T, class Gates>
void fast_grnn_backward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const typename Gates::Candidate g(t.settings().activation[1], t.settings().clip);
    const T *zeta = t.vector(2), *nu = t.vector(3);
    const ptrdiff_t s = tile->section;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *gradient = t.gradient(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const Activated<T> z = f.back(load(a + s + u)), n = g.back(load(a + 2 * s + u));
            const V dh = load(gradient + u), one_z = broadcast(T(1)) - z.value, by_zeta = load(zeta + u);
            const V weight = fma(by_zeta, one_z, load(nu + u)), dweight = dh * n.value;  // h = weight ⊙ n + z ⊙ h₋₁
            const V dn = dh * weight * n.slope;                                          // n = g(v + b_h)
            const V dz = fnma(dweight, by_zeta, dh * load(h_prev + u)) * z.slope;        // z = f(v + b_z)
            store(gradient + u, dh * z.value);
            store(a + u, dz + dn);
            store(a + s + u, dz);
            store(a + 2 * s + u, dn);
            store(a + 3 * s + u, dweight * one_z);  // weight = ζ ⊙ (1 − z) + ν
            store(a + 4 * s + u, dweight);
        });
    }
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
