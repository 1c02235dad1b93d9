// scan.cpp: the walk over time of scan.h, written once for all cells.
//
// An item is a piece of the channels of one row, and a thread's items are walked through in groups: at each step all items of
// the group, then the next step. So where rows are neighbours in memory (time-major batches) a group reads and writes runs of
// many KiB, and where a row's steps are neighbours (ragged or batch-first ones) a group is one row. What is carried from step
// to step lies on the stack, in L1. Nothing passes between items but the sums over rows of backward, which have an array of
// their own for each row and are added in the order of the rows: no bit depends on the number of threads.
#include "scan_cells.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr ptrdiff_t kChannels = 512, kItems = 8;  // of an item; of a group

// How rows are cut into items: `channels` each, fewer than kChannels where there would be too few items for the threads
struct Cut {
    ptrdiff_t channels, pieces;
};

inline Cut cut_rows(const Scan& q) {
    Cut cut{kChannels, (q.H + kChannels - 1) / kChannels};
    while (cut.channels > 64 && q.B * cut.pieces < q.threads) {
        cut.channels /= 2;
        cut.pieces = (q.H + cut.channels - 1) / cut.channels;
    }
    return cut;
}

// An item: channels c0 … c1-1 of row b, which has n steps
struct Item {
    ptrdiff_t b, c0, c1, n;
};

FR_INLINE Item item_of(const Scan& q, ptrdiff_t i, Cut cut) {
    const ptrdiff_t b = i / cut.pieces, c0 = i % cut.pieces * cut.channels;
    return {b, c0, least(c0 + cut.channels, q.H), q.lengths ? ptrdiff_t(q.lengths[b]) : q.T};
}

// the step that is the k-th in the scan's direction
FR_INLINE ptrdiff_t time_of(const Scan& q, const Item& item, ptrdiff_t k) { return q.reverse ? item.n - 1 - k : k; }

template <class T>
FR_INLINE const T* in(const void* p, ptrdiff_t offset) {
    return p ? static_cast<const T*>(p) + offset : nullptr;
}
template <class T>
FR_INLINE T* out(void* p, ptrdiff_t offset) {
    return p ? static_cast<T*>(p) + offset : nullptr;
}

// p[0 … count-1] of a channel, zeros without p
template <int kCount, class Position, class V, class T>
FR_INLINE void get_blocks(Position at, V* into, const T* from, ptrdiff_t stride) {
    FR_UNROLL
    for (int k = 0; k < kCount; ++k) into[k] = from ? at.get(from + k * stride) : V{};
}
template <int kCount, class Position, class V, class T>
FR_INLINE void put_blocks(Position at, T* into, const V* from, ptrdiff_t stride) {
    FR_UNROLL
    for (int k = 0; k < kCount; ++k) at.put(into + k * stride, from[k]);
}

template <class T>
FR_INLINE void copy(ptrdiff_t n, const T* from, T* into) {
    vectors<T>(0, n, [=](auto at) { at.put(into, from ? at.get(from) : zero<T>()); });
}

// The lines of the next step, which come from far away: the hardware's prefetching ends with a page. L2 has room for a group's.
template <int kCount, class T>
FR_INLINE void call_for(const T* row, ptrdiff_t stride) {
    FR_UNROLL
    for (int k = 0; k < kCount; ++k) __builtin_prefetch(row + k * stride, 0, 2);
}

// What is larger than caches is written past them, which saves reading it first. Whether that can be: all rows aligned.
constexpr ptrdiff_t kFar = ptrdiff_t(24) << 20;  // bytes
template <class T>
bool is_far(const Scan& q) {
#if defined(__x86_64__)
    if (q.T * q.B * q.H * ptrdiff_t(sizeof(T)) < kFar) return false;
    const auto bits = uintptr_t(q.y) | uintptr_t(q.s) | uintptr_t((q.y_t | q.y_b | q.H) * ptrdiff_t(sizeof(T)));
    return bits % FASTRNN_VBYTES == 0;
#else
    return q.T < 0;  // no such store here
#endif
}
template <class T>
FR_INLINE void put_far(Part<T> at, T* p, typename Simd<T>::V v) {
    at.put(p, v);
}
template <class T>
FR_INLINE void put_far(Whole<T> at, T* p, typename Simd<T>::V v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p + at.i), (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p + at.i), (__m256i)v);
#elif defined(__x86_64__)
    _mm_stream_si128(reinterpret_cast<__m128i*>(p + at.i), (__m128i)v);
