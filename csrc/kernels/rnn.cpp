#include "cell_rnn.h"
#include "entry.h"
#include "stack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

void rnn_forward(const Sequence& q) { q.dtype == kFloat32 ? run_forward<float, Rnn>(q) : run_forward<double, Rnn>(q); }
void rnn_backward(const Sequence& q) { q.dtype == kFloat32 ? run_backward<float, Rnn>(q) : run_backward<double, Rnn>(q); }
void rnn_stack(const Sequence* const* q, int layers, bool backward) {
    if (q[0]->dtype == kFloat32)
        backward ? run_stack<float, Rnn, true>(q, layers) : run_stack<float, Rnn, false>(q, layers);
    else
        backward ? run_stack<double, Rnn, true>(q, layers) : run_stack<double, Rnn, false>(q, layers);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
