// given_group.h: cells given by functions through the whole schedule, forward and backward, in exact buffers: variants, layer
// norm, zoneout, dropout, resets, projections, more gates than a panel holds, every state handed out, stacks side by side.
//
// The right gradient is the slope of the loss along a random direction of everything that goes in, by central differences of
// the kernels' own forward pass; and any number of threads, checkpoints and stacks give the same bits.
#pragma once
#include <algorithm>
#include <map>

#include "recurrent.h"
#include "variant.h"

// Six gates, one of them apart; three states; a vector. Nothing beyond the products is kept.
//   s = σ(z₁) s + tanh(z₀) z₂      u = u/2 + v tanh(z₃)      h = σ(z₄) tanh(s) + 0.3 x₅ tanh(r₅) + 0.2 h + 0.1 u
template <class T>
void wide_cell(const fastrnn::CellTile* t, bool backward) {
    for (int64_t r = 0; r < t->rows; ++r)
        for (int64_t i = t->first; i < t->last; ++i) {
            auto z = [&](int s) -> T& { return static_cast<T*>(t->gates[r])[s * t->section + i]; };
            auto before = [&](int k) { return static_cast<const T*>(t->before[k][r])[i]; };
            const T v = static_cast<const T*>(t->vectors[0])[i];
            const T a = std::tanh(z(0)), b = T(sigma(z(1))), d = std::tanh(z(3)), o = T(sigma(z(4))), e = std::tanh(z(5));
            const T s = b * before(1) + a * z(2), u = before(2) / 2 + v * d, n = std::tanh(s);
            if (!backward) {
                const T h = o * n + T(0.3) * z(6) * e + T(0.2) * before(0) + T(0.1) * u, all[] = {h, s, u};
                for (int k = 0; k < 3; ++k) static_cast<T*>(t->after[k][r])[i] = all[k];
                continue;
            }
            auto gradient = [&](int k) -> T& { return static_cast<T*>(t->gradient[k][r])[i]; };
            const T dh = gradient(0), ds = gradient(1) + dh * o * (1 - n * n), du = gradient(2) + dh * T(0.1);
            gradient(0) = dh * T(0.2), gradient(1) = ds * b, gradient(2) = du / 2;
            const T dz[] = {ds * z(2) * (1 - a * a), ds * before(1) * b * (1 - b),     ds * a,          du * v * (1 - d * d),
                            dh * n * o * (1 - o),    dh * T(0.3) * z(6) * (1 - e * e), dh * T(0.3) * e, du * d};
            for (int k = 0; k < 8; ++k) z(k) = dz[k];
        }
}
template <class T>
fastrnn::CellSpec wide_spec() {
    fastrnn::CellSpec s{};
    s.gates = 6, s.states = 3, s.vectors = 1, s.sections = 8;
    for (int g = 0; g < 6; ++g) s.section_x[g] = s.section_r[g] = g;
    s.section_x[5] = 6;
    s.section_v[0] = 7;
    s.forward = [](const fastrnn::CellTile* t) { wide_cell<T>(t, false); };
    s.backward = [](const fastrnn::CellTile* t) { wide_cell<T>(t, true); };
    return s;
}

constexpr int kWideCell = -1;
struct GivenCase {
    const char* name;
    int cell;
    fastrnn::VariantSettings q;
    int norm;
    double zoneout[3], dropout;
    bool projects;
    int resets;  // 1: to zeros, 2: to states
};
struct GivenShape {
    ptrdiff_t T, B, I, H;
    int D, layers;
    const char* lengths;
    bool codes, all;  // one-hot input; every state handed out
};

inline std::vector<GivenCase> given_cases() {
    using namespace fastrnn;
    auto lstm = [](bool peephole, bool coupled, bool norm_c, double clip) {
        return VariantSettings{peephole, coupled, norm_c, clip, {{kActSigmoid, 0, 0}, {kActTanh, 0, 0}, {kActTanh, 0, 0}}};
    };
    VariantSettings soft = lstm(false, false, false, 0);
    soft.activation[0] = {kActSoftsign, 0, 0};
    return {
        {"six gates", kWideCell, {}, 0, {}, 0, false, 0},
        {"six gates, noise, resets", kWideCell, {}, 0, {0.3, 0.2, 0.1}, 0.4, false, 2},
        {"six gates, norm", kWideCell, {}, 6, {0, 0.2, 0}, 0.3, false, 1},
        {"six gates, two norms", kWideCell, {}, 5, {0.2, 0, 0.3}, 0.3, false, 2},
        {"peepholes, projection", kLstm, lstm(true, false, false, 0), 0, {0.2, 0.3, 0}, 0.3, true, 1},
        {"coupled, norms of c", kLstm, lstm(true, true, true, 0), 3, {0.3, 0, 0}, 0, false, 2},
        {"norm, projection", kLstm, lstm(false, false, true, 0), 4, {0, 0, 0}, 0.2, true, 0},
        {"gru after, norm", kGruAfter, lstm(false, false, false, 0), 2, {0.2, 0, 0}, 0.3, false, 1},
        {"gru before, noise", kGruBefore, lstm(false, false, false, 0), 0, {0.3, 0, 0}, 0.4, false, 2},
        {"gru before, norm", kGruBefore, lstm(false, false, false, 0), 2, {0.2, 0, 0}, 0.3, false, 1},
        {"rnn, noise", kRnnTanh, soft, 0, {0.2, 0, 0}, 0.3, false, 2},
        {"rnn, norm", kRnnTanh, soft, 1, {0, 0, 0}, 0, false, 0},
    };
}

