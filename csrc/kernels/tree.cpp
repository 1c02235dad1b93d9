// tree.cpp: recursive networks over trees (tree.h), forward beside backward.
//
// A recursive network (Socher et al. 2011):
//
//   h = φ(Σ_k W_k·h_k + b)                          h_k: the children's; the leaves' are given
//
// Tree-LSTM (Tai et al. 2015). Child-sum, with h̃ = Σ_k h_k:       N-ary:
//
//   i, o = σ(z_i), σ(z_o);  g = tanh(z_g)
//   z  = W·x + b + U·h̃                              z   = W·x + b + Σ_l U_l·h_l             for i, g, o
//   f_k = σ(W_f·x + b_f + U_f·h_k)                  f_k = σ(W_f·x + b_f + Σ_l U_fkl·h_l)
//   c = i ⊙ g + Σ_k f_k ⊙ c_k
//   h = o ⊙ tanh(c)
//
// The weights are packed once a call. A level is one parallel region: a thread takes some of its rows from the gathering of
// the children through the products to the gates. Every node has one parent, so backward writes each row once.
#include "tree_plan.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// ---- without gates

template <class T>
FR_INLINE typename Simd<T>::V phi(int cell, typename Simd<T>::V v) {
    return cell == kTreeTanh ? tanh<T>(v) : cell == kTreeRelu ? max(zero<T>(), v) : sigmoid<T>(v);
}
template <class T>  // φ' from h = φ(z)
FR_INLINE typename Simd<T>::V phi_backward(int cell, typename Simd<T>::V h, typename Simd<T>::V dh) {
    const auto one = broadcast(T(1));
    if (cell == kTreeTanh) return dh * fnma(h, h, one);
    if (cell == kTreeSigmoid) return dh * h * (one - h);
    typename Simd<T>::V other = h <= zero<T>() ? zero<T>() : h;  // NaN stays
    return h > zero<T>() ? dh : other;
}

template <class T>
void plain_forward(const TreePlan<T>& p, ptrdiff_t n0, ptrdiff_t n1) {
    const TreeCall& q = p.q;
    const T* bias = static_cast<const T*>(q.bias);
    const int cell = q.cell;
    Rows<T> rows;
    for (ptrdiff_t n = n0; n < n1; ++n) {
        gather(p, n);
        T* h = p.h(n);
        for (ptrdiff_t u = 0; u < q.H; ++u) h[u] = bias ? bias[u] : T(0);
        rows.a[rows.n] = p.hc(n);
        rows.c[rows.n++] = h;
    }
    multiply(rows, 0, p.first);
    for (ptrdiff_t n = n0; n < n1; ++n) {
        T* h = p.h(n);
        vectors<T>(0, q.H, [=](auto at) { at.put(h, phi<T>(cell, at.get(h))); });
    }
}

template <class T>
void plain_backward(const TreePlan<T>& p, ptrdiff_t n0, ptrdiff_t n1) {
    const TreeCall& q = p.q;
    const int cell = q.cell;
    for (ptrdiff_t n = n0; n < n1; ++n) {
        const T *h = p.h(n), *dh = p.dh(n);
        T* dz = p.dz(n);
        vectors<T>(0, q.H, [=](auto at) { at.put(dz, phi_backward<T>(cell, at.get(h), at.get(dh))); });  // h = φ(z)
    }
    for (ptrdiff_t k = 0; k < q.A; ++k) {  // z += W_k·h_k
        Rows<T> rows;
        for (ptrdiff_t n = n0; n < n1; ++n) {
            rows.a[rows.n] = p.dz(n);
            rows.c[rows.n++] = p.dh(q.child[p.slot(n) + k]);
        }
        multiply(rows, 0, p.down[k]);
    }
}

// ---- Tree-LSTM

