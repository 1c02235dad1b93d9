// stack_plan.h: whether the layers of a stack run side by side (stack.h), on how many teams of how many threads.
#pragma once
#include "plan.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr int kMostTeams = 16;

struct StackSplit {
    int teams, members;  // teams 0: one layer after the other, each on all threads
    int block;           // steps that a layer hands on at once
};

// Seconds that one layer's steps take `threads` threads. Forward, x·W is theirs; backward, all threads share what a chunk ends
// with, so that only dG·W is counted, for everybody.
template <class T>
double layer_seconds(const Sequence& q, const CellShape<T>& cell, int threads, bool backward, int everybody) {
    const int G = cell.G, groups = best_groups(q, G, threads), slices = best_slices(q, G, groups, threads / groups);
    const double steps = double(q.steps) / double(q.B), item = sizeof(T);
    const double input = 2 * double(q.steps) * double(q.I) * G * double(q.H) * item / 600e9;
    const double extra = backward ? input / everybody : fuses<T>(q, cell) ? 0 : input / (groups * slices);
    return steps * step_seconds(q, G, groups, slices) + extra;
}

// The fastest split by that estimate of a stack of `layers` layers. `first` is the lowest, the others read its outputs' width.
// A sixth is the least gain that showed; it's rarely more than half of what the estimate says. Another thread is woken for 40
// µs of gain at least.
template <class T>
StackSplit stack_split(const Sequence& first, int layers, bool backward) {
    StackSplit split{0, 1, 0};
    if (layers < 2 || layers > kMostLayers || first.D != 1 || first.codes || first.threads < 2 || first.steps == 0)
        return split;
    if (backward && first.save != kSaveAll) return split;
    const CellShape<T> cell = shape_of<T>(first);
    const int G = cell.G;
    Sequence above = first;
    above.I = first.P;
    const int low = useful_threads(first, G, backward), high = useful_threads(above, G, backward);
    const int most = low < high ? low : high;  // that every layer has room for
    auto seconds = [&](int first_threads, int threads, int everybody) {
        return layer_seconds<T>(first, cell, first_threads, backward, everybody) +
               (layers - 1) * layer_seconds<T>(above, cell, threads, backward, everybody);
    };
    double best = 0.85 * seconds(low, high, most) - (most == 1 ? 40e-6 : 0);
    // few blocks keep teams waiting; in short ones W is read for few rows
    const int steps = int(first.steps / first.B) + 1, least = first.B >= 12 ? 1 : int(12 / first.B);
    const int some = steps / 12 < 32 ? steps / 12 : 32, block = some < least ? least : some;
    for (int members = 1; members <= most && first.threads / members >= 2; ++members) {
        int teams = (backward ? most : first.threads) / members;
        if (teams > layers) teams = layers;
        if (teams < 2) break;
        // R of a layer and some of W stay in L2; at 768 KiB a GRU took 14% longer backward
        const int groups = best_groups(above, G, members), slices = best_slices(above, G, groups, members / groups);
        if (double(G) * double(above.H) * double(above.P) * sizeof(T) / slices > 640e3) continue;
        const double each = seconds(members, members, backward ? teams * members : members) / layers;
        const double time = layers * each / teams + (teams - 1) * each * block / steps;  // the last team waits for the others
        if (time < best) best = time, split = {teams, members, block};
    }
    return split;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
