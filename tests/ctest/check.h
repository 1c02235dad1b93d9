// check.h: exact buffers, random numbers, and what to say when a check fails.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

// Memory of exactly n elements, so that AddressSanitizer sees the first one past the end. Filled with bytes 0xff, which
// is NaN in both float types: what is read before it is written spoils the result.
template <class T>
class Buffer {
  public:
    explicit Buffer(size_t n = 0, size_t align = 64) : n_(n) {
        if (n == 0) return;  // null, as a caller without anything to give has it
        if (posix_memalign(reinterpret_cast<void**>(&p_), align, n * sizeof(T))) std::abort();
        std::memset(static_cast<void*>(p_), 0xff, n * sizeof(T));
    }
    Buffer(Buffer&& other) noexcept : p_(std::exchange(other.p_, nullptr)), n_(std::exchange(other.n_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(p_, other.p_);
        std::swap(n_, other.n_);
        return *this;
    }
    ~Buffer() { std::free(p_); }
    T* data() const { return p_; }
    size_t size() const { return n_; }
    T& operator[](size_t i) const { return p_[i]; }

  private:
    T* p_ = nullptr;
    size_t n_ = 0;
};

// SplitMix64, and normal numbers by the sum of twelve uniform ones
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = (state += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    int below(int n) { return int(next() % uint64_t(n)); }
    double uniform() { return double(next() >> 11) * 0x1p-53; }
    double normal() {
        double sum = -6;
        for (int i = 0; i < 12; ++i) sum += uniform();
        return sum;
    }
    // n of them, representable in both float types
    std::vector<double> normals(size_t n, double scale = 1) {
        std::vector<double> v(n);
        for (double& x : v) x = double(float(scale * normal()));
        return v;
    }
};

struct Report {
    int failures = 0;
    void fail(const std::string& what) {
        if (++failures <= 20) std::fprintf(stderr, "FAIL %s\n", what.c_str());
    }
    void expect(bool ok, const std::string& what) {
        if (!ok) fail(what);
    }
};
inline Report report;

// largest difference over largest magnitude
template <class A, class B>
double relative(const std::vector<A>& a, const std::vector<B>& b) {
    if (a.size() != b.size()) return HUGE_VAL;
    double difference = 0, magnitude = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double d = std::fabs(double(a[i]) - double(b[i]));
        if (!(d <= HUGE_VAL)) return HUGE_VAL;  // NaN
        difference = std::fmax(difference, d);
        magnitude = std::fmax(magnitude, std::fabs(double(b[i])));
    }
    return difference == 0 ? 0 : difference / std::fmax(magnitude, 1e-30);
}

template <class A, class B>
void expect_close(const std::vector<A>& a, const std::vector<B>& b, double tolerance, const std::string& what) {
    const double r = relative(a, b);
    if (!(r <= tolerance)) report.fail(what + ": relative difference " + std::to_string(r * 1e9) + "e-9");
}

template <class T>
void expect_same(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
    report.expect(a.size() == b.size() && (a.empty() || !std::memcmp(a.data(), b.data(), a.size() * sizeof(T))),
                  what + ": not bitwise the same");
}
