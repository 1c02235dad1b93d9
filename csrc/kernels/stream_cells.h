// stream_cells.h: the cells of cell_*.h over a stream's tiles (stream_tile.h): where sums start, and the gate arithmetic.
//
// NA: accumulators of a vector of units; NX, NH: vectors in a row of the panel's part for x and for h₋₁; kX, kH: the
// accumulator of each. The arithmetic is that of cell_*.h, operation for operation: tests hold the two bitwise together.
#pragma once
#include "../fastrnn.h"
#include "../stream.h"
#include "stream_tile.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// What every cell reads. Copied from the layer, so that it can stay in registers past stores.
template <class T>
struct StreamCell {
    using V = typename Simd<T>::V;
    const T* x;
    ptrdiff_t x_b, I;
    const T* h;
    ptrdiff_t h_b, P;
    const T *panels, *bias;
    ptrdiff_t panel;
    T* y;  // rows h_b apart

    StreamCell(const StreamLayer& l, const void* x_, ptrdiff_t x_b_)
        : x(static_cast<const T*>(x_)),
          x_b(x_b_),
          I(l.I),
          h(static_cast<const T*>(l.h)),
          h_b(l.y_b),
          P(l.kind == kStreamCell ? l.P : 0),
          panels(static_cast<const T*>(l.panels)),
          bias(static_cast<const T*>(l.bias)),
          panel(l.panel),
          y(static_cast<T*>(l.h_next)) {}
};

// What a cell adds up, without its gate arithmetic. Sums start from the biases.
template <class T, int kSums>
struct StreamSums : StreamCell<T> {
    using StreamCell<T>::StreamCell;
    static constexpr int NA = kSums;
    FR_INLINE typename Simd<T>::V start(int p, int v, ptrdiff_t) const { return load(this->bias + (p * NA + v) * VL<T>); }
};
template <class T>
struct LstmSums : StreamSums<T, 4> {
    using StreamSums<T, 4>::StreamSums;
    static constexpr int NX = 4, NH = 4, kX[] = {0, 1, 2, 3}, kH[] = {0, 1, 2, 3};
};
template <class T>
struct AfterSums : StreamSums<T, 4> {  // r, z, the product inside n's reset, n
    using StreamSums<T, 4>::StreamSums;
    static constexpr int NX = 3, NH = 3, kX[] = {0, 1, 3}, kH[] = {0, 1, 2};
};
template <class T>
struct BeforeSums : StreamSums<T, 3> {  // r, z, n's share of x; n goes on in StreamCandidate
    using StreamSums<T, 3>::StreamSums;
    static constexpr int NX = 3, NH = 2, kX[] = {0, 1, 2}, kH[] = {0, 1};
};
template <class T, bool kRecurrent>
struct PlainSums : StreamSums<T, 1> {
    using StreamSums<T, 1>::StreamSums;
    static constexpr int NX = 1, NH = kRecurrent ? 1 : 0, kX[] = {0}, kH[] = {0};
};

template <class T, bool kProjection>
struct StreamLstm : LstmSums<T> {
    using Sums = LstmSums<T>;
    using typename StreamCell<T>::V;
    T *c, *out;
    ptrdiff_t c_b, out_b;

    StreamLstm(const StreamLayer& l, const void* x_, ptrdiff_t x_b_)
        : Sums(l, x_, x_b_),
          c(static_cast<T*>(l.c)),
          out(static_cast<T*>(kProjection ? l.inner : l.h_next)),
          c_b(l.c_b),
          out_b(kProjection ? l.c_b : l.y_b) {}

    FR_INLINE void finish(const V* z, ptrdiff_t r, ptrdiff_t u) const {
        const V i = sigmoid<T>(z[0]), f = sigmoid<T>(z[1]), g = tanh<T>(z[2]), o = sigmoid<T>(z[3]);
        T* at = c + r * c_b + u;
        const V next = fma(f, load(at), i * g);
        store(at, next);
        store(out + r * out_b + u, o * tanh<T>(next));
    }
};

template <class T>
struct StreamGruAfter : AfterSums<T> {
    using Sums = AfterSums<T>;
    using AfterSums<T>::AfterSums;
    using typename StreamCell<T>::V;

    FR_INLINE void finish(const V* a, ptrdiff_t row, ptrdiff_t u) const {
        const V r = sigmoid<T>(a[0]), z = sigmoid<T>(a[1]), n = tanh<T>(fma(r, a[2], a[3]));
        const V h_prev = load(this->h + row * this->h_b + u);
        store(this->y + row * this->h_b + u, fma(z, h_prev - n, n));
    }
};

template <class T>
struct StreamGruBefore : BeforeSums<T> {
    using Sums = BeforeSums<T>;
    using typename StreamCell<T>::V;
    T *reset, *rest;
    ptrdiff_t c_b;

