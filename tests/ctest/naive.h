// naive.h: every recurrent cell as scalar loops over the equations, for any number type.
//
// With S = double this is the expected output; with S = Dual it carries a derivative along a direction as well, which is
// what a gradient must agree with: Σ gradient·direction = derivative of Σ dy·y + dh_n·h_n + dc_n·c_n.
#pragma once
#include <cmath>
#include <vector>

#include "fastrnn.h"

struct Dual {
    double v = 0, d = 0;
    Dual() = default;
    Dual(double value, double derivative = 0) : v(value), d(derivative) {}
};
inline Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.d + b.d}; }
inline Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.d - b.d}; }
inline Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }

inline double sigma(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
inline Dual sigma(Dual x) {
    const double s = sigma(x.v);
    return {s, s * (1 - s) * x.d};
}
inline double tangent(double x) { return std::tanh(x); }
inline Dual tangent(Dual x) {
    const double t = std::tanh(x.v);
    return {t, (1 - t * t) * x.d};
}
inline double rectify(double x) { return x > 0 ? x : 0; }
inline Dual rectify(Dual x) { return x.v > 0 ? x : Dual(); }

struct Shape {
    int cell;
    ptrdiff_t T, B, I, H, P;
    int D;
    std::vector<int64_t> lengths;  // [B]
    ptrdiff_t gates() const { return cell == fastrnn::kLstm ? 4 : cell >= fastrnn::kGruAfter ? 3 : 1; }
    bool lstm() const { return cell == fastrnn::kLstm; }
};

// What a layer computes from; dense and row-major. M is empty without a projection.
template <class S>
struct Weights {
    std::vector<S> W, R, b_w, b_r, M, h_0, c_0;  // [GH, I] [GH, P] [GH] [GH] [P, H] [B, P] [B, H]
};
template <class S>
struct Inputs {
    std::vector<S> x;  // [T, B, I]
    Weights<S> dir[2];
};
template <class S>
struct Outputs {
    std::vector<S> y, h_n[2], c_n[2];  // [T, B, D·P] [B, P] [B, H]
};

// z[j] = bias[j] + Σ_k A[j0 + j][k]·v[k]
template <class S>
std::vector<S> affine(const std::vector<S>& A, const S* v, ptrdiff_t rows, ptrdiff_t cols, const S* bias, ptrdiff_t j0 = 0) {
    std::vector<S> z(size_t(rows), S(0));
    for (ptrdiff_t j = 0; j < rows; ++j) {
        S sum = bias ? bias[j0 + j] : S(0);
        for (ptrdiff_t k = 0; k < cols; ++k) sum = sum + A[size_t((j0 + j) * cols + k)] * v[k];
        z[size_t(j)] = sum;
    }
    return z;
}

// one step of one row: h and c become those after it
template <class S>
void naive_step(const Shape& q, const Weights<S>& w, const S* x, std::vector<S>& h, std::vector<S>& c) {
    const ptrdiff_t H = q.H, G = q.gates();
    std::vector<S> z = affine(w.W, x, G * H, q.I, w.b_w.data());
    std::vector<S> r = affine(w.R, h.data(), G * H, q.P, w.b_r.data());
    auto at = [&](ptrdiff_t gate, ptrdiff_t u) { return z[size_t(gate * H + u)] + r[size_t(gate * H + u)]; };
    if (G == 1) {
        for (ptrdiff_t u = 0; u < H; ++u)
            h[size_t(u)] = q.cell == fastrnn::kRnnTanh   ? tangent(at(0, u))
                           : q.cell == fastrnn::kRnnRelu ? rectify(at(0, u))
                                                         : sigma(at(0, u));
    } else if (q.lstm()) {
        std::vector<S> out(size_t(H), S(0));
        for (ptrdiff_t u = 0; u < H; ++u) {
            S& cell = c[size_t(u)];
            cell = sigma(at(1, u)) * cell + sigma(at(0, u)) * tangent(at(2, u));
            out[size_t(u)] = sigma(at(3, u)) * tangent(cell);
        }
        h = w.M.empty() ? out : affine(w.M, out.data(), q.P, H, static_cast<const S*>(nullptr));
    } else {
        std::vector<S> reset(size_t(H), S(0)), inner;
        for (ptrdiff_t u = 0; u < H; ++u) reset[size_t(u)] = sigma(at(0, u));
        if (q.cell == fastrnn::kGruBefore) {
            std::vector<S> kept(size_t(H), S(0));
            for (ptrdiff_t u = 0; u < H; ++u) kept[size_t(u)] = reset[size_t(u)] * h[size_t(u)];
            inner = affine(w.R, kept.data(), H, H, w.b_r.data(), 2 * H);
        }
        for (ptrdiff_t u = 0; u < H; ++u) {
            const S product = q.cell == fastrnn::kGruBefore ? inner[size_t(u)] : reset[size_t(u)] * r[size_t(2 * H + u)];
            const S n = tangent(z[size_t(2 * H + u)] + product), zed = sigma(at(1, u));
            h[size_t(u)] = (S(1) - zed) * n + zed * h[size_t(u)];
        }
    }
}

template <class S>
Outputs<S> naive(const Shape& q, const Inputs<S>& in) {
    Outputs<S> out;
    out.y.assign(size_t(q.T * q.B * q.D * q.P), S(0));
    for (int d = 0; d < q.D; ++d) {
        const Weights<S>& w = in.dir[d];
        for (ptrdiff_t b = 0; b < q.B; ++b) {
            std::vector<S> h(w.h_0.begin() + b * q.P, w.h_0.begin() + (b + 1) * q.P), c;
            if (q.lstm()) c.assign(w.c_0.begin() + b * q.H, w.c_0.begin() + (b + 1) * q.H);
            const ptrdiff_t length = q.lengths[size_t(b)];
            for (ptrdiff_t s = 0; s < length; ++s) {
                const ptrdiff_t t = d == 0 ? s : length - 1 - s;
                naive_step(q, w, &in.x[size_t((t * q.B + b) * q.I)], h, c);
                for (ptrdiff_t u = 0; u < q.P; ++u) out.y[size_t(((t * q.B + b) * q.D + d) * q.P + u)] = h[size_t(u)];
            }
            out.h_n[d].insert(out.h_n[d].end(), h.begin(), h.end());
            out.c_n[d].insert(out.c_n[d].end(), c.begin(), c.end());
        }
    }
    return out;
}
