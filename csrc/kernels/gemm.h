// gemm.h: register-blocked matrix products on packed panels.
//
// A panel is K rows of NV vectors, stored one after the other; it is read once a tile, from L1. A tile is MR rows of C
// by one panel; its accumulators stay in registers for a whole block of K. Rows of A and C are given by pointers, so
// they may lie anywhere: in the user's x and y of any strides, across time steps, in any order.
//
// Note [one accumulation order]: every element of C starts from its C or bias value and adds A·B terms for ascending k,
// one fused multiply-add each. Blocking over K stores and reloads the same float, so tile shape, blocking and thread
// count never change a bit.
#pragma once
#include "../cell.h"
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr int kMaxNV = 4;

// most rows in a tile of NV vectors: 24 accumulators of 32 registers, 12 of 16
constexpr int max_rows(int NV) { return kRegisters == 32 ? (NV == 4 ? 6 : NV == 3 ? 8 : 12) : (NV == 4 ? 3 : NV == 3 ? 4 : 6); }

// A matrix [K, N] in panels. Gate panels hold vector v of VL units of gate v; plain panels hold NV·VL adjacent columns.
template <class T>
struct Packed {
    T* data;
    ptrdiff_t K, N;  // N: columns (plain) or units (gates)
    int NV;          // vectors in a panel
    bool gates;
    int first = 0;  // panel that data begins with
    int gate = 0;   // first of its gates

    int width() const { return gates ? VL<T> : NV * VL<T>; }  // units in a panel
    int panels() const { return int((N + width() - 1) / width()); }
    int vectors(int p) const {  // in panel p
        if (gates) return NV;
        ptrdiff_t left = (N - ptrdiff_t(p) * width() + VL<T> - 1) / VL<T>;
        return left < NV ? int(left) : NV;
    }
    int tail(int p) const {  // lanes in use of panel p's last vector
        ptrdiff_t left = N - ptrdiff_t(p) * width();
        return left >= width() ? VL<T> : int((left - 1) % VL<T>) + 1;
    }
    ptrdiff_t stride() const { return K * NV * VL<T>; }
    T* panel(int p) const { return data + (p - first) * stride(); }
};

// Where a product's columns go, and what the accumulators start from.
template <class T>
struct Columns {
    ptrdiff_t section[kMaxNV];  // gates: offset of gate v in a row of C; plain: unused
    const T* bias;              // packed like a panel's row, one for each panel; or null for zeros
    unsigned from_c;            // bit v: vector v starts from C, not from bias
    bool masked;                // the last vector of C may be partial memory (plain only)
};

// K as seen in a row of A: `count` segments of `length`, segment s starting at offset[s]
struct Segments {
    int count;
    ptrdiff_t length;
    ptrdiff_t offset[kMostGates];
};

// One product of a sum of products: rows of A by pointers, against panels of B.
template <class T>
struct Factors {
    const T* const* a;
    Segments k;
    const Packed<T>* B;
};

// C rows · panels p0 … p1-1: c[r][cols] = start + Σ a[r][:]·B over `count` products, at most three, whose B have panels alike.
// `c` and every `a` point to m row pointers.
template <class T>
void gemm_panels(const Factors<T>* factors, int count, T* const* c, int m, int p0, int p1, const Columns<T>& cols) noexcept;

template <class T>
FR_INLINE void gemm_panels(const T* const* a, T* const* c, int m, const Segments& k, const Packed<T>& B, int p0, int p1,
                           const Columns<T>& cols) {
    const Factors<T> one{a, k, &B};
    gemm_panels(&one, 1, c, m, p0, p1, cols);
}

// How many panels one call of gemm_panels should get so that its epilogue finds them in L1, yet few rows keep enough
// accumulators busy.
template <class T>
int panels_at_once(int m, int NV);

// The outer products behind every weight gradient: C[first + i][j] += Σ_r a[r][column + i]·b[r][j] for i0 ≤ i < i1, for every
// section of columns of a, and every part that wants it. Rows are added in the order given. The parts, such as dGᵀ·x and
// dGᵀ·h, share what is packed of a.
constexpr int kMaxSections = 2 * kMostGates, kMaxParts = 3;
template <class T>
struct OuterPart {
    const T* const* b;  // [rows] pointers, N contiguous columns each
    ptrdiff_t N;
    T* C;
    ptrdiff_t ldc;
    ptrdiff_t first[kMaxSections];  // row of C where a section begins; negative: not in this part
};
template <class T>
struct OuterProduct {
    const T* const* a;  // [rows] pointers
    ptrdiff_t rows;
    ptrdiff_t i0, i1;  // of each section
    int sections;
    ptrdiff_t column[kMaxSections];
    int parts;
    OuterPart<T> part[kMaxParts];
};
constexpr ptrdiff_t kOuterBlock = 768;    // most rows at a time: a panel of B (192 KiB) stays in L2
constexpr ptrdiff_t kOuterColumns = 126;  // and most columns of a, which stay there while all panels pass
template <class T>
ptrdiff_t outer_scratch(ptrdiff_t rows, ptrdiff_t N) {  // elements; N: columns of all parts, each rounded up to whole panels
    return (rows < kOuterBlock ? rows : kOuterBlock) * (kOuterColumns + 16 + N) + 64;
}
template <class T>
void outer_product(const OuterProduct<T>& op, T* scratch) noexcept;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
