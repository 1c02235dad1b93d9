// ops_optim.h: one step of an optimiser for a whole model, in one pass and in place. The formulas are PyTorch's.
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
#include "../fastrnn.h"
#include "../ops.h"
#include "ops_vectors.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// body(at) for the elements first … last-1 of what is selected
template <class T, class Body>
FR_INLINE void selected(const Selection& s, ptrdiff_t first, ptrdiff_t last, Body body) {
    if (!s.rows) return vectors<T>(first, last, body);
    while (first < last) {
        const ptrdiff_t row = first / s.width, column = first - row * s.width;
        const ptrdiff_t end = least((row + 1) * s.width, last), start = s.rows[row] * s.width;
        vectors<T>(start + column, start + column + end - first, body);
        first = end;
    }
}

inline ptrdiff_t lines(const Selection& s) {
    const ptrdiff_t line = s.dtype == kFloat32 ? 16 : 8;
    return (s.n + line - 1) / line;
}

// body(k, first, last) on each thread's share of the elements of all selections, cut between cache lines
template <class Of, class Body>
FR_INLINE void share_out(ptrdiff_t count, double ns, int threads, const Of& of, const Body& body) {
    ptrdiff_t total = 0;
    for (ptrdiff_t k = 0; k < count; ++k) total += lines(of(k));
    parallel(total, ns, threads, [&](ptrdiff_t first, ptrdiff_t last) {
        for (ptrdiff_t k = 0, start = 0; k < count && start < last; ++k) {
            const Selection& s = of(k);
            const ptrdiff_t own = lines(s), line = s.dtype == kFloat32 ? 16 : 8;
            const ptrdiff_t i = first > start ? first - start : 0;
            if (i < own) body(k, i * line, least(least(last - start, own) * line, s.n));
            start += own;
        }
    });
}

