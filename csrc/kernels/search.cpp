// search.cpp: one step after the other until every sentence is done (search.h).
#include "entry.h"
#include "search_step.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// ---- logits

template <class T>
void score_rows(const SearchRun<T>& u) {
    for (int r = 0; r < u.m; ++r) {
        RowScores<T>& one = u.t.scores[r];
        one.best.count = 0;
        one.largest = T(-__builtin_inf());
        one.total = 0;
    }
    u.O.each(u.t.y, u.m, u.t.logits, u.t.z,
             [&](int r, const T* z, ptrdiff_t n, ptrdiff_t first) { u.t.scores[r].add(z, n, first); });
}

// ---- texts

template <class T>
double text_score(const SearchRun<T>& u, ptrdiff_t row, double log_p, int tokens) {
    if (u.s.mode != kBeam) return log_p;
    double score = log_p;
    if (u.s.length_penalty != 0) score /= __builtin_pow((5.0 + tokens) / 6.0, u.s.length_penalty);
    if (!u.p.coverage) return score;
    const T* covered = u.p.covered(u.slot(), row);
    const ptrdiff_t n = u.p.p.source().length(u.p.sentence(row));
    double sum_ = 0;
    for (ptrdiff_t s = 0; s < n; ++s) {
        const double c = double(covered[s]);
        if (c < 1) sum_ += __builtin_log(c > 1e-30 ? c : 1e-30);
    }
    return score + u.s.coverage_penalty * sum_;
}

template <class T>
void keep_text(const SearchRun<T>& u, ptrdiff_t b, const Text& text) {
    Text* list = u.p.text + b * u.s.n_best;
    const int n = u.p.texts[b]++;
    int at = n < u.s.n_best ? n : u.s.n_best;
    while (at > 0 && list[at - 1].score < text.score) --at;
    for (int i = n < u.s.n_best ? n : u.s.n_best - 1; i > at; --i) list[i] = list[i - 1];
    if (at < u.s.n_best) list[at] = text;
}

template <class T>
void write_text(const SearchRun<T>& u, ptrdiff_t b, int k, bool exists) {
    const SearchPlan<T>& p = u.p;
    const ptrdiff_t limit = u.s.d.T, at = b * u.s.n_best + k, S = u.d.S;
    int64_t* tokens = u.s.tokens + at * limit;
    T* weights = u.s.weights ? static_cast<T*>(u.s.weights) + at * limit * S : nullptr;
    for (ptrdiff_t t = 0; t < limit; ++t) tokens[t] = u.s.eos;
    if (weights) copy_n<T>(weights, nullptr, limit * S);
    u.s.lengths[at] = -1;
    u.s.scores[at] = -__builtin_inf();
    if (!exists) return;
    const Text& text = p.text[at];
    u.s.lengths[at] = text.length;
    u.s.scores[at] = text.score;
    int64_t token = text.token;
    ptrdiff_t row = text.row;
    for (ptrdiff_t t = text.step; t >= 0; --t) {
        tokens[t] = token;
        if (weights) copy_n(weights + t * S, p.weights(t, row), S);
        token = p.token[t * p.rows + row];
        row = p.parent[t * p.rows + row];
    }
}

// ---- choices

// whether no beginning can reach the worst of the texts that would be returned any more
template <class T>
bool is_done(const SearchRun<T>& u, ptrdiff_t b, double best_log_p) {
    const int texts = u.p.texts[b];
    if (u.s.early && texts >= u.s.width) return true;
    if (texts < u.s.n_best) return false;
    const double bound = best_log_p / __builtin_pow((5.0 + double(u.s.d.T)) / 6.0, u.s.length_penalty);
    return u.p.text[b * u.s.n_best + u.s.n_best - 1].score >= bound;
}

