// decoder_cell.h: one cell's part in a decoder, as functions of a Step: the schedule of sequence.h, a step at a time.
#pragma once
#include "cell_gru.h"
#include "cell_lstm.h"
#include "cell_rnn.h"
#include "decoder_plan.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// A piece of a weight's gradient: the columns of it that one input of the layer makes.
template <class T>
struct GradientPart {
    T* C;  // null: not wanted
    ptrdiff_t N, ldc;
};

template <class T>
struct CellCalls {
    int G;
    bool has_c;
    void (*pack_forward)(Step<T>&);
    void (*pack_panels)(const Packed<T>&, const void*, ptrdiff_t, ptrdiff_t, int, int);
    Columns<T> (*columns)(const Step<T>&);
    void (*input)(Step<T>&, int);
    void (*start)(const Step<T>&);
    void (*forward)(Step<T>&);
    void (*cell)(Step<T>&);  // forward without the pointers, which the caller has set
    void (*finish)(const Step<T>&);
    void (*pack_backward)(Step<T>&, bool);
    Segments (*input_gates)(const Plan<T>&);
    void (*enter)(const Step<T>&, int, int);
    void (*backward)(Step<T>&);
    void (*initial)(Step<T>&);
    void (*input_gradient)(const Plan<T>&, const Step<T>*, int, int);
    void (*gradients)(const Step<T>&, const T* const*, int, const GradientPart<T>&, const GradientPart<T>&);
};

// dW, dR and the biases' gradients of n rows: dG in ts.a, x in ts.b, h₋₁ in ts.b2, y₋₁ in `feed`
template <class T, class Cell>
void layer_gradients(const Step<T>& st, const T* const* feed, int n, const GradientPart<T>& x, const GradientPart<T>& fed) {
    const Plan<T>& p = st.p;
    const ptrdiff_t H = st.q.H;
    const Direction& d = st.d;
    const bool merge = Cell::G != 3 && p.Hp == H, before = Cell::G == 3 && Cell::kSecond;
    const int sections = Cell::G == 3 ? 4 : merge ? 1 : Cell::G;
    const Range own = share(int(merge ? Cell::G * H : H), st.team.id, st.team.n);
    OuterProduct<T> op{st.ts.a, n, own.first, own.last, sections, {}, 0, {}};
    for (int s = 0; s < sections; ++s) op.column[s] = s * p.Hp;
    ptrdiff_t x_rows[kMaxSections] = {-1, -1, -1, -1}, h_rows[kMaxSections] = {-1, -1, -1, -1};
    for (int g = 0; g < Cell::G; ++g) x_rows[Cell::kSectionX[g]] = h_rows[Cell::kSectionR[g]] = g * H;
    auto add_part = [&](const T* const* b, const GradientPart<T>& to, const ptrdiff_t* first) {
        if (!to.C) return;
        OuterPart<T>& part = op.part[op.parts++];
        part = {b, to.N, to.C, to.ldc, {}};
        for (int s = 0; s < kMaxSections; ++s) part.first[s] = first[s];
    };
    const GradientPart<T> dR{static_cast<T*>(d.dR), H, H};
    add_part(st.ts.b, x, x_rows);
    if (before) {  // n comes from r ⊙ h₋₁: four parts, in two products
        const ptrdiff_t third[kMaxSections] = {-1, -1, -1, 2 * H};
        const ptrdiff_t first_two[kMaxSections] = {h_rows[0], h_rows[1], -1, -1};
        add_part(st.ts.b2, dR, first_two);
        outer_product(op, st.ts.outer);
        op.parts = 0;
        add_part(st.ts.b3, dR, third);
    } else {
        add_part(st.ts.b2, dR, h_rows);
    }
    add_part(feed, fed, x_rows);
    outer_product(op, st.ts.outer);
    for (int s = 0; s < sections; ++s) {
        const ptrdiff_t j0 = own.first, j1 = own.last;
        if (d.db_w && x_rows[s] >= 0) column_sums(st.ts.a, n, s * p.Hp, j0, j1, static_cast<T*>(d.db_w) + x_rows[s]);
        if (d.db_r && h_rows[s] >= 0) column_sums(st.ts.a, n, s * p.Hp, j0, j1, static_cast<T*>(d.db_r) + h_rows[s]);
    }
}

template <class T, class Cell>
CellCalls<T> calls_of() {
    return {Cell::G,
            Cell::kHasC,
            [](Step<T>& st) { pack_forward<T, Cell>(st, st.ds.W, st.ds.R, st.ds.R2, false); },
            pack_gate_panels<T, Cell>,
            input_columns<T, Cell>,
            input_gemm<T, Cell>,
            start_rows<T, Cell>,
            [](Step<T>& st) { step_forward<T, Cell>(st, nullptr); },
            [](Step<T>& st) { Cell::forward(st); },
            finish_rows<T, Cell>,
            pack_backward<T, Cell>,
            [](const Plan<T>& p) { return gate_segments(p, Cell::kSectionX, Cell::G); },
            enter_rows<T, Cell>,
            step_backward<T, Cell>,
            initial_gradient<T, Cell>,
            [](const Plan<T>& p, const Step<T>* st, int id, int n) {
                input_gradient<T, Cell>(p, st, 1, 0, int(p.q->T), id, n, false);
            },
            layer_gradients<T, Cell>};
}

template <class T>
CellCalls<T> cell_calls(int cell) {
    switch (cell) {
        case kGruAfter:
            return calls_of<T, GruAfter>();
        case kGruBefore:
            return calls_of<T, GruBefore>();
        case kLstm:
            return calls_of<T, Lstm<false>>();
        default:
            return calls_of<T, Rnn>();
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
