// search_group.h: beam search, greedy texts and samples in exact buffers, against the rules of search.h as plain loops.
#pragma once
#include <numeric>

#include "decoder_group.h"
#include "search.h"

struct SearchProblem {
    DecoderProblem d;  // T: most tokens of a text; V: tokens; Z: size of `extra`; E: both together
    int mode, width, n_best;
    std::vector<uint8_t> banned;
    int64_t bos, eos;
    ptrdiff_t min_length = 0;
    double length_penalty = 0, coverage_penalty = 0;
    int early = 0;
    double temperature = 1, top_p = 1;
    ptrdiff_t top_k = 0;
    uint64_t seed = 0;
    std::string name() const {
        return "search mode=" + std::to_string(mode) + " width=" + std::to_string(width) + " V=" + std::to_string(d.V) + " " +
               d.name();
    }
};

struct FoundText {
    double score = -HUGE_VAL;
    int64_t length = -1;
    std::vector<int64_t> tokens{};  // eos up to T
    std::vector<double> weights{};  // [T, S]
};

// ---- the rules

struct NaiveText {
    double log_p = 0;
    std::vector<int64_t> tokens{};
    DecoderRow<double> row{};
    std::vector<double> covered{}, weights{};
};

// log p of every token after those of `text`, whose last one hasn't been read yet
inline std::vector<double> next_tokens(const SearchProblem& s, ptrdiff_t b, NaiveText& text) {
    const DecoderProblem& p = s.d;
    std::vector<double> x = row_of(p.in.at("embedding"), text.tokens.empty() ? s.bos : text.tokens.back(), p.E - p.Z);
    if (p.Z) {
        const std::vector<double> extra = row_of(p.in.at("extra"), b, p.Z);
        x.insert(x.end(), extra.begin(), extra.end());
    }
    naive_decoder_step(p, p.in, b, x, text.row);
    text.covered.resize(text.row.w.size());
    for (size_t i = 0; i < text.row.w.size(); ++i) text.covered[i] += text.row.w[i];
    text.weights.insert(text.weights.end(), text.row.w.begin(), text.row.w.end());
    std::vector<double> z = affine(p.in.at("O"), text.row.y.data(), p.V, p.A, p.in.at("b_o").data());
    for (size_t v = 0; v < s.banned.size(); ++v)
        if (s.banned[v]) z[v] = -HUGE_VAL;
    double largest = -HUGE_VAL, total = 0;
    for (double one : z) largest = std::fmax(largest, one);
    for (double one : z) total += std::exp(one - largest);
    for (double& one : z) one -= largest + std::log(total);
    return z;
}

inline FoundText finished(const SearchProblem& s, ptrdiff_t b, const NaiveText& text, double log_p, int64_t last) {
    FoundText f;
    f.tokens = text.tokens;
    if (last != s.eos) f.tokens.push_back(last);
    f.length = int64_t(f.tokens.size());
    f.score = log_p;
    if (s.mode == fastrnn::kBeam) {
        f.score /= std::pow((5.0 + double(text.tokens.size() + 1)) / 6, s.length_penalty);
        for (ptrdiff_t i = 0; s.coverage_penalty != 0 && i < s.d.sources[size_t(b)]; ++i)
            f.score += s.coverage_penalty * std::log(std::fmin(std::fmax(text.covered[size_t(i)], 1e-30), 1));
    }
    f.tokens.resize(size_t(s.d.T), s.eos);
    f.weights = text.weights;
    f.weights.resize(s.d.attention ? size_t(s.d.T * s.d.S) : 0, 0.0);
    return f;
}

inline std::vector<FoundText> naive_beams(const SearchProblem& s, ptrdiff_t b) {
    NaiveText start;
    start.row = first_row(s.d, s.d.in, b);
    std::vector<NaiveText> beams{start};
    std::vector<FoundText> texts;
    for (ptrdiff_t t = 0; t < s.d.T && !beams.empty(); ++t) {
        struct Choice {
            double log_p;
            size_t beam;
            int64_t token;
        };
        std::vector<Choice> choices;
        for (size_t k = 0; k < beams.size(); ++k) {
            const std::vector<double> log_p = next_tokens(s, b, beams[k]);
            for (size_t v = 0; v < log_p.size(); ++v)
                if (log_p[v] > -HUGE_VAL) choices.push_back({beams[k].log_p + log_p[v], k, int64_t(v)});
        }
        std::stable_sort(choices.begin(), choices.end(), [](const Choice& x, const Choice& y) { return x.log_p > y.log_p; });
        std::vector<NaiveText> next;
        for (const Choice& c : choices) {
            if (next.size() == size_t(s.width)) break;
            if (c.token == s.eos ? t >= s.min_length : t + 1 == s.d.T)
                texts.push_back(finished(s, b, beams[c.beam], c.log_p, c.token));
            if (c.token == s.eos) continue;
            next.push_back(beams[c.beam]);
            next.back().log_p = c.log_p;
            next.back().tokens.push_back(c.token);
        }
        beams = next;
        std::stable_sort(texts.begin(), texts.end(), [](const FoundText& x, const FoundText& y) { return x.score > y.score; });
        if (s.early && texts.size() >= size_t(s.width)) break;
        if (texts.size() < size_t(s.n_best) || beams.empty()) continue;
        if (texts[size_t(s.n_best) - 1].score >= beams[0].log_p / std::pow((5.0 + double(s.d.T)) / 6, s.length_penalty)) break;
    }
    texts.resize(size_t(s.n_best));
    return texts;
}

