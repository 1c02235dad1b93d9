#include "../ops.h"

namespace fastrnn {
namespace FASTRNN_ISA {

extern const Ops ops_table;
const Ops ops_table = {1};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
