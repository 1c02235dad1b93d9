// given.h: what the schedule does for a cell given by functions (cell.h) besides its products: its parameters, the masks of
// zoneout and recurrent dropout, and the gradients of what is not a weight.
//
// A row of `cell` holds every state, h first, padded to whole vectors; with recurrent dropout also h as R sees it. Rows of the
// batch and times count in masks, so that a mask is the same for any split of the work; rows of units are counted as if H
// were a multiple of 64, so that it is the same for any width of vectors.
#pragma once
#include "masks.h"
#include "step.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr uint64_t kMaskOfRecurrent = 7;
inline uint64_t mask_seed(const Sequence& q, const Direction& d, uint64_t kind) {
    return q.mask_seed + 8 * uint64_t(&d - q.dir) + kind;
}

// Parameters of one number a unit, padded: vectors, then with layer norm four rows of gates' units: see kNorm…
enum { kNormGainX = 0, kNormGainR = 1, kNormBiasX = 2, kNormBiasR = 3 };
template <class T>
T* norm_row(const Step<T>& st, int which, int gate) {
    return st.ds.vectors + (st.p.cell.spec->vectors + which * st.p.cell.G + gate) * st.p.Hp;
}

// by the threads of a team, before its first barrier
template <class T>
void start_given(const Step<T>& st) {
    const Plan<T>& p = st.p;
    const Sequence& q = st.q;
    const Direction& d = st.d;
    auto fill = [&](T* to, const void* from, ptrdiff_t at, T other) {
        for (ptrdiff_t u = 0; u < p.Hp; ++u) to[u] = u >= q.H ? T(0) : from ? static_cast<const T*>(from)[at + u] : other;
    };
    if (st.team.id == 0) {
        for (int v = 0; v < p.cell.spec->vectors; ++v) fill(st.ds.vectors + v * p.Hp, d.vectors[v], 0, T(0));
        for (int g = 0; q.norm && g < p.cell.G; ++g) {
            fill(norm_row(st, kNormGainX, g), d.gain_x, g * q.H, T(1));
            fill(norm_row(st, kNormGainR, g), d.gain_r, g * q.H, T(1));
            fill(norm_row(st, kNormBiasX, g), d.b_w, g * q.H, T(0));
            fill(norm_row(st, kNormBiasR, g), d.b_r, g * q.H, T(0));
        }
    }
    const int rows = !st.ds.mask || st.team.idle || st.team.slice ? 0 : st.mine(int(q.B));
    const auto scale = broadcast(T(1 / (1 - q.recurrent_dropout)));
    for (int r = 0; r < rows; ++r) {
        const int i = st.row(r);
        const uint64_t first = uint64_t(p.index[i]) * uint64_t(round_up(q.P, 64));
        for (ptrdiff_t u = 0; u < p.wide; u += VL<T>) {
            const auto dropped = chosen<T>(mask_seed(q, d, kMaskOfRecurrent), first + uint64_t(u), q.recurrent_dropout);
            store(st.ds.mask + i * p.wide + u, (broadcast(T(1)) - dropped) * scale);
        }
    }
}

// what is left of the old values of state k: d of zoneout, for units u …
template <class T>
struct Zone {
    bool on, expect;
    double p;
    uint64_t seed, width;
    Zone(const Step<T>& st, int k)
        : on(st.q.zoneout[k] > 0),
          expect(st.q.expect),
          p(st.q.zoneout[k]),
          seed(mask_seed(st.q, st.d, uint64_t(k))),
          width(uint64_t(round_up(k ? st.q.H : st.q.P, 64))) {}
    FR_INLINE typename Simd<T>::V keep(const Step<T>& st, int i, ptrdiff_t u) const {
        if (expect) return broadcast(T(p));
        const uint64_t place = uint64_t(st.p.time(st.d, st.s, i)) * uint64_t(st.q.B) + uint64_t(st.p.index[i]);
        return chosen<T>(seed, place * width + uint64_t(u), p);
    }
};

// the arguments of a cell's functions
template <class T>
struct TileArgs {
    CellTile tile;
    const void* const* before[kMostStates];
    void* const* after[kMostStates];
    void* const* gradient[kMostStates];
    const void* vectors[kMostVectors];

    // rows r0 … r1-1 of this step, units u0 … u1-1
    TileArgs(const Step<T>& st, bool backward, int r0, int r1, ptrdiff_t u0, ptrdiff_t u1) {
        const CellSpec& spec = *st.p.cell.spec;
        for (int k = 0; k < spec.states; ++k) {
            before[k] = reinterpret_cast<const void* const*>(st.ts.before[k] + r0);
            after[k] = reinterpret_cast<void* const*>(st.ts.after[k] + r0);
            gradient[k] = reinterpret_cast<void* const*>(st.ts.gradient[k] + r0);
        }
        for (int v = 0; v < spec.vectors; ++v) vectors[v] = st.ds.vectors + v * st.p.Hp;
        tile.rows = r1 - r0;
        tile.first = u0;
        tile.last = round_up(u1, VL<T>);
        tile.section = st.p.Hp;
        tile.gates = reinterpret_cast<void* const*>(st.ts.gates + r0);
        tile.before = before;
        tile.after = backward ? nullptr : after;
        tile.gradient = backward ? gradient : nullptr;
        tile.vectors = vectors;
        tile.product = reinterpret_cast<void* const*>(st.ts.hidden + r0);
        tile.save = !st.turns;
        tile.context = spec.context;
        tile.units = st.q.H;
    }
    TileArgs(const TileArgs&) = delete;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
