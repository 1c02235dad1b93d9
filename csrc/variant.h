// variant.h: what the built-in cells' variants may have beyond the plain cell. The equations are in kernels/variant_*.h.
// FastRNN and FastGRNN are variants of nothing: their plain cells are there too.
#pragma once
#include "cell.h"

namespace fastrnn {

// ONNX's activations, and the identity. Comments: f(z), ONNX's alpha and beta.
enum CellActivation : int {
    kActIdentity = 0,         // z
    kActTanh = 1,             // tanh(z)
    kActSigmoid = 2,          // σ(z)
    kActRelu = 3,             // max(z, 0)
    kActLeakyRelu = 4,        // z for z ≥ 0, else alpha·z                 0.01
    kActThresholdedRelu = 5,  // z for z ≥ alpha, else 0                   1
    kActAffine = 6,           // alpha·z + beta                            1, 0
    kActScaledTanh = 7,       // alpha·tanh(beta·z)                        1, 1
    kActHardSigmoid = 8,      // alpha·z + beta, limited to 0 … 1          0.2, 0.5
    kActElu = 9,              // z for z ≥ 0, else alpha·(eᶻ − 1)          1
    kActSoftsign = 10,        // z/(1 + |z|)
    kActSoftplus = 11,        // log(1 + eᶻ)
};
constexpr int kCellActivations = 12;

struct CellActivationSettings {
    int kind;  // a CellActivation
    double alpha, beta;
};

struct VariantSettings {
    bool peephole;  // LSTM: vectors p_i, p_f, p_o (coupled: p_i, p_o)
    bool coupled;   // LSTM: f = 1 − i; gates i, g, o
    bool norm_c;    // LSTM: h = o ⊙ h(gain_c ⊙ N(c) + bias_c); vectors gain_c, bias_c after the peepholes. Whole rows.
    double clip;    // z is limited to [−clip, clip] before each gate's activation; 0: it isn't
    // LSTM: of the gates, of the candidate g, of c in h; GRU, FastGRNN: of the gates, of n; RNN: of h; FastRNN: of n
    CellActivationSettings activation[3];
};

constexpr double kLayerNormEps = 1e-5;  // N(v) = (v − mean)/√(var + kLayerNormEps)

}  // namespace fastrnn
