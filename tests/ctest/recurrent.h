// recurrent.h: problems for the recurrent kernels, and a call of the table as the binding makes it.
#pragma once
#include <algorithm>

#include "check.h"
#include "fastrnn.h"
#include "naive.h"

struct Options {
    bool bias = true, initial = true, dy = true, dstate = true, dx = true, grads = true;
    bool codes = false;  // x, which is one-hot, is given by its codes
    int layout = 0;      // of every strided array: see Matrix and Rows
};

struct Problem {
    Shape q;
    Options o;
    Inputs<double> in;
    std::vector<double> dy, dh_n[2], dc_n[2];  // gradients that come in; zeros when an option leaves them out
    std::string name;
};

inline const char* kCellNames[] = {"rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru_after", "gru_before"};

inline std::vector<int64_t> lengths_of(const char* kind, ptrdiff_t T, ptrdiff_t B, uint64_t seed) {
    Random random{seed};
    std::vector<int64_t> lengths(size_t(B), T);
    for (int64_t& n : lengths) {
        if (!std::strcmp(kind, "ragged")) n = random.below(int(T) + 1);
        if (!std::strcmp(kind, "empty")) n = 0;
    }
    return lengths;
}

inline Problem make_problem(Shape q, Options o, uint64_t seed, bool projection = false) {
    Random random{seed};
    Problem p{q, o, {}, {}, {}, {}, {}};
    const size_t GH = size_t(q.gates() * q.H), H = size_t(q.H), P = size_t(q.P), B = size_t(q.B), I = size_t(q.I);
    const double scale = 1 / std::sqrt(double(q.H));
    auto some = [&](bool wanted, size_t n, double s) { return wanted ? random.normals(n, s) : std::vector<double>(n, 0.0); };
    p.in.x = random.normals(size_t(q.T) * B * I);
    p.dy = some(o.dy, size_t(q.T) * B * size_t(q.D) * P, 1);
    for (int d = 0; d < q.D; ++d) {
        Weights<double>& w = p.in.dir[d];
        w.W = random.normals(GH * I, scale);
        w.R = random.normals(GH * P, scale);
        w.b_w = some(o.bias, GH, scale);
        w.b_r = some(o.bias, GH, scale);
        if (projection) w.M = random.normals(P * H, scale);
        w.h_0 = some(o.initial, B * P, 0.5);
        if (q.lstm()) w.c_0 = some(o.initial, B * H, 0.5);
        p.dh_n[d] = some(o.dstate, B * P, 1);
        if (q.lstm()) p.dc_n[d] = some(o.dstate, B * H, 1);
    }
    p.name = std::string(kCellNames[q.cell]) + " T=" + std::to_string(q.T) + " B=" + std::to_string(q.B) +
             " I=" + std::to_string(q.I) + " H=" + std::to_string(q.H) + " P=" + std::to_string(q.P) +
             " D=" + std::to_string(q.D) + " layout=" + std::to_string(o.layout);
    return p;
}

// A matrix in memory: 0 row-major, 1 column-major, 2 with gaps in both directions, 3 backwards in both.
template <class T>
struct Matrix {
    Buffer<T> memory;
    T* origin = nullptr;
    ptrdiff_t rs = 0, cs = 0;
    Matrix() = default;
    Matrix(const std::vector<double>& values, ptrdiff_t rows, ptrdiff_t cols, int layout) {
        rs = layout == 0 ? cols : layout == 1 ? 1 : layout == 2 ? 2 * cols + 3 : -cols;
        cs = layout == 0 ? 1 : layout == 1 ? rows : layout == 2 ? 2 : -1;
        const ptrdiff_t last = (rows - 1) * rs + (cols - 1) * cs;
        memory = Buffer<T>(size_t(last < 0 ? -last : last) + 1, sizeof(void*));
        origin = memory.data() + (last < 0 ? -last : 0);
        for (ptrdiff_t r = 0; r < rows; ++r)
            for (ptrdiff_t c = 0; c < cols; ++c) origin[r * rs + c * cs] = T(values[size_t(r * cols + c)]);
    }
};

