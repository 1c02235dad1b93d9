// stream_tile.h: a few rows by a few panels in registers, through both products of a step and on to the gate arithmetic.
//
// A stream's panel holds K = I + P rows for VL units: first what multiplies x, then what multiplies h₋₁, one after the
// other in memory, so that a step reads each weight once, in order. Row k of a gated panel is the vectors of all gates.
// Sums start from the biases and go through x and then h₋₁ for ascending k, as everywhere (gemm.h, Note [one accumulation
// order]), but stay in registers between the two: the bits are those of the layers' kernels.
#pragma once
#include "simd.h"
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// z[r][p·NA + kMap[v]] += Σ_k a[r][k]·w[p][k][v], for NV vectors a row of a panel
template <class T, int MR, int NP, int NA, int NV, const int* kMap>
FR_INLINE void accumulate(typename Simd<T>::V (&z)[MR][NP * NA], const T* const (&a)[MR], ptrdiff_t K, const T* w,
                          ptrdiff_t panel) {
    using V = typename Simd<T>::V;
    for (ptrdiff_t k = 0; k < K; ++k) {
        V b[NP * NV];
        FR_UNROLL
        for (int i = 0; i < NP * NV; ++i) b[i] = load(w + (i / NV) * panel + (k * NV + i % NV) * VL<T>);
        FR_UNROLL
        for (int r = 0; r < MR; ++r) {
            const V s = broadcast(a[r][k]);
            FR_UNROLL
            for (int i = 0; i < NP * NV; ++i) {
                V& sum = z[r][(i / NV) * NA + kMap[i % NV]];
                sum = fma(s, b[i], sum);
            }
        }
    }
}

// cell.finish() on the sums of `rows` rows by NP panels. A function of its own, for a tile of every size calls it: the gate
// arithmetic in each of them would be most of the code, and unrolled over rows and panels fill the instruction cache.
template <class T, class Cell, int NP>
FR_NOINLINE void finish_tile(const Cell& cell, const typename Simd<T>::V* z, int rows, int p, ptrdiff_t r) noexcept {
    for (int row = 0; row < rows; ++row)
        for (int i = 0; i < NP; ++i, z += Cell::NA) cell.finish(z, r + row, ptrdiff_t(p + i) * VL<T>);
}

// Rows r … r+MR-1 of panels p … p+NP-1 of a cell (stream_cells.h): both products, then cell.finish() on each vector of units.
template <class T, class Cell, int MR, int NP>
FR_NOINLINE void stream_tile(const Cell& cell, int p, ptrdiff_t r) noexcept {
    using V = typename Simd<T>::V;
    constexpr int NA = Cell::NA;
    V z[MR][NP * NA];
    FR_UNROLL
    for (int row = 0; row < MR; ++row) FR_UNROLL
    for (int i = 0; i < NP * NA; ++i) z[row][i] = cell.start(p + i / NA, i % NA, r + row);
    const T *x[MR], *h[MR];
    FR_UNROLL
    for (int row = 0; row < MR; ++row) {
        x[row] = cell.x + (r + row) * cell.x_b;
        h[row] = cell.h + (r + row) * cell.h_b;
    }
    const T* w = cell.panels + p * cell.panel;
    accumulate<T, MR, NP, NA, Cell::NX, Cell::kX>(z, x, cell.I, w, cell.panel);
    if constexpr (Cell::NH > 0)
        accumulate<T, MR, NP, NA, Cell::NH, Cell::kH>(z, h, cell.P, w + cell.I * Cell::NX * VL<T>, cell.panel);
    if constexpr (MR * NP == 1) {
        cell.finish(z[0], r, ptrdiff_t(p) * VL<T>);
    } else {
        V out[MR * NP * NA];
        FR_UNROLL
        for (int i = 0; i < MR * NP * NA; ++i) out[i] = z[i / (NP * NA)][i % (NP * NA)];
        finish_tile<T, Cell, NP>(cell, out, MR, p, r);
    }
}

// most rows of a tile; double takes fewer, for code's sake
template <class T>
constexpr int kStreamRows = kRegisters == 32 && sizeof(T) == 4 ? 6 : 3;

// Panels of a tile: with one row, two hide the latency of the sums.
template <class Cell, bool kOneRow>
constexpr int kSideBySide = Cell::NA == 1 ? 4
                            : kOneRow     ? 2
                                          : 1;

// `count` panels, up to NP
template <class T, class Cell, int MR, int NP>
FR_INLINE void some_panels(const Cell& cell, int p, int count, ptrdiff_t r) {
    if (count == NP) return stream_tile<T, Cell, MR, NP>(cell, p, r);
    if constexpr (NP > 1) {
        constexpr int half = NP / 2;
        some_panels<T, Cell, MR, half>(cell, p, count < half ? count : half, r);
        if (count > half) some_panels<T, Cell, MR, half>(cell, p + half, count - half, r);
    }
}

template <class T, class Cell, int NP, int MR = kStreamRows<T>>
FR_INLINE void some_rows(const Cell& cell, int rows, int p, int count, ptrdiff_t r) {
    if (rows == MR) return some_panels<T, Cell, MR, NP>(cell, p, count, r);
    if constexpr (MR > 1) some_rows<T, Cell, NP, MR - 1>(cell, rows, p, count, r);
}

// All rows of all panels; a few panels stay in cache while the rows, spread evenly over tiles, pass. Steps walk up and down
// the panels in turn, because what was read last is still near: with one row that saves a fifth of a step where the
// weights are just too large for a cache (LSTM H = 256, GRU H = 64 and 256).
template <class T, class Cell, bool kOneRow>
FR_INLINE void stream_product(const Cell& cell, int panels, ptrdiff_t B, bool down) {
    constexpr int NP = kSideBySide<Cell, kOneRow>;
    const int groups = (panels + NP - 1) / NP;
    const ptrdiff_t tiles = (B + kStreamRows<T> - 1) / kStreamRows<T>;
    for (int g = 0; g < groups; ++g) {
        const int p = (down ? groups - 1 - g : g) * NP, count = panels - p < NP ? panels - p : NP;
        if constexpr (kOneRow) {
            some_panels<T, Cell, 1, NP>(cell, p, count, 0);
        } else {
            for (ptrdiff_t i = 0, r = 0; i < tiles; ++i) {
                const int rows = int((B - r + tiles - i - 1) / (tiles - i));
                some_rows<T, Cell, NP>(cell, rows, p, count, r);
                r += rows;
            }
        }
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
