// table.cpp: this instruction set's one Kernels table.
#include "../ops.h"
#include "../pool.h"
#include "entry.h"
#include "plan.h"
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
void sizes_of(const Sequence& q, Sizes& out) {
    Plan<T> p;
    out.forward = lay_out(p, q, false, nullptr);
    out.backward = lay_out(p, q, true, nullptr);
    const size_t item = sizeof(T), rows = size_t(q.steps), all = q.save == kSaveAll;
    out.gates = all * rows * size_t(p.gates_stride()) * item;
    out.hidden = all && q.dir[0].M ? rows * size_t(p.Hp) * item : 0;
    out.c = 0;
    if (q.cell == kLstm && all) out.c = (size_t(q.B) + rows) * size_t(p.Hp) * item;
    if (q.cell == kLstm && q.save == kSaveCheckpoints)
        out.c = size_t((q.T + q.checkpoint - 1) / q.checkpoint) * size_t(q.B) * size_t(p.Hp) * item;
}

void sizes(const Sequence* q, Sizes* out) { q->dtype == kFloat32 ? sizes_of<float>(*q, *out) : sizes_of<double>(*q, *out); }

void forward(const Sequence* q) { (q->cell == kLstm ? lstm_forward : q->cell >= kGruAfter ? gru_forward : rnn_forward)(*q); }
void backward(const Sequence* q) {
    (q->cell == kLstm ? lstm_backward : q->cell >= kGruAfter ? gru_backward : rnn_backward)(*q);
}

template <class T>
struct VmathJob {
    int f;
    const T* x;
    T* y;
    ptrdiff_t n;
};

template <class T>
void vmath_job(void* ctx, int id, int n) noexcept {
    const VmathJob<T>& j = *static_cast<const VmathJob<T>*>(ctx);
    const ptrdiff_t vectors = (j.n + VL<T> - 1) / VL<T>, first = vectors * id / n * VL<T>;
    const ptrdiff_t end = vectors * (id + 1) / n * VL<T>, last = end < j.n ? end : j.n;
    auto each = [&](auto&& f) {
        ptrdiff_t i = first;
        for (; i + VL<T> <= last; i += VL<T>) store(j.y + i, f(load(j.x + i)));
        if (i < last) store_n(j.y + i, f(load_n(j.x + i, int(last - i))), int(last - i));
    };
    using V = typename Simd<T>::V;
    if (j.f == 0) each([](V v) { return exp<T>(v); });
    if (j.f == 1) each([](V v) { return tanh<T>(v); });
    if (j.f == 2) each([](V v) { return sigmoid<T>(v); });
}

void vmath(int dtype, int f, const void* x, void* y, ptrdiff_t n, int threads) {
    const int useful = int(n / 16384) + 1;
    if (useful < threads) threads = useful;
    if (dtype == kFloat32) {
        VmathJob<float> j{f, static_cast<const float*>(x), static_cast<float*>(y), n};
        pool_run(threads, vmath_job<float>, &j);
    } else {
        VmathJob<double> j{f, static_cast<const double*>(x), static_cast<double*>(y), n};
        pool_run(threads, vmath_job<double>, &j);
    }
}

#define FR_STRING_(x) #x
#define FR_STRING(x) FR_STRING_(x)

extern const Ops ops_table;  // ops.cpp
extern const Kernels table;
const Kernels table = {FR_STRING(FASTRNN_ISA), FASTRNN_VBYTES, sizes, forward, backward, gemm_workspace, gemm, vmath, fma_peak, &ops_table};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
