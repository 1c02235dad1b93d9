// table.cpp: this instruction set's one Kernels table.
#include "../attention.h"
#include "../ops.h"
#include "../pool.h"
#include "../scan.h"
#include "../tree.h"
#include "../variant.h"
#include "../word2vec.h"
#include "entry.h"
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

#define FR_STRING_(x) #x
#define FR_STRING(x) FR_STRING_(x)

extern const AttentionTable attention_table;
const AttentionTable attention_table = {dot_workspace,      dot_forward,      dot_backward,
                                        additive_workspace, additive_forward, additive_backward};
extern const DecoderTable decoder_table;
const DecoderTable decoder_table = {decoder_sizes, decoder_forward, decoder_backward};
extern const SearchTable search_table;
const SearchTable search_table = {search_bytes, search_run};
bool variant_spec(const VariantSettings*, int dtype, int cell, CellSpec*);  // variants.cpp
extern const Ops ops_table;                                                 // ops.cpp
extern const ScanTable scan_table;                                          // scan.cpp
extern const Streams stream_table;                                          // stream.cpp
extern const TreeKernels tree_table;                                        // tree.cpp
extern const Word2VecKernels word2vec_table;                                // word2vec.cpp
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
                       &scan_table,
                       variant_spec};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
