// ops.h: the kernels around recurrent layers: activations, losses, normalisation, embeddings, dropout, optimisers.
// Same rules as fastrnn.h.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

struct Ops {
    int version;
};

}  // namespace fastrnn
