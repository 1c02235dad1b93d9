// matmul.cpp: C = A·B + bias on whole matrices, for linear layers; and the FMA peak to hold against.
#include "../fastrnn.h"
#include "../pool.h"
#include "entry.h"
#include "pack.h"
#include "transpose.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// A job is cut into a grid of rows × columns of C, a cell for each thread; a cell is worked off in blocks that stay in L2,
// and each packs what it reads next to the multiplications that read it. No cell waits for another.
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
    ptrdiff_t depth, panels;  // terms and full panels at a time
    int rows, columns;        // cells
    T* scratch;
    ptrdiff_t scratch_each;  // of a thread
};

template <class T>
bool contiguous_rows(const GemmJob<T>& j) {
    return j.A_cs == 1 || j.K == 1;
}
constexpr ptrdiff_t kRows = 240;          // rows of A and C that stay in L2 while panels pass
constexpr ptrdiff_t kDepth = 256;         // terms at a time
constexpr ptrdiff_t kPanels = 192 << 10;  // bytes of panels at a time

inline ptrdiff_t depth_of(ptrdiff_t K) {
    const ptrdiff_t blocks = (K + kDepth - 1) / kDepth;
    return blocks > 1 ? (K + blocks - 1) / blocks : K > 0 ? K : 1;
}
template <class T>
ptrdiff_t panels_of(ptrdiff_t depth) {
    const ptrdiff_t panel = depth * kMaxNV * VL<T> * ptrdiff_t(sizeof(T));
    return panel < kPanels ? kPanels / panel : 1;
}

// contiguous rows of B into panels, row by row: memory is read in its order
template <class T>
void pack_rows(const Packed<T>& out, const T* src, ptrdiff_t rs) {
    const int last = out.panels() - 1, nv = out.vectors(last), tail = out.tail(last);
    for (ptrdiff_t k = 0; k < out.K; ++k, src += rs) {
        const T* s = src;
        for (int p = 0; p < last; ++p) {
            T* d = out.data + p * out.stride() + k * out.width();
            for (int v = 0; v < out.NV; ++v, s += VL<T>) {
                __builtin_prefetch(s + 8 * rs);
                store(d + v * VL<T>, load(s));
            }
        }
        T* d = out.data + last * out.stride() + k * nv * VL<T>;
        for (int v = 0; v < nv - 1; ++v, s += VL<T>) store(d + v * VL<T>, load(s));
        store(d + (nv - 1) * VL<T>, load_n(s, tail));
    }
}

// B[k0 … k0+out.K-1, c0 …] into panels
template <class T>
void pack_B(const GemmJob<T>& j, const Packed<T>& out, ptrdiff_t k0, ptrdiff_t c0) {
    const T* src = j.B + k0 * j.B_rs + c0 * j.B_cs;
    if (j.B_cs == 1) return pack_rows(out, src, j.B_rs);
    if (j.B_rs != 1) return pack_plain(out, src, j.B_rs, j.B_cs, 0, out.panels());
    for (int p = 0; p < out.panels(); ++p) {
        const int nv = out.vectors(p);
        for (int v = 0; v < nv; ++v)
            pack_transposed(out.data + p * out.stride() + v * VL<T>, ptrdiff_t(nv) * VL<T>,
                            src + (p * out.width() + v * VL<T>)*j.B_cs, out.K, j.B_cs, v == nv - 1 ? out.tail(p) : VL<T>);
    }
}

// j.K columns of rows m0 … m1-1 of A, one after the other; `step` is a whole number of vectors
template <class T>
void pack_A(const GemmJob<T>& j, T* out, ptrdiff_t step, ptrdiff_t m0, ptrdiff_t m1, const T* src) {
    src += m0 * j.A_rs;
    for (ptrdiff_t k = 0; k < j.K; k += VL<T>) {
        const int lanes = j.K - k < VL<T> ? int(j.K - k) : VL<T>;
        if (j.A_rs == 1)
            pack_transposed(out + k, step, src + k * j.A_cs, m1 - m0, j.A_cs, lanes);
        else
            pack_vector(out + k, step, src + k * j.A_cs, m1 - m0, j.A_rs, j.A_cs, lanes);
    }
}

