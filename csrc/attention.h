// attention.h: the kernels of attention. Same rules as fastrnn.h: `void*` is float* or double* after dtype, strides are in
// elements, last axes are contiguous, nothing allocates, throws or keeps a pointer; results don't depend on `threads`.
//
// Dimensions: T queries, S source steps, B batch, N heads, D size of a query and a key of a head, E of a value of a head,
// A size of the hidden layer of an additive score.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

// Scaled dot products, N heads side by side in the last axis:
//   P[t, :] = softmax(scale·q[t]·kᵀ + mask)      y[t] = (dropped P)[t, :]·v
// A query that may look at nothing has weights and output 0.
struct DotAttention {
    int dtype;
    int causal;  // query t sees source steps 0 … t
    int threads;
    ptrdiff_t T, S, B, N, D, E;
    const void* q;  // [T, B, N·D] in: q[t, b, h·D] at q + t·q_t + b·q_b + h·D
    ptrdiff_t q_t, q_b;
    const void* k;  // [S, B, N·D] in
    ptrdiff_t k_s, k_b;
    const void* v;  // [S, B, N·E] in
    ptrdiff_t v_s, v_b;
    const int64_t* lengths;  // [B] in, 0 … S, or null for S; what lies past them isn't read
    const void* mask;        // [B, N, T, S] in, added to the scores, or null; any of the first strides may be 0
    ptrdiff_t m_b, m_h, m_t;
    double scale, dropout;  // share of weights to drop, 0 ≤ dropout < 1
    uint64_t seed;          // Note [dropped weights] in kernels/attention_dot.cpp
    void* y;                // [T, B, N·E] out; backward: in
    ptrdiff_t y_t, y_b;
    void* stats;    // [B, N, T, 2] out, or null for inference; backward: in
    void* weights;  // [T, B, N, S] out, before dropout, or null
    ptrdiff_t w_t, w_b, w_h;
    // backward
    const void* dy;  // [T, B, N·E] in
    ptrdiff_t dy_t, dy_b;
    void* dq;  // like q, out
    ptrdiff_t dq_t, dq_b;
    void* dk;  // like k, out, 0 past lengths
    ptrdiff_t dk_s, dk_b;
    void* dv;  // like v, out, 0 past lengths
    ptrdiff_t dv_s, dv_b;
    void* workspace;  // 64-byte aligned, as many bytes as dot_workspace says
};

// Additive scores (Bahdanau et al. 2015): e[t, s] = vᵀ·tanh(q[t] + k[s]), P = softmax(e), y[t] = P[t, :]·x
struct AdditiveAttention {
    int dtype, threads;
    ptrdiff_t T, S, B, A, E;
    const void* q;  // [T, B, A] in
    ptrdiff_t q_t, q_b;
    const void* k;  // [S, B, A] in
    ptrdiff_t k_s, k_b;
    const void* v;  // [A] in
    const void* x;  // [S, B, E] in
    ptrdiff_t x_s, x_b;
    const int64_t* lengths;  // [B] in, 0 … S, or null for S
    void* y;                 // [T, B, E] out
    ptrdiff_t y_t, y_b;
    void* weights;  // [T, B, S] out; backward: in
    ptrdiff_t w_t, w_b;
    // backward
    const void* dy;  // [T, B, E] in
    ptrdiff_t dy_t, dy_b;
    void* dq;  // like q, out
    ptrdiff_t dq_t, dq_b;
    void* dk;  // like k, out, 0 past lengths
    ptrdiff_t dk_s, dk_b;
    void* dv;  // [A] accumulates
    void* dx;  // [S, B, E] out, 0 past lengths; rows dx_s and dx_b apart
    ptrdiff_t dx_s, dx_b;
    void* workspace;
};

struct AttentionTable {
    size_t (*dot_workspace)(const DotAttention*, int backward);
    void (*dot_forward)(const DotAttention*);
    void (*dot_backward)(const DotAttention*);
    size_t (*additive_workspace)(const AdditiveAttention*, int backward);
    void (*additive_forward)(const AdditiveAttention*);
    void (*additive_backward)(const AdditiveAttention*);
};

}  // namespace fastrnn