// [T, B, width] with contiguous rows: 0 time-major, 1 batch-first, 2 gaps between rows, 3 time backwards.
template <class T>
struct Rows {
    Buffer<T> memory;
    T* origin = nullptr;
    ptrdiff_t t = 0, b = 0, steps = 0, batch = 0, width = 0;
    Rows() = default;
    Rows(ptrdiff_t T_, ptrdiff_t B, ptrdiff_t width_, int layout) : steps(T_), batch(B), width(width_) {
        const ptrdiff_t row = layout == 2 ? width + 3 : width;
        t = layout == 1 ? row : layout == 3 ? -B * row : B * row;
        b = layout == 1 ? T_ * row : row;
        if (B == 0) return;
        const ptrdiff_t before = t < 0 ? -(T_ - 1) * t : 0;
        memory = Buffer<T>(size_t(before + (T_ - 1) * (t < 0 ? 0 : t) + (B - 1) * b + width), sizeof(void*));
        origin = memory.data() + before;
    }
    // past a row's length everything stays NaN
    void fill(const std::vector<double>& values, const std::vector<int64_t>& lengths) const {
        for (ptrdiff_t i = 0; i < batch; ++i)
            for (ptrdiff_t s = 0; s < lengths[size_t(i)]; ++s)
                for (ptrdiff_t k = 0; k < width; ++k)
                    origin[s * t + i * b + k] = T(values[size_t((s * batch + i) * width + k)]);
    }
    std::vector<T> values() const {
        std::vector<T> v;
        for (ptrdiff_t s = 0; s < steps; ++s)
            for (ptrdiff_t i = 0; i < batch; ++i) v.insert(v.end(), origin + s * t + i * b, origin + s * t + i * b + width);
        return v;
    }
    // what lies between the rows is as it was
    bool gaps_untouched() const {
        if (std::abs(b) == width || batch == 0 || std::abs(t) == width) return true;
        for (ptrdiff_t i = 0; i < steps * batch - 1; ++i)
            for (ptrdiff_t k = width; k < b; ++k)
                if (memory[size_t(i * b + k)] == memory[size_t(i * b + k)]) return false;
        return true;
    }
};

// Where the ones are in an x that is one-hot; past a row's length what would lead far outside.
inline Buffer<int64_t> codes_of(const Problem& p) {
    Buffer<int64_t> codes(size_t(p.q.T * p.q.B), sizeof(void*));
    for (ptrdiff_t t = 0; t < p.q.T; ++t)
        for (ptrdiff_t b = 0; b < p.q.B; ++b) {
            const double* row = p.in.x.data() + (t * p.q.B + b) * p.q.I;
            codes[size_t(t * p.q.B + b)] = t < p.q.lengths[size_t(b)] ? std::find(row, row + p.q.I, 1.0) - row : INT64_MAX / 2;
        }
    return codes;
}

// Everything that comes out; empty where it wasn't asked for.
template <class T>
struct Results {
    std::vector<T> y, h_n[2], c_n[2];
    std::vector<T> dx, dW[2], dR[2], db_w[2], db_r[2], dM[2], dh_0[2], dc_0[2];
};
constexpr double kStart = 0.25;  // what weight gradients are added to

template <class T>
struct Arrays {  // of one direction
    Matrix<T> W, R, M;
    Buffer<T> b_w, b_r, h_0, c_0, h_n, c_n, dh_n, dc_n, dW, dR, db_w, db_r, dM, dh_0, dc_0;
    Buffer<char> gates, c, hidden;
};

