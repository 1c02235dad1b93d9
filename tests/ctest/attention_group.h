// attention_group.h: the kernels of attention.h in exact buffers and workspaces, against the equations as plain loops.
#pragma once
#include <algorithm>

#include "attention.h"
#include "check.h"
#include "fastrnn.h"
#include "recurrent.h"

template <class T>
struct AttentionCase {
    int dtype, threads;
    std::string isa;
    Random random{5};

    Buffer<T> some(ptrdiff_t n) { return filled<T>(random.normals(size_t(n))); }
    Buffer<T> none(ptrdiff_t n) { return Buffer<T>(size_t(n), sizeof(void*)); }
    std::vector<int64_t> lengths(ptrdiff_t S, ptrdiff_t B, bool ragged) {
        std::vector<int64_t> found(size_t(B), S);
        for (ptrdiff_t b = 0; ragged && b < B; ++b) found[size_t(b)] = b == 0 ? 0 : b == 1 ? S : random.below(int(S) + 1);
        return found;
    }
    void expect(const char* what, const Buffer<T>& got, const std::vector<double>& want) {
        expect_close(content(got), want, sizeof(T) == 4 ? 1e-5 : 1e-12, isa + " " + what + " of " + std::to_string(got.size()));
    }

    static std::vector<double> softmax(const std::vector<double>& z) {
        std::vector<double> p(z.size());
        double largest = -HUGE_VAL, sum = 0;
        for (double x : z) largest = std::fmax(largest, x);
        for (size_t i = 0; i < z.size(); ++i) sum += p[i] = std::exp(z[i] - largest);
        for (double& x : p) x /= sum;
        return p;
    }

    void dot(ptrdiff_t T_, ptrdiff_t S, ptrdiff_t B, ptrdiff_t N, ptrdiff_t D, ptrdiff_t E, bool causal, bool ragged) {
        const std::vector<int64_t> length = lengths(S, B, ragged);
        Buffer<T> q = some(T_ * B * N * D), k = some(S * B * N * D), v = some(S * B * N * E), dy = some(T_ * B * N * E);
        Buffer<T> y = none(T_ * B * N * E), stats = none(B * N * T_ * 2), weights = none(T_ * B * N * S);
        Buffer<T> dq = none(T_ * B * N * D), dk = none(S * B * N * D), dv = none(S * B * N * E);
        fastrnn::DotAttention a{};
        a.dtype = dtype, a.causal = causal, a.threads = threads;
        a.T = T_, a.S = S, a.B = B, a.N = N, a.D = D, a.E = E;
        a.q = q.data(), a.k = k.data(), a.v = v.data(), a.y = y.data(), a.dy = dy.data();
        a.dq = dq.data(), a.dk = dk.data(), a.dv = dv.data(), a.stats = stats.data(), a.weights = weights.data();
        a.q_b = a.k_b = a.dq_b = a.dk_b = N * D, a.v_b = a.y_b = a.dy_b = a.dv_b = N * E;
        a.q_t = a.k_s = a.dq_t = a.dk_s = B * N * D, a.v_s = a.y_t = a.dy_t = a.dv_s = B * N * E;
        a.w_t = B * N * S, a.w_b = N * S, a.w_h = S;
        a.lengths = length.data(), a.scale = 0.5;
        const fastrnn::AttentionTable& table = *fastrnn::kernels()->attention;
        Buffer<char> forward(table.dot_workspace(&a, 0)), backward(table.dot_workspace(&a, 1));
        a.workspace = forward.data();
        table.dot_forward(&a);
        a.workspace = backward.data();
        table.dot_backward(&a);

        auto zeros = [](const Buffer<T>& like) { return std::vector<double>(like.size(), 0.0); };
        std::vector<double> Y = zeros(y), W = zeros(weights), DQ = zeros(dq), DK = zeros(dk), DV = zeros(dv);
        for (ptrdiff_t b = 0; b < B; ++b)
            for (ptrdiff_t h = 0; h < N; ++h)
                for (ptrdiff_t t = 0; t < T_; ++t) {
                    auto at = [&](ptrdiff_t step, ptrdiff_t size) { return size_t(((step * B + b) * N + h) * size); };
                    const ptrdiff_t n = causal ? std::min<ptrdiff_t>(t + 1, length[size_t(b)]) : length[size_t(b)];
                    std::vector<double> z(size_t(n), 0.0), dp = z;
                    for (ptrdiff_t s = 0; s < n; ++s) {
                        for (ptrdiff_t d = 0; d < D; ++d)
                            z[size_t(s)] += 0.5 * double(q[at(t, D) + size_t(d)]) * double(k[at(s, D) + size_t(d)]);
                        for (ptrdiff_t e = 0; e < E; ++e)
                            dp[size_t(s)] += double(dy[at(t, E) + size_t(e)]) * double(v[at(s, E) + size_t(e)]);
                    }
                    const std::vector<double> p = softmax(z);
                    double delta = 0;
                    for (size_t s = 0; s < p.size(); ++s) delta += p[s] * dp[s];
                    for (ptrdiff_t s = 0; s < n; ++s) {
                        const double w = p[size_t(s)], dz = 0.5 * w * (dp[size_t(s)] - delta);
                        W[at(t, S) + size_t(s)] = w;
                        for (size_t e = 0; e < size_t(E); ++e) {
                            Y[at(t, E) + e] += w * double(v[at(s, E) + e]);
                            DV[at(s, E) + e] += w * double(dy[at(t, E) + e]);
                        }
                        for (size_t d = 0; d < size_t(D); ++d) {
                            DQ[at(t, D) + d] += dz * double(k[at(s, D) + d]);
                            DK[at(s, D) + d] += dz * double(q[at(t, D) + d]);
                        }
                    }
                }
        expect("y", y, Y);
        expect("weights", weights, W);
        expect("dq", dq, DQ);
        expect("dk", dk, DK);
        expect("dv", dv, DV);
    }

