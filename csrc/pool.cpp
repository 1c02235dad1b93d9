#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

namespace fastrnn {
namespace {

using Fn = void (*)(void*, int, int) noexcept;
constexpr int kMaxThreads = 256;

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int usable_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
#endif
    unsigned n = std::thread::hardware_concurrency();
    return n ? int(n) : 1;
}

// CPUs that a cgroup quota allows (v2, then v1), rounded up; 0 without one
int quota_cpus() {
    double quota = 0, period = 0;
    if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        char q[32] = "";
        if (std::fscanf(f, "%31s %lf", q, &period) == 2 && std::strcmp(q, "max") != 0) quota = std::atof(q);
        std::fclose(f);
    } else if (FILE* q1 = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
        if (std::fscanf(q1, "%lf", &quota) != 1) quota = 0;
        std::fclose(q1);
        if (FILE* p1 = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
            if (std::fscanf(p1, "%lf", &period) != 1) period = 0;
            std::fclose(p1);
        }
    }
    return quota > 0 && period > 0 ? int((quota + period - 1) / period) : 0;
}

// One region at a time: `owner` is taken by the caller that may use the workers. A region is announced by raising
// `generation`; worker i takes part when i < size. Workers spin for kSpin after a region, then park.
struct Pool {
    std::atomic<bool> owner{false};
    std::atomic<uint64_t> generation{0};
    std::atomic<int> running{0};
    std::atomic<int> parked{0};
    Fn fn = nullptr;
    void* ctx = nullptr;
    int size = 0;     // threads in the current region
    std::atomic<int> started{1};  // threads that exist, the caller's among them
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
};

Pool* g_pool = nullptr;  // never freed: workers may outlive static destructors
std::atomic<int> g_threads{0};
int g_cpus = 1;
constexpr int64_t kSpinNs = 50'000;

struct Start {
    Pool* pool;
    int id;
    uint64_t seen;
};

void wait_for_region(Pool* p, uint64_t seen) {
    if (p->started <= g_cpus) {
        const int64_t until = now_ns() + kSpinNs;
        do {
            for (int i = 0; i < 64; ++i) {
                if (p->generation.load(std::memory_order_acquire) != seen) return;
                relax();
            }
        } while (now_ns() < until);
    }
    pthread_mutex_lock(&p->mutex);
    p->parked.fetch_add(1);
    while (p->generation.load() == seen) pthread_cond_wait(&p->wake, &p->mutex);
    p->parked.fetch_sub(1);
    pthread_mutex_unlock(&p->mutex);
}

void* worker(void* arg) {
    Start s = *static_cast<Start*>(arg);
    delete static_cast<Start*>(arg);
    Pool* p = s.pool;
    for (;;) {
        wait_for_region(p, s.seen);
        s.seen = p->generation.load(std::memory_order_acquire);
        if (s.id < p->size) p->fn(p->ctx, s.id, p->size);
        p->running.fetch_sub(1, std::memory_order_release);
    }
    return nullptr;
}

// threads that could be started of those wanted
int ensure(Pool* p, int n) {
    while (p->started < n) {
        Start* s = new (std::nothrow) Start{p, p->started.load(), p->generation.load()};
        if (!s) break;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_t t;
        int failed = pthread_create(&t, &attr, worker, s);
        pthread_attr_destroy(&attr);
        if (failed) {
            delete s;
            break;
        }
        ++p->started;
    }
    const int have = p->started.load();
    return have < n ? have : n;
}

// Note [fork]: only the forking thread lives on in the child, and a parent's lock may be held for ever. The child
// forgets the parent's pool (a few hundred bytes) and makes one at its first region.
void after_fork_in_child() { g_pool = new (std::nothrow) Pool; }

struct Init {
    Init() {
        g_pool = new (std::nothrow) Pool;
        g_cpus = usable_cpus();
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
    }
} g_init;

}  // namespace

int pool_default_threads() noexcept {
    int n = usable_cpus(), quota = quota_cpus();
    if (quota > 0 && quota < n) n = quota;
    return n < kMaxThreads ? n : kMaxThreads;
}

int pool_threads() noexcept { return g_threads.load(std::memory_order_relaxed); }
void pool_set_threads(int n) noexcept { g_threads.store(n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n); }

void pool_run(int n, Fn fn, void* ctx) noexcept {
    Pool* p = g_pool;
    if (n > kMaxThreads) n = kMaxThreads;
    if (n <= 1 || !p || p->owner.exchange(true, std::memory_order_acquire)) return fn(ctx, 0, 1);
    n = ensure(p, n);
    if (n > 1) {
        p->fn = fn;
        p->ctx = ctx;
        p->size = n;
        p->running.store(p->started - 1, std::memory_order_relaxed);
        p->generation.fetch_add(1);
        if (p->parked.load() > 0) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_broadcast(&p->wake);
            pthread_mutex_unlock(&p->mutex);
        }
        fn(ctx, 0, n);
        for (int spins = 0; p->running.load(std::memory_order_acquire) > 0; ++spins) {
            if (p->started <= g_cpus && spins < 4096)
                relax();
            else
                sched_yield();
        }
    } else {
        fn(ctx, 0, 1);
    }
    p->owner.store(false, std::memory_order_release);
}

void barrier_init(Barrier* b) noexcept {
    __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&b->phase, 0, __ATOMIC_RELAXED);
}

void barrier_wait(Barrier* b, int n) noexcept {
    if (n <= 1) return;
    const int phase = __atomic_load_n(&b->phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == n) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    // more threads than CPUs: give the CPU away at once, the last to arrive may need it
    const int patience = n <= g_cpus ? 20000 : 0;
    for (int spins = 0; __atomic_load_n(&b->phase, __ATOMIC_ACQUIRE) == phase; ++spins) {
        if (spins < patience)
            relax();
        else
            sched_yield();
    }
}

}  // namespace fastrnn
