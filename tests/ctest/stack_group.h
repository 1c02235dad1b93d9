// stack_group.h: stacks of layers in one call of the table, against a call for each layer: the same bits.
#pragma once
#include <thread>

#include "recurrent.h"

struct StackCase {
    Shape q;  // of the lowest layer; the others read its outputs
    int layers;
    Options o;
    bool projection;
};

template <class T>
struct StackMemory {  // of one layer
    Arrays<T> a;
    Rows<T> y, dx;
    Buffer<char> forward, backward;
    fastrnn::Sequence q{};
};

// Everything that comes out of each layer, the lowest first. `together`: one call forward, one backward, if the table finds
// it worth while; `ran` counts those.
template <class T>
std::vector<Results<T>> run_stack(const StackCase& c, int threads, int save, bool together, int* ran = nullptr) {
    const fastrnn::Kernels& k = *fastrnn::kernels();
    const size_t L = size_t(c.layers);
    std::vector<Problem> problems;
    std::vector<StackMemory<T>> m(L);
    Buffer<int64_t> lengths(size_t(c.q.B), sizeof(void*));
    for (size_t b = 0; b < lengths.size(); ++b) lengths[b] = c.q.lengths[b];
    Rows<T> x(c.q.T, c.q.B, c.q.I, c.o.layout), dy;
    std::vector<const fastrnn::Sequence*> all;
    for (size_t i = 0; i < L; ++i) {
        Shape s = c.q;
        if (i) s.I = s.P;
        problems.push_back(make_problem(s, c.o, 500 + i, c.projection));
        const Weights<double>& w = problems[i].in.dir[0];
        const size_t GH = size_t(s.gates() * s.H), B = size_t(s.B), P = size_t(s.P), H = size_t(s.H);
        fastrnn::Sequence& q = m[i].q;
        fastrnn::Direction& dir = q.dir[0];
        Arrays<T>& a = m[i].a;
        q.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
        q.cell = s.cell, q.T = s.T, q.B = s.B, q.I = s.I, q.H = s.H, q.P = s.P, q.D = 1;
        q.threads = threads, q.save = save, q.checkpoint = save == fastrnn::kSaveCheckpoints ? 7 : 0;
        q.lengths = lengths.data();
        for (int64_t n : s.lengths) q.steps += n;
        const Rows<T>& below = i ? m[i - 1].y : x;
        q.x = below.origin, q.x_t = below.t, q.x_b = below.b;
        m[i].y = Rows<T>(s.T, s.B, s.P, c.o.layout);
        dir.y = m[i].y.origin, dir.y_t = m[i].y.t, dir.y_b = m[i].y.b;
        a.W = Matrix<T>(w.W, ptrdiff_t(GH), s.I, c.o.layout), a.R = Matrix<T>(w.R, ptrdiff_t(GH), s.P, c.o.layout);
        if (c.projection) a.M = Matrix<T>(w.M, s.P, s.H, c.o.layout);
        dir.W = a.W.origin, dir.W_rs = a.W.rs, dir.W_cs = a.W.cs;
        dir.R = a.R.origin, dir.R_rs = a.R.rs, dir.R_cs = a.R.cs;
        dir.M = a.M.origin, dir.M_rs = a.M.rs, dir.M_cs = a.M.cs;
        a.b_w = filled<T>(w.b_w, c.o.bias), a.b_r = filled<T>(w.b_r, c.o.bias);
        a.h_0 = filled<T>(w.h_0, c.o.initial), a.c_0 = filled<T>(w.c_0, c.o.initial);
        a.h_n = Buffer<T>(B * P, sizeof(void*)), a.c_n = Buffer<T>(s.lstm() ? B * H : 0, sizeof(void*));
        dir.b_w = a.b_w.data(), dir.b_r = a.b_r.data(), dir.h_0 = a.h_0.data(), dir.c_0 = a.c_0.data();
        dir.h_n = a.h_n.data(), dir.c_n = a.c_n.data();
        fastrnn::Sizes sizes;
        k.sizes(&q, &sizes);
        a.gates = Buffer<char>(sizes.gates), a.c = Buffer<char>(sizes.c), a.hidden = Buffer<char>(sizes.hidden);
        dir.gates = a.gates.data(), dir.c = a.c.data(), dir.hidden = a.hidden.data();
        m[i].forward = Buffer<char>(sizes.forward);
        q.workspace = m[i].forward.data();
        all.push_back(&q);
    }
    x.fill(problems[0].in.x, c.q.lengths);
    const bool forward_together = together && k.stack_teams(all[0], c.layers, 0);
    if (forward_together) k.forward_stack(all.data(), c.layers);
    for (size_t i = 0; i < L && !forward_together; ++i) k.forward(all[i]);
    std::vector<Results<T>> r(L);
    for (size_t i = 0; i < L; ++i)
        r[i].y = m[i].y.values(), r[i].h_n[0] = content(m[i].a.h_n), r[i].c_n[0] = content(m[i].a.c_n);
    if (ran) *ran += forward_together;
    if (save == fastrnn::kSaveNothing) return r;

    dy = Rows<T>(c.o.dy ? c.q.T : 0, c.o.dy ? c.q.B : 0, c.q.P, c.o.layout);
    if (c.o.dy) dy.fill(problems[0].dy, c.q.lengths);
    for (size_t i = L; i-- > 0;) {
        fastrnn::Sequence& q = m[i].q;
        fastrnn::Direction& dir = q.dir[0];
        Arrays<T>& a = m[i].a;
        const Rows<T>& above = i + 1 < L ? m[i + 1].dx : dy;
        dir.dy = above.origin, dir.dy_t = above.t, dir.dy_b = above.b;
        m[i].dx = Rows<T>(q.T, i || c.o.dx ? q.B : 0, q.I, c.o.layout);
        q.dx = m[i].dx.origin, q.dx_t = m[i].dx.t, q.dx_b = m[i].dx.b;
        a.dh_n = filled<T>(problems[i].dh_n[0], c.o.dstate), a.dc_n = filled<T>(problems[i].dc_n[0], c.o.dstate);
        const size_t GH = size_t(c.q.gates() * q.H), B = size_t(q.B);
        a.dW = filled<T>(GH * size_t(q.I), kStart), a.dR = filled<T>(GH * size_t(q.P), kStart);
        a.db_w = filled<T>(GH, kStart, c.o.bias), a.db_r = filled<T>(GH, kStart, c.o.bias);
        a.dM = filled<T>(problems[i].in.dir[0].M.size(), kStart);
        a.dh_0 = Buffer<T>(c.o.initial ? B * size_t(q.P) : 0, sizeof(void*));
        a.dc_0 = Buffer<T>(c.o.initial && c.q.lstm() ? B * size_t(q.H) : 0, sizeof(void*));
        dir.dh_n = a.dh_n.data(), dir.dc_n = a.dc_n.data(), dir.dh_0 = a.dh_0.data(), dir.dc_0 = a.dc_0.data();
        dir.dW = a.dW.data(), dir.dR = a.dR.data(), dir.db_w = a.db_w.data(), dir.db_r = a.db_r.data(), dir.dM = a.dM.data();
        fastrnn::Sizes sizes;
        k.sizes(&q, &sizes);
        m[i].backward = Buffer<char>(sizes.backward);
        q.workspace = m[i].backward.data();
    }
    const bool backward_together = together && k.stack_teams(all[0], c.layers, 1);
    if (backward_together) k.backward_stack(all.data(), c.layers);
    for (size_t i = L; i-- > 0 && !backward_together;) k.backward(all[i]);
    if (ran) *ran += backward_together;
    for (size_t i = 0; i < L; ++i) {
        const Arrays<T>& a = m[i].a;
        r[i].dx = m[i].dx.values();
        r[i].dW[0] = content(a.dW), r[i].dR[0] = content(a.dR), r[i].dM[0] = content(a.dM);
        r[i].db_w[0] = content(a.db_w), r[i].db_r[0] = content(a.db_r);
        r[i].dh_0[0] = content(a.dh_0), r[i].dc_0[0] = content(a.dc_0);
    }
    return r;
}

