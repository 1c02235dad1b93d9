#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>
#include <string>
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

// CPUs that the quota in folder `path` of a cgroup hierarchy allows, rounded up; 0 without one
int quota_in(const std::string& path) {
    double quota = 0, period = 0;
    if (FILE* f = std::fopen((path + "/cpu.max").c_str(), "r")) {  // version 2
        char q[32] = "";
        if (std::fscanf(f, "%31s %lf", q, &period) == 2 && std::strcmp(q, "max") != 0) quota = std::atof(q);
        std::fclose(f);
    } else if (FILE* q1 = std::fopen((path + "/cpu.cfs_quota_us").c_str(), "r")) {  // version 1
        if (std::fscanf(q1, "%lf", &quota) != 1) quota = 0;
        std::fclose(q1);
        if (FILE* p1 = std::fopen((path + "/cpu.cfs_period_us").c_str(), "r")) {
            if (std::fscanf(p1, "%lf", &period) != 1) period = 0;
            std::fclose(p1);
        }
    }
    return quota > 0 && period > 0 ? int((quota + period - 1) / period) : 0;
}

// The tightest quota from this process's cgroup up to the root, or 0. Lines of /proc/self/cgroup are
// "id:controllers:path", with no controllers in version 2.
int quota_cpus() {
    int tightest = 0;
    FILE* f = std::fopen("/proc/self/cgroup", "r");
    if (!f) return 0;
    char line[4096];
    while (std::fgets(line, sizeof line, f)) {
        const char* controllers = std::strchr(line, ':');
        const char* path = controllers ? std::strchr(controllers + 1, ':') : nullptr;
        if (!path) continue;
        const std::string names = "," + std::string(controllers + 1, path) + ",";
        std::string root = "/sys/fs/cgroup", at(path + 1);
        if (names != ",,") {
            if (names.find(",cpu,") == std::string::npos) continue;
            root += "/cpu";
        }
        while (!at.empty() && (at.back() == '\n' || at.back() == '/')) at.pop_back();
        for (;;) {
            const int cpus = quota_in(root + at);
            if (cpus > 0 && (tightest == 0 || cpus < tightest)) tightest = cpus;
            if (at.empty()) break;
            at.resize(at.find_last_of('/') == std::string::npos ? 0 : at.find_last_of('/'));
        }
    }
    std::fclose(f);
    return tightest;
}

// A region is one atomic word: its number above, its threads below. A worker reads the word once and knows whether it
// takes part. Those who do can't miss a region, for the next one waits for them; the others may.
constexpr int kSizeBits = 16;
constexpr uint64_t kSizeMask = (1u << kSizeBits) - 1;

struct Seat {  // where a worker sleeps
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
    std::atomic<bool> parked{false};
};

struct Pool {
    std::atomic<bool> owner{false};  // taken by the caller that may use the workers
    std::atomic<uint64_t> region{0};
    std::atomic<int> running{0};  // workers still in the region
    Fn fn = nullptr;
    void* ctx = nullptr;
    int started = 1;  // threads that exist, the caller's among them; the owner's
    Seat seats[kMaxThreads];
};

Pool* g_pool = nullptr;  // never freed: workers may outlive static destructors
std::atomic<int> g_threads{1};
thread_local int t_threads = 0;
std::atomic<const Lender*> g_lender{nullptr};  // what it points to stays: a region may be using it
std::atomic<bool> g_forked{false};
std::atomic<int> g_cpus{1};
std::atomic<int64_t> g_cpus_read{0};
constexpr int64_t kSpinNs = 50'000;
constexpr int kPatience = 1000;  // pauses, some 30 µs: a partner that lost its CPU takes milliseconds
constexpr int64_t kReadCpusNs = 10'000'000;

void read_cpus(int64_t now) {  // affinity may change at any time
    g_cpus_read.store(now, std::memory_order_relaxed);
    g_cpus.store(usable_cpus(), std::memory_order_relaxed);
}

bool may_spin(int n) { return n <= g_cpus.load(std::memory_order_relaxed); }

struct Start {
    Pool* pool;
    int id;
    uint64_t seen;
};

// the next region after `seen` that worker `id` takes part in
uint64_t wait_for_region(Pool* p, int id, uint64_t seen) {
    auto mine = [&](uint64_t word) { return word != seen && int(word & kSizeMask) > id; };
    uint64_t word;
    if (may_spin(int(seen & kSizeMask))) {
        const int64_t until = now_ns() + kSpinNs;
        do {
            for (int i = 0; i < 64; ++i) {
                if (mine(word = p->region.load(std::memory_order_acquire))) return word;
                relax();
            }
        } while (now_ns() < until);
    }
    Seat& seat = p->seats[id];
    pthread_mutex_lock(&seat.mutex);
    seat.parked.store(true);
    while (!mine(word = p->region.load())) pthread_cond_wait(&seat.wake, &seat.mutex);
    seat.parked.store(false);
    pthread_mutex_unlock(&seat.mutex);
    return word;
}

void name_thread() {  // as top and debuggers show it
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "fastrnn");
#elif defined(__APPLE__)
    pthread_setname_np("fastrnn");
#endif
}

void* worker(void* arg) {
    name_thread();
    Start s = *static_cast<Start*>(arg);
    delete static_cast<Start*>(arg);
    Pool* p = s.pool;
    for (;;) {
        s.seen = wait_for_region(p, s.id, s.seen);
        p->fn(p->ctx, s.id, int(s.seen & kSizeMask));
        p->running.fetch_sub(1, std::memory_order_release);
    }
    return nullptr;
}

