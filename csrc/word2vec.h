// word2vec.h: training of word vectors (Mikolov et al. 2013a, 2013b), one call for a piece of text.
//
// Same rules as fastrnn.h. Tokens are numbers of words; sentences follow each other in one array. The text is worked through
// in blocks of about kWord2VecBlock tokens, whole sentences each; threads take the next block as they come free, and write
// into the shared matrices without locks (Niu et al. 2011). So with several threads results differ from run to run; with one
// they are defined by the arguments alone. Rows of the matrices are `stride` apart, a multiple of kWord2VecPad, and zero
// between D and stride.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

constexpr ptrdiff_t kWord2VecBlock = 2048, kWord2VecPad = 16;

struct Word2Vec {
    // ---- the model
    ptrdiff_t V, stride;   // words; floats from row to row
    float* vectors;        // [V, stride] inout, the input vectors v
    float* output;         // [V, stride] inout, the output vectors u of negative sampling; null without it
    float* nodes;          // [V-1, stride] inout, the vectors of the tree's inner nodes; null without hierarchical softmax
    const int64_t* path;   // [V+1] in: word w's way from the root is steps[path[w]] … steps[path[w+1]-1]
    const int32_t* steps;  // 2·node + code, code 1 for the branch whose probability is σ(-h·node)
    ptrdiff_t deepest;     // steps of the longest way
    const uint32_t* keep;  // [V] in: of 2³² cases, those in which the word stays (subsampling); null: all stay
    const uint32_t* alias_share;  // [V] in: Walker's table of the distribution of negatives: cell i stands for i in
    const int32_t* alias;        // [V] in: alias_share[i] of 2³² cases, and for alias[i] in the others; null for negative = 0
    ptrdiff_t negative, window;  // negatives a pair; words to either side
    int shrink;                  // 1: each word's window is drawn from 1 … window
    int cbow;                    // 0: skip-gram; 1: the sum of the window predicts the word; 2: its mean does
    // ---- the text
    const int32_t* tokens;  // [N] in, 0 … V-1
    ptrdiff_t N;
    const int64_t* begin;      // [S+1] in: sentence s is tokens[begin[s]] … tokens[begin[s+1]-1]; begin[0] = 0, begin[S] = N
    ptrdiff_t S, longest;      // sentences, and tokens of the longest
    double lr_first, lr_last;  // learning rate at the first token and past the last one, linear between
    uint64_t seed, first_block;  // block b of this call draws from a stream of (seed, first_block + b)
    // ---- results
    double loss;          // out: Σ -log σ(±h·u), the loss of all predictions, each before its own update
    int64_t pairs, kept;  // out: predictions; tokens that subsampling left
    // ---- room
    void* workspace;  // of `workspace(job)` bytes
    int threads;
};

struct Word2VecKernels {
    size_t (*workspace)(const Word2Vec* job);
    void (*train)(Word2Vec* job);
};

}  // namespace fastrnn
