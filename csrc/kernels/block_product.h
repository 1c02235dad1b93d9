// block_product.h: C = A·B on blocks that lie in a core's own caches, with A read in either direction.
//
// A is rows or columns of a small matrix in place, a[r·rs + k·cs]: Pᵀ·dY reads P as it is, nothing is turned over. B is in
// panels of NV vectors like those of gemm.h, all of full width; C has room for them. As in gemm.h every element starts from
// 0 or C and adds its terms for ascending k, one fused multiply-add each (Note [one accumulation order]).
#pragma once
#include "gemm.h"
#include "transpose.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// Hands out pieces of a thread's scratch, in whole lines; without memory it only measures.
template <class T>
struct Scratch {
    T* data;
    ptrdiff_t used = 0;
    T* take(ptrdiff_t n) {
        T* at = data ? data + used : nullptr;
        used += round_up(n, 64 / ptrdiff_t(sizeof(T)));
        return at;
    }
};

// The panels of N columns: even ones, six vectors are 3+3
template <class T>
struct Panels {
    int count, nv;
    explicit Panels(ptrdiff_t N) {
        const ptrdiff_t vectors = N > VL<T> ? (N + VL<T> - 1) / VL<T> : 1;
        count = int((vectors + kMaxNV - 1) / kMaxNV);
        nv = int((vectors + count - 1) / count);
    }
    ptrdiff_t width() const { return nv * VL<T>; }         // of a panel
    ptrdiff_t columns() const { return count * width(); }  // of all
};

// out[k, n] = src[k·rs + n] for n < N
template <class T>
void pack_straight(const Panels<T>& p, T* out, const T* src, ptrdiff_t rs, ptrdiff_t K, ptrdiff_t N) {
    for (int i = 0; i < p.count; ++i) {
        const ptrdiff_t left = N - i * p.width();
        const T* s = src + i * p.width();
        for (ptrdiff_t k = 0; k < K; ++k, out += p.width(), s += rs)
            for (int v = 0; v < p.nv; ++v) {
                const ptrdiff_t n = left - v * VL<T>;
                store(out + v * VL<T>, n >= VL<T> ? load(s + v * VL<T>) : n > 0 ? load_n(s + v * VL<T>, int(n)) : zero<T>());
            }
    }
}

// out[k, n] = src[n·rs + k] for n < N
template <class T>
void pack_turned(const Panels<T>& p, T* out, const T* src, ptrdiff_t rs, ptrdiff_t K, ptrdiff_t N) {
    for (int i = 0; i < p.count; ++i, out += K * p.width())
        for (int v = 0; v < p.nv; ++v) {
            const ptrdiff_t first = i * p.width() + v * VL<T>, left = N - first;
            const int lanes = left >= VL<T> ? VL<T> : left > 0 ? int(left) : 0;
            if (lanes)
                pack_transposed(out + v * VL<T>, p.width(), src + first * rs, K, rs, lanes);
            else
                for (ptrdiff_t k = 0; k < K; ++k) store(out + v * VL<T> + k * p.width(), zero<T>());
        }
}

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

template <class T>
struct Operand {  // of a product, in place
    const T* data;
    ptrdiff_t rs, cs;
};

template <class T>
struct PackedBlock {
    const Panels<T>& shape;
    const T* data;
    ptrdiff_t depth;  // rows in a panel; a product may take fewer
};

// C[M, columns of the first `count` panels] = (from_c ? C : 0) + A[M, K]·B; M, K > 0
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

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