// rows r0 … r1-1 are the beams of sentence b
template <class T>
void choose_beams(const SearchRun<T>& u, ptrdiff_t b, int r0, int r1) {
    const SearchPlan<T>& p = u.p;
    const int t = u.step, width = u.s.width, next = u.slot() ^ 1;
    int32_t *token = p.token + (t + 1) * p.rows + b * width, *parent = p.parent + (t + 1) * p.rows + b * width;
    double *before = p.log_p + u.slot() * p.rows, *after = p.log_p + next * p.rows + b * width;
    const bool last = t + 1 == u.s.d.T;
    int taken = 0;
    // `count` becomes how many of a row's candidates are left, `most` how many there were
    for (int r = r0; r < r1; ++r) u.t.scores[r].best.most = u.t.scores[r].best.count;
    while (taken < width) {
        int best = -1;
        double most = 0;
        for (int r = r0; r < r1; ++r) {
            const Best<T>& list = u.t.scores[r].best;
            if (list.count == 0) continue;
            const double log_p = before[u.row(r)] + u.t.scores[r].log_p(list.value[list.most - list.count]);
            if (best < 0 || log_p > most) best = r, most = log_p;
        }
        if (best < 0) break;
        Best<T>& list = u.t.scores[best].best;
        const int32_t v = list.index[list.most - list.count--];
        const ptrdiff_t row = u.row(best);
        if (v == u.s.eos) {
            if (t >= u.s.min_length) keep_text(u, b, {text_score(u, row, most, t + 1), t, int(row), v, t});
            continue;
        }
        if (last) keep_text(u, b, {text_score(u, row, most, t + 1), t, int(row), v, t + 1});
        token[taken] = v, parent[taken] = int32_t(row), after[taken++] = most;
    }
    for (int k = taken; k < width; ++k) parent[k] = -1;
    for (int r = r0; r < r1; ++r) u.t.scores[r].best.most = p.best();
    p.live[b] = last || taken == 0 || is_done(u, b, after[0]) ? 0 : taken;
}

// token v of row r, at log P `log_p`
template <class T>
void take_sample(const SearchRun<T>& u, int r, int32_t v, double log_p) {
    const SearchPlan<T>& p = u.p;
    const int t = u.step;
    const ptrdiff_t row = u.row(r), b = p.sentence(row);
    const double total = p.log_p[row] += log_p;
    const bool ends = v == u.s.eos, stops = ends || t + 1 == u.s.d.T;
    p.token[(t + 1) * p.rows + row] = v;
    p.parent[(t + 1) * p.rows + row] = stops ? -1 : int32_t(row);
    if (!stops) return;
    p.text[row] = {total, t, int(row), v, ends ? t : t + 1};
    --p.live[b];
}

template <class T>
void draw_rows(const SearchRun<T>& u) {
    const ptrdiff_t V = u.s.V, stride = whole_panels<T>(V);
    for (int first = 0; first < u.m; first += kDrawRows) {
        const int m = int(least(kDrawRows, ptrdiff_t(u.m - first)));
        u.O.some(u.t.y + first, m, 0, V, u.t.logits, stride, u.t.z);
        for (int r = 0; r < m; ++r) {
            T *const z = u.t.z[r], *const copy = u.t.copy;
            copy_n(copy, z, V);
            if (u.step < u.s.min_length) copy[u.s.eos] = T(-__builtin_inf());
            const uint64_t row = uint64_t(u.row(first + r));
            const int32_t v = draw(copy, V, u.s.temperature, u.s.top_k, u.s.top_p,
                                   uniform(u.s.seed, row << 32 | uint64_t(u.step)), u.t.heap, u.t.order, u.t.weight);
            RowScores<T> all{{copy, u.t.heap, 1, 0}, T(-__builtin_inf()), 0};
            for (ptrdiff_t at = 0; at < V; at += kLogits) all.add(z + at, least(kLogits, V - at), at);
            take_sample(u, first + r, v, all.log_p(z[v]));
        }
    }
}

template <class T>
void choose(const SearchRun<T>& u) {
    if (u.s.mode == kSample && !u.p.greedy()) return draw_rows(u);
    score_rows(u);
    if (u.p.greedy()) {
        for (int r = 0; r < u.m; ++r) {
            const Best<T>& best = u.t.scores[r].best;
            const int at = best.count > 1 && best.index[0] == u.s.eos && u.step < u.s.min_length;
            if (best.count)
                take_sample(u, r, best.index[at], u.t.scores[r].log_p(best.value[at]));
            else
                take_sample(u, r, int32_t(u.s.eos), __builtin_nan(""));
        }
        return;
    }
    for (int r = 0; r < u.m;) {
        const ptrdiff_t b = u.p.sentence(u.row(r));
        int end = r;
        while (end < u.m && u.p.sentence(u.row(end)) == b) ++end;
        choose_beams(u, b, r, end);
        r = end;
    }
}

