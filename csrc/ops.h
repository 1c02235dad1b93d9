// ops.h: the kernels around recurrent layers: activations, losses, normalisation, embeddings, dropout, optimisers.
//
// Same rules as fastrnn.h: `void*` is float* or double* after dtype, arrays are contiguous with the last dimension
// fastest, nothing allocates, throws or keeps a pointer. `threads` is the most to use; results don't depend on it.
// Dimensions: n elements, N rows (samples), C classes, F features, V vocabulary, E embedding size, M × N a matrix.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

enum Activation : int {
    kExp = 0,
    kTanh = 1,
    kSigmoid = 2,
    kRelu = 3,
    kLeakyRelu = 4,  // x for x > 0, else alpha·x
    kSwish = 5,      // x·σ(alpha·x)
    kGelu = 6,       // x·Φ(x)
};

// Elements of a contiguous array: all, or whole rows.
struct Selection {
    void* data;
    ptrdiff_t n;          // elements selected
    const int64_t* rows;  // [n/width] the rows, ascending, none twice; null: elements 0 … n-1
    ptrdiff_t width;      // elements of a row; not read without rows
    int dtype;
};

enum Rule : int { kSgd = 0, kRmsprop = 1, kAdam = 2 };
constexpr int kRuleNumbers = 7;

// One parameter in a step of an optimiser. The formulas are PyTorch's (ops_optim.h).
struct Update {
    Selection p;    // the parameter, inout
    const void* g;  // like p, its gradient, in
    // like p, inout
    //   SGD:     the momentum, or null without
    //   RMSprop: running mean of g²; the momentum, or null without; running mean of g, or null unless centred
    //   Adam:    running mean of g; of g²
    void* slot[3];
    // in
    //   SGD:     lr, momentum, dampening, nesterov, weight_decay, first (the momentum's old contents don't count)
    //   RMSprop: lr, alpha, eps, momentum, weight_decay
    //   Adam:    lr, beta1, beta2, eps, weight_decay, decoupled (AdamW: decay shrinks p instead of joining g), step (from 1)
    double number[kRuleNumbers];
};

struct Ops {
    // ---- activations (ops_activation.h)

    // x:     [n] in
    // out:   [n] out, f(x); may be x
    // alpha: slope of leaky_relu below 0, β of swish
    void (*activation)(int dtype, int f, const void* x, void* out, ptrdiff_t n, double alpha, int threads);

    // x:   [n] in, read by leaky_relu, swish and gelu only
    // y:   [n] in, f(x), read by the others only
    // dy:  [n] in
    // out: [n] out, dx = f'(x)·dy; may be dy, x or y
    void (*activation_backward)(int dtype, int f, const void* x, const void* y, const void* dy, void* out, ptrdiff_t n,
                                double alpha, int threads);

    // ---- softmax over the last axis (ops_softmax.h)

    // x:   [N, C] in
    // out: [N, C] out; may be x
    void (*softmax)(int dtype, const void* x, void* out, ptrdiff_t N, ptrdiff_t C, int threads);
    void (*log_softmax)(int dtype, const void* x, void* out, ptrdiff_t N, ptrdiff_t C, int threads);

    // y:   [N, C] in, the softmax
    // dy:  [N, C] in
    // out: [N, C] out, dx; may be dy or y
    void (*softmax_backward)(int dtype, const void* y, const void* dy, void* out, ptrdiff_t N, ptrdiff_t C, int threads);

    // ---- losses (ops_loss.h)

    // logits:    [N, C] in
    // targets:   [N] in, the class; not read where factor is 0
    // factor:    [N] in, the row's share of the loss
    // smoothing: ε: the target distribution is (1-ε)·onehot + ε/C
    // dlogits:   [N, C] out, or null; may be logits
    // loss:      [1] out, Σ factor·loss
    // Returns -1, or the first row whose target is no class; nothing is written then.
    ptrdiff_t (*cross_entropy)(int dtype, const void* logits, const int64_t* targets, const void* factor, double smoothing,
                               void* dlogits, double* loss, ptrdiff_t N, ptrdiff_t C, int threads);

    // logits:  [n] in
    // targets: [n] in, 0 … 1
    // factor:  [n] in, the element's share of the loss; where it is 0 nothing else counts
    // dlogits: [n] out, or null; may be logits
    // Returns Σ factor·loss.
    double (*bce_with_logits)(int dtype, const void* logits, const void* targets, const void* factor, void* dlogits,
                              ptrdiff_t n, int threads);

    // ---- layer normalisation (ops_norm.h)

    // x:     [N, F] in
    // gamma: [F] in, or null for ones
    // beta:  [F] in, or null for zeros
    // y:     [N, F] out; may be x
    // mean:  [N] out
    // rstd:  [N] out, 1/sqrt(variance + eps)
    void (*layer_norm_forward)(int dtype, const void* x, const void* gamma, const void* beta, double eps, void* y, void* mean,
                               void* rstd, ptrdiff_t N, ptrdiff_t F, int threads);

