// tile.h: the microkernel: a few rows of A by a few vectors of B, accumulated in registers.
#pragma once
#include "gemm.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// MR rows by NP panels of NV vectors. kPackedA: A is [K][MR] at a[0], else row r is a[r] + a_off.
template <class T, int MR, int NV, int NP, bool kPackedA>
FR_NOINLINE void tile(const T* const* a, ptrdiff_t a_off, const T* b, ptrdiff_t b_stride, ptrdiff_t K, T* const* c,
                      const ptrdiff_t* at, const T* bias, unsigned from_c, int tail, uintptr_t ahead) noexcept {
    using V = typename Simd<T>::V;
    constexpr int N = NV * NP;
    V acc[MR][N];
    FR_UNROLL
    for (int v = 0; v < N; ++v) {
        const int gate = v % NV;
        if (from_c >> gate & 1) {
            if (v == N - 1 && tail != VL<T>) {
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = load_n(c[r] + at[v], tail);
            } else {
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = load(c[r] + at[v]);
            }
        } else {
            V start = bias ? load(bias + v * VL<T>) : zero<T>();
            FR_UNROLL
            for (int r = 0; r < MR; ++r) acc[r][v] = start;
        }
    }
    const T* row[MR];
    FR_UNROLL
    for (int r = 0; r < MR; ++r) row[r] = kPackedA ? a[0] + r : a[r] + a_off;
    const T* panel[NP];
    FR_UNROLL
    for (int p = 0; p < NP; ++p) panel[p] = b + p * b_stride;

    constexpr int step = kPackedA ? MR : 1;
    for (ptrdiff_t k = 0; k < K; ++k) {
        if constexpr (MR >= 4) {
            __builtin_prefetch(reinterpret_cast<const char*>(ahead + uintptr_t(k) * 64), 0, 2);
            __builtin_prefetch(reinterpret_cast<const char*>(ahead + uintptr_t(K + k) * 64), 0, 2);
        }
        if constexpr (MR <= NV) {  // the rows' scalars stay in registers, each vector of B is read as it is used
            V s[MR];
            FR_UNROLL
            for (int r = 0; r < MR; ++r) s[r] = broadcast(row[r][k * step]);
            FR_UNROLL
            for (int v = 0; v < N; ++v) {
                V w = load(panel[v / NV] + (k * NV + v % NV) * VL<T>);
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = fma(s[r], w, acc[r][v]);
            }
        } else {
            V w[N];
            FR_UNROLL
            for (int v = 0; v < N; ++v) w[v] = load(panel[v / NV] + (k * NV + v % NV) * VL<T>);
            FR_UNROLL
            for (int r = 0; r < MR; ++r) {
                V s = broadcast(row[r][k * step]);
                FR_UNROLL
                for (int v = 0; v < N; ++v) acc[r][v] = fma(s, w[v], acc[r][v]);
            }
        }
    }
    FR_UNROLL
    for (int v = 0; v < N; ++v) {
        if (v == N - 1 && tail != VL<T>) {
            FR_UNROLL
            for (int r = 0; r < MR; ++r) store_n(c[r] + at[v], acc[r][v], tail);
        } else {
            FR_UNROLL
            for (int r = 0; r < MR; ++r) store(c[r] + at[v], acc[r][v]);
        }
    }
}

template <class T>
struct TileCall {
    const T* const* a;
    ptrdiff_t a_off;
    const T* b;
    ptrdiff_t b_stride, K;
    T* const* c;
    const ptrdiff_t* at;
    const T* bias;
    unsigned from_c;
    int tail;
    uintptr_t ahead;  // 2·K lines that a later tile will read
};

template <class T, int MR, int NV, int NP, bool kPackedA>
FR_INLINE void call_tile(const TileCall<T>& t) {
    if constexpr (MR <= max_rows(NV))
        tile<T, MR, NV, NP, kPackedA>(t.a, t.a_off, t.b, t.b_stride, t.K, t.c, t.at, t.bias, t.from_c, t.tail, t.ahead);
}

template <class T, int NV, bool kPackedA>
FR_INLINE void rows_tile(int mr, const TileCall<T>& t) {
    switch (mr) {
        case 1:
            return call_tile<T, 1, NV, 1, kPackedA>(t);
        case 2:
            return call_tile<T, 2, NV, 1, kPackedA>(t);
        case 3:
            return call_tile<T, 3, NV, 1, kPackedA>(t);
        case 4:
            return call_tile<T, 4, NV, 1, kPackedA>(t);
        case 5:
            return call_tile<T, 5, NV, 1, kPackedA>(t);
        case 6:
            return call_tile<T, 6, NV, 1, kPackedA>(t);
        case 7:
            return call_tile<T, 7, NV, 1, kPackedA>(t);
        case 8:
            return call_tile<T, 8, NV, 1, kPackedA>(t);
        case 9:
            return call_tile<T, 9, NV, 1, kPackedA>(t);
        case 10:
            return call_tile<T, 10, NV, 1, kPackedA>(t);
        case 11:
            return call_tile<T, 11, NV, 1, kPackedA>(t);
        case 12:
            return call_tile<T, 12, NV, 1, kPackedA>(t);
    }
}

template <class T, bool kPackedA>
void any_tile(int mr, int nv, const TileCall<T>& t) {
    switch (nv) {
        case 1:
            return rows_tile<T, 1, kPackedA>(mr, t);
        case 2:
            return rows_tile<T, 2, kPackedA>(mr, t);
        case 3:
            return rows_tile<T, 3, kPackedA>(mr, t);
        case 4:
            return rows_tile<T, 4, kPackedA>(mr, t);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
