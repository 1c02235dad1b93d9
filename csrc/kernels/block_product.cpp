// block_product.cpp: the product of block_product.h.
#include "block_product.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
struct BlockTile {
    const T* a;
    ptrdiff_t rs, cs;
    const T* b;
    ptrdiff_t K;
    T* c;
    ptrdiff_t ldc;
    bool from_c;
};

template <class T, int MR, int NV>
FR_NOINLINE void block_tile(const BlockTile<T>& t) noexcept {
    using V = typename Simd<T>::V;
    V acc[MR][NV];
    T* const c = t.c;
    const ptrdiff_t ldc = t.ldc;
    FR_UNROLL
    for (int r = 0; r < MR; ++r) {
        FR_UNROLL
        for (int v = 0; v < NV; ++v) acc[r][v] = t.from_c ? load(c + r * ldc + v * VL<T>) : zero<T>();
    }
    const T* row[MR];
    FR_UNROLL
    for (int r = 0; r < MR; ++r) row[r] = t.a + r * t.rs;
    const T* b = t.b;
    const ptrdiff_t end = t.K * t.cs, cs = t.cs;
    for (ptrdiff_t k = 0; k < end; k += cs, b += NV * VL<T>) {
        if constexpr (MR <= NV) {  // as in tile.h
            V s[MR];
            FR_UNROLL
            for (int r = 0; r < MR; ++r) s[r] = broadcast(row[r][k]);
            FR_UNROLL
            for (int v = 0; v < NV; ++v) {
                const V w = load(b + v * VL<T>);
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = fma(s[r], w, acc[r][v]);
            }
        } else {
            V w[NV];
            FR_UNROLL
            for (int v = 0; v < NV; ++v) w[v] = load(b + v * VL<T>);
            FR_UNROLL
            for (int r = 0; r < MR; ++r) {
                const V s = broadcast(row[r][k]);
                FR_UNROLL
                for (int v = 0; v < NV; ++v) acc[r][v] = fma(s, w[v], acc[r][v]);
            }
        }
    }
    FR_UNROLL
    for (int r = 0; r < MR; ++r) {
        FR_UNROLL
        for (int v = 0; v < NV; ++v) store(c + r * ldc + v * VL<T>, acc[r][v]);
    }
}

template <class T, int NV, int MR = max_rows(NV)>
FR_INLINE void block_rows(int rows, const BlockTile<T>& t) {
    if (rows == MR) return block_tile<T, MR, NV>(t);
    if constexpr (MR > 1) block_rows<T, NV, MR - 1>(rows, t);
}

}  // namespace

template <class T>
void block_product(const Operand<T>& A, ptrdiff_t M, ptrdiff_t K, const PackedBlock<T>& packed, int count, T* C, ptrdiff_t ldc,
                   bool from_c) noexcept {
    const Panels<T>& B = packed.shape;
    constexpr ptrdiff_t kMostK = 512;
    const int most = max_rows(B.nv), tiles = int((M + most - 1) / most);
    const ptrdiff_t blocks = (K + kMostK - 1) / kMostK;
    for (ptrdiff_t block = 0; block < blocks; ++block) {
        const ptrdiff_t k0 = K * block / blocks, k1 = K * (block + 1) / blocks;
        for (int p = 0; p < count; ++p) {
            BlockTile<T> t{A.data + k0 * A.cs,
                           A.rs,
                           A.cs,
                           packed.data + (p * packed.depth + k0) * B.width(),
                           k1 - k0,
                           C + p * B.width(),
                           ldc,
                           from_c || block > 0};
            int left = int(M);
            for (int i = 0; i < tiles; ++i) {
                const int rows = (left + tiles - i - 1) / (tiles - i);
                left -= rows;
                switch (B.nv) {
                    case 1:
                        block_rows<T, 1>(rows, t);
                        break;
                    case 2:
                        block_rows<T, 2>(rows, t);
                        break;
                    case 3:
                        block_rows<T, 3>(rows, t);
                        break;
                    default:
                        block_rows<T, 4>(rows, t);
                }
                t.a += rows * A.rs;
                t.c += rows * ldc;
            }
        }
    }
}

template void block_product<float>(const Operand<float>&, ptrdiff_t, ptrdiff_t, const PackedBlock<float>&, int, float*,
                                   ptrdiff_t, bool) noexcept;
template void block_product<double>(const Operand<double>&, ptrdiff_t, ptrdiff_t, const PackedBlock<double>&, int, double*,
                                    ptrdiff_t, bool) noexcept;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
