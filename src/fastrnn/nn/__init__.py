"""Layers: from arrays to arrays, with parameters and their gradients."""

from fastrnn._one_hot import OneHotArray, one_hot
from fastrnn.nn import activations, init, losses
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn._one_hot import OneHot
from fastrnn.nn.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Swish, Tanh
from fastrnn.nn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.layer_norm import LayerNorm
from fastrnn.nn.linear import Linear
from fastrnn.nn.pooling import Last, MaxPool, MeanPool
from fastrnn.nn.recurrent import GRU, LSTM, RNN
from fastrnn.nn.sequential import Sequential
from fastrnn.nn.stream import Stream

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
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
    "OneHot",
    "OneHotArray",
    "RNNCell",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Stream",
    "Swish",
    "Tanh",
    "activations",
    "from_spec",
    "init",
    "losses",
    "one_hot",
    "to_spec",
]
