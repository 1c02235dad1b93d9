#include "cell_rnn.h"
#include "entry.h"

namespace fastrnn {
namespace FASTRNN_ISA {

namespace {

template <class T>
void forward_of(const Sequence& q) {
    if (q.cell == kRnnTanh) return run_forward<T, Rnn<kRnnTanh>>(q);
    if (q.cell == kRnnRelu) return run_forward<T, Rnn<kRnnRelu>>(q);
    run_forward<T, Rnn<kRnnSigmoid>>(q);
}
template <class T>
void backward_of(const Sequence& q) {
    if (q.cell == kRnnTanh) return run_backward<T, Rnn<kRnnTanh>>(q);
    if (q.cell == kRnnRelu) return run_backward<T, Rnn<kRnnRelu>>(q);
    run_backward<T, Rnn<kRnnSigmoid>>(q);
}

}  // namespace

void rnn_forward(const Sequence& q) { q.dtype == kFloat32 ? forward_of<float>(q) : forward_of<double>(q); }
void rnn_backward(const Sequence& q) { q.dtype == kFloat32 ? backward_of<float>(q) : backward_of<double>(q); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
