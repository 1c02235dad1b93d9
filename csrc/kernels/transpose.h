// transpose.h: square blocks of a matrix turned over in registers.
#pragma once
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// a0 b0 a1 b1 … from the low halves of a and b, and from the high ones
template <class V>
FR_INLINE V zip_low(V a, V b) {
    constexpr int n = sizeof(a) / sizeof(a[0]);
    if constexpr (n == 16)
        return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    else if constexpr (n == 8)
        return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    else if constexpr (n == 4)
        return __builtin_shufflevector(a, b, 0, 4, 1, 5);
    else
        return __builtin_shufflevector(a, b, 0, 2);
}
template <class V>
FR_INLINE V zip_high(V a, V b) {
    constexpr int n = sizeof(a) / sizeof(a[0]);
    if constexpr (n == 16)
        return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    else if constexpr (n == 8)
        return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    else if constexpr (n == 4)
        return __builtin_shufflevector(a, b, 2, 6, 3, 7);
    else
        return __builtin_shufflevector(a, b, 1, 3);
}

// VL vectors as the rows of a square: log2(VL) perfect shuffles make its columns of them
template <class T>
FR_INLINE void transpose_square(typename Simd<T>::V* r) {
    constexpr int half = VL<T> / 2;
    FR_UNROLL
    for (int round = 1; round < VL<T>; round *= 2) {
        typename Simd<T>::V s[VL<T>];
        FR_UNROLL
        for (int i = 0; i < half; ++i) {
            s[2 * i] = zip_low(r[i], r[i + half]);
            s[2 * i + 1] = zip_high(r[i], r[i + half]);
        }
        FR_UNROLL
        for (int i = 0; i < VL<T>; ++i) r[i] = s[i];
    }
}

// dst[k·step + lane] = src[lane·ls + k] for k < K; zero in the lanes from `lanes` to VL-1
template <class T>
void pack_transposed(T* dst, ptrdiff_t step, const T* src, ptrdiff_t K, ptrdiff_t ls, int lanes) {
    typename Simd<T>::V r[VL<T>];
    ptrdiff_t k = 0;
    if (lanes == VL<T>)
        for (; k + VL<T> <= K; k += VL<T>) {
            FR_UNROLL
            for (int l = 0; l < VL<T>; ++l) r[l] = load(src + l * ls + k);
            transpose_square<T>(r);
            FR_UNROLL
            for (int i = 0; i < VL<T>; ++i) store(dst + (k + i) * step, r[i]);
        }
    for (; k < K; k += VL<T>) {
        const int n = K - k < VL<T> ? int(K - k) : VL<T>;
        FR_UNROLL
        for (int l = 0; l < VL<T>; ++l) r[l] = l < lanes ? load_n(src + l * ls + k, n) : zero<T>();
        transpose_square<T>(r);
        FR_UNROLL
        for (int i = 0; i < VL<T>; ++i)
            if (i < n) store(dst + (k + i) * step, r[i]);
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