    // dy, x:      [N, F] in
    // gamma:      [F] in, or null for ones
    // mean, rstd: [N] in, of forward
    // dx:         [N, F] out; may be dy or x
    // dgamma:     [F] accumulates, or null
    // dbeta:      [F] accumulates, or null
    void (*layer_norm_backward)(int dtype, const void* dy, const void* x, const void* gamma, const void* mean, const void* rstd,
                                void* dx, void* dgamma, void* dbeta, ptrdiff_t N, ptrdiff_t F, int threads);

    // ---- embeddings (ops_embedding.h)

    // weight: [V, E] in
    // idx:    [N] in, 0 … V-1
    // out:    [N, E] out, weight[idx]
    // Returns -1, or the first n whose idx is out of range; nothing is written then.
    ptrdiff_t (*embedding_forward)(int dtype, const void* weight, const int64_t* idx, void* out, ptrdiff_t N, ptrdiff_t V,
                                   ptrdiff_t E, int threads);

    // dy:      [N, E] in
    // idx:     [N] in
    // dweight: [V, E] accumulates: dweight[idx[n]] += dy[n] for ascending n
    // Returns as forward.
    ptrdiff_t (*embedding_backward)(int dtype, const void* dy, const int64_t* idx, void* dweight, ptrdiff_t N, ptrdiff_t V,
                                    ptrdiff_t E, int threads);

    // ---- pooling over time (ops_pool.h)

    // x:       [T, B, F] in, T ≥ 1; rows contiguous, x_t and x_b elements apart
    // lengths: [B] in, 0 … T, or null for T. What lies past a row's length isn't read.
    // y:       [B, F] out, the largest value; 0 in a row of length 0
    // step:    [B, F] out, or null: the first step of that value, in integers as wide as x's floats, so T < 2³¹
    void (*max_pool)(int dtype, const void* x, ptrdiff_t x_t, ptrdiff_t x_b, const int64_t* lengths, void* y, void* step,
                     ptrdiff_t T, ptrdiff_t B, ptrdiff_t F, int threads);

    // dy:            [B, F] in
    // step, lengths: in, of forward
    // dx:            [T, B, F] out, dx_t and dx_b as for x
    void (*max_pool_backward)(int dtype, const void* dy, const void* step, const int64_t* lengths, void* dx, ptrdiff_t dx_t,
                              ptrdiff_t dx_b, ptrdiff_t T, ptrdiff_t B, ptrdiff_t F, int threads);

    // x, lengths: as for max_pool
    // y:          [B, F] out, the mean; 0 in a row of length 0
    void (*mean_pool)(int dtype, const void* x, ptrdiff_t x_t, ptrdiff_t x_b, const int64_t* lengths, void* y, ptrdiff_t T,
                      ptrdiff_t B, ptrdiff_t F, int threads);

    // dy, lengths, dx: as for max_pool_backward
    void (*mean_pool_backward)(int dtype, const void* dy, const int64_t* lengths, void* dx, ptrdiff_t dx_t, ptrdiff_t dx_b,
                               ptrdiff_t T, ptrdiff_t B, ptrdiff_t F, int threads);

    // ---- dropout (ops_dropout.h)

    // x:    [n] in
    // p:    share of elements to drop, 0 ≤ p < 1
    // seed: with an element's index it decides its fate: the same for every dtype, instruction set and thread count
    // out:  [n] out, x·mask/(1-p); may be x. Its own backward, from dy to dx.
    void (*dropout)(int dtype, const void* x, double p, uint64_t seed, void* out, ptrdiff_t n, int threads);

    // ---- whole models at once (ops_optim.h): one parallel region for arrays of any number and dtype

    // One step of an optimiser, in place: list[0 … count-1], which don't overlap
    void (*update)(int rule, const Update* list, ptrdiff_t count, int threads);

    // Σ of the squares of everything selected, in double. `list` in.
    double (*norm_squared)(const Selection* list, ptrdiff_t count, int threads);

    // everything selected, multiplied by s; s = 0 sets it to 0, whatever it was. `list` inout.
    void (*scale_all)(const Selection* list, ptrdiff_t count, double s, int threads);

    // ---- sums and simple arithmetic (ops_array.h)

    // a:   [M, N] in
    // out: [N] accumulates a's rows in their order
    void (*column_sum)(int dtype, const void* a, void* out, ptrdiff_t M, ptrdiff_t N, int threads);

    // a: [n] in. Σ a², in double
    double (*sum_squares)(int dtype, const void* a, ptrdiff_t n, int threads);

    // a: [n] in. 1 without NaN and infinities, else 0
    int (*all_finite)(int dtype, const void* a, ptrdiff_t n, int threads);

    // a: [n] inout, multiplied by s
    void (*scale)(int dtype, void* a, double s, ptrdiff_t n, int threads);

    // a: [n] inout, limited to low … high; NaN stays
    void (*clip)(int dtype, void* a, double low, double high, ptrdiff_t n, int threads);

    // a, b: [n] in
    // out:  [n] out, a + b; may be either
    void (*add)(int dtype, const void* a, const void* b, void* out, ptrdiff_t n, int threads);
};

}  // namespace fastrnn
