// stream.cpp: layers of a stream laid out, packed and stepped (stream.h).
#include "../stream.h"

#include "../fastrnn.h"
#include "../ops.h"
#include "stream_cells.h"
#include "stream_given.h"

namespace fastrnn {
namespace FASTRNN_ISA {

extern const Ops ops_table;  // ops.cpp

namespace {

int gates_of(const StreamLayer& l) {
    return l.kind == kStreamCell ? (l.function == kLstm ? 4 : l.function >= kGruAfter ? 3 : 1) : 1;
}

// Accumulators of a vector of units: GRU keeps n's share of x apart, after the reset's product.
int accumulators_of(const StreamLayer& l) { return l.kind == kStreamCell && l.function == kGruAfter ? 4 : gates_of(l); }

bool has_panels(const StreamLayer& l) { return l.kind == kStreamCell || l.kind == kStreamLinear; }

template <class T>
int panels_of(ptrdiff_t N) {
    return int((N + VL<T> - 1) / VL<T>);
}

// ---- steps

template <class T>
const void* moved_on(StreamLayer* l) {
    void* now = l->h_next;
    l->down = !l->down;
    l->h_next = l->h;
    return l->h = now;
}

template <class T, class Cell, bool kOneRow>
const void* cell_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    const Cell cell(*l, x, x_b);
    stream_product<T, Cell, kOneRow>(cell, panels_of<T>(l->H), l->B, l->down);
    return moved_on<T>(l);
}

template <class T, class Cell, class Second, bool kOneRow>
const void* two_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    const Cell cell(*l, x, x_b);
    stream_product<T, Cell, kOneRow>(cell, panels_of<T>(l->H), l->B, l->down);
    const Second second(*l);
    stream_product<T, Second, kOneRow>(second, panels_of<T>(l->P), l->B, l->down);
    return moved_on<T>(l);
}

template <class T, bool kOneRow>
const void* linear_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    using Cell = StreamPlain<T, false>;
    const Cell cell(*l, x, x_b);
    stream_product<T, Cell, kOneRow>(cell, panels_of<T>(l->P), l->B, l->down);
    l->down = !l->down;
    return l->h_next;
}

template <class T>
const void* activation_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    for (ptrdiff_t b = 0; b < l->B; ++b)
        ops_table.activation(l->dtype, l->function, static_cast<const T*>(x) + b * x_b, static_cast<T*>(l->h_next) + b * l->y_b,
                             l->P, l->alpha, 1);
    return l->h_next;
}

template <class T>
const void* softmax_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    for (ptrdiff_t b = 0; b < l->B; ++b)
        ops_table.softmax(l->dtype, static_cast<const T*>(x) + b * x_b, static_cast<T*>(l->h_next) + b * l->y_b, 1, l->P, 1);
    return l->h_next;
}

template <class T>
const void* norm_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    T mean, rstd;
    for (ptrdiff_t b = 0; b < l->B; ++b)
        ops_table.layer_norm_forward(l->dtype, static_cast<const T*>(x) + b * x_b, l->panels, l->bias, l->alpha,
                                     static_cast<T*>(l->h_next) + b * l->y_b, &mean, &rstd, 1, l->P, 1);
    return l->h_next;
}

template <class T>
const void* embedding_step(StreamLayer* l, const void* x, ptrdiff_t x_b) {
    const int64_t* index = static_cast<const int64_t*>(x);
    for (ptrdiff_t b = 0; b < l->B; ++b) {
        const int64_t row = index[b * x_b];  // looked at before; another thread may have changed it since
        if (uint64_t(row) >= uint64_t(l->I)) continue;
        T* y = static_cast<T*>(l->h_next) + b * l->y_b;
        if (l->W) {
            std::memcpy(y, static_cast<const T*>(l->panels) + row * l->P, size_t(l->P) * sizeof(T));
        } else {
            std::memset(y, 0, size_t(l->P) * sizeof(T));
            y[row] = 1;
        }
    }
    return l->h_next;
}

// ---- blocks of time steps of one row

template <class T>
void keep_row(StreamLayer* l, ptrdiff_t t, const void* y) {
    std::memcpy(static_cast<T*>(l->block) + t * l->y_b, y, size_t(l->P) * sizeof(T));
}

template <class T, class Cell>
void cell_run(StreamLayer* l, const void* x, ptrdiff_t x_t, ptrdiff_t steps) {
    const int panels = panels_of<T>(l->H);
    using Ahead = StreamAhead<T, typename Cell::Sums>;
    stream_product<T, Ahead, false>(Ahead(*l, x, x_t), panels, steps, l->down);
    for (ptrdiff_t t = 0; t < steps; ++t) {
        const StreamAfter<T, Cell> after(*l, t);
        stream_product<T, StreamAfter<T, Cell>, true>(after, panels, 1, l->down);
        keep_row<T>(l, t, moved_on<T>(l));
    }
}

