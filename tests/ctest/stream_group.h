// stream_group.h: streams in exact buffers, bitwise against the layers' own kernels and operations.
#pragma once
#include "ops.h"
#include "recurrent.h"
#include "stream.h"

// A layer of a stream with memory of exactly the bytes that it asks for.
struct StreamMemory {
    fastrnn::StreamLayer layer{};
    Buffer<char> memory;
    void prepare() {
        const fastrnn::Streams& k = *fastrnn::kernels()->stream;
        memory = Buffer<char>(k.prepare(&layer, nullptr));
        k.prepare(&layer, memory.data());
        k.pack(&layer);
    }
};

// One layer over the problem's sequence: some steps one by one, the rest as a block; y and the states as run<T> gives them.
template <class T>
Results<T> run_stream(const Problem& p, ptrdiff_t singly) {
    const fastrnn::Streams& k = *fastrnn::kernels()->stream;
    const Shape& s = p.q;
    const Options& o = p.o;
    const Weights<double>& w = p.in.dir[0];
    const Matrix<T> W(w.W, s.gates() * s.H, s.I, o.layout), R(w.R, s.gates() * s.H, s.P, o.layout);
    Matrix<T> M;
    if (!w.M.empty()) M = Matrix<T>(w.M, s.P, s.H, o.layout);
    const Buffer<T> b_w = filled<T>(w.b_w, o.bias), b_r = filled<T>(w.b_r, o.bias);
    Rows<T> x(s.T, s.B, s.I, o.layout), y(s.T, s.B, s.P, o.layout);
    x.fill(p.in.x, s.lengths);

    StreamMemory m;
    fastrnn::StreamLayer& l = m.layer;
    l.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
    l.kind = fastrnn::kStreamCell, l.function = s.cell;
    l.B = s.B, l.I = s.I, l.H = s.H, l.P = s.P;
    l.W = W.origin, l.W_rs = W.rs, l.W_cs = W.cs;
    l.R = R.origin, l.R_rs = R.rs, l.R_cs = R.cs;
    l.M = M.origin, l.M_rs = M.rs, l.M_cs = M.cs;
    l.b_w = b_w.data(), l.b_r = b_r.data();
    m.prepare();
    for (ptrdiff_t b = 0; b < s.B && o.initial; ++b) {
        for (ptrdiff_t u = 0; u < s.P; ++u) static_cast<T*>(l.h)[b * l.y_b + u] = T(w.h_0[size_t(b * s.P + u)]);
        for (ptrdiff_t u = 0; u < s.H && s.lstm(); ++u) static_cast<T*>(l.c)[b * l.c_b + u] = T(w.c_0[size_t(b * s.H + u)]);
    }
    for (ptrdiff_t t = 0; t < singly; ++t) k.step(&l, 1, x.origin + t * x.t, x.b, y.origin + t * y.t, y.b);
    k.run(&l, 1, s.T - singly, x.origin + singly * x.t, x.t, x.b, y.origin + singly * y.t, y.t, y.b);
    report.expect(y.gaps_untouched(), p.name + ": y of a stream written between its rows");
    Results<T> r;
    r.y = y.values();
    for (ptrdiff_t b = 0; b < s.B; ++b) {
        const T *h = static_cast<const T*>(l.h) + b * l.y_b, *c = static_cast<const T*>(l.c) + b * l.c_b;
        r.h_n[0].insert(r.h_n[0].end(), h, h + s.P);
        if (s.lstm()) r.c_n[0].insert(r.c_n[0].end(), c, c + s.H);
    }
    return r;
}

