// cell_given.h: a cell given by functions (cell.h), between the products of the schedule.
//
// The gradient at h of the step before always starts from what the cell itself passes on. With a projection the functions see
// h before it, in `hidden`; with layer norm they get whole rows (norm.h).
#pragma once
#include "norm.h"
#include "sequence.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct Given {
    template <class T>
    static T* state_gradient(const Step<T>& st, int i) {
        return st.ds.dh + i * st.p.wide;
    }
    template <class T>
    static T* scratch(const Step<T>& st, int r, int which) {  // row r, of this thread's slice
        return st.ds.extra + (ptrdiff_t(st.row(r)) * (st.p.states() + 2) + which) * st.p.wide;
    }
    template <class T>
    static Range whole_rows(const Step<T>& st) {
        return share(st.m, st.team.slice, st.team.slices);
    }

    // ---- forward

    // where h₋₁·R of gates from `first` on goes
    template <class T>
    static Columns<T> recurrent_columns(const Step<T>& st, int first) {
        const CellShape<T>& cell = st.p.cell;
        Columns<T> cols{{}, st.ds.bias_r + (first ? kMaxNV * st.p.Hp : 0), 0u, false};
        for (int g = first; g < cell.G && g < first + kMaxNV; ++g) {
            cols.section[g - first] = st.q.norm ? norm_section(st.p, kNormR, g) : cell.section_r[g] * st.p.Hp;
            if (!(cell.apart >> g & 1)) cols.from_c |= 1u << (g - first);
        }
        if (cell.plain) cols.from_c = ~0u;  // a panel holds several vectors of the one gate
        return cols;
    }

    // all sums of a step's first products, tile by tile, each followed by epilogue(u0, u1)
    template <class T, class Epilogue>
    static FR_INLINE void products(Step<T>& st, Epilogue&& epilogue) {
        if (st.p.cell.fusable && !st.q.norm) return recurrent_then(st, recurrent_columns(st, 0), epilogue);
        const Columns<T> low = recurrent_columns(st, 0), high = recurrent_columns(st, st.p.cell.G > kMaxNV ? kMaxNV : 0);
        const Segments k{1, st.q.P, {0}};
        gemm_then(st, st.ts.h_prev, st.ts.gates, st.m, k, st.R, low, [&](ptrdiff_t u0, ptrdiff_t u1) {
            if (st.p.cell.G > kMaxNV)
                gemm_panels(st.ts.h_prev, st.ts.gates, st.m, k, st.R_high, int(u0 / VL<T>), int((u1 + VL<T> - 1) / VL<T>),
                            high);
            epilogue(u0, u1);
        });
    }

    // h as others see it: after zoneout, in y, and as R sees it
    template <class T>
    static void finish(const Step<T>& st, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1, bool only_h, bool without_h) {
        const Plan<T>& p = st.p;
        for (int k = without_h; k < (only_h ? 1 : p.states()); ++k) {
            const Zone<T> zone(st, k);
            for (int r = zone.on ? r0 : r1; r < r1; ++r)
                each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int) {
                    const auto d = zone.keep(st, st.row(r), u), one = broadcast(T(1));
                    T* to = st.ts.after[k][r] + u;
                    store(to, fma(d, load(st.ts.before[k][r] + u), (one - d) * load(to)));
                });
        }
        if (without_h) return;
        for (int r = r0; r < r1; ++r) {
            const T* h = st.ts.after[0][r];
            const T* mask = p.cell.operand ? st.ds.mask + st.row(r) * p.wide : nullptr;
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                const auto v = load(h + u);
                lanes == VL<T> ? store(st.ts.h[r] + u, v) : store_n(st.ts.h[r] + u, v, lanes);
                if (mask) store(st.ts.cell[r] + p.cell.operand * p.wide + u, v * load(mask + u));
            });
        }
    }

    template <class T>
    static void call(CellFunction f, const Step<T>& st, bool backward, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
        if (r0 >= r1) return;
        const TileArgs<T> args(st, backward, r0, r1, u0, u1);
        f(&args.tile);
    }
    // f, then what comes with the new states
    template <class T>
    static void forward_tile(CellFunction f, const Step<T>& st, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
        call(f, st, false, r0, r1, u0, u1);
        finish(st, r0, r1, u0, u1, false, st.d.M != nullptr);
    }
    // the product that goes into the second stage, as R sees it
    template <class T>
    static void mask_product(const Step<T>& st, T* const* rows, ptrdiff_t at, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
        if (!st.ds.mask) return;
        for (int r = r0; r < r1; ++r)
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int) {
                store(rows[r] + at + u, load(rows[r] + at + u) * load(st.ds.mask + st.row(r) * st.p.wide + u));
            });
    }

    template <class T>
    static void forward(Step<T>& st) {
        const Plan<T>& p = st.p;
        const CellSpec& spec = *p.cell.spec;
        for (int r = 0; r < st.m; ++r)
            for (int k = 0; k < p.states(); ++k) {
                st.ts.before[k][r] = st.ts.c_prev[r] + k * p.wide;
                st.ts.after[k][r] = k == 0 && st.d.M ? st.ts.hidden[r] : st.ts.cell[r] + k * p.wide;
            }
        const Range own = whole_rows(st);
        const ptrdiff_t product = p.cell.product * p.Hp, H = st.q.H;
        auto first = [&](int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
            if (!p.cell.candidate) return forward_tile(spec.forward, st, r0, r1, u0, u1);
            call(spec.forward, st, false, r0, r1, u0, u1);
            mask_product(st, st.ts.gates, product, r0, r1, u0, u1);
        };
        if (!st.q.norm) {
            products(st, [&](ptrdiff_t u0, ptrdiff_t u1) { first(0, st.m, u0, u1); });
        } else {
            products(st, [](ptrdiff_t, ptrdiff_t) {});
            st.wait();
            norm_rows(st, own, norm_group(p, 0));
            // a second group whose product is no stage of its own
            if (!p.cell.candidate && st.q.norm < p.cell.G) norm_rows(st, own, norm_group(p, 1));
            first(own.first, own.last, 0, H);
        }
        if (p.cell.candidate) {
            st.wait();  // every slice's part of the product
            const int g = p.cell.G - 1;
            const ptrdiff_t at = st.q.norm ? norm_section(p, kNormR, g) : p.cell.section_x[g] * p.Hp;
            for (int r = 0; r < st.m; ++r) st.ts.dh[r] = st.ts.gates[r] + at;
            const Columns<T> cols{{}, nullptr, st.q.norm ? 0u : ~0u, false};
            gemm_then(st, (const T* const*)st.ts.gates, st.ts.dh, st.m, Segments{1, H, {product}}, st.R2, cols,
                      [&](ptrdiff_t u0, ptrdiff_t u1) {
                          if (!st.q.norm) forward_tile(spec.forward2, st, 0, st.m, u0, u1);
                      });
            if (!st.q.norm) return;
            st.wait();
            norm_rows(st, own, norm_group(p, 1));
            forward_tile(spec.forward2, st, own.first, own.last, 0, H);
        } else if (st.d.M) {
            st.wait();  // every slice's part of h before the projection
            for (int r = 0; r < st.m; ++r) st.ts.after[0][r] = st.ts.cell[r];
            const Columns<T> cols{{}, nullptr, 0u, false};
            gemm_then(st, (const T* const*)st.ts.hidden, st.ts.after[0], st.m, Segments{1, H, {0}}, st.R2, cols,
                      [&](ptrdiff_t u0, ptrdiff_t u1) { finish(st, 0, st.m, u0, u1, true, false); });
        }
    }

    // ---- backward

    // Zoneout's share of the gradients goes past the arithmetic: kept aside before it, added to what comes out.
    template <class T>
    static void keep_aside(const Step<T>& st, int k, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
        const Zone<T> zone(st, k);
        for (int r = zone.on ? r0 : r1; r < r1; ++r) {
            T *g = k ? st.ts.gradient[k][r] : st.ts.dh[r], *aside = scratch(st, r, 2 + k);
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int) {
                const auto d = zone.keep(st, st.row(r), u), all = load(g + u);
                store(aside + u, d * all);
                store(g + u, (broadcast(T(1)) - d) * all);
            });
        }
    }
    template <class T>
    static void give_back(const Step<T>& st, int k, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
        for (int r = st.q.zoneout[k] > 0 ? r0 : r1; r < r1; ++r) {
            T *g = k ? st.ts.gradient[k][r] : st.ts.dh[r], *aside = scratch(st, r, 2 + k);
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int) { store(g + u, load(g + u) + load(aside + u)); });
        }
    }

    // what came back through R for rows below m joins what the cell passed on
    template <class T>
    static void join_recurrent(const Step<T>& st, int m, ptrdiff_t u0, ptrdiff_t u1) {
        for (int r = 0; st.ds.mask && r < m; ++r)
            each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int) {
                T* dh = st.ts.dh[r] + u;
                const T *back = scratch(st, r, 0) + u, *mask = st.ds.mask + st.row(r) * st.p.wide + u;
                store(dh, fma(load(back), load(mask), load(dh)));
            });
    }
    template <class T, class Epilogue>
    static FR_INLINE void recurrent_gradients(Step<T>& st, int m, Epilogue&& epilogue) {
        T** to = st.ts.dh;
        if (st.ds.mask) {
            to = st.ts.h;
            for (int r = 0; r < m; ++r) to[r] = scratch(st, r, 0);
        }
        const Columns<T> cols{{}, nullptr, st.ds.mask ? 0u : ~0u, false};
        gemm_then(st, (const T* const*)st.ts.next_gates, to, m, gate_segments(st.p, st.p.cell.section_r, st.p.cell.first), st.R,
                  cols, [&](ptrdiff_t u0, ptrdiff_t u1) {
                      join_recurrent(st, m, u0, u1);
                      epilogue(u0, u1);
                  });
    }

    template <class T>
    static void backward(Step<T>& st) {
        const Plan<T>& p = st.p;
        const CellSpec& spec = *p.cell.spec;
        const ptrdiff_t H = st.q.H;
        const Range own = whole_rows(st);
        const bool norm = st.q.norm, projects = st.d.M;
        T* const* const dh = st.ts.dh;
        T* chunk_dh = projects ? st.ds.dhs[st.chunk & 1] + (p.offset[st.s] - p.offset[st.s0]) * p.Pp : nullptr;
        for (int r = 0; r < st.m; ++r) {
            st.ts.hidden[r] = scratch(st, r, 1);
            for (int k = 0; k < p.states(); ++k) {
                st.ts.before[k][r] = st.ts.c_prev[r] + k * p.wide;
                st.ts.gradient[k][r] = k ? st.ts.dc[r] + (k - 1) * p.wide : projects ? scratch(st, r, 1) : dh[r];
            }
        }
        // layer norm's rows come from far away, while the products run
        for (int r = own.first; norm && r < own.last; ++r)
            for (ptrdiff_t at = 0; at < p.gates_stride(); at += 64 / ptrdiff_t(sizeof(T)))
                __builtin_prefetch(st.ts.gates[r] + at, 1, 2);
        // all of dh is there: the arithmetic, in one stage or the first of two
        auto arithmetic = [&](int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
            for (int k = projects; k < p.states(); ++k) keep_aside(st, k, r0, r1, u0, u1);
            call(spec.backward, st, true, r0, r1, u0, u1);
            if (p.cell.candidate) return;
            for (int k = projects; k < p.states(); ++k) give_back(st, k, r0, r1, u0, u1);
        };
        recurrent_gradients(st, st.m_next, [&](ptrdiff_t u0, ptrdiff_t u1) {
            for (int r = 0; st.d.dy && r < st.m; ++r)
                each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int lanes) {
                    store(dh[r] + u, load(dh[r] + u) + load_n(st.ts.dy[r] + u, lanes));
                });
            if (projects) {
                keep_aside(st, 0, 0, st.m, u0, u1);
                for (int r = 0; r < st.m; ++r)
                    each_vector(u0, u1, VL<T>, [&](ptrdiff_t u, int) {
                        store(chunk_dh + st.row(r) * p.Pp + u, load(dh[r] + u));
                        store(dh[r] + u, zero<T>());
                    });
                give_back(st, 0, 0, st.m, u0, u1);
            } else if (!norm) {
                arithmetic(0, st.m, u0, u1);
            }
        });
        if (projects) {
            st.wait();  // every slice's part of dh
            for (int r = 0; r < st.m; ++r) st.ts.h[r] = chunk_dh + st.row(r) * p.Pp;
            const Columns<T> fresh{{}, nullptr, 0u, false};
            gemm_then(st, (const T* const*)st.ts.h, st.ts.hidden, st.m, Segments{1, st.q.P, {0}}, st.R2, fresh,
                      [&](ptrdiff_t u0, ptrdiff_t u1) {
                          if (!norm) arithmetic(0, st.m, u0, u1);
                      });
        }
        if (norm) {
            st.wait();
            arithmetic(own.first, own.last, 0, H);
            norm_rows_backward(st, own, norm_group(p, p.cell.candidate));
            if (!p.cell.candidate && st.q.norm < p.cell.G) norm_rows_backward(st, own, norm_group(p, 1));
        }
        if (p.cell.candidate) second_backward(st, own);
    }

    // the gradient at what the last gate's rows of R multiply, and the first stage
    template <class T>
    static void second_backward(Step<T>& st, const Range& own) {
        const Plan<T>& p = st.p;
        const CellSpec& spec = *p.cell.spec;
        const bool norm = st.q.norm;
        auto rest = [&](int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
            mask_product(st, st.ts.hidden, 0, r0, r1, u0, u1);
            call(spec.backward2, st, true, r0, r1, u0, u1);
            for (int k = 0; k < p.states(); ++k) give_back(st, k, r0, r1, u0, u1);
        };
        st.wait();  // every slice's part of the gradient at the last gate
        const Columns<T> fresh{{}, nullptr, 0u, false};
        const ptrdiff_t at = p.cell.section_r[p.cell.G - 1] * p.Hp;
        gemm_then(st, (const T* const*)st.ts.gates, st.ts.hidden, st.m, Segments{1, st.q.H, {at}}, st.R2, fresh,
                  [&](ptrdiff_t u0, ptrdiff_t u1) {
                      if (!norm) rest(0, st.m, u0, u1);
                  });
        if (!norm) return;
        st.wait();
        rest(own.first, own.last, 0, st.q.H);
        norm_rows_backward(st, own, norm_group(p, 0));
    }
};

// the gradient at the initial state of a given cell
template <class T>
void initial_given(Step<T>& st) {
    Given::recurrent_gradients(st, st.m, [&](ptrdiff_t u0, ptrdiff_t u1) { hand_out_gradients(st, u0, u1); });
    hand_out_further_gradients(st);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