// Gates and states of a node whose z and f are summed up.
template <class T>
void cell_forward(const TreePlan<T>& p, ptrdiff_t n) {
    const TreeCall& q = p.q;
    const ptrdiff_t H = q.H;
    T *z = p.z(n), *c = p.c(n), *h = p.h(n);
    vectors<T>(0, H, [=](auto at) {
        auto i = sigmoid<T>(at.get(z)), g = tanh<T>(at.get(z + 2 * H));
        at.put(z, i);
        at.put(z + 2 * H, g);
        at.put(c, i * g);
    });
    if (n >= q.L)
        for (ptrdiff_t e = p.slot(n); e < p.slot(n + 1); ++e) {
            if (q.child[e] < 0) continue;
            T* f = p.f_row(e);
            const T* below = p.c(q.child[e]);
            vectors<T>(0, H, [=](auto at) {
                auto v = sigmoid<T>(at.get(f));
                at.put(f, v);
                at.put(c, fma(v, at.get(below), at.get(c)));
            });
        }
    vectors<T>(0, H, [=](auto at) {
        auto o = sigmoid<T>(at.get(z + 3 * H));
        at.put(z + 3 * H, o);
        at.put(h, o * tanh<T>(at.get(c)));
    });
}

// dh and dc → dz and df in place of the gates, and dc of the children.
template <class T>
void cell_backward(const TreePlan<T>& p, ptrdiff_t n) {
    const TreeCall& q = p.q;
    const ptrdiff_t H = q.H;
    T *z = p.z(n), *dc = p.dc(n);
    const T *c = p.c(n), *dh = p.dh(n);
    const auto one = broadcast(T(1));
    vectors<T>(0, H, [=](auto at) {
        auto i = at.get(z), g = at.get(z + 2 * H), o = at.get(z + 3 * H), tanh_c = tanh<T>(at.get(c)), d = at.get(dh);
        auto total = fma(d * o, fnma(tanh_c, tanh_c, one), at.get(dc));  // h = o ⊙ tanh(c)
        at.put(dc, total);
        at.put(z + 3 * H, d * tanh_c * o * (one - o));
        at.put(z, total * g * i * (one - i));            // c = i ⊙ g + Σ f ⊙ c_k; i = σ(z_i)
        at.put(z + 2 * H, total * i * fnma(g, g, one));  // g = tanh(z_g)
        at.put(z + H, zero<T>());
    });
    if (n < q.L) return;
    for (ptrdiff_t e = p.slot(n); e < p.slot(n + 1); ++e) {
        T* f = p.f_row(e);
        if (q.child[e] < 0) {
            std::memset(f, 0, size_t(H) * sizeof(T));
            continue;
        }
        const T* below = p.c(q.child[e]);
        T* dbelow = p.dc(q.child[e]);
        vectors<T>(0, H, [=](auto at) {
            auto v = at.get(f), d = at.get(dc), df = d * at.get(below) * v * (one - v);  // f = σ(·)
            at.put(dbelow, d * v);                                                       // c += f ⊙ c_k
            at.put(f, df);
            at.put(z + H, at.get(z + H) + df);  // every child's f has W_f·x + b_f
        });
    }
}

template <class T>
void gated_forward(const TreePlan<T>& p, ptrdiff_t n0, ptrdiff_t n1) {
    const TreeCall& q = p.q;
    const ptrdiff_t H = q.H;
    const size_t row = size_t(H) * sizeof(T);
    if (n0 >= q.L) {
        Rows<T> rows;
        for (ptrdiff_t n = n0; n < n1; ++n) {
            gather(p, n);
            for (ptrdiff_t e = p.slot(n); e < p.slot(n + 1); ++e) std::memcpy(p.f_row(e), p.z(n) + H, row);
            rows.a[rows.n] = p.hc(n);
            rows.c[rows.n++] = p.z(n);
        }
        multiply(rows, 0, p.first);
        multiply(rows, 2 * H, p.second);
        if (p.sum) {
            slots<T>(
                p, n0, n1,
                [&](Rows<T>& r, ptrdiff_t, ptrdiff_t e) {
                    r.a[r.n] = p.h(q.child[e]);
                    r.c[r.n] = p.f_row(e);
                },
                [&](const Rows<T>& r) { multiply(r, 0, p.f); });
        } else {
            for (int r = 0; r < rows.n; ++r) rows.c[r] = p.f_row(p.slot(n0 + r));
            multiply(rows, 0, p.f);
        }
    }
    for (ptrdiff_t n = n0; n < n1; ++n) cell_forward(p, n);
}

