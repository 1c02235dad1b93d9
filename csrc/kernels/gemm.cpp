// gemm.cpp: panels of gemm.h, from rows that lie anywhere.
#include "gemm.h"

#include "tile.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Several panels side by side keep the multipliers busy when there is one row or two.
template <class T, int NV>
FR_INLINE void wide_tile(int mr, int np, const TileCall<T>& t) {
    if (mr == 1 && np == 4) return call_tile<T, 1, NV, 4, false>(t);
    if (mr == 1 && np == 2) return call_tile<T, 1, NV, 2, false>(t);
    if (mr == 2 && np == 2) return call_tile<T, 2, NV, 2, false>(t);
}

template <class T>
int panels_at_once(int m, int NV) {
    if (NV < 3) return 1;
    if (kRegisters == 32) return m == 1 ? 4 : m == 2 ? 2 : 1;
    return m == 1 ? 2 : 1;
}
template int panels_at_once<float>(int, int);
template int panels_at_once<double>(int, int);

// C comes from far away: a tile's lines are called for while the tile before it runs.
template <class T>
FR_INLINE void prefetch_rows(T* const* c, int rows, const ptrdiff_t* at, int n) {
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < n; ++v) __builtin_prefetch(c[r] + at[v], 1, 3);
}

// Where K ends and begins anew. A block of K is a few terms; blocks are even, so that a panel's block (128 KiB) stays in L2.
// Shorter blocks, for L1, cost more by loading and storing C more often than they save: four lines of B in twelve cycles
// come from L2 as fast as they are used.
constexpr ptrdiff_t kMostK = 512;

// One block of K over all rows, in even tiles: 32 = 6+6+5+5+5+5.
template <class T>
void block_tiles(TileCall<T>& t, T* const* c, int m, int nv, int np, ptrdiff_t K) noexcept {
    const int most = max_rows(nv), tiles = (m + most - 1) / most;
    const TileTerm<T>& last = t.term[t.terms - 1];
    const uintptr_t end = reinterpret_cast<uintptr_t>(last.b + last.K * nv * VL<T>);  // where the next block begins
    t.second = uintptr_t(K * 64);
    for (int i = 0; i < tiles; ++i) {
        const int rows = (m + tiles - i - 1) / (tiles - i);
        m -= rows;
        t.c = c;
        // the first tiles bring the next block in; an integer, for it may lie past the end
        t.ahead = 2 * i < nv ? end + uintptr_t(2 * i * K * 64) : 0;
        if (i + 1 < tiles) prefetch_rows(c + rows, (m + tiles - i - 2) / (tiles - i - 1), t.at, nv);
        if (np == 1)
            any_tile<T, false>(rows, nv, t);
        else if (nv == 4)
            wide_tile<T, 4>(rows, np, t);
        else
            wide_tile<T, 3>(rows, np, t);
        c += rows;
        for (int j = 0; j < t.terms; ++j) t.term[j].a += rows;
    }
}

// block `block` of `blocks` of the terms of a sum
template <class T>
ptrdiff_t take_block(TileCall<T>& t, const TileTerm<T>* all, int count, ptrdiff_t K, int step, ptrdiff_t block,
                     ptrdiff_t blocks) {
    ptrdiff_t from = K * block / blocks, to = K * (block + 1) / blocks, at = 0;
    const ptrdiff_t length = to - from;
    t.terms = 0;
    for (int i = 0; i < count; at += all[i++].K) {
        const ptrdiff_t first = from > at ? from - at : 0, last = to - at < all[i].K ? to - at : all[i].K;
        if (first >= last) continue;
        TileTerm<T>& term = t.term[t.terms++];
        term = all[i];
        term.a_off += first;
        term.b += first * step;
        term.K = last - first;
    }
    return length;
}

template <class T>
void panel_block(const Factors<T>* factors, int count, T* const* c, int m, int p, int np, const Columns<T>& cols) noexcept {
    const Packed<T>& B = *factors[0].B;
    const int nv = B.vectors(p + np - 1);
    ptrdiff_t at[4 * kMaxNV];
    for (int i = 0; i < np; ++i)
        for (int v = 0; v < nv; ++v)
            at[i * nv + v] = B.gates ? cols.section[v] + ptrdiff_t(p + i) * VL<T> : (ptrdiff_t(p + i) * B.NV + v) * VL<T>;
    TileCall<T> t;
    t.at = at;
    t.bias = cols.bias ? cols.bias + ptrdiff_t(p) * B.NV * VL<T> : nullptr;
    t.from_c = cols.from_c;
    t.tail = cols.masked ? B.tail(p + np - 1) : VL<T>;
    t.terms = 0;
    ptrdiff_t K = 0;
    for (int f = 0; f < count; ++f) {
        const Factors<T>& x = factors[f];
        const T* b = x.B->panel(p);
        for (int s = 0; s < x.k.count; ++s, b += x.k.length * nv * VL<T>)
            t.term[t.terms++] = {x.a, x.k.offset[s], b, x.B->stride(), x.k.length};
        K += x.k.count * x.k.length;
    }
    if (m <= max_rows(nv) || K <= kMostK) return block_tiles(t, c, m, nv, np, K);
    TileTerm<T> all[kMaxTerms];
    const int terms = t.terms;
    for (int i = 0; i < terms; ++i) all[i] = t.term[i];
    const ptrdiff_t blocks = (K + kMostK - 1) / kMostK;
    for (ptrdiff_t block = 0; block < blocks; ++block) {
        const ptrdiff_t length = take_block(t, all, terms, K, nv * VL<T>, block, blocks);
        block_tiles(t, c, m, nv, np, length);
        t.from_c = ~0u;
    }
}

template <class T>
void gemm_panels(const Factors<T>* factors, int count, T* const* c, int m, int p0, int p1, const Columns<T>& cols) noexcept {
    if (m <= 0) return;
    const Packed<T>& B = *factors[0].B;
    const int wide = panels_at_once<T>(m, B.NV);
    while (p0 < p1) {
        int np = wide;
        while (np > 1 && (p0 + np > p1 || B.vectors(p0 + np - 1) != B.NV)) np /= 2;
        panel_block(factors, count, c, m, p0, np, cols);
        p0 += np;
    }
}
template void gemm_panels<float>(const Factors<float>*, int, float* const*, int, int, int, const Columns<float>&) noexcept;
template void gemm_panels<double>(const Factors<double>*, int, double* const*, int, int, int, const Columns<double>&) noexcept;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
