// sequence.cpp: the recurrent entries of the table: one layer, or a stack of them.
#include "entry.h"
#include "stack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
void sizes_of(const Sequence& q, Sizes& out) {
    Plan<T> p;
    out.forward = lay_out(p, q, false, nullptr);
    out.backward = q.save == kSaveNothing ? 0 : lay_out(p, q, true, nullptr);
    const size_t item = sizeof(T), rows = size_t(q.steps), cell = p.cell.kept ? size_t(p.cell_stride) * item : 0;
    const bool all = q.save == kSaveAll;
    out.gates = all ? rows * size_t(p.gates_stride()) * item : 0;
    out.hidden = all && q.dir[0].M ? rows * size_t(p.Hp) * item : 0;
    out.c = 0;
    if (all) out.c = (size_t(q.B) + rows) * cell;
    if (q.save == kSaveCheckpoints) out.c = size_t((q.T + q.checkpoint - 1) / q.checkpoint) * size_t(q.B) * cell;
}
void sizes(const Sequence* q, Sizes* out) { q->dtype == kFloat32 ? sizes_of<float>(*q, *out) : sizes_of<double>(*q, *out); }

void forward(const Sequence* q) { q->dtype == kFloat32 ? run_forward<float>(*q) : run_forward<double>(*q); }
void backward(const Sequence* q) { q->dtype == kFloat32 ? run_backward<float>(*q) : run_backward<double>(*q); }

int stack_teams(const Sequence* q, int layers, int backward) {
    return (q->dtype == kFloat32 ? stack_split<float>(*q, layers, backward) : stack_split<double>(*q, layers, backward)).teams;
}
void forward_stack(const Sequence* const* q, int layers) {
    q[0]->dtype == kFloat32 ? run_stack<float, false>(q, layers) : run_stack<double, false>(q, layers);
}
void backward_stack(const Sequence* const* q, int layers) {
    q[0]->dtype == kFloat32 ? run_stack<float, true>(q, layers) : run_stack<double, true>(q, layers);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
