// fastrnn.h: the contract between the kernels and everybody who calls them.
//
// Plain structs and one table of function pointers per instruction set. All pointers are to memory that the caller owns;
// no function allocates, throws or keeps a pointer after it returns. Strides are in elements, never in bytes.
//
// Dimensions: T time, B batch, I input, H hidden, P size of h (H without a projection), G gates, D directions.
// Gate order: LSTM i f g o; GRU r z n.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cell.h"

namespace fastrnn {

enum Dtype : int { kFloat32 = 0, kFloat64 = 1 };

enum Cell : int {
    kRnnTanh = 0,
    kRnnRelu = 1,
    kRnnSigmoid = 2,
    kLstm = 3,
    kGruAfter = 4,   // reset gate applied after the recurrent product (cuDNN, PyTorch)
    kGruBefore = 5,  // reset gate applied before it (Cho et al. 2014)
    kGiven = 6,      // by functions: Sequence::spec
    // for Kernels::variant alone
    kFastRnn = 7,
    kFastGrnn = 8,
};

enum Save : int {
    kSaveNothing = 0,      // inference
    kSaveAll = 1,          // for backward
    kSaveCheckpoints = 2,  // y, and c now and then: backward computes the rest again
};

// One direction of one layer. `void*` stands for float* or double*, after Sequence::dtype.
struct Direction {
    // weights, any strides (in)
    const void* W;         // [G·H, I]
    ptrdiff_t W_rs, W_cs;  //   row and column stride
    const void* R;         // [G·H, P]
    ptrdiff_t R_rs, R_cs;
    const void* b_w;  // [G·H], contiguous, or null
    const void* b_r;  // [G·H], contiguous, or null
    const void* M;    // [P, H] projection, or null
    ptrdiff_t M_rs, M_cs;

    // states, rows contiguous (in; out)
    const void* h_0;  // [B, P] or null for zeros
    const void* c_0;  // [B, H] or null for zeros (LSTM)
    void* h_n;        // [B, P] out
    void* c_n;        // [B, H] out (LSTM)

    // output: y[t, b, :] starts at y + t·y_t + b·y_b; written in full, zero past a row's length. Read by backward.
    void* y;
    ptrdiff_t y_t, y_b;
    int reverse;  // read x from each row's end to its start

    // saved between forward and backward; sizes from Sizes (none: null); backward overwrites `gates`
    void* gates;   // [steps, sections·Hp]
    void* c;       // [B + steps, Hp] (LSTM); with checkpoints [segments, B, Hp]
    void* hidden;  // [steps, Hp] o·tanh(c) before the projection

    // Cells with more than two states: c_0, c_n, reset_c, dc_n and dc_0 are [states - 1][B, H], this many elements apart.
    ptrdiff_t c_next;
    // the states that Sequence::reset goes to: [B, P] and [B, H], null for zeros
    const void *reset_h, *reset_c;
    // every c_t, out, where y has its h_t; null: not wanted. Zero past a row's length.
    void* c_all;
    ptrdiff_t c_all_t, c_all_b, c_all_next;
    // parameters of given cells (in) and their gradients (out, accumulated into; null: not wanted)
    const void* vectors[kMostVectors];  // [H] each
    void* dvectors[kMostVectors];
    const void *gain_x, *gain_r;  // [G·H], with Sequence::norm
    void *dgain_x, *dgain_r;

    // backward (in)
    const void* dy;  // like y, or null for zeros; ignored past a row's length
    ptrdiff_t dy_t, dy_b;
    const void* dh_n;    // [B, P] or null
    const void* dc_n;    // [B, H] or null
    const void* dc_all;  // like c_all
    ptrdiff_t dc_all_t, dc_all_b, dc_all_next;