#else
    at.put(p, v);
#endif
}
FR_INLINE void finish_far(bool far) {
#if defined(__x86_64__)
    if (far) _mm_sfence();
#else
    (void)far;
#endif
}

// ---- forward

template <class C, class T>
FR_NOINLINE void forward_step(const Scan& q, const Item& item, ptrdiff_t t, T* carry, const Options<T>& options, bool far) {
    const ptrdiff_t H = q.H, row = q.first[item.b] + t * q.step, next = (q.reverse ? -q.step : q.step) * q.G * H;
    const T *z = in<T>(q.z, row * q.G * H), *p = in<T>(q.p, 0);
    const T* skip = !C::kSkip ? nullptr : q.skip ? in<T>(q.skip, row * H) : z + 3 * H;
    T *y = out<T>(q.y, t * q.y_t + item.b * q.y_b), *s = C::kSaves ? out<T>(q.s, row * C::kStates * H) : nullptr;
    const Options<T> o = options;
    const ptrdiff_t c0 = item.c0, next_skip = q.skip ? next / q.G : next;
    vectors<T>(c0, item.c1, [=](auto at) {
        At<T> a;
        call_for<C::kGates>(z + next + at.i, H);
        if (C::kSkip) __builtin_prefetch(skip + next_skip + at.i, 0, 2);
        get_blocks<C::kGates>(at, a.z, z, H);
        get_blocks<C::kStates>(at, a.s, carry - c0, kChannels);
        get_blocks<C::kParams>(at, a.p, p, H);
        if (C::kSkip) a.x = at.get(skip);
        C::template forward<T>(a, o);
        put_blocks<C::kStates>(at, carry - c0, a.s, kChannels);
        if constexpr (C::kOutputs) {
            far ? put_far(at, y, a.y) : at.put(y, a.y);
            if (C::kSaves && s) far ? put_far(at, s, a.s[0]) : at.put(s, a.s[0]);
        } else {
            put_blocks<C::kStates>(at, s, a.s, H);
        }
    });
}

template <class C, class T>
void forward_items(const Scan& q, ptrdiff_t i, ptrdiff_t end, Cut cut) {
    alignas(64) T carry[kItems][C::kStates * kChannels];
    const Options<T> options{broadcast(T(q.alpha)), q.option != 0};
    const ptrdiff_t most = q.step == 1 ? 1 : kItems;
    const bool far = is_far<T>(q);
    for (; i < end; i += most) {
        const ptrdiff_t count = least(most, end - i);
        Item items[kItems];
        for (ptrdiff_t k = 0; k < count; ++k) {
            const Item m = items[k] = item_of(q, i + k, cut);
            for (int j = 0; j < C::kStates; ++j)
                copy(m.c1 - m.c0, in<T>(q.s_0, (m.b * C::kStates + j) * q.H + m.c0), carry[k] + j * kChannels);
        }
        for (ptrdiff_t n = 0; n < q.T; ++n) {
            for (ptrdiff_t k = 0; k < count; ++k) {
                const Item& m = items[k];
                if (n < m.n)
                    forward_step<C, T>(q, m, time_of(q, m, n), carry[k], options, far);
                else if (C::kOutputs)
                    copy<T>(m.c1 - m.c0, nullptr, out<T>(q.y, n * q.y_t + m.b * q.y_b + m.c0));
            }
        }
        for (ptrdiff_t k = 0; k < count; ++k) {
            const Item& m = items[k];
            for (int j = 0; j < C::kStates; ++j)
                copy<T>(m.c1 - m.c0, carry[k] + j * kChannels, out<T>(q.s_n, (m.b * C::kStates + j) * q.H + m.c0));
        }
    }
    finish_far(far);
}

