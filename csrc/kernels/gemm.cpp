// gemm.cpp: the tiles of gemm.h, instantiated once for both types.
#include "gemm.h"

#include "../fastrnn.h"
#include "../pool.h"
#include "entry.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// MR rows by NP panels of NV vectors. kPackedA: A is [K][MR] at a[0], else row r is a[r] + a_off.
template <class T, int MR, int NV, int NP, bool kPackedA>
FR_NOINLINE void tile(const T* const* a, ptrdiff_t a_off, const T* b, ptrdiff_t b_stride, ptrdiff_t K, T* const* c,
                      const ptrdiff_t* at, const T* bias, unsigned from_c, int tail, const char* ahead) noexcept {
    using V = typename Simd<T>::V;
    constexpr int N = NV * NP;
    V acc[MR][N];
    FR_UNROLL
    for (int v = 0; v < N; ++v) {
        const int gate = v % NV;
        if (from_c >> gate & 1) {
            if (v == N - 1 && tail != VL<T>) {
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = load_n(c[r] + at[v], tail);
            } else {
                FR_UNROLL
                for (int r = 0; r < MR; ++r) acc[r][v] = load(c[r] + at[v]);
            }
        } else {
            V start = bias ? load(bias + v * VL<T>) : zero<T>();
            FR_UNROLL
            for (int r = 0; r < MR; ++r) acc[r][v] = start;
        }
    }
    const T* row[MR];
    FR_UNROLL
    for (int r = 0; r < MR; ++r) row[r] = kPackedA ? a[0] + r : a[r] + a_off;
    const T* panel[NP];
    FR_UNROLL
    for (int p = 0; p < NP; ++p) panel[p] = b + p * b_stride;

    constexpr int step = kPackedA ? MR : 1;
    for (ptrdiff_t k = 0; k < K; ++k) {
        if constexpr (MR >= 4) __builtin_prefetch(ahead + k * 64, 0, 2);
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

template <class T>
struct TileCall {
    const T* const* a;
    ptrdiff_t a_off;
    const T* b;
    ptrdiff_t b_stride, K;
    T* const* c;
    const ptrdiff_t* at;
    const T* bias;
    unsigned from_c;
    int tail;
    const char* ahead;  // a line for each k that a later tile will read
};

template <class T, int MR, int NV, int NP, bool kPackedA>
FR_INLINE void call_tile(const TileCall<T>& t) {
    if constexpr (MR <= max_rows(NV))
        tile<T, MR, NV, NP, kPackedA>(t.a, t.a_off, t.b, t.b_stride, t.K, t.c, t.at, t.bias, t.from_c, t.tail, t.ahead);
}

template <class T, int NV, bool kPackedA>
FR_INLINE void rows_tile(int mr, const TileCall<T>& t) {
    switch (mr) {
        case 1: return call_tile<T, 1, NV, 1, kPackedA>(t);
        case 2: return call_tile<T, 2, NV, 1, kPackedA>(t);
        case 3: return call_tile<T, 3, NV, 1, kPackedA>(t);
        case 4: return call_tile<T, 4, NV, 1, kPackedA>(t);
        case 5: return call_tile<T, 5, NV, 1, kPackedA>(t);
        case 6: return call_tile<T, 6, NV, 1, kPackedA>(t);
        case 7: return call_tile<T, 7, NV, 1, kPackedA>(t);
        case 8: return call_tile<T, 8, NV, 1, kPackedA>(t);
        case 9: return call_tile<T, 9, NV, 1, kPackedA>(t);
        case 10: return call_tile<T, 10, NV, 1, kPackedA>(t);
        case 11: return call_tile<T, 11, NV, 1, kPackedA>(t);
        case 12: return call_tile<T, 12, NV, 1, kPackedA>(t);
    }
}

template <class T, bool kPackedA>
void any_tile(int mr, int nv, const TileCall<T>& t) {
    switch (nv) {
        case 1: return rows_tile<T, 1, kPackedA>(mr, t);
        case 2: return rows_tile<T, 2, kPackedA>(mr, t);
        case 3: return rows_tile<T, 3, kPackedA>(mr, t);
        case 4: return rows_tile<T, 4, kPackedA>(mr, t);
    }
}

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

// K in blocks so that a panel's block stays in L1 beside A's rows; not needed for a single tile.
inline ptrdiff_t block_length(ptrdiff_t K, bool single_tile) {
    if (single_tile) return K;
    constexpr ptrdiff_t most = 160;
    ptrdiff_t blocks = (K + most - 1) / most;
    return (K + blocks - 1) / blocks;
}

template <class T>
void panel_block(const T* const* a, T* const* c, int m, const Segments& ks, const Packed<T>& B, int p, int np,
                 const Columns<T>& cols) noexcept {
    const int nv = B.vectors(p + np - 1);
    ptrdiff_t at[4 * kMaxNV];
    for (int i = 0; i < np; ++i)
        for (int v = 0; v < nv; ++v)
            at[i * nv + v] = B.gates ? cols.section[v] + ptrdiff_t(p + i) * VL<T>
                                     : (ptrdiff_t(p + i) * B.NV + v) * VL<T>;
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
        for (ptrdiff_t k = 0; k < ks.length; k += block) {
            t.K = ks.length - k < block ? ks.length - k : block;
            t.b = B.panel(p) + (s * ks.length + k) * nv * VL<T>;
            t.a_off = ks.offset[s] + k;
            int r = 0;
            for (int i = 0; i < tiles; ++i) {  // even tiles: 32 = 6+6+5+5+5+5
                int rows = (m - r + tiles - i - 1) / (tiles - i);
                t.a = a + r;
                t.c = c + r;
                t.ahead = reinterpret_cast<const char*>(i < nv ? t.b + t.K * nv * VL<T> : t.b) + (i < nv ? i * t.K * 64 : 0);
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
template void gemm_panels<double>(const double* const*, double* const*, int, const Segments&, const Packed<double>&, int,
                                  int, const Columns<double>&) noexcept;

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

template <class T>
void outer_product(const OuterProduct<T>& op, T* scratch) noexcept {
    const ptrdiff_t M = op.i1 - op.i0;
    if (M <= 0) return;
    const int most = max_rows(kMaxNV);
    const int tiles = int((M + most - 1) / most);
    T* A = scratch;
    T* panels = scratch + round_up(kOuterBlock * M, 64);
    for (ptrdiff_t r0 = 0; r0 < op.rows; r0 += kOuterBlock) {
        const ptrdiff_t K = op.rows - r0 < kOuterBlock ? op.rows - r0 : kOuterBlock;
        pack_columns(A, op.a + r0, K, op.offset + op.i0, M, tiles);
        for (int part = 0; part < op.parts; ++part) {
            const OuterPart<T>& to = op.part[part];
            if (to.N <= 0) continue;
            const Packed<T> B{panels, K, to.N, kMaxNV, false};
            pack_rows(B, to.b + r0);
            for (int p = 0; p < B.panels(); ++p) {
                ptrdiff_t at[kMaxNV];
                const int nv = B.vectors(p);
                for (int v = 0; v < nv; ++v) at[v] = (ptrdiff_t(p) * kMaxNV + v) * VL<T>;
                TileCall<T> call{};
                call.b = B.panel(p);
                call.K = K;
                call.at = at;
                call.from_c = ~0u;
                call.tail = B.tail(p);
                ptrdiff_t i = 0;
                for (int t = 0; t < tiles; ++t) {
                    const int rows = int((M - i + tiles - t - 1) / (tiles - t));
                    const T* a = A + i * K;
                    T* c[12];
                    for (int r = 0; r < rows; ++r) c[r] = to.C + (op.i0 + i + r) * to.ldc;
                    call.a = &a;
                    call.c = c;
                    call.ahead = reinterpret_cast<const char*>(t + 1 < tiles ? a + rows * K : a);
                    any_tile<T, true>(rows, nv, call);
                    i += rows;
                }
            }
        }
    }
}
template void outer_product<float>(const OuterProduct<float>&, float*) noexcept;
template void outer_product<double>(const OuterProduct<double>&, double*) noexcept;

// ---- C = A·B + bias on whole matrices, for linear layers

template <class T>
struct GemmJob {
    ptrdiff_t M, N, K;
    const T* A;
    ptrdiff_t A_rs, A_cs;
    const T* B;
    ptrdiff_t B_rs, B_cs;
    T* C;
    ptrdiff_t C_rs;
    const T* bias;
    int accumulate;
    Packed<T> packed;
    T* packed_bias;
    T* rows;     // A with contiguous rows, when it has none
    T* scratch;  // outer product: of all threads
    Barrier* barrier;
};

// A is the transpose of a matrix with contiguous rows: the sum of K outer products
template <class T>
void gemm_outer(GemmJob<T>& j, int id, int n) noexcept {
    const ptrdiff_t i0 = j.M * id / n, i1 = j.M * (id + 1) / n;
    if (!j.accumulate)
        for (ptrdiff_t i = i0; i < i1; ++i)
            for (ptrdiff_t k = 0; k < j.N; ++k) j.C[i * j.C_rs + k] = j.bias ? j.bias[k] : T(0);
    T* scratch = j.scratch + id * outer_scratch<T>((j.M + n - 1) / n, j.N);
    for (ptrdiff_t k = 0; k < j.K; k += kOuterBlock) {
        const T *a[kOuterBlock], *b[kOuterBlock];
        const ptrdiff_t rows = j.K - k < kOuterBlock ? j.K - k : kOuterBlock;
        for (ptrdiff_t r = 0; r < rows; ++r) {
            a[r] = j.A + (k + r) * j.A_cs;
            b[r] = j.B + (k + r) * j.B_rs;
        }
        outer_product(OuterProduct<T>{a, rows, 0, i0, i1, 1, {{b, j.N, j.C, j.C_rs}, {}}}, scratch);
    }
}

template <class T>
void gemm_job(void* ctx, int id, int n) noexcept {
    GemmJob<T>& j = *static_cast<GemmJob<T>*>(ctx);
    if (j.scratch) return gemm_outer(j, id, n);
    const int panels = j.packed.panels();
    pack_plain(j.packed, j.B, j.B_rs, j.B_cs, panels * id / n, panels * (id + 1) / n);
    const ptrdiff_t m0 = j.M * id / n, m1 = j.M * (id + 1) / n;
    const T* A = j.A;
    ptrdiff_t rs = j.A_rs;
    if (j.rows) {
        for (ptrdiff_t k = 0; k < j.K; ++k)
            for (ptrdiff_t m = m0; m < m1; ++m) j.rows[m * j.K + k] = j.A[m * j.A_rs + k * j.A_cs];
        A = j.rows;
        rs = j.K;
    }
    if (id == 0 && j.packed_bias)
        for (ptrdiff_t i = 0; i < ptrdiff_t(panels) * j.packed.width(); ++i) j.packed_bias[i] = i < j.N ? j.bias[i] : T(0);
    barrier_wait(j.barrier, n);
    const Segments ks{1, j.K, {0}};
    const Columns<T> cols{{}, j.packed_bias, j.accumulate ? ~0u : 0u, true};
    constexpr ptrdiff_t kRows = 240;  // rows of A and C that stay in L2 while the panels pass
    for (ptrdiff_t m = m0; m < m1; m += kRows) {
        const T* a[kRows];
        T* c[kRows];
        const int rows = int(m1 - m < kRows ? m1 - m : kRows);
        for (int r = 0; r < rows; ++r) {
            a[r] = A + (m + r) * rs;
            c[r] = j.C + (m + r) * j.C_rs;
        }
        gemm_panels(a, c, rows, ks, j.packed, 0, panels, cols);
    }
}

template <class T>
size_t gemm_workspace_t(ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, int threads) {
    ptrdiff_t wide = (N + 4 * VL<T> - 1) / (4 * VL<T>) * 4 * VL<T>;
    size_t rows = size_t(packed_size<T>(K, N, kMaxNV, false) + wide + M * K + 64) * sizeof(T);
    size_t outer = size_t(threads * outer_scratch<T>((M + threads - 1) / threads + 1, N)) * sizeof(T);
    return rows > outer ? rows : outer;
}

size_t gemm_workspace(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, int threads) {
    return dtype == kFloat32 ? gemm_workspace_t<float>(M, N, K, threads) : gemm_workspace_t<double>(M, N, K, threads);
}

template <class T>
void gemm_t(ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, const void* A, ptrdiff_t A_rs, ptrdiff_t A_cs, const void* B,
            ptrdiff_t B_rs, ptrdiff_t B_cs, void* C, ptrdiff_t C_rs, const void* bias, int accumulate, void* workspace,
            int threads) {
    if (M <= 0 || N <= 0) return;
    GemmJob<T> j{M, N, K, (const T*)A, A_rs, A_cs, (const T*)B, B_rs, B_cs, (T*)C, C_rs, (const T*)bias, accumulate, {}, {}, {}, {}, {}};
    T* w = static_cast<T*>(workspace);
    j.packed = Packed<T>{w, K, N, kMaxNV, false};
    w += packed_size<T>(K, N, kMaxNV, false);
    j.packed_bias = bias ? w : nullptr;
    w += ptrdiff_t(j.packed.panels()) * j.packed.width();
    j.rows = A_cs == 1 || K == 1 ? nullptr : w;
    if (j.rows && A_rs == 1 && B_cs == 1) j.scratch = static_cast<T*>(workspace);
    Barrier barrier;
    barrier_init(&barrier);
    j.barrier = &barrier;
    double work = 2.0 * double(M) * double(N) * double(K);
    int useful = int(work / 2e6) + 1;  // a thread should have some 20 µs to do
    pool_run(threads < useful ? threads : useful, gemm_job<T>, &j);
}

void gemm(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, const void* A, ptrdiff_t A_rs, ptrdiff_t A_cs, const void* B,
          ptrdiff_t B_rs, ptrdiff_t B_cs, void* C, ptrdiff_t C_rs, const void* bias, int accumulate, void* workspace,
          int threads) {
    (dtype == kFloat32 ? gemm_t<float> : gemm_t<double>)(M, N, K, A, A_rs, A_cs, B, B_rs, B_cs, C, C_rs, bias, accumulate,
                                                       workspace, threads);
}

template <class T>
double fma_peak_t(int64_t n) {
    using V = typename Simd<T>::V;
    constexpr int N = kRegisters == 32 ? 24 : 12;
    V acc[N];
    FR_UNROLL
    for (int i = 0; i < N; ++i) acc[i] = broadcast(T(i));
    V a = broadcast(T(0.999)), b = broadcast(T(0.001));
    for (int64_t k = 0; k < n; ++k) {
        FR_UNROLL
        for (int i = 0; i < N; ++i) acc[i] = fma(acc[i], a, b);
        __asm__ volatile("" : "+m"(k));
    }
    V sum = zero<T>();
    FR_UNROLL
    for (int i = 0; i < N; ++i) sum = sum + acc[i];
    volatile T sink = reduce_add<T>(sum);
    (void)sink;
    return 2.0 * N * VL<T> * double(n);
}

double fma_peak(int dtype, int64_t n) { return dtype == kFloat32 ? fma_peak_t<float>(n) : fma_peak_t<double>(n); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
