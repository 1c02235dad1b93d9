// native_group.h: streams and layers as compiled code calls them (csrc/native.h), in exact buffers: the bits of the kernels'
// own calls, and what is wrong with arguments said before anything moves.
#pragma once
#include "native.h"
#include "pool.h"
#include "recurrent.h"
#include "stream_group.h"

template <class T>
fastrnn::NativeArray native_array(T* data, std::vector<int64_t> shape, std::vector<int64_t> elements) {
    fastrnn::NativeArray a{};
    a.data = reinterpret_cast<char*>(data);
    a.ndim = int64_t(shape.size());
    for (size_t i = 0; i < shape.size(); ++i) a.shape[i] = shape[i], a.stride[i] = elements[i] * int64_t(sizeof(T));
    return a;
}

template <class T>
fastrnn::NativeArray native_array(const Buffer<T>& b, std::vector<int64_t> shape) {  // C-contiguous
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return native_array(b.data(), shape, strides);
}

inline void expect_error(int64_t found, int64_t right, const std::string& what) {
    report.expect(found == right, what + ": error " + std::to_string(found) + " instead of " + std::to_string(right));
}

// ---- layers

// Layers of one kind, the lowest reading I numbers, as the binding describes them.
template <class T>
struct NativeStack {
    std::vector<Problem> problems;
    std::vector<Arrays<T>> arrays;
    std::vector<fastrnn::Sequence> sequences;
    fastrnn::NativeLayer layer{};
    Shape q;

    NativeStack(const Shape& shape, Options o, int64_t layers, bool batch_first) : arrays(size_t(2 * layers)), q(shape) {
        for (int64_t k = 0; k < layers; ++k) {
            Shape s = q;
            if (k) s.I = s.D * s.P;
            problems.push_back(make_problem(s, o, 900 + uint64_t(k), s.P != s.H));
            fastrnn::Sequence p{};
            p.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
            p.cell = s.cell, p.I = s.I, p.H = s.H, p.P = s.P, p.D = s.D, p.save = fastrnn::kSaveNothing;
            for (int d = 0; d < s.D; ++d) {
                const Weights<double>& w = problems.back().in.dir[d];
                Arrays<T>& a = arrays[size_t(2 * k + d)];
                fastrnn::Direction& dir = p.dir[d];
                a.W = Matrix<T>(w.W, s.gates() * s.H, s.I, o.layout), a.R = Matrix<T>(w.R, s.gates() * s.H, s.P, o.layout);
                if (!w.M.empty()) a.M = Matrix<T>(w.M, s.P, s.H, o.layout);
                a.b_w = filled<T>(w.b_w, o.bias), a.b_r = filled<T>(w.b_r, o.bias);
                dir.W = a.W.origin, dir.W_rs = a.W.rs, dir.W_cs = a.W.cs;
                dir.R = a.R.origin, dir.R_rs = a.R.rs, dir.R_cs = a.R.cs;
                dir.M = a.M.origin, dir.M_rs = a.M.rs, dir.M_cs = a.M.cs;
                dir.b_w = a.b_w.data(), dir.b_r = a.b_r.data(), dir.reverse = d;
            }
            sequences.push_back(p);
        }
        native_layer(&layer);
        layer.batch_first = batch_first, layer.input_size = q.I, layer.output_size = q.D * q.P;
        layer.states = layers * q.D, layer.h_size = q.P, layer.c_size = q.H;
        layer.layers = layers, layer.layer = sequences.data();
    }

    // the states of layer k and its directions, or of all
    Buffer<T> initial(bool c, size_t from, size_t to) const {
        std::vector<double> all;
        for (size_t k = from; k < to; ++k)
            for (int d = 0; d < q.D; ++d) {
                const Weights<double>& w = problems[k].in.dir[d];
                all.insert(all.end(), (c ? w.c_0 : w.h_0).begin(), (c ? w.c_0 : w.h_0).end());
            }
        return filled<T>(all);
    }
};

