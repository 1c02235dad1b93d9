// matmul.cpp: C = A·B + bias on whole matrices, for linear layers; and the FMA peak to hold against.
#include "../fastrnn.h"
#include "../pool.h"
#include "entry.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

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
    ptrdiff_t wide = (N + 4 * VL<T> - 1) / (4 * VL<T>)*4 * VL<T>;
    size_t rows = size_t(packed_size<T>(K, N, kMaxNV, false) + wide + M * K + 64) * sizeof(T);
    size_t outer = size_t(threads * outer_scratch<T>((M + threads - 1) / threads + 1, N)) * sizeof(T);
    return rows > outer ? rows : outer;
}

size_t gemm_workspace(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, int threads) {
    return dtype == kFloat32 ? gemm_workspace_t<float>(M, N, K, threads) : gemm_workspace_t<double>(M, N, K, threads);
}

template <class T>
void gemm_t(ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, const void* A, ptrdiff_t A_rs, ptrdiff_t A_cs, const void* B, ptrdiff_t B_rs,
            ptrdiff_t B_cs, void* C, ptrdiff_t C_rs, const void* bias, int accumulate, void* workspace, int threads) {
    if (M <= 0 || N <= 0) return;
    GemmJob<T> j{M,          N,  K,  (const T*)A, A_rs, A_cs, (const T*)B, B_rs, B_cs, (T*)C, C_rs, (const T*)bias,
                 accumulate, {}, {}, {},          {},   {}};
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