inline std::vector<StackCase> stack_cases() {
    std::vector<StackCase> all;
    struct Size {
        ptrdiff_t T, B, I, H;
        int layers;
        const char* lengths;
    };
    const Size sizes[] = {{160, 1, 40, 64, 2, "full"}, {130, 3, 9, 65, 3, "ragged"}, {70, 5, 70, 60, 4, "ragged"}};
    uint64_t seed = 40;
    for (int cell = fastrnn::kRnnTanh; cell <= fastrnn::kGruBefore; ++cell)
        for (const Size& s : sizes)
            for (ptrdiff_t P : {ptrdiff_t(0), ptrdiff_t(21)}) {
                if (P && cell != fastrnn::kLstm) continue;
                Options o;
                ++seed;
                o.layout = int(seed % 4), o.bias = seed % 5 != 0, o.initial = seed % 3 != 0;
                o.dy = seed % 4 != 0, o.dstate = seed % 4 != 1, o.dx = seed % 2 != 0;
                std::vector<int64_t> lengths = lengths_of(s.lengths, s.T, s.B, seed);
                lengths[0] = s.T;
                all.push_back({{cell, s.T, s.B, s.I, s.H, P ? P : s.H, 1, lengths}, s.layers, o, P > 0});
            }
    return all;
}

template <class T>
void same_stack(const std::vector<Results<T>>& a, const std::vector<Results<T>>& b, const std::string& what) {
    for (size_t i = 0; i < a.size(); ++i)
        each_array(a[i], b[i], [&](const char* name, const auto& x, const auto& y, bool) {
            expect_same(x, y, what + " layer " + std::to_string(i) + " " + name);
        });
}

template <class T>
void stacks_of(const std::string& isa) {
    int ran = 0;
    for (const StackCase& c : stack_cases()) {
        const std::string what = isa + " stack " + kCellNames[c.q.cell] + " T=" + std::to_string(c.q.T);
        for (int save : {fastrnn::kSaveNothing, fastrnn::kSaveAll, fastrnn::kSaveCheckpoints}) {
            const std::vector<Results<T>> one = run_stack<T>(c, 1, save, false);
            for (int n : {1, 2, 3, 8}) {
                same_stack(run_stack<T>(c, n, save, true, &ran), one, what + " threads=" + std::to_string(n));
            }
        }
    }
    report.expect(ran > 100, isa + ": only " + std::to_string(ran) + " stacks ran side by side");
}

// a busy pool runs a stack inline
inline void busy_stacks() {
    const StackCase c = stack_cases()[10];
    const auto one = run_stack<float>(c, 1, fastrnn::kSaveAll, false);
    std::vector<std::vector<Results<float>>> many(6);
    std::vector<std::thread> callers;
    for (int i = 0; i < 6; ++i)
        callers.emplace_back([&many, &c, i] {
            for (int repeat = 0; repeat < 4; ++repeat) many[size_t(i)] = run_stack<float>(c, 3, fastrnn::kSaveAll, true);
        });
    for (std::thread& t : callers) t.join();
    for (const auto& r : many) same_stack(r, one, "stacks of many callers");
}