template <class T>
Buffer<T> filled(const std::vector<double>& values, bool wanted = true) {
    Buffer<T> buffer(wanted ? values.size() : 0, sizeof(void*));
    for (size_t i = 0; i < buffer.size(); ++i) buffer[i] = T(values[i]);
    return buffer;
}
template <class T>
Buffer<T> filled(size_t n, double value, bool wanted = true) {
    return filled<T>(std::vector<double>(n, value), wanted);
}
template <class T>
std::vector<T> content(const Buffer<T>& b) {
    return std::vector<T>(b.data(), b.data() + b.size());
}

template <class T>
Results<T> run(const Problem& p, int threads, bool backward, ptrdiff_t checkpoint = 0) {
    const fastrnn::Kernels& k = *fastrnn::kernels();
    const Shape& s = p.q;
    const Options& o = p.o;
    const size_t GH = size_t(s.gates() * s.H), H = size_t(s.H), P = size_t(s.P), B = size_t(s.B), I = size_t(s.I);
    fastrnn::Sequence q{};
    q.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
    q.cell = s.cell;
    q.T = s.T, q.B = s.B, q.I = s.I, q.H = s.H, q.P = s.P, q.D = s.D;
    q.threads = threads;
    q.save = !backward ? fastrnn::kSaveNothing : checkpoint ? fastrnn::kSaveCheckpoints : fastrnn::kSaveAll;
    q.checkpoint = checkpoint;
    Buffer<int64_t> lengths(B, sizeof(void*));
    bool ragged = false;
    for (size_t b = 0; b < B; ++b) {
        lengths[b] = s.lengths[b];
        q.steps += s.lengths[b];
        ragged = ragged || s.lengths[b] != s.T;
    }
    q.lengths = ragged ? lengths.data() : nullptr;
    Rows<T> x(s.T, s.B, s.I, o.layout), y(s.T, s.B, s.D * s.P, o.layout), dy, dx;
    x.fill(p.in.x, s.lengths);
    q.x = x.origin, q.x_t = x.t, q.x_b = x.b;
    Buffer<int64_t> codes = o.codes ? codes_of(p) : Buffer<int64_t>(0);
    if (o.codes) q.x = nullptr, q.codes = codes.data(), q.codes_t = s.B, q.codes_b = 1;
    Arrays<T> a[2];
    for (int d = 0; d < s.D; ++d) {
        const Weights<double>& w = p.in.dir[d];
        fastrnn::Direction& dir = q.dir[d];
        a[d].W = Matrix<T>(w.W, s.gates() * s.H, s.I, o.layout);
        a[d].R = Matrix<T>(w.R, s.gates() * s.H, s.P, o.layout);
        if (!w.M.empty()) a[d].M = Matrix<T>(w.M, s.P, s.H, o.layout);
        a[d].b_w = filled<T>(w.b_w, o.bias), a[d].b_r = filled<T>(w.b_r, o.bias);
        a[d].h_0 = filled<T>(w.h_0, o.initial), a[d].c_0 = filled<T>(w.c_0, o.initial);
        a[d].h_n = Buffer<T>(B * P, sizeof(void*)), a[d].c_n = Buffer<T>(s.lstm() ? B * H : 0, sizeof(void*));
        dir.W = a[d].W.origin, dir.W_rs = a[d].W.rs, dir.W_cs = a[d].W.cs;
        dir.R = a[d].R.origin, dir.R_rs = a[d].R.rs, dir.R_cs = a[d].R.cs;
        dir.M = a[d].M.origin, dir.M_rs = a[d].M.rs, dir.M_cs = a[d].M.cs;
        dir.b_w = a[d].b_w.data(), dir.b_r = a[d].b_r.data();
        dir.h_0 = a[d].h_0.data(), dir.c_0 = a[d].c_0.data(), dir.h_n = a[d].h_n.data(), dir.c_n = a[d].c_n.data();
        dir.y = y.origin ? y.origin + d * s.P : nullptr, dir.y_t = y.t, dir.y_b = y.b;
        dir.reverse = d;
    }
    fastrnn::Sizes sizes;
    k.sizes(&q, &sizes);
    for (int d = 0; d < s.D; ++d) {
        a[d].gates = Buffer<char>(sizes.gates), a[d].c = Buffer<char>(sizes.c), a[d].hidden = Buffer<char>(sizes.hidden);
        q.dir[d].gates = a[d].gates.data(), q.dir[d].c = a[d].c.data(), q.dir[d].hidden = a[d].hidden.data();
    }
    Buffer<char> workspace(sizes.forward);
    q.workspace = workspace.data();
    k.forward(&q);
    Results<T> r;
    r.y = y.values();
    for (int d = 0; d < s.D; ++d) r.h_n[d] = content(a[d].h_n), r.c_n[d] = content(a[d].c_n);
    report.expect(y.gaps_untouched(), p.name + ": y written between its rows");
    if (!backward) return r;

    dy = Rows<T>(o.dy ? s.T : 0, o.dy ? s.B : 0, s.D * s.P, o.layout);
    if (o.dy) dy.fill(p.dy, s.lengths);
    dx = Rows<T>(s.T, o.dx ? s.B : 0, s.I, o.layout);
    q.dx = dx.origin, q.dx_t = dx.t, q.dx_b = dx.b;
    for (int d = 0; d < s.D; ++d) {
        fastrnn::Direction& dir = q.dir[d];
        dir.dy = dy.origin ? dy.origin + d * s.P : nullptr, dir.dy_t = dy.t, dir.dy_b = dy.b;
        a[d].dh_n = filled<T>(p.dh_n[d], o.dstate), a[d].dc_n = filled<T>(p.dc_n[d], o.dstate);
        a[d].dW = filled<T>(GH * I, kStart, o.grads), a[d].dR = filled<T>(GH * P, kStart, o.grads);
        a[d].db_w = filled<T>(GH, kStart, o.grads && o.bias), a[d].db_r = filled<T>(GH, kStart, o.grads && o.bias);
        a[d].dM = filled<T>(p.in.dir[d].M.size(), kStart, o.grads);
        a[d].dh_0 = Buffer<T>(o.initial ? B * P : 0, sizeof(void*));
        a[d].dc_0 = Buffer<T>(o.initial && s.lstm() ? B * H : 0, sizeof(void*));
        dir.dh_n = a[d].dh_n.data(), dir.dc_n = a[d].dc_n.data();
        dir.dW = a[d].dW.data(), dir.dR = a[d].dR.data(), dir.db_w = a[d].db_w.data(), dir.db_r = a[d].db_r.data();
        dir.dM = a[d].dM.data(), dir.dh_0 = a[d].dh_0.data(), dir.dc_0 = a[d].dc_0.data();
    }
    k.sizes(&q, &sizes);
    workspace = Buffer<char>(sizes.backward);
    q.workspace = workspace.data();
    k.backward(&q);
    r.dx = dx.values();
    for (int d = 0; d < s.D; ++d) {
        r.dW[d] = content(a[d].dW), r.dR[d] = content(a[d].dR), r.dM[d] = content(a[d].dM);
        r.db_w[d] = content(a[d].db_w), r.db_r[d] = content(a[d].db_r);
        r.dh_0[d] = content(a[d].dh_0), r.dc_0[d] = content(a[d].dc_0);
    }
    report.expect(dx.gaps_untouched(), p.name + ": dx written between its rows");
    return r;
}

