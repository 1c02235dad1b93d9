// sequence.h: the schedule, written once for every cell: chunks, teams, batch groups, lengths and the order of GEMMs.
//
// Forward, for each chunk of steps: one input GEMM straight into `gates`, then the recurrent steps in place.
// Backward, chunks descending: the steps turn `gates` into dG in place and carry dh, dc; then, while dG is in cache,
// dx, dW, dR and the bias gradients of the chunk.
//
// Threads: the two directions are two teams. A team of n threads splits the batch into `groups` (no barrier over time)
// and the hidden units into `slices` (one barrier a phase); group g owns the rows i ≡ g (mod groups), so that ragged
// batches stay balanced.
//
// forward.h, backward.h and gradients.h hold the two halves, step.h what they share; here is the parallel region.
//
// A cell (cell_*.h) supplies:
//   G, kSectionX    its gates, and where x·W of each lies in a row of `gates`
//   kFirst, kSectionR  gates of the first recurrent product, and where dG of each weight row lies
//   kSecond         a second product in a step: the projection, or the candidate of GRU without reset_after
//   kHasC, kCarries, kBiasInside  a cell state; dh of the step before starts from a carried term; b_r of n apart
//   forward(Step&)  one step: its GEMM tiles with the gate arithmetic as each tile's epilogue
//   backward(Step&) the same step reversed
#pragma once
#include "backward.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
Team team_of(const Plan<T>& p, int id, int n, int dir, int teams) {
    const int first = (n + 1) / 2;  // threads of team 0
    const int members = teams == 1 ? n : dir == 0 ? first : n - first;
    const int me = teams == 1 || dir == 0 ? id : id - first;
    const int units = int((p.q->H < p.q->P ? p.q->H : p.q->P) + VL<T> - 1) / VL<T>;
    return make_team(*p.q, p.cell.G, me, members, units, p.barriers + 1 + dir,
                     p.barriers + 3 + (teams == 1 || dir == 0 ? 0 : first));
}

template <class T>
void forward_job(void* ctx, int id, int n) noexcept {
    const Plan<T>& p = *static_cast<const Plan<T>*>(ctx);
    const int D = p.q->D, teams = D == 2 && n > 1 ? 2 : 1, first = (n + 1) / 2;
    for (int dir = 0; dir < D; ++dir) {
        if (teams == 2 && (id < first) != (dir == 0)) continue;
        forward_direction<T>(p, dir, p.threads[id], team_of(p, id, n, dir, teams));
    }
}

template <class T>
void backward_job(void* ctx, int id, int n) noexcept {
    const Plan<T>& p = *static_cast<const Plan<T>*>(ctx);
    const Sequence& q = *p.q;
    const bool again = q.save == kSaveCheckpoints;
    const int D = q.D, teams = D == 2 && n > 1 && !again ? 2 : 1, first = (n + 1) / 2;
    Step<T> st[2] = {{p, q, q.dir[0], p.dir[0], p.threads[id], {}, {}, {}, {}, 0, 0, 0, false, 0, -1, 0, 0},
                     {p, q, q.dir[1], p.dir[1], p.threads[id], {}, {}, {}, {}, 0, 0, 0, false, 0, -1, 0, 0}};
    if (q.dx) zero_padding(p, static_cast<T*>(q.dx), q.dx_t, q.dx_b, q.I, id, n);
    for (int dir = 0; dir < D; ++dir) {
        // Note [dx of two directions]: summed after both, in one order whatever the number of threads
        st[dir].W = Packed<T>{p.dir[dir].W, p.cell.G * q.H, q.I, kMaxNV, false};
        if (teams == 2 && (id < first) != (dir == 0)) continue;
        st[dir].team = team_of(p, id, n, dir, teams);
        backward_direction<T>(st[dir], dir == 1);
        if (again) barrier_wait(p.barriers, n);
    }
    if (q.dx && D == 2 && !again) {
        barrier_wait(p.barriers, n);
        input_gradient<T>(p, st, 2, 0, int(q.T), id, n, false);
    }
}

template <class T>
bool prepare(Plan<T>& p, const Sequence& q, bool backward) {
    if (q.B == 0) return false;
    lay_out(p, q, backward, q.workspace);
    order_rows(p);
    copy_n<T>(p.zeros, nullptr, p.nothing);
    for (int i = 0; i < 3 + p.most_threads; ++i) barrier_init(p.barriers + i);
    return true;
}

template <class T>
void run_forward(const Sequence& q) {
    Plan<T> p;
    if (prepare(p, q, false)) pool_run(p.most_threads, forward_job<T>, &p);
}

template <class T>
void run_backward(const Sequence& q) {
    Plan<T> p;
    if (prepare(p, q, true)) pool_run(p.most_threads, backward_job<T>, &p);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