    void additive(ptrdiff_t T_, ptrdiff_t S, ptrdiff_t B, ptrdiff_t A, ptrdiff_t E, bool ragged) {
        const std::vector<int64_t> length = lengths(S, B, ragged);
        Buffer<T> q = some(T_ * B * A), k = some(S * B * A), v = some(A), x = some(S * B * E), dy = some(T_ * B * E);
        Buffer<T> y = none(T_ * B * E), weights = none(T_ * B * S), dq = none(T_ * B * A), dk = none(S * B * A);
        Buffer<T> dx = none(S * B * E), dv = filled<T>(size_t(A), 0.0);
        fastrnn::AdditiveAttention a{};
        a.dtype = dtype, a.threads = threads, a.T = T_, a.S = S, a.B = B, a.A = A, a.E = E;
        a.q = q.data(), a.k = k.data(), a.v = v.data(), a.x = x.data(), a.y = y.data(), a.weights = weights.data();
        a.dy = dy.data(), a.dq = dq.data(), a.dk = dk.data(), a.dv = dv.data(), a.dx = dx.data();
        a.q_b = a.k_b = a.dq_b = a.dk_b = A, a.x_b = a.y_b = a.dy_b = a.dx_b = E, a.w_b = S;
        a.q_t = a.k_s = a.dq_t = a.dk_s = B * A, a.x_s = a.y_t = a.dy_t = a.dx_s = B * E, a.w_t = B * S;
        a.lengths = length.data();
        const fastrnn::AttentionTable& table = *fastrnn::kernels()->attention;
        Buffer<char> forward(table.additive_workspace(&a, 0)), backward(table.additive_workspace(&a, 1));
        a.workspace = forward.data();
        table.additive_forward(&a);
        a.workspace = backward.data();
        table.additive_backward(&a);

        auto zeros = [](const Buffer<T>& like) { return std::vector<double>(like.size(), 0.0); };
        std::vector<double> Y = zeros(y), W = zeros(weights), DQ = zeros(dq), DK = zeros(dk), DV = zeros(dv), DX = zeros(dx);
        for (ptrdiff_t b = 0; b < B; ++b)
            for (ptrdiff_t t = 0; t < T_; ++t) {
                auto at = [&](ptrdiff_t step, ptrdiff_t size) { return size_t((step * B + b) * size); };
                const size_t n = size_t(length[size_t(b)]);
                auto hidden = [&](size_t s, size_t i) {
                    return std::tanh(double(q[at(t, A) + i]) + double(k[at(ptrdiff_t(s), A) + i]));
                };
                std::vector<double> z(n, 0.0), dp = z;
                for (size_t s = 0; s < n; ++s) {
                    for (size_t i = 0; i < size_t(A); ++i) z[s] += double(v[i]) * hidden(s, i);
                    for (size_t e = 0; e < size_t(E); ++e)
                        dp[s] += double(dy[at(t, E) + e]) * double(x[at(ptrdiff_t(s), E) + e]);
                }
                const std::vector<double> p = softmax(z);
                double delta = 0;
                for (size_t s = 0; s < n; ++s) delta += p[s] * dp[s];
                for (size_t s = 0; s < n; ++s) {
                    const double de = p[s] * (dp[s] - delta);
                    W[at(t, S) + s] = p[s];
                    for (size_t e = 0; e < size_t(E); ++e) {
                        Y[at(t, E) + e] += p[s] * double(x[at(ptrdiff_t(s), E) + e]);
                        DX[at(ptrdiff_t(s), E) + e] += p[s] * double(dy[at(t, E) + e]);
                    }
                    for (size_t i = 0; i < size_t(A); ++i) {
                        const double u = hidden(s, i), dz = de * double(v[i]) * (1 - u * u);
                        DV[i] += de * u;
                        DQ[at(t, A) + i] += dz;
                        DK[at(ptrdiff_t(s), A) + i] += dz;
                    }
                }
            }
        expect("y", y, Y);
        expect("weights", weights, W);
        expect("dq", dq, DQ);
        expect("dk", dk, DK);
        expect("dv", dv, DV);
        expect("dx", dx, DX);
    }
};

template <class T>
void attention_of(int dtype, const std::string& isa) {
    AttentionCase<T> one{dtype, 1, isa}, three{dtype, 3, isa};
    for (int n = 1; n <= 35; n += n < 4 ? 1 : 7) {  // queries, sizes: few, around vectors, panels and tiles
        one.dot(n, 36 - n, 2, 2, n, 37 - n, false, false);
        if (n > 1) one.dot(n, 36 - n, 2, 2, n, 37 - n, true, true);  // one step that sees one: dq is 0 but for rounding
        one.additive(n, 36 - n, 3, n, 37 - n, n % 2 == 0);
    }
    three.dot(101, 260, 3, 2, 70, 65, true, true);
    three.dot(50, 270, 3, 1, 8, 8, false, true);
    three.dot(2, 70, 5, 3, 33, 40, false, true);
    three.additive(99, 20, 5, 70, 33, true);
}
