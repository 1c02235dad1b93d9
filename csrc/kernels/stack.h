// stack.h: the layers of a stack as a wavefront over time.
//
// A layer may run a block of steps as soon as the layer below has run it; backward, the layer above. So layers that are too
// small to be shared by all threads run side by side, each on a team of threads that walks through one block at a time. What
// is to be done lies in tracks: a layer's steps are one; backward, each team's share of its weight gradients is another. A
// team claims a track, does its next piece, and looks again. Nobody waits with a claim in hand, and the steps that everything
// else waits for can always go on, so that any number of teams gets to the end.
//
// Blocks are finer than chunks. Forward and dx sum within rows, and weight gradients still go chunk by chunk and are split over
// outputs, so that the bits are those of the layers one by one.
#pragma once
#include "sequence.h"
#include "stack_plan.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Work that goes in one order, a piece at a time. `at`: the step or chunk that it has come to, see run_stack.
struct alignas(64) Track {
    int claimed, at;
};

template <class T>
struct StackLayer {
    Plan<T> p;
    Packed<T> W, R, R2, W_high, R_high;  // as Step's
    Track steps;
    Track shares[kMostTeams];  // backward: of the weight gradients
};

struct Task {
    int layer, share;  // layer -1: none; share -1: steps
};

template <class T>
struct Stack {
    int layers, steps;  // steps of the longest row
    bool backward;
    StackSplit split;
    StackLayer<T> layer[kMostLayers];
    struct alignas(64) {
        Barrier barrier;
        Task task;
    } team[kMostTeams];

    Track& track(Task t) { return t.share < 0 ? layer[t.layer].steps : layer[t.layer].shares[t.share]; }
};

inline int seen(const int& value) { return __atomic_load_n(&value, __ATOMIC_ACQUIRE); }
inline void tell(int& value, int now) { __atomic_store_n(&value, now, __ATOMIC_RELEASE); }

// the chunk that holds step s
template <class T>
int chunk_of(const Plan<T>& p, int s) {
    int low = 0, high = p.chunks;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (p.chunk[middle] <= s ? low : high) = middle;
    }
    return low;
}

// Steps s0 … s1-1 of a chunk: the piece that follows when `at` steps are done forward, or are left backward.
struct Block {
    int chunk, s0, s1;
};
template <class T>
Block next_block(const Stack<T>& s, const Plan<T>& p, int at) {
    Block b{chunk_of(p, s.backward ? at - 1 : at), at, at};
    const int first = p.chunk[b.chunk], end = p.chunk[b.chunk + 1];
    if (s.backward)
        b.s0 = at - s.split.block > first ? at - s.split.block : first;
    else
        b.s1 = at + s.split.block < end ? at + s.split.block : end;
    return b;
}

// whether the next piece of a track can run: what it reads is there
template <class T>
bool ready(const Stack<T>& s, Task t) {
    const StackLayer<T>& l = s.layer[t.layer];
    const int at = seen(l.steps.at);
    if (t.share >= 0) {
        const int chunks = seen(l.shares[t.share].at);
        return chunks > 0 && at <= l.p.chunk[chunks - 1];
    }
    if (!s.backward)
        return at < 0 || (at < s.steps && (t.layer == 0 || seen(s.layer[t.layer - 1].steps.at) >= next_block(s, l.p, at).s1));
    if (at == 0 || at > s.steps) return at > 0;
    const Block b = next_block(s, l.p, at);
    if (l.p.q->dir[0].M)  // the gradients at h of two chunks are kept, for their part in dM
        for (int i = 0; i < s.split.teams; ++i)
            if (seen(l.shares[i].at) > b.chunk + 2) return false;
    return t.layer == s.layers - 1 || seen(s.layer[t.layer + 1].steps.at) <= b.s0;
}

template <class T>
bool all_done(const Stack<T>& s) {
    for (int k = 0; k < s.layers; ++k) {
        if (seen(s.layer[k].steps.at) != (s.backward ? 0 : s.steps)) return false;
        for (int i = 0; s.backward && i < s.split.teams; ++i)
            if (seen(s.layer[k].shares[i].at)) return false;
    }
    return true;
}

// The next task of team `me`, claimed; layer -1 when all is done. First weight gradients, while dG is in cache: up to a tenth
// faster than last. Then the steps of its own layers, whose weights are near, and of others; those behind before those ahead.
template <class T>
Task next_task(Stack<T>& s, int me, Task current, int n) {
    auto take = [&](Task t) {
        if (t.layer == current.layer && t.share == current.share) return ready(s, t);
        if (!ready(s, t)) return false;
        Track& track = s.track(t);
        if (seen(track.claimed) || __atomic_exchange_n(&track.claimed, 1, __ATOMIC_ACQUIRE)) return false;
        if (ready(s, t)) return true;
        tell(track.claimed, 0);
        return false;
    };
    auto find = [&]() -> Task {
        for (int k = s.layers - 1; s.backward && k >= 0; --k)
            for (int i = 0; i < s.split.teams; ++i)
                if (take({k, (me + i) % s.split.teams})) return {k, (me + i) % s.split.teams};
        for (int others = 0; others < 2; ++others)
            for (int i = s.layers - 1; i >= 0; --i)  // i layers after the first to run
                if ((i % s.split.teams != me) == bool(others) && take({s.backward ? s.layers - 1 - i : i, -1}))
                    return {s.backward ? s.layers - 1 - i : i, -1};
        return {-1, -1};
    };
    for (int spins = 0;; ++spins) {
        const Task found = find();
        if (current.layer >= 0 && (found.layer != current.layer || found.share != current.share))
            tell(s.track(current).claimed, 0);
        current = found;
        if (found.layer >= 0 || all_done(s)) return found;
        pool_pause(spins, n);
    }
}

