// search.h: what a decoder writes by itself: beam search, the best token at each step, or samples. Same rules as decoder.h.
//
// Each of B sentences has `width` rows (beams, or samples). In a step every running row embeds its last token, runs the
// decoder, and scores V tokens:  z = O·y + b_o,  log p = z - log Σ exp(z).
//
// Beam search keeps the `width` most probable unfinished beginnings of a sentence. Extensions are taken in order of log P; one
// by `eos` is a finished text, with the score (Wu et al. 2016, equation 14)
//   log P / lp + cp      lp = ((5 + n) / 6)^length_penalty     cp = coverage_penalty·Σ_s log min(Σ_t w_t[s], 1)
// of its n tokens, eos among them. Beginnings of T tokens count as finished. A sentence is done when no unfinished beginning
// can reach the worst of its n_best texts any more, or, with `early`, when it has `width` finished ones.
#pragma once
#include "decoder.h"

namespace fastrnn {

enum SearchMode : int {
    kBeam = 0,
    kSample = 1,  // rows don't depend on each other; temperature 0: the most probable token
};

struct Search {
    // Weights, source and initial states of the decoder. T: most tokens of a text. E: size of an embedding and of `extra`
    // together. Without C there is no attention: y = h, A = H, and keys, values and what belongs to them aren't read.
    Decoder d;
    int mode;
    int width;              // beams or samples of a sentence
    int n_best;             // texts of a sentence to return, 1 … width; samples: width
    ptrdiff_t V, Z;         // tokens; size of `extra`
    const void* embedding;  // [V, E - Z] in, rows contiguous, e_v apart
    ptrdiff_t e_v;
    const void* extra;  // [B, Z] in, contiguous: behind every embedding; null for Z = 0
    const void* O;      // [V, A] in
    ptrdiff_t O_rs, O_cs;
    const void* b_o;        // [V] in, or null
    const uint8_t* banned;  // [V] in: tokens that never come, or null
    int64_t bos, eos;
    ptrdiff_t min_length;                     // eos is no choice before so many tokens
    double length_penalty, coverage_penalty;  // both ≥ 0
    int early;
    double temperature, top_p;  // samples: top_p of 1 for all
    ptrdiff_t top_k;            // 0 for all
    uint64_t seed;              // row i of step t draws number i·2³² + t
    int64_t* tokens;            // [B, n_best, T] out: without eos, which fills the rest
    int64_t* lengths;           // [B, n_best] out: tokens before eos; -1: no such text
    double* scores;             // [B, n_best] out, best first (samples: log P)
    void* weights;              // [B, n_best, T, S] out, zero past the end, or null
    void* workspace;            // search_bytes, 64-byte aligned
};

struct SearchTable {
    size_t (*bytes)(const Search*);
    void (*run)(const Search*);
};

}  // namespace fastrnn
