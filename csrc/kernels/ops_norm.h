// ops_norm.h: layer normalisation (Ba et al. 2016).
//
//   n = (x - mean)·rstd      rstd = 1/sqrt(mean((x - mean)²) + eps)
//   y = n·gamma + beta
//
//   dgamma += Σ_rows dy·n    dbeta += Σ_rows dy    dn = dy·gamma
//   dx = rstd·(dn - mean(dn) - n·mean(dn·n))
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
void layer_norm_forward(const T* x_, const T* gamma, const T* beta, double eps, T* y_, T* mean_, T* rstd_, ptrdiff_t N,
                        ptrdiff_t F, int threads) noexcept {
    parallel(N, double(F) * 0.3 + 10, threads, [=](ptrdiff_t r, ptrdiff_t last) {
        for (; r < last; ++r) {
            const T* x = x_ + r * F;
            T* y = y_ + r * F;
            mean_[r] = T(sum<T>(F, [=](auto at) { return at.get(x); }) / double(F));
            const auto mean = broadcast(mean_[r]);
            const double squares = sum<T>(F, [=](auto at) {
                auto d = at.get(x) - mean;
                return d * d;
            });
            rstd_[r] = T(1 / __builtin_sqrt(squares / double(F) + eps));
            const auto rstd = broadcast(rstd_[r]);
            vectors<T>(0, F, [=](auto at) {
                auto n = (at.get(x) - mean) * rstd;
                if (gamma) n = n * at.get(gamma);
                if (beta) n = n + at.get(beta);
                at.put(y, n);
            });
        }
    });
}

// dgamma and dbeta of columns c0 … c1-1; rows in their order, so many at a time that the sums stay in registers a while
template <class T>
void layer_norm_backward_weights(const T* dy, const T* x, const T* mean, const T* rstd, T* dgamma, T* dbeta, ptrdiff_t N,
                                 ptrdiff_t F, ptrdiff_t c0, ptrdiff_t c1) noexcept {
    constexpr ptrdiff_t kRows = 32;
    for (ptrdiff_t r0 = 0; r0 < N; r0 += kRows) {
        const ptrdiff_t r1 = least(r0 + kRows, N);
        vectors<T>(c0, c1, [=](auto at) {
            auto dg = dgamma ? at.get(dgamma) : zero<T>(), db = dbeta ? at.get(dbeta) : zero<T>();
            for (ptrdiff_t r = r0; r < r1; ++r) {
                auto d = at.get(dy + r * F);
                auto n = (at.get(x + r * F) - broadcast(mean[r])) * broadcast(rstd[r]);
                dg = fma(d, n, dg);
                db = db + d;
            }
            if (dgamma) at.put(dgamma, dg);
            if (dbeta) at.put(dbeta, db);
        });
    }
}

template <class T>
void layer_norm_backward(const T* dy_, const T* x_, const T* gamma, const T* mean_, const T* rstd_, T* dx_, T* dgamma, T* dbeta,
                         ptrdiff_t N, ptrdiff_t F, int threads) noexcept {
    // first, because dx may overwrite x or dy
    if (dgamma || dbeta) {
        constexpr ptrdiff_t line = 64 / sizeof(T);
        parallel((F + line - 1) / line, double(N) * line * 0.2, threads, [=](ptrdiff_t first, ptrdiff_t last) {
            layer_norm_backward_weights(dy_, x_, mean_, rstd_, dgamma, dbeta, N, F, first * line, least(last * line, F));
        });
    }
    parallel(N, double(F) * 0.4 + 10, threads, [=](ptrdiff_t r, ptrdiff_t last) {
        for (; r < last; ++r) {
            const T *dy = dy_ + r * F, *x = x_ + r * F;
            T* dx = dx_ + r * F;
            const auto mean = broadcast(mean_[r]), rstd = broadcast(rstd_[r]);
            auto dn = [=](auto at) { return gamma ? at.get(dy) * at.get(gamma) : at.get(dy); };
            auto n = [=](auto at) { return (at.get(x) - mean) * rstd; };
            const auto mean_dn = broadcast(T(sum<T>(F, dn) / double(F)));
            const auto mean_dn_n = broadcast(T(sum<T>(F, [=](auto at) { return dn(at) * n(at); }) / double(F)));
            vectors<T>(0, F, [=](auto at) { at.put(dx, rstd * fnma(n(at), mean_dn_n, dn(at) - mean_dn)); });
        }
    });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
