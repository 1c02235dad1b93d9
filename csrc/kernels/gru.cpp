#include "cell_gru.h"
#include "entry.h"
#include "stack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

namespace {

template <class T>
void forward_of(const Sequence& q) {
    q.cell == kGruAfter ? run_forward<T, GruAfter>(q) : run_forward<T, GruBefore>(q);
}
template <class T>
void backward_of(const Sequence& q) {
    q.cell == kGruAfter ? run_backward<T, GruAfter>(q) : run_backward<T, GruBefore>(q);
}
template <class T, bool kBackward>
void stack_of(const Sequence* const* q, int layers) {
    q[0]->cell == kGruAfter ? run_stack<T, GruAfter, kBackward>(q, layers) : run_stack<T, GruBefore, kBackward>(q, layers);
}

}  // namespace

void gru_forward(const Sequence& q) { q.dtype == kFloat32 ? forward_of<float>(q) : forward_of<double>(q); }
void gru_backward(const Sequence& q) { q.dtype == kFloat32 ? backward_of<float>(q) : backward_of<double>(q); }
void gru_stack(const Sequence* const* q, int layers, bool backward) {
    if (q[0]->dtype == kFloat32)
        backward ? stack_of<float, true>(q, layers) : stack_of<float, false>(q, layers);
    else
        backward ? stack_of<double, true>(q, layers) : stack_of<double, false>(q, layers);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
