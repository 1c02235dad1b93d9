// scan_group.h: the kernels of scan.h in exact buffers, against their equations as plain loops and dual numbers.
#pragma once
#include "decoder_naive.h"
#include "scan.h"

inline double inverse(double x) { return 1 / x; }
inline Dual inverse(Dual x) { return {1 / x.v, -x.d / (x.v * x.v)}; }

struct ScanProblem {
    int cell, option;
    ptrdiff_t T, B, H;
    bool reverse, ragged, own_skip, bare;  // bare: no initial state, parameters of SRU, dy or gradient of the last state
    std::vector<int64_t> lengths, first;
    ptrdiff_t step = 0, rows = 0;
    Named<double> in;  // z, skip, p, s_0
    std::vector<double> dy, ds_n;

    ptrdiff_t states() const { return cell == fastrnn::kLru ? 2 : 1; }
    ptrdiff_t params() const { return cell == fastrnn::kSru || cell == fastrnn::kLru ? 2 : cell == fastrnn::kIndRnn ? 1 : 0; }
    ptrdiff_t blocks() const {
        const ptrdiff_t of[] = {own_skip ? 3 : 4, 3, 2, 3, 2, 1};
        return of[cell];
    }
    bool outputs() const { return cell != fastrnn::kLru; }
    bool saves() const { return cell <= fastrnn::kQrnn || cell == fastrnn::kLru; }
    std::string name() const {
        return "scan cell=" + std::to_string(cell) + " option=" + std::to_string(option) + " T=" + std::to_string(T) +
               " B=" + std::to_string(B) + " H=" + std::to_string(H) + (reverse ? " reverse" : "") + (ragged ? " ragged" : "") +
               (own_skip ? " skip" : "") + (bare ? " bare" : "");
    }
};

inline ScanProblem make_scan(int cell, int option, ptrdiff_t T, ptrdiff_t B, ptrdiff_t H, unsigned flags, uint64_t seed) {
    ScanProblem p{cell,
                  option,
                  T,
                  B,
                  H,
                  bool(flags & 1),
                  bool(flags & 2),
                  bool(flags & 4) && cell == fastrnn::kSru,
                  bool(flags & 8),
                  {},
                  {},
                  0,
                  0,
                  {},
                  {},
                  {}};
    Random random{seed};
    for (ptrdiff_t b = 0; b < B; ++b) {
        p.lengths.push_back(p.ragged ? random.below(int(T) + 1) : T);
        p.first.push_back(p.ragged ? p.rows : b);
        p.rows += p.lengths.back();
    }
    p.step = p.ragged ? 1 : B;
    p.in["z"] = random.normals(size_t(p.rows * p.blocks() * H));
    if (p.own_skip) p.in["skip"] = random.normals(size_t(p.rows * H));
    if (p.params() && !(p.bare && cell == fastrnn::kSru)) p.in["p"] = random.normals(size_t(p.params() * H), 0.4);
    if (!p.bare) p.in["s_0"] = random.normals(size_t(B * p.states() * H));
    if (!p.bare || !p.outputs()) p.dy = random.normals(size_t(p.outputs() ? T * B * H : p.rows * 2 * H));
    if (!p.bare) p.ds_n = random.normals(size_t(B * p.states() * H));
    return p;
}

template <class S>
struct ScanOutputs {
    std::vector<S> y, s_n;  // y of the LRU: s
};

inline bool negative(double x) { return x < 0; }
inline bool negative(Dual x) { return x.v < 0; }

