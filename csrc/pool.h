// pool.h: the persistent threads.
//
// One call of pool_run is one parallel region: fn(ctx, id, n) runs on n threads at once, the caller being id 0. When the
// pool is busy (another thread of the program is inside it, or a kernel calls a kernel) fn runs on the caller alone, with
// n = 1; results don't depend on n. After fork() the child starts threads of its own at its first call.
//
// Nothing here is inline: this header is read by code compiled for every instruction set.
#pragma once
#include <cstdint>

namespace fastrnn {

struct Barrier {
    alignas(64) volatile int arrived;
    alignas(64) volatile int phase;
};

void pool_run(int n, void (*fn)(void* ctx, int id, int n) noexcept, void* ctx) noexcept;
void barrier_init(Barrier* b) noexcept;
void barrier_wait(Barrier* b, int n) noexcept;  // n threads wait for each other; nothing to do for n = 1
void pool_pause(int spins,
                int n) noexcept;  // between looks at what another of a region's n threads does; spins: how many before

int pool_default_threads() noexcept;  // CPUs in this process's affinity mask, or fewer under a cgroup quota
int pool_threads() noexcept;          // the setting: that of the calling thread, or else everybody's
void pool_set_threads(int n) noexcept;
int pool_set_own_threads(int n) noexcept;  // of the calling thread alone, 0: none of its own; returns what it was

// Regions of threads that have a number of their own may run on the threads of an OpenMP library that the program uses
// anyway (PyTorch's, say): those spin for milliseconds after each of its regions, on the CPUs that ours would need.
struct Lender {
    void (*parallel)(void (*fn)(void*), void* arg, unsigned n, unsigned flags);  // GOMP_parallel
    int (*id)();                                                                 // omp_get_thread_num
    int (*size)();                                                               // omp_get_num_threads
};
// Null: no longer. False, and nothing has changed: this is the child of a fork, which such threads don't survive.
bool pool_borrow(const Lender* lender) noexcept;

}  // namespace fastrnn
