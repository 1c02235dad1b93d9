// stream_variants_group.h: streams of cells given by functions, in exact buffers, bitwise against the layers' own kernels.
#pragma once
#include "stream_group.h"
#include "variant.h"

struct StreamVariant {
    int cell;
    fastrnn::VariantSettings q;
    int norm;  // gates together
    double zoneout[2];
    bool projects;
};

inline std::vector<StreamVariant> stream_variant_cases() {
    using namespace fastrnn;
    auto settings = [](bool peephole, bool coupled, bool norm_c, double clip, int candidate) {
        return VariantSettings{peephole, coupled, norm_c, clip, {{kActSigmoid, 0, 0}, {candidate, 0, 0}, {kActTanh, 0, 0}}};
    };
    VariantSettings leaky = settings(false, false, false, 0, kActTanh);
    leaky.activation[0] = {kActLeakyRelu, 0.1, 0};
    return {
        {kLstm, settings(true, false, false, 2, kActTanh), 0, {0, 0}, false},
        {kLstm, settings(true, true, true, 0, kActTanh), 3, {0.2, 0.3}, false},
        {kLstm, settings(false, false, true, 0, kActTanh), 4, {0, 0.3}, true},
        {kLstm, settings(false, true, false, 0, kActSoftsign), 0, {0.1, 0}, true},
        {kGruAfter, settings(false, false, false, 0.6, kActTanh), 0, {0.2, 0}, false},
        {kGruAfter, settings(false, false, false, 0, kActSoftsign), 2, {0, 0}, false},
        {kGruBefore, settings(false, false, false, 0, kActRelu), 0, {0.2, 0}, false},
        {kGruBefore, settings(false, false, false, 1, kActTanh), 2, {0, 0}, false},
        {kRnnTanh, leaky, 0, {0.3, 0}, false},
        {kRnnTanh, leaky, 1, {0, 0}, false},
    };
}

template <class T>
void stream_variant(const StreamVariant& v, ptrdiff_t B, ptrdiff_t I, ptrdiff_t H, uint64_t seed) {
    using namespace fastrnn;
    const Kernels& k = *kernels();
    const int dtype = sizeof(T) == 4 ? kFloat32 : kFloat64;
    CellSpec spec;
    report.expect(k.variant(&v.q, dtype, v.cell, &spec), "a variant");
    const ptrdiff_t steps = 40, P = v.projects ? (H + 1) / 2 : H, G = spec.gates;
    Random random{seed};
    auto some = [&](ptrdiff_t n) { return filled<T>(random.normals(size_t(n), 0.5)); };
    const Buffer<T> W = some(G * H * I), R = some(G * H * P), M = some(P * H), b_w = some(G * H), b_r = some(G * H);
    const Buffer<T> gain_x = some(G * H), gain_r = some(G * H), h_0 = some(B * P), c_0 = some(B * H), x = some(steps * B * I);
    std::vector<Buffer<T>> vectors;
    for (int64_t i = 0; i < spec.vectors; ++i) vectors.push_back(some(H));
    const Buffer<T> y(size_t(steps * B * P)), right(size_t(steps * B * P)), h_n(size_t(B * P)), c_n(size_t(B * H));

    Sequence q{};
    q.dtype = dtype, q.cell = kGiven, q.T = steps, q.B = B, q.I = I, q.H = H, q.P = P;
    q.D = q.threads = 1, q.save = kSaveNothing, q.steps = steps * B;
    q.x = x.data(), q.x_t = B * I, q.x_b = I;
    q.spec = &spec, q.norm = v.norm, q.expect = 1;
    Direction& d = q.dir[0];
    d.W = W.data(), d.W_rs = I, d.W_cs = 1;
    d.R = R.data(), d.R_rs = P, d.R_cs = 1;
    if (v.projects) d.M = M.data(), d.M_rs = H, d.M_cs = 1;
    d.b_w = b_w.data(), d.b_r = b_r.data(), d.gain_x = gain_x.data(), d.gain_r = gain_r.data();
    d.h_0 = h_0.data(), d.h_n = h_n.data();
    if (spec.states > 1) d.c_0 = c_0.data(), d.c_n = c_n.data(), d.c_next = B * H;
    d.y = right.data(), d.y_t = B * P, d.y_b = P;
    StreamMemory m;
    StreamLayer& l = m.layer;
    l.dtype = dtype, l.kind = kStreamCell, l.function = kGiven, l.B = B, l.I = I, l.H = H, l.P = P;
    l.W = d.W, l.W_rs = d.W_rs, l.W_cs = d.W_cs, l.R = d.R, l.R_rs = d.R_rs, l.R_cs = d.R_cs;
    l.M = d.M, l.M_rs = d.M_rs, l.M_cs = d.M_cs, l.b_w = d.b_w, l.b_r = d.b_r;
    l.spec = &spec, l.norm = v.norm, l.gain_x = d.gain_x, l.gain_r = d.gain_r;
    for (size_t i = 0; i < vectors.size(); ++i) d.vectors[i] = l.vectors[i] = vectors[i].data();
    for (int i = 0; i < 2; ++i) q.zoneout[i] = l.zoneout[i] = v.zoneout[i];

    Sizes sizes{};
    k.sizes(&q, &sizes);
    Buffer<char> workspace(sizes.forward);
    q.workspace = workspace.data();
    k.forward(&q);
    m.prepare();
    for (ptrdiff_t b = 0; b < B; ++b) {
        std::copy_n(h_0.data() + b * P, P, static_cast<T*>(l.h) + b * l.y_b);
        if (spec.states > 1) std::copy_n(c_0.data() + b * H, H, static_cast<T*>(l.c) + b * l.c_b);
    }
    const ptrdiff_t singly = ptrdiff_t(seed % 5);
    for (ptrdiff_t t = 0; t < singly; ++t) k.stream->step(&l, 1, x.data() + t * B * I, I, y.data() + t * B * P, P);
    k.stream->run(&l, 1, steps - singly, x.data() + singly * B * I, B * I, I, y.data() + singly * B * P, B * P, P);
    const std::string what = std::string(k.name) + " stream of a variant of cell " + std::to_string(v.cell) +
                             " B=" + std::to_string(B) + " I=" + std::to_string(I) + " H=" + std::to_string(H);
    expect_same(content(y), content(right), what + " y");
    for (ptrdiff_t b = 0; b < B; ++b) {
        const T *h = static_cast<const T*>(l.h) + b * l.y_b, *c = static_cast<const T*>(l.c) + b * l.c_b;
        expect_same(std::vector<T>(h, h + P), std::vector<T>(h_n.data() + b * P, h_n.data() + (b + 1) * P), what + " h_n");
        if (spec.states > 1)
            expect_same(std::vector<T>(c, c + H), std::vector<T>(c_n.data() + b * H, c_n.data() + (b + 1) * H), what + " c_n");
    }
}

template <class T>
void stream_variants() {
    uint64_t seed = 7500;
    for (const StreamVariant& v : stream_variant_cases())
        for (ptrdiff_t B : {1, 3, 7})
            for (ptrdiff_t H : {1, 15, 17, 33}) {
                ++seed;
                stream_variant<T>(v, B, 1 + ptrdiff_t(seed % 19), H, seed);
            }
    stream_variant<T>(stream_variant_cases()[0], 1, 70, 90, 1);
    stream_variant<T>(stream_variant_cases()[8], 1, 120, 100, 2);
}