// one channel, one step: z, the skip and the parameters; s becomes the state after it
template <class S>
S naive_scan_step(const ScanProblem& p, const std::vector<S>& z, S skip, const std::vector<S>& v, std::vector<S>& s) {
    const S one(1), before = s[0];
    auto candidate = [&](S x) { return !p.option ? x : negative(x) ? sigma(x) : x + S(0.5); };
    switch (p.cell) {
        case fastrnn::kSru: {
            const S f = sigma(z[1] + v[0] * before), r = sigma(z[2] + v[1] * before), alpha(1.3);
            s[0] = f * before + (one - f) * z[0];
            return r * (p.option ? tangent(s[0]) : s[0]) + (one - r) * alpha * skip;
        }
        case fastrnn::kQrnn:
            s[0] = sigma(z[1]) * before + (one - sigma(z[1])) * tangent(z[0]);
            return sigma(z[2]) * s[0];
        case fastrnn::kMinGru:
            return s[0] = (one - sigma(z[0])) * before + sigma(z[0]) * candidate(z[1]);
        case fastrnn::kMinLstm: {
            const S f = sigma(z[0]), i = sigma(z[1]), share = inverse(f + i);
            return s[0] = f * share * before + i * share * candidate(z[2]);
        }
        case fastrnn::kLru: {
            const S re = v[0] * s[0] - v[1] * s[1] + z[0];
            s[1] = v[0] * s[1] + v[1] * s[0] + z[1];
            return s[0] = re;
        }
        default:
            s[0] = z[0] + v[0] * before;
            return s[0] = p.option ? rectify(s[0]) : tangent(s[0]);
    }
}

template <class S>
ScanOutputs<S> naive_scan(const ScanProblem& p, const Named<S>& in) {
    const ptrdiff_t H = p.H, G = p.blocks(), N = p.states();
    auto at = [&](const char* name, ptrdiff_t i) {
        const auto found = in.find(name);
        return found == in.end() ? S(0) : found->second[size_t(i)];
    };
    ScanOutputs<S> out;
    out.y.assign(size_t(p.outputs() ? p.T * p.B * H : p.rows * N * H), S(0));
    out.s_n.assign(size_t(p.B * N * H), S(0));
    for (ptrdiff_t b = 0; b < p.B; ++b)
        for (ptrdiff_t u = 0; u < H; ++u) {
            std::vector<S> s, v, z;
            for (ptrdiff_t k = 0; k < N; ++k) s.push_back(at("s_0", (b * N + k) * H + u));
            for (ptrdiff_t k = 0; k < p.params(); ++k) v.push_back(at("p", k * H + u));
            const ptrdiff_t length = p.lengths[size_t(b)];
            for (ptrdiff_t n = 0; n < length; ++n) {
                const ptrdiff_t t = p.reverse ? length - 1 - n : n, row = p.first[size_t(b)] + t * p.step;
                z.clear();
                for (ptrdiff_t g = 0; g < G; ++g) z.push_back(at("z", (row * G + g) * H + u));
                const S y = naive_scan_step<S>(p, z, p.own_skip ? at("skip", row * H + u) : z.back(), v, s);
                if (p.outputs()) out.y[size_t((t * p.B + b) * H + u)] = y;
                for (ptrdiff_t k = 0; k < N && !p.outputs(); ++k) out.y[size_t((row * N + k) * H + u)] = s[size_t(k)];
            }
            for (ptrdiff_t k = 0; k < N; ++k) out.s_n[size_t((b * N + k) * H + u)] = s[size_t(k)];
        }
    return out;
}

template <class T>
Named<T> run_scan(const ScanProblem& p, int threads) {
    const fastrnn::ScanTable& k = *fastrnn::kernels()->scan;
    const size_t H = size_t(p.H), rows = size_t(p.rows), S = size_t(p.states()), B = size_t(p.B);
    auto of = [&](const char* name) {
        const auto found = p.in.find(name);
        return found == p.in.end() ? Buffer<T>() : filled<T>(found->second);
    };
    auto none = [](size_t n, bool wanted = true) { return Buffer<T>(wanted ? n : 0, sizeof(void*)); };
    Buffer<int64_t> lengths(B, sizeof(void*)), first(B, sizeof(void*));
    std::copy(p.lengths.begin(), p.lengths.end(), lengths.data());
    std::copy(p.first.begin(), p.first.end(), first.data());
    const Buffer<T> z = of("z"), skip = of("skip"), v = of("p"), s_0 = of("s_0"), s_n = none(B * S * H), ds_0 = none(B * S * H),
                    y = none(size_t(p.T) * B * H, p.outputs()), s = none(rows * S * H, p.saves()),
                    dskip = none(rows * H, p.own_skip), dp = filled<T>(size_t(p.params()) * H, 0.0, p.in.count("p") > 0),
                    dy = p.dy.empty() ? Buffer<T>() : filled<T>(p.dy), ds_n = p.ds_n.empty() ? Buffer<T>() : filled<T>(p.ds_n);
    fastrnn::Scan q{};
    q.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
    q.cell = p.cell, q.option = p.option, q.threads = threads, q.reverse = p.reverse;
    q.T = p.T, q.B = p.B, q.H = p.H, q.G = p.blocks(), q.alpha = 1.3;
    q.lengths = p.ragged ? lengths.data() : nullptr, q.first = first.data(), q.step = p.step;
    q.y_t = q.dy_t = p.B * p.H, q.y_b = q.dy_b = p.H;
    q.z = z.data(), q.skip = skip.data(), q.p = v.data(), q.s_0 = s_0.data(), q.s_n = s_n.data();
    q.y = y.data(), q.s = s.data();
    k.forward(&q);
    Named<T> r;
    r["y"] = content(p.outputs() ? y : s), r["s_n"] = content(s_n);
    q.ds_n = ds_n.data(), q.ds_0 = ds_0.data(), q.dskip = dskip.data(), q.dp = dp.data();
    if (p.outputs())
        q.dy = dy.data(), q.dz = z.data();
    else
        q.z = nullptr, q.dz = dy.data();  // the gradient of s becomes that of z
    const Buffer<char> workspace(k.workspace(&q));
    q.workspace = workspace.data();
    k.backward(&q);
    r["dz"] = content(p.outputs() ? z : dy), r["dskip"] = content(dskip), r["dp"] = content(dp), r["ds_0"] = content(ds_0);
    return r;
}

