// tree.h: recursive networks over trees: many trees at once, a level after the other.
//
// Same rules as fastrnn.h. Nodes are numbered by level: leaves (level 0) first, then the nodes whose children are all
// leaves (level 1), and so on; a node's level is one more than its highest child's. So the nodes of a level are adjacent
// rows of every array, and depend on rows before them alone.
//
// Dimensions: N nodes, L leaves, E child slots, H hidden, A most children of a node (N-ary cells).
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

enum TreeCell : int {
    kTreeTanh = 0,  // h = φ(W·[h_1; … h_A] + b), as the recursive networks of Socher et al. 2011
    kTreeRelu = 1,
    kTreeSigmoid = 2,
    kTreeChildSum = 3,  // Tree-LSTMs of Tai et al. 2015; gates i f g o
    kTreeNary = 4,
};

// The argument of both kernels. `void*` stands for float* or double*, after dtype; rows are contiguous.
struct TreeCall {
    int dtype, cell, threads;
    ptrdiff_t N, L, E, H;
    ptrdiff_t A;           // child slots of every inner node; 1 for kTreeChildSum, whose nodes have any number
    ptrdiff_t levels;      // ≥ 1 when N > 0
    const int64_t* level;  // [levels + 1] its first node; level[levels] = N
    const int64_t* first;  // [N - L + 1] first child slot of inner node L + n; the slots of a node are adjacent
    const int64_t* child;  // [E] the node in a slot, of a lower level; negative: none (kTreeNary)

    // [H, A·H], or [4·H, H] (rows i f g o), or [(3 + A)·H, A·H] (rows i f_1 … f_A g o): the children's weight, in
    const void* U;
    const void* bias;  // [H] of the cells without gates, or null

    // saved between forward and backward
    //   gated cells: [N, 4·H] in: x·Wᵀ + b; out: activated i, g, o. Backward: out dz, that of f the sum over the children
    //   others:      [N - L, H] backward: out dz. Not read by forward.
    void* z;
    void* f;   // [E, H] gated cells: out f, backward: out df
    void* h;   // [N, H] out; without gates the leaves' rows are in
    void* c;   // [N, H] out, gated cells
    void* hc;  // [N - L, A·H] out: the children's h side by side, zeros in empty slots; their sum for kTreeChildSum

    // backward
    void* dh;         // [N, H] inout: dy; then what arrived at each node in all
    void* dc;         // [N, H] out, gated cells
    void* workspace;  // TreeKernels::workspace bytes, 64-byte aligned
};

struct TreeKernels {
    size_t (*workspace)(const TreeCall*);
    void (*forward)(const TreeCall*);
    void (*backward)(const TreeCall*);
};

}  // namespace fastrnn
