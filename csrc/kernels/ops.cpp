// ops.cpp: this instruction set's table of ops.h. The kernels are templates in ops_*.h; here they get their dtype.
#include "../ops.h"

#include "../fastrnn.h"
#include "ops_activation.h"
#include "ops_array.h"
#include "ops_dropout.h"
#include "ops_embedding.h"
#include "ops_loss.h"
#include "ops_norm.h"
#include "ops_optim.h"
#include "ops_pool.h"
#include "ops_softmax.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

// T* as the table has it: void* for float and double
template <class A>
struct Untyped {
    using type = A;
};
template <>
struct Untyped<float*> {
    using type = void*;
};
template <>
struct Untyped<const float*> {
    using type = const void*;
};

// one function for the table from a kernel's two instances
template <auto kFloat, auto kDouble>
struct Either;
template <class R, class... A, class... B, R (*kFloat)(A...) noexcept, R (*kDouble)(B...) noexcept>
struct Either<kFloat, kDouble> {
    static R call(int dtype, typename Untyped<A>::type... a) {
        return dtype == kFloat32 ? kFloat(static_cast<A>(a)...) : kDouble(static_cast<B>(a)...);
    }
};

#define FR_BOTH(kernel) Either<kernel<float>, kernel<double>>::call

}  // namespace

extern const Ops ops_table;
const Ops ops_table = {
    FR_BOTH(activation),
    FR_BOTH(activation_backward),
    FR_BOTH(softmax),
    FR_BOTH(log_softmax),
    FR_BOTH(softmax_backward),
    FR_BOTH(cross_entropy),
    FR_BOTH(bce_with_logits),
    FR_BOTH(layer_norm_forward),
    FR_BOTH(layer_norm_backward),
    FR_BOTH(embedding_forward),
    FR_BOTH(embedding_backward),
    FR_BOTH(max_pool),
    FR_BOTH(max_pool_backward),
    FR_BOTH(mean_pool),
    FR_BOTH(mean_pool_backward),
    FR_BOTH(dropout),
    update,
    norm_squared,
    scale_all,
    FR_BOTH(column_sum),
    FR_BOTH(sum_squares),
    FR_BOTH(all_finite),
    FR_BOTH(scale),
    FR_BOTH(clip),
    FR_BOTH(add),
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
