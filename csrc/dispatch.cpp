// dispatch.cpp: from CPU features, never from its maker, to one table of kernels. Compiled with baseline flags.
#include <atomic>
#include <cstring>
#include <string>

#include "fastrnn.h"

namespace fastrnn {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace v2 {
extern const Kernels table;
}
#elif defined(__aarch64__)
namespace neon {
extern const Kernels table;
}
#endif

namespace {

struct Candidate {
    const char* name;
    const Kernels* table;
    bool (*runs)();
};

// best first
const Candidate kCandidates[] = {
#if defined(__x86_64__)
#ifdef FASTRNN_HAVE_avx512
    {"avx512", &avx512::table,
     [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
     }},
#endif
#ifdef FASTRNN_HAVE_avx2
    {"avx2", &avx2::table,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"); }},
#endif
#ifdef FASTRNN_HAVE_v2
    {"v2", &v2::table, [] { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }},
#endif
#elif defined(__aarch64__)
    {"neon", &neon::table, [] { return true; }},
#endif
};

std::atomic<const Kernels*> g_kernels{nullptr};
std::string g_message, g_available;

}  // namespace

const Kernels* kernels() { return g_kernels.load(std::memory_order_relaxed); }

const char* available_isas() {
    if (g_available.empty())
        for (const Candidate& c : kCandidates)
            if (c.runs()) g_available += (g_available.empty() ? "" : " ") + std::string(c.name);
    return g_available.c_str();
}

const char* select(const char* isa) {
    std::string built;
    for (const Candidate& c : kCandidates) {
        if (!isa || !std::strcmp(isa, c.name)) {
            if (c.runs()) {
                g_kernels.store(c.table);
                return nullptr;
            }
            if (isa) {
                g_message = std::string(isa) + ": this CPU can't run it; it can run: " + available_isas();
                return g_message.c_str();
            }
        }
        built += (built.empty() ? "" : ", ") + std::string(c.name);
    }
    g_message = isa ? std::string("expected one of ") + built + ", got '" + isa + "'"
                    : std::string("this CPU can run none of the built instruction sets: ") + built;
    return g_message.c_str();
}

}  // namespace fastrnn
