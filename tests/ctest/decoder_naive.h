// decoder_naive.h: the decoder of decoder.h, and the searches' steps, as plain loops over the equations for any number type.
#pragma once
#include <map>

#include "recurrent.h"

inline double value(double x) { return x; }
inline double value(Dual x) { return x.v; }
inline double exponential(double x) { return std::exp(x); }
inline Dual exponential(Dual x) { return {std::exp(x.v), std::exp(x.v) * x.d}; }
inline Dual operator/(Dual a, Dual b) { return {a.v / b.v, (a.d - a.v / b.v * b.d) / b.v}; }

// arrays by their names in decoder.h, those of layer l with l behind; dense and row-major
template <class S>
using Named = std::map<std::string, std::vector<S>>;

struct DecoderProblem {
    int cell, layers;
    ptrdiff_t T, B, S, E, H, A, K, Q;
    bool feeding, projected, additive, same;  // projected: q = U·h; same: keys are the values
    int layout = 0;                           // of every strided array
    unsigned without = 0;                     // what is null: Without
    bool attention = true;                    // searches can do without: y = h
    double scale = 0.75;
    std::vector<int64_t> lengths{}, sources{};
    Named<double> in{}, out{};  // inputs; gradients that come in: y, h_n…, c_n…
    // scheduled sampling, V = 0: none; embeddings are the first E - Z elements of x
    ptrdiff_t V = 0, Z = 0;
    double probability = 0;
    uint64_t seed = 0;

    Shape shape(int l) const { return {cell, T, B, l ? H : E + (feeding ? A : 0), H, H, 1, {}}; }
    bool lstm() const { return cell == fastrnn::kLstm; }
    std::string name() const {
        std::string s = std::string("decoder ") + kCellNames[cell] + " layers=" + std::to_string(layers);
        const std::pair<const char*, ptrdiff_t> sizes[] = {{"T", T}, {"B", B}, {"S", S}, {"E", E},          {"H", H},
                                                           {"A", A}, {"K", K}, {"Q", Q}, {"layout", layout}};
        for (const auto& [key, n] : sizes) s += std::string(" ") + key + "=" + std::to_string(n);
        return s + (feeding ? " feeding" : "") + (projected ? " U" : "") + (additive ? " additive" : "") +
               (same ? " keys=values" : "") + " without=" + std::to_string(without);
    }
};
enum Without : unsigned { kNoBias = 1, kNoInitial = 2, kNoDy = 4, kNoDstate = 8, kNoDx = 16, kNoGrads = 32, kNoLengths = 64 };

inline std::string of_layer(const char* name, int l) { return name + std::to_string(l); }

// numbers for all inputs, zeros for those that the call leaves out
inline void fill_problem(DecoderProblem& p, uint64_t seed) {
    Random random{seed};
    auto some = [&](ptrdiff_t n, double scale, unsigned without = 0) {
        return p.without & without ? std::vector<double>(size_t(n), 0.0) : random.normals(size_t(n), scale);
    };
    const double scale = 1 / std::sqrt(double(p.H));
    const ptrdiff_t GH = p.shape(0).gates() * p.H;
    p.lengths = lengths_of(p.without & kNoLengths ? "full" : "ragged", p.T, p.B, seed + 1);
    p.sources = lengths_of(p.without & kNoLengths ? "full" : "ragged", p.S, p.B, seed + 2);
    p.in["x"] = some(p.T * p.B * p.E, 1);
    p.in["values"] = some(p.S * p.B * p.K, 1);
    if (!p.same) p.in["keys"] = some(p.S * p.B * p.Q, 1);
    if (p.projected) p.in["U"] = some(p.Q * p.H, scale);
    if (p.additive) p.in["v"] = some(p.Q, 1);
    p.in["C"] = some(p.A * (p.K + p.H), scale);
    p.in["b_c"] = some(p.A, 0.5, kNoBias);
    p.in["feed_0"] = some(p.B * p.A, 0.5, kNoInitial);
    p.out["y"] = some(p.T * p.B * p.A, 1, kNoDy);
    for (int l = 0; l < p.layers; ++l) {
        p.in[of_layer("W", l)] = some(GH * p.shape(l).I, scale);
        p.in[of_layer("R", l)] = some(GH * p.H, scale);
        p.in[of_layer("b_w", l)] = some(GH, scale, kNoBias);
        p.in[of_layer("b_r", l)] = some(GH, scale, kNoBias);
        p.in[of_layer("h_0", l)] = some(p.B * p.H, 0.5, kNoInitial);
        p.out[of_layer("h_n", l)] = some(p.B * p.H, 1, kNoDstate);
        if (!p.lstm()) continue;
        p.in[of_layer("c_0", l)] = some(p.B * p.H, 0.5, kNoInitial);
        p.out[of_layer("c_n", l)] = some(p.B * p.H, 1, kNoDstate);
    }
    if (!p.V) return;
    p.in["embedding"] = some(p.V * (p.E - p.Z), 1);
    p.in["O"] = some(p.V * p.A, 1);
    p.in["b_o"] = some(p.V, 0.5, kNoBias);
}

// What one row of a batch carries from step to step, and the weights of its last one.
template <class S>
struct DecoderRow {
    std::vector<std::vector<S>> h, c;
    std::vector<S> y, w;
};