inline int64_t naive_draw(const SearchProblem& s, std::vector<double> z, double u) {
    std::vector<size_t> order(z.size());
    const bool few = s.top_k && size_t(s.top_k) < z.size();
    std::iota(order.begin(), order.end(), size_t(0));
    if (few || s.top_p < 1 || s.temperature == 0)
        std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return z[x] > z[y]; });
    if (s.temperature == 0) return int64_t(order[0]);
    double total = 0, kept = 0, sum = 0;
    if (few) order.resize(size_t(s.top_k));
    for (size_t v : order) total += z[v] = std::exp(z[v] / s.temperature);
    size_t n = 0;
    while (n < order.size() && (s.top_p >= 1 || kept < s.top_p * total)) kept += z[order[n++]];
    for (size_t i = 0; i < n; ++i)
        if ((sum += z[order[i]]) > u * kept) return int64_t(order[i]);
    return int64_t(order[n - 1]);
}

inline FoundText naive_sample(const SearchProblem& s, ptrdiff_t b, ptrdiff_t row) {
    NaiveText text;
    text.row = first_row(s.d, s.d.in, b);
    for (ptrdiff_t t = 0;; ++t) {
        const std::vector<double> log_p = next_tokens(s, b, text);
        std::vector<double> z = log_p;
        if (t < s.min_length) z[size_t(s.eos)] = -HUGE_VAL;
        const int64_t v = naive_draw(s, z, uniform_number(s.seed, uint64_t(row) << 32 | uint64_t(t)));
        text.log_p += log_p[size_t(v)];
        if (v == s.eos || t + 1 == s.d.T) return finished(s, b, text, text.log_p, v);
        text.tokens.push_back(v);
    }
}

inline std::vector<FoundText> naive_search(const SearchProblem& s) {
    std::vector<FoundText> all;
    for (ptrdiff_t b = 0; b < s.d.B; ++b) {
        std::vector<FoundText> texts;
        if (s.mode == fastrnn::kBeam) texts = naive_beams(s, b);
        for (int k = 0; s.mode != fastrnn::kBeam && k < s.width; ++k) texts.push_back(naive_sample(s, b, b * s.width + k));
        for (FoundText& text : texts) {
            if (text.length < 0) text.tokens.assign(size_t(s.d.T), s.eos);
            if (text.length < 0) text.weights.assign(s.d.attention ? size_t(s.d.T * s.d.S) : 0, 0.0);
            all.push_back(text);
        }
    }
    return all;
}

// ---- the call

template <class T>
struct SearchResults {
    std::vector<int64_t> tokens, lengths;
    std::vector<double> scores;
    std::vector<T> weights;
};

