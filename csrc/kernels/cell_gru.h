// cell_gru.h: gated recurrent unit (Cho et al. 2014), reset gate after or before the recurrent product.
//
//   r, z = σ(x·W_rᵀ + b_wr + h₋₁·R_rᵀ + b_rr), σ(… z …)
//   after:   n = tanh(x·W_nᵀ + b_wn + r ⊙ (h₋₁·R_nᵀ + b_rn))
//   before:  n = tanh(x·W_nᵀ + b_wn + (r ⊙ h₋₁)·R_nᵀ + b_rn)
//   h = (1 − z) ⊙ n + z ⊙ h₋₁
//
// Sections of `gates`: 0 r, 1 z, 2 the product inside n's reset (after: h₋₁·R_nᵀ + b_rn; before: r ⊙ h₋₁), 3 n; on the way
// back dz of each, section 2 holding (after) the gradient at the product, (before) r ⊙ h₋₁ still.
#pragma once
#include "sequence.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
FR_INLINE T* carried_gradient(const Step<T>& st, int i) {
    return st.ds.dh + i * st.p.wide;
}

struct GruAfter {
    static constexpr int G = 3, kFirst = 3, kSections = 4;
    static constexpr int kSectionX[] = {0, 1, 3}, kSectionR[] = {0, 1, 2};
    static constexpr bool kSecond = false, kHasC = false, kCarries = true;

    template <class T>
    static T* state_gradient(const Step<T>& st, int i) {
        return carried_gradient(st, i);
    }

    template <class T>
    static void forward(Step<T>& st) {
        const ptrdiff_t Hp = st.p.Hp;
        const Columns<T> cols{{0, Hp, 2 * Hp}, st.ds.bias_r, 3u, false};  // r, z go on from x·W; the product from b_rn
        gemm_then(st, st.ts.h_prev, st.ts.gates, st.m, Segments{1, st.q.P, {0}}, st.R, cols, [&](ptrdiff_t u0, ptrdiff_t u1) {
            for (int row = 0; row < st.m; ++row)
                each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                    T* a = st.ts.gates[row] + u;
                    auto r = sigmoid<T>(load(a));
                    auto z = sigmoid<T>(load(a + Hp));
                    auto n = tanh<T>(fma(r, load(a + 2 * Hp), load(a + 3 * Hp)));
                    auto h_prev = load_n(st.ts.h_prev[row] + u, lanes);
                    auto h = fma(z, h_prev - n, n);
                    if (!st.turns) {  // backward will read them
                        store(a, r);
                        store(a + Hp, z);
                        store(a + 3 * Hp, n);
                    }
                    lanes == VL<T> ? store(st.ts.h[row] + u, h) : store_n(st.ts.h[row] + u, h, lanes);
                });
        });
    }

    template <class T>
    static void backward(Step<T>& st) {
        const ptrdiff_t Hp = st.p.Hp;
        const Columns<T> add{{}, nullptr, ~0u, false};
        gemm_then(st, (const T* const*)st.ts.next_gates, st.ts.dh, st.m_next, gate_segments(st.p, kSectionR, 3), st.R, add,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      for (int row = 0; row < st.m; ++row)
                          each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                              T* a = st.ts.gates[row] + u;
                              auto one = broadcast(T(1));
                              auto r = load(a), z = load(a + Hp), product = load(a + 2 * Hp), n = load(a + 3 * Hp);
                              auto dh = load(st.ts.dh[row] + u);
                              if (st.d.dy) dh = dh + load_n(st.ts.dy[row] + u, lanes);
                              auto dn = dh * (one - z) * fnma(n, n, one);  // h = (1 − z) ⊙ n + …, n = tanh(z_n)
                              auto dz = dh * (load_n(st.ts.h_prev[row] + u, lanes) - n);
                              store(st.ts.dh[row] + u, dh * z);        // … + z ⊙ h₋₁
                              store(a, dn * product * r * (one - r));  // r = σ(z_r)
                              store(a + Hp, dz * z * (one - z));       // z = σ(z_z)
                              store(a + 2 * Hp, dn * r);               // r ⊙ product
                              store(a + 3 * Hp, dn);
                          });
                  });
    }
};