template <class T, class Cell, class Second>
void two_run(StreamLayer* l, const void* x, ptrdiff_t x_t, ptrdiff_t steps) {
    const int panels = panels_of<T>(l->H);
    using Ahead = StreamAhead<T, typename Cell::Sums>;
    stream_product<T, Ahead, false>(Ahead(*l, x, x_t), panels, steps, l->down);
    for (ptrdiff_t t = 0; t < steps; ++t) {
        const StreamAfter<T, Cell> after(*l, t);
        stream_product<T, StreamAfter<T, Cell>, true>(after, panels, 1, l->down);
        const Second second(*l);
        stream_product<T, Second, true>(second, panels_of<T>(l->P), 1, l->down);
        keep_row<T>(l, t, moved_on<T>(l));
    }
}

template <class T>
void other_run(StreamLayer* l, const void* x, ptrdiff_t x_t, ptrdiff_t steps) {
    const ptrdiff_t bytes = x_t * ptrdiff_t(l->kind == kStreamEmbedding ? sizeof(int64_t) : sizeof(T));
    for (ptrdiff_t t = 0; t < steps; ++t) keep_row<T>(l, t, l->step(l, static_cast<const char*>(x) + t * bytes, 0));
}

// ---- which of these a layer needs

template <class T, class Cell>
void choose_cell(StreamLayer* l) {
    l->step = l->B == 1 ? cell_step<T, Cell, true> : cell_step<T, Cell, false>;
    l->run = cell_run<T, Cell>;
}
template <class T, class Cell, class Second>
void choose_two(StreamLayer* l) {
    l->step = l->B == 1 ? two_step<T, Cell, Second, true> : two_step<T, Cell, Second, false>;
    l->run = two_run<T, Cell, Second>;
}

template <class T>
void choose(StreamLayer* l) {
    l->run = other_run<T>;
    switch (l->kind) {
        case kStreamLinear:
            l->step = l->B == 1 ? linear_step<T, true> : linear_step<T, false>;
            return;
        case kStreamActivation:
            l->step = activation_step<T>;
            return;
        case kStreamSoftmax:
            l->step = softmax_step<T>;
            return;
        case kStreamNorm:
            l->step = norm_step<T>;
            return;
        case kStreamEmbedding:
            l->step = embedding_step<T>;
            return;
    }
    switch (l->function) {
        case kRnnTanh:
        case kRnnRelu:
        case kRnnSigmoid:
            return choose_cell<T, StreamPlain<T, true>>(l);
        case kLstm:
            if (l->M) return choose_two<T, StreamLstm<T, true>, StreamProjection<T>>(l);
            return choose_cell<T, StreamLstm<T, false>>(l);
        case kGruAfter:
            return choose_cell<T, StreamGruAfter<T>>(l);
        default:
            return choose_two<T, StreamGruBefore<T>, StreamCandidate<T>>(l);
    }
}

// ---- memory

struct Pieces {  // of one block, 64-byte aligned; with a null base they are only measured
    char* base;
    size_t used;
    template <class T>
    void take(void*& piece, ptrdiff_t n) {
        piece = base && n ? base + used : nullptr;
        used += (size_t(n) * sizeof(T) + 63) / 64 * 64;
    }
};

template <class T>
size_t prepare_t(StreamLayer* l, void* memory) {
    const ptrdiff_t Hp = round_up(l->H, VL<T>), Pp = round_up(l->P, VL<T>);
    const bool cell = l->kind == kStreamCell, before = cell && l->function == kGruBefore;
    Pieces m{static_cast<char*>(memory), 0};
    l->y_b = Pp;
    l->c_b = Hp;
    // states first, so that they share pages
    m.take<T>(l->h, cell ? l->B * Pp : 0);
    m.take<T>(l->h_next, l->B * Pp);
    m.take<T>(l->c, cell && l->function == kLstm ? l->B * Hp : 0);
    m.take<T>(l->inner, cell && (l->M || before) ? l->B * Hp : 0);
    m.take<T>(l->inner2, before ? l->B * 2 * Hp : 0);
    const size_t states = m.used;
    m.take<T>(l->ahead, cell && l->B == 1 ? kStreamBlock * accumulators_of(*l) * Hp : 0);
    m.take<T>(l->block, l->B == 1 ? kStreamBlock * Pp : 0);
    l->panel = l->panel2 = 0;
    if (has_panels(*l)) {
        l->panel = l->I * gates_of(*l) * VL<T>;
        if (cell) l->panel += l->P * (before ? 2 : gates_of(*l)) * VL<T>;
        if (before || l->M) l->panel2 = l->H * VL<T>;
        m.take<T>(l->bias, accumulators_of(*l) * Hp);
        m.take<T>(l->panels, Hp / VL<T> * l->panel);
        m.take<T>(l->second, Pp / VL<T> * l->panel2);
    } else {
        m.take<T>(l->bias, l->kind == kStreamNorm ? l->P : 0);
        m.take<T>(l->panels, l->kind == kStreamNorm ? l->P : l->kind == kStreamEmbedding && l->W ? l->I * l->P : 0);
        m.take<T>(l->second, 0);
    }
    choose<T>(l);
    // weights that stay in L1 are read in one pass, 63 against 74 ns for an LSTM of 16 units
    if (Hp / VL<T> * l->panel * ptrdiff_t(sizeof(T)) <= 16 << 10) l->run = other_run<T>;
    if (memory) std::memset(memory, 0, states);
    return m.used;
}