// The arrays of Results with their names, in pairs: f(name, a's, b's, is a gradient)
template <class A, class B, class F>
void each_array(const Results<A>& a, const Results<B>& b, F&& f) {
    f("y", a.y, b.y, false);
    f("dx", a.dx, b.dx, true);
    for (int d = 0; d < 2; ++d) {
        f("h_n", a.h_n[d], b.h_n[d], false);
        f("c_n", a.c_n[d], b.c_n[d], false);
        f("dW", a.dW[d], b.dW[d], true);
        f("dR", a.dR[d], b.dR[d], true);
        f("db_w", a.db_w[d], b.db_w[d], true);
        f("db_r", a.db_r[d], b.db_r[d], true);
        f("dM", a.dM[d], b.dM[d], true);
        f("dh_0", a.dh_0[d], b.dh_0[d], true);
        f("dc_0", a.dc_0[d], b.dc_0[d], true);
    }
}

// What each instruction set must reproduce: outputs, and the loss's derivative along a random direction of each input.
struct Slope {
    const char* name;
    int d;
    std::vector<double> direction;
    double derivative;
};
struct Expected {
    Outputs<double> out;
    std::vector<Slope> slopes;
};

inline Weights<Dual> dual(const Weights<double>& w) {
    auto convert = [](const std::vector<double>& v) { return std::vector<Dual>(v.begin(), v.end()); };
    return {convert(w.W), convert(w.R), convert(w.b_w), convert(w.b_r), convert(w.M), convert(w.h_0), convert(w.c_0)};
}

