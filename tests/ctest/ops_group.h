// ops_group.h: the kernels of ops.h in exact buffers of every size around the vectors', against one-line formulas.
#pragma once
#include <algorithm>
#include <type_traits>

#include "check.h"
#include "fastrnn.h"
#include "naive.h"
#include "ops.h"
#include "recurrent.h"

template <class T>
struct OpsCase {
    const fastrnn::Ops& ops;
    int dtype;
    std::string isa;
    int threads;
    Random random{11};

    double tolerance() const { return sizeof(T) == 4 ? 3e-6 : 1e-13; }
    Buffer<T> some(ptrdiff_t n, double scale = 1) { return filled<T>(random.normals(size_t(n), scale)); }
    Buffer<T> none(ptrdiff_t n) { return Buffer<T>(size_t(n), sizeof(void*)); }
    template <class F>
    void expect(const char* what, const Buffer<T>& got, F&& want) {
        std::vector<double> w(got.size());
        for (size_t i = 0; i < w.size(); ++i) w[i] = want(ptrdiff_t(i));
        expect_close(content(got), w, tolerance(), isa + " " + what + " of " + std::to_string(got.size()));
    }

    void elementwise(ptrdiff_t n) {
        using namespace fastrnn;
        Buffer<T> x = some(n, 2), y = none(n), dy = some(n), dx = none(n), z = some(n);
        auto X = [&](ptrdiff_t i) { return double(x[size_t(i)]); };
        const double alpha = 0.3;
        auto f = [&](int kind, Dual v) {
            switch (kind) {
                case kExp:
                    return Dual(std::exp(v.v), std::exp(v.v) * v.d);
                case kTanh:
                    return tangent(v);
                case kSigmoid:
                    return sigma(v);
                case kRelu:
                    return rectify(v);
                case kLeakyRelu:
                    return v.v > 0 ? v : Dual(alpha) * v;
                default:
                    return v * sigma(Dual(alpha) * v);
            }
        };
        for (int kind = kExp; kind <= kSwish; ++kind) {
            ops.activation(dtype, kind, x.data(), y.data(), n, alpha, threads);
            expect("activation", y, [&](ptrdiff_t i) { return f(kind, X(i)).v; });
            ops.activation_backward(dtype, kind, x.data(), y.data(), dy.data(), dx.data(), n, alpha, threads);
            expect("activation_backward", dx, [&](ptrdiff_t i) { return f(kind, Dual(X(i), 1)).d * double(dy[size_t(i)]); });
        }
        ops.add(dtype, x.data(), z.data(), y.data(), n, threads);
        expect("add", y, [&](ptrdiff_t i) { return X(i) + double(z[size_t(i)]); });
        ops.scale(dtype, y.data(), 0.5, n, threads);
        expect("scale", y, [&](ptrdiff_t i) { return (X(i) + double(z[size_t(i)])) / 2; });
        ops.clip(dtype, y.data(), -0.25, 0.75, n, threads);
        for (ptrdiff_t i = 0; i < n; ++i) report.expect(y[size_t(i)] >= T(-0.25) && y[size_t(i)] <= T(0.75), "clip");
        double squares = 0;
        for (ptrdiff_t i = 0; i < n; ++i) squares += X(i) * X(i);
        report.expect(std::fabs(ops.sum_squares(dtype, x.data(), n, threads) - squares) <= 1e-6 * squares, "sum_squares");
        report.expect(ops.all_finite(dtype, x.data(), n, threads) == 1, "all_finite");
        if (n) {
            z[size_t(n - 1)] = T(NAN);
            report.expect(ops.all_finite(dtype, z.data(), n, threads) == 0, "all_finite of NaN");
        }
        ops.dropout(dtype, x.data(), 0.25, 5, y.data(), n, threads);
        for (ptrdiff_t i = 0; i < n; ++i) {
            const double kept = double(y[size_t(i)]) * 0.75;
            report.expect(y[size_t(i)] == 0 || std::fabs(kept - X(i)) <= 1e-6 * std::fabs(X(i)), "dropout");
        }
    }

    void losses(ptrdiff_t n) {
        Buffer<T> logits = some(n, 3), targets = some(n), factor = filled<T>(size_t(n), 0.5), d = none(n);
        for (ptrdiff_t i = 0; i < n; ++i) targets[size_t(i)] = T(i % 2);
        double loss = 0;
        for (ptrdiff_t i = 0; i < n; ++i) loss += 0.5 * std::log1p(std::exp((i % 2 ? -1 : 1) * double(logits[size_t(i)])));
        const double got = ops.bce_with_logits(dtype, logits.data(), targets.data(), factor.data(), d.data(), n, threads);
        report.expect(std::fabs(got - loss) <= 1e-5 * (1 + loss), isa + " bce_with_logits");
        expect("dlogits of bce", d, [&](ptrdiff_t i) { return 0.5 * (sigma(double(logits[size_t(i)])) - double(i % 2)); });
    }

