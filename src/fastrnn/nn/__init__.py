"""Layers: from arrays to arrays, with parameters and their gradients."""

from fastrnn.nn import activations, init, losses, ops
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Swish, Tanh
from fastrnn.nn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.nn.combine import Parallel, Residual
from fastrnn.nn.decoder import AttentionDecoder
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.layer_norm import LayerNorm
from fastrnn.nn.linear import Linear
from fastrnn.nn.model import Model, Parameter, value_and_grad
from fastrnn.nn.ops import concat, stack
from fastrnn.nn.pooling import Last, MaxPool, MeanPool
from fastrnn.nn.recurrent import GRU, LSTM, RNN
from fastrnn.nn.search import Texts, beam_search, greedy_search, sample_search
from fastrnn.nn.sequential import Sequential
from fastrnn.nn.stream import Stream
from fastrnn.nn.token_decoder import TokenDecoder

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AttentionDecoder",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "Last",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool",
    "MeanPool",
    "Model",
    "Parallel",
    "Parameter",
    "RNNCell",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Stream",
    "Swish",
    "Tanh",
    "Texts",
    "TokenDecoder",
    "activations",
    "beam_search",
    "concat",
    "from_spec",
    "greedy_search",
    "init",
    "losses",
    "ops",
    "sample_search",
    "stack",
    "to_spec",
    "value_and_grad",
]
