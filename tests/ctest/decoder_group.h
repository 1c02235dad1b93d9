// decoder_group.h: the decoder in exact buffers, against the loops of decoder_naive.h, their derivatives, and itself.
#pragma once
#include "decoder.h"
#include "decoder_naive.h"

// Weights, source and states of a problem, as the call wants them.
template <class T>
struct DecoderArrays {
    Matrix<T> U, C, O, W[fastrnn::kDecoderLayers], R[fastrnn::kDecoderLayers];
    Buffer<T> v, b_c, feed_0, b_w[fastrnn::kDecoderLayers], b_r[fastrnn::kDecoderLayers], h_0[fastrnn::kDecoderLayers],
        c_0[fastrnn::kDecoderLayers];
    Rows<T> keys, values;
    Buffer<int64_t> lengths, sources;
    fastrnn::DecoderLayer layer[fastrnn::kDecoderLayers]{};

    fastrnn::Decoder describe(const DecoderProblem& p, int threads) {
        fastrnn::Decoder d{};
        auto in = [&](const char* name) { return p.in.at(name); };
        d.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
        d.cell = p.cell, d.layers = p.layers, d.threads = threads, d.feeding = p.feeding, d.scale = p.scale;
        d.T = p.T, d.B = p.B, d.S = p.S, d.E = p.E, d.H = p.H, d.A = p.A, d.K = p.K, d.Q = p.Q;
        for (int l = 0; l < p.layers; ++l) {
            auto of = [&](const char* name) { return p.in.at(of_layer(name, l)); };
            const ptrdiff_t GH = p.shape(l).gates() * p.H;
            W[l] = Matrix<T>(of("W"), GH, p.shape(l).I, p.layout), R[l] = Matrix<T>(of("R"), GH, p.H, p.layout);
            b_w[l] = filled<T>(of("b_w"), !(p.without & kNoBias)), b_r[l] = filled<T>(of("b_r"), !(p.without & kNoBias));
            h_0[l] = filled<T>(of("h_0"), !(p.without & kNoInitial));
            if (p.lstm()) c_0[l] = filled<T>(of("c_0"), !(p.without & kNoInitial));
            fastrnn::DecoderLayer& one = layer[l];
            one.W = W[l].origin, one.W_rs = W[l].rs, one.W_cs = W[l].cs;
            one.R = R[l].origin, one.R_rs = R[l].rs, one.R_cs = R[l].cs;
            one.b_w = b_w[l].data(), one.b_r = b_r[l].data(), one.h_0 = h_0[l].data(), one.c_0 = c_0[l].data();
        }
        d.layer = layer;
        if (p.feeding) feed_0 = filled<T>(in("feed_0"), !(p.without & kNoInitial));
        d.feed_0 = feed_0.data();
        if (!p.attention) return d;
        values = Rows<T>(p.S, p.B, p.K, p.layout);
        values.fill(in("values"), p.sources);
        d.values = values.origin, d.v_s = values.t, d.v_b = values.b;
        if (!p.same) keys = Rows<T>(p.S, p.B, p.Q, (p.layout + 1) % 4), keys.fill(in("keys"), p.sources);
        const Rows<T>& k = p.same ? values : keys;
        d.keys = k.origin, d.k_s = k.t, d.k_b = k.b;
        if (p.projected) U = Matrix<T>(in("U"), p.Q, p.H, p.layout);
        d.U = U.origin, d.U_rs = U.rs, d.U_cs = U.cs;
        if (p.additive) v = filled<T>(in("v"));
        d.v = v.data();
        C = Matrix<T>(in("C"), p.A, p.K + p.H, p.layout);
        d.C = C.origin, d.C_rs = C.rs, d.C_cs = C.cs;
        b_c = filled<T>(in("b_c"), !(p.without & kNoBias));
        d.b_c = b_c.data();
        sources = integers(p.sources);
        d.source_lengths = p.without & kNoLengths ? nullptr : sources.data();
        return d;
    }
    static Buffer<int64_t> integers(const std::vector<int64_t>& from) {
        Buffer<int64_t> found(from.size(), sizeof(void*));
        for (size_t i = 0; i < from.size(); ++i) found[i] = from[i];
        return found;
    }
};