template <class T>
void forward_piece(Stack<T>& s, StackLayer<T>& l, int at, const ThreadSpace<T>& ts, const Team& team) {
    const Plan<T>& p = l.p;
    const Sequence& q = *p.q;
    Step<T> st{p, q, q.dir[0], p.dir[0], ts, team, l.W, l.R, l.R2, 0, 0, 0, q.save != kSaveAll, 0, -1, 0, 0};
    if (at < 0) {
        start_forward<T>(st);
        if (team.id == 0) l.W = st.W, l.R = st.R, l.R2 = st.R2, l.W_high = st.W_high, l.R_high = st.R_high;
        return;
    }
    if (team.idle) return;
    st.W_high = l.W_high, st.R_high = l.R_high;
    const Block b = next_block(s, p, at);
    const int first = p.chunk[b.chunk];
    if (q.save != kSaveAll) st.base = first;
    st.s0 = b.s0;
    if (st.p.cell.has_c() && q.save == kSaveCheckpoints && b.s0 == first)
        for (int segment = 0; segment < p.segments; ++segment)
            if (p.segment[segment] == b.chunk) keep_cells(st, segment);
    forward_steps<T>(st, b.s1, true);
}

template <class T>
void backward_piece(Stack<T>& s, StackLayer<T>& l, int at, const ThreadSpace<T>& ts, const Team& team) {
    const Plan<T>& p = l.p;
    const Sequence& q = *p.q;
    Step<T> st{p, q, q.dir[0], p.dir[0], ts, team, l.W, l.R, l.R2, 0, 0, 0, false, 0, -1, 0, 0};
    if (at > s.steps) {
        if (q.dx) zero_padding(p, static_cast<T*>(q.dx), q.dx_t, q.dx_b, q.I, team.id, team.n);
        start_backward<T>(st);
        if (team.id == 0) l.W = st.W, l.R = st.R, l.R2 = st.R2;
        return;
    }
    const Block b = next_block(s, p, at);
    st.chunk = b.chunk;
    st.s0 = p.chunk[b.chunk];
    backward_steps<T>(st, b.s0, b.s1);
    if (q.dx) input_gradient<T>(p, &st, 1, b.s0, b.s1, team.id, team.n, false);
    if (b.s0 == 0) initial_gradient<T>(st);
    if (b.s0 == 0 && q.norm) add_row_sums(st);
}

// one team's part of the weight gradients of the chunk before `at`
template <class T>
void share_piece(StackLayer<T>& l, int at, const ThreadSpace<T>& ts, const Team& team) {
    const Plan<T>& p = l.p;
    const Sequence& q = *p.q;
    Step<T> st{p, q, q.dir[0], p.dir[0], ts, team, l.W, l.R, l.R2, 0, p.chunk[at - 1], 0, false, at - 1, -1, 0, 0};
    chunk_gradients<T>(st, p.chunk[at]);
}

template <class T, bool kBackward>
void stack_job(void* ctx, int id, int n) noexcept {
    Stack<T>& s = *static_cast<Stack<T>*>(ctx);
    if (n == 1) {  // nobody to share with
        for (int i = 0; i < s.layers; ++i)
            kBackward ? backward_job<T>(&s.layer[s.layers - 1 - i].p, 0, 1) : forward_job<T>(&s.layer[i].p, 0, 1);
        return;
    }
    const int members = s.split.members, team = id / members, me = id % members;
    if (n < members) {
        if (id == 0) stack_job<T, kBackward>(ctx, 0, 1);
        return;
    }
    if (team >= s.split.teams || team >= n / members) return;
    auto& ours = s.team[team];
    Task task{-1, -1};
    for (;;) {
        if (me == 0) ours.task = next_task(s, team, task, n);
        barrier_wait(&ours.barrier, members);
        task = ours.task;
        if (task.layer < 0) return;
        StackLayer<T>& l = s.layer[task.layer];
        Track& track = s.track(task);
        const int at = seen(track.at);
        int next;
        Team t = team_of(l.p, me, members, 0, 1);
        if (task.share >= 0) {
            t.id = task.share * members + me, t.n = s.split.teams * members;
            share_piece<T>(l, at, l.p.threads[id], t);
            next = at - 1;
        } else if (kBackward) {
            backward_piece<T>(s, l, at, l.p.threads[id], t);
            next = at > s.steps ? s.steps : next_block(s, l.p, at).s0;
        } else {
            forward_piece<T>(s, l, at, l.p.threads[me], t);
            next = at < 0 ? 0 : next_block(s, l.p, at).s1;
        }
        barrier_wait(&ours.barrier, members);
        if (me == 0) tell(track.at, next);
    }
}

template <class T, bool kBackward>
void run_stack(const Sequence* const* q, int layers) {
    Stack<T> s;
    s.layers = layers;
    s.backward = kBackward;
    s.split = layers > kMostLayers ? StackSplit{0, 1, 0} : stack_split<T>(*q[0], layers, kBackward);
    if (s.split.teams == 0) {
        for (int i = 0; i < layers; ++i) kBackward ? run_backward<T>(*q[layers - 1 - i]) : run_forward<T>(*q[i]);
        return;
    }
    for (int k = 0; k < layers; ++k) {
        StackLayer<T>& l = s.layer[k];
        prepare(l.p, *q[k], kBackward);
        l.p.in_blocks = true;
        s.steps = l.p.length[0];
        // forward: steps done, or -1 before the weights are packed; backward: steps left, or one more
        l.steps = {0, kBackward ? s.steps + 1 : -1};
        for (Track& share : l.shares) share = {0, l.p.chunks};  // chunks left
    }
    for (auto& team : s.team) barrier_init(&team.barrier);
    pool_run(s.split.teams * s.split.members, stack_job<T, kBackward>, &s);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
