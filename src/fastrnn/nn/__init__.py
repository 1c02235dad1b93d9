"""Layers: from arrays to arrays, with parameters and their gradients."""

from fastrnn._one_hot import OneHotArray, one_hot
from fastrnn.nn import activations, init, losses, ops
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn._one_hot import OneHot
from fastrnn.nn.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Swish, Tanh
from fastrnn.nn.attention import Attention
from fastrnn.nn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.nn.combine import Parallel, Residual
from fastrnn.nn.custom import CustomRNN
from fastrnn.nn.decoder import AttentionDecoder
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.fast import FastGRNN, FastRNN
from fastrnn.nn.gelu import GELU
from fastrnn.nn.ind_rnn import IndRNN
from fastrnn.nn.layer_norm import LayerNorm
from fastrnn.nn.layer_stream import LayerStream
from fastrnn.nn.linear import Linear
from fastrnn.nn.lru import LRU
from fastrnn.nn.masked import Ends, Masked, Reverse, lengths_from_mask
from fastrnn.nn.min_rnn import MinGRU, MinLSTM
from fastrnn.nn.model import Model, Parameter, value_and_grad
from fastrnn.nn.multihead import MultiHeadAttention
from fastrnn.nn.ops import concat, stack
from fastrnn.nn.pooling import Last, MaxPool, MeanPool
from fastrnn.nn.positional import PositionalEncoding
from fastrnn.nn.qrnn import QRNN
from fastrnn.nn.recurrent import GRU, LSTM, RNN
from fastrnn.nn.search import Texts, beam_search, greedy_search, sample_search
from fastrnn.nn.sequential import Sequential
from fastrnn.nn.sru import SRU
from fastrnn.nn.stream import Stream
from fastrnn.nn.token_decoder import TokenDecoder
from fastrnn.nn.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from fastrnn.nn.transformer_stream import TransformerStream
from fastrnn.nn.tree_net import RecursiveNet, TreeLSTM
from fastrnn.nn.trees import Trees
from fastrnn.nn.value_decoder import ValueDecoder

__all__ = [
    "GELU",
    "GRU",
    "LRU",
    "LSTM",
    "QRNN",
    "RNN",
    "SRU",
    "Attention",
    "AttentionDecoder",
    "CustomRNN",
    "Dropout",
    "Embedding",
    "Ends",
    "FastGRNN",
    "FastRNN",
    "GRUCell",
    "IndRNN",
    "LSTMCell",
    "Last",
    "Layer",
    "LayerNorm",
    "LayerStream",
    "LeakyReLU",
    "Linear",
    "Masked",
    "MaxPool",
    "MeanPool",
    "MinGRU",
    "MinLSTM",
    "Model",
    "MultiHeadAttention",
    "OneHot",
    "OneHotArray",
    "Parallel",
    "Parameter",
    "PositionalEncoding",
    "RNNCell",
    "ReLU",
    "RecursiveNet",
    "Residual",
    "Reverse",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Stream",
    "Swish",
    "Tanh",
    "Texts",
    "TokenDecoder",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TransformerStream",
    "TreeLSTM",
    "Trees",
    "ValueDecoder",
    "activations",
    "beam_search",
    "concat",
    "from_spec",
    "greedy_search",
    "init",
    "lengths_from_mask",
    "losses",
    "one_hot",
    "ops",
    "sample_search",
    "stack",
    "to_spec",
    "value_and_grad",
]