    // backward (out, accumulated into; row-contiguous; null: not wanted)
    void* dW;  // [G·H, I]
    void* dR;  // [G·H, P]
    void* db_w;
    void* db_r;
    void* dM;  // [P, H]
    // backward (out, overwritten)
    void* dh_0;  // [B, P] or null
    void* dc_0;  // [B, H] or null
};

// One layer over one batch of sequences: the argument of every recurrent kernel.
struct Sequence {
    int dtype, cell;
    ptrdiff_t T, B, I, H, P;
    int D;                 // directions in dir[], 1 or 2
    int threads;           // most threads to use, at least 1
    int save;              // a Save
    ptrdiff_t checkpoint;  // kSaveCheckpoints: steps between them, rounded up to whole chunks; else 0
    const void* x;         // x[t, b, :] starts at x + t·x_t + b·x_b, last axis contiguous
    ptrdiff_t x_t, x_b;
    const int64_t* codes;  // one-hot input: x[t, b, :] is 1 at codes[t·codes_t + b·codes_b], in 0 … I-1, and x and dx are null
    ptrdiff_t codes_t, codes_b;
    void* dx;  // like x, overwritten, zero past a row's length; null: not wanted
    ptrdiff_t dx_t, dx_b;
    const int64_t* lengths;  // [B], 0 … T; null: all are T
    int64_t steps;           // Σ lengths
    // [T, B] or null: where not zero the state is that of reset_h, reset_c before x[t] is read; gradients stop there. The
    // reverse direction starts afresh at the same borders: after it has read x[t].
    const uint8_t* reset;
    ptrdiff_t reset_t, reset_b;
    // given cells (kGiven)
    const CellSpec* spec;
    int norm;                     // layer norm of x·W and of h₋₁·R
    int expect;                   // zoneout by its expectation, instead of masks
    double zoneout[kMostStates];  // probability of keeping each state
    double recurrent_dropout;     // of h₋₁ as R sees it, one mask a sequence
    uint64_t mask_seed;
    void* workspace;  // Sizes::forward or ::backward bytes, 64-byte aligned, contents undefined
    Direction dir[2];
};

// Bytes that the caller provides. Saved memory is per direction.
struct Sizes {
    size_t gates, c, hidden;
    size_t forward, backward;  // workspaces
};

constexpr int kMostLayers = 16;  // of a stack

struct AttentionTable;
struct CellSpec;
struct DecoderTable;
struct Ops;
struct ScanTable;
struct SearchTable;
struct Streams;
struct TreeKernels;
struct VariantSettings;
struct Word2VecKernels;

// One instruction set's kernels. dtype arguments are Dtype; `n` counts elements.
struct Kernels {
    const char* name;
    int vector_bytes;

    void (*sizes)(const Sequence*, Sizes*);
    void (*forward)(const Sequence*);
    void (*backward)(const Sequence*);

    // A stack of layers [0 … layers-1], each reading the y of the one before: backward, its dy is the dx of the one after. All
    // have the same sizes but I, the same cell, lengths and threads, and each its own workspace. The bits are those of a call
    // for each layer. stack_teams: on how many teams of threads the layers run side by side, where that is estimated to be
    // faster; 0: it isn't, or it can't be (two directions, checkpoints backward, more than kMostLayers). `first`: layer 0.
    int (*stack_teams)(const Sequence* first, int layers, int backward);
    void (*forward_stack)(const Sequence* const* layer, int layers);
    void (*backward_stack)(const Sequence* const* layer, int layers);

    // C[M,N] = (accumulate ? C : bias[N] or 0) + A[M,K]·B[K,N]; A and B of any strides, C's rows contiguous
    size_t (*gemm_workspace)(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, int threads);
    void (*gemm)(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, const void* A, ptrdiff_t A_rs, ptrdiff_t A_cs, const void* B,
                 ptrdiff_t B_rs, ptrdiff_t B_cs, void* C, ptrdiff_t C_rs, const void* bias, int accumulate, void* workspace,
                 int threads);

    // runs `n` rounds of independent FMAs in registers and returns the floating-point operations done
    double (*fma_peak)(int dtype, int64_t n);

    const Ops* ops;                   // what surrounds recurrent layers: ops.h
    const Streams* stream;            // one step at a time: stream.h
    const AttentionTable* attention;  // attention.h
    const TreeKernels* tree;          // recursive networks over trees: tree.h
    const Word2VecKernels* word2vec;  // training of word vectors: word2vec.h
    const DecoderTable* decoder;      // decoder.h
    const SearchTable* search;        // search.h
    const ScanTable* scan;            // scan.h

    // fills in the functions of a variant of `cell`; the settings stay in use. False: there is no such variant. variant.h,
    // cell.h
    bool (*variant)(const VariantSettings*, int dtype, int cell, CellSpec* out);
};

const Kernels* kernels();                        // the table in use; null until select() succeeded
const char* select(const char* isa_or_null);     // null: best for this CPU. Returns null, or why it can't
const char* available_isas();                    // space-separated, best first
void* workspace_acquire(size_t bytes) noexcept;  // 64-byte aligned, reused between calls; null when out of memory
void workspace_release(void* p) noexcept;
size_t workspace_cached() noexcept;  // bytes kept for reuse

}  // namespace fastrnn