using NamedArrays = std::map<std::string, std::vector<double>>;

// A layer's sizes, and what goes in and comes out of it, by name.
struct GivenProblem {
    GivenCase c;
    GivenShape s;
    ptrdiff_t P, G, states, vectors;
    std::vector<int64_t> lengths;
    std::vector<uint8_t> reset;
    NamedArrays in, out;  // inputs, and gradients at outputs

    GivenProblem(const GivenCase& c_, const GivenShape& s_, uint64_t seed)
        : c(c_), s(s_), P(c.projects ? (s.H + 1) / 2 : s.H), lengths(lengths_of(s.lengths, s.T, s.B, seed)) {
        fastrnn::CellSpec spec = wide_spec<double>();
        if (c.cell != kWideCell) report.expect(fastrnn::kernels()->variant(&c.q, fastrnn::kFloat64, c.cell, &spec), c.name);
        G = spec.gates, states = spec.states, vectors = spec.vectors;
        Random random{seed};
        for (ptrdiff_t i = 0; i < s.T * s.B; ++i) reset.push_back(random.below(5) == 0);
        auto some = [&](NamedArrays& to, const std::string& name, ptrdiff_t n) { to[name] = random.normals(size_t(n), 0.5); };
        if (!s.codes) some(in, "x", s.T * s.B * s.I);
        some(out, "y", s.T * s.B * s.D * P);
        for (int l = 0; l < s.layers; ++l)
            for (int d = 0; d < s.D; ++d) {
                const std::string at = name(l, d);
                some(in, at + "W", G * s.H * (l ? s.D * P : s.I)), some(in, at + "R", G * s.H * P);
                some(in, at + "b_w", G * s.H), some(in, at + "b_r", G * s.H);
                if (c.projects) some(in, at + "M", P * s.H);
                if (c.norm) some(in, at + "gain_x", G * s.H), some(in, at + "gain_r", G * s.H);
                for (ptrdiff_t v = 0; v < vectors; ++v) some(in, at + "v" + std::to_string(v), s.H);
                some(in, at + "h", s.B * P), some(out, at + "h", s.B * P);
                some(in, at + "c", (states - 1) * s.B * s.H), some(out, at + "c", (states - 1) * s.B * s.H);
                if (s.all) some(out, at + "all", (states - 1) * s.T * s.B * s.H);
            }
    }
    static std::string name(int l, int d) { return "layer " + std::to_string(l) + " direction " + std::to_string(d) + " "; }
};

template <class T>
struct GivenRun {
    std::map<std::string, Buffer<T>> in, out, gradient, cotangent;

    static std::map<std::string, Buffer<T>> buffers(const NamedArrays& from) {
        std::map<std::string, Buffer<T>> to;
        for (const auto& [name, values] : from) to[name] = filled<T>(values);
        return to;
    }