template <class S>
DecoderRow<S> first_row(const DecoderProblem& p, const Named<S>& in, ptrdiff_t b) {
    auto part = [&](const std::string& name, ptrdiff_t n) {
        const std::vector<S>& v = in.at(name);
        return std::vector<S>(v.begin() + b * n, v.begin() + (b + 1) * n);
    };
    DecoderRow<S> r;
    for (int l = 0; l < p.layers; ++l) {
        r.h.push_back(part(of_layer("h_0", l), p.H));
        r.c.push_back(p.lstm() ? part(of_layer("c_0", l), p.H) : std::vector<S>());
    }
    r.y = part("feed_0", p.A);
    return r;
}

// w = softmax(scores of q), and Σ w·value
template <class S>
std::vector<S> naive_attention(const DecoderProblem& p, const Named<S>& in, ptrdiff_t b, const std::vector<S>& q,
                               std::vector<S>& w) {
    const std::vector<S>&keys = in.at(p.same ? "values" : "keys"), &values = in.at("values");
    const size_t n = size_t(p.sources[size_t(b)]), Q = size_t(p.Q), K = size_t(p.K);
    auto at = [&](size_t s) { return s * size_t(p.B) + size_t(b); };
    std::vector<S> z(n, S(0)), context(K, S(0));
    double largest = -HUGE_VAL;
    for (size_t s = 0; s < n; ++s) {
        for (size_t i = 0; i < Q; ++i) {
            const S k = keys[at(s) * Q + i];
            z[s] = z[s] + (p.additive ? in.at("v")[i] * tangent(q[i] + k) : S(p.scale) * q[i] * k);
        }
        largest = std::fmax(largest, value(z[s]));
    }
    S total(0);
    for (S& e : z) total = total + (e = exponential(e - S(largest)));
    w.assign(size_t(p.S), S(0));
    for (size_t s = 0; s < n; ++s) {
        w[s] = z[s] / total;
        for (size_t i = 0; i < K; ++i) context[i] = context[i] + w[s] * values[at(s) * K + i];
    }
    return context;
}

// one step of row b; x has E elements
template <class S>
void naive_decoder_step(const DecoderProblem& p, const Named<S>& in, ptrdiff_t b, std::vector<S> x, DecoderRow<S>& r) {
    if (p.feeding) x.insert(x.end(), r.y.begin(), r.y.end());
    for (int l = 0; l < p.layers; ++l) {
        Weights<S> w;
        w.W = in.at(of_layer("W", l)), w.R = in.at(of_layer("R", l));
        w.b_w = in.at(of_layer("b_w", l)), w.b_r = in.at(of_layer("b_r", l));
        naive_step(p.shape(l), w, x.data(), r.h[size_t(l)], r.c[size_t(l)]);
        x = r.h[size_t(l)];
    }
    r.y = x;
    if (!p.attention) return;
    const S* none = nullptr;
    std::vector<S> both = naive_attention(p, in, b, p.projected ? affine(in.at("U"), x.data(), p.Q, p.H, none) : x, r.w);
    both.insert(both.end(), x.begin(), x.end());
    r.y = affine(in.at("C"), both.data(), p.A, p.K + p.H, in.at("b_c").data());
    for (S& one : r.y) one = tangent(one);
}

template <class S>
std::vector<S> row_of(const std::vector<S>& table, ptrdiff_t i, ptrdiff_t width) {
    return std::vector<S>(table.begin() + i * width, table.begin() + (i + 1) * width);
}

// the searches' uniform numbers
inline double uniform_number(uint64_t seed, uint64_t counter) { return Random{seed + counter * 0x9e3779b97f4a7c15u}.uniform(); }

// y, weights, h_n…, c_n…; with sampling also x and tokens (-1: not drawn)
template <class S>
Named<S> naive_decoder(const DecoderProblem& p, const Named<S>& in) {
    Named<S> out;
    out["y"].assign(size_t(p.T * p.B * p.A), S(0));
    out["weights"].assign(size_t(p.T * p.B * p.S), S(0));
    if (p.V) out["x"] = in.at("x"), out["tokens"].assign(size_t(p.T * p.B), S(-1));
    for (ptrdiff_t b = 0; b < p.B; ++b) {
        DecoderRow<S> r = first_row(p, in, b);
        for (ptrdiff_t t = 0; t < p.lengths[size_t(b)]; ++t) {
            const ptrdiff_t at = t * p.B + b;
            std::vector<S> x = row_of(in.at("x"), at, p.E);
            if (p.V && t && uniform_number(p.seed, uint64_t(b) << 32 | uint64_t(t)) < p.probability) {
                const std::vector<S> z = affine(in.at("O"), r.y.data(), p.V, p.A, in.at("b_o").data());
                ptrdiff_t best = 0;
                for (ptrdiff_t v = 1; v < p.V; ++v)
                    if (value(z[size_t(v)]) > value(z[size_t(best)])) best = v;
                const std::vector<S> drawn = row_of(in.at("embedding"), best, p.E - p.Z);
                std::copy(drawn.begin(), drawn.end(), x.begin());
                std::copy(drawn.begin(), drawn.end(), out["x"].begin() + at * p.E);
                out["tokens"][size_t(at)] = S(double(best));
            }
            naive_decoder_step(p, in, b, x, r);
            std::copy(r.y.begin(), r.y.end(), out["y"].begin() + at * p.A);
            std::copy(r.w.begin(), r.w.end(), out["weights"].begin() + at * p.S);
        }
        for (int l = 0; l < p.layers; ++l) {
            std::vector<S>&h = out[of_layer("h_n", l)], &c = out[of_layer("c_n", l)];
            h.insert(h.end(), r.h[size_t(l)].begin(), r.h[size_t(l)].end());
            c.insert(c.end(), r.c[size_t(l)].begin(), r.c[size_t(l)].end());
        }
    }
    return out;
}