    void rowwise(ptrdiff_t N, ptrdiff_t C) {
        Buffer<T> x = some(N * C, 2), y = none(N * C), log = none(N * C), dy = some(N * C), dx = none(N * C);
        std::vector<double> p(size_t(N * C)), dot(size_t(N), 0.0);
        for (ptrdiff_t r = 0; r < N; ++r) {
            double sum = 0;
            for (ptrdiff_t c = 0; c < C; ++c) sum += p[size_t(r * C + c)] = std::exp(double(x[size_t(r * C + c)]));
            for (ptrdiff_t c = 0; c < C; ++c) p[size_t(r * C + c)] /= sum;
        }
        ops.softmax(dtype, x.data(), y.data(), N, C, threads);
        expect("softmax", y, [&](ptrdiff_t i) { return p[size_t(i)]; });
        ops.log_softmax(dtype, x.data(), log.data(), N, C, threads);
        expect("log_softmax", log, [&](ptrdiff_t i) { return std::log(p[size_t(i)]); });
        for (ptrdiff_t i = 0; i < N * C; ++i) dot[size_t(i / C)] += p[size_t(i)] * double(dy[size_t(i)]);
        ops.softmax_backward(dtype, y.data(), dy.data(), dx.data(), N, C, threads);
        expect("softmax_backward", dx,
               [&](ptrdiff_t i) { return p[size_t(i)] * (double(dy[size_t(i)]) - dot[size_t(i / C)]); });

        Buffer<int64_t> targets(size_t(N), sizeof(void*));
        for (ptrdiff_t r = 0; r < N; ++r) targets[size_t(r)] = r % C;
        Buffer<T> factor = filled<T>(size_t(N), 0.5);
        double loss = 0, want = 0;
        for (ptrdiff_t r = 0; r < N; ++r) want -= 0.5 * std::log(p[size_t(r * C + r % C)]);
        ptrdiff_t bad = ops.cross_entropy(dtype, x.data(), targets.data(), factor.data(), 0, dx.data(), &loss, N, C, threads);
        report.expect(bad == -1 && std::fabs(loss - want) <= 1e-5 * (1 + want), isa + " cross_entropy");
        expect("dlogits", dx, [&](ptrdiff_t i) { return 0.5 * (p[size_t(i)] - double(i % C == i / C % C)); });
        if (N) {
            targets[size_t(N - 1)] = C;
            bad = ops.cross_entropy(dtype, x.data(), targets.data(), factor.data(), 0, dx.data(), &loss, N, C, threads);
            report.expect(bad == N - 1, isa + " cross_entropy finds the bad target");
        }
        Buffer<T> sums = filled<T>(size_t(C), 1.0);
        ops.column_sum(dtype, x.data(), sums.data(), N, C, threads);
        expect("column_sum", sums, [&](ptrdiff_t c) {
            double s = 1;
            for (ptrdiff_t r = 0; r < N; ++r) s += double(x[size_t(r * C + c)]);
            return s;
        });
        layer_norm(N, C);
    }

    void layer_norm(ptrdiff_t N, ptrdiff_t F) {
        const double eps = 1e-3;
        Buffer<T> x = some(N * F), gamma = some(F), beta = some(F), y = none(N * F), mean = none(N), rstd = none(N);
        Buffer<T> dy = some(N * F), dx = none(N * F), dgamma = filled<T>(size_t(F), 1.0), dbeta = filled<T>(size_t(F), 1.0);
        std::vector<double> n(size_t(N * F)), r(size_t(N), 0.0), g(size_t(N), 0.0), gn(size_t(N), 0.0);
        for (ptrdiff_t i = 0; i < N; ++i) {
            double m = 0, v = 0;
            for (ptrdiff_t k = 0; k < F; ++k) m += double(x[size_t(i * F + k)]) / double(F);
            for (ptrdiff_t k = 0; k < F; ++k) v += std::pow(double(x[size_t(i * F + k)]) - m, 2) / double(F);
            r[size_t(i)] = 1 / std::sqrt(v + eps);
            for (ptrdiff_t k = 0; k < F; ++k) {
                const size_t at = size_t(i * F + k);
                n[at] = (double(x[at]) - m) * r[size_t(i)];
                g[size_t(i)] += double(dy[at]) * double(gamma[size_t(k)]) / double(F);
                gn[size_t(i)] += double(dy[at]) * double(gamma[size_t(k)]) * n[at] / double(F);
            }
        }
        ops.layer_norm_forward(dtype, x.data(), gamma.data(), beta.data(), eps, y.data(), mean.data(), rstd.data(), N, F,
                               threads);
        expect("layer_norm_forward", y,
               [&](ptrdiff_t i) { return n[size_t(i)] * double(gamma[size_t(i % F)]) + double(beta[size_t(i % F)]); });
        ops.layer_norm_backward(dtype, dy.data(), x.data(), gamma.data(), mean.data(), rstd.data(), dx.data(), dgamma.data(),
                                dbeta.data(), N, F, threads);
        if (F > 2)  // two are normalised to ±1, and only rounding is left of dx
            expect("layer_norm_backward", dx, [&](ptrdiff_t i) {
                const size_t row = size_t(i / F);
                return r[row] * (double(dy[size_t(i)]) * double(gamma[size_t(i % F)]) - g[row] - n[size_t(i)] * gn[row]);
            });
        expect("dgamma", dgamma, [&](ptrdiff_t k) {
            double s = 1;
            for (ptrdiff_t i = 0; i < N; ++i) s += double(dy[size_t(i * F + k)]) * n[size_t(i * F + k)];
            return s;
        });
    }

