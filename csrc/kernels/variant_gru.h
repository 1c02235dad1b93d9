// variant_gru.h: the gated recurrent unit with any activations and a clip (not written here); plain in cell_gru.h.
//
//   r, z = f(z_r), f(z_z)
//   after:   n = g(x·W_nᵀ + b_wn + r ⊙ (h₋₁·R_nᵀ + b_rn))
//   before:  n = g(x·W_nᵀ + b_wn + (r ⊙ h₋₁)·R_nᵀ + b_rn)
//   h = (1 − z) ⊙ n + z ⊙ h₋₁
//
// Sections of `gates`: 0 r, 1 z, 2 the product (after: h₋₁·R_nᵀ + b_rn; before: r ⊙ h₋₁), 3 n; on the way back the gradients at
// z, but for section 2: after, that at the product; before, r ⊙ h₋₁ still.
#pragma once
#include "activations.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T, class Gates>
void gru_after_variant_forward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const typename Gates::Candidate g(t.settings().activation[1], t.settings().clip);
    const ptrdiff_t s = tile->section;
    const bool save = tile->save;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *h = t.after(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_r, save_z, save_n;
            const V r = f(load(a + u), save_r), z = f(load(a + s + u), save_z);
            const V n = g(fma(r, load(a + 2 * s + u), load(a + 3 * s + u)), save_n);
            if (save) {
                store(a + u, save_r);
                store(a + s + u, save_z);
                store(a + 3 * s + u, save_n);
            }
            store(h + u, fma(z, load(h_prev + u) - n, n));
        });
    }
}

template <class T, class Gates>
void gru_after_variant_backward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const typename Gates::Candidate g(t.settings().activation[1], t.settings().clip);
    const ptrdiff_t s = tile->section;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *gradient = t.gradient(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const Activated<T> r = f.back(load(a + u)), z = f.back(load(a + s + u)), n = g.back(load(a + 3 * s + u));
            const V product = load(a + 2 * s + u), dh = load(gradient + u);
            const V dn = dh * (broadcast(T(1)) - z.value) * n.slope;  // h = (1 − z) ⊙ n + …
            const V dz = dh * (load(h_prev + u) - n.value) * z.slope;
            store(gradient + u, dh * z.value);     // … + z ⊙ h₋₁
            store(a + u, dn * product * r.slope);  // n = g(… + r ⊙ product)
            store(a + s + u, dz);
            store(a + 2 * s + u, dn * r.value);
            store(a + 3 * s + u, dn);
        });
    }
}

// r ⊙ h₋₁
template <class T, class Gates>
void gru_before_variant_reset(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const ptrdiff_t s = tile->section;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T* a = t.gates(row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_r;
            const V r = f(load(a + u), save_r);
            store(a + u, save_r);
            store(a + 2 * s + u, r * load(h_prev + u));
        });
    }
}

// n and h
template <class T, class Gates>
void gru_before_variant_forward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const typename Gates::Candidate g(t.settings().activation[1], t.settings().clip);
    const ptrdiff_t s = tile->section;
    const bool save = tile->save;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *h = t.after(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            V save_z, save_n;
            const V z = f(load(a + s + u), save_z), n = g(load(a + 3 * s + u), save_n);
            if (save) {
                store(a + s + u, save_z);
                store(a + 3 * s + u, save_n);
            }
            store(h + u, fma(z, load(h_prev + u) - n, n));
        });
    }
}

// reverses gru_before_variant_forward
template <class T, class Gates>
void gru_before_variant_backward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    const typename Gates::Candidate g(t.settings().activation[1], t.settings().clip);
    const ptrdiff_t s = tile->section;
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *gradient = t.gradient(0, row);
        const T* h_prev = t.before(0, row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const Activated<T> z = f.back(load(a + s + u)), n = g.back(load(a + 3 * s + u));
            const V dh = load(gradient + u);
            store(gradient + u, dh * z.value);  // … + z ⊙ h₋₁
            store(a + s + u, dh * (load(h_prev + u) - n.value) * z.slope);
            store(a + 3 * s + u, dh * (broadcast(T(1)) - z.value) * n.slope);  // h = (1 − z) ⊙ n + …
        });
    }
}

// reverses gru_before_variant_reset
template <class T, class Gates>
void gru_before_variant_reset_backward(const CellTile* tile) noexcept {
    using V = typename Simd<T>::V;
    const TileOf<T> t{*tile};
    const typename Gates::Gate f(t.settings().activation[0], t.settings().clip);
    for (ptrdiff_t row = 0; row < tile->rows; ++row) {
        T *a = t.gates(row), *gradient = t.gradient(0, row);
        const T *h_prev = t.before(0, row), *product = t.product(row);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            const Activated<T> r = f.back(load(a + u));
            const V d = load(product + u);
            store(gradient + u, fma(d, r.value, load(gradient + u)));  // r ⊙ h₋₁
            store(a + u, d * load(h_prev + u) * r.slope);
        });
    }
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
