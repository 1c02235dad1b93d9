// variants.cpp: the arithmetic of the built-in cells' variants as functions of cell.h.
#include "../fastrnn.h"
#include "variant_fast.h"
#include "variant_gru.h"
#include "variant_lstm.h"
#include "variant_rnn.h"

namespace fastrnn {
namespace FASTRNN_ISA {

namespace {

bool is(const CellActivationSettings& f, int kind) { return f.kind == kind; }

template <class T, class Gates, bool kNorm, Peepholes kPeepholes>
void lstm_functions(CellSpec& out) {
    out.forward = lstm_variant_forward<T, Gates, kNorm, kPeepholes>;
    out.backward = lstm_variant_backward<T, Gates, kNorm, kPeepholes>;
}
template <class T, bool kClip>
void lstm_functions(const VariantSettings& q, CellSpec& out) {
    q.peephole ? lstm_functions<T, Usual<T, kClip>, false, Peepholes::kYes>(out)
               : lstm_functions<T, Usual<T, kClip>, false, Peepholes::kNo>(out);
}
template <class T>
void lstm_spec(const VariantSettings& q, CellSpec& out) {
    const LstmLayout at = lstm_layout(q);
    out.gates = at.v;
    out.states = 2;
    out.vectors = at.gain + (q.norm_c ? 2 : 0);
    out.sections = at.v + out.vectors;
    for (int g = 0; g < at.v; ++g) out.section_x[g] = out.section_r[g] = g;
    for (int v = 0; v < out.vectors; ++v) out.section_v[v] = at.v + v;
    out.whole_rows = q.norm_c;
    const CellActivationSettings* f = q.activation;
    const bool usual = is(f[0], kActSigmoid) && is(f[1], kActTanh) && is(f[2], kActTanh);
    constexpr Peepholes perhaps = Peepholes::kPerhaps;
    if (q.norm_c)
        usual ? lstm_functions<T, Usual<T, true>, true, perhaps>(out) : lstm_functions<T, Any<T>, true, perhaps>(out);
    else if (usual)
        q.clip > 0 ? lstm_functions<T, true>(q, out) : lstm_functions<T, false>(q, out);
    else
        lstm_functions<T, Any<T>, false, perhaps>(out);
}

template <class T, class Gates>
void gru_functions(bool after, CellSpec& out) {
    if (after) {
        out.forward = gru_after_variant_forward<T, Gates>;
        out.backward = gru_after_variant_backward<T, Gates>;
    } else {
        out.forward = gru_before_variant_reset<T, Gates>;
        out.forward2 = gru_before_variant_forward<T, Gates>;
        out.backward = gru_before_variant_backward<T, Gates>;
        out.backward2 = gru_before_variant_reset_backward<T, Gates>;
        out.section_product = 2;
    }
}
template <class T>
void gru_spec(const VariantSettings& q, bool after, CellSpec& out) {
    out.gates = 3;
    out.states = 1;
    out.sections = 4;
    for (int g = 0; g < 3; ++g) out.section_x[g] = out.section_r[g] = g;
    out.section_x[2] = 3;
    if (!after) out.section_r[2] = 3;
    if (is(q.activation[0], kActSigmoid) && is(q.activation[1], kActTanh))
        q.clip > 0 ? gru_functions<T, Usual<T, true>>(after, out) : gru_functions<T, Usual<T, false>>(after, out);
    else
        gru_functions<T, Any<T>>(after, out);
}

template <class T, class F>
void fast_rnn_functions(CellSpec& out) {
    out.forward = fast_rnn_forward<T, F>;
    out.backward = fast_rnn_backward<T, F>;
}
template <class T, class Gates>
void fast_grnn_functions(CellSpec& out) {
    out.forward = fast_grnn_forward<T, Gates>;
    out.backward = fast_grnn_backward<T, Gates>;
}
template <class T>
void fast_spec(const VariantSettings& q, bool gated, CellSpec& out) {
    out.gates = out.states = 1;
    out.vectors = gated ? 4 : 2;
    out.sections = 1 + out.vectors;
    for (int v = 0; v < out.vectors; ++v) out.section_v[v] = 1 + v;
    const bool clip = q.clip > 0;
    if (!is(q.activation[0], gated ? kActSigmoid : kActTanh) || (gated && !is(q.activation[1], kActTanh)))
        gated ? fast_grnn_functions<T, Any<T>>(out) : fast_rnn_functions<T, AnyGate<T>>(out);
    else if (gated)
        clip ? fast_grnn_functions<T, Usual<T, true>>(out) : fast_grnn_functions<T, Usual<T, false>>(out);
    else
        clip ? fast_rnn_functions<T, TanhGate<T, true>>(out) : fast_rnn_functions<T, TanhGate<T, false>>(out);
}

template <class T>
void spec_of(const VariantSettings& q, int cell, CellSpec& out) {
    if (cell == kLstm) return lstm_spec<T>(q, out);
    if (cell == kGruAfter || cell == kGruBefore) return gru_spec<T>(q, cell == kGruAfter, out);
    if (cell >= kFastRnn) return fast_spec<T>(q, cell == kFastGrnn, out);
    out.gates = out.states = out.sections = 1;
    out.forward = rnn_variant_forward<T>;
    out.backward = rnn_variant_backward<T>;
}

}  // namespace

bool variant_spec(const VariantSettings* q, int dtype, int cell, CellSpec* out) {
    if (cell == kGiven || unsigned(cell) > unsigned(kFastGrnn)) return false;
    const int used = cell == kLstm ? 3 : cell == kGruAfter || cell == kGruBefore || cell == kFastGrnn ? 2 : 1;
    for (int k = 0; k < used; ++k)
        if (unsigned(q->activation[k].kind) >= unsigned(kCellActivations)) return false;
    if (cell != kLstm && (q->peephole || q->coupled || q->norm_c)) return false;
    *out = CellSpec{};
    out->context = q;
    dtype == kFloat32 ? spec_of<float>(*q, cell, *out) : spec_of<double>(*q, cell, *out);
    return true;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
