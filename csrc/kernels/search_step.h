// search_step.h: the decoder's step in a search (search.h).
//
// A row's gates are summed up as F·y₋₁ + R·h₋₁ + W·x, for the first two depend on the row alone that it goes on from, which
// beams often have in common.
#pragma once
#include "search_plan.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
struct SearchRun {
    const SearchPlan<T>& p;
    const Search& s;
    const Decoder& d;  // of all rows
    DecoderRun<T> run;
    const SearchThread<T>& t;
    Logits<T> O;
    int step, m;  // t, rows that run in it
    int parents;  // rows that those go on from, if few enough that what comes from them is computed once for each; else m

    int slot() const { return step & 1; }
    ptrdiff_t row(int r) const { return t.rows[r]; }
    ptrdiff_t from(int r) const { return p.parent[step * p.rows + t.rows[r]]; }
};

// Which of the rows that run have a parent in common. Not worth a pass of its own over the gates unless a fifth of them have:
// the sums come out alike, so each thread may judge by its own rows.
template <class T>
void find_parents(SearchRun<T>& u) {
    u.parents = u.m;
    if (u.s.mode != kBeam || u.step == 0) return;
    const SearchThread<T>& t = u.t;
    int count = 0;
    for (int r = 0; r < u.m; ++r) t.heir[u.from(r)] = -1;
    for (int r = 0; r < u.m; ++r) {
        int& heir = t.heir[u.from(r)];
        if (heir < 0) heir = r, t.first[count++] = r;
        t.like[r] = heir;
    }
    if (5 * count <= 4 * u.m) u.parents = count;
}

template <class T>
void point_to_inputs(const SearchRun<T>& u) {
    const SearchPlan<T>& p = u.p;
    const ptrdiff_t E = u.d.E - u.s.Z;
    for (int r = 0; r < u.m; ++r) {
        const ptrdiff_t row = u.row(r), token = p.token[u.step * p.rows + row], b = p.sentence(row);
        const T* x = static_cast<const T*>(u.s.embedding) + token * u.s.e_v;
        if (u.s.Z) {
            T* to = p.x.at(0, row);
            copy_n(to, x, E);
            copy_n(to + E, static_cast<const T*>(u.s.extra) + b * u.s.Z, u.s.Z);
            x = to;
        }
        u.run.t.in[r] = x;
        if (!u.d.feeding) continue;
        const T* first = u.d.feed_0 ? static_cast<const T*>(u.d.feed_0) + b * u.d.A : p.p.plan[0].zeros;
        u.run.t.in2[r] = u.step ? p.feed.at(u.slot() ^ 1, u.from(r)) : first;
    }
}

// What a layer's gates get from the step before, the first `count` of `terms`, is computed for the first row that goes on from
// a parent, and copied to the others; then each row adds its x·W, the last of them. A panel at a time: it stays in L2.
template <class T>
void from_parents(const SearchRun<T>& u, Step<T>& st, Factors<T>* terms, int count) {
    const SearchThread<T>& t = u.t;
    const Packed<T>& W = st.W;
    const Columns<T> fresh = input_columns(st);
    Columns<T> onto = fresh;
    onto.from_c = ~0u;
    T **const gates = st.ts.gates, **const out = u.run.t.out;
    Factors<T> shared[2];
    for (int i = 0; i < count; ++i) {
        shared[i] = terms[i];
        shared[i].a = t.shared[i];
        for (int k = 0; k < u.parents; ++k) t.shared[i][k] = terms[i].a[t.first[k]];
    }
    for (int k = 0; k < u.parents; ++k) out[k] = gates[t.first[k]];
    Step<T> part = st;
    part.factors = terms + count, part.factor_count = 1;
    part.team.slices = W.panels();
    for (int p = 0; p < W.panels(); ++p) {
        gemm_panels(shared, count, out, u.parents, p, p + 1, fresh);
        const ptrdiff_t u0 = ptrdiff_t(p) * W.width(), n = least(ptrdiff_t(W.width()), st.p.Hp - u0);
        for (int r = 0; r < u.m; ++r)
            for (int g = 0; t.like[r] != r && g < u.run.cell.G; ++g)
                copy_n(gates[r] + fresh.section[g] + u0, (const T*)gates[t.like[r]] + fresh.section[g] + u0, n);
        part.team.slice = p;
        if (!u.run.cell.fusable)
            gemm_panels(terms + count, 1, gates, u.m, p, p + 1, onto);
        else
            u.run.cell.forward(part);
    }
    if (!u.run.cell.fusable) u.run.cell.forward(st);
}