    GivenRun(const GivenProblem& p, const NamedArrays& inputs, int threads, int save, ptrdiff_t checkpoint = 0) {
        using namespace fastrnn;
        const Kernels& k = *kernels();
        const GivenShape& s = p.s;
        in = buffers(inputs), cotangent = buffers(p.out);
        const int dtype = sizeof(T) == 4 ? kFloat32 : kFloat64;
        CellSpec spec = wide_spec<T>();
        if (p.c.cell != kWideCell) k.variant(&p.c.q, dtype, p.c.cell, &spec);
        Buffer<int64_t> lengths(p.lengths.size(), 8), codes(s.codes ? size_t(s.T * s.B) : 0, 8);
        std::copy(p.lengths.begin(), p.lengths.end(), lengths.data());
        for (size_t i = 0; i < codes.size(); ++i) codes[i] = int64_t(i * i % size_t(s.I));
        std::vector<Sequence> q(size_t(s.layers));
        std::vector<Buffer<char>> saved, forward, backward;
        std::vector<const Sequence*> all;
        std::vector<std::string> ys;
        for (int l = 0; l < s.layers; ++l) {
            Sequence& a = q[size_t(l)];
            ys.push_back(l + 1 < s.layers ? "y of layer " + std::to_string(l) : "y");
            a.dtype = dtype, a.cell = kGiven, a.spec = &spec, a.threads = threads;
            a.T = s.T, a.B = s.B, a.H = s.H, a.P = p.P, a.D = s.D, a.I = l ? s.D * p.P : s.I;
            a.save = save, a.checkpoint = checkpoint;
            a.lengths = lengths.data();
            for (int64_t n : p.lengths) a.steps += n;
            a.norm = p.c.norm, a.recurrent_dropout = p.c.dropout, a.mask_seed = 77 + 1024 * uint64_t(l);
            std::copy(p.c.zoneout, p.c.zoneout + 3, a.zoneout);
            if (p.c.resets) a.reset = p.reset.data(), a.reset_t = s.B, a.reset_b = 1;
            if (l == 0 && s.codes)
                a.codes = codes.data(), a.codes_t = s.B, a.codes_b = 1;
            else
                a.x = (l ? out[ys[size_t(l) - 1]] : in["x"]).data(), a.x_t = s.B * a.I, a.x_b = a.I;
            Buffer<T>& y = out[ys[size_t(l)]] = Buffer<T>(size_t(s.T * s.B * s.D * p.P), 8);
            for (int d = 0; d < s.D; ++d) {
                const std::string at = p.name(l, d);
                Direction& r = a.dir[d];
                auto get = [&](const char* name) { return in[at + name].data(); };
                auto fresh = [&](const char* name, ptrdiff_t n) { return (out[at + name] = Buffer<T>(size_t(n), 8)).data(); };
                r.W = get("W"), r.W_rs = a.I, r.W_cs = 1, r.R = get("R"), r.R_rs = p.P, r.R_cs = 1;
                r.b_w = get("b_w"), r.b_r = get("b_r"), r.gain_x = get("gain_x"), r.gain_r = get("gain_r");
                if (p.c.projects) r.M = get("M"), r.M_rs = s.H, r.M_cs = 1;
                for (ptrdiff_t v = 0; v < p.vectors; ++v) r.vectors[v] = get(("v" + std::to_string(v)).c_str());
                r.h_0 = get("h"), r.c_0 = get("c"), r.c_next = s.B * s.H;
                if (p.c.resets == 2) r.reset_h = cotangent[at + "h"].data(), r.reset_c = cotangent[at + "c"].data();
                r.h_n = fresh("h", s.B * p.P), r.c_n = fresh("c", (p.states - 1) * s.B * s.H);
                r.y = y.data() + d * p.P, r.y_t = s.B * s.D * p.P, r.y_b = s.D * p.P, r.reverse = d;
                r.c_all_t = r.dc_all_t = s.B * s.H, r.c_all_b = r.dc_all_b = s.H;
                r.c_all_next = r.dc_all_next = s.T * s.B * s.H;
                if (s.all) r.c_all = fresh("all", (p.states - 1) * s.T * s.B * s.H);
            }
            Sizes sizes;
            k.sizes(&a, &sizes);
            auto memory = [](std::vector<Buffer<char>>& to, size_t n) { return to.emplace_back(n).data(); };
            for (int d = 0; d < s.D; ++d) {
                a.dir[d].gates = memory(saved, sizes.gates), a.dir[d].c = memory(saved, sizes.c);
                a.dir[d].hidden = memory(saved, sizes.hidden);
            }
            a.workspace = memory(forward, sizes.forward);
            all.push_back(&a);
        }
        k.forward_stack(all.data(), s.layers);
        if (save == kSaveNothing) return;

        for (const auto& [name, values] : inputs) {
            const bool states = name.back() == 'h' || name.back() == 'c' || name.back() == 'x';
            gradient[name] =
                states && name.find("gain") == name.npos ? Buffer<T>(values.size(), 8) : filled<T>(values.size(), kStart);
        }
        for (int l = s.layers - 1; l >= 0; --l) {
            Sequence& a = q[size_t(l)];
            if (l) gradient[ys[size_t(l) - 1]] = Buffer<T>(size_t(s.T * s.B * a.I), 8);
            if (!a.codes) a.dx = gradient[l ? ys[size_t(l) - 1] : "x"].data(), a.dx_t = s.B * a.I, a.dx_b = a.I;
            const Buffer<T>& dy = l + 1 < s.layers ? gradient[ys[size_t(l)]] : cotangent["y"];
            for (int d = 0; d < s.D; ++d) {
                const std::string at = p.name(l, d);
                Direction& r = a.dir[d];
                auto get = [&](const std::string& name) { return gradient[at + name].data(); };
                r.dy = dy.data() + d * p.P, r.dy_t = r.y_t, r.dy_b = r.y_b;
                r.dh_n = cotangent[at + "h"].data(), r.dc_n = cotangent[at + "c"].data();
                if (s.all) r.dc_all = cotangent[at + "all"].data();
                r.dW = get("W"), r.dR = get("R"), r.db_w = get("b_w"), r.db_r = get("b_r"), r.dM = get("M");
                r.dgain_x = get("gain_x"), r.dgain_r = get("gain_r"), r.dh_0 = get("h"), r.dc_0 = get("c");
                for (ptrdiff_t v = 0; v < p.vectors; ++v) r.dvectors[v] = get("v" + std::to_string(v));
            }
            Sizes sizes;
            k.sizes(&a, &sizes);
            a.workspace = backward.emplace_back(sizes.backward).data();
        }
        k.backward_stack(all.data(), s.layers);
    }

