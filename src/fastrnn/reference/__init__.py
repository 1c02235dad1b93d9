"""Recurrent networks in plain NumPy: slow, short, and the yardstick for the compiled kernels.

Every function stands beside its pullback (``f`` and ``f_vjp``), is written from its equations, and is proved by finite
differences and by outputs of PyTorch. Nothing here needs more than NumPy.

Examples
--------
>>> import numpy as np
>>> from fastrnn import reference
>>> y, h_n = reference.gru(np.ones((5, 2, 3)), None, np.ones((12, 3)), np.ones((12, 4)))
>>> y.shape, h_n.shape
((5, 2, 4), (2, 4))
"""

from ._variants import Norm
from .activations import (
    gelu,
    gelu_derivative,
    gelu_vjp,
    leaky_relu,
    leaky_relu_derivative,
    leaky_relu_vjp,
    log_softmax,
    log_softmax_vjp,
    relu,
    relu_derivative,
    relu_vjp,
    sigmoid,
    sigmoid_derivative,
    sigmoid_vjp,
    softmax,
    softmax_jvp,
    softmax_vjp,
    swish,
    swish_derivative,
    swish_vjp,
    tanh,
    tanh_derivative,
    tanh_vjp,
)
from .attention import (
    additive_attention,
    additive_attention_vjp,
    attention,
    attention_vjp,
    dropped_weights,
)
from .decoder import decoder, decoder_vjp
from .fast import FastGRNNGrads, FastRNNGrads, fast_grnn, fast_grnn_vjp, fast_rnn, fast_rnn_vjp
from .gates import reorder_gates
from .gru import GRUGrads, gru, gru_vjp
from .layers import (
    EmbeddingGrads,
    LayerNormGrads,
    LinearGrads,
    dropout,
    dropout_vjp,
    embedding,
    embedding_vjp,
    layer_norm,
    layer_norm_vjp,
    linear,
    linear_vjp,
)
from .losses import bce_with_logits, cross_entropy, mse
from .lstm import LSTMGrads, lstm, lstm_vjp
from .optim import adam, adamw, clip_grad_norm, clip_grad_value, rmsprop, sgd
from .pooling import last, last_vjp, max_pool, max_pool_vjp, mean_pool, mean_pool_vjp
from .rnn import RNNGrads, rnn, rnn_vjp
from .scan import ind_rnn_vjp, lru_vjp, min_gru_vjp, min_lstm_vjp, qrnn_vjp, sru_vjp
from .search import beam_search, draw, uniform
from .stack import stack, stack_vjp
from .tree import RecursiveNetGrads, TreeLSTMGrads, recursive_net, recursive_net_vjp, tree_lstm, tree_lstm_vjp
from .word2vec import word2vec, word2vec_draws, word2vec_loss, word2vec_predictions

__all__ = [
    "EmbeddingGrads",
    "FastGRNNGrads",
    "FastRNNGrads",
    "GRUGrads",
    "LSTMGrads",
    "LayerNormGrads",
    "LinearGrads",
    "Norm",
    "RNNGrads",
    "RecursiveNetGrads",
    "TreeLSTMGrads",
    "adam",
    "adamw",
    "additive_attention",
    "additive_attention_vjp",
    "attention",
    "attention_vjp",
    "bce_with_logits",
    "beam_search",
    "clip_grad_norm",
    "clip_grad_value",
    "cross_entropy",
    "decoder",
    "decoder_vjp",
    "draw",
    "dropout",
    "dropout_vjp",
    "dropped_weights",
    "embedding",
    "embedding_vjp",
    "fast_grnn",
    "fast_grnn_vjp",
    "fast_rnn",
    "fast_rnn_vjp",
    "gelu",
    "gelu_derivative",
    "gelu_vjp",
    "gru",
    "gru_vjp",
    "ind_rnn_vjp",
    "last",
    "last_vjp",
    "layer_norm",
    "layer_norm_vjp",
    "leaky_relu",
    "leaky_relu_derivative",
    "leaky_relu_vjp",
    "linear",
    "linear_vjp",
    "log_softmax",
    "log_softmax_vjp",
    "lru_vjp",
    "lstm",
    "lstm_vjp",
    "max_pool",
    "max_pool_vjp",
    "mean_pool",
    "mean_pool_vjp",
    "min_gru_vjp",
    "min_lstm_vjp",
    "mse",
    "qrnn_vjp",
    "recursive_net",
    "recursive_net_vjp",
    "relu",
    "relu_derivative",
    "relu_vjp",
    "reorder_gates",
    "rmsprop",
    "rnn",
    "rnn_vjp",
    "sgd",
    "sigmoid",
    "sigmoid_derivative",
    "sigmoid_vjp",
    "softmax",
    "softmax_jvp",
    "softmax_vjp",
    "sru_vjp",
    "stack",
    "stack_vjp",
    "swish",
    "swish_derivative",
    "swish_vjp",
    "tanh",
    "tanh_derivative",
    "tanh_vjp",
    "tree_lstm",
    "tree_lstm_vjp",
    "uniform",
    "word2vec",
    "word2vec_draws",
    "word2vec_loss",
    "word2vec_predictions",
]