// ---- backward

// the state before step t, the k-th: what the step before it saved, or the initial state
template <class C, class T>
FR_INLINE const T* state_before(const Scan& q, const Item& item, ptrdiff_t t, ptrdiff_t k) {
    if (k == 0) return in<T>(q.s_0, item.b * C::kStates * q.H);
    const ptrdiff_t before = q.reverse ? t + 1 : t - 1;
    if (!C::kSaves) return in<T>(q.y, before * q.y_t + item.b * q.y_b);
    return in<T>(q.s, (q.first[item.b] + before * q.step) * C::kStates * q.H);
}

template <class C, class T>
FR_NOINLINE void backward_step(const Scan& q, const Item& item, ptrdiff_t k, T* carry, T* sums, const Options<T>& options) {
    const ptrdiff_t H = q.H, t = time_of(q, item, k), row = q.first[item.b] + t * q.step;
    const ptrdiff_t next = (q.reverse ? q.step : -q.step) * q.G * H, next_s = (q.reverse ? q.step : -q.step) * C::kStates * H;
    const ptrdiff_t next_dy = q.reverse ? q.dy_t : -q.dy_t, next_y = q.reverse ? q.y_t : -q.y_t;
    T* dz = out<T>(q.dz, row * q.G * H);
    const T *z = C::kOutputs ? in<T>(q.z, row * q.G * H) : dz, *p = in<T>(q.p, 0),
            *dy = in<T>(q.dy, t * q.dy_t + item.b * q.dy_b);
    const T* s = state_before<C, T>(q, item, t, k);
    const T* skip = !C::kSkip ? nullptr : q.skip ? in<T>(q.skip, row * H) : z + 3 * H;
    T* dskip = !C::kSkip ? nullptr : !q.skip ? dz + 3 * H : out<T>(q.dskip, row * H);
    const Options<T> o = options;
    const ptrdiff_t c0 = item.c0, from = C::kSaves ? next_s : next_y, next_skip = q.skip ? next / q.G : next;
    vectors<T>(c0, item.c1, [=](auto at) {
        At<T> a;
        call_for<C::kGates>(z + next + at.i, H);
        if (s) call_for<C::kStates>(s + from + at.i, H);
        if (C::kSkip) __builtin_prefetch(skip + next_skip + at.i, 0, 2);
        if (dy) __builtin_prefetch(dy + next_dy + at.i, 0, 2);
        get_blocks<C::kGates>(at, a.z, z, H);
        get_blocks<C::kStates>(at, a.s, s, H);
        get_blocks<C::kParams>(at, a.p, p, H);
        get_blocks<C::kStates>(at, a.ds, carry - c0, kChannels);
        get_blocks<C::kParams>(at, a.dp, sums - c0, kChannels);
        if (C::kSkip) a.x = at.get(skip);
        a.dy = dy ? at.get(dy) : zero<T>();
        C::template backward<T>(a, o);
        put_blocks<C::kGates>(at, dz, a.z, H);
        put_blocks<C::kStates>(at, carry - c0, a.ds, kChannels);
        put_blocks<C::kParams>(at, sums - c0, a.dp, kChannels);
        if (C::kSkip && dskip) at.put(dskip, a.dx);
    });
}

