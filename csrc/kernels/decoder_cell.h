// decoder_cell.h: the gradients of a decoder's recurrent layer.
#pragma once
#include "decoder_plan.h"
#include "sequence.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// A piece of a weight's gradient: the columns of it that one input of the layer makes.
template <class T>
struct GradientPart {
    T* C;  // null: not wanted
    ptrdiff_t N, ldc;
};

// dW, dR and the biases' gradients of n rows: dG in ts.a, x in ts.b, h₋₁ in ts.b2, y₋₁ in `feed`
template <class T>
void layer_gradients(const Step<T>& st, const T* const* feed, int n, const GradientPart<T>& x, const GradientPart<T>& fed) {
    const Plan<T>& p = st.p;
    const ptrdiff_t H = st.q.H;
    const Direction& d = st.d;
    const GradientSections<T> parts(p);
    const Range own = share(int(parts.width), st.team.id, st.team.n);
    OuterProduct<T> op{st.ts.a, n, own.first, own.last, parts.count, {}, 0, {}};
    for (int s = 0; s < parts.count; ++s) op.column[s] = parts.column[s];
    auto add_part = [&](const T* const* b, const GradientPart<T>& to, const ptrdiff_t* first) {
        if (!to.C) return;
        OuterPart<T>& part = op.part[op.parts++];
        part = {b, to.N, to.C, to.ldc, {}};
        for (int s = 0; s < kMaxSections; ++s) part.first[s] = first[s];
    };
    const GradientPart<T> dR{static_cast<T*>(d.dR), H, H};
    add_part(st.ts.b, x, parts.x);
    add_part(st.ts.b2, dR, parts.h);
    if (p.cell.candidate) {  // n comes from r ⊙ h₋₁: four parts, in two products
        outer_product(op, st.ts.outer);
        op.parts = 0;
        add_part(st.ts.b3, dR, parts.product);
    }
    add_part(feed, fed, parts.x);
    outer_product(op, st.ts.outer);
    if (p.cell.spec)
        given_gradients(st, n);
    else
        parts.bias_gradients(st, n, own);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
