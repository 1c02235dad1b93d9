// scan.h: recurrences that are elementwise in time: a walk over the steps, vectors over the channels.
//
// Same rules as fastrnn.h. What multiplies x was done before, for all steps at once: z holds the pre-activations, and the scan
// does the rest, reading and writing each number once. Backward computes gates again from z and from the states.
//
// Dimensions: T time, B batch, H channels, N rows of z; G blocks of z, S states, K parameters of a channel by cell:
//
//   cell      G  S  K   blocks of z        state      saved s   y
//   SRU       4  1  2   x̃ f r x_skip       c          c         r ⊙ g(c) + (1 − r) ⊙ α·x_skip
//   QRNN      3  1  0   z f o              c          c         o ⊙ c
//   minGRU    2  1  0   z h̃                h          y         h
//   minLSTM   3  1  0   f i h̃              h          y         h
//   LRU       2  2  2   Re Im of γ·B·x     Re Im x    s         none: it is a product of s
//   IndRNN    1  1  1   W·x                h          y         h
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

enum ScanCell : int { kSru = 0, kQrnn = 1, kMinGru = 2, kMinLstm = 3, kLru = 4, kIndRnn = 5 };

struct Scan {
    int dtype, cell;
    int option;  // SRU: g is tanh, not the identity; minGRU, minLSTM: the candidate is g(h̃); IndRNN: relu, not tanh
    int threads, reverse;
    ptrdiff_t T, B, H, G;
    const int64_t* lengths;  // [B] in, 0 … T, or null for T

    // Step t of row b is row first[b] + t·step of z, dz, skip, dskip and s, whose rows are neighbours.
    const int64_t* first;  // [B] in
    ptrdiff_t step;
    ptrdiff_t y_t, y_b;  // y[t, b, :] starts at y + t·y_t + b·y_b, dy's likewise
    ptrdiff_t dy_t, dy_b;

    const void* z;     // [N, G·H] in
    const void* skip;  // [N, H] in, SRU: x_skip, and z has three blocks; or null
    const void* p;     // [K, H] in; SRU: v_f, v_r, or null for zeros. LRU: Re λ, Im λ. IndRNN: u
    double alpha;      // SRU: the skip's scale
    const void* s_0;   // [B, S·H] in, or null for zeros
    void* s_n;         // [B, S·H] out
    void* y;           // out, zero past a row's length; read by backward where it is the saved state
    void* s;           // [N, S·H] out, and in for backward; SRU, QRNN: or null (inference). LRU: may be z

    const void* dy;    // in, or null for zeros; not read past a row's length
    const void* ds_n;  // [B, S·H] in, or null for zeros
    void* ds_0;        // [B, S·H] out
    void* dz;          // [N, G·H] out; may be z. LRU: inout, from the gradient at s to the one at z, which isn't read
    void* dskip;       // [N, H] out, or null
    void* dp;          // [K, H] accumulates
    void* workspace;   // of backward: workspace() bytes
};

struct ScanTable {
    size_t (*workspace)(const Scan*);
    void (*forward)(const Scan*);
    void (*backward)(const Scan*);
};

}  // namespace fastrnn