// ---- a thread's sentences

template <class T>
void start_sentence(const SearchRun<T>& u, ptrdiff_t b) {
    const SearchPlan<T>& p = u.p;
    const int first = u.s.mode == kBeam ? 1 : u.s.width;
    p.live[b] = first;
    p.texts[b] = u.s.mode == kBeam ? 0 : u.s.width;
    for (int k = 0; k < u.s.width; ++k) {
        const ptrdiff_t row = b * u.s.width + k;
        p.token[row] = int32_t(u.s.bos);
        p.parent[row] = k < first ? int32_t(row) : -1;
        p.log_p[row] = 0;
        for (int l = 0; u.run.cell.has_c() && l < u.d.layers; ++l) {
            const DecoderLayer& w = u.d.layer[l];
            const Plan<T>& plan = p.p.plan[l];
            T* const to = p.c(l, 1, row);
            copy_n<T>(to, nullptr, plan.cell_stride);
            if (plan.cell.spec && w.h_0) copy_n(to, static_cast<const T*>(w.h_0) + b * u.d.H, u.d.H);
            for (int s = 1; w.c_0 && s < plan.states(); ++s)
                copy_n(to + plan.kept_at(s), static_cast<const T*>(w.c_0) + (s - 1) * u.d.c_next + b * u.d.H, u.d.H);
        }
    }
}

template <class T>
void pack_output(const SearchRun<T>& u) {
    pack_logits(u.run, u.O.O, u.p.b_o, u.s.O, u.s.O_rs, u.s.O_cs, u.s.b_o);
    for (ptrdiff_t v = 0; u.run.team.id == 0 && u.s.banned && v < u.s.V; ++v)
        if (u.s.banned[v]) u.p.b_o[v] = T(-__builtin_inf());
}

template <class T>
void search_job(void* ctx, int id, int n) noexcept {
    const SearchPlan<T>& p = *static_cast<const SearchPlan<T>*>(ctx);
    SearchRun<T> u{p, *p.s, p.d, decoder_run(p.p, id, n), p.threads[id], {p.output(), p.b_o}, 0, 0, 0};
    const int groups = u.run.team.groups;
    pack_decoder(u.run);
    pack_output(u);
    if (u.run.team.idle) return barrier_wait(u.run.team.all, n);
    for (ptrdiff_t b = u.run.team.group; b < u.s.d.B; b += groups) {
        if (u.d.C) copy_row(u.run, b);
        start_sentence(u, b);
    }
    barrier_wait(u.run.team.all, n);
    for (u.step = 0; u.step < u.s.d.T; ++u.step) {
        u.m = 0;
        for (ptrdiff_t b = u.run.team.group; b < u.s.d.B; b += groups)
            for (ptrdiff_t row = b * u.s.width; p.live[b] && row < (b + 1) * u.s.width; ++row) {
                if (p.parent[u.step * p.rows + row] >= 0)
                    u.t.rows[u.m++] = int(row);
                else
                    p.parent[(u.step + 1) * p.rows + row] = -1;  // a sample that has ended stays ended
            }
        if (!u.m) break;
        find_parents(u);
        point_to_inputs(u);
        for (int l = 0; l < u.d.layers; ++l) search_layer(u, l);
        search_attention(u);
        choose(u);
    }
    for (ptrdiff_t b = u.run.team.group; b < u.s.d.B; b += groups)
        for (int k = 0; k < u.s.n_best; ++k) write_text(u, b, k, k < p.texts[b]);
}

template <class T>
void run_t(const Search& s) {
    SearchPlan<T> p;
    lay_out_search(p, s, s.workspace);
    start_decoder(p.p);
    pool_run(p.p.most_threads, search_job<T>, &p);
}
template <class T>
size_t bytes_t(const Search& s) {
    SearchPlan<T> p;
    return lay_out_search(p, s, nullptr);
}

}  // namespace

size_t search_bytes(const Search* s) { return s->d.dtype == kFloat32 ? bytes_t<float>(*s) : bytes_t<double>(*s); }
void search_run(const Search* s) {
    if (s->d.B > 0) s->d.dtype == kFloat32 ? run_t<float>(*s) : run_t<double>(*s);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
