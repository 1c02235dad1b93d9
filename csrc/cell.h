// cell.h: a cell given by functions: the contract between the schedule (kernels/sequence.h) and arithmetic from elsewhere, such
// as cells that users write, and the variants of built-in cells.
//
// The schedule does the matrix products, time, threads, lengths and memory. A cell's functions do the arithmetic of one step on
// a tile of rows × units, whole vectors at a time: `first` and `last` are multiples of the vector width of the kernels in use,
// and all memory has room for whole vectors. What lies past H is unspecified but finite, and nobody reads what comes of it.
//
// A row of `gates` has `sections` sections. Before `forward` those that CellSpec names hold the products:
//   section_x[g] == section_r[g]   x·W + h₋₁·R + both biases of gate g, in one sum
//   else                           x·W + b_w in section_x[g], h₋₁·R + b_r in section_r[g]
// `forward` writes the new states, and leaves in any sections what `backward` will want. `backward` finds those, and writes the
// gradients at the products into the sections that held them; `gradient` of each state comes in as that at the new state, and
// goes out as that at the state before, as far as the arithmetic itself passes it on: h₋₁·R is the schedule's. With a
// projection `after[0]` and `gradient[0]` are of h before it, and the arithmetic must not read h₋₁.
//
// A cell in two stages has a product of its own in the last gate n, section_x[n] == section_r[n]: `forward` leaves what R_n
// multiplies in section_product (GRU: r ⊙ h₋₁), the schedule adds section_product·R_n to the section of n, and `forward2`
// writes the new states. Backward the other way round: `backward` writes the gradients of what `forward2` did, that at n among
// them, `product` rows get the gradient at what section_product holds (which stays for dR_n), and `backward2` goes on from
// there, adding to `gradient`.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

constexpr int kMostGates = 8, kMostStates = 4, kMostVectors = 8, kMostSections = 32;

// `void*` stands for float* or double*, after Sequence::dtype.
struct CellTile {
    int64_t rows;
    int64_t first, last;               // units first … last-1
    int64_t section;                   // elements from a section of a row of `gates` to the next
    void* const* gates;                // [rows]
    const void* const* const* before;  // [states][rows] the states of the step before
    void* const* const* after;         // [states][rows] forward: the new states, written; backward: null
    void* const* const* gradient;      // [states][rows] backward, in and out
    const void* const* vectors;        // [vectors] parameters of one number a unit
    void* const* product;              // [rows] second functions of a cell in two stages; else null
    int64_t save;                      // forward: whether backward will read `gates`
    const void* context;               // CellSpec::context
    int64_t units;                     // H: a cell that looks across units gets whole rows, and sees here where they end
};
using CellFunction = void (*)(const CellTile*);

struct CellSpec {
    int64_t gates, states, vectors, sections;
    int64_t section_x[kMostGates], section_r[kMostGates];
    // where `backward` leaves terms whose sum over rows and steps is the gradient of each vector
    int64_t section_v[kMostVectors];
    CellFunction forward, backward;
    const void* context;
    CellFunction forward2, backward2;  // second stage; null: there is one
    int64_t section_product;           // what R of the last gate multiplies between the stages
    int64_t whole_rows;                // tiles must span all units: first 0, last H rounded up
};

}  // namespace fastrnn