// ---- packing

template <class T>
T at(const void* a, ptrdiff_t row, ptrdiff_t rs, ptrdiff_t column, ptrdiff_t cs) {
    return static_cast<const T*>(a)[row * rs + column * cs];
}

// rows of a panel from the columns of `a`: dst[k][v][lane] = a[gate v, unit][k], zero past the units
template <class T>
void pack_columns(T* dst, const void* a, ptrdiff_t rs, ptrdiff_t cs, ptrdiff_t K, ptrdiff_t units, ptrdiff_t u0, int gates) {
    for (ptrdiff_t k = 0; k < K; ++k)
        for (int v = 0; v < gates; ++v)
            for (int i = 0; i < VL<T>; ++i) *dst++ = u0 + i < units ? at<T>(a, v * units + u0 + i, rs, k, cs) : T(0);
}

template <class T>
void pack_biases(StreamLayer* l) {
    const bool after = l->kind == kStreamCell && l->function == kGruAfter;
    const int n = accumulators_of(*l);
    const T *b_w = static_cast<const T*>(l->b_w), *b_r = static_cast<const T*>(l->b_r);
    T* out = static_cast<T*>(l->bias);
    for (int p = 0; p < panels_of<T>(l->H); ++p)
        for (int v = 0; v < n; ++v)
            for (int i = 0; i < VL<T>; ++i) {
                const ptrdiff_t u = ptrdiff_t(p) * VL<T> + i, row = (after && v == 3 ? 2 : v) * l->H + u;
                const T w = b_w && u < l->H ? b_w[row] : T(0), r = b_r && u < l->H ? b_r[row] : T(0);
                *out++ = after && v == 2 ? r : after && v == 3 ? w : w + r;  // b_r of n sits inside the reset product
            }
}

template <class T>
void pack_t(StreamLayer* l) {
    T* out = static_cast<T*>(l->panels);
    if (l->kind == kStreamNorm || (l->kind == kStreamEmbedding && l->W)) {
        const ptrdiff_t rows = l->kind == kStreamNorm ? 1 : l->I;
        for (ptrdiff_t i = 0; i < rows; ++i)
            for (ptrdiff_t k = 0; k < l->P; ++k) *out++ = at<T>(l->W, i, l->W_rs, k, l->W_cs);
        if (l->bias) std::memcpy(l->bias, l->b_w, size_t(l->P) * sizeof(T));
    }
    if (!has_panels(*l)) return;
    const bool cell = l->kind == kStreamCell, before = cell && l->function == kGruBefore;
    const int gates = gates_of(*l);
    pack_biases<T>(l);
    for (int p = 0; p < panels_of<T>(l->H); ++p) {
        T* panel = out + p * l->panel;
        const ptrdiff_t u0 = ptrdiff_t(p) * VL<T>;
        pack_columns(panel, l->W, l->W_rs, l->W_cs, l->I, l->H, u0, gates);
        if (cell) pack_columns(panel + l->I * gates * VL<T>, l->R, l->R_rs, l->R_cs, l->P, l->H, u0, before ? 2 : gates);
    }
    if (!l->second) return;
    for (int p = 0; p < panels_of<T>(l->P); ++p) {
        T* panel = static_cast<T*>(l->second) + p * l->panel2;
        const ptrdiff_t u0 = ptrdiff_t(p) * VL<T>;
        if (before)  // the candidate's rows of R
            pack_columns(panel, static_cast<const T*>(l->R) + 2 * l->H * l->R_rs, l->R_rs, l->R_cs, l->H, l->H, u0, 1);
        else
            pack_columns(panel, l->M, l->M_rs, l->M_cs, l->H, l->P, u0, 1);
    }
}

