"""The recurrent layers that models choose by name: ``cell="lstm"``."""

from __future__ import annotations

from typing import Any

from fastrnn.nn.fast import FastGRNN, FastRNN
from fastrnn.nn.linear_recurrences import QRNN, SRU, IndRNN, MinGRU, MinLSTM
from fastrnn.nn.lru import LRU
from fastrnn.nn.recurrent import GRU, LSTM, RNN

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