template <class T>
struct NativeResults {
    std::vector<T> y, h_n, c_n;  // y [T, B, ·]
};

// Layers `from` to `to` over x in one call, or one after the other.
template <class T>
NativeResults<T> native_forward(const NativeStack<T>& stack, const std::vector<double>& x, int layout, size_t from, size_t to) {
    const Shape& s = stack.q;
    fastrnn::NativeLayer layer = stack.layer;
    layer.layer += from, layer.layers = int64_t(to - from), layer.states = layer.layers * s.D;
    const int64_t I = layer.layer[0].I, N = layer.output_size, L = layer.states;
    layer.input_size = I;
    Rows<T> rows(s.T, s.B, I, layout);
    rows.fill(x, std::vector<int64_t>(size_t(s.B), s.T));
    const Buffer<T> h_0 = stack.initial(false, from, to), c_0 = stack.initial(true, from, to);
    const Buffer<T> y(size_t(s.T * s.B * N), sizeof(void*)), h_n(size_t(L * s.B * s.P)),
        c_n(size_t(s.lstm() ? L * s.B * s.H : 0));
    Buffer<int64_t> lengths(size_t(s.B), sizeof(int64_t));
    for (size_t b = 0; b < lengths.size(); ++b) lengths[b] = s.lengths[b];
    const bool first = layer.batch_first != 0;
    const fastrnn::NativeArray nx = first ? native_array(rows.origin, {s.B, s.T, I}, {rows.b, rows.t, 1})
                                          : native_array(rows.origin, {s.T, s.B, I}, {rows.t, rows.b, 1});
    const fastrnn::NativeArray ny = first ? native_array(y, {s.B, s.T, N}) : native_array(y, {s.T, s.B, N});
    const fastrnn::NativeArray nh_0 = native_array(h_0, {L, s.B, s.P}), nc_0 = native_array(c_0, {L, s.B, s.H});
    const fastrnn::NativeArray nh_n = native_array(h_n, {L, s.B, s.P}), nc_n = native_array(c_n, {L, s.B, s.H});
    const fastrnn::NativeArray nl = native_array(lengths, {s.B});
    const int64_t error =
        layer.forward(&layer, &nx, &nh_0, s.lstm() ? &nc_0 : nullptr, &nl, &ny, &nh_n, s.lstm() ? &nc_n : nullptr);
    expect_error(error, fastrnn::kNativeOk, stack.problems[0].name + " forward");
    NativeResults<T> r{{}, content(h_n), content(c_n)};
    for (int64_t t = 0; t < s.T; ++t)
        for (int64_t b = 0; b < s.B; ++b) {
            const T* row = y.data() + (first ? b * s.T + t : t * s.B + b) * N;
            r.y.insert(r.y.end(), row, row + N);
        }
    return r;
}