struct GruBefore {
    static constexpr int G = 3, kFirst = 2, kSections = 4;
    static constexpr int kSectionX[] = {0, 1, 3}, kSectionR[] = {0, 1, 3};
    static constexpr bool kSecond = true, kHasC = false, kCarries = true;

    template <class T>
    static T* state_gradient(const Step<T>& st, int i) {
        return carried_gradient(st, i);
    }

    template <class T>
    static void forward(Step<T>& st) {
        const ptrdiff_t Hp = st.p.Hp;
        const Columns<T> cols{{0, Hp}, nullptr, ~0u, false};
        gemm_then(st, st.ts.h_prev, st.ts.gates, st.m, Segments{1, st.q.P, {0}}, st.R, cols, [&](ptrdiff_t u0, ptrdiff_t u1) {
            for (int row = 0; row < st.m; ++row)
                each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                    T* a = st.ts.gates[row] + u;
                    auto r = sigmoid<T>(load(a));
                    store(a, r);
                    store(a + Hp, sigmoid<T>(load(a + Hp)));
                    store(a + 2 * Hp, r * load_n(st.ts.h_prev[row] + u, lanes));
                });
        });
        st.wait();  // every slice's r ⊙ h₋₁
        // n in section 3 goes on from x·W + b; a row of C starts there, so that plain columns fall into place
        for (int row = 0; row < st.m; ++row) st.ts.dh[row] = st.ts.gates[row] + 3 * Hp;
        const Columns<T> add{{}, nullptr, ~0u, false};
        gemm_then(st, (const T* const*)st.ts.gates, st.ts.dh, st.m, Segments{1, st.q.H, {2 * Hp}}, st.R2, add,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      for (int row = 0; row < st.m; ++row)
                          each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                              T* a = st.ts.gates[row] + u;
                              auto n = tanh<T>(load(a + 3 * Hp));
                              auto h = fma(load(a + Hp), load_n(st.ts.h_prev[row] + u, lanes) - n, n);
                              store(a + 3 * Hp, n);
                              lanes == VL<T> ? store(st.ts.h[row] + u, h) : store_n(st.ts.h[row] + u, h, lanes);
                          });
                  });
    }

    template <class T>
    static void backward(Step<T>& st) {
        const ptrdiff_t Hp = st.p.Hp;
        const Columns<T> add{{}, nullptr, ~0u, false}, fresh{{}, nullptr, 0u, false};
        gemm_then(st, (const T* const*)st.ts.next_gates, st.ts.dh, st.m_next, gate_segments(st.p, kSectionR, 2), st.R, add,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      for (int row = 0; row < st.m; ++row)
                          each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                              T* a = st.ts.gates[row] + u;
                              auto one = broadcast(T(1));
                              auto z = load(a + Hp), n = load(a + 3 * Hp);
                              auto dh = load(st.ts.dh[row] + u);
                              if (st.d.dy) dh = dh + load_n(st.ts.dy[row] + u, lanes);
                              auto dz = dh * (load_n(st.ts.h_prev[row] + u, lanes) - n);
                              store(st.ts.dh[row] + u, dh * z);                     // … + z ⊙ h₋₁
                              store(a + Hp, dz * z * (one - z));                    // z = σ(z_z)
                              store(a + 3 * Hp, dh * (one - z) * fnma(n, n, one));  // (1 − z) ⊙ tanh(z_n)
                          });
                  });
        st.wait();  // every slice's dz_n
        // gradient at r ⊙ h₋₁, then r: tile by tile through the row's scratch
        for (int row = 0; row < st.m; ++row) st.ts.hidden[row] = st.ds.dc + st.row(row) * st.p.wide;
        gemm_then(st, (const T* const*)st.ts.gates, st.ts.hidden, st.m, Segments{1, st.q.H, {3 * Hp}}, st.R2, fresh,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      for (int row = 0; row < st.m; ++row)
                          each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                              T* a = st.ts.gates[row] + u;
                              auto one = broadcast(T(1));
                              auto r = load(a), d = load(st.ts.hidden[row] + u);
                              auto h_prev = load_n(st.ts.h_prev[row] + u, lanes);
                              store(st.ts.dh[row] + u, fma(d, r, load(st.ts.dh[row] + u)));  // r ⊙ h₋₁
                              store(a, d * h_prev * r * (one - r));                          // r = σ(z_r)
                          });
                  });
    }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