template <class T>
void gemm_cell(const GemmJob<T>& j, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, T* scratch) noexcept {
    const ptrdiff_t K = j.depth;
    if (!contiguous_rows(j)) {
        const ptrdiff_t step = round_up(K, VL<T>) + VL<T>;
        for (ptrdiff_t m = m0; m < m1; m += kRows)
            for (ptrdiff_t k = 0; k == 0 || k < j.K; k += K) {
                const ptrdiff_t end = m1 - m < kRows ? m1 : m + kRows;
                GemmJob<T> part = j;
                part.K = j.K - k < K ? j.K - k : K;
                pack_A(part, scratch, step, m, end, j.A + k * j.A_cs);
                part.A = scratch - m * step;
                part.A_rs = step;
                part.A_cs = 1;
                part.B = j.B + k * j.B_rs;
                part.accumulate = j.accumulate || k > 0;
                gemm_cell(part, m, end, n0, n1, scratch + kRows * step);
            }
        return;
    }
    const ptrdiff_t vectors = (n1 - n0 + VL<T> - 1) / VL<T>, panels = (vectors + kMaxNV - 1) / kMaxNV;
    const int NV = int((vectors + panels - 1) / panels);  // even panels: six vectors are 3+3
    const ptrdiff_t width = NV * VL<T>, chunk = j.panels * width;
    T* bias = scratch;
    T* packed = scratch + chunk;
    for (ptrdiff_t n = n0; n < n1; n += chunk) {
        const ptrdiff_t columns = n1 - n < chunk ? n1 - n : chunk;
        if (j.bias)
            for (ptrdiff_t i = 0; i < round_up(columns, width); ++i) bias[i] = i < columns ? j.bias[n + i] : T(0);
        for (ptrdiff_t k = 0; k == 0 || k < j.K; k += K) {  // once even for K = 0
            const Packed<T> B{packed, j.K - k < K ? j.K - k : K, columns, NV, false};
            pack_B(j, B, k, n);
            const Segments ks{1, B.K, {k}};
            const Columns<T> cols{{}, j.bias ? bias : nullptr, j.accumulate || k > 0 ? ~0u : 0u, true};
            for (ptrdiff_t m = m0; m < m1; m += kRows) {
                const T* a[kRows];
                T* c[kRows];
                const int rows = int(m1 - m < kRows ? m1 - m : kRows);
                for (int r = 0; r < rows; ++r) {
                    a[r] = j.A + (m + r) * j.A_rs;
                    c[r] = j.C + (m + r) * j.C_rs + n;
                }
                gemm_panels(a, c, rows, ks, B, 0, B.panels(), cols);
            }
        }
    }
}

template <class T>
void gemm_job(void* ctx, int id, int n) noexcept {
    const GemmJob<T>& j = *static_cast<const GemmJob<T>*>(ctx);
    const ptrdiff_t vectors = (j.N + VL<T> - 1) / VL<T>;
    for (int cell = id; cell < j.rows * j.columns; cell += n) {
        const ptrdiff_t r = cell / j.columns, c = cell % j.columns;
        const ptrdiff_t n0 = vectors * c / j.columns * VL<T>, n1 = vectors * (c + 1) / j.columns * VL<T>;
        gemm_cell(j, j.M * r / j.rows, j.M * (r + 1) / j.rows, n0, n1 < j.N ? n1 : j.N, j.scratch + id * j.scratch_each);
    }
}

// The grid for so many threads whose largest cell is done first: a column costs a cell its rows, and its packing as much as
// some more rows; a row costs its columns, and being read once more. K counts the same everywhere.
template <class T>
void choose_grid(GemmJob<T>& j, int threads) {
    const ptrdiff_t vectors = (j.N + VL<T> - 1) / VL<T>;
    double best = 0;
    j.rows = 0;
    for (int rows = 1; rows <= threads && rows <= j.M; ++rows) {
        const int columns = int(threads / rows < vectors ? threads / rows : vectors);
        const double m = double((j.M + rows - 1) / rows), v = double((vectors + columns - 1) / columns);
        const double cost = m * v + m / 4 + 8 * v;
        if (j.rows == 0 || cost < best) {
            best = cost;
            j.rows = rows;
            j.columns = columns;
        }
    }
}

template <class T>
ptrdiff_t gemm_scratch(ptrdiff_t K) {  // elements: biases, panels, rows of A
    const ptrdiff_t depth = depth_of(K), chunk = panels_of<T>(depth) * kMaxNV * VL<T>;
    return round_up((1 + depth) * chunk + kRows * (round_up(depth, VL<T>) + VL<T>), 64);
}

size_t gemm_workspace(int dtype, ptrdiff_t, ptrdiff_t, ptrdiff_t K, int threads) {
    return size_t(threads) * (dtype == kFloat32 ? size_t(gemm_scratch<float>(K)) * 4 : size_t(gemm_scratch<double>(K)) * 8);
}

template <class T>
void gemm_t(ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, const void* A, ptrdiff_t A_rs, ptrdiff_t A_cs, const void* B, ptrdiff_t B_rs,
            ptrdiff_t B_cs, void* C, ptrdiff_t C_rs, const void* bias, int accumulate, void* workspace, int threads) {
    if (M <= 0 || N <= 0) return;
    const ptrdiff_t depth = depth_of(K);
    GemmJob<T> j{M,
                 N,
                 K,
                 (const T*)A,
                 A_rs,
                 A_cs,
                 (const T*)B,
                 B_rs,
                 B_cs,
                 (T*)C,
                 C_rs,
                 (const T*)bias,
                 accumulate,
                 depth,
                 panels_of<T>(depth),
                 1,
                 1,
                 static_cast<T*>(workspace),
                 gemm_scratch<T>(K)};
    const double work = 2.0 * (double(M) + 8) * double(N) * double(K);
    const double useful = 1 + work / 2e6;  // a thread should have some 20 µs to do
    if (useful < threads) threads = int(useful);
    choose_grid(j, threads);
    pool_run(j.rows * j.columns, gemm_job<T>, &j);
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
