// stream.h: one time step at a time, for control loops and audio: weights packed once, states kept between calls.
//
// Same rules as fastrnn.h. A stream is an array of StreamLayer, bottom first; the caller describes each, provides its memory,
// has it packed, and then calls `step` or `run` as often as it likes. These two allocate nothing, take no lock and wake no
// thread. Results are bitwise those of the layers' own kernels over the same sequence.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cell.h"

namespace fastrnn {

enum StreamKind : int {
    kStreamCell = 0,        // one direction of one recurrent layer
    kStreamLinear = 1,      // x·Wᵀ + b_w
    kStreamActivation = 2,  // f(x)
    kStreamSoftmax = 3,     // over a row
    kStreamNorm = 4,        // layer normalisation of a row
    kStreamEmbedding = 5,   // W[x], x integers: the first layer or none
};

constexpr ptrdiff_t kStreamBlock = 30;  // time steps: five tiles of six, or ten of three

struct StreamLayer {
    // ---- what it is (in)
    int dtype;     // of everything but an embedding's x, which is int64_t
    int kind;      // a StreamKind
    int function;  // kStreamCell: a Cell, kGiven among them; kStreamActivation: an Activation
    ptrdiff_t B, I, H,
        P;          // rows; size of a row of x (embedding: rows of W); units; size of a row of y. H = P but in a projection
    double alpha;   // of the activation; eps of the normalisation
    const void* W;  // cell [G·H, I], linear [P, I], embedding [I, P] (null: the identity), norm [P] (gamma); any strides.
                    // Read by pack
    ptrdiff_t W_rs, W_cs;
    const void* R;  // cell [G·H, P]
    ptrdiff_t R_rs, R_cs;
    const void* M;  // LSTM: projection [P, H] or null
    ptrdiff_t M_rs, M_cs;
    const void* b_w;  // cell [G·H], linear [P], norm [P] (beta), contiguous, or null
    const void* b_r;  // cell [G·H], contiguous, or null
    // kGiven (cell.h, Sequence); what is pointed to stays
    const CellSpec* spec;
    int norm;                           // gates that are normalised together, or 0
    double zoneout[kMostStates];        // by its expectation
    const void *gain_x, *gain_r;        // [G·H] with norm
    const void* vectors[kMostVectors];  // [H] each

    // ---- made by prepare
    // reads B rows of x, x_b elements apart, moves the states on, and returns the rows of y, y_b apart
    const void* (*step)(StreamLayer*, const void* x, ptrdiff_t x_b);
    // one row: the same for up to kStreamBlock time steps, x_t elements apart; their y go to `block`, y_b apart
    void (*run)(StreamLayer*, const void* x, ptrdiff_t x_t, ptrdiff_t steps);
    ptrdiff_t y_b, c_b, c_next;
    void* h;                       // [B, y_b] cell: the state, and y (inout between steps: the caller may read and write it)
    void* c;                       // [B, c_b] LSTM: the cell state (as h); kGiven: further states, c_next apart
    void* h_next;                  // [B, y_b] where the next step's h goes; the two take turns
    void* inner;                   // [B, c_b] projection: o ⊙ tanh(c); GRU, reset before: r ⊙ h
    void* inner2;                  // [B, 2·c_b] GRU, reset before: z and n's share of x
    void* ahead;                   // one row: [kStreamBlock, ·] x's share of a block's sums
    void* block;                   // one row: [kStreamBlock, y_b]
    void *panels, *second, *bias;  // packed weights
    ptrdiff_t panel, panel2;       // elements of one panel
    int down;                      // the next step walks the panels from the last to the first
    void* given;                   // kGiven: kernels/stream_given.cpp's
};

struct Streams {
    // Lays the layer out in `memory` (64-byte aligned), zeroes its states, chooses its step. Returns the bytes it needs; with
    // a null memory it does nothing else.
    size_t (*prepare)(StreamLayer*, void* memory);

    // Weights into panels; states stay. W … b_r are not read again until the next pack.
    void (*pack)(StreamLayer*);

    // layers: [n] inout
    // x:      [B, I] in, row b at x + b·x_b, last axis contiguous
    // y:      [B, P] out, row b at y + b·y_b; may overlap x
    // Returns -1, or the first row whose integer is outside the embedding; nothing has changed then.
    ptrdiff_t (*step)(StreamLayer* layers, int n, const void* x, ptrdiff_t x_b, void* y, ptrdiff_t y_b);

    // T steps: x[t, b] at x + t·x_t + b·x_b, y alike; y may be x, but otherwise overlaps nothing.
    // Returns -1, or t·B + b of the first integer outside the embedding; nothing has changed then.
    ptrdiff_t (*run)(StreamLayer* layers, int n, ptrdiff_t T, const void* x, ptrdiff_t x_t, ptrdiff_t x_b, void* y,
                     ptrdiff_t y_t, ptrdiff_t y_b);
};

}  // namespace fastrnn