template <class T>
void native_layers(bool quick) {
    uint64_t seed = 7;
    for (int cell : {int(fastrnn::kRnnTanh), int(fastrnn::kLstm), int(fastrnn::kGruAfter), int(fastrnn::kGruBefore)})
        for (int D : {1, 2})
            for (size_t layers : {size_t(1), size_t(3)}) {
                Options o;
                o.layout = int(++seed % 4);
                const ptrdiff_t B = layers == 1 ? 5 : 2, T_ = layers == 1 ? 6 : 90, H = 17;
                const ptrdiff_t P = cell == fastrnn::kLstm && layers == 1 ? 9 : H;
                const Shape q{cell, T_, B, 4, H, P, D, lengths_of("ragged", T_, B, seed)};
                const NativeStack<T> stack(q, o, int64_t(layers), seed % 2);
                const std::string what = std::string(fastrnn::kernels()->name) + " native " + stack.problems[0].name;
                std::vector<double> x = stack.problems[0].in.x;
                fastrnn::pool_set_threads(3);  // a stack of one direction runs its layers side by side
                const NativeResults<T> all = native_forward(stack, x, o.layout, 0, layers);
                fastrnn::pool_set_threads(1);
                NativeResults<T> one;
                for (size_t k = 0; k < layers; ++k) {  // a call for each layer
                    const NativeResults<T> r = native_forward(stack, x, 0, k, k + 1);
                    x.assign(r.y.begin(), r.y.end());
                    one.h_n.insert(one.h_n.end(), r.h_n.begin(), r.h_n.end());
                    one.c_n.insert(one.c_n.end(), r.c_n.begin(), r.c_n.end());
                    one.y = r.y;
                }
                expect_same(all.y, one.y, what + " y of all layers at once");
                expect_same(all.h_n, one.h_n, what + " h_n of all layers at once");
                expect_same(all.c_n, one.c_n, what + " c_n of all layers at once");
                if (layers > 1 || quick) continue;
                const Results<T> right = run<T>(stack.problems[0], 1, false);  // the table's own call
                std::vector<T> h_n, c_n;
                for (int d = 0; d < D; ++d) {
                    h_n.insert(h_n.end(), right.h_n[d].begin(), right.h_n[d].end());
                    c_n.insert(c_n.end(), right.c_n[d].begin(), right.c_n[d].end());
                }
                expect_same(all.y, right.y, what + " y");
                expect_same(all.h_n, h_n, what + " h_n");
                expect_same(all.c_n, c_n, what + " c_n");
            }
}

template <class T>
void native_layer_errors() {
    const Shape q{fastrnn::kLstm, 5, 3, 4, 7, 7, 1, {5, 5, 5}};
    const NativeStack<T> stack(q, Options(), 1, false);
    const fastrnn::NativeLayer& l = stack.layer;
    const Buffer<T> x(5 * 3 * 4 + 1, sizeof(void*)), y(5 * 3 * 7), h(3 * 7), c(3 * 7);
    Buffer<int64_t> lengths(3);
    for (size_t i = 0; i < x.size(); ++i) x[i] = T(1);
    lengths[0] = lengths[1] = lengths[2] = 5;
    auto call = [&](fastrnn::NativeArray nx, fastrnn::NativeArray ny, fastrnn::NativeArray nh, fastrnn::NativeArray nl) {
        const fastrnn::NativeArray nc = native_array(c, {1, 3, 7});
        return l.forward(&l, &nx, nullptr, nullptr, &nl, &ny, &nh, &nc);
    };
    const fastrnn::NativeArray nx = native_array(x, {5, 3, 4}), ny = native_array(y, {5, 3, 7}),
                               nh = native_array(h, {1, 3, 7}), nl = native_array(lengths, {3});
    fastrnn::NativeArray odd = nx;
    odd.data += 1;
    expect_error(call(native_array(x, {5, 4, 3}), ny, nh, nl), fastrnn::kNativeX, "x of another size");
    expect_error(call(native_array(x, {60}), ny, nh, nl), fastrnn::kNativeX, "x of one axis");
    expect_error(call(native_array(x.data(), {5, 3, 4}, {12, 1, 3}), ny, nh, nl), fastrnn::kNativeStrides, "x transposed");
    expect_error(call(odd, ny, nh, nl), fastrnn::kNativeStrides, "x unaligned");
    expect_error(call(nx, native_array(y, {5, 7, 3}), nh, nl), fastrnn::kNativeOut, "y of another shape");
    expect_error(call(nx, ny, native_array(h, {3, 1, 7}), nl), fastrnn::kNativeState, "h of another shape");
    expect_error(call(nx, ny, nh, native_array(lengths, {1, 3})), fastrnn::kNativeLengths, "lengths of two axes");
    for (int64_t bad : {int64_t(-1), int64_t(6)}) {
        lengths[1] = bad;
        expect_error(call(nx, ny, nh, nl), fastrnn::kNativeLengths, "lengths out of range");
    }
    for (size_t i = 0; i < y.size(); ++i) report.expect(y[i] != y[i], "an error wrote nothing");
    lengths[1] = 0;
    expect_error(call(nx, ny, nh, nl), fastrnn::kNativeOk, "after errors");
}