inline Expected expected(const Problem& p, uint64_t seed) {
    Random random{seed};
    Expected e{naive(p.q, p.in), {}};
    Inputs<Dual> in{std::vector<Dual>(p.in.x.begin(), p.in.x.end()), {dual(p.in.dir[0]), dual(p.in.dir[1])}};
    auto along = [&](const char* name, int d, std::vector<Dual>& input) {
        if (input.empty()) return;
        Slope s{name, d, random.normals(input.size()), 0};
        for (size_t i = 0; i < input.size(); ++i) input[i].d = s.direction[i];
        const Outputs<Dual> out = naive(p.q, in);
        for (Dual& v : input) v.d = 0;
        for (size_t i = 0; i < out.y.size(); ++i) s.derivative += p.dy[i] * out.y[i].d;
        for (int k = 0; k < p.q.D; ++k) {
            for (size_t i = 0; i < out.h_n[k].size(); ++i) s.derivative += p.dh_n[k][i] * out.h_n[k][i].d;
            for (size_t i = 0; i < out.c_n[k].size(); ++i) s.derivative += p.dc_n[k][i] * out.c_n[k][i].d;
        }
        e.slopes.push_back(s);
    };
    along("dx", 0, in.x);
    for (int d = 0; d < p.q.D; ++d) {
        along("dW", d, in.dir[d].W);
        along("dR", d, in.dir[d].R);
        along("db_w", d, in.dir[d].b_w);
        along("db_r", d, in.dir[d].b_r);
        along("dM", d, in.dir[d].M);
        along("dh_0", d, in.dir[d].h_0);
        along("dc_0", d, in.dir[d].c_0);
    }
    return e;
}

// outputs and gradients in float64 against the naive cell
inline void check_expected(const Problem& p, const Expected& e, const Results<double>& r, const std::string& what) {
    expect_close(r.y, e.out.y, 1e-12, what + " y");
    for (int d = 0; d < p.q.D; ++d) {
        expect_close(r.h_n[d], e.out.h_n[d], 1e-12, what + " h_n");
        expect_close(r.c_n[d], e.out.c_n[d], 1e-12, what + " c_n");
    }
    for (const Slope& s : e.slopes) {
        // weight gradients are added to what is there, the others are written
        const double start = std::strchr("WRMb", s.name[1]) ? kStart : 0;
        int direction = 0;
        each_array(r, r, [&](const char* name, const std::vector<double>& a, const std::vector<double>&, bool) {
            if (std::strcmp(name, s.name) || direction++ != s.d || a.empty()) return;
            double sum = 0, scale = 0;
            for (size_t i = 0; i < a.size(); ++i) {
                sum += (a[i] - start) * s.direction[i];
                scale += std::fabs((a[i] - start) * s.direction[i]);
            }
            if (!(std::fabs(sum - s.derivative) <= 1e-11 * scale + 1e-13 * double(a.size())))
                report.fail(what + " " + s.name + " of direction " + std::to_string(s.d) + ": slope " + std::to_string(sum) +
                            ", expected " + std::to_string(s.derivative));
        });
    }
}