template <class T>
SearchResults<T> run_search(const SearchProblem& p, int threads) {
    const fastrnn::SearchTable& k = *fastrnn::kernels()->search;
    const DecoderProblem& d = p.d;
    DecoderArrays<T> a;
    fastrnn::Search s{};
    s.d = a.describe(d, threads);
    s.mode = p.mode, s.width = p.width, s.n_best = p.n_best, s.V = d.V, s.Z = d.Z;
    const Matrix<T> embedding(d.in.at("embedding"), d.V, d.E - d.Z, 0), O(d.in.at("O"), d.V, d.A, d.layout);
    const Buffer<T> extra = filled<T>(d.Z ? d.in.at("extra") : std::vector<double>()), b_o = filled<T>(d.in.at("b_o"));
    s.embedding = embedding.origin, s.e_v = embedding.rs, s.extra = extra.data();
    s.O = O.origin, s.O_rs = O.rs, s.O_cs = O.cs, s.b_o = d.without & kNoBias ? nullptr : b_o.data();
    Buffer<uint8_t> banned(p.banned.size(), sizeof(void*));
    for (size_t v = 0; v < p.banned.size(); ++v) banned[v] = p.banned[v];
    s.banned = banned.data();
    s.bos = p.bos, s.eos = p.eos, s.min_length = p.min_length, s.early = p.early;
    s.length_penalty = p.length_penalty, s.coverage_penalty = p.coverage_penalty;
    s.temperature = p.temperature, s.top_p = p.top_p, s.top_k = p.top_k, s.seed = p.seed;
    const size_t texts = size_t(d.B * p.n_best);
    const Buffer<int64_t> tokens(texts * size_t(d.T), sizeof(void*)), lengths(texts, sizeof(void*));
    const Buffer<double> scores(texts, sizeof(void*));
    const Buffer<T> weights(d.attention ? texts * size_t(d.T * d.S) : 0, sizeof(void*));
    s.tokens = tokens.data(), s.lengths = lengths.data(), s.scores = scores.data(), s.weights = weights.data();
    const Buffer<char> workspace(d.B ? k.bytes(&s) : 0);
    s.workspace = workspace.data();
    k.run(&s);
    SearchResults<T> r{content(tokens), content(lengths), content(scores), content(weights)};
    if (!d.attention) return r;
    s.weights = nullptr;  // another layout inside
    const Buffer<char> less(d.B ? k.bytes(&s) : 0);
    if (less.size()) std::memset(less.data(), 0, less.size());  // other contents, too: 0 is a row's number
    s.workspace = less.data();
    k.run(&s);
    expect_same(content(tokens), r.tokens, p.name() + ": tokens without weights");
    expect_same(content(scores), r.scores, p.name() + ": scores without weights");
    return r;
}

inline void check_search(const SearchProblem& p, const std::vector<FoundText>& right, const std::string& isa) {
    const std::string what = isa + " " + p.name();
    const SearchResults<double> wide = run_search<double>(p, 1);
    std::vector<int64_t> tokens, lengths;
    std::vector<double> scores, found, weights;
    for (size_t i = 0; i < right.size(); ++i) {
        tokens.insert(tokens.end(), right[i].tokens.begin(), right[i].tokens.end());
        weights.insert(weights.end(), right[i].weights.begin(), right[i].weights.end());
        lengths.push_back(right[i].length);
        report.expect((right[i].score > -HUGE_VAL) == (wide.scores[i] > -HUGE_VAL), what + ": as many texts");
        if (right[i].score > -HUGE_VAL) scores.push_back(right[i].score), found.push_back(wide.scores[i]);
    }
    expect_same(wide.tokens, tokens, what + " tokens");
    expect_same(wide.lengths, lengths, what + " lengths");
    expect_close(found, scores, 1e-11, what + " scores");
    expect_close(wide.weights, weights, 1e-11, what + " weights");
    const SearchResults<float> narrow = run_search<float>(p, 1);  // may choose otherwise where two are nearly as good
    ptrdiff_t same = 0, all = ptrdiff_t(right.size());
    for (ptrdiff_t i = 0; i < all; ++i)
        if (row_of(narrow.tokens, i, p.d.T) == row_of(tokens, i, p.d.T)) {
            ++same;
            const double x = narrow.scores[size_t(i)], y = wide.scores[size_t(i)];
            report.expect(x == y || std::fabs(x - y) <= 1e-4 * (1 + std::fabs(y)), what + ": float32 score");
        }
    report.expect(same >= all - 1 - all / 4, what + ": float32 texts, " + std::to_string(same) + " of " + std::to_string(all));
}

inline void fill_search(SearchProblem& s, uint64_t seed) {
    fill_problem(s.d, seed);
    Random random{seed + 5};
    s.d.in["extra"] = random.normals(size_t(s.d.B * s.d.Z));
    s.bos = random.below(int(s.d.V)), s.eos = random.below(int(s.d.V)), s.seed = random.next();
    if (s.d.V > 20) s.d.in["b_o"][size_t(s.eos)] += 1.5;  // so that some texts end
    if (seed % 3 == 0 && s.d.V > 2) {
        s.banned.assign(size_t(s.d.V), 0);
        for (uint8_t& one : s.banned) one = random.below(4) == 0;
        s.banned[size_t(s.eos)] = s.banned[size_t((s.eos + 1) % s.d.V)] = 0;
    }
    if (seed % 4 == 0) s.min_length = 1 + random.below(3);
}

