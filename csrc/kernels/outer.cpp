// outer.cpp: sums of outer products (gemm.h), behind every weight gradient.
#include "tile.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Columns first … first+M-1 of K rows into tiles of [K][rows of the tile]. A few tiles at a time, because rows of `a` often
// lie a multiple of 4 KiB apart: their lines share few sets of the cache, so each is used up while it is there.
template <class T>
void pack_columns(T* out, const T* const* a, ptrdiff_t K, ptrdiff_t first, ptrdiff_t M, int tiles) {
    constexpr int kTogether = 8;
    ptrdiff_t i = 0;
    for (int t0 = 0; t0 < tiles; t0 += kTogether) {
        const int n = tiles - t0 < kTogether ? tiles - t0 : kTogether;
        T* d[kTogether];
        int rows[kTogether];
        ptrdiff_t at[kTogether];
        for (int t = 0; t < n; ++t) {
            rows[t] = int((M - i + tiles - t0 - t - 1) / (tiles - t0 - t));
            d[t] = out + i * K;
            at[t] = first + i;
            i += rows[t];
        }
        for (ptrdiff_t k = 0; k < K; ++k)
            for (int t = 0; t < n; ++t) {
                const T* s = a[k] + at[t];
#if defined(__AVX512F__)
                store_n(d[t], load_n(s, rows[t]), rows[t]);
#else
                for (int r = 0; r < rows[t]; ++r) d[t][r] = s[r];
#endif
                d[t] += rows[t];
            }
    }
}

// K rows of b into plain panels
template <class T>
void pack_rows(const Packed<T>& B, const T* const* b) {
    for (int p = 0; p < B.panels(); ++p) {
        const int nv = B.vectors(p), tail = B.tail(p);
        T* d = B.data + p * B.stride();
        const ptrdiff_t n = ptrdiff_t(p) * B.width();
        for (ptrdiff_t k = 0; k < B.K; ++k, d += nv * VL<T>) {
            const T* s = b[k] + n;
            for (int v = 0; v < nv - 1; ++v) store(d + v * VL<T>, load(s + v * VL<T>));
            store(d + (nv - 1) * VL<T>, load_n(s + (nv - 1) * VL<T>, tail));
        }
    }
}

// `rows` rows of C from row i on += the packed columns of a · all panels of B
template <class T>
void outer_tiles(const OuterPart<T>& to, const Packed<T>& B, const T* A, ptrdiff_t i, ptrdiff_t M, int tiles) {
    for (int p = 0; p < B.panels(); ++p) {
        ptrdiff_t at[kMaxNV];
        const int nv = B.vectors(p);
        for (int v = 0; v < nv; ++v) at[v] = (ptrdiff_t(p) * kMaxNV + v) * VL<T>;
        TileCall<T> call{};
        call.terms = 1;
        call.term[0] = {nullptr, 0, B.panel(p), 0, B.K};
        call.at = at;
        call.from_c = ~0u;
        call.tail = B.tail(p);
        ptrdiff_t done = 0;
        for (int t = 0; t < tiles; ++t) {
            const int rows = int((M - done + tiles - t - 1) / (tiles - t));
            const T* a = A + done * B.K;
            T* c[12];
            for (int r = 0; r < rows; ++r) c[r] = to.C + (i + done + r) * to.ldc;
            for (int r = rows; r < 2 * rows && done + r < M; ++r)  // the next tile's, while this one runs
                for (int v = 0; v < nv; ++v) __builtin_prefetch(to.C + (i + done + r) * to.ldc + at[v], 1, 3);
            call.term[0].a = &a;
            call.c = c;
            any_tile<T, true>(rows, nv, call);
            done += rows;
        }
    }
}

template <class T>
void outer_product(const OuterProduct<T>& op, T* scratch) noexcept {
    const ptrdiff_t M = op.i1 - op.i0;
    if (M <= 0 || !op.parts) return;
    const int most = max_rows(kMaxNV);
    const ptrdiff_t blocks = (op.rows + kOuterBlock - 1) / kOuterBlock, cuts = (M + kOuterColumns - 1) / kOuterColumns;
    for (ptrdiff_t block = 0; block < blocks; ++block) {  // even ones
        const ptrdiff_t r0 = op.rows * block / blocks, K = op.rows * (block + 1) / blocks - r0;
        T *const A = scratch, *panels = scratch + (K * (kOuterColumns + 16) + 15) / 16 * 16;
        Packed<T> B[kMaxParts];
        for (int part = 0; part < op.parts; ++part) {
            B[part] = Packed<T>{panels, K, op.part[part].N, kMaxNV, false};
            pack_rows(B[part], op.part[part].b + r0);
            panels += B[part].panels() * B[part].stride();
        }
        for (int s = 0; s < op.sections; ++s)
            for (ptrdiff_t cut = 0; cut < cuts; ++cut) {
                const ptrdiff_t first = op.i0 + M * cut / cuts, n = op.i0 + M * (cut + 1) / cuts - first;
                const int tiles = int((n + most - 1) / most);
                pack_columns(A, op.a + r0, K, op.column[s] + first, n, tiles);
                for (int part = 0; part < op.parts; ++part)
                    if (op.part[part].first[s] >= 0)
                        outer_tiles(op.part[part], B[part], A, op.part[part].first[s] + first, n, tiles);
            }
    }
}
template void outer_product<float>(const OuterProduct<float>&, float*) noexcept;
template void outer_product<double>(const OuterProduct<double>&, double*) noexcept;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
