// tile.h: the microkernel: a few rows of A by a few vectors of B, accumulated in registers.
#pragma once
#include "gemm.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// A few adjacent terms of K: row r of A is a[r] + a_off, or with kPackedA A is [K][MR] at a[0].
template <class T>
struct TileTerm {
    const T* const* a;
    ptrdiff_t a_off;
    const T* b;
    ptrdiff_t b_stride, K;  // between panels
};

constexpr int kMaxTerms = 8;

template <class T>
struct TileCall {
    TileTerm<T> term[kMaxTerms];
    int terms;
    T* const* c;
    const ptrdiff_t* at;
    const T* bias;
    unsigned from_c;
    int tail;
    uintptr_t ahead;  // lines that a later tile will read, two for each k: from here, and from `second` bytes on; 0: none
    uintptr_t second;
};

// MR rows by NP panels of NV vectors: C = C or bias + the terms, one after the other. With kAhead each k calls for two lines
// that a later tile will read; that costs 3%, so only the tiles that come first do it.
template <class T, int MR, int NV, int NP, bool kPackedA, bool kAhead>
FR_NOINLINE void tile(const TileCall<T>& t) noexcept {
    using V = typename Simd<T>::V;
    constexpr int N = NV * NP, step = kPackedA ? MR : 1;
    T* const* const c = t.c;
    const ptrdiff_t* const at = t.at;
    const int tail = t.tail;
    V acc[MR][N];
    FR_UNROLL
    for (int v = 0; v < N; ++v) {
        const int gate = v % NV;
        if (t.from_c >> gate & 1) {
            if (v == N - 1 && tail != VL<T>) {
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = load_n(c[r] + at[v], tail);
            } else {
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = load(c[r] + at[v]);
            }
        } else {
            V start = t.bias ? load(t.bias + v * VL<T>) : zero<T>();
            FR_UNROLL
            for (int r = 0; r < MR; ++r) acc[r][v] = start;
        }
    }
    uintptr_t ahead = t.ahead;
    const uintptr_t second = t.second;
    for (int i = 0; i < t.terms; ++i) {
        const TileTerm<T>& term = t.term[i];
        const T* row[MR];
        FR_UNROLL
        for (int r = 0; r < MR; ++r) row[r] = kPackedA ? term.a[0] + r : term.a[r] + term.a_off;
        const T* panel[NP];
        FR_UNROLL
        for (int p = 0; p < NP; ++p) panel[p] = term.b + p * term.b_stride;
        const ptrdiff_t K = term.K;
        for (ptrdiff_t k = 0; k < K; ++k) {
            if constexpr (kAhead) {
                __builtin_prefetch(reinterpret_cast<const char*>(ahead), 0, 2);
                __builtin_prefetch(reinterpret_cast<const char*>(ahead + second), 0, 2);
                ahead += 64;
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

template <class T, int MR, int NV, int NP, bool kPackedA>
FR_INLINE void call_tile(const TileCall<T>& t) {
    if constexpr (MR <= max_rows(NV)) {
        constexpr bool kCalls = MR >= 4 && NV >= 2 && sizeof(T) == 4;  // double goes without, for code's sake
        if (kCalls && t.ahead)
            tile<T, MR, NV, NP, kPackedA, kCalls>(t);
        else
            tile<T, MR, NV, NP, kPackedA, false>(t);
    }
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