bool is_given(const StreamLayer& l) { return l.kind == kStreamCell && l.function == kGiven; }

size_t prepare(StreamLayer* l, void* memory) {
    if (is_given(*l)) return prepare_given(l, memory);
    return l->dtype == kFloat32 ? prepare_t<float>(l, memory) : prepare_t<double>(l, memory);
}
void pack(StreamLayer* l) {
    if (is_given(*l)) return pack_given(l);
    l->dtype == kFloat32 ? pack_t<float>(l) : pack_t<double>(l);
}

// ---- steps of the whole stream

template <class T>
FR_INLINE void copy_rows(const T* from, ptrdiff_t from_b, T* y, ptrdiff_t y_b, ptrdiff_t rows, ptrdiff_t n) {
    for (ptrdiff_t b = 0; b < rows; ++b) {
        ptrdiff_t u = 0;
        for (; u + VL<T> <= n; u += VL<T>) store(y + b * y_b + u, load(from + b * from_b + u));
        if (u < n) store_n(y + b * y_b + u, load(from + b * from_b + u), int(n - u));
    }
}

template <class T>
FR_INLINE void step_t(StreamLayer* layers, int n, const void* x, ptrdiff_t x_b, T* y, ptrdiff_t y_b) {
    for (int i = 0; i < n; ++i) {
        x = layers[i].step(layers + i, x, x_b);
        x_b = layers[i].y_b;
    }
    const StreamLayer& last = layers[n - 1];
    copy_rows(static_cast<const T*>(x), x_b, y, y_b, last.B, last.P);
}

template <class T>
void run_t(StreamLayer* layers, int n, ptrdiff_t steps, const void* x, ptrdiff_t x_t, ptrdiff_t x_b, T* y, ptrdiff_t y_t,
           ptrdiff_t y_b) {
    const StreamLayer& last = layers[n - 1];
    const ptrdiff_t x_bytes = x_t * ptrdiff_t(layers[0].kind == kStreamEmbedding ? sizeof(int64_t) : sizeof(T));
    auto at = [=](ptrdiff_t t) -> const void* { return static_cast<const char*>(x) + t * x_bytes; };
    ptrdiff_t t = 0;
    if (last.B == 1)  // several steps through one layer, then through the next
        while (steps - t > 1) {
            const ptrdiff_t count = steps - t < kStreamBlock ? steps - t : kStreamBlock;
            const void* from = at(t);
            ptrdiff_t from_t = x_t;
            for (int i = 0; i < n; ++i) {
                layers[i].run(layers + i, from, from_t, count);
                from = layers[i].block;
                from_t = layers[i].y_b;
            }
            copy_rows(static_cast<const T*>(from), from_t, y + t * y_t, y_t, count, last.P);
            t += count;
        }
    for (; t < steps; ++t) step_t<T>(layers, n, at(t), x_b, y + t * y_t, y_b);
}

bool outside(const StreamLayer& first, const int64_t* x) { return uint64_t(*x) >= uint64_t(first.I); }

ptrdiff_t run(StreamLayer* layers, int n, ptrdiff_t T, const void* x, ptrdiff_t x_t, ptrdiff_t x_b, void* y, ptrdiff_t y_t,
              ptrdiff_t y_b) {
    const StreamLayer& first = layers[0];
    if (first.kind == kStreamEmbedding)
        for (ptrdiff_t i = 0; i < T * first.B; ++i)
            if (outside(first, static_cast<const int64_t*>(x) + i / first.B * x_t + i % first.B * x_b)) return i;
    if (first.dtype == kFloat32)
        run_t<float>(layers, n, T, x, x_t, x_b, static_cast<float*>(y), y_t, y_b);
    else
        run_t<double>(layers, n, T, x, x_t, x_b, static_cast<double*>(y), y_t, y_b);
    return -1;
}

ptrdiff_t step(StreamLayer* layers, int n, const void* x, ptrdiff_t x_b, void* y, ptrdiff_t y_b) {
    const StreamLayer& first = layers[0];
    if (first.kind == kStreamEmbedding)
        for (ptrdiff_t b = 0; b < first.B; ++b)
            if (outside(first, static_cast<const int64_t*>(x) + b * x_b)) return b;
    if (first.dtype == kFloat32)
        step_t<float>(layers, n, x, x_b, static_cast<float*>(y), y_b);
    else
        step_t<double>(layers, n, x, x_b, static_cast<double*>(y), y_b);
    return -1;
}

}  // namespace

extern const Streams stream_table;
const Streams stream_table = {prepare, pack, step, run};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