inline void check_scan(const ScanProblem& p, const std::string& isa) {
    const std::string what = isa + " " + p.name();
    Named<double> wide = run_scan<double>(p, 1);
    Named<float> narrow = run_scan<float>(p, 1);
    const ScanOutputs<double> right = naive_scan<double>(p, p.in);
    expect_close(wide["y"], right.y, 1e-12, what + " y");
    expect_close(wide["s_n"], right.s_n, 1e-12, what + " s_n");
    expect_close(narrow["y"], wide["y"], 1e-5, what + " float32 y");
    for (const char* name : {"dz", "dskip", "dp", "ds_0"})
        expect_close(narrow[name], wide[name], 1e-4, what + " float32 " + name);
    Named<Dual> in;
    for (const auto& [name, values] : p.in) in[name] = std::vector<Dual>(values.begin(), values.end());
    Random random{78};
    for (auto& [name, input] : in) {
        const std::vector<double> direction = random.normals(input.size()), &gradient = wide["d" + name];
        for (size_t i = 0; i < input.size(); ++i) input[i].d = direction[i];
        const ScanOutputs<Dual> out = naive_scan<Dual>(p, in);
        for (Dual& x : input) x.d = 0;
        double slope = 0, sum = 0;
        for (size_t i = 0; i < p.dy.size(); ++i) slope += p.dy[i] * out.y[i].d;
        for (size_t i = 0; i < p.ds_n.size(); ++i) slope += p.ds_n[i] * out.s_n[i].d;
        for (size_t i = 0; i < direction.size(); ++i) sum += gradient[i] * direction[i];
        if (!(std::fabs(sum - slope) <= 1e-10 * (1 + std::fabs(slope)) * std::sqrt(1.0 + double(out.y.size()))))
            report.fail(what + " d" + name + ": slope " + std::to_string(sum) + ", expected " + std::to_string(slope));
    }
}

inline void scans_group(const std::string& isa, bool few) {
    uint64_t seed = 90;
    for (int cell = 0; cell < 6; ++cell) {
        for (ptrdiff_t H : {1, 15, 16, 33, 530})
            for (unsigned flags = 0; flags < 16; ++flags)
                check_scan(make_scan(cell, int(H % 2), H == 33 ? 1 : 6, H == 530 ? 2 : 5, H, flags, ++seed), isa);
        if (few && cell % 2) continue;
        for (unsigned flags : {1u, 2u}) {
            const ScanProblem p = make_scan(cell, 1, 40, 23, 190, flags, ++seed);
            const Named<float> one = run_scan<float>(p, 1);
            for (int n : {2, 3, 8}) {
                const Named<float> found = run_scan<float>(p, n);
                for (const auto& [name, values] : one)
                    expect_same(found.at(name), values, isa + " " + p.name() + " threads=" + std::to_string(n) + " " + name);
            }
        }
    }
}