// ---- streams

template <class T>
struct NativeCell {  // a stream of one LSTM
    StreamMemory m;
    Matrix<T> W, R;
    int64_t sizes[3];
    fastrnn::NativeStream stream{};

    NativeCell(const Problem& p, bool batch_first) {
        const Shape& s = p.q;
        fastrnn::StreamLayer& l = m.layer;
        W = Matrix<T>(p.in.dir[0].W, s.gates() * s.H, s.I, p.o.layout);
        R = Matrix<T>(p.in.dir[0].R, s.gates() * s.H, s.P, p.o.layout);
        l.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
        l.kind = fastrnn::kStreamCell, l.function = s.cell, l.B = s.B, l.I = s.I, l.H = s.H, l.P = s.P;
        l.W = W.origin, l.W_rs = W.rs, l.W_cs = W.cs, l.R = R.origin, l.R_rs = R.rs, l.R_cs = R.cs;
        m.prepare();
        sizes[0] = 1, sizes[1] = s.P, sizes[2] = s.H;
        native_stream(&stream);
        stream.batch_size = s.B, stream.input_size = s.I, stream.output_size = s.P;
        stream.members = 1, stream.sizes = sizes, stream.batch_first = batch_first, stream.item = sizeof(T);
        stream.layers = &l, stream.n = 1, stream.table = fastrnn::kernels()->stream;
    }
    int64_t states(const Buffer<T>& h, const Buffer<T>& c, const fastrnn::NativeArray* rows, int64_t N, int64_t inwards) {
        const fastrnn::NativeArray nh = native_array(h, {1, N, sizes[1]}), nc = native_array(c, {1, N, sizes[2]});
        const fastrnn::NativeArray* state[] = {&nh, &nc};
        return stream.states(&stream, state, rows, inwards);
    }
};

