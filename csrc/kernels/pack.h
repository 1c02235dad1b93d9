// pack.h: matrices of any strides into panels (gemm.h).
#pragma once
#include "gemm.h"
#include "transpose.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// One vector's columns for all k: dst[k·step + lane] = src[k·ks + lane·ls], zero past `lanes`.
template <class T>
void pack_vector(T* dst, ptrdiff_t step, const T* src, ptrdiff_t K, ptrdiff_t ks, ptrdiff_t ls, int lanes) {
    if (ls == 1) {
        for (ptrdiff_t k = 0; k < K; ++k) store(dst + k * step, load_n(src + k * ks, lanes));
        return;
    }
    if (ks == 1) return pack_transposed(dst, step, src, K, ls, lanes);
    for (ptrdiff_t k = 0; k < K; ++k) {
        T* d = dst + k * step;
        const T* s = src + k * ks;
        if (lanes == VL<T>) {
            FR_UNROLL
            for (int l = 0; l < VL<T>; ++l) d[l] = s[l * ls];
        } else {
            for (int l = 0; l < VL<T>; ++l) d[l] = l < lanes ? s[l * ls] : T(0);
        }
    }
}

// Plain panels p0 … p1-1 of B[k, n] at src + k·ks + n·ns.
template <class T>
void pack_plain(const Packed<T>& out, const T* src, ptrdiff_t ks, ptrdiff_t ns, int p0, int p1) {
    for (int p = p0; p < p1; ++p) {
        int nv = out.vectors(p);
        for (int v = 0; v < nv; ++v) {
            ptrdiff_t n = ptrdiff_t(p) * out.width() + v * VL<T>;
            pack_vector(out.panel(p) + v * VL<T>, nv * VL<T>, src + n * ns, out.K, ks, ns, v == nv - 1 ? out.tail(p) : VL<T>);
        }
    }
}

// Gate panels of a weight [G·H, K] for NV of its gates, from out.gate on: panel p, row k holds the NV gates of VL units.
template <class T>
void pack_gates(const Packed<T>& out, const T* W, ptrdiff_t rs, ptrdiff_t cs, int p0, int p1) {
    for (int p = p0; p < p1; ++p)
        for (int v = 0; v < out.NV; ++v) {
            ptrdiff_t row = (out.gate + v) * out.N + ptrdiff_t(p) * VL<T>;
            pack_vector(out.panel(p) + v * VL<T>, out.NV * VL<T>, W + row * rs, out.K, cs, rs, out.tail(p));
        }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