    void embedding(ptrdiff_t N, ptrdiff_t V, ptrdiff_t E) {
        Buffer<T> weight = some(V * E), out = none(N * E), dy = some(N * E), dweight = filled<T>(size_t(V * E), 1.0);
        Buffer<int64_t> idx(size_t(N), sizeof(void*));
        for (ptrdiff_t i = 0; i < N; ++i) idx[size_t(i)] = (i * 7) % V;
        report.expect(ops.embedding_forward(dtype, weight.data(), idx.data(), out.data(), N, V, E, threads) == -1, "embedding");
        expect("embedding_forward", out, [&](ptrdiff_t i) { return double(weight[size_t(idx[size_t(i / E)] * E + i % E)]); });
        report.expect(ops.embedding_backward(dtype, dy.data(), idx.data(), dweight.data(), N, V, E, threads) == -1,
                      "embedding");
        expect("embedding_backward", dweight, [&](ptrdiff_t i) {
            double s = 1;
            for (ptrdiff_t k = 0; k < N; ++k)
                if (idx[size_t(k)] == i / E) s += double(dy[size_t(k * E + i % E)]);
            return s;
        });
        if (!N) return;
        idx[size_t(N - 1)] = -1;
        report.expect(ops.embedding_forward(dtype, weight.data(), idx.data(), out.data(), N, V, E, threads) == N - 1,
                      "bad idx");
        report.expect(ops.embedding_backward(dtype, dy.data(), idx.data(), dweight.data(), N, V, E, threads) == N - 1,
                      "bad idx");
    }

    void pools(ptrdiff_t steps, ptrdiff_t B, ptrdiff_t F, bool ragged) {
        using Step = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
        Buffer<T> x = some(steps * B * F), dy = some(B * F), y = none(B * F), dx = none(steps * B * F);
        Buffer<Step> step(size_t(B * F), sizeof(void*));
        Buffer<int64_t> lengths(size_t(B), sizeof(void*));
        for (ptrdiff_t b = 0; b < B; ++b) lengths[size_t(b)] = ragged ? (b * 5 + steps) % (steps + 1) : steps;
        const int64_t* n = ragged ? lengths.data() : nullptr;
        auto X = [&](ptrdiff_t t, ptrdiff_t i) { return double(x[size_t(t * B * F + i)]); };
        auto length = [&](ptrdiff_t i) { return ptrdiff_t(lengths[size_t(i / F)]); };
        auto best = [&](ptrdiff_t i) {
            ptrdiff_t found = 0;
            for (ptrdiff_t t = 1; t < length(i); ++t)
                if (X(t, i) > X(found, i)) found = t;
            return found;
        };
        ops.max_pool(dtype, x.data(), B * F, F, n, y.data(), nullptr, steps, B, F, threads);
        ops.max_pool(dtype, x.data(), B * F, F, n, y.data(), step.data(), steps, B, F, threads);
        expect("max_pool", y, [&](ptrdiff_t i) { return length(i) ? X(best(i), i) : 0; });
        ops.max_pool_backward(dtype, dy.data(), step.data(), n, dx.data(), B * F, F, steps, B, F, threads);
        expect("max_pool_backward", dx, [&](ptrdiff_t at) {
            const ptrdiff_t t = at / (B * F), i = at % (B * F);
            return t < length(i) && t == best(i) ? double(dy[size_t(i)]) : 0;
        });
        ops.mean_pool(dtype, x.data(), B * F, F, n, y.data(), steps, B, F, threads);
        expect("mean_pool", y, [&](ptrdiff_t i) {
            double s = 0;
            for (ptrdiff_t t = 0; t < length(i); ++t) s += X(t, i) / double(length(i));
            return s;
        });
        ops.mean_pool_backward(dtype, dy.data(), n, dx.data(), B * F, F, steps, B, F, threads);
        expect("mean_pool_backward", dx, [&](ptrdiff_t at) {
            const ptrdiff_t i = at % (B * F);
            return at / (B * F) < length(i) ? double(dy[size_t(i)]) / double(length(i)) : 0;
        });
    }