// The backward half: gradients are added to kStart, or written.
template <class T>
void decoder_backward(const DecoderProblem& p, fastrnn::Decoder& d, DecoderArrays<T>& a, size_t bytes, Named<T>& r) {
    const bool grads = !(p.without & kNoGrads), bias = grads && !(p.without & kNoBias);
    const std::vector<int64_t> every(size_t(p.B), p.S);
    auto start = [](const Rows<T>& rows, const std::vector<int64_t>& n) {
        rows.fill(std::vector<double>(size_t(rows.steps * rows.batch * rows.width), kStart), n);
    };
    Rows<T> dy, dx, dvalues(p.S, p.B, p.K, p.layout), dkeys;
    if (!(p.without & kNoDy)) dy = Rows<T>(p.T, p.B, p.A, p.layout), dy.fill(p.out.at("y"), p.lengths);
    if (!(p.without & kNoDx)) dx = Rows<T>(p.T, p.B, p.E, p.layout);
    start(dvalues, every);
    if (!p.same) dkeys = Rows<T>(p.S, p.B, p.Q, p.layout), start(dkeys, every);
    const Rows<T>& dk = p.same ? dvalues : dkeys;
    d.dy = dy.origin, d.dy_t = dy.t, d.dy_b = dy.b, d.dx = dx.origin, d.dx_t = dx.t, d.dx_b = dx.b;
    d.dvalues = dvalues.origin, d.dv_s = dvalues.t, d.dv_b = dvalues.b;
    d.dkeys = dk.origin, d.dk_s = dk.t, d.dk_b = dk.b;
    std::map<std::string, Buffer<T>> more;
    auto take = [&](const std::string& name, bool wanted, double from) {
        return (more["d" + name] = filled<T>(p.in.at(name).size(), from, wanted)).data();
    };
    const double written = double(NAN);
    d.dfeed_0 = take("feed_0", p.feeding && !(p.without & kNoInitial), written);
    if (p.projected) d.dU = take("U", grads, kStart);
    if (p.additive) d.dv = take("v", grads, kStart);
    d.dC = take("C", grads, kStart), d.db_c = take("b_c", bias, kStart);
    Buffer<T> dh_n[fastrnn::kDecoderLayers], dc_n[fastrnn::kDecoderLayers];
    for (int l = 0; l < p.layers; ++l) {
        fastrnn::DecoderLayer& one = a.layer[l];
        dh_n[l] = filled<T>(p.out.at(of_layer("h_n", l)), !(p.without & kNoDstate));
        if (p.lstm()) dc_n[l] = filled<T>(p.out.at(of_layer("c_n", l)), !(p.without & kNoDstate));
        one.dh_n = dh_n[l].data(), one.dc_n = dc_n[l].data();
        one.dW = take(of_layer("W", l), grads, kStart), one.dR = take(of_layer("R", l), grads, kStart);
        one.db_w = take(of_layer("b_w", l), bias, kStart), one.db_r = take(of_layer("b_r", l), bias, kStart);
        one.dh_0 = take(of_layer("h_0", l), !(p.without & kNoInitial), written);
        if (p.lstm()) one.dc_0 = take(of_layer("c_0", l), !(p.without & kNoInitial), written);
    }
    const Buffer<char> workspace(bytes);
    d.workspace = workspace.data();
    fastrnn::kernels()->decoder->backward(&d);
    report.expect(dx.gaps_untouched(), p.name() + ": dx written between its rows");
    r["dx"] = dx.values(), r["dvalues"] = dvalues.values();
    if (!p.same) r["dkeys"] = dkeys.values();
    for (const auto& [name, buffer] : more) r[name] = content(buffer);
}