// Signals that a worker leaves to the program's own threads, for a call that one of these waits in is to be interrupted by
// them. Not those that tell of what the worker itself did, nor the profiler's.
void signals_of_others(sigset_t* set) {
    sigfillset(set);
    for (int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(set, own);
}

// threads that could be started of those wanted
int ensure(Pool* p, int n) {
    while (p->started < n) {
        Start* s = new (std::nothrow) Start{p, p->started, p->region.load()};
        if (!s) break;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        sigset_t others, before;
        signals_of_others(&others);
        pthread_sigmask(SIG_BLOCK, &others, &before);  // inherited
        pthread_t t;
        int failed = pthread_create(&t, &attr, worker, s);
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        pthread_attr_destroy(&attr);
        if (failed) {
            delete s;
            break;
        }
        ++p->started;
    }
    return p->started < n ? p->started : n;
}

// Note [fork]: only the forking thread lives on in the child, and a parent's lock may be held for ever. The child
// forgets the parent's pool (some kilobytes) and makes one at its first region.
void after_fork_in_child() {
    g_pool = new (std::nothrow) Pool;
    g_lender.store(nullptr);
    g_forked.store(true);
    read_cpus(now_ns());
}

// Whether this process was forked and has begun no program of its own since. OpenMP's threads don't survive a fork, its
// library doesn't notice, and a region of several threads would wait for ever.
bool forked() {
    if (g_forked.load()) return true;
#if defined(__linux__)  // the fork may have come before this library was loaded
    constexpr unsigned kForkNoExec = 0x40;
    char line[1024] = "";
    unsigned flags = 0;
    if (FILE* f = std::fopen("/proc/self/stat", "r")) {
        const char* name_end = std::fgets(line, sizeof line, f) ? std::strrchr(line, ')') : nullptr;
        if (name_end && std::sscanf(name_end, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1) flags = 0;
        std::fclose(f);
    }
    return flags & kForkNoExec;
#else
    return false;
#endif
}

struct Region {
    Fn fn;
    void* ctx;
    const Lender* lender;
};

void borrowed(void* arg) {
    const Region& r = *static_cast<Region*>(arg);
    r.fn(r.ctx, r.lender->id(), r.lender->size());
}

struct Init {
    Init() {
        g_pool = new (std::nothrow) Pool;
        read_cpus(now_ns());
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
    }
} g_init;

}  // namespace

int pool_default_threads() noexcept {
    int n = usable_cpus(), quota = quota_cpus();
    if (quota > 0 && quota < n) n = quota;
    return n < kMaxThreads ? n : kMaxThreads;
}

int pool_threads() noexcept { return t_threads > 0 ? t_threads : g_threads.load(std::memory_order_relaxed); }

int pool_set_own_threads(int n) noexcept {
    const int before = t_threads;
    t_threads = n < 0 ? 0 : n > kMaxThreads ? kMaxThreads : n;
    return before;
}

bool pool_borrow(const Lender* lender) noexcept {
    const Lender* kept = nullptr;
    if (lender && (forked() || !(kept = new (std::nothrow) Lender(*lender)))) return false;
    g_lender.store(kept, std::memory_order_release);
    return true;
}

void pool_set_threads(int n) noexcept { g_threads.store(n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n); }

void pool_run(int n, Fn fn, void* ctx) noexcept {
    Pool* p = g_pool;
    if (n > kMaxThreads) n = kMaxThreads;
    if (n <= 1 || !p || p->owner.exchange(true, std::memory_order_acquire)) return fn(ctx, 0, 1);
    const int64_t now = now_ns();
    if (now - g_cpus_read.load(std::memory_order_relaxed) > kReadCpusNs) read_cpus(now);
    const Lender* lender = t_threads > 0 ? g_lender.load(std::memory_order_acquire) : nullptr;
    if (!lender) n = ensure(p, n);
    if (lender) {
        Region region{fn, ctx, lender};
        lender->parallel(borrowed, &region, unsigned(n), 0);
    } else if (n > 1) {
        p->fn = fn;
        p->ctx = ctx;
        p->running.store(n - 1, std::memory_order_relaxed);
        const uint64_t number = (p->region.load(std::memory_order_relaxed) >> kSizeBits) + 1;
        p->region.store(number << kSizeBits | uint64_t(n));
        for (int id = 1; id < n; ++id) {
            Seat& seat = p->seats[id];
            if (!seat.parked.load()) continue;
            pthread_mutex_lock(&seat.mutex);
            pthread_cond_signal(&seat.wake);
            pthread_mutex_unlock(&seat.mutex);
        }
        fn(ctx, 0, n);
        for (int spins = 0; p->running.load(std::memory_order_acquire) > 0; ++spins) pool_pause(spins, n);
    } else {
        fn(ctx, 0, 1);
    }
    p->owner.store(false, std::memory_order_release);
}

// more threads than CPUs: give the CPU away at once, whoever is waited for may need it
void pool_pause(int spins, int n) noexcept {
    if (spins < kPatience && may_spin(n))
        relax();
    else
        sched_yield();
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
    for (int spins = 0; __atomic_load_n(&b->phase, __ATOMIC_ACQUIRE) == phase; ++spins) pool_pause(spins, n);
}

}  // namespace fastrnn

// The setting under names that can be looked up in the loaded library: by them threadpoolctl knows it, and sets the number
// (src/fastrnn/interop/threads.py).
#define FASTRNN_EXPORT extern "C" __attribute__((visibility("default")))
FASTRNN_EXPORT int fastrnn_get_num_threads() noexcept { return fastrnn::pool_threads(); }
FASTRNN_EXPORT void fastrnn_set_num_threads(int n) noexcept { fastrnn::pool_set_threads(n); }
