// table.cpp: this instruction set's one Kernels table.
#include "../attention.h"
#include "../ops.h"
#include "../pool.h"
#include "../scan.h"
#include "../tree.h"
#include "../word2vec.h"
#include "entry.h"
#include "stack_plan.h"
#include "vmath.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
void sizes_of(const Sequence& q, Sizes& out) {
    Plan<T> p;
    out.forward = lay_out(p, q, false, nullptr);
    out.backward = q.save == kSaveNothing ? 0 : lay_out(p, q, true, nullptr);
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

int stack_teams(const Sequence* q, int layers, int backward) {
    return (q->dtype == kFloat32 ? stack_split<float>(*q, layers, backward) : stack_split<double>(*q, layers, backward)).teams;
}
void stack_of(const Sequence* const* q, int layers, bool backward) {
    const int cell = q[0]->cell;
    (cell == kLstm ? lstm_stack : cell >= kGruAfter ? gru_stack : rnn_stack)(q, layers, backward);
}
void forward_stack(const Sequence* const* q, int layers) { stack_of(q, layers, false); }
void backward_stack(const Sequence* const* q, int layers) { stack_of(q, layers, true); }

#define FR_STRING_(x) #x
#define FR_STRING(x) FR_STRING_(x)

extern const AttentionTable attention_table;
const AttentionTable attention_table = {dot_workspace,      dot_forward,      dot_backward,
                                        additive_workspace, additive_forward, additive_backward};
extern const DecoderTable decoder_table;
const DecoderTable decoder_table = {decoder_sizes, decoder_forward, decoder_backward};
extern const SearchTable search_table;
const SearchTable search_table = {search_bytes, search_run};
extern const Ops ops_table;                   // ops.cpp
extern const ScanTable scan_table;            // scan.cpp
extern const Streams stream_table;            // stream.cpp
extern const TreeKernels tree_table;          // tree.cpp
extern const Word2VecKernels word2vec_table;  // word2vec.cpp
extern const Kernels table;
const Kernels table = {FR_STRING(FASTRNN_ISA),
                       FASTRNN_VBYTES,
                       sizes,
                       forward,
                       backward,
                       stack_teams,
                       forward_stack,
                       backward_stack,
                       gemm_workspace,
                       gemm,
                       fma_peak,
                       &ops_table,
                       &stream_table,
                       &attention_table,
                       &tree_table,
                       &word2vec_table,
                       &decoder_table,
                       &search_table,
                       &scan_table};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
