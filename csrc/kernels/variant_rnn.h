// variant_rnn.h: the simple recurrent network with any activation.
//
//   h = f(limited(z))      z = x·Wᵀ + b_w + h₋₁·Rᵀ + b_r
//
// The one section of `gates` holds z, and on the way back dz.
#pragma once
#include "activations.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
void rnn_variant_forward(const CellTile* tile) noexcept {
    const TileOf<T> t{*tile};
    const AnyGate<T> f(t.settings().activation[0], t.settings().clip);
    for (ptrdiff_t r = 0; r < tile->rows; ++r) {
        const T* z = t.gates(r);
        T* h = t.after(0, r);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            typename Simd<T>::V saved;
            store(h + u, f(load(z + u), saved));
        });
    }
}

template <class T>
void rnn_variant_backward(const CellTile* tile) noexcept {
    const TileOf<T> t{*tile};
    const AnyGate<T> f(t.settings().activation[0], t.settings().clip);
    for (ptrdiff_t r = 0; r < tile->rows; ++r) {
        T *z = t.gates(r), *dh = t.gradient(0, r);
        each_unit<T>(*tile, [=](ptrdiff_t u) {
            store(z + u, load(dh + u) * f.slope(load(z + u)));  // h = f(z)
            store(dh + u, zero<T>());
        });
    }
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