template <class T>
void stream_cells() {
    uint64_t seed = 7000;
    for (int cell = fastrnn::kRnnTanh; cell <= fastrnn::kGruBefore; ++cell)
        for (ptrdiff_t B : {1, 2, 7, 13})
            for (ptrdiff_t H : {1, 15, 16, 17, 33})
                for (ptrdiff_t P : {ptrdiff_t(0), (H + 1) / 2}) {
                    if (P && cell != fastrnn::kLstm) continue;
                    Options o;
                    o.layout = int(++seed % 4);
                    o.bias = seed % 3, o.initial = seed % 5;
                    const Shape q{cell, 4, B, 1 + ptrdiff_t(seed % 18), H, P ? P : H, 1, lengths_of("full", 4, B, seed)};
                    const Problem p = make_problem(q, o, seed, P > 0);
                    const Results<T> right = run<T>(p, 1, false), found = run_stream<T>(p, ptrdiff_t(seed % 5));
                    const std::string what = std::string(fastrnn::kernels()->name) + " stream " + p.name;
                    expect_same(found.y, right.y, what + " y");
                    expect_same(found.h_n[0], right.h_n[0], what + " h_n");
                    expect_same(found.c_n[0], right.c_n[0], what + " c_n");
                }
}

// embedding → linear → activation → normalisation → softmax, against the operations on their own
template <class T>
void stream_others() {
    const fastrnn::Kernels& k = *fastrnn::kernels();
    const int dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
    Random random{11};
    for (ptrdiff_t B : {1, 3, 8})
        for (ptrdiff_t N : {1, 7, 16, 35}) {
            const ptrdiff_t V = 5, E = 9;
            const Buffer<T> table = filled<T>(random.normals(size_t(V * E))), W = filled<T>(random.normals(size_t(N * E)));
            const Buffer<T> b = filled<T>(random.normals(size_t(N))), gamma = filled<T>(random.normals(size_t(N)));
            Buffer<int64_t> x(size_t(B), sizeof(int64_t));
            for (ptrdiff_t i = 0; i < B; ++i) x[size_t(i)] = random.below(int(V));
            StreamMemory m[5];
            fastrnn::StreamLayer layers[5];
            for (int i = 0; i < 5; ++i) {
                fastrnn::StreamLayer& l = m[i].layer;
                const int kinds[] = {fastrnn::kStreamEmbedding, fastrnn::kStreamLinear, fastrnn::kStreamActivation,
                                     fastrnn::kStreamNorm, fastrnn::kStreamSoftmax};
                l.dtype = dtype, l.kind = kinds[i], l.function = fastrnn::kSwish, l.alpha = 0.5, l.B = B;
                l.I = i == 0 ? V : i == 1 ? E : N;
                l.H = l.P = i == 0 ? E : N;
                if (i == 0) l.W = table.data(), l.W_rs = E, l.W_cs = 1;
                if (i == 1) l.W = W.data(), l.W_rs = E, l.W_cs = 1, l.b_w = b.data();
                if (i == 3) l.W = gamma.data(), l.W_cs = 1, l.b_w = b.data();
                m[i].prepare();
                layers[i] = l;
            }
            const Buffer<T> y(size_t(B * N), sizeof(void*)), rows(size_t(B * E)), right(size_t(B * N)), scratch(size_t(2 * B));
            report.expect(k.stream->step(layers, 5, x.data(), 1, y.data(), N) == -1, "integers inside the table");
            k.ops->embedding_forward(dtype, table.data(), x.data(), rows.data(), B, V, E, 1);
            Buffer<char> workspace(k.gemm_workspace(dtype, B, N, E, 1));
            k.gemm(dtype, B, N, E, rows.data(), E, 1, W.data(), 1, E, right.data(), N, b.data(), 0, workspace.data(), 1);
            k.ops->activation(dtype, fastrnn::kSwish, right.data(), right.data(), B * N, 0.5, 1);
            k.ops->layer_norm_forward(dtype, right.data(), gamma.data(), b.data(), 0.5, right.data(), scratch.data(),
                                      scratch.data() + B, B, N, 1);
            k.ops->softmax(dtype, right.data(), right.data(), B, N, 1);
            expect_same(content(y), content(right), std::string(k.name) + " stream of operations, N=" + std::to_string(N));
            x[size_t(B - 1)] = V;
            report.expect(k.stream->step(layers, 5, x.data(), 1, y.data(), N) == B - 1, "an integer outside the table");
            expect_same(content(y), content(right), "nothing has moved then");
        }
}