template <class C, class T>
void backward_items(const Scan& q, ptrdiff_t i, ptrdiff_t end, Cut cut) {
    constexpr int kSums = C::kParams ? C::kParams : 1;
    alignas(64) T carry[kItems][C::kStates * kChannels], sums[kItems][kSums * kChannels];
    const Options<T> options{broadcast(T(q.alpha)), q.option != 0};
    const ptrdiff_t most = q.step == 1 ? 1 : kItems;
    for (; i < end; i += most) {
        const ptrdiff_t count = least(most, end - i);
        Item items[kItems];
        ptrdiff_t steps = 0;
        for (ptrdiff_t k = 0; k < count; ++k) {
            const Item m = items[k] = item_of(q, i + k, cut);
            if (m.n > steps) steps = m.n;
            for (int j = 0; j < C::kStates; ++j)
                copy(m.c1 - m.c0, in<T>(q.ds_n, (m.b * C::kStates + j) * q.H + m.c0), carry[k] + j * kChannels);
            for (int j = 0; j < C::kParams; ++j) copy<T>(m.c1 - m.c0, nullptr, sums[k] + j * kChannels);
        }
        for (ptrdiff_t n = steps - 1; n >= 0; --n)
            for (ptrdiff_t k = 0; k < count; ++k)
                if (n < items[k].n) backward_step<C, T>(q, items[k], n, carry[k], sums[k], options);
        for (ptrdiff_t k = 0; k < count; ++k) {
            const Item& m = items[k];
            for (int j = 0; j < C::kStates; ++j)
                copy<T>(m.c1 - m.c0, carry[k] + j * kChannels, out<T>(q.ds_0, (m.b * C::kStates + j) * q.H + m.c0));
            for (int j = 0; j < C::kParams; ++j)
                copy<T>(m.c1 - m.c0, sums[k] + j * kChannels, out<T>(q.workspace, (m.b * C::kParams + j) * q.H + m.c0));
        }
    }
}

// dp += the sums of the rows, in their order
template <class C, class T>
void add_rows(const Scan& q) {
    if (C::kParams == 0 || !q.dp) return;
    const ptrdiff_t n = C::kParams * q.H, B = q.B;
    const T* rows = in<T>(q.workspace, 0);
    T* dp = out<T>(q.dp, 0);
    each<T>(n, 0.1 * double(B), q.threads, [=](auto at) {
        auto sum = at.get(dp);
        for (ptrdiff_t b = 0; b < B; ++b) sum += at.get(rows + b * n);
        at.put(dp, sum);
    });
}

// ---- the table

template <class C, class T>
void run(const Scan& q, bool backward) {
    const Cut cut = cut_rows(q);
    const double ns = double(q.T) * (3 + double(least(q.H, cut.channels)) * sizeof(T) * 0.3);  // of an item, at 10 GB/s
    parallel(q.B * cut.pieces, ns, q.threads, [&q, cut, backward](ptrdiff_t i, ptrdiff_t end) {
        backward ? backward_items<C, T>(q, i, end, cut) : forward_items<C, T>(q, i, end, cut);
    });
    if (backward) add_rows<C, T>(q);
}

template <class T>
void run_cell(const Scan& q, bool backward) {
    switch (q.cell) {
        case kSru:
            return run<Sru, T>(q, backward);
        case kQrnn:
            return run<Qrnn, T>(q, backward);
        case kMinGru:
            return run<MinGru, T>(q, backward);
        case kMinLstm:
            return run<MinLstm, T>(q, backward);
        case kLru:
            return run<Lru, T>(q, backward);
        default:
            return run<IndRnn, T>(q, backward);
    }
}

void scan_forward(const Scan* q) { q->dtype == kFloat32 ? run_cell<float>(*q, false) : run_cell<double>(*q, false); }
void scan_backward(const Scan* q) { q->dtype == kFloat32 ? run_cell<float>(*q, true) : run_cell<double>(*q, true); }

size_t scan_workspace(const Scan* q) {
    const size_t params = q->cell == kSru || q->cell == kLru ? 2 : q->cell == kIndRnn ? 1 : 0;
    return params * size_t(q->B) * size_t(q->H) * (q->dtype == kFloat32 ? sizeof(float) : sizeof(double));
}

}  // namespace

extern const ScanTable scan_table;
const ScanTable scan_table = {scan_workspace, scan_forward, scan_backward};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
