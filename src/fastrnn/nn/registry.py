"""The recurrent layers that models choose by name: ``cell="lstm"``."""

from __future__ import annotations

from typing import Any

from fastrnn.nn.fast import FastGRNN, FastRNN
from fastrnn.nn.ind_rnn import IndRNN
from fastrnn.nn.lru import LRU
from fastrnn.nn.min_rnn import MinGRU, MinLSTM
from fastrnn.nn.qrnn import QRNN
from fastrnn.nn.recurrent import GRU, LSTM, RNN
from fastrnn.nn.sru import SRU

# Name → class. Its arguments begin with (input_size, hidden_size, num_layers); it takes `dropout`, `dtype` and `seed`.
CELLS: dict[str, type[Any]] = {
    "lstm": LSTM,
    "gru": GRU,
    "rnn": RNN,
    "sru": SRU,
    "qrnn": QRNN,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "lru": LRU,
    "indrnn": IndRNN,
    "fastrnn": FastRNN,
    "fastgrnn": FastGRNN,
}
