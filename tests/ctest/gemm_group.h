// gemm_group.h: products of matrices of every size and layout, against the scalar loops.
#pragma once
#include "check.h"
#include "fastrnn.h"
#include "naive.h"

template <class T>
std::vector<T> product(int dtype, int M, int N, int K, int layout_a, int layout_b, int gap, int bias, int accumulate,
                       int threads, bool compare) {
    Random random{uint64_t(M * 10007 + N * 101 + K)};
    const std::vector<double> a = random.normals(size_t(M * K)), b = random.normals(size_t(K * N));
    const std::vector<double> start = random.normals(size_t(M * N)), offset = random.normals(size_t(N));
    Matrix<T> A, B;
    if (K) A = Matrix<T>(a, M, K, layout_a), B = Matrix<T>(b, K, N, layout_b);
    const ptrdiff_t row = N + gap;
    Buffer<T> C(size_t((M - 1) * row + N), sizeof(void*)), off = filled<T>(offset, bias);
    if (accumulate)
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) C[size_t(m * row + n)] = T(start[size_t(m * N + n)]);
    Buffer<char> workspace(fastrnn::kernels()->gemm_workspace(dtype, M, N, K, threads));
    fastrnn::kernels()->gemm(dtype, M, N, K, A.origin, A.rs, A.cs, B.origin, B.rs, B.cs, C.data(), row, off.data(), accumulate,
                             workspace.data(), threads);
    std::vector<T> got;
    for (int m = 0; m < M; ++m) {
        got.insert(got.end(), C.data() + m * row, C.data() + m * row + N);
        for (ptrdiff_t n = N; n < row && m < M - 1; ++n)
            report.expect(C[size_t(m * row + n)] != C[size_t(m * row + n)], "gemm wrote between rows");
    }
    if (!compare) return got;
    std::vector<double> want(size_t(M * N));
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) {
            double sum = accumulate ? start[size_t(m * N + n)] : bias ? offset[size_t(n)] : 0;
            for (int k = 0; k < K; ++k) sum += a[size_t(m * K + k)] * b[size_t(k * N + n)];
            want[size_t(m * N + n)] = sum;
        }
    std::ostringstream what;
    what << fastrnn::kernels()->name << " gemm " << M << "x" << N << "x" << K << " layouts " << layout_a << layout_b;
    expect_close(got, want, sizeof(T) == 4 ? 1e-5 : 1e-12, what.str());
    return got;
}

template <class T>
void gemm_of(int dtype) {
    const int sizes[][3] = {{1, 1, 1},    {1, 17, 5},   {2, 16, 1},     {3, 65, 33},   {7, 15, 16}, {13, 64, 161},
                            {33, 100, 7}, {250, 9, 12}, {40, 130, 300}, {12, 12, 129}, {5, 31, 0},  {9, 3, 0}};
    int option = 0;
    for (const auto& s : sizes)
        for (int a = 0; a < 4; ++a)
            for (int b = 0; b < 4; ++b, ++option)
                product<T>(dtype, s[0], s[1], s[2], a, b, option % 3, option / 2 % 2, option / 4 % 2, 1 + option % 3, true);
    for (int layout = 0; layout < 4; ++layout) {  // large enough for eight threads
        const std::vector<T> one = product<T>(dtype, 157, 131, 420, layout, layout / 2, 0, 1, 0, 1, true);
        for (int threads : {2, 3, 8})
            expect_same(product<T>(dtype, 157, 131, 420, layout, layout / 2, 0, 1, 0, threads, false), one, "gemm threads");
    }
}
