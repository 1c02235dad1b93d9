#include "cell_lstm.h"
#include "entry.h"

namespace fastrnn {
namespace FASTRNN_ISA {

namespace {

template <class T>
void forward_of(const Sequence& q) {
    q.dir[0].M ? run_forward<T, Lstm<true>>(q) : run_forward<T, Lstm<false>>(q);
}
template <class T>
void backward_of(const Sequence& q) {
    q.dir[0].M ? run_backward<T, Lstm<true>>(q) : run_backward<T, Lstm<false>>(q);
}

}  // namespace

void lstm_forward(const Sequence& q) { q.dtype == kFloat32 ? forward_of<float>(q) : forward_of<double>(q); }
void lstm_backward(const Sequence& q) { q.dtype == kFloat32 ? backward_of<float>(q) : backward_of<double>(q); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