template <class T>
void gated_backward(const TreePlan<T>& p, ptrdiff_t n0, ptrdiff_t n1) {
    const TreeCall& q = p.q;
    const ptrdiff_t H = q.H;
    for (ptrdiff_t n = n0; n < n1; ++n) cell_backward(p, n);
    if (n0 < q.L) return;
    const Segments gates{3, H, {0, 2 * H, 3 * H}};  // i g o
    Columns<T> cols{{}, nullptr, 0u, true};
    if (p.sum) {
        Rows<T> rows;
        for (ptrdiff_t n = n0; n < n1; ++n) {
            rows.a[rows.n] = p.z(n);
            rows.c[rows.n++] = p.row(p.sums, n - q.L, H);
        }
        const Packed<T>& B = p.down[0];
        gemm_panels((const T* const*)rows.a, (T* const*)rows.c, rows.n, gates, B, 0, B.panels(), cols);  // z += U·h̃
        slots<T>(
            p, n0, n1,
            [&](Rows<T>& r, ptrdiff_t n, ptrdiff_t e) {
                T* dh = p.dh(q.child[e]);
                const T* from = p.row(p.sums, n - q.L, H);  // h̃ = Σ h_k
                vectors<T>(0, H, [=](auto at) { at.put(dh, at.get(dh) + at.get(from)); });
                r.a[r.n] = p.f_row(e);
                r.c[r.n] = dh;
            },
            [&](const Rows<T>& r) { multiply(r, 0, p.down_f[0]); });  // z_fk += U_f·h_k
        return;
    }
    cols.from_c = ~0u;
    for (ptrdiff_t k = 0; k < q.A; ++k) {  // z += U_k·h_k, z_fl += U_flk·h_k for every l
        Rows<T> rows;
        for (ptrdiff_t n = n0; n < n1; ++n) {
            const ptrdiff_t e = p.slot(n);
            if (q.child[e + k] < 0) continue;
            rows.a[rows.n] = p.z(n);
            rows.b[rows.n] = p.f_row(e);
            rows.c[rows.n++] = p.dh(q.child[e + k]);
        }
        const Packed<T>&B = p.down[k], &F = p.down_f[k];
        const Factors<T> both[2] = {{rows.a, gates, &B}, {rows.b, Segments{1, p.f_width, {0}}, &F}};
        gemm_panels(both, 2, (T* const*)rows.c, rows.n, 0, B.panels(), cols);
    }
}

// ---- the schedule

template <class T>
double nanoseconds(const TreePlan<T>& p, bool leaves) {  // of a row, roughly
    const double H = double(p.q.H), products = leaves ? 0 : H * double(p.width) * (p.gated ? 3 + double(p.q.A) : 1);
    return products * double(sizeof(T)) / 200 + H * (p.gated ? 2 : 0.5);
}

template <class T>
void tree_forward(const TreeCall& q) {
    const TreePlan<T> p(q, false);
    p.pack(false);
    for (ptrdiff_t l = p.gated ? 0 : 1; l < q.levels; ++l)
        level_rows(q.level[l], q.level[l + 1], nanoseconds(p, l == 0), q.threads,
                   [&](ptrdiff_t n0, ptrdiff_t n1) { p.gated ? gated_forward(p, n0, n1) : plain_forward(p, n0, n1); });
}

template <class T>
void tree_backward(const TreeCall& q) {
    const TreePlan<T> p(q, true);
    p.pack(true);
    if (p.gated) std::memset(q.dc, 0, size_t(q.N * q.H) * sizeof(T));  // the roots'; the others' is written by the parent
    for (ptrdiff_t l = q.levels; l-- > (p.gated ? 0 : 1);)
        level_rows(q.level[l], q.level[l + 1], 1.5 * nanoseconds(p, l == 0), q.threads,
                   [&](ptrdiff_t n0, ptrdiff_t n1) { p.gated ? gated_backward(p, n0, n1) : plain_backward(p, n0, n1); });
}

size_t tree_workspace(const TreeCall* q) {
    auto both = [&](auto zero) {
        using T = decltype(zero);
        const size_t a = TreePlan<T>(*q, false).bytes, b = TreePlan<T>(*q, true).bytes;
        return a > b ? a : b;
    };
    return q->dtype == kFloat32 ? both(0.0f) : both(0.0);
}

void forward(const TreeCall* q) { q->dtype == kFloat32 ? tree_forward<float>(*q) : tree_forward<double>(*q); }
void backward(const TreeCall* q) { q->dtype == kFloat32 ? tree_backward<float>(*q) : tree_backward<double>(*q); }

}  // namespace

extern const TreeKernels tree_table;
const TreeKernels tree_table = {tree_workspace, forward, backward};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
