// cell_rnn.h: the simple recurrent network (Elman 1990).
//
//   h = φ(x·Wᵀ + b_w + h₋₁·Rᵀ + b_r)        φ: tanh, relu or sigmoid
//
// Backward needs h alone, which is y; the one section of `gates` holds z on the way forward and dz on the way back.
#pragma once
#include "sequence.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// φ and its gradient for each value of enum Cell
template <int kCell, class T, class V>
FR_INLINE V phi(V z) {
    if (kCell == kRnnTanh) return tanh<T>(z);
    if (kCell == kRnnSigmoid) return sigmoid<T>(z);
    return max(zero<T>(), z);  // NaN comes through
}
template <int kCell, class T, class V>
FR_INLINE V phi_gradient(V h) {  // from h = φ(z); 0 at relu's kink
    V one = broadcast(T(1));
    if (kCell == kRnnTanh) return fnma(h, h, one);
    if (kCell == kRnnSigmoid) return h * (one - h);
    return h > zero<T>() ? one : h - h;  // 0, or NaN from NaN
}

struct Rnn {
    static constexpr int G = 1, kFirst = 1, kSections = 1;
    static constexpr int kSectionX[] = {0}, kSectionR[] = {0};
    static constexpr bool kSecond = false, kHasC = false, kCarries = false;

    template <class T>
    static T* state_gradient(const Step<T>& st, int i) {
        return st.ds.dh + i * st.p.wide;
    }

    template <int kCell, class T>
    static void forward_units(const Step<T>& st, ptrdiff_t u0, ptrdiff_t u1) {
        for (int r = 0; r < st.m; ++r)
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                auto h = phi<kCell, T>(load(st.ts.gates[r] + u));
                lanes == VL<T> ? store(st.ts.h[r] + u, h) : store_n(st.ts.h[r] + u, h, lanes);
            });
    }
    template <class T>
    static void forward(Step<T>& st) {
        const Columns<T> cols{{}, nullptr, ~0u, false};
        recurrent_then(st, cols, [&](ptrdiff_t u0, ptrdiff_t u1) {
            if (st.q.cell == kRnnTanh) return forward_units<kRnnTanh>(st, u0, u1);
            if (st.q.cell == kRnnRelu) return forward_units<kRnnRelu>(st, u0, u1);
            forward_units<kRnnSigmoid>(st, u0, u1);
        });
    }

    template <int kCell, class T>
    static void backward_units(const Step<T>& st, ptrdiff_t u0, ptrdiff_t u1) {
        for (int r = 0; r < st.m; ++r)
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                auto dh = load(st.ts.dh[r] + u);
                if (st.d.dy) dh = dh + load_n(st.ts.dy[r] + u, lanes);
                auto h = load_n(st.ts.h[r] + u, lanes);
                store(st.ts.gates[r] + u, dh * phi_gradient<kCell, T>(h));  // h = φ(z)
            });
    }
    template <class T>
    static void backward(Step<T>& st) {
        const Columns<T> cols{{}, nullptr, 0u, false};
        gemm_then(st, (const T* const*)st.ts.next_gates, st.ts.dh, st.m_next, Segments{1, st.q.H, {0}}, st.R, cols,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      if (st.q.cell == kRnnTanh) return backward_units<kRnnTanh>(st, u0, u1);
                      if (st.q.cell == kRnnRelu) return backward_units<kRnnRelu>(st, u0, u1);
                      backward_units<kRnnSigmoid>(st, u0, u1);
                  });
    }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
