// pool_group.h: the threads and the workspace they share: many callers at once, regions inside regions, and fork.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "check.h"
#include "fastrnn.h"
#include "pool.h"
#include "recurrent.h"

struct Region {
    std::atomic<int> entered{0};
    std::atomic<bool> seen[64];
    fastrnn::Barrier barrier;
    int shared[64];
    bool ordered = true;
    Region() {
        for (auto& s : seen) s = false;
        fastrnn::barrier_init(&barrier);
    }
};

inline void in_region(void* ctx, int id, int n) noexcept {
    Region& r = *static_cast<Region*>(ctx);
    r.entered.fetch_add(1);
    r.seen[id] = true;
    for (int round = 1; round <= 20; ++round) {  // plain memory on both sides of a barrier
        r.shared[id] = round;
        fastrnn::barrier_wait(&r.barrier, n);
        for (int i = 0; i < n; ++i)
            if (r.shared[i] != round && id == 0) r.ordered = false;
        fastrnn::barrier_wait(&r.barrier, n);
    }
}

inline void check_region(int n) {
    Region r;
    fastrnn::pool_run(n, in_region, &r);
    const int entered = r.entered;
    report.expect((entered == n || entered == 1) && r.ordered, "pool: " + std::to_string(entered) + " of " + std::to_string(n));
    for (int i = 0; i < entered; ++i) report.expect(r.seen[i], "pool: thread " + std::to_string(i) + " missing");
}

inline void nested(void* ctx, int, int) noexcept {
    fastrnn::pool_run(
        4,
        [](void* inner, int id, int n) noexcept {
            if (id != 0 || n != 1) static_cast<std::atomic<int>*>(inner)->fetch_add(1000);
            static_cast<std::atomic<int>*>(inner)->fetch_add(1);
        },
        ctx);
}

inline Problem sample_problem() {
    const Shape q{fastrnn::kLstm, 12, 24, 30, 40, 40, 1, lengths_of("ragged", 12, 24, 3)};
    return make_problem(q, Options(), 77);
}

inline void pool() {
    report.expect(fastrnn::pool_default_threads() >= 1, "default threads");
    fastrnn::pool_set_threads(0);
    report.expect(fastrnn::pool_threads() == 1, "at least one thread");
    fastrnn::pool_set_threads(3);
    report.expect(fastrnn::pool_threads() == 3, "the setting");
    for (int repeat = 0; repeat < 20; ++repeat)
        for (int n : {1, 2, 8, 3}) check_region(n);
    usleep(2000);  // long enough for every thread to park
    check_region(8);
    std::atomic<int> calls{0};
    fastrnn::pool_run(3, nested, &calls);
    report.expect(calls == 3 || calls == 1, "a region inside a region runs inline");

    // eight threads at once: regions, then kernels, whose results don't depend on who got the workers
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([] {
            for (int repeat = 0; repeat < 50; ++repeat) check_region(1 + repeat % 4);
        });
    for (std::thread& t : callers) t.join();
    fastrnn::select(nullptr);
    const Problem p = sample_problem();
    const Results<float> one = run<float>(p, 1, true);
    std::vector<Results<float>> many(8);
    callers.clear();
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([&many, &p, i] {
            for (int repeat = 0; repeat < 5; ++repeat) many[size_t(i)] = run<float>(p, 3, true);
        });
    for (std::thread& t : callers) t.join();
    for (const Results<float>& r : many)
        each_array(r, one, [](const char* name, const auto& a, const auto& b, bool) { expect_same(a, b, name); });
}

// A child starts threads of its own, whatever the parent's were doing.
inline void forked() {
    fastrnn::select(nullptr);
    const Problem p = sample_problem();
    const Results<float> one = run<float>(p, 1, true);
    std::atomic<bool> stop{false};
    std::thread busy([&stop] {
        while (!stop) check_region(4);
    });
    for (int repeat = 0; repeat < 10; ++repeat) {
        check_region(2);
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);  // a child that hangs dies
            const int before = report.failures;
            check_region(4);
            each_array(run<float>(p, 3, true), one,
                       [](const char* name, const auto& a, const auto& b, bool) { expect_same(a, b, name); });
            _exit(report.failures != before);
        }
        int status = 0;
        waitpid(child, &status, 0);
        report.expect(child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child failed or hung");
    }
    stop = true;
    busy.join();
}

inline void workspace() {
    void* first = fastrnn::workspace_acquire(1000);
    report.expect(first && reinterpret_cast<uintptr_t>(first) % 64 == 0, "alignment");
    std::memset(first, 1, 1000);
    fastrnn::workspace_release(first);
    report.expect(fastrnn::workspace_cached() >= 1000, "a freed block is kept");
    void* second = fastrnn::workspace_acquire(900);
    report.expect(second == first, "and used again");
    fastrnn::workspace_release(second);
    fastrnn::workspace_release(nullptr);
    report.expect(fastrnn::workspace_acquire(SIZE_MAX) == nullptr, "no memory is null");
    void* none = fastrnn::workspace_acquire(0);
    fastrnn::workspace_release(none);
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([i] {
            Random random{uint64_t(i)};
            for (int repeat = 0; repeat < 300; ++repeat) {
                const size_t n = size_t(1) << random.below(18);
                char* p = static_cast<char*>(fastrnn::workspace_acquire(n));
                std::memset(p, i, n);
                for (size_t k = 0; k < n; k += 61)
                    if (p[k] != i) report.fail("two owners of one block");
                fastrnn::workspace_release(p);
            }
        });
    for (std::thread& t : callers) t.join();
}