    double loss(const GivenProblem& p) {
        double sum = 0;
        for (const auto& [name, weights] : p.out)
            for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * double(out[name][i]);
        return sum;
    }
    // the loss's slope along `direction`, and the sum of the magnitudes it is made of
    std::pair<double, double> slope(const NamedArrays& direction) {
        double sum = 0, scale = 0;
        for (const auto& [name, along] : direction) {
            const bool states = name.back() == 'h' || name.back() == 'c' || name == "x";
            for (size_t i = 0; i < along.size(); ++i) {
                const double term = (double(gradient[name][i]) - (states ? 0 : kStart)) * along[i];
                sum += term, scale += std::fabs(term);
            }
        }
        return {sum, scale};
    }
};

template <class T>
void expect_same_runs(const GivenRun<T>& a, const GivenRun<T>& b, const std::string& what) {
    for (const auto& [name, buffer] : a.out) expect_same(content(buffer), content(b.out.at(name)), what + name);
    for (const auto& [name, buffer] : a.gradient)
        if (b.gradient.count(name)) expect_same(content(buffer), content(b.gradient.at(name)), what + "gradient of " + name);
}

inline void check_given(const GivenProblem& p, const std::string& what, bool slopes) {
    using namespace fastrnn;
    const GivenRun<double> one(p, p.in, 1, kSaveAll);
    if (slopes) {
        constexpr double kStep = 1e-6;
        Random random{99};
        for (const auto& [name, values] : p.in) {
            NamedArrays ahead = p.in, behind = p.in;
            const NamedArrays direction{{name, random.normals(values.size())}};
            for (size_t i = 0; i < values.size(); ++i) {
                ahead[name][i] += kStep * direction.at(name)[i];
                behind[name][i] -= kStep * direction.at(name)[i];
            }
            const double right =
                (GivenRun<double>(p, ahead, 1, kSaveNothing).loss(p) - GivenRun<double>(p, behind, 1, kSaveNothing).loss(p)) /
                (2 * kStep);
            const auto [sum, scale] = const_cast<GivenRun<double>&>(one).slope(direction);
            report.expect(std::fabs(sum - right) <= 1e-6 * scale + 1e-7,
                          what + "slope along " + name + ": " + std::to_string(sum) + ", expected " + std::to_string(right));
        }
    }
    const GivenRun<float> narrow(p, p.in, 1, kSaveAll);
    for (int threads = 1; threads <= 4; ++threads) {
        const std::string many = what + std::to_string(threads) + " threads ";
        if (threads > 1) expect_same_runs(GivenRun<float>(p, p.in, threads, kSaveAll), narrow, many);
        if (threads % 2) continue;
        expect_same_runs(GivenRun<float>(p, p.in, threads, kSaveNothing), narrow, many + "inference ");
        expect_same_runs(GivenRun<float>(p, p.in, threads, kSaveCheckpoints, threads + 1), narrow, many + "checkpoints ");
    }
}

// Shapes: rows split over groups, units over slices, both; more units than vectors; no rows, no steps, one step.
inline void given_group(bool quick) {
    const GivenShape shapes[] = {
        {7, 5, 3, 5, 2, 1, "ragged", false, true},     {1, 3, 4, 17, 1, 1, "full", false, true},
        {6, 4, 9, 33, 2, 1, "ragged", true, false},    {40, 3, 30, 33, 1, 1, "ragged", true, true},
        {3, 0, 4, 5, 2, 1, "full", false, true},       {4, 3, 2, 16, 2, 1, "empty", false, true},
        {30, 16, 40, 90, 1, 1, "ragged", false, true}, {60, 2, 70, 150, 2, 1, "full", false, false},
        {90, 9, 33, 40, 1, 3, "ragged", false, true},
    };
    uint64_t seed = 1;
    for (const GivenCase& c : given_cases())
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i) {
            const bool large = shapes[i].T >= 30;
            if (quick && !large) continue;
            const GivenProblem p(c, shapes[i], ++seed);
            check_given(p, std::string(fastrnn::kernels()->name) + " " + c.name + " shape " + std::to_string(i) + ": ", !large);
        }
}
