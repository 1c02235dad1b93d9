// cell_lstm.h: long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000), PyTorch's equations.
//
//   i, f, o = σ(z_i), σ(z_f), σ(z_o)      z = x·Wᵀ + b_w + h₋₁·Rᵀ + b_r
//   g = tanh(z_g)
//   c = f ⊙ c₋₁ + i ⊙ g
//   h = o ⊙ tanh(c)                        with a projection (Sak et al. 2014): h = (o ⊙ tanh(c))·Mᵀ
//
// `gates` holds z, then the activated gates, and on the way back dz; tanh(c) is computed again.
#pragma once
#include "sequence.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <bool kProjection>
struct Lstm {
    static constexpr int G = 4, kFirst = 4, kSections = 4;
    static constexpr int kSectionX[] = {0, 1, 2, 3}, kSectionR[] = {0, 1, 2, 3};
    static constexpr bool kSecond = kProjection, kHasC = true, kCarries = false;

    // with a projection the gradient at h of the whole chunk is kept: dM needs it
    template <class T>
    static T* state_gradient(const Step<T>& st, int i) {
        if (!kProjection) return st.ds.dh + i * st.p.wide;
        return st.ds.dhs[st.chunk & 1] + (st.p.offset[st.s] - st.p.offset[st.s0] + i) * st.p.Pp;
    }

    template <class T>
    static void forward(Step<T>& st) {
        const ptrdiff_t Hp = st.p.Hp;
        const Columns<T> cols{{0, Hp, 2 * Hp, 3 * Hp}, nullptr, ~0u, false};
        T** out = kProjection ? st.ts.hidden : st.ts.h;
        recurrent_then(st, cols, [&](ptrdiff_t u0, ptrdiff_t u1) {
            for (int r = 0; r < st.m; ++r)
                each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                    T* z = st.ts.gates[r] + u;
                    auto i = sigmoid<T>(load(z));
                    auto f = sigmoid<T>(load(z + Hp));
                    auto g = tanh<T>(load(z + 2 * Hp));
                    auto o = sigmoid<T>(load(z + 3 * Hp));
                    auto c = fma(f, load(st.ts.c_prev[r] + u), i * g);
                    auto h = o * tanh<T>(c);
                    if (!st.turns) {  // backward will read them
                        store(z, i);
                        store(z + Hp, f);
                        store(z + 2 * Hp, g);
                        store(z + 3 * Hp, o);
                    }
                    store(st.ts.cell[r] + u, c);
                    lanes == VL<T> ? store(out[r] + u, h) : store_n(out[r] + u, h, lanes);
                });
        });
        if (!kProjection) return;
        st.wait();  // every slice's part of o ⊙ tanh(c)
        const Columns<T> y{{}, nullptr, 0u, true};
        gemm_then(st, (const T* const*)st.ts.hidden, st.ts.h, st.m, Segments{1, st.q.H, {0}}, st.R2, y,
                  [](ptrdiff_t, ptrdiff_t) {});
    }

    // dh → dz in place of the gates, and dc of the step before, for units u0 … u1-1
    template <class T, class Dh>
    static FR_INLINE void gates_backward(Step<T>& st, ptrdiff_t u0, ptrdiff_t u1, Dh&& dh_at) {
        const ptrdiff_t Hp = st.p.Hp;
        for (int r = 0; r < st.m; ++r)
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                T* z = st.ts.gates[r] + u;
                auto one = broadcast(T(1));
                auto i = load(z), f = load(z + Hp), g = load(z + 2 * Hp), o = load(z + 3 * Hp);
                auto tanh_c = tanh<T>(load(st.ts.cell[r] + u));
                auto dh = dh_at(r, u, lanes);
                auto dc = fma(dh * o, fnma(tanh_c, tanh_c, one), load(st.ts.dc[r] + u));  // h = o ⊙ tanh(c)
                auto d_o = dh * tanh_c;
                auto di = dc * g, dg = dc * i, df = dc * load(st.ts.c_prev[r] + u);  // c = f ⊙ c₋₁ + i ⊙ g
                store(st.ts.dc[r] + u, dc * f);
                store(z, di * i * (one - i));             // i = σ(z_i)
                store(z + Hp, df * f * (one - f));        // f = σ(z_f)
                store(z + 2 * Hp, dg * fnma(g, g, one));  // g = tanh(z_g)
                store(z + 3 * Hp, d_o * o * (one - o));   // o = σ(z_o)
            });
    }

    template <class T>
    static void backward(Step<T>& st) {
        const Segments k = gate_segments(st.p, kSectionR, 4);
        const Columns<T> fresh{{}, nullptr, 0u, false};
        auto total = [&](T* dh, int r, ptrdiff_t u, int lanes) {  // what came back through time, and dy
            auto v = load(dh + u);
            return st.d.dy ? v + load_n(st.ts.dy[r] + u, lanes) : v;
        };
        if (!kProjection) {
            gemm_then(
                st, (const T* const*)st.ts.next_gates, st.ts.dh, st.m_next, k, st.R, fresh, [&](ptrdiff_t u0, ptrdiff_t u1) {
                    gates_backward(st, u0, u1, [&](int r, ptrdiff_t u, int lanes) { return total(st.ts.dh[r], r, u, lanes); });
                });
            return;
        }
        for (int r = 0; r < st.m; ++r) st.ts.hidden[r] = state_gradient(st, st.row(r));
        gemm_then(st, (const T* const*)st.ts.next_gates, st.ts.hidden, st.m_next, k, st.R, fresh,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      for (int r = 0; r < st.m; ++r)
                          each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                              store(st.ts.hidden[r] + u, total(st.ts.hidden[r], r, u, lanes));
                          });
                  });
        st.wait();  // every slice's part of dh
        gemm_then(st, (const T* const*)st.ts.hidden, st.ts.dh, st.m, Segments{1, st.q.P, {0}}, st.R2, fresh,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      gates_backward(st, u0, u1, [&](int r, ptrdiff_t u, int) { return load(st.ts.dh[r] + u); });
                  });
    }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