template <class T>
void sgd(const Update& u, ptrdiff_t first_, ptrdiff_t last) noexcept {
    T *p = static_cast<T*>(u.p.data), *buf = static_cast<T*>(u.slot[0]);
    const T* g = static_cast<const T*>(u.g);
    const auto rate = broadcast(T(u.number[0])), mu = broadcast(T(u.number[1])), take = broadcast(T(1 - u.number[2]));
    const bool nesterov = u.number[3] != 0, first = u.number[5] != 0;
    const auto decay = broadcast(T(u.number[4]));
    selected<T>(u.p, first_, last, [=](auto at) {
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
void rmsprop(const Update& u, ptrdiff_t first, ptrdiff_t last) noexcept {
    T *p = static_cast<T*>(u.p.data), *sq = static_cast<T*>(u.slot[0]);
    T *buf = static_cast<T*>(u.slot[1]), *gavg = static_cast<T*>(u.slot[2]);
    const T* g = static_cast<const T*>(u.g);
    const auto rate = broadcast(T(u.number[0])), keep = broadcast(T(u.number[1])), take = broadcast(T(1 - u.number[1]));
    const auto tiny = broadcast(T(u.number[2])), mu = broadcast(T(u.number[3])), decay = broadcast(T(u.number[4]));
    selected<T>(u.p, first, last, [=](auto at) {
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
void adam(const Update& u, ptrdiff_t first, ptrdiff_t last) noexcept {
    T *p = static_cast<T*>(u.p.data), *m_ = static_cast<T*>(u.slot[0]), *v_ = static_cast<T*>(u.slot[1]);
    const T* g = static_cast<const T*>(u.g);
    const double lr = u.number[0], beta1 = u.number[1], beta2 = u.number[2], weight_decay = u.number[4], step = u.number[6];
    const bool decoupled = u.number[5] != 0;
    const double correction1 = 1 - __builtin_pow(beta1, step), correction2 = 1 - __builtin_pow(beta2, step);
    const auto shrink = broadcast(T(decoupled ? 1 - lr * weight_decay : 1));
    const auto decay = broadcast(T(decoupled ? 0 : weight_decay));
    const auto take1 = broadcast(T(1 - beta1)), take2 = broadcast(T(1 - beta2)), keep2 = broadcast(T(beta2));
    const auto rate = broadcast(T(lr / correction1)), tiny = broadcast(T(u.number[3]));
    const auto unbias = broadcast(T(1 / __builtin_sqrt(correction2)));
    selected<T>(u.p, first, last, [=](auto at) {
        auto w = at.get(p), d = fma(decay, w, at.get(g)), m = at.get(m_);
        m = fma(take1, d - m, m);
        auto v = fma(keep2, at.get(v_), take2 * d * d);
        at.put(m_, m);
        at.put(v_, v);
        at.put(p, fnma(rate, m / fma(sqrt(v), unbias, tiny), w * shrink));
    });
}

void update(int rule, const Update* list, ptrdiff_t count, int threads) noexcept {
    share_out(
        count, 5, threads, [=](ptrdiff_t k) -> const Selection& { return list[k].p; },
        [=](ptrdiff_t k, ptrdiff_t first, ptrdiff_t last) {
            const Update& u = list[k];
            const bool is_float = u.p.dtype == kFloat32;
            (rule == kSgd       ? (is_float ? sgd<float> : sgd<double>)
             : rule == kRmsprop ? (is_float ? rmsprop<float> : rmsprop<double>)
                                : (is_float ? adam<float> : adam<double>))(u, first, last);
        });
}

constexpr ptrdiff_t kNormBlock = 4096;

template <class T>
double block_squares(const Selection& s, ptrdiff_t first, ptrdiff_t last) noexcept {
    const T* a = static_cast<const T*>(s.data);
    VD sums[2] = {};
    selected<T>(s, first, last, [=, &sums](auto at) {
        const auto v = at.get(a);
        FR_UNROLL
        for (int k = 0; k < kWide<T>; ++k) {
            VD w = widen(v, k);
            sums[k] = fma(w, w, sums[k]);
        }
    });
    return reduce_add<double>(sums[0] + sums[1]);
}

double norm_squared(const Selection* list, ptrdiff_t count, int threads) noexcept {
    ptrdiff_t blocks = 0;
    for (ptrdiff_t k = 0; k < count; ++k) blocks += (list[k].n + kNormBlock - 1) / kNormBlock;
    return sum_shares(blocks, 0.1 * kNormBlock, threads, [=](ptrdiff_t first, ptrdiff_t last) {
        double total = 0;
        for (ptrdiff_t k = 0, start = 0; k < count && start < last; ++k) {
            const Selection& s = list[k];
            const ptrdiff_t own = (s.n + kNormBlock - 1) / kNormBlock;
            for (ptrdiff_t b = first > start ? first - start : 0; b < least(own, last - start); ++b)
                total += (s.dtype == kFloat32 ? block_squares<float> : block_squares<double>)(s, b * kNormBlock,
                                                                                              least((b + 1) * kNormBlock, s.n));
            start += own;
        }
        return total;
    });
}

template <class T>
void scale_part(const Selection& s, double by, ptrdiff_t first, ptrdiff_t last) noexcept {
    T* a = static_cast<T*>(s.data);
    const auto factor = broadcast(T(by));
    if (by == 0) return selected<T>(s, first, last, [=](auto at) { at.put(a, zero<T>()); });
    selected<T>(s, first, last, [=](auto at) { at.put(a, at.get(a) * factor); });
}

void scale_all(const Selection* list, ptrdiff_t count, double s, int threads) noexcept {
    share_out(
        count, 1.6, threads, [=](ptrdiff_t k) -> const Selection& { return list[k]; },
        [=](ptrdiff_t k, ptrdiff_t first, ptrdiff_t last) {
            (list[k].dtype == kFloat32 ? scale_part<float> : scale_part<double>)(list[k], s, first, last);
        });
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
