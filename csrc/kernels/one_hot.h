// one_hot.h: input whose rows are one-hot, given by their codes: no product, for x·Wᵀ is a column of W, and dW = dGᵀ·x adds
// each row of dG to a column.
//
// The sums are those of the products, since 0·w adds nothing: bias + W[:, code], and dW's terms in the order of the rows. So
// are the bits, as long as the weights are finite.
//
// Where there are many rows for the number of classes (Plan::tabulated), W is turned over once, with the bias: a step then
// copies rows of that table; and dW is summed in a table like it, written back at the end. Else elements of W and dW are
// taken where they lie, a few of their rows at a time, so that those stay in L2.
#pragma once
#include "pack.h"
#include "step.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// f(gate, first unit, lanes) for every vector of units u0 … u1-1
template <class T, class F>
FR_INLINE void each_gate_vector(const Step<T>& st, ptrdiff_t u0, ptrdiff_t u1, F&& f) {
    for (int g = 0; g < st.p.cell.G; ++g) each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) { f(g, u, lanes); });
}

// the units in panels own.first … own.last-1 of W; the first of them begins a vector
template <class T>
Range units(const Step<T>& st, Range own) {
    const ptrdiff_t width = st.W.width(), end = own.last * width;
    return {int(own.first * width), int(end < st.q.H ? end : st.q.H)};
}

// Columns of W plus the bias as rows of a table in the place of the packed W, gate v at v·Hp; zero past H.
template <class T>
void tabulate(const Step<T>& st, Range panels) {
    constexpr ptrdiff_t kBlock = 64;  // rows of the table that stay in L1 from turning over to adding
    const ptrdiff_t stride = st.p.table_stride(), I = st.q.I;
    const Range own = units(st, panels);
    each_gate_vector(st, own.first, own.last, [&](int g, ptrdiff_t u, int lanes) {
        const T* W = static_cast<const T*>(st.d.W) + (g * st.q.H + u) * st.d.W_rs;
        const auto bias = load(st.bias_x(g, u));
        for (ptrdiff_t k = 0; k < I; k += kBlock) {
            const ptrdiff_t K = I - k < kBlock ? I - k : kBlock;
            T* row = st.W.data + k * stride + g * st.p.Hp + u;
            pack_vector(row, stride, W + k * st.d.W_cs, K, st.d.W_cs, st.d.W_rs, lanes);
            for (ptrdiff_t i = 0; i < K; ++i) store(row + i * stride, load(row + i * stride) + bias);
        }
    });
}

// step s: x·W + bias for this group's rows and this slice's units, from the table
template <class T>
void look_up(const Step<T>& st) {
    const Range own = units(st, st.panels(st.W));
    for (int r = 0; r < st.m; ++r) {
        const T* row = st.W.data + st.code(st.s, st.row(r)) * st.p.table_stride();
        T* gates = st.ts.gates[r];
        for (int g = 0; g < st.p.cell.G; ++g)
            for (ptrdiff_t u = own.first; u < own.last; u += VL<T>)
                store(gates + st.p.cell.section_x[g] * st.p.Hp + u, load(row + g * st.p.Hp + u));
    }
}

// z[r][to + l] = bias[l] + w[r][from + l·rs], zero past `lanes`; the same for every cell
template <class T>
FR_NOINLINE void look_up_vector(T* const* z, ptrdiff_t to, const T* const* w, ptrdiff_t from, ptrdiff_t rs, const T* bias,
                                int n, int lanes) {
    for (int r = 0; r < n; ++r) {
        const T* in = w[r] + from;
        T* out = z[r] + to;
        if (lanes == VL<T>) {
            FR_UNROLL
            for (int l = 0; l < VL<T>; ++l) out[l] = bias[l] + in[l * rs];
        } else {
            for (int l = 0; l < VL<T>; ++l) out[l] = l < lanes ? bias[l] + in[l * rs] : T(0);
        }
    }
}

// a chunk's x·W + bias for this group's rows and this slice's units, from W as it is
template <class T>
void look_up_in_place(Step<T>& st, int s1) {
    int n = 0;
    for (int s = st.s0; s < s1; ++s) {
        const int m = st.mine(st.p.active[s]);
        for (int r = 0; r < m; ++r, ++n) {
            st.ts.a[n] = static_cast<const T*>(st.d.W) + st.code(s, st.row(r)) * st.d.W_cs;
            st.ts.c[n] = st.gates(s, st.row(r));
        }
    }
    const Range own = units(st, st.panels(st.W));
    const ptrdiff_t rs = st.d.W_rs;
    each_gate_vector(st, own.first, own.last, [&](int g, ptrdiff_t u, int lanes) {
        look_up_vector<T>(st.ts.c, st.p.cell.section_x[g] * st.p.Hp + u, st.ts.a, (g * st.q.H + u) * rs, rs, st.bias_x(g, u), n,
                          lanes);
    });
}