template <class T>
void search_layer(const SearchRun<T>& u, int l) {
    const SearchPlan<T>& p = u.p;
    const DecoderLayer& w = u.d.layer[l];
    const ThreadSpace<T>& ts = u.run.t.ts;
    Step<T> st = u.run.step(l, 0, 0);
    st.m = u.m;
    const int now = u.slot();
    for (int r = 0; r < u.m; ++r) {
        const ptrdiff_t row = u.row(r), b = p.sentence(row), from = u.from(r);
        const T* h_0 = w.h_0 ? static_cast<const T*>(w.h_0) + b * u.d.H : st.p.zeros;
        ts.gates[r] = st.ds.gates + row * st.p.gates_stride();
        ts.h_prev[r] = u.step ? p.h(l, now ^ 1, from) : h_0;
        ts.h[r] = p.h(l, now, row);
        if (l) ts.x[r] = p.h(l - 1, now, row);
        if (!u.run.cell.has_c()) continue;
        ts.c_prev[r] = p.c(l, now ^ 1, u.step ? from : row);
        ts.cell[r] = p.c(l, now, row);
        if (u.run.cell.spec) ts.h_prev[r] = ts.c_prev[r];  // it begins with h
    }
    Factors<T> terms[3], high[3];
    int count = 0;
    if (l == 0 && u.d.feeding) terms[count++] = {u.run.t.in2, Segments{1, u.d.A, {0}}, &u.run.F};
    if (count) high[0] = {u.run.t.in2, Segments{1, u.d.A, {0}}, &u.run.F_high};
    if (u.run.cell.fusable) terms[count++] = {ts.h_prev, Segments{1, u.d.H, {0}}, &st.R};  // one pass over the gates
    terms[count] = l ? Factors<T>{(const T* const*)ts.x, Segments{1, u.d.H, {0}}, &st.W}
                     : Factors<T>{u.run.t.in, Segments{1, u.d.E, {0}}, &st.W};
    high[count] = terms[count];
    high[count].B = &st.W_high;
    if (count && u.parents < u.m && !st.W_high.data) return from_parents(u, st, terms, count);
    if (!u.run.cell.fusable)
        gate_terms(st, terms, high, count + 1, ts.gates, u.m, false);
    else
        st.factors = terms, st.factor_count = count + 1, st.fresh = true;
    u.run.cell.forward(st);
}

// attention, y into the slot of this step; pointers to it into t.y
template <class T>
void search_attention(const SearchRun<T>& u) {
    const SearchPlan<T>& p = u.p;
    const Decoder& d = u.d;
    const DecoderThread<T>& t = u.run.t;
    const int now = u.slot(), top = d.layers - 1;
    for (int r = 0; r < u.m; ++r) {
        const ptrdiff_t row = u.row(r);
        u.t.y[r] = t.in2[r] = p.h(top, now, row);
        if (!d.C) continue;
        t.in[r] = p.p.context.at(0, row);
        t.out[r] = p.feed.at(now, row);
        if (d.U) t.out2[r] = p.p.query.at(0, row);
    }
    if (!d.C) return;
    const Columns<T> fresh{{}, nullptr, 0u, false}, from_bias{{}, p.p.b_c, 0u, false};
    if (d.U) gemm_panels(t.in2, t.out2, u.m, Segments{1, d.H, {0}}, u.run.U, 0, u.run.U.panels(), fresh);
    const AttentionSource<T> source = p.p.source();
    for (int r = 0; r < u.m; ++r) {
        const ptrdiff_t row = u.row(r);
        T* w = p.weights(u.step, row);
        attend(source, p.sentence(row), d.U ? (const T*)t.out2[r] : t.in2[r], w, p.p.context.at(0, row));
        if (!p.coverage) continue;
        T* to = p.covered(now, row);
        const T* before = u.step ? p.covered(now ^ 1, u.from(r)) : nullptr;
        vectors<T>(0, d.S, [=](auto at) { at.put(to, before ? at.get(before) + at.get(w) : at.get(w)); });
    }
    const Factors<T> both[2] = {{t.in, Segments{1, d.K, {0}}, &u.run.Cc}, {t.in2, Segments{1, d.H, {0}}, &u.run.Ch}};
    gemm_panels(both, 2, t.out, u.m, 0, u.run.Cc.panels(), from_bias);
    for (int r = 0; r < u.m; ++r) {
        tanh_row(t.out[r], d.A);
        u.t.y[r] = t.out[r];
    }
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