template <class T>
void native_streams() {
    for (bool batch_first : {false, true})
        for (ptrdiff_t B : {1, 3}) {
            Options o;
            o.bias = false, o.layout = batch_first ? 1 : 2;
            const Shape q{fastrnn::kLstm, 7, B, 5, 19, 19, 1, lengths_of("full", 7, B, 3)};
            const Problem p = make_problem(q, o, 77);
            NativeCell<T> cell(p, batch_first);
            fastrnn::NativeStream& s = cell.stream;
            const std::string what = std::string(fastrnn::kernels()->name) + " native stream B=" + std::to_string(B);
            const Buffer<T> h = filled<T>(p.in.dir[0].h_0), c = filled<T>(p.in.dir[0].c_0);
            Rows<T> x(q.T, B, q.I, o.layout), y(q.T, B, q.P, o.layout);
            x.fill(p.in.x, q.lengths);
            expect_error(cell.states(h, c, nullptr, B, 1), fastrnn::kNativeOk, what + " states");
            for (ptrdiff_t t = 0; t < 2; ++t) {  // some steps one by one, the rest as a block
                const fastrnn::NativeArray nx = native_array(x.origin + t * x.t, {B, q.I}, {x.b, 1});
                const fastrnn::NativeArray ny = native_array(y.origin + t * y.t, {B, q.P}, {y.b, 1});
                expect_error(s.step(&s, &nx, &ny), fastrnn::kNativeOk, what + " step");
            }
            auto block = [&](T* from, int64_t t, int64_t b, int64_t n) {
                return batch_first ? native_array(from, {B, 5, n}, {b, t, 1}) : native_array(from, {5, B, n}, {t, b, 1});
            };
            const fastrnn::NativeArray bx = block(x.origin + 2 * x.t, x.t, x.b, q.I);
            const fastrnn::NativeArray by = block(y.origin + 2 * y.t, y.t, y.b, q.P);
            expect_error(s.run(&s, &bx, &by), fastrnn::kNativeOk, what + " run");
            const Results<T> right = run<T>(p, 1, false);
            expect_same(y.values(), right.y, what + " y");
            report.expect(y.gaps_untouched(), what + ": y written between its rows");
            const Buffer<T> h_n(size_t(B * q.P)), c_n(size_t(B * q.H));
            expect_error(cell.states(h_n, c_n, nullptr, B, 0), fastrnn::kNativeOk, what + " states");
            expect_same(content(h_n), right.h_n[0], what + " h_n");
            expect_same(content(c_n), right.c_n[0], what + " c_n");

            // what is refused, and changes nothing
            const fastrnn::NativeArray wrong = native_array(x.origin, {B, q.I - 1}, {x.b, 1});
            const fastrnn::NativeArray nx = native_array(x.origin, {B, q.I}, {x.b, 1});
            const fastrnn::NativeArray ny = native_array(y.origin, {B, q.P}, {y.b, 1});
            const fastrnn::NativeArray narrow = native_array(y.origin, {B, q.P - 1}, {y.b, 1});
            fastrnn::NativeArray over = by;
            over.data = bx.data + sizeof(T);
            expect_error(s.step(&s, &wrong, &ny), fastrnn::kNativeX, what + " x of another size");
            expect_error(s.step(&s, &nx, &narrow), fastrnn::kNativeOut, what + " y of another size");
            expect_error(s.run(&s, &bx, &over), fastrnn::kNativeOverlap, what + " y over x");
            Buffer<int64_t> rows(2, sizeof(int64_t));
            const fastrnn::NativeArray nr = native_array(rows, {2});
            rows[0] = 0, rows[1] = B;
            expect_error(cell.states(h, c, &nr, 2, 1), fastrnn::kNativeIndex, what + " no such row");
            rows[1] = 0;
            expect_error(cell.states(h, c, &nr, 2, 1), fastrnn::kNativeTwice, what + " a row twice");
            report.expect(fastrnn::native_enter(&s), what + ": nobody is inside");
            expect_error(s.step(&s, &nx, &ny), fastrnn::kNativeBusy, what + " busy");
            fastrnn::native_leave(&s);
            const Buffer<T> after_h(size_t(B * q.P)), after_c(size_t(B * q.H));
            cell.states(after_h, after_c, nullptr, B, 0);
            expect_same(content(after_h), content(h_n), what + " h after errors");
            expect_same(content(after_c), content(c_n), what + " c after errors");
        }
}

// Two of T·B rows that share an element, found by marking all of them.
inline void native_overlaps() {
    Random random{5};
    for (int trial = 0; trial < 3000; ++trial) {
        const int T = 1 + random.below(5), B = 1 + random.below(5), n = 1 + random.below(4);
        const int t = random.below(25) - 12, b = random.below(25) - 12;
        std::vector<int> marks(size_t(200), 0);
        bool shared = false;
        for (int i = 0; i < T; ++i)
            for (int k = 0; k < B; ++k)
                for (int e = 0; e < n; ++e) shared = marks[size_t(98 + i * t + k * b + e)]++ > 0 || shared;
        report.expect(fastrnn::rows_overlap(T, t, B, b, n) == shared,
                      "rows_overlap T=" + std::to_string(T) + " t=" + std::to_string(t) + " B=" + std::to_string(B) +
                          " b=" + std::to_string(b) + " n=" + std::to_string(n));
    }
}

inline void native_group(const std::vector<std::string>& isas, bool quick) {
    const int before = fastrnn::pool_threads();
    for (const std::string& isa : isas) {
        fastrnn::select(isa.c_str());
        native_layers<float>(quick);
        native_streams<float>();
        native_layer_errors<float>();
        if (quick) break;
        native_layers<double>(quick);
        native_streams<double>();
        native_layer_errors<double>();
    }
    native_overlaps();
    fastrnn::pool_set_threads(before);
}