inline std::vector<SearchProblem> search_problems() {
    std::vector<SearchProblem> all;
    uint64_t seed = 500;
    for (int cell = fastrnn::kRnnTanh; cell <= fastrnn::kGruBefore; ++cell)
        for (ptrdiff_t V : {1, 2, 5, 33, 256, 300})
            for (int kind = 0; kind < 4; ++kind) {  // beams, greedy, samples, samples with limits
                ++seed;
                const ptrdiff_t H = 1 + ptrdiff_t(seed * 7 % 35), Z = ptrdiff_t(seed % 3);
                const bool attention = seed % 4 != 1;
                DecoderProblem d{cell,
                                 1 + int(seed % 2),
                                 1 + ptrdiff_t(seed % 8),
                                 ptrdiff_t(seed % 5),
                                 1 + ptrdiff_t(seed % 9),
                                 Z + 1 + ptrdiff_t(seed % 17),
                                 H,
                                 attention ? 1 + ptrdiff_t(seed % 19) : H,
                                 3 + ptrdiff_t(seed % 15),
                                 H,
                                 attention && seed % 3 > 0,
                                 seed % 5 < 2,
                                 seed % 7 < 3,
                                 false};
                if (d.projected) d.Q = 1 + ptrdiff_t(seed % 20);
                d.attention = attention, d.V = V, d.Z = Z, d.layout = int(seed % 4);
                if (seed % 6 == 0) d.without = kNoInitial;
                SearchProblem s{};
                s.d = d;
                s.mode = kind ? fastrnn::kSample : fastrnn::kBeam;
                s.width = 1 + int(seed % 6), s.n_best = kind ? s.width : 1 + int(seed * 5 % uint64_t(s.width));
                s.temperature = kind == 1 ? 0 : 0.5 + double(seed % 4) / 2, s.top_p = 1;
                if (kind == 3) s.top_k = seed % 3 ? 1 + ptrdiff_t(seed % 40) : 0, s.top_p = seed % 2 ? 0.7 : 1;
                if (!kind) s.length_penalty = double(seed % 3) / 2, s.early = seed % 5 == 0;
                if (!kind && attention) s.coverage_penalty = double(seed % 2) / 5;
                fill_search(s, seed);
                if (V == 1) s.min_length = 0;
                all.push_back(s);
            }
    return all;
}

// bitwise the same for any number of threads
inline void search_with_threads(const std::string& isa, bool few) {
    uint64_t seed = 1700;
    for (int kind = 0; kind < 3; ++kind)
        for (int cell : {int(fastrnn::kLstm), int(fastrnn::kGruAfter), int(fastrnn::kGruBefore)}) {
            if (few && cell == fastrnn::kGruAfter) continue;
            SearchProblem s{};
            s.d = {cell, 2, 12, 13, 9, 40, 120, 60, 33, 50, true, true, kind == 1, false};
            s.d.V = 290, s.d.Z = 3, s.d.layout = int(++seed % 4);
            s.mode = kind ? fastrnn::kSample : fastrnn::kBeam;
            s.width = 4, s.n_best = kind ? 4 : 3;
            s.temperature = kind == 1 ? 0 : 1, s.top_p = 1, s.length_penalty = s.coverage_penalty = kind ? 0 : 0.4;
            fill_search(s, seed);
            const SearchResults<float> one = run_search<float>(s, 1);
            for (int n : {2, 3, 8}) {
                const SearchResults<float> found = run_search<float>(s, n);
                const std::string what = isa + " " + s.name() + " threads=" + std::to_string(n);
                expect_same(found.tokens, one.tokens, what + " tokens");
                expect_same(found.lengths, one.lengths, what + " lengths");
                expect_same(found.scores, one.scores, what + " scores");
                expect_same(found.weights, one.weights, what + " weights");
            }
        }
}

// Logits that are no numbers, or none that may come: searches end, inside of their arrays.
template <class T>
void search_without_numbers(const std::string& isa) {
    for (int kind = 0; kind < 4; ++kind)
        for (int ill = 0; ill < 3; ++ill) {
            SearchProblem s{};
            s.d = {fastrnn::kLstm, 1, 4, 3, 5, 6, 9, 8, 7, 9, true, false, false, false};
            s.d.V = 40;
            s.mode = kind ? fastrnn::kSample : fastrnn::kBeam, s.width = 3, s.n_best = 3;
            s.temperature = kind == 1 ? 0 : 1, s.top_p = kind == 3 ? 0.5 : 1, s.top_k = kind == 3 ? 7 : 0;
            fill_search(s, 3 * 40 + 1);
            if (ill == 0) s.d.in["O"][9] = double(NAN);
            if (ill == 1) s.d.in["b_c"][0] = double(NAN);
            if (ill == 2) s.banned.assign(40, 1);
            const SearchResults<T> found = run_search<T>(s, 1);
            const std::string what = isa + " " + s.name() + " ill " + std::to_string(ill);
            for (int64_t v : found.tokens) report.expect(v >= 0 && v < s.d.V, what + ": a token");
            for (int64_t n : found.lengths) report.expect(n >= -1 && n <= s.d.T, what + ": a length");
            for (size_t i = 0; i < found.scores.size(); ++i)
                report.expect(!(found.scores[i] > -HUGE_VAL), what + ": no score from what is no number");
        }
}
