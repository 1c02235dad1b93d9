// entry.h: what each file of this folder contributes to the table (table.cpp), so that they compile side by side.
#pragma once
#include "../attention.h"
#include "../decoder.h"
#include "../fastrnn.h"
#include "../search.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// sequence.cpp
void sizes(const Sequence*, Sizes*);
void forward(const Sequence*);
void backward(const Sequence*);
int stack_teams(const Sequence*, int layers, int backward);
void forward_stack(const Sequence* const*, int layers);
void backward_stack(const Sequence* const*, int layers);

// matmul.cpp
size_t gemm_workspace(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, int threads);
void gemm(int dtype, ptrdiff_t M, ptrdiff_t N, ptrdiff_t K, const void* A, ptrdiff_t A_rs, ptrdiff_t A_cs, const void* B,
          ptrdiff_t B_rs, ptrdiff_t B_cs, void* C, ptrdiff_t C_rs, const void* bias, int accumulate, void* workspace,
          int threads);
double fma_peak(int dtype, int64_t n);

// attention_dot.cpp, attention_additive.cpp
size_t dot_workspace(const DotAttention*, int backward);
void dot_forward(const DotAttention*);
void dot_backward(const DotAttention*);
size_t additive_workspace(const AdditiveAttention*, int backward);
void additive_forward(const AdditiveAttention*);
void additive_backward(const AdditiveAttention*);

// decoder.cpp
void decoder_sizes(const Decoder*, DecoderSizes*);
void decoder_forward(const Decoder*);
void decoder_backward(const Decoder*);

// search.cpp
size_t search_bytes(const Search*);
void search_run(const Search*);

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
