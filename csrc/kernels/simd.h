// simd.h: one vector type per float type, and the few operations that the kernels need.
//
// The build compiles this folder once per instruction set with FASTRNN_ISA set to its name and FASTRNN_VBYTES to its
// vector width. Everything lives in a namespace of that name, so that no two instruction sets' code can be merged.
// `-ffp-contract=off`: a fused multiply-add happens where `fma` is written and nowhere else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define FR_INLINE inline __attribute__((always_inline))
#define FR_NOINLINE __attribute__((noinline))
#define FR_UNROLL _Pragma("GCC unroll 32")

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
struct Simd;

template <>
struct Simd<float> {
    typedef float V __attribute__((vector_size(FASTRNN_VBYTES)));
    typedef float Vu __attribute__((vector_size(FASTRNN_VBYTES), aligned(4), may_alias));
    typedef int32_t I __attribute__((vector_size(FASTRNN_VBYTES)));
    typedef uint32_t U __attribute__((vector_size(FASTRNN_VBYTES)));
    typedef int32_t Int;
    static constexpr int kMantissa = 23, kBias = 127;
};
template <>
struct Simd<double> {
    typedef double V __attribute__((vector_size(FASTRNN_VBYTES)));
    typedef double Vu __attribute__((vector_size(FASTRNN_VBYTES), aligned(8), may_alias));
    typedef int64_t I __attribute__((vector_size(FASTRNN_VBYTES)));
    typedef uint64_t U __attribute__((vector_size(FASTRNN_VBYTES)));
    typedef int64_t Int;
    static constexpr int kMantissa = 52, kBias = 1023;
};

using VF = Simd<float>::V;
using VD = Simd<double>::V;

// lanes of a vector of T
template <class T>
constexpr int VL = FASTRNN_VBYTES / int(sizeof(T));

constexpr ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t to) { return (n + to - 1) / to * to; }

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

template <class T>
FR_INLINE typename Simd<T>::V load(const T* p) {
    return *reinterpret_cast<const typename Simd<T>::Vu*>(p);
}
template <class T>
FR_INLINE void store(T* p, typename Simd<T>::V v) {
    *reinterpret_cast<typename Simd<T>::Vu*>(p) = v;
}

