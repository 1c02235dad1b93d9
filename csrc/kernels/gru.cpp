#include "cell_gru.h"
#include "entry.h"

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

}  // namespace

void gru_forward(const Sequence& q) { q.dtype == kFloat32 ? forward_of<float>(q) : forward_of<double>(q); }
void gru_backward(const Sequence& q) { q.dtype == kFloat32 ? backward_of<float>(q) : backward_of<double>(q); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
