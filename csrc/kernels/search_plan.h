// search_plan.h: the memory of a search (search.h), and one thread's rows in it.
//
// States and fed outputs have two slots for each row, of this step and of the one before. A row reads the slots
// of the row that it goes on from, so beams change places without a copy.
#pragma once
#include "../search.h"
#include "decoder_forward.h"
#include "search_best.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr ptrdiff_t kDrawRows = 32;  // rows of whole logits at a time, in samples

struct Text {  // a finished one, or one of T tokens
    double score;
    int step, row;  // the row that offered `token` in `step`
    int64_t token;  // eos, too
    int length;     // without eos
};

template <class T>
struct SearchThread {
    int* rows;                 // [rows] those that run in a step
    int *heir, *first, *like;  // [rows] by parent: the first that goes on from it; those; by running row: the one it is like
    const T** shared[2];       // [rows] what those first rows read of the step before
    T* logits;
    const T** y;
    T** z;
    RowScores<T>* scores;
    T* copy;  // [V]
    int32_t *heap, *order;
    double* weight;
};

template <class T>
struct SearchPlan {
    const Search* s;
    Decoder d;  // of all rows: B·width
    DecoderPlan<T> p;
    ptrdiff_t rows;
    TimeRows<T> feed, x;  // slot, row
    T *O, *b_o;
    int32_t *token, *parent;  // [T + 1, rows]: what a row of step t + 1 reads, and the row it goes on from
    double* log_p;            // [2, rows]
    T *coverage, *w;          // [2, rows, S] or null; [T or 1, rows, S]
    ptrdiff_t w_t;
    int *live, *texts;  // [sentences] rows that run; texts that were finished
    Text* text;         // [sentences, n_best] the best of them
    SearchThread<T>* threads;

    ptrdiff_t sentence(ptrdiff_t row) const { return row / s->width; }
    bool greedy() const { return s->mode == kSample && s->temperature == 0; }
    int best() const { return s->mode == kBeam ? s->width + 1 : 2; }
    T* h(int l, int slot, ptrdiff_t row) const { return p.h[l].at(slot, row); }
    T* c(int l, int slot, ptrdiff_t row) const { return p.plan[l].dir[0].cell + (slot * rows + row) * p.plan[l].cell_stride; }
    T* weights(ptrdiff_t t, ptrdiff_t row) const { return w + t * w_t + row * s->d.S; }
    T* covered(int slot, ptrdiff_t row) const { return coverage + (slot * rows + row) * s->d.S; }
    Packed<T> output() const { return {O, s->d.A, s->V, kMaxNV, false}; }
};

template <class T>
size_t lay_out_search(SearchPlan<T>& p, const Search& s, void* base) {
    p = SearchPlan<T>{};
    p.s = &s;
    Decoder& d = p.d;
    d = s.d;
    p.rows = d.B = s.d.B * s.width;
    d.T = 2;  // two slots of each state
    d.steps = s.d.T * d.B;
    d.save = 0, d.lengths = nullptr, d.saved = nullptr, d.weights = nullptr;
    d.threads = s.d.threads < s.d.B ? s.d.threads : int(s.d.B);
    d.workspace = base;
    const ptrdiff_t T_ = s.d.T, V = whole_panels<T>(s.V);
    Arena m{static_cast<char*>(base), 0};
    m.used = (lay_out_decoder(p.p, d, false, base, nullptr, s.d.B) + 63) / 64 * 64;
    for (int l = 0; base && l < d.layers; ++l) p.p.plan[l].fused = false;  // search_layer says what a product adds up
    const int n = p.p.most_threads;
    p.feed = {m.take<T>(2 * p.rows * row_stride<T>(d.A)), p.rows * row_stride<T>(d.A), row_stride<T>(d.A)};
    if (s.Z) p.x = {m.take<T>(p.rows * row_stride<T>(d.E)), 0, row_stride<T>(d.E)};
    p.O = m.take<T>(d.A * V);
    p.b_o = m.take<T>(V);
    p.token = m.take<int32_t>((T_ + 1) * p.rows);
    p.parent = m.take<int32_t>((T_ + 1) * p.rows);
    p.log_p = m.take<double>(2 * p.rows);
    if (d.C) {
        p.w_t = s.weights ? p.rows * d.S : 0;
        p.w = m.take<T>((s.weights ? T_ : 1) * p.rows * d.S);
        if (s.coverage_penalty != 0) p.coverage = m.take<T>(2 * p.rows * d.S);
    }
    p.live = m.take<int>(s.d.B);
    p.texts = m.take<int>(s.d.B);
    p.text = m.take<Text>(s.d.B * s.n_best);
    p.threads = m.take<SearchThread<T>>(n);
    const bool whole = s.mode == kSample && s.temperature != 0;
    const int best = p.best();
    for (int i = 0; i < n; ++i) {
        SearchThread<T> t{};
        t.rows = m.take<int>(p.rows);
        int** by_row[] = {&t.heir, &t.first, &t.like};
        for (int** f : by_row) *f = s.mode == kBeam ? m.take<int>(p.rows) : nullptr;
        for (const T**& f : t.shared) f = s.mode == kBeam ? m.take<const T*>(p.rows) : nullptr;
        t.logits = m.take<T>(whole ? kDrawRows * V : p.rows * kLogits);
        t.y = m.take<const T*>(p.rows);
        t.z = m.take<T*>(p.rows);
        t.scores = m.take<RowScores<T>>(p.rows);
        T* value = m.take<T>(p.rows * best);
        int32_t* index = m.take<int32_t>(p.rows * best);
        if (whole) {
            t.copy = m.take<T>(V);
            t.heap = m.take<int32_t>(s.V);
            t.order = m.take<int32_t>(s.V);
            t.weight = m.take<double>(s.V);
        }
        if (!base) continue;
        for (ptrdiff_t r = 0; r < p.rows; ++r) t.scores[r].best = {value + r * best, index + r * best, best, 0};
        p.threads[i] = t;
    }
    return m.used;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
