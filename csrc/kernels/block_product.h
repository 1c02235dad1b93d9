// block_product.h: C = A·B on blocks that lie in a core's own caches, with A read in either direction.
//
// A is rows or columns of a small matrix in place, a[r·rs + k·cs]: Pᵀ·dY reads P as it is, nothing is turned over. B is in
// panels of NV vectors like those of gemm.h, all of full width; C has room for them. As in gemm.h every element starts from
// 0 or C and adds its terms for ascending k, one fused multiply-add each (Note [one accumulation order]).
// The product is compiled once (block_product.cpp): its tiles in each file that uses them were 0.18 MB of the extension.
#pragma once
#include "gemm.h"
#include "transpose.h"

namespace fastrnn {
namespace FASTRNN_ISA {
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
                   bool from_c) noexcept;

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

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
