#include "cell_rnn.h"
#include "entry.h"
#include "stack.h"

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
template <class T, bool kBackward>
void stack_of(const Sequence* const* q, int layers) {
    if (q[0]->cell == kRnnTanh) return run_stack<T, Rnn<kRnnTanh>, kBackward>(q, layers);
    if (q[0]->cell == kRnnRelu) return run_stack<T, Rnn<kRnnRelu>, kBackward>(q, layers);
    run_stack<T, Rnn<kRnnSigmoid>, kBackward>(q, layers);
}

}  // namespace

void rnn_forward(const Sequence& q) { q.dtype == kFloat32 ? forward_of<float>(q) : forward_of<double>(q); }
void rnn_backward(const Sequence& q) { q.dtype == kFloat32 ? backward_of<float>(q) : backward_of<double>(q); }
void rnn_stack(const Sequence* const* q, int layers, bool backward) {
    if (q[0]->dtype == kFloat32)
        backward ? stack_of<float, true>(q, layers) : stack_of<float, false>(q, layers);
    else
        backward ? stack_of<double, true>(q, layers) : stack_of<double, false>(q, layers);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
