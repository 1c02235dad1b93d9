// variants_naive.h: one step of the built-in cells' variants for one row of the batch, as scalar loops, and its gradient by
// central differences.
#pragma once
#include "check.h"
#include "fastrnn.h"
#include "variant.h"

inline double naive_activation(const fastrnn::CellActivationSettings& f, double z) {
    switch (f.kind) {
        case fastrnn::kActTanh:
            return std::tanh(z);
        case fastrnn::kActSigmoid:
            return 1 / (1 + std::exp(-z));
        case fastrnn::kActRelu:
            return z > 0 ? z : 0;
        case fastrnn::kActLeakyRelu:
            return z >= 0 ? z : f.alpha * z;
        case fastrnn::kActThresholdedRelu:
            return z >= f.alpha ? z : 0;
        case fastrnn::kActAffine:
            return f.alpha * z + f.beta;
        case fastrnn::kActScaledTanh:
            return f.alpha * std::tanh(f.beta * z);
        case fastrnn::kActHardSigmoid:
            return std::fmax(0, std::fmin(1, f.alpha * z + f.beta));
        case fastrnn::kActElu:
            return z >= 0 ? z : f.alpha * std::expm1(z);
        case fastrnn::kActSoftsign:
            return z / (1 + std::fabs(z));
        case fastrnn::kActSoftplus:
            return std::fmax(z, 0) + std::log1p(std::exp(-std::fabs(z)));
        default:
            return z;
    }
}

using Units = std::vector<double>;  // [H]

// What goes into a row's step. `z`: the products, a section each: LSTM i f g o (coupled: i g o); GRU r z, h₋₁·R_n + b_rn (only
// with the reset after it), x·W_n + b_wn; the others one.
struct RowInputs {
    std::vector<Units> z, before, vectors;
    template <class F>
    void each(F&& f) {
        for (auto* arrays : {&z, &before, &vectors})
            for (Units& a : *arrays) f(a);
    }
};

struct VariantProblem {
    fastrnn::VariantSettings q;
    int cell;
    size_t H;
    Units mix;  // [H, H] of a GRU with the reset before the product: R_n
    std::string name;
    bool fast() const { return cell >= fastrnn::kFastRnn; }
    bool lstm() const { return cell == fastrnn::kLstm; }
    bool two_stages() const { return cell == fastrnn::kGruBefore; }
    bool across_units() const { return q.norm_c || two_stages(); }
};

inline std::vector<Units> naive_lstm(const VariantProblem& p, const RowInputs& in) {
    const fastrnn::VariantSettings& q = p.q;
    const size_t H = p.H, last = q.coupled ? 2 : 3, gain = q.peephole ? last : 0;
    auto gate = [&](int which, double z) {
        return naive_activation(q.activation[which], q.clip > 0 ? std::fmax(-q.clip, std::fmin(q.clip, z)) : z);
    };
    auto hole = [&](size_t which, size_t u) { return q.peephole ? in.vectors[which][u] : 0; };
    Units h(H), c(H), n(H);
    for (size_t u = 0; u < H; ++u) {
        const double c_old = in.before[1][u], i = gate(0, in.z[0][u] + hole(0, u) * c_old);
        const double f = q.coupled ? 1 - i : gate(0, in.z[1][u] + hole(1, u) * c_old);
        c[u] = n[u] = f * c_old + i * gate(1, in.z[last - 1][u]);
    }
    if (q.norm_c) {
        double mean = 0, variance = 0;
        for (double v : c) mean += v / double(H);
        for (double v : c) variance += (v - mean) * (v - mean) / double(H);
        for (size_t u = 0; u < H; ++u)
            n[u] = (c[u] - mean) / std::sqrt(variance + 1e-5) * in.vectors[gain][u] + in.vectors[gain + 1][u];
    }
    for (size_t u = 0; u < H; ++u)
        h[u] = gate(0, in.z[last][u] + hole(last - 1, u) * c[u]) * naive_activation(q.activation[2], n[u]);
    return {h, c};
}

inline std::vector<Units> naive_step(const VariantProblem& p, const RowInputs& in) {
    if (p.lstm()) return naive_lstm(p, in);
    const fastrnn::VariantSettings& q = p.q;
    const size_t H = p.H;
    auto gate = [&](int which, double z) {
        return naive_activation(q.activation[which], q.clip > 0 ? std::fmax(-q.clip, std::fmin(q.clip, z)) : z);
    };
    Units h(H), r(H);
    if (p.fast()) {
        const std::vector<Units>& v = in.vectors;
        for (size_t u = 0; u < H; ++u) {
            const double sum = in.z[0][u], old = in.before[0][u];
            if (p.cell == fastrnn::kFastRnn) {
                h[u] = v[0][u] * gate(0, sum) + v[1][u] * old;
            } else {
                const double z = gate(0, sum + v[0][u]);
                h[u] = (v[2][u] * (1 - z) + v[3][u]) * gate(1, sum + v[1][u]) + z * old;
            }
        }
        return {h};
    }
    if (p.cell < fastrnn::kLstm) {
        for (size_t u = 0; u < H; ++u) h[u] = gate(0, in.z[0][u]);
        return {h};
    }
    for (size_t u = 0; u < H; ++u) r[u] = gate(0, in.z[0][u]);
    for (size_t u = 0; u < H; ++u) {
        double product = 0;
        if (p.two_stages())
            for (size_t v = 0; v < H; ++v) product += r[v] * in.before[0][v] * p.mix[v * H + u];
        else
            product = r[u] * in.z[2][u];
        const double z = gate(0, in.z[1][u]), n = gate(1, in.z.back()[u] + product);
        h[u] = (1 - z) * n + z * in.before[0][u];
    }
    return {h};
}

// The gradient of Σ weights·(new states) at all inputs. Where units don't see each other, all are moved at once.
inline RowInputs naive_gradient(const VariantProblem& p, RowInputs in, const std::vector<Units>& weights) {
    RowInputs gradient = in;
    std::vector<Units*> to;
    gradient.each([&](Units& a) { to.push_back(&a); });
    auto losses = [&] {
        Units loss(p.H, 0.0);
        const std::vector<Units> states = naive_step(p, in);
        for (size_t s = 0; s < states.size(); ++s)
            for (size_t u = 0; u < p.H; ++u) loss[u] += weights[s][u] * states[s][u];
        return loss;
    };
    const double step = 1e-6;  // small, so that no kink happens to lie between
    size_t k = 0;
    in.each([&](Units& a) {
        Units& d = *to[k++];
        const Units at = a;
        const size_t together = p.across_units() ? 1 : p.H;
        for (size_t u = 0; u < p.H; u += together) {
            for (size_t v = u; v < u + together; ++v) a[v] = at[v] + step;
            const Units above = losses();
            for (size_t v = u; v < u + together; ++v) a[v] = at[v] - step;
            const Units below = losses();
            a = at;
            for (size_t v = u; v < u + together; ++v) d[v] = 0;
            for (size_t v = 0; v < p.H; ++v) d[together == 1 ? u : v] += (above[v] - below[v]) / (2 * step);
        }
    });
    return gradient;
}