// ---- backward: dW. A thread has its units, in every chunk.

template <class T>
Range gradient_units(const Step<T>& st) {
    const Range own = share(int(st.p.Hp / VL<T>), st.team.id, st.team.n);
    const int end = own.last * VL<T>;
    return {own.first * VL<T>, end < st.q.H ? end : int(st.q.H)};
}

// dW into its table: sums go on from what it holds
template <class T>
void begin_input_weights(const Step<T>& st) {
    if (!st.q.codes || !st.p.tabulated || !st.d.dW) return;
    const Range own = gradient_units(st);
    each_gate_vector(st, own.first, own.last, [&](int g, ptrdiff_t u, int lanes) {
        const T* dW = static_cast<const T*>(st.d.dW) + (g * st.q.H + u) * st.q.I;
        pack_vector(st.ds.W + g * st.p.Hp + u, st.p.table_stride(), dW, st.q.I, 1, st.q.I, lanes);
    });
}

// and back, after the last chunk
template <class T>
void end_input_weights(const Step<T>& st) {
    if (!st.q.codes || !st.p.tabulated || !st.d.dW) return;
    const Range own = gradient_units(st);
    const ptrdiff_t stride = st.p.table_stride(), I = st.q.I, whole = I / VL<T> * VL<T>;
    each_gate_vector(st, own.first, own.last, [&](int g, ptrdiff_t u, int lanes) {
        T* dW = static_cast<T*>(st.d.dW) + (g * st.q.H + u) * I;
        const T* table = st.ds.W + g * st.p.Hp + u;
        for (ptrdiff_t k = 0; k < whole; k += VL<T>) pack_transposed(dW + k, I, table + k * stride, lanes, stride, VL<T>);
        for (ptrdiff_t k = whole; k < I; ++k)
            for (int l = 0; l < lanes; ++l) dW[l * I + k] = table[k * stride + l];
    });
}

// dW[r][to + l·I] += dz[r][from + l]
template <class T>
FR_NOINLINE void add_column_vector(T* const* dW, ptrdiff_t to, ptrdiff_t I, const T* const* dz, ptrdiff_t from, int n,
                                   int lanes) {
    for (int r = 0; r < n; ++r) {
        const T* in = dz[r] + from;
        T* out = dW[r] + to;
        if (lanes == VL<T>) {
            FR_UNROLL
            for (int l = 0; l < VL<T>; ++l) out[l * I] += in[l];
        } else {
            for (int l = 0; l < lanes; ++l) out[l * I] += in[l];
        }
    }
}

// dW[:, code] += dG for the rows of a chunk, in order
template <class T>
void add_input_weights(const Step<T>& st, int s1) {
    if (!st.d.dW) return;
    const Range own = gradient_units(st);
    const ptrdiff_t I = st.q.I, Hp = st.p.Hp;
    int n = 0;
    for (int s = st.s0; s < s1; ++s)
        for (int i = 0; i < st.p.active[s]; ++i, ++n) {
            const ptrdiff_t code = st.code(s, i);
            st.ts.a[n] = st.gates(s, i);
            st.ts.c[n] = st.p.tabulated ? st.ds.W + code * st.p.table_stride() : static_cast<T*>(st.d.dW) + code;
        }
    if (st.p.tabulated) {
        for (int r = 0; r < n; ++r)
            for (int g = 0; g < st.p.cell.G; ++g)
                for (ptrdiff_t u = own.first; u < own.last; u += VL<T>) {
                    T* sum = st.ts.c[r] + g * Hp + u;
                    store(sum, load(sum) + load(st.ts.a[r] + st.p.cell.section_x[g] * Hp + u));
                }
        return;
    }
    each_gate_vector(st, own.first, own.last, [&](int g, ptrdiff_t u, int lanes) {
        add_column_vector<T>(st.ts.c, (g * st.q.H + u) * I, I, st.ts.a, st.p.cell.section_x[g] * Hp + u, n, lanes);
    });
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
