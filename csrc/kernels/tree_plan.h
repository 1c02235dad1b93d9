// tree_plan.h: what the networks of tree.cpp share: packed weights, rows of a level, the children of a node.
#pragma once
#include "../fastrnn.h"
#include "../tree.h"
#include "ops_vectors.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr int kBlock = 48;  // rows at a time: they and the panels that pass stay in L2

// A block of U as B of a product: columns or rows of it, packed in even panels.
template <class T>
Packed<T> panels_of(ptrdiff_t K, ptrdiff_t N) {
    const ptrdiff_t vectors = (N + VL<T> - 1) / VL<T>, panels = (vectors + kMaxNV - 1) / kMaxNV;
    return {nullptr, K, N, int((vectors + panels - 1) / panels), false};
}
template <class T>
ptrdiff_t packed_size(const Packed<T>& B) {
    return round_up(B.panels() * B.stride(), 64 / sizeof(T));
}

constexpr int kMaxArity = 16;

// The weights in panels, and where rows are.
template <class T>
struct TreePlan {
    const TreeCall& q;
    const T* U;
    ptrdiff_t ld;                // of U
    bool gated, sum;             // an LSTM; the children's h are added up
    ptrdiff_t width;             // of what is gathered: A·H
    ptrdiff_t f_width;           // columns of a product that gives forget gates: of a slot, or of all slots of a node
    Packed<T> first, second, f;  // forward: z (or its i), its g and o, forget gates
    Packed<T> down[kMaxArity];   // backward: from z's i g o to the child in a slot
    Packed<T> down_f[kMaxArity];
    T* sums;       // child-sum, backward: [N - L, H] the gradient at h̃
    size_t bytes;  // of the workspace

    TreePlan(const TreeCall& call, bool backward);
    void pack(bool backward) const;
    T* row(void* base, ptrdiff_t n, ptrdiff_t columns) const { return static_cast<T*>(base) + n * columns; }
    T* h(ptrdiff_t n) const { return row(q.h, n, q.H); }
    T* c(ptrdiff_t n) const { return row(q.c, n, q.H); }
    T* z(ptrdiff_t n) const { return row(q.z, n, 4 * q.H); }
    T* f_row(ptrdiff_t e) const { return row(q.f, e, q.H); }
    T* hc(ptrdiff_t n) const { return row(q.hc, n - q.L, width); }
    T* dh(ptrdiff_t n) const { return row(q.dh, n, q.H); }
    T* dc(ptrdiff_t n) const { return row(q.dc, n, q.H); }
    T* dz(ptrdiff_t n) const { return row(q.z, n - q.L, q.H); }  // without gates
    ptrdiff_t slot(ptrdiff_t n) const { return q.first[n - q.L]; }
};

template <class T>
TreePlan<T>::TreePlan(const TreeCall& call, bool backward) : q(call), sums(nullptr) {
    const ptrdiff_t H = q.H;
    gated = q.cell >= kTreeChildSum;
    sum = q.cell == kTreeChildSum;
    U = static_cast<const T*>(q.U);
    width = ld = q.A * H;
    f_width = sum ? H : q.A * H;
    ptrdiff_t at = 0;
    auto take = [&](ptrdiff_t n) {  // without a workspace it only measures
        T* const found = q.workspace ? static_cast<T*>(q.workspace) + at : nullptr;
        at += n;
        return found;
    };
    auto place = [&](Packed<T>& B, ptrdiff_t K, ptrdiff_t N) {
        B = panels_of<T>(K, N);
        B.data = take(packed_size(B));
    };
    if (!backward) {
        place(first, width, H);
        if (gated) place(second, width, 2 * H);
        if (gated) place(f, width, f_width);
    } else {
        for (ptrdiff_t k = 0; k < q.A; ++k) {
            place(down[k], gated ? 3 * H : H, H);
            if (gated) place(down_f[k], f_width, H);
        }
        if (sum) sums = take((q.N - q.L) * H);
    }
    bytes = size_t(at) * sizeof(T);
}

