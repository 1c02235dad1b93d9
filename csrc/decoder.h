// decoder.h: the recurrent decoder with attention and input feeding. Same rules as fastrnn.h: `void*` is float* or double*
// after dtype, strides are in elements, last axes are contiguous, nothing allocates, throws or keeps a pointer; results don't
// depend on `threads`.
//
//   x_t = [emb_t, y_{t-1}]          with input feeding, else emb_t
//   h_t = layers of one cell over x_t
//   e[s] = scale·q·key[s]  or  vᵀ·tanh(q + key[s])       q = h_t, or U·h_t
//   w = softmax(e)       context = Σ w[s]·value[s]
//   y_t = tanh(C·[context, h_t] + b_c)
//
// Dimensions: T steps, B batch, S source steps, E size of emb, H hidden, A size of y, K size of a value, Q size of a key.
#pragma once
#include "cell.h"

namespace fastrnn {

constexpr int kDecoderLayers = 16;  // most layers of a decoder

// One layer of the stack: I = E (+ A with input feeding, behind) in the lowest, H above. Rows are contiguous but for weights.
struct DecoderLayer {
    const void* W;  // [G·H, I] in
    ptrdiff_t W_rs, W_cs;
    const void* R;  // [G·H, H] in
    ptrdiff_t R_rs, R_cs;
    const void* b_w;   // [G·H] in, or null
    const void* b_r;   // [G·H] in, or null
    const void* h_0;   // [B, H] in, or null for zeros
    const void* c_0;   // [B, H] in, or null for zeros (LSTM; of given cells [states - 1][B, H], Decoder::c_next apart)
    void* h_n;         // [B, H] out
    void* c_n;         // like c_0, out; so are dc_n and dc_0
    const void* dh_n;  // [B, H] in, or null
    const void* dc_n;  // [B, H] in, or null
    void* dW;          // accumulates, or null, contiguous; so do the next three
    void* dR;
    void* db_w;
    void* db_r;
    void* dh_0;  // [B, H] out, or null
    void* dc_0;  // [B, H] out, or null
    // of given cells; gradients accumulate, or null
    const void* vectors[kMostVectors];  // [H] each
    void* dvectors[kMostVectors];
    const void *gain_x, *gain_r;  // [G·H], with Decoder::norm
    void *dgain_x, *dgain_r;
};

// Scheduled sampling (Bengio et al. 2015): a row's input at a step after its first one is, with that probability, what the
// decoder itself would have written: the token v with the largest logit O·y_{t-1} + b_o. Where it is drawn (search.h's numbers,
// b·2³² + t), x and tokens are overwritten.
struct DecoderSampling {
    double probability;
    uint64_t seed;
    ptrdiff_t V, E;         // tokens; size of an embedding: the first E elements of a row of x
    const void* embedding;  // [V, E] in, rows contiguous, e_v apart
    ptrdiff_t e_v;
    const void* O;  // [V, A] in
    ptrdiff_t O_rs, O_cs;
    const void* b_o;  // [V] in, or null
    int64_t* tokens;  // [T, B] inout
    ptrdiff_t t_t, t_b;
};

struct Decoder {
    int dtype, cell;  // a Cell
    int layers;       // 1 … kDecoderLayers
    int threads;
    int save;     // 1: for backward
    int feeding;  // y_{t-1} is part of x_t
    ptrdiff_t T, B, S, E, H, A, K, Q;
    const void* x;  // [T, B, E] in: emb
    ptrdiff_t x_t, x_b;
    const int64_t* lengths;         // [B] in, 0 … T, or null for T
    int64_t steps;                  // Σ lengths
    const int64_t* source_lengths;  // [B] in, 0 … S, or null for S
    const void* keys;               // [S, B, Q] in; may be `values`
    ptrdiff_t k_s, k_b;
    const void* values;  // [S, B, K] in
    ptrdiff_t v_s, v_b;
    const void* U;  // [Q, H] in, or null where q = h
    ptrdiff_t U_rs, U_cs;
    const void* v;  // [Q] in: additive scores; null: dot products
    double scale;   // of dot products
    const void* C;  // [A, K + H] in
    ptrdiff_t C_rs, C_cs;
    const void* b_c;     // [A] in, or null
    const void* feed_0;  // [B, A] in: y_{-1}, or null for zeros
    DecoderLayer* layer;
    ptrdiff_t c_next;
    // of given cells, as in Sequence
    const CellSpec* spec;
    int norm, expect;
    double zoneout[kMostStates];
    double recurrent_dropout;
    uint64_t mask_seed;
    const DecoderSampling* sampling;  // forward, or null; then x is inout
    void* y;                          // [T, B, A] out, zero past a row's length; backward: in
    ptrdiff_t y_t, y_b;
    void* weights;  // [T, B, S] out, contiguous, zero past lengths, or null
    void* saved;    // DecoderSizes::saved bytes, 64-byte aligned: written by forward, gates destroyed by backward
    // backward
    const void* dy;  // [T, B, A] in, or null for zeros; ignored past a row's length
    ptrdiff_t dy_t, dy_b;
    void* dx;  // [T, B, E] out, zero past a row's length, or null
    ptrdiff_t dx_t, dx_b;
    void* dkeys;  // [S, B, Q] accumulates; may be dvalues
    ptrdiff_t dk_s, dk_b;
    void* dvalues;  // [S, B, K] accumulates
    ptrdiff_t dv_s, dv_b;
    void* dfeed_0;  // [B, A] out, or null
    void* dU;       // accumulates, or null, contiguous; so do the next three
    void* dv;
    void* dC;
    void* db_c;
    void* workspace;  // DecoderSizes::forward or ::backward bytes, 64-byte aligned, contents undefined
};

// Bytes that the caller provides.
struct DecoderSizes {
    size_t gates;  // the first bytes of `saved`, which backward destroys
    size_t saved, forward, backward;
};

struct DecoderTable {
    void (*sizes)(const Decoder*, DecoderSizes*);
    void (*forward)(const Decoder*);
    void (*backward)(const Decoder*);
};

}  // namespace fastrnn
