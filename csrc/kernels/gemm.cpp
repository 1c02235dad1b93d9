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

// K in even blocks so that a panel's block (128 KiB) stays in L2. Shorter blocks, for L1, cost more by loading and storing C
// more often than they save: four lines of B in twelve cycles come from L2 as fast as they are used.
inline ptrdiff_t block_length(ptrdiff_t K, bool single_tile) {
    constexpr ptrdiff_t most = 512;
    if (single_tile || K <= most) return K > 0 ? K : 1;
    ptrdiff_t blocks = (K + most - 1) / most;
    return (K + blocks - 1) / blocks;
}

// C comes from far away: a tile's lines are called for while the tile before it runs.
template <class T>
FR_INLINE void prefetch_rows(T* const* c, int rows, const ptrdiff_t* at, int n) {
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < n; ++v) __builtin_prefetch(c[r] + at[v], 1, 3);
}

template <class T>
void panel_block(const T* const* a, T* const* c, int m, const Segments& ks, const Packed<T>& B, int p, int np,
                 const Columns<T>& cols) noexcept {
    const int nv = B.vectors(p + np - 1);
    ptrdiff_t at[4 * kMaxNV];
    for (int i = 0; i < np; ++i)
        for (int v = 0; v < nv; ++v)
            at[i * nv + v] = B.gates ? cols.section[v] + ptrdiff_t(p + i) * VL<T> : (ptrdiff_t(p + i) * B.NV + v) * VL<T>;
    const int most = max_rows(nv);
    const int tiles = (m + most - 1) / most;
    const ptrdiff_t block = block_length(ks.length, tiles == 1);
    TileCall<T> t;
    t.at = at;
    t.b_stride = B.stride();
    t.bias = cols.bias ? cols.bias + ptrdiff_t(p) * B.NV * VL<T> : nullptr;
    t.from_c = cols.from_c;
    t.tail = cols.masked ? B.tail(p + np - 1) : VL<T>;
    for (int s = 0; s < ks.count; ++s) {
        for (ptrdiff_t k = 0; k == 0 || k < ks.length; k += block) {  // once even for K = 0: C gets its start
            t.K = ks.length - k < block ? ks.length - k : block;
            t.b = B.panel(p) + (s * ks.length + k) * nv * VL<T>;
            t.a_off = ks.offset[s] + k;
            int r = 0;
            for (int i = 0; i < tiles; ++i) {  // even tiles: 32 = 6+6+5+5+5+5
                int rows = (m - r + tiles - i - 1) / (tiles - i);
                t.a = a + r;
                t.c = c + r;
                // the first tiles bring the next block in, two lines for each k; an integer, for it may lie past the end
                t.ahead = reinterpret_cast<uintptr_t>(t.b);
                if (2 * i < nv) t.ahead += uintptr_t(t.K) * (nv * VL<T> * sizeof(T) + 2 * i * 64);
                if (i + 1 < tiles) prefetch_rows(t.c + rows, (m - r - rows + tiles - i - 2) / (tiles - i - 1), at, nv);
                if (np == 1)
                    any_tile<T, false>(rows, nv, t);
                else if (nv == 4)
                    wide_tile<T, 4>(rows, np, t);
                else
                    wide_tile<T, 3>(rows, np, t);
                r += rows;
            }
            t.from_c = ~0u;
        }
    }
}

template <class T>
void gemm_panels(const T* const* a, T* const* c, int m, const Segments& k, const Packed<T>& B, int p0, int p1,
                 const Columns<T>& cols) noexcept {
    if (m <= 0) return;
    const int wide = panels_at_once<T>(m, B.NV);
    while (p0 < p1) {
        int np = wide;
        while (np > 1 && (p0 + np > p1 || B.vectors(p0 + np - 1) != B.NV)) np /= 2;
        panel_block(a, c, m, k, B, p0, np, cols);
        p0 += np;
    }
}
template void gemm_panels<float>(const float* const*, float* const*, int, const Segments&, const Packed<float>&, int, int,
                                 const Columns<float>&) noexcept;
template void gemm_panels<double>(const double* const*, double* const*, int, const Segments&, const Packed<double>&, int, int,
                                  const Columns<double>&) noexcept;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
