// ops_optim.h: one step of an optimiser, in one pass and in place. The formulas are PyTorch's.
//
//   d = g + weight_decay·p
//
//   SGD       b = momentum·b + (1-dampening)·d            p -= lr·b        (Nesterov: lr·(d + momentum·b))
//   RMSprop   s = alpha·s + (1-alpha)·d²   a += (1-alpha)·(d-a)
//             q = d/(sqrt(s - a²) + eps)   b = momentum·b + q              p -= lr·b
//   Adam      m += (1-β₁)·(d-m)            v = β₂·v + (1-β₂)·d²
//             p -= lr/(1-β₁ᵗ)·m/(sqrt(v)/sqrt(1-β₂ᵗ) + eps)
//   AdamW     d = g and p = p·(1-lr·weight_decay) before
#pragma once
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
void sgd_step(T* p, const T* g, T* buf, ptrdiff_t n, double lr, double momentum, double dampening, int nesterov,
              double weight_decay, int first, int threads) noexcept {
    const auto decay = broadcast(T(weight_decay)), rate = broadcast(T(lr));
    const auto mu = broadcast(T(momentum)), take = broadcast(T(1 - dampening));
    each<T>(n, 0.2, threads, [=](auto at) {
        auto w = at.get(p), d = fma(decay, w, at.get(g));
        if (buf) {
            auto b = first ? d : fma(mu, at.get(buf), take * d);
            at.put(buf, b);
            d = nesterov ? fma(mu, b, d) : b;
        }
        at.put(p, fnma(rate, d, w));
    });
}

template <class T>
void rmsprop_step(T* p, const T* g, T* sq, T* buf, T* gavg, ptrdiff_t n, double lr, double alpha, double eps, double momentum,
                  double weight_decay, int threads) noexcept {
    const auto decay = broadcast(T(weight_decay)), rate = broadcast(T(lr)), tiny = broadcast(T(eps));
    const auto mu = broadcast(T(momentum)), keep = broadcast(T(alpha)), take = broadcast(T(1 - alpha));
    each<T>(n, 0.5, threads, [=](auto at) {
        auto w = at.get(p), d = fma(decay, w, at.get(g));
        auto s = fma(keep, at.get(sq), take * d * d);
        at.put(sq, s);
        if (gavg) {
            auto a = at.get(gavg);
            a = fma(take, d - a, a);
            at.put(gavg, a);
            s = max(zero<T>(), fnma(a, a, s));  // rounding could make it negative
        }
        auto q = d / (sqrt(s) + tiny);
        if (buf) {
            q = fma(mu, at.get(buf), q);
            at.put(buf, q);
        }
        at.put(p, fnma(rate, q, w));
    });
}

template <class T>
void adam_step(T* p, const T* g, T* m_, T* v_, ptrdiff_t n, double lr, double beta1, double beta2, double eps,
               double weight_decay, int decoupled, int64_t step, int threads) noexcept {
    const double correction1 = 1 - __builtin_pow(beta1, double(step));
    const double correction2 = 1 - __builtin_pow(beta2, double(step));
    const auto shrink = broadcast(T(decoupled ? 1 - lr * weight_decay : 1));
    const auto decay = broadcast(T(decoupled ? 0 : weight_decay));
    const auto take1 = broadcast(T(1 - beta1)), take2 = broadcast(T(1 - beta2)), keep2 = broadcast(T(beta2));
    const auto rate = broadcast(T(lr / correction1)), tiny = broadcast(T(eps));
    const auto unbias = broadcast(T(1 / __builtin_sqrt(correction2)));
    each<T>(n, 0.6, threads, [=](auto at) {
        auto w = at.get(p), d = fma(decay, w, at.get(g)), m = at.get(m_);
        m = fma(take1, d - m, m);
        auto v = fma(keep2, at.get(v_), take2 * d * d);
        at.put(m_, m);
        at.put(v_, v);
        at.put(p, fnma(rate, m / fma(sqrt(v), unbias, tiny), w * shrink));
    });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
