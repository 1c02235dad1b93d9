// cell_shape.h: what the schedule (sequence.h) needs to know of a cell, so that it is written and compiled once for all.
#pragma once
#include "../cell.h"
#include "../fastrnn.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
struct Step;

template <class T>
struct CellShape {
    int G, S;                   // gates; sections of a row of `gates`
    int first;                  // gates of the first recurrent product
    int section_x[kMostGates];  // where x·W of each gate lies in a row of `gates`, and its gradient
    int section_r[kMostGates];  // where the gradient at h₋₁·R of each lies, and h₋₁·R itself where `apart`
    unsigned apart;             // bit g: h₋₁·R + b_r of gate g is a sum of its own
    bool plain;                 // the one gate of a cell that is no more than a sum: plain panels
    bool fusable;               // x·W may belong to each step's product
    bool second;                // a second product in a step: a projection, or the candidate of GRU without reset_after
    bool candidate;             // that second one: the candidate's rows of R, times section `product`
    int product;
    bool carries;                // dh of the step before starts from a carried term
    int kept, first_kept;        // states that `cell` keeps, from this one on; given cells: and h as R sees it
    int operand;                 // given cells: which of them R multiplies
    const CellSpec* spec;        // of a cell given by functions
    void (*forward)(Step<T>&);   // one step: its GEMM tiles with the gate arithmetic as each tile's epilogue
    void (*backward)(Step<T>&);  // the same step reversed
    T* (*state_gradient)(const Step<T>&, int row);  // where the gradient at h of a row is summed

    bool has_c() const { return kept > 0; }
};

// cells.cpp
template <class T>
CellShape<T> shape_of(const Sequence& q);

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