    StreamGruBefore(const StreamLayer& l, const void* x_, ptrdiff_t x_b_)
        : Sums(l, x_, x_b_), reset(static_cast<T*>(l.inner)), rest(static_cast<T*>(l.inner2)), c_b(l.c_b) {}

    FR_INLINE void finish(const V* a, ptrdiff_t row, ptrdiff_t u) const {
        store(reset + row * c_b + u, sigmoid<T>(a[0]) * load(this->h + row * this->h_b + u));
        store(rest + 2 * row * c_b + u, sigmoid<T>(a[1]));
        store(rest + (2 * row + 1) * c_b + u, a[2]);
    }
};

// One product of plain columns: y = φ(x·Wᵀ + h₋₁·Rᵀ + b), without h₋₁ y = x·Wᵀ + b
template <class T, bool kRecurrent>
struct StreamPlain : PlainSums<T, kRecurrent> {
    using Sums = PlainSums<T, kRecurrent>;
    using typename StreamCell<T>::V;
    int function;  // a Cell

    StreamPlain(const StreamLayer& l, const void* x_, ptrdiff_t x_b_) : Sums(l, x_, x_b_), function(l.function) {}
    FR_INLINE V phi(V z) const {
        if (!kRecurrent) return z;
        if (function == kRnnTanh) return tanh<T>(z);
        return function == kRnnSigmoid ? sigmoid<T>(z) : max(zero<T>(), z);
    }
    FR_INLINE void finish(const V* z, ptrdiff_t r, ptrdiff_t u) const { store(this->y + r * this->h_b + u, phi(z[0])); }
};

// The second product of a step, from `inner`: a projection
template <class T>
struct StreamProjection : StreamCell<T> {
    using typename StreamCell<T>::V;
    static constexpr int NA = 1, NX = 1, NH = 0, kX[] = {0}, kH[] = {0};

    explicit StreamProjection(const StreamLayer& l) : StreamCell<T>(l, l.inner, l.c_b) {
        this->I = l.H;
        this->panels = static_cast<const T*>(l.second);
        this->panel = l.panel2;
    }
    FR_INLINE V start(int, int, ptrdiff_t) const { return zero<T>(); }
    FR_INLINE void finish(const V* z, ptrdiff_t r, ptrdiff_t u) const { store(this->y + r * this->h_b + u, z[0]); }
};

// … or n of a GRU whose reset comes before its product: n goes on from its share of x
template <class T>
struct StreamCandidate : StreamProjection<T> {
    using typename StreamCell<T>::V;
    const T* rest;
    ptrdiff_t c_b;

    explicit StreamCandidate(const StreamLayer& l)
        : StreamProjection<T>(l), rest(static_cast<const T*>(l.inner2)), c_b(l.c_b) {}
    FR_INLINE V start(int p, int, ptrdiff_t r) const { return load(rest + (2 * r + 1) * c_b + ptrdiff_t(p) * VL<T>); }
    FR_INLINE void finish(const V* a, ptrdiff_t row, ptrdiff_t u) const {
        const V z = load(rest + 2 * row * c_b + u), n = tanh<T>(a[0]);
        const V h_prev = load(this->h + row * this->h_b + u);
        store(this->y + row * this->h_b + u, fma(z, h_prev - n, n));
    }
};

// A block of time steps of one row, in two passes over the weights, and x's share of them read once for several steps:
// first x's share of all sums (rows are time steps), then step by step what h₋₁ adds. A sum that is stored in between goes
// on from the same float.
template <class T, class Sums>
struct StreamAhead : Sums {
    using typename StreamCell<T>::V;
    static constexpr int NH = 0;
    T* ahead;
    ptrdiff_t c_b, ahead_b;

    StreamAhead(const StreamLayer& l, const void* x_, ptrdiff_t x_t)
        : Sums(l, x_, x_t), ahead(static_cast<T*>(l.ahead)), c_b(l.c_b), ahead_b(Sums::NA * l.c_b) {
        this->h_b = 0;
    }
    FR_INLINE void finish(const V* z, ptrdiff_t t, ptrdiff_t u) const {
        FR_UNROLL
        for (int v = 0; v < Sums::NA; ++v) store(ahead + t * ahead_b + v * c_b + u, z[v]);
    }
};

template <class T, class Cell>
struct StreamAfter : Cell {
    using typename StreamCell<T>::V;
    const T* ahead;
    ptrdiff_t c_b;

    StreamAfter(const StreamLayer& l, ptrdiff_t t)
        : Cell(l, nullptr, 0), ahead(static_cast<const T*>(l.ahead) + t * Cell::NA * l.c_b), c_b(l.c_b) {
        this->panels += this->I * Cell::NX * VL<T>;
        this->I = 0;
    }
    FR_INLINE V start(int p, int v, ptrdiff_t) const { return load(ahead + v * c_b + ptrdiff_t(p) * VL<T>); }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