#if defined(__AVX512F__)
// full masks: GCC 12 takes the unmasked intrinsics' undefined operand for an uninitialised variable
constexpr __mmask16 kAllF = 0xffff;
constexpr __mmask8 kAllD = 0xff;
FR_INLINE VF broadcast(float s) { return (VF)_mm512_set1_ps(s); }
FR_INLINE VD broadcast(double s) { return (VD)_mm512_set1_pd(s); }
FR_INLINE VF fma(VF a, VF b, VF c) { return (VF)_mm512_fmadd_ps(a, b, c); }
FR_INLINE VD fma(VD a, VD b, VD c) { return (VD)_mm512_fmadd_pd(a, b, c); }
FR_INLINE VF fnma(VF a, VF b, VF c) { return (VF)_mm512_fnmadd_ps(a, b, c); }
FR_INLINE VD fnma(VD a, VD b, VD c) { return (VD)_mm512_fnmadd_pd(a, b, c); }
FR_INLINE VF max(VF a, VF b) { return (VF)_mm512_maskz_max_ps(kAllF, a, b); }
FR_INLINE VD max(VD a, VD b) { return (VD)_mm512_maskz_max_pd(kAllD, a, b); }
FR_INLINE VF min(VF a, VF b) { return (VF)_mm512_maskz_min_ps(kAllF, a, b); }
FR_INLINE VD min(VD a, VD b) { return (VD)_mm512_maskz_min_pd(kAllD, a, b); }
FR_INLINE VF sqrt(VF a) { return (VF)_mm512_maskz_sqrt_ps(kAllF, a); }
FR_INLINE VD sqrt(VD a) { return (VD)_mm512_maskz_sqrt_pd(kAllD, a); }
FR_INLINE VF load_n(const float* p, int n) { return (VF)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p); }
FR_INLINE VD load_n(const double* p, int n) { return (VD)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p); }
FR_INLINE void store_n(float* p, VF v, int n) { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v); }
FR_INLINE void store_n(double* p, VD v, int n) { _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), v); }
FR_INLINE bool any_above(VF a, VF b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }  // any lane of a above b's
FR_INLINE bool any_above(VD a, VD b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
#else
// the first n lanes; the rest are zero (load) or untouched (store)
template <class T>
FR_INLINE typename Simd<T>::V load_n(const T* p, int n) {
    if (n >= VL<T>) return load(p);
    T tmp[VL<T>] = {};
    for (int i = 0; i < n; ++i) tmp[i] = p[i];
    return load(tmp);
}
template <class V, class T>
FR_INLINE void store_n(T* p, V v, int n) {
    if (n >= VL<T>) return store(p, v);
    T tmp[VL<T>];
    store(tmp, v);
    for (int i = 0; i < n; ++i) p[i] = tmp[i];
}
#if defined(__AVX2__)
FR_INLINE VF broadcast(float s) { return (VF)_mm256_set1_ps(s); }
FR_INLINE VD broadcast(double s) { return (VD)_mm256_set1_pd(s); }
FR_INLINE VF fma(VF a, VF b, VF c) { return (VF)_mm256_fmadd_ps(a, b, c); }
FR_INLINE VD fma(VD a, VD b, VD c) { return (VD)_mm256_fmadd_pd(a, b, c); }
FR_INLINE VF fnma(VF a, VF b, VF c) { return (VF)_mm256_fnmadd_ps(a, b, c); }
FR_INLINE VD fnma(VD a, VD b, VD c) { return (VD)_mm256_fnmadd_pd(a, b, c); }
FR_INLINE VF max(VF a, VF b) { return (VF)_mm256_max_ps(a, b); }
FR_INLINE VD max(VD a, VD b) { return (VD)_mm256_max_pd(a, b); }
FR_INLINE VF min(VF a, VF b) { return (VF)_mm256_min_ps(a, b); }
FR_INLINE VD min(VD a, VD b) { return (VD)_mm256_min_pd(a, b); }
FR_INLINE VF sqrt(VF a) { return (VF)_mm256_sqrt_ps(a); }
FR_INLINE VD sqrt(VD a) { return (VD)_mm256_sqrt_pd(a); }
FR_INLINE bool any_above(VF a, VF b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
FR_INLINE bool any_above(VD a, VD b) { return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ)); }
#elif defined(__x86_64__)
// x86-64-v2 has no fused multiply-add: two roundings
FR_INLINE VF broadcast(float s) { return (VF)_mm_set1_ps(s); }
FR_INLINE VD broadcast(double s) { return (VD)_mm_set1_pd(s); }
template <class V>
FR_INLINE V fma(V a, V b, V c) {
    return a * b + c;
}
template <class V>
FR_INLINE V fnma(V a, V b, V c) {
    return c - a * b;
}
FR_INLINE VF max(VF a, VF b) { return (VF)_mm_max_ps(a, b); }
FR_INLINE VD max(VD a, VD b) { return (VD)_mm_max_pd(a, b); }
FR_INLINE VF min(VF a, VF b) { return (VF)_mm_min_ps(a, b); }
FR_INLINE VD min(VD a, VD b) { return (VD)_mm_min_pd(a, b); }
FR_INLINE VF sqrt(VF a) { return (VF)_mm_sqrt_ps(a); }
FR_INLINE VD sqrt(VD a) { return (VD)_mm_sqrt_pd(a); }
FR_INLINE bool any_above(VF a, VF b) { return _mm_movemask_ps(_mm_cmpgt_ps(a, b)); }
FR_INLINE bool any_above(VD a, VD b) { return _mm_movemask_pd(_mm_cmpgt_pd(a, b)); }
#elif defined(__aarch64__)
FR_INLINE VF broadcast(float s) { return (VF)vdupq_n_f32(s); }
FR_INLINE VD broadcast(double s) { return (VD)vdupq_n_f64(s); }
FR_INLINE VF fma(VF a, VF b, VF c) { return (VF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
FR_INLINE VD fma(VD a, VD b, VD c) { return (VD)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
FR_INLINE VF fnma(VF a, VF b, VF c) { return (VF)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
FR_INLINE VD fnma(VD a, VD b, VD c) { return (VD)vfmsq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
// Note [max and min with NaN]: the second operand comes through, as x86 does
FR_INLINE VF max(VF a, VF b) { return a > b ? a : b; }
FR_INLINE VD max(VD a, VD b) { return a > b ? a : b; }
FR_INLINE VF min(VF a, VF b) { return a < b ? a : b; }
FR_INLINE VD min(VD a, VD b) { return a < b ? a : b; }
FR_INLINE VF sqrt(VF a) { return (VF)vsqrtq_f32((float32x4_t)a); }
FR_INLINE VD sqrt(VD a) { return (VD)vsqrtq_f64((float64x2_t)a); }
FR_INLINE bool any_above(VF a, VF b) { return vmaxvq_u32((uint32x4_t)(a > b)); }
FR_INLINE bool any_above(VD a, VD b) { return vmaxvq_u32((uint32x4_t)(a > b)); }
#endif
#endif

template <class T>
FR_INLINE typename Simd<T>::V zero() {
    return typename Simd<T>::V{};
}

// the bits of a float vector as integers, and back
template <class T>
FR_INLINE typename Simd<T>::I bits(typename Simd<T>::V v) {
    return (typename Simd<T>::I)v;
}
template <class T>
FR_INLINE typename Simd<T>::V from_bits(typename Simd<T>::I i) {
    return (typename Simd<T>::V)i;
}

template <class T>
FR_INLINE T reduce_add(typename Simd<T>::V v) {  // lanes in order of a fixed tree
    T s[VL<T>];
    store(s, v);
    for (int w = VL<T> / 2; w; w /= 2)
        for (int i = 0; i < w; ++i) s[i] += s[i + w];
    return s[0];
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
