// ops_loss.h: losses that hand back their gradient.
//
// Cross entropy of the softmax p of a row x with q = (1-ε)·onehot(t) + ε/C, in one pass over the rows:
//
//   loss = log Σ exp(x-m) - (1-ε)·(x_t-m) - ε/C·Σ (x-m)        m = max(x)
//   dx   = factor·(p - q)
//
// Binary cross entropy of σ(x) with a target t between 0 and 1:
//
//   loss = max(x, 0) - x·t + log(1 + e⁻|x|)
//   dx   = factor·(σ(x) - t)
//
// What has factor 0 doesn't count, even if it is NaN; its dx is 0.
#pragma once
#include "ops_vectors.h"
#include "vmath_log.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// log(x) for finite x ≥ 1: with x = 2ᵉ·f, f from √½ to √2, e·ln2 + 2·atanh(s) where s = (f-1)/(f+1) ≤ 0.172
FR_INLINE VD log_from_one(VD x) {
    using I = Simd<double>::I;
    constexpr int kTerms = 10;  // the next, 0.172^22/23, is below an ulp
    // the exponent of x/√½, so that f is on both sides of 1
    const I above = (bits<double>(x) - bits<double>(broadcast(0.70710678118654752440))) & ~((I{} + 1) * ((1LL << 52) - 1));
    const VD f = from_bits<double>(bits<double>(x) - above), e = __builtin_convertvector(above >> 52, VD);
    const VD s = (f - broadcast(1.0)) / (f + broadcast(1.0)), s2 = s * s, twice = s + s;
    const VD log_f = fma(twice * s2, odd_reciprocals<double, 1, kTerms>(s2), twice);
    return fma(e, broadcast(0.69314718055994530942), log_f) + (x - x);  // NaN stays
}

// One row's loss but for the logarithm of `total`, which comes later for many rows at once.
template <class T>
FR_INLINE double cross_entropy_row(const T* x, int64_t t, T factor, double smoothing, T* dx, ptrdiff_t C, double& total) {
    const auto m = broadcast(largest(x, C));
    const double x_t = double(x[t]) - double(m[0]), share = smoothing / double(C);  // before dx overwrites x
    double loss = -(1 - smoothing) * x_t;
    if (smoothing != 0) loss -= share * sum<T>(C, [=](auto at) { return at.get(x) - m; });
    if (!dx) {
        total = sum<T>(C, [=](auto at) { return exp<T>(at.get(x) - m); });
        return loss;
    }
    total = sum<T>(C, [=](auto at) {
        auto e = exp<T>(at.get(x) - m);
        at.put(dx, e);
        return e;
    });
    const auto scale = broadcast(T(double(factor) / total)), everywhere = broadcast(T(double(factor) * share));
    vectors<T>(0, C, [=](auto at) { at.put(dx, at.get(dx) * scale - everywhere); });
    dx[t] -= T(double(factor) * (1 - smoothing));
    return loss;
}

template <class T>
ptrdiff_t cross_entropy(const T* logits, const int64_t* targets, const T* factor, double smoothing, T* dlogits, double* loss,
                        ptrdiff_t N, ptrdiff_t C, int threads) noexcept {
    const ptrdiff_t bad = first_outside(targets, factor, N, C);
    if (bad >= 0) return bad;
    *loss = sum_shares(N, double(C) * 0.4 + 10, threads, [=](ptrdiff_t n, ptrdiff_t last) {
        constexpr int kLanes = VL<double>;
        double sum_ = 0;
        for (; n < last; n += kLanes) {
            const int rows = int(least(ptrdiff_t(kLanes), last - n));
            double part[kLanes] = {}, total[kLanes];
            for (int r = 0; r < kLanes; ++r) total[r] = 1;
            for (int r = 0; r < rows; ++r) {
                T* dx = dlogits ? dlogits + (n + r) * C : nullptr;
                const int64_t t = targets[n + r];
                // another thread of the program may have changed t since it was checked: wrong then, but no crash
                if (factor[n + r] != T(0) && uint64_t(t) < uint64_t(C))
                    part[r] = cross_entropy_row(logits + (n + r) * C, t, factor[n + r], smoothing, dx, C, total[r]);
                else if (dx)
                    std::memset(dx, 0, size_t(C) * sizeof(T));
            }
            const VD logs = log_from_one(load(total));
            for (int r = 0; r < rows; ++r)
                if (factor[n + r] != T(0)) sum_ += double(factor[n + r]) * (part[r] + logs[r]);
        }
        return sum_;
    });
    return -1;
}

template <class T>
double bce_with_logits(const T* logits, const T* targets, const T* factor, T* dlogits, ptrdiff_t n, int threads) noexcept {
    return sum_in_double<T, false>(n, 1.0, threads, [=](auto at) {
        const auto one = broadcast(T(1)), none = zero<T>();
        auto x = at.get(logits), t = at.get(targets), w = at.get(factor);
        auto e = exp<T>(negative_abs<T>(x));
        auto loss = fnma(x, t, max(none, x)) + log1p<T>(e);
        if (dlogits) {
            auto top = x < none ? e : one;
            auto d = w * (top / (one + e) - t);
            at.put(dlogits, w != none ? d : none);
        }
        auto share = w * loss;
        return w != none ? share : none;
    });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