// Everything that comes out, by name. Saved memory and workspaces have exactly the bytes that the kernel asks for.
template <class T>
Named<T> run_decoder(const DecoderProblem& p, int threads, bool backward) {
    const fastrnn::DecoderTable& k = *fastrnn::kernels()->decoder;
    DecoderArrays<T> a;
    fastrnn::Decoder d = a.describe(p, threads);
    Rows<T> x(p.T, p.B, p.E, p.layout), y(p.T, p.B, p.A, p.layout);
    x.fill(p.in.at("x"), p.lengths);
    d.x = x.origin, d.x_t = x.t, d.x_b = x.b, d.y = y.origin, d.y_t = y.t, d.y_b = y.b;
    const Buffer<int64_t> lengths = a.integers(p.lengths);
    d.lengths = p.without & kNoLengths ? nullptr : lengths.data();
    for (int64_t n : p.lengths) d.steps += n;
    const Buffer<T> weights(size_t(p.T * p.B * p.S), sizeof(void*));
    d.weights = weights.data();
    Buffer<T> h_n[fastrnn::kDecoderLayers], c_n[fastrnn::kDecoderLayers];
    for (int l = 0; l < p.layers; ++l) {
        h_n[l] = Buffer<T>(size_t(p.B * p.H), sizeof(void*)), c_n[l] = Buffer<T>(size_t(p.lstm() * p.B * p.H), sizeof(void*));
        a.layer[l].h_n = h_n[l].data(), a.layer[l].c_n = c_n[l].data();
    }
    fastrnn::DecoderSampling sampling{};
    Matrix<T> embedding, O;
    Buffer<T> b_o;
    Buffer<int64_t> tokens(p.V ? size_t(p.T * p.B) : 0, sizeof(void*));  // all -1
    if (p.V) {
        embedding = Matrix<T>(p.in.at("embedding"), p.V, p.E - p.Z, 0), O = Matrix<T>(p.in.at("O"), p.V, p.A, p.layout);
        b_o = filled<T>(p.in.at("b_o"), !(p.without & kNoBias));
        sampling = {p.probability, p.seed,        p.V, p.E - p.Z, embedding.origin, embedding.rs, O.origin, O.rs, O.cs,
                    b_o.data(),    tokens.data(), p.B, 1};
        d.sampling = &sampling;
    }
    d.save = backward;
    fastrnn::DecoderSizes sizes{};
    k.sizes(&d, &sizes);
    report.expect(sizes.gates <= sizes.saved && (backward || !sizes.saved), p.name() + ": what is saved");
    const Buffer<char> saved(sizes.saved), workspace(sizes.forward);
    d.saved = saved.data(), d.workspace = workspace.data();
    k.forward(&d);
    report.expect(y.gaps_untouched(), p.name() + ": y written between its rows");
    Named<T> r;
    r["y"] = y.values(), r["weights"] = content(weights), r["x"] = x.values();
    for (size_t i = 0; i < tokens.size(); ++i) r["tokens"].push_back(T(tokens[i]));
    for (int l = 0; l < p.layers; ++l) {
        r[of_layer("h_n", l)] = content(h_n[l]);
        r[of_layer("c_n", l)] = content(c_n[l]);
    }
    if (!backward) return r;
    d.sampling = nullptr, d.weights = nullptr;
    decoder_backward(p, d, a, sizes.backward, r);
    return r;
}

template <class T>
void expect_all_same(const Named<T>& a, const Named<T>& b, const std::string& what) {
    for (const auto& [name, values] : a) expect_same(values, b.at(name), what + " " + name);
}

// the derivative of Σ dy·y + dh_n·h_n + dc_n·c_n along a direction of each input
inline void check_slopes(const DecoderProblem& p, const Named<double>& found, const std::string& what) {
    Named<Dual> in;
    for (const auto& [name, v] : p.in) in[name] = std::vector<Dual>(v.begin(), v.end());
    Random random{77};
    for (auto& [name, input] : in) {
        const auto gradient = found.find("d" + name);
        if (gradient == found.end() || gradient->second.empty()) continue;
        const std::vector<double> direction = random.normals(input.size());
        for (size_t i = 0; i < input.size(); ++i) input[i].d = direction[i];
        const Named<Dual> out = naive_decoder(p, in);
        for (Dual& v : input) v.d = 0;
        double slope = 0, sum = 0, scale = 0;
        for (const auto& [key, up] : p.out)
            for (size_t i = 0; i < up.size(); ++i) slope += up[i] * out.at(key)[i].d;
        const bool is_written = name == "x" || name == "feed_0" || name[1] == '_' ? name[0] != 'b' : false;
        for (size_t i = 0; i < input.size(); ++i) {
            const double term = (gradient->second[i] - (is_written ? 0 : kStart)) * direction[i];
            sum += term, scale += std::fabs(term);
        }
        if (!(std::fabs(sum - slope) <= 1e-11 * scale + 1e-12 * double(input.size())))
            report.fail(what + " d" + name + ": slope " + std::to_string(sum) + ", expected " + std::to_string(slope));
    }
}

inline void check_decoder(const DecoderProblem& p, const Named<double>& right, const std::string& isa) {
    const std::string what = isa + " " + p.name();
    const Named<double> wide = run_decoder<double>(p, 1, true);
    for (const auto& [name, values] : right) expect_close(wide.at(name), values, 1e-11, what + " " + name);
    check_slopes(p, wide, what);
    const Named<float> narrow = run_decoder<float>(p, 1, true);
    for (const auto& [name, values] : narrow)
        if (name != "x") expect_close(values, wide.at(name), 2e-4, what + " float32 " + name);
    expect_all_same(run_decoder<double>(p, 1, false), wide, what + " inference");
    expect_all_same(run_decoder<float>(p, 1, false), narrow, what + " float32 inference");
}