template <class T>
void TreePlan<T>::pack(bool backward) const {
    const ptrdiff_t H = q.H;
    // U's rows from `r` on as columns: z = hc·Uᵀ
    auto forward_rows = [&](const Packed<T>& B, ptrdiff_t r) { pack_plain(B, U + r * ld, ptrdiff_t(1), ld, 0, B.panels()); };
    // rows from r on, `count` of them, of U's columns k·H … as rows of B, from its row `to` on: dh_k = dz·U_k
    auto backward_rows = [&](const Packed<T>& B, ptrdiff_t to, ptrdiff_t r, ptrdiff_t count, ptrdiff_t k) {
        for (int p = 0; p < B.panels(); ++p) {
            const int nv = B.vectors(p);
            for (int v = 0; v < nv; ++v)
                pack_vector(B.panel(p) + (to * nv + v) * VL<T>, nv * VL<T>, U + r * ld + k * H + p * B.width() + v * VL<T>,
                            count, ld, ptrdiff_t(1), v == nv - 1 ? B.tail(p) : VL<T>);
        }
    };
    if (!backward) {
        forward_rows(first, 0);
        if (!gated) return;
        forward_rows(f, H);
        forward_rows(second, H + f_width);
        return;
    }
    for (ptrdiff_t k = 0; k < q.A; ++k) {
        backward_rows(down[k], 0, 0, H, k);
        if (!gated) continue;
        backward_rows(down[k], H, H + f_width, 2 * H, k);
        backward_rows(down_f[k], 0, H, f_width, k);
    }
}

// Rows of a product: pointers to rows of A and C, as many as there are.
template <class T>
struct Rows {
    const T* a[kBlock];
    const T* b[kBlock];
    T* c[kBlock];
    int n = 0;
};

template <class T>
void multiply(const Rows<T>& rows, ptrdiff_t column, const Packed<T>& B) {
    T* c[kBlock];
    for (int r = 0; r < rows.n; ++r) c[r] = rows.c[r] + column;
    const Columns<T> cols{{}, nullptr, ~0u, true};
    gemm_panels((const T* const*)rows.a, (T* const*)c, rows.n, Segments{1, B.K, {0}}, B, 0, B.panels(), cols);
}

// body(first, last) for shares of the rows n0 … n1-1, in blocks
template <class Body>
void level_rows(ptrdiff_t n0, ptrdiff_t n1, double ns, int threads, const Body& body) {
    parallel(n1 - n0, ns, threads, [&](ptrdiff_t first, ptrdiff_t last) {
        for (ptrdiff_t n = n0 + first; n < n0 + last; n += kBlock) body(n, least(n + kBlock, n0 + last));
    });
}

template <class T>
void gather(const TreePlan<T>& p, ptrdiff_t n) {
    const TreeCall& q = p.q;
    T* out = p.hc(n);
    const ptrdiff_t e0 = p.slot(n), e1 = p.slot(n + 1), H = q.H;
    if (!p.sum) {
        for (ptrdiff_t e = e0; e < e1; ++e, out += H) {
            if (q.child[e] < 0)
                std::memset(out, 0, size_t(H) * sizeof(T));
            else
                std::memcpy(out, p.h(q.child[e]), size_t(H) * sizeof(T));
        }
        return;
    }
    std::memcpy(out, p.h(q.child[e0]), size_t(H) * sizeof(T));
    for (ptrdiff_t e = e0 + 1; e < e1; ++e) {
        const T* h = p.h(q.child[e]);
        vectors<T>(0, H, [=](auto at) { at.put(out, at.get(out) + at.get(h)); });
    }
}

// body(rows) for the slots of the nodes n0 … n1-1, a block at a time; `fill(rows, n, e)` enters one
template <class T, class Fill, class Body>
void slots(const TreePlan<T>& p, ptrdiff_t n0, ptrdiff_t n1, const Fill& fill, const Body& body) {
    Rows<T> rows;
    for (ptrdiff_t n = n0; n < n1; ++n)
        for (ptrdiff_t e = p.slot(n); e < p.slot(n + 1); ++e) {
            fill(rows, n, e);
            if (++rows.n == kBlock) {
                body(rows);
                rows.n = 0;
            }
        }
    body(rows);
}

}  // namespace
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
