// workspace.cpp: freed blocks kept for the next call, because fresh pages cost several per cent of a training step.
#include <atomic>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "fastrnn.h"

namespace fastrnn {
namespace {

constexpr size_t kHeader = 64;         // keeps the block's capacity, and the alignment
constexpr size_t kCap = size_t(1) << 30;  // most bytes kept
constexpr int kSlots = 64;
constexpr size_t kHugePage = size_t(1) << 21;

void* g_slot[kSlots];  // free blocks, by their headers
std::atomic<size_t> g_cached{0};
std::atomic_flag g_busy = ATOMIC_FLAG_INIT;

size_t& capacity(void* block) { return *static_cast<size_t*>(block); }

// Note [no waiting]: a caller that finds the cache busy (or a forked child that inherited it so) allocates afresh
bool enter() { return !g_busy.test_and_set(std::memory_order_acquire); }
void leave() { g_busy.clear(std::memory_order_release); }

}  // namespace

void* workspace_acquire(size_t bytes) noexcept {
    if (bytes > SIZE_MAX / 2) return nullptr;
    bytes = (bytes + 4095) / 4096 * 4096;
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
    bool kept = false;
    if (enter()) {
        const size_t bytes = capacity(block);
        if (g_cached.load() + bytes <= kCap)
            for (int i = 0; i < kSlots && !kept; ++i)
                if (!g_slot[i]) {
                    g_slot[i] = block;
                    g_cached.fetch_add(bytes);
                    kept = true;
                }
        leave();
    }
    if (!kept) std::free(block);
}

size_t workspace_cached() noexcept { return g_cached.load(); }

}  // namespace fastrnn