inline std::vector<DecoderProblem> decoder_problems() {
    struct Size {
        ptrdiff_t T, B, S, E, H, A, K, Q;
        unsigned without;
    };
    const Size sizes[] = {{1, 1, 1, 1, 1, 1, 1, 1, 0},
                          {3, 2, 5, 4, 15, 16, 17, 3, kNoInitial},
                          {7, 5, 9, 17, 16, 33, 15, 16, kNoDy},
                          {4, 9, 2, 5, 17, 7, 33, 40, kNoBias},
                          {9, 3, 33, 20, 33, 17, 16, 17, kNoDx | kNoDstate},
                          {5, 0, 3, 2, 4, 3, 2, 5, 0},
                          {6, 4, 8, 3, 31, 32, 1, 8, kNoLengths},
                          {60, 15, 4, 3, 5, 9, 6, 2, kNoGrads}};
    std::vector<DecoderProblem> all;
    uint64_t seed = 300;
    for (int cell = fastrnn::kRnnTanh; cell <= fastrnn::kGruBefore; ++cell)
        for (const Size& s : sizes)
            for (int kind = 0; kind < 4; ++kind) {  // dot products, U with dot products, additive without U, additive
                DecoderProblem p{cell, 1 + int(++seed % 3),  s.T,           s.B,           s.S,       s.E,  s.H, s.A,
                                 s.K,  kind % 2 ? s.Q : s.H, seed % 4 != 0, kind % 2 == 1, kind >= 2, false};
                p.layout = int(seed % 4 ^ seed / 4 % 4), p.without = s.without;
                p.same = seed % 5 < 2;
                if (p.same) p.K = p.Q;
                fill_problem(p, seed);
                if (seed % 7 == 0) std::fill(p.lengths.begin(), p.lengths.end(), p.without & kNoLengths ? p.T : 0);
                all.push_back(p);
            }
    return all;
}

// Scheduled sampling: with double the loops' very tokens; then the same bits as a decoder that is fed what was drawn.
template <class T>
void check_sampling(DecoderProblem p, const std::string& isa, int threads) {
    const std::string what = isa + " sampling " + p.name() + " V=" + std::to_string(p.V) + " " + std::to_string(p.probability);
    const Named<T> drawn = run_decoder<T>(p, threads, true);
    if (sizeof(T) == 8) {
        const Named<double> right = naive_decoder(p, p.in);
        expect_close(drawn.at("tokens"), right.at("tokens"), 0, what + " tokens");
        expect_close(drawn.at("y"), right.at("y"), 1e-11, what + " y");
    }
    expect_all_same(run_decoder<T>(p, 1, false), run_decoder<T>(p, threads, false), what + " inference");
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < p.T * p.B; ++i) {
        const ptrdiff_t token = ptrdiff_t(drawn.at("tokens")[size_t(i)]);
        if (token < 0) continue;
        ++count;
        const std::vector<double> row = row_of(p.in.at("embedding"), token, p.E - p.Z);
        std::copy(row.begin(), row.end(), p.in["x"].begin() + i * p.E);
    }
    report.expect((count > 0) == (p.probability > 0), what + ": something is drawn");
    p.V = 0;
    Named<T> fed = run_decoder<T>(p, 1, true);
    fed["tokens"] = drawn.at("tokens");
    expect_all_same(drawn, fed, what + " fed");
}

inline void decoder_sampling(const std::string& isa) {
    uint64_t seed = 900;
    for (ptrdiff_t V : {1, 17, 256, 300})
        for (double probability : {0.0, 0.5, 1.0}) {
            DecoderProblem p{int(++seed % 6), 1 + int(seed % 2), 6, 9, 4, 10, 19, 12, 7, 8, seed % 3 != 0, true, false, false};
            p.V = V, p.Z = ptrdiff_t(seed % 2) * 3, p.probability = probability, p.seed = seed, p.layout = int(seed % 4);
            fill_problem(p, seed);
            check_sampling<double>(p, isa, 1);
            check_sampling<float>(p, isa, 3);
        }
}

// bitwise the same for any number of threads; the sizes are worth waking them
inline void decoder_with_threads(const std::string& isa, bool few) {
    uint64_t seed = 1200;
    for (int cell = fastrnn::kRnnTanh; cell <= fastrnn::kGruBefore; ++cell)
        for (int kind = 0; kind < 2; ++kind) {
            if (few && cell != fastrnn::kLstm && cell != fastrnn::kGruBefore) continue;
            DecoderProblem p{cell, 2,         12,        kind ? 33 : 7, 9, 40, 150, 60, 33, kind ? 50 : 150,
                             true, kind == 1, kind == 1, false};
            p.layout = int(++seed % 4);
            if (kind) p.V = 70, p.probability = 0.3, p.seed = seed;
            fill_problem(p, seed);
            const Named<float> one = run_decoder<float>(p, 1, true);
            for (int n : {2, 3, 8}) {
                const std::string what = isa + " " + p.name() + " threads=" + std::to_string(n);
                expect_all_same(run_decoder<float>(p, n, true), one, what);
                expect_all_same(run_decoder<float>(p, n, false), one, what + " inference");
            }
        }
}
