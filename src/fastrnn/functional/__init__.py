"""Stateless recurrent layers and attention: arrays in, arrays and a pullback out.

For code that has its own arrays. Arguments come in the order of PyTorch's `lstm_cell`; weights have PyTorch's layout
and gate order (i, f, g, o and r, z, n) and may have any strides. The dtype is that of `x`, float32 or float64.

Examples
--------
>>> import numpy as np
>>> from fastrnn import functional as F
>>> rng = np.random.default_rng(0)
>>> x = rng.standard_normal((7, 2, 3))  # [T, B, I]
>>> weight_ih, weight_hh = rng.standard_normal((4 * 5, 3)), rng.standard_normal((4 * 5, 5))
>>> (y, (h_n, c_n)), pullback = F.lstm_vjp(x, None, weight_ih, weight_hh, lengths=[7, 4])
>>> dx, (dh_0, dc_0), grads = pullback(np.ones_like(y))
>>> y.shape, h_n.shape, dx.shape, grads.weight_ih.shape
((7, 2, 5), (2, 5), (7, 2, 3), (20, 3))
"""

from fastrnn._attention import attention, attention_vjp
from fastrnn._call import Norm
from fastrnn.functional._gates import reorder_gates
from fastrnn.functional._gru import GRUGrads, gru, gru_vjp
from fastrnn.functional._lstm import LSTMGrads, lstm, lstm_vjp
from fastrnn.functional._rnn import RNNGrads, rnn, rnn_vjp

__all__ = [
    "GRUGrads",
    "LSTMGrads",
    "Norm",
    "RNNGrads",
    "attention",
    "attention_vjp",
    "gru",
    "gru_vjp",
    "lstm",
    "lstm_vjp",
    "reorder_gates",
    "rnn",
    "rnn_vjp",
]