    void optimisers(ptrdiff_t n) {
        Buffer<T> p = some(n), g = some(n), m = filled<T>(size_t(n), 0.0), v = filled<T>(size_t(n), 0.0), buf = none(n);
        const std::vector<T> before = content(p);
        auto P = [&](ptrdiff_t i) { return double(before[size_t(i)]); };
        auto G = [&](ptrdiff_t i) { return double(g[size_t(i)]); };
        auto again = [&] { std::copy(before.begin(), before.end(), p.data()); };
        auto step = [&](int rule, void* a, void* b, void* c, std::initializer_list<double> numbers) {
            fastrnn::Update u{{p.data(), n, nullptr, 1, dtype}, g.data(), {a, b, c}, {}};
            std::copy(numbers.begin(), numbers.end(), u.number);
            ops.update(rule, &u, 1, threads);
        };
        step(fastrnn::kSgd, buf.data(), nullptr, nullptr, {0.1, 0.9, 0, 0, 0, 1});
        expect("sgd", p, [&](ptrdiff_t i) { return P(i) - 0.1 * G(i); });
        again();
        step(fastrnn::kSgd, nullptr, nullptr, nullptr, {0.1, 0, 0, 0, 0.5, 0});
        expect("sgd", p, [&](ptrdiff_t i) { return P(i) - 0.1 * (G(i) + 0.5 * P(i)); });
        again();
        step(fastrnn::kAdam, m.data(), v.data(), nullptr, {0.1, 0.9, 0.99, 1e-8, 0, 0, 1});
        expect("adam", p, [&](ptrdiff_t i) { return P(i) - 0.1 * G(i) / (std::fabs(G(i)) + 1e-8); });
        again();
        std::fill(v.data(), v.data() + n, T(0));
        step(fastrnn::kRmsprop, v.data(), nullptr, nullptr, {0.1, 0.75, 1e-8, 0, 0});
        expect("rmsprop", p, [&](ptrdiff_t i) { return P(i) - 0.1 * G(i) / (0.5 * std::fabs(G(i)) + 1e-8); });
        again();
        Buffer<T> mean = filled<T>(size_t(n), 0.0), momentum = filled<T>(size_t(n), 0.0);
        step(fastrnn::kRmsprop, v.data(), momentum.data(), mean.data(), {0.1, 0.75, 1e-8, 0.9, 0.1});
        report.expect(ops.all_finite(dtype, p.data(), n, threads) == 1, "rmsprop, centred");
        // every other row of three, beside an array of all elements
        Buffer<T> table = filled<T>(size_t(3 * n), 2.0), dense = filled<T>(size_t(n), 3.0);
        const int64_t rows[2] = {0, 2};
        const fastrnn::Selection both[2] = {{table.data(), 2 * n, rows, n, dtype}, {dense.data(), n, nullptr, 1, dtype}};
        report.expect(std::fabs(ops.norm_squared(both, 2, threads) - 17.0 * double(n)) <= 1e-9 * double(n), "norm_squared");
        ops.scale_all(both, 2, 0.5, threads);
        expect("scale_all", table, [&](ptrdiff_t i) { return i / n == 1 ? 2.0 : 1.0; });
        expect("scale_all", dense, [&](ptrdiff_t) { return 1.5; });
    }
};

template <class T>
void ops_of(int dtype, const std::string& isa) {
    OpsCase<T> one{*fastrnn::kernels()->ops, dtype, isa, 1, {}}, three{*fastrnn::kernels()->ops, dtype, isa, 3, {}};
    for (ptrdiff_t n = 0; n <= 35; ++n) {
        one.elementwise(n);
        one.losses(n);
        one.optimisers(n);
        for (ptrdiff_t rows : {0, 1, 5}) {
            if (n) one.rowwise(rows, n);
            if (n) one.embedding(rows * 3, 7, n);
            if (n) one.pools(rows + 1, rows, n, rows > 1);
        }
    }
    three.elementwise(70001);
    three.losses(70001);
    three.optimisers(70001);
    three.rowwise(301, 67);
    three.embedding(2000, 50, 33);
    for (bool ragged : {false, true}) three.pools(70, 37, 301, ragged);
}
