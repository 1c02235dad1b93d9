// workspace.cpp: freed blocks kept for the next call, because fresh pages cost several per cent of a training step.
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "fastrnn.h"

namespace fastrnn {
namespace {

constexpr size_t kHeader = 64;            // keeps the block's capacity, and the alignment
constexpr size_t kCap = size_t(1) << 30;  // most bytes kept
constexpr int kSlots = 64;
constexpr size_t kHugePage = size_t(1) << 21;

void* g_slot[kSlots];      // free blocks, by their headers
uint64_t g_stamp[kSlots];  // when each was released
uint64_t g_clock = 0;
std::atomic<size_t> g_cached{0};
std::atomic_flag g_busy = ATOMIC_FLAG_INIT;

size_t& capacity(void* block) { return *static_cast<size_t*>(block); }

// Note [no waiting]: a caller that finds the cache busy allocates afresh. fork() waits for the cache, so that the child
// finds it whole.
bool enter() { return !g_busy.test_and_set(std::memory_order_acquire); }
void leave() { g_busy.clear(std::memory_order_release); }
void enter_for_fork() {
    while (!enter()) {
    }
}

struct Init {
    Init() { pthread_atfork(enter_for_fork, leave, leave); }
} g_init;

int oldest() {  // slot in use that was released first, or -1
    int found = -1;
    for (int i = 0; i < kSlots; ++i)
        if (g_slot[i] && (found < 0 || g_stamp[i] < g_stamp[found])) found = i;
    return found;
}

// Whole pages, and from 32 KiB on eight sizes between powers of two: calls of many shapes share few blocks. What a block has
// too much is never touched.
size_t size_class(size_t bytes) {
    size_t step = 4096;
    while (bytes / step > 15) step *= 2;
    return (bytes + step - 1) / step * step;
}

int empty_slot() {
    for (int i = 0; i < kSlots; ++i)
        if (!g_slot[i]) return i;
    return -1;
}

}  // namespace

void* workspace_acquire(size_t bytes) noexcept {
    if (bytes > SIZE_MAX / 2) return nullptr;
    bytes = size_class(bytes);
    void* found = nullptr;
    if (enter()) {
        int best = -1;
        for (int i = 0; i < kSlots; ++i)
            if (g_slot[i] && capacity(g_slot[i]) >= bytes && capacity(g_slot[i]) / 2 <= bytes &&
                (best < 0 || capacity(g_slot[i]) < capacity(g_slot[best])))
                best = i;
        if (best >= 0) {
            found = g_slot[best];
            g_slot[best] = nullptr;
            g_cached.fetch_sub(capacity(found));
        }
        leave();
    }
    if (!found) {
        const bool large = bytes >= kHugePage;
        if (posix_memalign(&found, large ? kHugePage : 64, bytes + kHeader)) return nullptr;
#if defined(__linux__)
        if (large) madvise(found, bytes + kHeader, MADV_HUGEPAGE);  // gates alone take 16 MiB: few TLB entries, fewer faults
#endif
        capacity(found) = bytes;
    }
    return static_cast<char*>(found) + kHeader;
}

void workspace_release(void* p) noexcept {
    if (!p) return;
    void* block = static_cast<char*>(p) - kHeader;
    void* dropped[kSlots];
    int n = 0;
    bool kept = false;
    if (capacity(block) <= kCap && enter()) {
        const size_t bytes = capacity(block);
        int slot = empty_slot();
        while (slot < 0 || g_cached.load() + bytes > kCap) {  // the oldest make room
            const int i = oldest();
            dropped[n++] = g_slot[i];
            g_cached.fetch_sub(capacity(g_slot[i]));
            g_slot[i] = nullptr;
            slot = i;
        }
        g_slot[slot] = block;
        g_stamp[slot] = ++g_clock;
        g_cached.fetch_add(bytes);
        kept = true;
        leave();
    }
    for (int i = 0; i < n; ++i) std::free(dropped[i]);
    if (!kept) std::free(block);
}

size_t workspace_cached() noexcept { return g_cached.load(); }

}  // namespace fastrnn
